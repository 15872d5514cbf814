"""A few hosts and one arc of the ring, walked at random, for the voting rules.

Hosts suspect each other, rightly or not, crash, restart, lose their disks, are
cut off and come back; writes and reads are spread over all of that, one answer
at a time.  What is checked is the promise itself: whatever was certain before
a read began is in it once it is complete.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import NamedTuple

from peerstore.node import votes
from peerstore.node.votes import ArcVotes, Sealed, Standing, VoterList

__all__ = ["Broken", "ModelHost", "ModelWorld"]

Name = tuple[VoterList, tuple[VoterList, ...]]
NOBODY_RETIRED: frozenset[bytes] = frozenset()


class Broken(AssertionError):
    """A promise that was not kept."""


class Told(NamedTuple):
    """One host's word about itself, at one moment."""

    host: ModelHost
    fp: bytes
    born: int
    view: dict[bytes, Standing]
    arc: ArcVotes


class ModelHost:
    """One host: view, arc and data are its disk; *sealed* is its memory."""

    def __init__(self, world: ModelWorld, number: int) -> None:
        self.world = world
        self.number = number
        self.fp = b"%032d" % number
        self.up = False
        self.sealed: dict[bytes, Sealed] = {}
        self.lose_disk()

    def lose_disk(self) -> None:
        """Forget everything; the key is kept."""
        self.life = self.born = 0
        self.view: dict[bytes, Standing] = {}
        self.arc = ArcVotes()
        self.data: set[int] = set()

    def start(self, found: bool = False) -> None:
        """Start the next life; with *found*, as the first of a ring.

        The number of a life is not below the time, so that a host that has
        lost its disk, too, has one that it never had.
        """
        self.up = True
        fresh = self.life == 0
        self.life = max(self.life + 1, self.world.now)
        if fresh:
            self.born = self.life
        self.view[self.fp] = Standing(self.life, False)
        self.sealed = {}
        self.arc = votes.restarted(self.arc)
        if found:
            self.arc = votes.first_arc(b"%016d" % self.number, self.fp, self.life)
        self.review()

    def crash(self) -> None:
        """End; the disk stays."""
        self.up = False

    @property
    def needed(self) -> int:
        """W, as far as this host knows."""
        return votes.majority(min(self.world.copies, len(self.view)))

    @property
    def votes(self) -> bool:
        """Whether its answers count."""
        return self.up and self.arc.capable and self.fp in self.arc.named.hosts

    def review(self) -> None:
        """The view may have changed: what follows from it?"""
        own = self.view[self.fp]
        if own.life > self.life:
            # Others met a life of ours that this disk knows nothing of.
            self._next_life(own.life + 1)
            self.born = self.life
        elif own.dead:
            self._next_life(self.life + 1)
        before = self.arc.name
        chosen = []
        for host in self.world.hosts:
            standing = self.view.get(host.fp)
            if standing is not None and not standing.dead:
                chosen.append((host.fp, standing.life))
        chosen = chosen[: self.world.copies]
        if not self.is_others or any(fp == self.fp for fp, _ in chosen):
            self.arc = votes.with_view(self.arc, self.fp, tuple(chosen))
        if self.arc.name != before:
            self.sealed = {}

    @property
    def is_others(self) -> bool:
        """Whether the arc is no concern of this host, or not any more."""
        return self.arc == ArcVotes() or votes.is_left(self.arc)

    def told(self) -> Told:
        """What it says of itself, as it is now."""
        return Told(self, self.fp, self.born, dict(self.view), self.arc)

    def hear(self, told: Told) -> None:
        """Take over what another host said of itself."""
        self.view = votes.join_views(self.view, told.view)
        self.review()
        before = self.arc.name
        if not self.is_others or told.arc.history or self.fp in told.arc.named.hosts:
            self.arc = votes.learned(self.arc, told.arc.name, told.arc.covered)
            self.review()
        if self.arc.name != before:
            self.sealed = {}

    def suspect(self, other: ModelHost) -> None:
        """Take another host for dead, if it ever announced itself."""
        if other.fp in self.view:
            self.view[other.fp] = Standing(self.view[other.fp].life, True)
            self.review()

    def ask(self, other: ModelHost) -> None:
        """Have another host take our view over, and take in all that it has."""
        other.hear(self.told())
        self.answered(other.told())

    def answered(self, told: Told) -> None:
        """Another host's answer, which may have been on its way for long;
        what it has is fetched now."""
        self.hear(told)
        self.leave(told)
        if told.arc.named.voters != self.arc.named.voters:
            return
        if not self.arc.full:
            self.data |= told.host.data
        self.sealed[told.fp] = Sealed(told.fp, told.born, told.arc.name, told.arc.full)
        live = [fp for fp, standing in self.view.items() if fp != self.fp and not standing.dead]
        alone = all(fp in self.sealed for fp in live)
        self.arc = votes.judged(self.arc, self.fp, self.born, self.sealed.values(), NOBODY_RETIRED, alone)

    def leave(self, told: Told) -> None:
        """Leave the arc to those whose it is, once they have settled that,
        and drop what all of them have."""
        named = told.arc.named
        if not told.arc.capable or told.fp not in named.hosts or self.fp in self.arc.named.hosts:
            return
        ours = [one for one in (self.arc.named, *self.arc.history) if one != named]
        if self.arc != ArcVotes() and all(votes.covers(told.arc.covered, one) for one in ours):
            self.arc = votes.left_to(self.arc, named, told.arc.covered)
            self.sealed = {}
            theirs = [host.data for host in self.world.hosts if host.fp in named.hosts]
            self.data -= set.intersection(*theirs)
            self.world.counts["left"] += 1

    def _next_life(self, life: int) -> None:
        self.life = life
        self.view[self.fp] = Standing(life, False)
        self.arc = votes.restarted(self.arc)


class _Answers:
    """Answers to one write or read, as they come in."""

    def __init__(self, began: int) -> None:
        self.began = began
        self.given: list[tuple[bytes, Name, int, frozenset[int]]] = []

    def add(self, host: ModelHost) -> set[int] | None:
        """One more answer; what was found, once a group is large enough."""
        self.given.append((host.fp, host.arc.name, host.needed, frozenset(host.data)))
        same = [answer for answer in self.given if answer[1] == host.arc.name]
        if len({answer[0] for answer in same}) < max(answer[2] for answer in same):
            return None
        return {item for answer in same for item in answer[3]}


class ModelWorld:
    """Everything, driven by one seed.

    :param hosts: how many; the arc's walk meets them in order.
    :param founders: how many begin as rings of their own.
    :param wipes: whether disks may be lost (one host at a time, at rest).
    """

    def __init__(self, seed: int, hosts: int = 5, copies: int = 3, founders: int = 1, wipes: bool = True) -> None:
        self.rng = random.Random(seed)
        self.copies = copies
        self.hosts = [ModelHost(self, number) for number in range(hosts)]
        self.counts: Counter[str] = Counter()
        self._wipes = wipes
        self._may_lose = True
        self._cut: set[tuple[int, int]] = set()
        self._certain: dict[int, int] = {}
        self._writes: dict[int, _Answers] = {}
        self._reads: dict[int, _Answers] = {}
        self._coming: list[tuple[ModelHost, int, Told]] = []
        self.now = 1
        for host in self.rng.sample(self.hosts, founders):
            host.start(found=True)

    def step(self) -> None:
        """One random event.

        :raises Broken: when it shows that a promise was not kept.
        """
        self.now += 1
        a, b = self.rng.sample(self.hosts, 2)
        kinds = {
            self._ask: 30,
            self._answer: 30,
            self._settle: 5,
            self._crash: 2,
            self._start: 4,
            self._suspect: 4,
            self._network: 2,
            self._begin: 10,
            self._write: 14,
            self._read: 14,
        }
        (kind,) = self.rng.choices(list(kinds), list(kinds.values()))
        kind(a, b)

    def era(self) -> None:
        """The hosts fall into two sides, each of which takes the other, and
        whoever is down, for dead, and agrees on who votes as far as it gets;
        then there are writes and reads.

        :raises Broken: when it shows that a promise was not kept.
        """
        numbers = range(len(self.hosts))
        side = set(self.rng.sample(numbers, self.rng.randrange(1, len(self.hosts))))
        self._cut = {(i, j) for i in numbers for j in numbers if (i in side) != (j in side)}
        for host in self.hosts:
            if self.rng.random() < 0.25:
                host.crash()
            elif not host.up:
                host.start()
        pairs = [(a, b) for a in self.hosts for b in self.hosts if a is not b]
        for a, b in pairs:
            if a.up and not self._linked(a, b):
                a.suspect(b)
        for _ in range(self.rng.randrange(4)):
            for a, b in pairs:
                if self._linked(a, b) and self.rng.random() < 0.9:
                    a.ask(b)
            for host in self.hosts:
                self._settle(host, host)
        for part in (side, set(numbers) - side):
            for pending, at in ((self._writes, self._write_at), (self._reads, self._read_at)):
                self._begin_in(pending)
                for host in self.rng.sample(self.hosts, len(self.hosts)):
                    if host.number in part and host.up and self.now in pending:
                        at(self.now, host)

    def rest(self, rounds: int = 30) -> int:
        """Mend everything and let all talk; rounds until all is as it should be.

        :raises Broken: when it never is.
        """
        self._cut.clear()
        for host in self.hosts:
            if not host.up:
                host.start()
        for count in range(rounds):
            for a in self.hosts:
                for b in self.hosts:
                    if a is not b:
                        a.ask(b)
                self._settle(a, a)
            first = self.hosts[: self.copies]
            agreed = len({host.arc.name for host in first}) == 1 and not first[0].arc.history
            if agreed and all(host.votes for host in first):
                self._may_lose = True
                return count
        raise Broken("the hosts never agree, although all is well")

    # -- events ----------------------------------------------------------------

    def _linked(self, a: ModelHost, b: ModelHost) -> bool:
        return a.up and b.up and (a.number, b.number) not in self._cut

    def _ask(self, a: ModelHost, b: ModelHost) -> None:
        if self._linked(a, b):
            b.hear(a.told())
            self._coming.append((a, a.life, b.told()))

    def _answer(self, _a: ModelHost, _b: ModelHost) -> None:
        """One of the answers that are on their way arrives, or gets lost."""
        if self._coming:
            host, life, told = self._coming.pop(self.rng.randrange(len(self._coming)))
            if self.rng.random() > 0.1 and host.life == life and self._linked(host, told.host):
                host.answered(told)

    def _settle(self, a: ModelHost, _b: ModelHost) -> None:
        if not a.votes or not a.arc.full or not a.arc.history:
            return
        group = [
            host
            for host in self.hosts
            if host.votes and host.arc.full and host.arc.name == a.arc.name and (host is a or self._linked(a, host))
        ]
        if len(group) >= max(host.needed for host in group):
            name = a.arc.name
            for host in group:
                if host is a or self.rng.random() < 0.7:
                    host.arc = votes.settled(host.arc, name)
            self.counts["settled"] += 1

    def _crash(self, a: ModelHost, _b: ModelHost) -> None:
        if a.up:
            a.crash()
            self.counts["crashes"] += 1
            rest = [host for host in self.hosts if host is not a]
            if not self._wipes or self.copies < 3:
                return
            if self.rng.random() < 0.1 and len(rest) > self.copies:
                self.rest()
                a.crash()
                self._lose(a)
                a.start()
                self.rest()
            elif self.rng.random() < 0.2 and self._may_lose and self._is_kept_without(a):
                # One disk at most between two moments at which all is well.
                self._may_lose = False
                self._lose(a)

    def _lose(self, a: ModelHost) -> None:
        """The key is kept, so others know of lives that it knows nothing of."""
        a.lose_disk()
        self.counts["disks"] += 1

    def _is_kept_without(self, a: ModelHost) -> bool:
        """Whether others have all that was certain, and know of a ring at all."""
        rest = [host for host in self.hosts if host is not a]
        knows = any(host.arc.named.epoch for host in rest)
        return knows and all(any(item in host.data for host in rest) for item in self._certain)

    def _start(self, a: ModelHost, _b: ModelHost) -> None:
        if not a.up:
            a.start()

    def _suspect(self, a: ModelHost, b: ModelHost) -> None:
        if a.up and (not self._linked(a, b) or self.rng.random() < 0.1):
            a.suspect(b)

    def _network(self, a: ModelHost, b: ModelHost) -> None:
        roll = self.rng.random()
        numbers = range(len(self.hosts))
        if roll < 0.4:
            self._cut |= {(a.number, b.number), (b.number, a.number)}
        elif roll < 0.5:
            side = set(self.rng.sample(numbers, self.rng.randrange(1, len(self.hosts))))
            self._cut = {(i, j) for i in numbers for j in numbers if (i in side) != (j in side)}
        else:
            self._cut.clear()

    def _begin(self, _a: ModelHost, _b: ModelHost) -> None:
        self._begin_in(self.rng.choice((self._writes, self._reads)))

    def _begin_in(self, pending: dict[int, _Answers]) -> None:
        self.now += 1
        pending[self.now] = _Answers(self.now)
        if len(pending) > 6:
            del pending[min(pending)]

    def _write(self, a: ModelHost, _b: ModelHost) -> None:
        if self._writes and a.up:
            self._write_at(self.rng.choice(sorted(self._writes)), a)

    def _write_at(self, item: int, host: ModelHost) -> None:
        host.data.add(item)
        if host.votes and self._writes[item].add(host) is not None and item not in self._certain:
            self._certain[item] = self.now
            self.counts["certain"] += 1

    def _read(self, a: ModelHost, _b: ModelHost) -> None:
        if self._reads:
            self._read_at(self.rng.choice(sorted(self._reads)), a)

    def _read_at(self, number: int, host: ModelHost) -> None:
        if not host.votes:
            return
        found = self._reads[number].add(host)
        if found is None:
            return
        began = self._reads.pop(number).began
        missing = [item for item, since in self._certain.items() if since < began and item not in found]
        self.counts["complete"] += 1
        if missing:
            raise Broken(f"step {self.now}: a complete read lacks {missing}, which were certain before it")
