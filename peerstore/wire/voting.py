"""What holders of one arc tell each other of who votes on it.

The rules are in ``node.votes``; here are only the shapes, and what of them no
honest host ever says.  Fingerprints have 32 bytes, lineages 16, ends of arcs 20.
"""

from __future__ import annotations

from collections.abc import Sequence

from peerstore.errors import BadMessage
from peerstore.wire.bodies import Body, HostRecord, Number

__all__ = [
    "MAX_ARCS",
    "MAX_COVERED",
    "MAX_EPOCH",
    "MAX_LISTS",
    "MAX_TOLD",
    "MAX_VIEW",
    "MAX_VOTERS",
    "ArcTold",
    "Attach",
    "Attached",
    "HostStanding",
    "VoterList",
    "check_told",
]

#: Hosts in one view.
MAX_VIEW = 10_000
#: Arcs in one request, and in its answer, where they may be cut finer.
MAX_ARCS = 256
MAX_TOLD = 16_384
#: Lists in the history of one arc, voters on one list, lineages that are settled.
MAX_LISTS = 1024
MAX_VOTERS = 64
MAX_COVERED = 1024
#: Epochs count changes of who votes.  One above this is made up, and whoever
#: went on counting from it would soon have numbers that nobody can be told.
MAX_EPOCH = 1 << 40
#: The highest thing that can be said of a host: that it goes for good.
MAX_DEAD = 2


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
        return tuple([fp for fp, _ in self.voters])


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


def check_told(view: Sequence[HostStanding], arcs: Sequence[ArcTold], most: int) -> None:
    """Whether a view, and what is said of arcs, can be an honest host's.

    :param most: arcs that may come at a time.
    :raises peerstore.errors.BadMessage: when they cannot.
    """
    if len(view) > MAX_VIEW or len(arcs) > most:
        raise BadMessage(f"{len(view)} hosts and {len(arcs)} arcs at a time are too many.")
    if any(len(one.fp) != 32 or one.dead > MAX_DEAD for one in view):
        raise BadMessage("what is said of a host is malformed.")
    for told in arcs:
        if len(told.after) != 20 or len(told.through) != 20:
            raise BadMessage("the ends of an arc have 20 bytes.")
        if len(told.history) > MAX_LISTS or len(told.covered) > MAX_COVERED:
            raise BadMessage("an arc has too many lists.")
        if any(len(lineage) != 16 or epoch > MAX_EPOCH for lineage, epoch in told.covered):
            raise BadMessage("what is settled is malformed.")
    # Neighbouring arcs have most of their lists in common.
    for one in {one for told in arcs for one in (told.named, *told.history)}:
        _check_list(one)


def _check_list(one: VoterList) -> None:
    if len(one.lineage) != 16 or one.epoch > MAX_EPOCH:
        raise BadMessage("a list's place among others is malformed.")
    hosts = one.hosts
    if len(hosts) > MAX_VOTERS or len(set(hosts)) != len(hosts):
        raise BadMessage("a list has too many voters, or one of them twice.")
    for fp in hosts:
        if len(fp) != 32:
            raise BadMessage("a voter's fingerprint has 32 bytes.")
