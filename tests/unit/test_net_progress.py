"""Standing still is noticed, and slow is not standing still."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerstore.net.progress import ProgressWatch


class ProgressTests(SynchronousTestCase):
    """100 in each 10 s."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.waiting = True
        self.stuck = 0
        self.watch = ProgressWatch(self.clock, 10, 100, lambda: self.waiting, self.note)

    def note(self) -> None:
        """It stands still."""
        self.stuck += 1

    def test_stuck_after_one_window(self) -> None:
        """Not enough moved; told once."""
        self.watch.watch()
        self.watch.moved(99)
        self.clock.advance(9.9)
        self.assertEqual(self.stuck, 0)
        self.clock.advance(0.1)
        self.assertEqual(self.stuck, 1)
        self.clock.advance(100)
        self.assertEqual(self.stuck, 1)

    def test_enough_in_each_window(self) -> None:
        """As long as enough moves it goes on, and then stops being enough."""
        self.watch.watch()
        for _ in range(20):
            self.watch.moved(100)
            self.clock.advance(10)
        self.assertEqual(self.stuck, 0)
        self.watch.moved(99)
        self.clock.advance(10)
        self.assertEqual(self.stuck, 1)

    def test_finishing_is_enough(self) -> None:
        """Something arrived whole: what is under way now has time."""
        self.watch.watch()
        self.watch.finished()
        self.clock.advance(10)
        self.assertEqual(self.stuck, 0)

    def test_nothing_to_wait_for(self) -> None:
        """No timer runs while nothing has to move."""
        self.watch.watch()
        self.waiting = False
        self.clock.advance(10)
        self.assertEqual((self.stuck, self.clock.getDelayedCalls()), (0, []))
        self.waiting = True
        self.watch.watch()
        self.clock.advance(10)
        self.assertEqual(self.stuck, 1)

    def test_one_timer(self) -> None:
        """However often it is asked to watch."""
        for _ in range(100):
            self.watch.watch()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_what_moved_before_does_not_count(self) -> None:
        """Only what moves while it watches."""
        self.watch.moved(1000)
        self.watch.watch()
        self.clock.advance(10)
        self.assertEqual(self.stuck, 1)

    def test_stop(self) -> None:
        """Nothing is told after it."""
        self.watch.watch()
        self.watch.stop()
        self.watch.stop()
        self.clock.advance(100)
        self.assertEqual((self.stuck, self.clock.getDelayedCalls()), (0, []))
