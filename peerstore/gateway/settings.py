"""What everybody in a ring has to agree on, as far as readers need it."""

from __future__ import annotations

from typing import Protocol

from peerstore.interfaces import IPeerPool
from peerstore.ring.member import Member

__all__ = ["DEFAULT_COPIES", "IKnownHosts", "RingSettings"]

DEFAULT_COPIES = 3


class IKnownHosts(Protocol):
    """What the gateway asks of ``ring.hosts.HostTable``."""

    def known_count(self) -> int:
        """How many hosts have been heard of and not retired."""
        ...

    def whereabouts(self, fp: bytes) -> Member | None:
        """A position of a host, if it is known."""
        ...


class RingSettings:
    """How many copies the ring keeps, and of how many hosts we know.

    A node knows the number of copies; a client learns it from the greeting of
    the first node that it reads from.

    :param copies: the number, or 0 to learn it.
    :param hosts: the table of known hosts.
    """

    def __init__(self, pool: IPeerPool, copies: int, hosts: IKnownHosts) -> None:
        self._pool = pool
        self._copies = copies
        self._hosts = hosts

    def known_hosts(self) -> int:
        """How many hosts have been heard of and not retired."""
        return self._hosts.known_count()

    def member(self, fp: bytes) -> Member | None:
        """A position of a host that was heard of."""
        return self._hosts.whereabouts(fp)

    async def copies(self, member: Member | None = None) -> int:
        """The ring's number of copies; *member* is asked if it is not known.

        :raises peerstore.errors.PeerError: when the member cannot be asked.
        """
        if self._copies <= 0 and member is not None:
            peer = await self._pool.peer(member.address, member.fp)
            self._copies = int(peer.greeting.copies)
        return self._copies or DEFAULT_COPIES
