"""Figures of rings that change: F1 (many die at once) and C2 (they come and go)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from bare_ring import BareHost, BareNet
from twisted.internet.defer import Deferred, gatherResults

from figures.rows import Row, mean, within
from figures.walks import Counted, FingersOnly, Walk, owner_index, walk
from peerstore import ids
from peerstore.ring.host import MEMBER, RingHost
from peerstore.ring.hosts import HostTable
from peerstore.ring.lookup import Located, LookupClient
from peerstore.ring.seeking import Seeker

__all__ = [
    "C2",
    "F1",
    "Churn",
    "Death",
    "PaperHost",
    "churn",
    "mass_death",
    "rows_of_c2",
    "rows_of_c2_shipped",
    "rows_of_f1",
]

#: C01, Fig. 11: fraction that died: failed lookups.
F1 = {0.01: 0.0093, 0.025: 0.0211, 0.05: 0.0467, 0.1: 0.0944, 0.15: 0.1466, 0.2: 0.2006}
F1_NODES = 10_000
#: T03, Table III: joins, and leaves, per second: (hops, timeouts, failures per 10,000).
C2 = {
    0.05: (3.90, 0.05, 0),
    0.10: (3.83, 0.11, 0),
    0.15: (3.84, 0.16, 2),
    0.20: (3.81, 0.23, 5),
    0.25: (3.83, 0.30, 6),
    0.30: (3.91, 0.34, 8),
    0.35: (3.94, 0.42, 16),
    0.40: (4.06, 0.46, 15),
}
C2_NODES = 1000
LIST_SIZE = 20
#: T03: a message takes 50 ms in the mean, exponentially; nobody waits longer
#: than 0.5 s; a round of upkeep every 15 to 45 s.
TRIP, TIMEOUT, ROUNDS = 0.05, 0.5, (15.0, 45.0)


class _PaperSeeker(Seeker):
    """One finger each round, as often as the papers look."""

    def changed(self) -> None:
        """No reason to hurry."""

    def _interval(self) -> float:
        return self._host.rng.uniform(*ROUNDS)


class PaperHost(RingHost):
    """Periodic rounds of upkeep as far apart as in T03.  A change calls one
    round, not a series: where T03's leavers and notices set the pointers of
    others at once, ours are hints, on which the receiver's own round acts."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._seeker = _PaperSeeker(self, self._joiner, ROUNDS[1])

    def wake(self) -> None:
        """A change is a reason for one round."""
        self.hurry()

    def _next_gap(self) -> float:
        return self.rng.uniform(*ROUNDS) if self.status == MEMBER else super()._next_gap()


# -- F1 -----------------------------------------------------------------------


class Death(NamedTuple):
    """What came of a mass death: the share of lookups that did not lead to
    whoever has the thing; answers that name no live owner; virtual seconds
    until the ring was right again (None: not within the limit)."""

    failed: float
    wrong: int
    rest: float | None


def mass_death(n: int, share: float, lookups: int, seed: int = 1, limit: float = 900.0) -> Death:
    """A share of all die at once; the ring mends itself; keys are looked up."""
    net = BareNet(seed, LIST_SIZE, trip=lambda: 0.01, timeout=TIMEOUT, table_kind=FingersOnly)
    hosts = sorted(net.stand(n), key=lambda host: host.ring.positions[0].id)
    points = [host.ring.positions[0].id for host in hosts]
    net.wake(hosts, seeking=False)
    net.clock.advance(30.0)
    rng = random.Random(f"{seed}/{share}/death")
    for host in rng.sample(hosts, round(share * n)):
        net.kill(host)
    began, rest = net.clock.now, None
    while rest is None and net.clock.now - began < limit:
        net.clock.advance(5.0)
        rest = net.clock.now - began if not net.wrong() else None
    left = sorted(net.live(), key=lambda host: host.ring.positions[0].id)
    left_points = [host.ring.positions[0].id for host in left]
    failed, wrong = 0, 0
    keys = [rng.getrandbits(ids.ID_BITS) for _ in range(lookups)]
    # The ring is at rest, and no lookup changes it: so all at once, instead of
    # minutes of upkeep for each.
    for key, found in zip(keys, _wait(net, [walk(rng.choice(left), key) for key in keys]), strict=True):
        owner = found.owner.fp if found.owner is not None else None
        # Who held it from the beginning has it; nobody made a copy.
        failed += owner != hosts[owner_index(points, key)].fp
        wrong += owner != left[owner_index(left_points, key)].fp
    return Death(failed / lookups, wrong, rest)


def _wait(net: BareNet, walking: Sequence[Deferred[Walk]]) -> list[Walk]:
    ended: list[list[Walk]] = []
    gatherResults(walking).addCallback(ended.append)
    while not ended:
        net.clock.step(net.clock.now + 60.0)
    return ended[0]


def rows_of_f1(share: float, lookups: int, n: int = F1_NODES) -> list[Row]:
    """F1: one fraction, as published and as ours."""
    death = mass_death(n, share, lookups)
    case = f"p = {share:g}"
    rest = death.rest if death.rest is not None else float("inf")
    return [
        within("F1", case, "failed lookups", F1[share], death.failed, 0.02, 4),
        Row("F1", case, "wrong owners", None, death.wrong, "0", death.wrong == 0, 0),
        Row("F1", case, "seconds until the ring is right", None, rest, digits=0),
    ]


# -- C2 -----------------------------------------------------------------------


class Churn(NamedTuple):
    """Lookups while hosts come and go: those that found the owner, and how
    many did not: *nobody* without an answer, *wrong* with another's."""

    walks: list[Walk]
    nobody: int
    wrong: int
    members: int

    @property
    def lookups(self) -> int:
        """All of them."""
        return len(self.walks) + self.failed

    @property
    def failed(self) -> int:
        """Those that did not give the owner."""
        return self.nobody + self.wrong


class _Run:
    """One ring under churn."""

    def __init__(self, net: BareNet, n: int, rate: float, seed: int) -> None:
        self.net = net
        self.rate = rate
        self.rng = random.Random(f"{seed}/{rate}/churn")
        self.hosts = net.stand(n, table=net.knows_all)
        self.members = {host.fp: host for host in self.hosts}
        net.wake(self.hosts)
        self.walks: list[Walk] = []
        self.nobody = self.wrong = self.waiting = 0

    def begin(self) -> None:
        """Joins and leaves, from now on."""
        for event in (self._join, self._leave):
            self.net.clock.callLater(self.rng.expovariate(self.rate), self._again, event)

    def _again(self, event: Any) -> None:
        event()
        self.net.clock.callLater(self.rng.expovariate(self.rate), self._again, event)

    def _standing(self) -> list[BareHost]:
        return [host for host in self.hosts if host.ring.status == MEMBER]

    def _join(self) -> None:
        host = self.net.add(self.rng.choice(self._standing()))
        self.hosts.append(host)
        host.ring.start()

    def _leave(self) -> None:
        host = self.rng.choice(self._standing())
        self.hosts.remove(host)
        self.net.leave(host)

    def look_up(self, lookups: int, every: float, retry: bool) -> None:
        """So many lookups, as often as Poisson would."""
        if not lookups:
            return
        self.waiting += 1
        self.net.clock.callLater(self.rng.expovariate(1 / every), self._look_up, lookups, every, retry)

    def _look_up(self, lookups: int, every: float, retry: bool) -> None:
        self.look_up(lookups - 1, every, retry)
        key = self.rng.getrandbits(ids.ID_BITS)
        before = self._owner(key)
        asker = self.rng.choice(self._standing())
        walking = _tried_again(asker, key) if retry else walk(asker, key)
        walking.addCallback(self._over, key, before)

    def _over(self, found: Walk, key: int, before: bytes) -> None:
        self.waiting -= 1
        if found.owner is None:
            self.nobody += 1
        elif found.owner.fp not in (before, self._owner(key)):
            self.wrong += 1
        else:
            self.walks.append(found)

    def _owner(self, key: int) -> bytes:
        """Whose a key is at this moment: the first member from it on."""
        standing = ((ids.distance(key, host.ring.positions[0].id), host.fp) for host in self._members())
        return min(standing)[1]

    def _members(self) -> Sequence[BareHost]:
        return [host for host in self.hosts if host.ring.positions[0].is_member]


def _tried_again(asker: BareHost, key: int) -> Deferred[Walk]:
    """A lookup as programs make it, with its further attempts."""
    ring, count = asker.ring, Counted(asker.pool)
    mine = ring.own_position(key)
    if mine is not None:
        return ring.lookup(key).addCallback(lambda found: Walk(0, 0, found.owner))
    here = ring._answers.find_successor_here
    client = LookupClient(count, ring.hosts, ring.clock, lambda: [ring.address], here)  # type: ignore[arg-type]

    def over(result: Any) -> Walk:
        return Walk(count.asked, count.timeouts, result.owner if isinstance(result, Located) else None)

    return client.lookup(key).addBoth(over)


def churn(
    rate: float,
    lookups: int,
    every: float,
    n: int = C2_NODES,
    warm_up: float = 600.0,
    seed: int = 1,
    shipped: bool = False,
) -> Churn:
    """Look up while so many hosts a second join, and as many leave politely.

    :param every: mean seconds between two lookups.
    :param shipped: all as it ships: timers, the table of all hosts, attempts.
        Otherwise T03's timers, fingers and lists alone, one attempt.
    """
    trips = random.Random(f"{seed}/{rate}/trips")
    net = BareNet(
        seed,
        None if shipped else LIST_SIZE,
        knows_all=shipped,
        trip=lambda: trips.expovariate(1 / TRIP),
        timeout=TIMEOUT,
        host_kind=RingHost if shipped else PaperHost,
        table_kind=HostTable if shipped else FingersOnly,
    )
    run = _Run(net, n, rate, seed)
    run.begin()
    net.clock.advance(warm_up)
    run.look_up(lookups, every, shipped)
    while run.waiting:
        net.clock.step(net.clock.now + 60.0)
    return Churn(run.walks, run.nobody, run.wrong, len(run._members()))


def rows_of_c2(rate: float, lookups: int, every: float, warm_up: float, n: int = C2_NODES) -> list[Row]:
    """C2: one rate, as published and as ours by the paper's rules; failures per 10,000."""
    hops, timeouts, failed = C2[rate]
    found = churn(rate, lookups, every, n, warm_up)
    case = f"R = {rate:.2f}"
    per = found.failed * 10_000 / found.lookups
    rule = "no more" if found.failed else "0"
    return [
        Row("C2", case, "failures of 10,000", failed, per, rule, per <= failed, 1),
        Row("C2", case, "mean hops", hops, mean([walk.asked for walk in found.walks])),
        Row("C2", case, "mean timeouts", timeouts, mean([walk.timeouts for walk in found.walks])),
    ]


def rows_of_c2_shipped(rate: float, lookups: int, every: float, warm_up: float, n: int = C2_NODES) -> list[Row]:
    """C2: one rate, with all as it ships."""
    found = churn(rate, lookups, every, n, warm_up / 4, shipped=True)
    case = f"R = {rate:.2f}"
    per = found.failed * 10_000 / found.lookups
    return [
        Row("C2", case, "failures, shipped", None, per, "0", found.failed == 0, 1),
        Row("C2", case, "mean hops, shipped", None, mean([walk.asked for walk in found.walks])),
    ]
