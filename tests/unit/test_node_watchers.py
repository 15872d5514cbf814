"""Who waits for news of a log."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import Busy
from peerstore.items import ItemKey, Kind
from peerstore.node.watchers import Watchers

ONE, TWO = (b"1" * 20, b"o" * 20), (b"2" * 20, b"o" * 20)


def key(name: tuple[bytes, bytes], kind: Kind = Kind.LOG) -> ItemKey:
    """Some item at a log's address."""
    return ItemKey(*name, kind, bytes(32))


class WatchersTests(SynchronousTestCase):
    """Three may wait at a time."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.watchers = Watchers(self.clock, 3)  # type: ignore[arg-type]

    def test_news(self) -> None:
        """True, for whoever waits for that log and owner."""
        one, two = self.watchers.wait(*ONE, 9.0), self.watchers.wait(*TWO, 9.0)
        self.watchers.stored([key(ONE), key((ONE[0], b"x" * 20))])
        self.assertIs(self.successResultOf(one), True)
        self.assertNoResult(two)

    def test_other_kinds_are_no_news(self) -> None:
        """A head at the same address wakes nobody."""
        one = self.watchers.wait(*ONE, 9.0)
        self.watchers.stored([key(ONE, kind) for kind in (Kind.CHUNK, Kind.HEAD, Kind.RECORD)])
        self.assertNoResult(one)

    def test_no_news(self) -> None:
        """False after the time, and no sooner."""
        one = self.watchers.wait(*ONE, 9.0)
        self.clock.advance(8.9)
        self.assertNoResult(one)
        self.clock.advance(0.2)
        self.assertIs(self.successResultOf(one), False)

    def test_nothing_is_left_behind(self) -> None:
        """However a wait ended: no timer, no entry, no count."""
        told, late, left = self.watchers.wait(*ONE, 9.0), self.watchers.wait(*TWO, 1.0), self.watchers.wait(*TWO, 9.0)
        self.watchers.stored([key(ONE)])
        self.clock.advance(1.0)
        left.cancel()
        self.failureResultOf(left, CancelledError)
        self.assertEqual((self.watchers.count, self.clock.getDelayedCalls()), (0, []))
        self.assertEqual([self.successResultOf(told), self.successResultOf(late)], [True, False])

    def test_too_many(self) -> None:
        """Busy, until somebody has gone."""
        waiting = [self.watchers.wait(*ONE, 9.0) for _ in range(3)]
        self.failureResultOf(self.watchers.wait(*TWO, 9.0), Busy)
        waiting[0].cancel()
        self.failureResultOf(waiting[0], CancelledError)
        self.assertNoResult(self.watchers.wait(*TWO, 9.0))

    def test_release(self) -> None:
        """Everybody is answered that there is no news."""
        waiting = [self.watchers.wait(*ONE, 9.0), self.watchers.wait(*TWO, 9.0)]
        self.watchers.release()
        self.assertEqual([self.successResultOf(one) for one in waiting], [False, False])
        self.assertEqual((self.watchers.count, self.clock.getDelayedCalls()), (0, []))

    def test_waiting_again_from_within(self) -> None:
        """Who is woken and waits again is woken by the next news, not by this."""
        again: list[Deferred[bool]] = []
        self.watchers.wait(*ONE, 9.0).addCallback(lambda _: again.append(self.watchers.wait(*ONE, 9.0)))
        self.watchers.stored([key(ONE), key(ONE)])
        self.assertNoResult(again[0])
        self.watchers.stored([key(ONE)])
        self.assertIs(self.successResultOf(again[0]), True)

    @settings(max_examples=100, deadline=None, derandomize=True, database=None)
    @given(
        st.lists(
            st.tuples(st.sampled_from(["wait", "news", "time", "cancel", "release"]), st.integers(0, 5)), max_size=40
        )
    )
    def test_counted(self, steps: list[tuple[str, int]]) -> None:
        """Those who wait are those who were not answered, at any time."""
        clock = Clock()
        watchers = Watchers(clock, 6)  # type: ignore[arg-type]
        waiting: list[Deferred[Any]] = []
        for what, number in steps:
            if what == "wait":
                waiting.append(watchers.wait(*(ONE, TWO)[number % 2], float(number)))
                waiting[-1].addErrback(lambda failure: failure.trap(CancelledError, Busy))
            elif what == "news":
                watchers.stored([key((ONE, TWO)[number % 2])])
            elif what == "time":
                clock.advance(number)
            elif what == "release":
                watchers.release()
            elif waiting:
                waiting[number % len(waiting)].cancel()
            self.assertEqual(watchers.count, sum(not one.called for one in waiting))
            self.assertEqual(len(clock.getDelayedCalls()), watchers.count)
