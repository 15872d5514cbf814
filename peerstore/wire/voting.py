"""What holders of one arc tell each other of who votes on it.

The rules are in ``node.votes``; here are only the shapes.  Fingerprints have
32 bytes, lineages 16, ends of arcs 20.
"""

from __future__ import annotations

from peerstore.wire.bodies import Body, HostRecord, Number

__all__ = ["ArcTold", "Attach", "Attached", "HostStanding", "VoterList"]


class HostStanding(Body, frozen=True):
    """What is known of one host: its life, and what became of it in that life:
    0, it lives; 1, it is taken for dead; 2, it goes for good."""

    fp: bytes
    life: Number
    dead: Number


class VoterList(Body, frozen=True, order=True):
    """Voters of one arc: (fingerprint, life) each, in ring order from it.

    *lineage* is the random name of a ring that somebody began alone; *epoch*
    counts lists along it, from 1 up; 0 is a list that follows on none.
    """

    lineage: bytes
    epoch: Number
    voters: tuple[tuple[bytes, Number], ...]

    @property
    def hosts(self) -> tuple[bytes, ...]:
        """The voters' fingerprints."""
        return tuple(fp for fp, _ in self.voters)


class ArcTold(Body, frozen=True):
    """One host's state of (after, through]: the list it answers in the name
    of, lists that may have been in force before, (lineage, epoch) up to which
    lists are settled, whether its answers count (*capable*), and whether it
    has taken in all that was certain under its history (*full*)."""

    after: bytes
    through: bytes
    named: VoterList
    history: tuple[VoterList, ...]
    covered: tuple[tuple[bytes, Number], ...]
    capable: bool
    full: bool


class Attach(Body, frozen=True):
    """Take over my view, and what I say of these arcs.  *records* are those
    of hosts in the view whose keys the other end did not know."""

    view: tuple[HostStanding, ...]
    arcs: tuple[ArcTold, ...]
    records: tuple[HostRecord, ...]


class Attached(Body, frozen=True):
    """Done, and on disk: my view, which is above yours now, and what I say of
    these arcs.  *born* is the life in which my disk began.

    With *unknown* nothing was done: these hosts' records are missing.
    """

    unknown: tuple[bytes, ...]
    born: Number
    view: tuple[HostStanding, ...]
    arcs: tuple[ArcTold, ...]
