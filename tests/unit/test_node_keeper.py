"""Nothing is kept here any more once that is said, and all that was is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import StorageError
from peerstore.items import Item
from peerstore.node import keeper
from peerstore.node.admission import Admission
from peerstore.node.keeper import Keeper
from peerstore.node.watchers import Watchers
from peerstore.util.blocking import InlineRunner
from tests.support.things import a_chain, a_chunk


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


class GoneTests(SynchronousTestCase):
    """Whoever brought something waits no more; the disk is still at it."""

    def setUp(self) -> None:
        self.store = _SlowStore()
        self.clock = Clock()
        self.watchers = Watchers(self.clock)
        self.keeper = Keeper(self.store, Admission(InlineRunner()), self.watchers)  # type: ignore[arg-type]

    def give_up(self, *items: Item) -> None:
        """Bring something, and wait for it no longer."""
        keeping = Deferred.fromCoroutine(self.keeper.keep(items))
        keeping.cancel()
        self.failureResultOf(keeping, CancelledError)

    def test_the_disk_is_not_told(self) -> None:
        """What it was given is written, who watches is woken, and who closes waits for it."""
        (entry,) = a_chain(1)
        news = self.watchers.wait(entry.key.ring_id, entry.key.owner, 60.0)
        self.give_up(entry)
        closed = self.keeper.close()
        self.assertNoResult(closed)
        self.assertNoResult(news)
        self.store.writing[0].callback([True])
        self.successResultOf(closed)
        self.assertTrue(self.successResultOf(news))

    def test_a_disk_that_hangs(self) -> None:
        """It is given no more than fits into memory, and then more when it has written something."""
        self.patch(keeper, "MOST_WAITING", 3 * a_chunk(1).size)
        for number in range(3):
            self.give_up(a_chunk(number))
        refused = Deferred.fromCoroutine(self.keeper.keep([a_chunk(4)]))
        self.assertIn("Check the disk", self.failureResultOf(refused, StorageError).value.next_step)
        self.assertEqual(len(self.store.writing), 3)
        self.store.writing[1].callback([True])
        self.give_up(a_chunk(4))
        self.assertEqual(len(self.store.writing), 4)

    def test_one_thing_that_is_too_large(self) -> None:
        """It is taken alone."""
        self.patch(keeper, "MOST_WAITING", 1)
        keeping = Deferred.fromCoroutine(self.keeper.keep([a_chunk(1)]))
        self.store.writing[0].callback([True])
        self.assertTrue(self.successResultOf(keeping)[0].kept)

    def test_it_fails_in_the_end(self) -> None:
        """A disk's failure is nobody's any more; any other is in the log."""
        for error, count in ((StorageError("It broke."), 0), (ValueError("a fault"), 1)):
            self.give_up(a_chunk(1))
            self.store.writing[-1].errback(error)
            self.assertEqual(len(self.flushLoggedErrors(ValueError)), count)
        self.assertEqual(self.flushLoggedErrors(), [])
