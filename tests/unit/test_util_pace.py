"""A rate that is kept to, over all who share it."""

from __future__ import annotations

from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerstore.util.pace import BURST, Pace
from tests.support.properties import check


class PaceTests(SynchronousTestCase):
    """A thousand bytes a second."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(100.0)
        self.pace = Pace(self.clock, 1000)

    def test_a_burst(self) -> None:
        """After a pause a little goes at once, and not more however long it was."""
        self.clock.advance(10_000.0)
        self.successResultOf(self.pace.spend(int(BURST * 1000)))
        self.assertNoResult(self.pace.spend(1))

    def test_more_than_a_burst(self) -> None:
        """It is waited for until all of it is within the rate."""
        waiting = self.pace.spend(2000)
        self.clock.advance(2.0 - BURST - 0.001)
        self.assertNoResult(waiting)
        self.clock.advance(0.002)
        self.successResultOf(waiting)

    def test_those_who_share_it(self) -> None:
        """One waits for what another has spent."""
        self.pace.spend(1000)
        second = self.pace.spend(1000)
        self.clock.advance(1.5)
        self.assertNoResult(second)
        self.clock.advance(0.3)
        self.successResultOf(second)

    def test_no_bound(self) -> None:
        """A rate of 0 waits for nothing."""
        self.successResultOf(Pace(self.clock, 0).spend(1 << 40))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_given_up(self) -> None:
        """Whoever does not wait any more leaves no call behind."""
        waiting = self.pace.spend(5000)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    @check(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 40)), min_size=1, max_size=20))
    def test_never_faster(self, steps: list[tuple[int, int]]) -> None:
        """Whatever is spent when: no more than the rate allows, and a burst, has gone through by any time."""
        clock = Clock()
        pace = Pace(clock, 1000)
        done: list[int] = []
        for size, tenths in steps:
            pace.spend(size).addCallback(lambda _, size=size: done.append(size))
            self.assertLessEqual(sum(done), (clock.seconds() + BURST) * 1000 + 1)
            clock.advance(tenths / 10)
            self.assertLessEqual(sum(done), (clock.seconds() + BURST) * 1000 + 1)
        clock.advance(sum(size for size, _ in steps) / 1000)
        self.assertEqual(len(done), len(steps))
