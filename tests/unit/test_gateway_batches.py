"""Many items in few requests, and how long to go on trying."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerstore.files.chunk import MAX_SEALED
from peerstore.gateway.patience import Patience
from peerstore.gateway.put import BATCH_BYTES, BATCH_ITEMS, ITEM_OVERHEAD, batches
from peerstore.items import Item, ItemKey, Kind
from peerstore.wire.bodies import PostChunks
from peerstore.wire.framing import FRAME_LIMIT
from peerstore.wire.messages import Request, encode_body, encode_message


def sized(*sizes: int) -> list[Item]:
    """Items of these sizes."""
    key = ItemKey(bytes(20), bytes(20), Kind.CHUNK, bytes(32))
    return [Item(key, b"", bytes(size)) for size in sizes]


class BatchTests(SynchronousTestCase):
    """A list of places, cut into requests."""

    def test_nothing_is_no_request(self) -> None:
        """No items, no batch."""
        self.assertEqual(batches([], []), [])

    def test_small_items_share_a_request(self) -> None:
        """As many as may be in one, in order."""
        items = sized(*[10] * (BATCH_ITEMS + 1))
        first, second = batches(range(len(items)), items)
        self.assertEqual(first.places, tuple(range(BATCH_ITEMS)))
        self.assertEqual(second.places, (BATCH_ITEMS,))

    def test_a_large_item_goes_alone(self) -> None:
        """The largest chunk is larger than a batch, and is not left behind."""
        items = sized(10, MAX_SEALED, 10)
        self.assertEqual([batch.places for batch in batches(range(3), items)], [(0,), (1,), (2,)])

    def test_only_the_places_asked_for(self) -> None:
        """Places of the caller's own list, in the caller's order."""
        items = sized(1, 2, 3, 4)
        self.assertEqual([batch.places for batch in batches([3, 1], items)], [(3, 1)])

    def test_the_largest_request_fits_a_frame(self) -> None:
        """A batch that is full, and a chunk that is as large as chunks are."""
        claim = bytes(200)
        full = [Item(item.key, claim, item.data) for item in sized(*[7990] * BATCH_ITEMS)]
        large = [Item(item.key, claim, item.data) for item in sized(MAX_SEALED)]
        for items in (full, large):
            (batch,) = batches(range(len(items)), items[:BATCH_ITEMS])[:1]
            body = encode_body(PostChunks(tuple(items[place] for place in batch.places)))
            request = Request(1 << 62, "post-chunks", bytes(20), 1 << 62, 1 << 62, body)
            self.assertLess(len(encode_message(request)), FRAME_LIMIT)

    @settings(max_examples=100, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.sampled_from([0, 1, 4096, 600_000, 1_100_000, BATCH_BYTES, MAX_SEALED]), max_size=40))
    def test_every_place_once_and_within_bounds(self, sizes: list[int]) -> None:
        """Nothing is lost, doubled or moved, and no batch is over the bounds."""
        weighed: list[Any] = [_Weighed(size) for size in sizes]
        found = batches(range(len(sizes)), weighed)
        self.assertEqual([place for batch in found for place in batch.places], list(range(len(sizes))))
        for batch in found:
            weight = sum(sizes[place] + ITEM_OVERHEAD for place in batch.places)
            self.assertEqual(batch.size, weight)
            self.assertTrue(weight <= BATCH_BYTES or len(batch.places) == 1)
            self.assertLessEqual(len(batch.places), BATCH_ITEMS)


class _Weighed:
    """An item as far as its weight goes, without the bytes."""

    def __init__(self, size: int) -> None:
        self.size = size


class PatienceTests(SynchronousTestCase):
    """Pauses that grow, and an end that is kept."""

    def setUp(self) -> None:
        self.clock = Clock()

    def pauses(self, patience: Patience, count: int, **options: Any) -> list[float]:
        """The seconds of so many pauses."""
        found = []
        for _ in range(count):
            began = self.clock.seconds()
            pause = Deferred.fromCoroutine(patience.pause(**options))
            while not pause.called:
                self.clock.advance(min(call.getTime() for call in self.clock.getDelayedCalls()) - self.clock.seconds())
            if not self.successResultOf(pause):
                break
            found.append(self.clock.seconds() - began)
        return found

    def test_pauses_grow_up_to_the_longest(self) -> None:
        """Short ones first, for a ring that has just lost a member."""
        found = self.pauses(Patience(self.clock, random.Random(1), 1000.0), 20)
        self.assertLessEqual(found[0], 0.15)
        self.assertLessEqual(max(found), 3.0)
        self.assertGreater(min(found[-5:]), 1.4)

    def test_they_are_jittered(self) -> None:
        """Two that wait for the same thing do not come back in step."""
        first = self.pauses(Patience(self.clock, random.Random(1), 100.0), 5)
        second = self.pauses(Patience(self.clock, random.Random(2), 100.0), 5)
        self.assertNotEqual(first, second)

    def test_the_end_is_kept(self) -> None:
        """All pauses together are the time that was given."""
        found = self.pauses(Patience(self.clock, random.Random(3), 5.0), 100)
        self.assertAlmostEqual(sum(found), 5.0)

    def test_no_time_is_no_pause(self) -> None:
        """One attempt, and no waiting."""
        self.assertEqual(self.pauses(Patience(self.clock, random.Random(1), 0.0), 1), [])

    def test_a_peer_may_ask_for_more(self) -> None:
        """A pause is as long as a busy peer wants, but not past the end."""
        patience = Patience(self.clock, random.Random(1), 10.0)
        self.assertEqual(self.pauses(patience, 1, at_least=4.0), [4.0])
        self.assertEqual(self.pauses(patience, 5, at_least=1e12), [6.0])

    def test_what_is_left(self) -> None:
        """Never below nothing."""
        patience = Patience(self.clock, random.Random(1), 2.0)
        self.clock.advance(1.5)
        self.assertEqual(patience.left, 0.5)
        self.clock.advance(5)
        self.assertEqual(patience.left, 0.0)
