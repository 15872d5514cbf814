"""Which keys are ours by the ring, and which hosts follow us."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from peerstore import ids
from peerstore.ring.member import Member
from peerstore.ring.placement import needed, replica_hosts

__all__ = ["IHosts", "IPosition", "IRing", "OwnRange", "Ranges", "span"]


class IPosition(Protocol):
    """One ring member of this process."""

    @property
    def id(self) -> int:
        """Where it sits."""
        ...

    @property
    def is_member(self) -> bool:
        """Whether it has joined."""
        ...

    @property
    def predecessor(self) -> Member | None:
        """The member before it, if known."""
        ...

    @property
    def successors(self) -> Sequence[Member]:
        """The members after it, nearest first."""
        ...


class IRing(Protocol):
    """What the node's own parts ask of its ``RingHost``."""

    @property
    def status(self) -> str:
        """MEMBER when it may answer."""
        ...

    @property
    def positions(self) -> Sequence[IPosition]:
        """All positions, by index."""
        ...


class IHosts(Protocol):
    """What they ask of the table of hosts."""

    def known_count(self) -> int:
        """Hosts ever heard of and not retired, ourselves included."""
        ...


@dataclass(frozen=True)
class OwnRange:
    """The range (after, through] of position *index*, and who keeps it:
    ourselves first, then the members after us."""

    index: int
    after: int
    through: int
    members: tuple[Member, ...]

    def covers(self, key: int) -> bool:
        """Whether *key* is in it."""
        return ids.in_half_open(self.after, key, self.through)

    @property
    def span(self) -> int:
        """How many keys it could hold."""
        return span(self.after, self.through)


class Ranges:
    """The ranges of this process's positions.

    :param fp: our own fingerprint.
    :param copies: the ring's k.
    """

    def __init__(self, ring: IRing, hosts: IHosts, fp: bytes, address: str, incarnation: int, copies: int) -> None:
        self._ring = ring
        self._hosts = hosts
        self._fp = fp
        self._address = address
        self._incarnation = incarnation
        self.copies = copies

    def current(self) -> list[OwnRange]:
        """Our ranges now.  A position that does not know its predecessor
        has none, unless it is alone on the circle."""
        found = []
        for index, position in enumerate(self._ring.positions):
            if not position.is_member:
                continue
            predecessor, successors = position.predecessor, tuple(position.successors)
            if predecessor is not None:
                after = predecessor.id
            elif not successors or all(member.id == position.id for member in successors):
                after = position.id
            else:
                continue
            me = Member(position.id, self._fp, index, self._incarnation, self._address)
            found.append(OwnRange(index, after, position.id, (me, *successors)))
        return found

    def owner_of(self, ring_id: bytes) -> OwnRange | None:
        """The range of ours that a key lies in."""
        key = ids.from_bytes(ring_id)
        return next((own for own in self.current() if own.covers(key)), None)

    def holders(self, own: OwnRange, count: int) -> tuple[Member, ...]:
        """The first *count* distinct hosts for a range, ourselves first."""
        return replica_hosts(own.members, count)

    def majority(self, hosts: int) -> int:
        """W, when *hosts* different hosts are in sight."""
        return needed(self.copies, max(hosts, self._hosts.known_count()))


def span(after: int, through: int) -> int:
    """How much of the circle (after, through] is; equal ends are all of it."""
    return ids.distance(after, through) or ids.RING_SIZE
