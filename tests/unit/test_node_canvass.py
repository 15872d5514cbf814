"""Asking who votes, while hosts are retired in the middle of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from peerstore.errors import PeerUnreachable
from peerstore.interfaces import IPeerPool
from peerstore.node.canvass import Canvass
from peerstore.node.suspicions import Suspicions
from peerstore.wire.voting import Attach, Attached, HostStanding
from tests.support.voters import NOW, Hall, fp_of


@implementer(IPeerPool)
class Others:
    """A pool that leads to the other voters of a hall."""

    def __init__(self, hall: Hall) -> None:
        self.hall = hall
        self.down: set[bytes] = set()
        self.before: Callable[[], Any] = lambda: None
        self.asked: list[bytes] = []

    def call(self, address: str, method: str, body: Attach, timeout: float, fp: bytes) -> Deferred[Any]:
        """Have one of them take a view over."""
        self.asked.append(fp)
        self.before()
        if fp in self.down:
            return fail(PeerUnreachable("It is down."))
        name = next(name for name in self.hall.names if fp_of(name) == fp)
        theirs = self.hall[name].electorate
        theirs.hear_view(body.view)
        theirs.hear(body.arcs)
        arcs = theirs.tell(
            [(int.from_bytes(one.after, "big"), int.from_bytes(one.through, "big")) for one in body.arcs]
        )
        return succeed(Attached((), theirs.born, theirs.tell_view(), arcs))


class _NoRanges:
    """The ring names nobody further."""

    def current(self) -> list[Any]:
        """None of ours."""
        return []


class _Exchange:
    """Everybody has the same."""

    def __init__(self) -> None:
        self.before: Callable[[], Any] = lambda: None
        self.ran = 0

    async def run(self, task: Any, after: int, through: int) -> None:
        """Nothing to fetch."""
        self.ran += 1
        self.before()


class CanvassTestCase(SynchronousTestCase):
    """One who began the ring, and two whom it has just heard of."""

    begun = True

    def setUp(self) -> None:
        """Our own round is yet to come."""
        self.hall = Hall("abc")
        if self.begun:
            self.hall.found("a")
        self.me = self.hall["a"]
        self.others = Others(self.hall)
        self.exchange = _Exchange()
        self.canvass = Canvass(
            self.hall.clock,
            self.me.electorate,
            Suspicions(self.hall.clock.seconds, self.me.electorate.suspect),
            _NoRanges(),  # type: ignore[arg-type]
            self.exchange,  # type: ignore[arg-type]
            self.me.table,
            self.others,
        )
        self.me.electorate.hear_view([HostStanding(fp_of(name), int(NOW), 0) for name in "bc"])


class CanvassTests(CanvassTestCase):
    """What happens during a round."""

    def retire(self, *names: str) -> None:
        """Word comes that these are gone for good."""
        for name in names:
            self.me.table.retire(fp_of(name))

    def test_a_round_asks_all_that_it_concerns(self) -> None:
        """And takes in what they have."""
        self.successResultOf(self.canvass.round())
        self.assertEqual(set(self.others.asked), {fp_of("b"), fp_of("c")})
        self.assertGreater(self.exchange.ran, 0)

    def test_one_is_retired_while_another_is_asked(self) -> None:
        """It is not asked any more, and the round goes on."""
        self.others.before = lambda: self.retire("b" if self.others.asked[0] == fp_of("c") else "c")
        self.successResultOf(self.canvass.round())
        self.assertEqual(len(set(self.others.asked)), 1)

    def test_all_are_retired_while_things_are_taken_in(self) -> None:
        """Nothing more is asked of them, and the round goes on."""
        self.exchange.before = lambda: self.retire("b", "c")
        self.successResultOf(self.canvass.round())
        self.assertEqual(self.exchange.ran, 1)


class UnbegunTests(CanvassTestCase):
    """All hosts of a ring were told to join each other."""

    begun = False

    def rounds(self, seconds: float) -> int:
        """How often it was said in that time."""
        with capturedLogs() as said:
            for _ in range(int(seconds / 10)):
                self.successResultOf(self.canvass.round())
                self.hall.clock.advance(10)
        return sum("has begun a ring" in (formatEvent(event) or "") for event in said)

    def test_it_is_said_when_it_lasts(self) -> None:
        """After a minute, and then every ten."""
        self.assertEqual([self.rounds(60), self.rounds(60), self.rounds(500), self.rounds(120)], [0, 1, 0, 1])

    def test_not_once_somebody_began(self) -> None:
        """It may come late, if it was away."""
        self.assertEqual(self.rounds(30), 0)
        self.me.electorate.found()
        self.assertEqual(self.rounds(300), 0)


class SlowDiskTests(CanvassTestCase):
    """Our disk takes its time."""

    def test_nothing_is_told_that_is_not_on_disk(self) -> None:
        """Neither what became so while something else was waited for: after a
        power cut others would know of a life that we know nothing of, and
        take our disk for an older one."""
        writing: list[Deferred[None]] = []

        def sync() -> Deferred[None]:
            writing.append(Deferred())
            return writing[-1]

        self.me.store._disk.sync = sync  # type: ignore[method-assign]
        life = self.me.electorate.life
        round_ = self.canvass.round()
        self.me.electorate.hear_view([HostStanding(self.me.fp, life, 1)])
        self.assertGreater(self.me.electorate.life, life)
        first = len(writing)
        self.assertEqual(first, 1)
        writing[0].callback(None)
        known = [self.hall[name].electorate.view.get(self.me.fp) for name in "bc"]
        self.assertTrue(all(one is None or one.life <= life for one in known), known)
        while len(writing) > first:
            first += 1
            writing[first - 1].callback(None)
        self.successResultOf(round_)
        self.assertTrue(all(self.hall[name].electorate.view[self.me.fp].life > life for name in "bc"))
