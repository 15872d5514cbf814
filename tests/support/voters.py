"""Hosts that know of each other and settle who votes, without a network."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from peerstore import ids
from peerstore.node.arcs import Arc
from peerstore.node.electorate import Electorate
from peerstore.node.intake import Taken
from peerstore.node.votes import ArcVotes, Sealed
from peerstore.ring.hosts import HostTable
from peerstore.storage.memory_store import MemoryDisk, MemoryNodeStore
from peerstore.wire.voting import HostStanding
from tests.support.ring_net import record_of, spki_of

__all__ = ["Hall", "NOW", "Voter", "fp_of", "now", "ordered"]

#: The hour at which all of them begin.
NOW = 1_000_000.0


def fp_of(name: str) -> bytes:
    """A host's fingerprint."""
    return ids.fingerprint(spki_of(name))


def ordered(names: Iterable[str]) -> str:
    """Hosts as they stand on the circle, from zero on."""
    return "".join(sorted(names, key=lambda name: ids.position_id(spki_of(name), 0)))


def now(waiting: Deferred[None]) -> None:
    """What memory does at once is done."""
    failed: list[object] = []
    waiting.addErrback(failed.append)
    assert waiting.called, "it still waits"
    if failed:
        failed[0].raiseException()  # type: ignore[attr-defined]


class Voter:
    """One host: its disk, its table of hosts, and what runs on them."""

    def __init__(self, hall: Hall, name: str) -> None:
        self.hall = hall
        self.name = name
        self.fp = fp_of(name)
        self.disk = MemoryDisk()
        self.start()

    def start(self) -> None:
        """A process begins on the disk."""
        self.table = HostTable(self.hall.clock, record_of(self.name))
        for other in self.hall.names:
            self.table.learn(record_of(other))
        self.store = MemoryNodeStore(self.disk)
        now(self.store.start())
        self.electorate = Electorate(
            self.store, self.table, self.fp, self.hall.copies, self.hall.clock.seconds, lambda size: self.fp[:size]
        )
        now(Deferred.fromCoroutine(self.electorate.open()))

    def says(self) -> HostStanding:
        """Its standing, in its own words."""
        return next(one for one in self.electorate.tell_view() if one.fp == self.fp)

    def ask(self, other: Voter) -> list[Taken]:
        """Have another host take our view over, and learn what it says."""
        mine, theirs = self.electorate, other.electorate
        arcs = [(arc.after, arc.through) for arc in mine.arcs()]
        told = mine.tell(arcs)
        theirs.hear_view(mine.tell_view())
        theirs.hear(told)
        view, answers = theirs.tell_view(), theirs.tell(arcs)
        mine.hear_view(view)
        mine.hear(answers)
        return [
            Taken(
                ids.from_bytes(one.after),
                ids.from_bytes(one.through),
                Sealed(other.fp, theirs.born, (one.named, one.history), one.full),
                one.capable,
                one.covered,
            )
            for one in answers
        ]

    def take(self, answers: Iterable[Taken]) -> None:
        """What they have there is here now, as far as this host is to vote there."""
        for taken in answers:
            if self.fp in taken.sealed.name[0].hosts:
                self.electorate.took(taken)

    def judge(self) -> int:
        """Vote where enough was taken in; all that it knows of, and that
        lives, has to have been asked before it counts itself."""
        electorate = self.electorate

        def asked(arc: ArcVotes) -> frozenset[bytes]:
            hosts = {fp for one in (arc.named, *arc.history) for fp in one.hosts} - {self.fp}
            present = {fp for fp, known in electorate.view.items() if not (known.dead or self.table.is_retired(fp))}
            return frozenset(hosts & present)

        return electorate.judge(asked)

    def at(self, key: int) -> ArcVotes:
        """Its state of one key."""
        return self.electorate.at(ids.to_bytes(key))

    def arcs(self) -> list[Arc[ArcVotes]]:
        """All that concern it."""
        return self.electorate.arcs()


class Hall:
    """Some hosts with a position each.

    :param names: one letter each; those that exist, running or not.
    """

    def __init__(self, names: str, copies: int = 3) -> None:
        self.names = names
        self.copies = copies
        self.clock = Clock()
        self.clock.advance(NOW)
        self.voters: dict[str, Voter] = {}

    def __getitem__(self, name: str) -> Voter:
        """One of them, started when it is first asked for."""
        if name not in self.voters:
            self.voters[name] = Voter(self, name)
        return self.voters[name]

    def found(self, name: str) -> None:
        """One begins the ring."""
        self[name].electorate.found()

    def talk(self, names: str, rounds: int = 6) -> None:
        """All of these ask each other, take everything in, judge, settle and
        let go, some times over."""
        for _ in range(rounds):
            for name in names:
                voter = self[name]
                answers = [taken for other in names if other != name for taken in voter.ask(self[other])]
                current = [one for one in answers if self.is_current(voter, one)]
                voter.electorate.settle(current)
                voter.take(current)
                voter.judge()
                voter.electorate.let_go(answers)

    def is_current(self, voter: Voter, taken: Taken) -> bool:
        """Whether an answer speaks of the very lists that this host has."""
        parts = voter.electorate.between(taken.after, taken.through)
        return all(part.value.name == taken.sealed.name for part in parts)
