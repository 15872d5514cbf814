"""Waiting until a path is quiet, but not for ever."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerstore.sync.settle import Settler


class SettlerTests(SynchronousTestCase):
    """0.5 s of quiet, 4 s at most, five paths at a time."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.delivered: list[list[bytes]] = []
        self.floods = 0
        self.settler = Settler(self.clock, 0.5, 4.0, self.deliver, self.flooded, 5)

    def deliver(self, paths: frozenset[bytes]) -> None:
        self.delivered.append(sorted(paths))

    def flooded(self) -> None:
        self.floods += 1

    def at_rest(self) -> None:
        """Nothing waits, and no timer is left."""
        self.clock.advance(100)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_not_before_it_is_quiet(self) -> None:
        """Each touch begins the wait anew."""
        for _ in range(4):
            self.settler.touch(b"a")
            self.clock.advance(0.4)
        self.assertEqual(self.delivered, [])
        self.clock.advance(0.1)
        self.assertEqual(self.delivered, [[b"a"]])
        self.at_rest()

    def test_once_for_many_touches(self) -> None:
        """A burst is one path."""
        for _ in range(100):
            self.settler.touch(b"a")
        self.at_rest()
        self.assertEqual(self.delivered, [[b"a"]])

    def test_together_what_was_touched_together(self) -> None:
        """Like the two names of a rename."""
        self.settler.touch(b"old")
        self.settler.touch(b"new")
        self.clock.advance(0.5)
        self.assertEqual(self.delivered, [[b"new", b"old"]])

    def test_a_busy_path_does_not_delay_another(self) -> None:
        """Each waits for itself alone."""
        self.settler.touch(b"quiet")
        for _ in range(3):
            self.settler.touch(b"busy")
            self.clock.advance(0.25)
        self.assertEqual(self.delivered, [[b"quiet"]])

    def test_not_for_ever(self) -> None:
        """What is touched all the time is handed on after the longest time,
        and then again."""
        for _ in range(100):
            self.settler.touch(b"log")
            self.clock.advance(0.1)
        self.assertEqual(self.delivered, [[b"log"], [b"log"]])
        self.at_rest()
        self.assertEqual(len(self.delivered), 3)

    def test_touched_again_later(self) -> None:
        """It is handed on again."""
        self.settler.touch(b"a")
        self.clock.advance(1)
        self.settler.touch(b"a")
        self.clock.advance(1)
        self.assertEqual(self.delivered, [[b"a"], [b"a"]])

    def test_touched_while_handed_on(self) -> None:
        """A touch from within counts as a new one."""
        self.settler = Settler(self.clock, 0.5, 4.0, self.again, self.flooded)
        self.settler.touch(b"a")
        self.clock.advance(0.5)
        self.assertEqual(self.delivered, [[b"a"]])
        self.clock.advance(0.5)
        self.assertEqual(self.delivered, [[b"a"], [b"again"]])

    def again(self, paths: frozenset[bytes]) -> None:
        self.delivered.append(sorted(paths))
        if len(self.delivered) == 1:
            self.settler.touch(b"again")

    def test_a_flood(self) -> None:
        """Too many become one look at everything, and are forgotten."""
        for number in range(6):
            self.settler.touch(b"%d" % number)
        self.assertEqual((self.floods, self.delivered), (1, []))
        self.at_rest()
        self.assertEqual((self.floods, self.delivered), (1, []))
        self.settler.touch(b"a")
        self.at_rest()
        self.assertEqual(self.delivered, [[b"a"]])

    def test_stop(self) -> None:
        """Nothing is handed on any more; twice does no harm."""
        self.settler.touch(b"a")
        self.settler.stop()
        self.settler.stop()
        self.at_rest()
        self.assertEqual(self.delivered, [])
