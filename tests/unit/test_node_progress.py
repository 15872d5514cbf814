"""Others are waited for as long as something comes of it."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerstore.node.duty import Share
from peerstore.node.progress import PATIENT, Progress

ONE = Share(0, 10, (b"a",), (b"a",), b"b")
OTHER = Share(10, 20, (b"a",), (b"a",), b"b")


class ProgressTests(SynchronousTestCase):
    """Two shares, and how far somebody has come with them."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.progress = Progress(self.clock)

    def test_first(self) -> None:
        """Who has just begun is waited for."""
        self.assertFalse(self.progress.is_stuck(ONE, 0))

    def test_nothing_comes(self) -> None:
        """For so long, and no longer; also of a host that was never reached."""
        for measure in (7, -1):
            self.progress.is_stuck(ONE, measure)
            self.clock.advance(PATIENT - 1)
            self.assertFalse(self.progress.is_stuck(ONE, measure))
            self.clock.advance(1)
            self.assertTrue(self.progress.is_stuck(ONE, measure))

    def test_something_comes(self) -> None:
        """Then the time begins anew."""
        for measure in range(5):
            self.assertFalse(self.progress.is_stuck(ONE, measure))
            self.clock.advance(PATIENT)
        self.assertTrue(self.progress.is_stuck(ONE, 4))

    def test_each_for_itself(self) -> None:
        """What is done for one share is nothing done for another."""
        self.progress.is_stuck(ONE, 1)
        self.progress.is_stuck(OTHER, 1)
        self.clock.advance(PATIENT)
        self.assertFalse(self.progress.is_stuck(OTHER, 2))
        self.assertTrue(self.progress.is_stuck(ONE, 1))

    def test_what_is_no_share_any_more(self) -> None:
        """It is forgotten, and begins anew if it comes back."""
        self.progress.is_stuck(ONE, 1)
        self.progress.only([OTHER])
        self.clock.advance(PATIENT)
        self.assertFalse(self.progress.is_stuck(ONE, 1))
