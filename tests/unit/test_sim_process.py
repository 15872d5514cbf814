"""A simulated program: runs, is stopped, goes on, dies."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from peerstore.sim.clock import SimClock
from peerstore.sim.process import Process


class ProcessTests(SynchronousTestCase):
    """What runs when."""

    def setUp(self) -> None:
        """One program, and what it has done."""
        self.clock = SimClock()
        self.process = Process(self.clock, "host", 50.0)
        self.seen: list[object] = []

    def test_code_runs_while_it_lives(self) -> None:
        """A call from outside and a timer of its own."""
        self.process.call(self.seen.append, 1)
        self.process.clock.callLater(1, self.seen.append, 2)
        self.clock.advance(1)
        self.assertEqual(self.seen, [1, 2])

    def test_no_code_runs_after_its_death(self) -> None:
        """Not even what it had asked for itself."""
        self.process.clock.callLater(1, self.seen.append, 1)
        self.process.kill()
        self.process.call(self.seen.append, 2)
        self.clock.advance(10)
        self.assertEqual(self.seen, [])

    def test_what_waits_while_it_is_stopped_runs_in_order(self) -> None:
        """Timers that became due and calls from outside, as they came."""
        self.process.clock.callLater(2, self.seen.append, "timer")
        self.process.pause()
        self.clock.callLater(1, self.process.call, self.seen.append, "before")
        self.clock.callLater(3, self.process.call, self.seen.append, "after")
        self.clock.advance(10)
        self.assertEqual(self.seen, [])
        self.process.resume()
        self.process.call(self.seen.append, "last")
        self.clock.advance(0)
        self.assertEqual(self.seen, ["before", "timer", "after", "last"])

    def test_a_timer_cancelled_by_what_waited_before_it_is_not_made(self) -> None:
        """Being due while stopped is not having been called."""
        call = self.process.clock.callLater(2, self.seen.append, "timer")
        self.process.pause()
        self.clock.callLater(1, self.process.call, call.cancel)
        self.clock.advance(5)
        self.process.resume()
        self.clock.advance(0)
        self.assertEqual(self.seen, [])

    def test_it_can_be_stopped_again_before_it_caught_up(self) -> None:
        """What has not run yet waits on."""
        self.process.pause()
        self.process.call(lambda: (self.seen.append(1), self.process.pause()))
        self.process.call(self.seen.append, 2)
        self.process.resume()
        self.clock.advance(1)
        self.assertEqual(self.seen, [1])
        self.process.resume()
        self.clock.advance(0)
        self.assertEqual(self.seen, [1, 2])

    def test_killed_while_stopped_it_never_goes_on(self) -> None:
        """What waited is forgotten."""
        self.process.pause()
        self.process.call(self.seen.append, 1)
        self.process.kill()
        self.process.resume()
        self.clock.advance(1)
        self.assertEqual(self.seen, [])

    def test_a_clock_set_forward_makes_its_calls_early(self) -> None:
        """Those that were due in the time that was leapt over come at once,
        in order; others come so much sooner; nobody else's do."""
        for after in (9.0, 2.0, 5.0):
            self.process.clock.callLater(after, self.seen.append, f"{after:.0f}")
        self.clock.callLater(1.0, self.seen.append, "another")
        before = self.process.clock.seconds()
        self.process.jump(6.0)
        self.assertEqual(self.process.clock.seconds(), before + 6.0)
        self.clock.advance(0.0)
        self.assertEqual(self.seen, ["2", "5"])
        self.clock.advance(2.9)
        self.assertEqual(self.seen, ["2", "5", "another"])
        self.clock.advance(0.1)
        self.assertEqual(self.seen[-1], "9")

    def test_a_clock_set_back_makes_them_late(self) -> None:
        """What was asked for before waits for its time of day; what is asked
        for afterwards does not."""
        self.process.clock.callLater(1.0, self.seen.append, "before")
        self.process.jump(-30.0)
        self.process.clock.callLater(1.0, self.seen.append, "after")
        self.clock.advance(30.0)
        self.assertEqual(self.seen, ["after"])
        self.clock.advance(1.0)
        self.assertEqual(self.seen, ["after", "before"])
