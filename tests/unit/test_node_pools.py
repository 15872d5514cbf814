"""A whole queue of work that is done, or refused, at once."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import BadMessage, Busy
from peerstore.net.dispatch import WorkPool

QUEUE = 5000


class WorkPoolTests(SynchronousTestCase):
    """``--workers`` at a time, ``--queue`` waiting."""

    def setUp(self) -> None:
        self.pool = WorkPool(1, QUEUE)
        self.first: Deferred[None] = Deferred()
        self.pool.submit(lambda: self.first)

    def test_thousands_that_are_done_at_once(self) -> None:
        """Each is begun after the one before has ended, in order."""
        done: list[int] = []
        for number in range(QUEUE):
            self.pool.submit(lambda number=number: number).addCallback(done.append)
        self.first.callback(None)
        self.assertEqual(done, list(range(QUEUE)))
        self.assertEqual((self.pool.active, self.pool.waiting), (0, 0))

    def test_thousands_that_are_refused_at_once(self) -> None:
        """Everybody is told, and the pool goes on."""

        def refuse() -> Any:
            raise BadMessage("no.")

        asked = [self.pool.submit(refuse) for _ in range(QUEUE)]
        self.failureResultOf(self.pool.submit(refuse), Busy)
        self.first.callback(None)
        for answer in asked:
            self.failureResultOf(answer, BadMessage)
        self.assertEqual(self.successResultOf(self.pool.submit(lambda: 1)), 1)
