"""How often one host calls another dead."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerstore.node.suspicions import FIRST, LONGEST, Suspicions

ANNA, BERTA = b"a" * 32, b"b" * 32


class SuspicionsTests(SynchronousTestCase):
    """A host that is lost again and again."""

    def setUp(self) -> None:
        """Nobody is suspected yet."""
        self.clock = Clock()
        self.told: list[bytes] = []
        self.suspicions = Suspicions(self.clock.seconds, self.told.append)

    def lose(self, fp: bytes, seconds: float) -> int:
        """It is lost every second; how often that is told."""
        before = len(self.told)
        for _ in range(round(seconds)):
            self.clock.advance(1.0)
            self.suspicions.lost(fp)
        return len(self.told) - before

    def test_the_first_is_told_at_once(self) -> None:
        """Of each host."""
        for fp in (ANNA, BERTA):
            self.suspicions.lost(fp)
        self.assertEqual(self.told, [ANNA, BERTA])

    def test_pauses_grow(self) -> None:
        """Each is twice as long as the one before, up to the longest."""
        self.suspicions.lost(ANNA)
        pause = FIRST
        for _ in range(10):
            self.assertEqual(self.lose(ANNA, pause - 1), 0)
            self.assertEqual(self.lose(ANNA, 1), 1)
            pause = min(LONGEST, 2 * pause)

    def test_after_a_quiet_time_all_begins_anew(self) -> None:
        """A machine that is started every morning is no nuisance."""
        self.lose(ANNA, 1000.0)
        self.clock.advance(3 * LONGEST)
        self.assertEqual(self.lose(ANNA, 1.0), 1)
        self.assertEqual(self.lose(ANNA, FIRST), 1)

    def test_one_that_is_still_lost_at_the_end_of_a_pause_is_told(self) -> None:
        """And until then something is left to be done."""
        self.suspicions.lost(ANNA)
        self.clock.advance(1.0)
        self.suspicions.lost(ANNA)
        self.assertTrue(self.suspicions.look_again(lambda fp: False))
        self.assertEqual(self.told, [ANNA])
        self.clock.advance(FIRST)
        self.assertFalse(self.suspicions.look_again(lambda fp: False))
        self.assertEqual(self.told, [ANNA, ANNA])

    def test_one_that_answers_again_is_not_told(self) -> None:
        """Not even later."""
        self.suspicions.lost(ANNA)
        self.suspicions.lost(ANNA)
        self.assertFalse(self.suspicions.look_again(lambda fp: fp == ANNA))
        self.clock.advance(FIRST)
        self.assertFalse(self.suspicions.look_again(lambda fp: False))
        self.assertEqual(self.told, [ANNA])

    def test_one_pause_does_not_concern_another(self) -> None:
        """One war is no peace elsewhere."""
        self.lose(ANNA, 100.0)
        self.assertEqual(self.lose(BERTA, 1.0), 1)
