"""Nothing is kept here any more once that is said, and all that was is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import StorageError
from peerstore.items import Item
from peerstore.node.admission import Admission
from peerstore.node.keeper import Keeper
from peerstore.node.watchers import Watchers
from peerstore.util.blocking import InlineRunner
from tests.support.things import a_chunk


class _SlowStore:
    """Writes when it is told to."""

    def __init__(self) -> None:
        self.writing: list[Deferred[list[bool]]] = []

    def put(self, items: Sequence[Item]) -> Deferred[list[bool]]:
        """Begun."""
        self.writing.append(Deferred())
        return self.writing[-1]


class CloseTests(SynchronousTestCase):
    """A node that goes for good."""

    def setUp(self) -> None:
        """Two writes are on their way."""
        self.store = _SlowStore()
        self.keeper = Keeper(self.store, Admission(InlineRunner()), Watchers(Clock()))  # type: ignore[arg-type]
        self.kept = [self.keep(1), self.keep(2)]

    def keep(self, number: int) -> Deferred[Any]:
        """Judged and stored."""
        return Deferred.fromCoroutine(self.keeper.keep([a_chunk(number)]))

    def test_what_is_being_written_is_waited_for(self) -> None:
        """Whether it ends well or not; everybody who closes is told."""
        closed = [self.keeper.close(), self.keeper.close()]
        self.store.writing[0].callback([True])
        self.assertNoResult(closed[0])
        self.store.writing[1].errback(StorageError("It broke."))
        for one in closed:
            self.successResultOf(one)
        self.successResultOf(self.kept[0])
        self.failureResultOf(self.kept[1], StorageError)

    def test_nothing_is_kept_after_that(self) -> None:
        """Nor said to be."""
        self.keeper.close()
        self.failureResultOf(self.keep(3), StorageError)
        self.assertEqual(len(self.store.writing), 2)
        self.keeper.reopen()
        self.assertNoResult(self.keep(3))
        self.assertEqual(len(self.store.writing), 3)

    def test_nothing_is_being_written(self) -> None:
        """It is closed at once."""
        for writing in self.store.writing:
            writing.callback([True])
        self.successResultOf(self.keeper.close())
