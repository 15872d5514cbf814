"""Upkeep that comes again and again, whatever happens in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerstore.util.periodic import Periodic


class Rounds:
    """Counts runs; the next results, and the interval, can be set."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.times: list[float] = []
        self.gap: float | None = 10.0
        self.give: Callable[[], Any] = lambda: None
        self.periodic = Periodic(self.clock, self.run, self.interval, "a test")

    def run(self) -> Any:
        """One run."""
        self.times.append(self.clock.seconds())
        return self.give()

    def interval(self) -> float:
        """Until the next; None fails."""
        if self.gap is None:
            raise RuntimeError("broken")
        return self.gap


class RunTests(SynchronousTestCase):
    """When runs come."""

    def setUp(self) -> None:
        self.rounds = Rounds()
        self.clock, self.periodic = self.rounds.clock, self.rounds.periodic

    def test_at_once_and_then_after_each_interval(self) -> None:
        """The interval is asked for anew each time."""
        self.periodic.start()
        self.clock.advance(10)
        self.rounds.gap = 3.0
        self.clock.advance(10)
        self.clock.advance(3)
        self.assertEqual(self.rounds.times, [0, 10, 20, 23])

    def test_not_at_once(self) -> None:
        """If so asked, the first comes after one interval."""
        self.periodic.start(now=False)
        self.assertEqual(self.rounds.times, [])
        self.clock.advance(10)
        self.assertEqual(self.rounds.times, [10])

    def test_starting_twice_is_starting_once(self) -> None:
        """No second row of runs."""
        self.periodic.start()
        self.periodic.start()
        self.clock.advance(10)
        self.assertEqual(self.rounds.times, [0, 10])

    def test_the_interval_counts_from_the_end_of_a_run(self) -> None:
        """A run that takes long never meets the next."""
        running: Deferred[None] = Deferred()
        self.rounds.give = lambda: running
        self.periodic.start()
        self.assertTrue(self.periodic.running)
        self.clock.advance(100)
        self.assertEqual(self.rounds.times, [0])
        running.callback(None)
        self.assertFalse(self.periodic.running)
        self.rounds.give = lambda: None
        self.clock.advance(10)
        self.assertEqual(self.rounds.times, [0, 110])

    def test_a_coroutine_is_a_run(self) -> None:
        """Until it has returned."""
        running: Deferred[None] = Deferred()

        async def work() -> None:
            await running

        self.rounds.give = work
        self.periodic.start()
        self.assertTrue(self.periodic.running)
        running.callback(None)
        self.assertFalse(self.periodic.running)


class ErrorTests(SynchronousTestCase):
    """A failure is logged, and the next run comes."""

    def setUp(self) -> None:
        self.rounds = Rounds()
        self.clock, self.periodic = self.rounds.clock, self.rounds.periodic

    def broken(self) -> Any:
        """Raises."""
        raise RuntimeError("broken")

    def test_an_exception(self) -> None:
        """Raised at once."""
        self.rounds.give = self.broken
        self.periodic.start()
        self.clock.advance(10)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)
        self.assertEqual(self.rounds.times, [0, 10])

    def test_a_failure_later(self) -> None:
        """Of the Deferred that a run returned."""
        self.rounds.give = lambda: fail(RuntimeError("broken"))
        self.periodic.start()
        self.clock.advance(10)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)
        self.assertEqual(self.rounds.times, [0, 10])

    def test_an_interval_that_cannot_be_told(self) -> None:
        """Is a failure like others: logged, and the last one counts on."""
        self.periodic.start()
        self.clock.advance(10)
        self.rounds.gap = None
        self.clock.advance(10)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.rounds.gap = 10.0
        self.clock.advance(10)
        self.clock.advance(10)
        self.assertEqual(self.rounds.times, [0, 10, 20, 30, 40])

    def test_one_that_cannot_be_told_while_somebody_waits_for_the_end(self) -> None:
        """Stopping ends all the same."""
        running: Deferred[None] = Deferred()
        self.rounds.give = lambda: running
        self.periodic.start()
        stopped = self.periodic.stop()
        self.periodic.start(now=False)
        self.rounds.gap = None
        self.rounds.give = lambda: None
        running.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(self.rounds.times, [0])
        self.clock.advance(30)
        self.assertEqual(self.rounds.times, [0, 30])
        self.flushLoggedErrors(RuntimeError)


class HurryTests(SynchronousTestCase):
    """Sooner, but one at a time."""

    def setUp(self) -> None:
        self.rounds = Rounds()
        self.clock, self.periodic = self.rounds.clock, self.rounds.periodic

    def test_now(self) -> None:
        """The next run does not wait, and the one after waits its interval."""
        self.periodic.start()
        self.clock.advance(2)
        self.periodic.hurry()
        self.clock.advance(0)
        self.clock.advance(9)
        self.assertEqual(self.rounds.times, [0, 2])
        self.clock.advance(1)
        self.assertEqual(self.rounds.times, [0, 2, 12])

    def test_within_some_seconds(self) -> None:
        """Later than now; never later than it would have come."""
        self.periodic.start()
        self.periodic.hurry(4.0)
        self.periodic.hurry(50.0)
        self.clock.advance(4)
        self.assertEqual(self.rounds.times, [0, 4])

    def test_many_wishes_are_one_run(self) -> None:
        """Also those that came while a run was in flight."""
        running: Deferred[None] = Deferred()
        self.rounds.give = lambda: running
        self.periodic.start()
        for _ in range(5):
            self.periodic.hurry(7.0)
            self.periodic.hurry()
            self.periodic.hurry(3.0)
        self.assertEqual(self.rounds.times, [0])
        self.rounds.give = lambda: None
        running.callback(None)
        self.clock.advance(0)
        self.assertEqual(self.rounds.times, [0, 0])
        self.clock.advance(9)
        self.assertEqual(self.rounds.times, [0, 0])

    def test_before_the_start_and_after_the_end(self) -> None:
        """It wakes nothing."""
        self.periodic.hurry()
        self.clock.advance(100)
        self.periodic.start()
        self.periodic.stop()
        self.periodic.hurry()
        self.clock.advance(100)
        self.assertEqual(self.rounds.times, [100])


class StopTests(SynchronousTestCase):
    """The end waits for what is in flight."""

    def setUp(self) -> None:
        self.rounds = Rounds()
        self.clock, self.periodic = self.rounds.clock, self.rounds.periodic

    def test_between_runs(self) -> None:
        """At once, and nothing is left on the clock."""
        self.periodic.start()
        self.successResultOf(self.periodic.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_in_a_run(self) -> None:
        """When it has ended; all who asked are told; no other begins."""
        running: Deferred[None] = Deferred()
        self.rounds.give = lambda: running
        self.periodic.start()
        self.periodic.hurry()
        stops = [self.periodic.stop(), self.periodic.stop()]
        for stopped in stops:
            self.assertNoResult(stopped)
        running.callback(None)
        for stopped in stops:
            self.successResultOf(stopped)
        self.clock.advance(100)
        self.assertEqual(self.rounds.times, [0])

    def test_in_a_run_that_fails(self) -> None:
        """The failure is logged and is not the stopper's."""
        running: Deferred[None] = Deferred()
        self.rounds.give = lambda: running
        self.periodic.start()
        stopped = self.periodic.stop()
        running.errback(RuntimeError("broken"))
        self.successResultOf(stopped)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_without_a_start(self) -> None:
        """There is nothing to wait for."""
        self.successResultOf(self.periodic.stop())

    def test_again_from_the_start(self) -> None:
        """What was stopped can be started."""
        self.periodic.start()
        self.periodic.stop()
        self.clock.advance(5)
        self.periodic.start()
        self.clock.advance(10)
        self.assertEqual(self.rounds.times, [0, 5, 15])

    def test_started_again_while_the_last_run_is_in_flight(self) -> None:
        """Even then there is never more than one at a time."""
        first: Deferred[None] = Deferred()
        self.rounds.give = lambda: first
        self.periodic.start()
        stopped = self.periodic.stop()
        self.periodic.start()
        self.clock.advance(50)
        self.assertEqual(self.rounds.times, [0])
        self.rounds.give = lambda: None
        first.callback(None)
        self.successResultOf(stopped)
        self.clock.advance(0)
        self.assertEqual(self.rounds.times, [0, 50])
        self.clock.advance(10)
        self.assertEqual(self.rounds.times, [0, 50, 60])
