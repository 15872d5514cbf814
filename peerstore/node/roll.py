"""What a host keeps on disk of who votes, in the setting "votes"::

    [life, born, [[fp, life, dead]...], [[after, through, arc]...]]

*life* and *born* are ours: the life we are in, and the one in which this disk
began.  Then the view, and our state of all arcs that concern us, ``ArcVotes``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from peerstore import ids
from peerstore.errors import CorruptData
from peerstore.node.arcs import Arc
from peerstore.node.votes import ArcVotes, Standing
from peerstore.wire.voting import HostStanding

__all__ = ["Roll", "SETTING", "standings"]

SETTING = "votes"


class Roll(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The setting, as it is packed."""

    life: int
    born: int
    view: tuple[HostStanding, ...]
    arcs: tuple[tuple[bytes, bytes, ArcVotes], ...]

    @classmethod
    def of(cls, life: int, born: int, view: Mapping[bytes, Standing], arcs: Sequence[Arc[ArcVotes]]) -> Roll:
        """Of what is known just now."""
        packed = tuple((ids.to_bytes(arc.after), ids.to_bytes(arc.through), arc.value) for arc in arcs)
        return cls(life, born, standings(view), packed)

    @classmethod
    def unpack(cls, raw: bytes) -> Roll:
        """What :meth:`pack` gave.

        :raises peerstore.errors.CorruptData: for anything else.
        """
        try:
            return msgspec.msgpack.decode(raw, type=cls, strict=True)
        except msgspec.DecodeError as error:
            raise CorruptData("The list of voters in the data folder is damaged.") from error

    def pack(self) -> bytes:
        """As it goes to the disk."""
        return msgspec.msgpack.encode(self)

    def views(self) -> dict[bytes, Standing]:
        """The view."""
        return {one.fp: Standing(one.life, one.dead) for one in self.view}

    def states(self) -> list[Arc[ArcVotes]]:
        """The arcs."""
        return [Arc(ids.from_bytes(after), ids.from_bytes(through), arc) for after, through, arc in self.arcs]


def standings(view: Mapping[bytes, Standing]) -> tuple[HostStanding, ...]:
    """A view as it is told, sorted by fingerprint."""
    return tuple(HostStanding(fp, known.life, known.dead) for fp, known in sorted(view.items()))
