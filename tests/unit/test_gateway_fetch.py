"""Reading chunks: any good copy will do, whoever fails."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import Busy, StorageError
from peerstore.files.chunk import MAX_SEALED, SealedChunk, chunk_item
from peerstore.items import Item
from peerstore.wire.bodies import Items
from tests.support.rings import Ring, Wire, items_named
from tests.support.things import OWNER, a_chunk

CHUNKS = [a_chunk(number) for number in range(40)]


def full_size(number: int) -> Item:
    """A chunk as large as chunks are."""
    data = number.to_bytes(4, "big") * (MAX_SEALED // 4)
    return chunk_item(OWNER, SealedChunk(hashlib.sha256(data).digest(), b"", len(data), data), 1)


def spoilt(body: Any, answer: Items) -> Items:
    """The answer with one bit of each chunk turned over."""
    return Items(tuple(msgspec.structs.replace(item, data=_turned(item.data)) for item in answer.items), answer.more)


def _turned(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def refuse(error: Exception) -> Callable[[Any], Any]:
    """An answer that is an error."""

    def answer(body: Any) -> Any:
        raise error

    return answer


class FetchTests(SynchronousTestCase):
    """Five nodes with forty chunks."""

    def setUp(self) -> None:
        self.ring = Ring("abcde")
        assert all(out.certain for out in self.ring.put(CHUNKS))
        self.wires = {name: Wire(self.ring.node(name)) for name in self.ring.names()}
        self.gateway = self.ring.client(name="reader")

    def get(self, items: list[Item], patience: float = 30.0) -> dict[bytes, Item]:
        """What the gateway finds."""
        found: dict[bytes, Item] = self.ring.wait(
            self.gateway.get_chunks([item.key.element for item in items], patience), 400.0
        )
        return found

    def asked(self) -> int:
        """Requests for chunks at all nodes."""
        return sum(wire.count("get-chunks") for wire in self.wires.values())

    def test_all_come_back(self) -> None:
        """By their hashes, whole."""
        self.assertEqual(self.get(CHUNKS), items_named(CHUNKS))

    def test_nothing_is_asked_for_nothing(self) -> None:
        """No hashes, no requests."""
        self.assertEqual((self.get([]), self.asked()), ({}, 0))

    def test_a_hash_named_twice_is_asked_once(self) -> None:
        """However often it is in the list."""
        self.assertEqual(self.get([CHUNKS[0]] * 5), items_named(CHUNKS[:1]))
        self.assertEqual(self.asked(), 1)

    def test_what_nobody_has_is_left_out(self) -> None:
        """All who may have it were asked, twice; then waiting does not help."""
        before = self.ring.world.clock.seconds()
        self.assertEqual(self.get([*CHUNKS[:3], a_chunk(999)]), items_named(CHUNKS[:3]))
        self.assertLess(self.ring.world.clock.seconds() - before, 2.0)

    def test_a_bad_copy_is_passed_over(self) -> None:
        """The owner's copies are rotten: another host's are taken."""
        chunk = CHUNKS[0]
        self.wires[self.ring.around(chunk.key.ring_id)[0]].after("get-chunks", spoilt)
        self.assertEqual(self.get([chunk]), items_named([chunk]))
        self.assertEqual(self.asked(), 2)

    def test_only_bad_copies(self) -> None:
        """Then it is left out, and no bad byte is given to anybody."""
        for wire in self.wires.values():
            wire.after("get-chunks", spoilt)
        self.assertEqual(self.get(CHUNKS[:5], patience=5.0), {})

    def test_a_copy_that_lies_about_its_name(self) -> None:
        """Another chunk under this one's name is no copy of it."""
        other = CHUNKS[1]
        chunk = CHUNKS[0]

        def swap(body: Any, answer: Items) -> Items:
            return Items((Item(chunk.key, other.statement, other.data),), False)

        self.wires[self.ring.around(chunk.key.ring_id)[0]].after("get-chunks", swap)
        self.assertEqual(self.get([chunk]), items_named([chunk]))

    def test_what_was_not_asked_for_is_not_taken(self) -> None:
        """Chunks that an answer has beyond the question are dropped."""
        for wire in self.wires.values():
            wire.after("get-chunks", lambda body, answer: Items((CHUNKS[9], *answer.items), answer.more))
        self.assertEqual(self.get(CHUNKS[:3]), items_named(CHUNKS[:3]))

    def test_an_owner_that_crashed(self) -> None:
        """Its copies are elsewhere; the reader does not wait for the ring."""
        self.ring.world.hosts["c"].crash()
        before = self.ring.world.clock.seconds()
        self.assertEqual(self.get(CHUNKS), items_named(CHUNKS))
        self.assertLess(self.ring.world.clock.seconds() - before, 10.0)

    def test_an_owner_whose_disk_fails(self) -> None:
        """An error is no absence: others are asked."""
        for wire in list(self.wires.values())[:2]:
            wire.instead("get-chunks", refuse(StorageError("The disk is away.")))
        self.assertEqual(self.get(CHUNKS), items_named(CHUNKS))

    def test_everybody_is_busy(self) -> None:
        """Tried again until they are not."""
        for wire in self.wires.values():
            wire.instead("get-chunks", refuse(Busy("Full.", retry_after=0.2)))
        found = self.gateway.get_chunks([CHUNKS[0].key.element])
        self.ring.run(5.0)
        self.assertFalse(found.called)
        for wire in self.wires.values():
            wire.heal()
        self.assertEqual(self.ring.wait(found), items_named(CHUNKS[:1]))

    def test_patience_ends(self) -> None:
        """What could not be asked for in time is left out."""
        for wire in self.wires.values():
            wire.instead("get-chunks", refuse(Busy("Full.", retry_after=0.2)))
        before = self.ring.world.clock.seconds()
        self.assertEqual(self.get(CHUNKS, patience=3.0), {})
        self.assertLess(self.ring.world.clock.seconds() - before, 6.0)

    def test_a_host_that_hangs(self) -> None:
        """After its timeout another one is asked."""
        chunk = CHUNKS[0]
        self.wires[self.ring.around(chunk.key.ring_id)[0]].instead("get-chunks", lambda body: Deferred())
        self.assertEqual(self.get([chunk], patience=60.0), items_named([chunk]))

    def test_chunks_too_large_for_one_answer(self) -> None:
        """What did not fit is asked for again."""
        large = [full_size(number) for number in range(5)]
        self.assertTrue(all(out.certain for out in self.ring.put(large)))
        self.assertEqual(self.get(large), items_named(large))

    def test_an_answer_that_promises_more_and_has_none(self) -> None:
        """It is not asked for ever."""
        for wire in self.wires.values():
            wire.instead("get-chunks", lambda body: Items((), True))
        self.assertEqual(self.get(CHUNKS[:3], patience=5.0), {})

    def test_all_copies_but_the_last_are_gone(self) -> None:
        """One copy anywhere among the first 2 k hosts is enough."""
        ring = Ring("abcdefg", list_size=8)
        chunk = CHUNKS[0]
        sixth = ring.around(chunk.key.ring_id)[5]
        ring.wait(ring.node(sixth).store.put([chunk]))
        found = ring.wait(ring.client().get_chunks([chunk.key.element]))
        self.assertEqual(found, items_named([chunk]))

    def test_a_copy_that_is_further_on(self) -> None:
        """It was taken there because others were full, which they still are, and since then new hosts came
        to stand before: all that the owner names are asked before it is left out."""
        ring = Ring("abcdefghij", list_size=16)
        chunk = a_chunk(99)
        order = ring.around(chunk.key.ring_id)
        for name in order:
            Wire(ring.node(name)).instead("push", refuse(StorageError("No room.")))
        ring.wait(ring.node(order[8]).store.put([chunk]))
        self.gateway = ring.client(order[0], "reader")
        self.ring = ring
        self.assertEqual(self.get([chunk]), items_named([chunk]))

    def test_a_reader_whose_ring_is_out_of_date(self) -> None:
        """Hosts that it does not know of yet have it: it asks the ring again."""
        ring = Ring("ab", list_size=8)
        reader = ring.client(name="reader")
        ring.wait(reader.get_chunks([chunk.key.element for chunk in CHUNKS]))
        for name in "cdefgh":
            ring.world.start(name, "a")
        ring.settle()
        new = [chunk for chunk in CHUNKS if not {"a", "b"} & set(ring.around(chunk.key.ring_id)[:3])]
        self.assertGreater(len(new), 0)
        assert all(out.certain for out in ring.put(new))
        found = ring.wait(reader.get_chunks([chunk.key.element for chunk in new]))
        self.assertEqual(found, items_named(new))

    def test_in_flight_is_bounded(self) -> None:
        """Answers that are on their way together stay under the bound."""
        large = [full_size(number) for number in range(12)]
        self.assertTrue(all(out.certain for out in self.ring.put(large, patience=60.0)))
        open_now: set[int] = set()
        most = 0

        def slowly(body: Any) -> Any:
            nonlocal most
            open_now.add(id(body))
            most = max(most, len(open_now))
            return None

        def answered(body: Any, answer: Items) -> Items:
            open_now.discard(id(body))
            return answer

        for wire in self.wires.values():
            wire.instead("get-chunks", slowly)
            wire.after("get-chunks", answered)
        self.assertEqual(self.get(large), items_named(large))
        # 16 MiB in all, at 4 MiB an answer.
        self.assertLessEqual(most, 4)


class HaveTests(SynchronousTestCase):
    """Which chunks are certain already, so that they need not be sent."""

    def setUp(self) -> None:
        self.ring = Ring("abcde")
        assert all(out.certain for out in self.ring.put(CHUNKS[:10]))
        self.gateway = self.ring.client(name="reader")

    def have(self, owner: bytes = OWNER) -> frozenset[bytes]:
        """What the ring says of all forty."""
        found: frozenset[bytes] = self.ring.wait(
            self.gateway.have_chunks(owner, [chunk.key.element for chunk in CHUNKS])
        )
        return found

    def test_those_and_no_others(self) -> None:
        """Ten of forty are there."""
        self.assertEqual(self.have(), set(items_named(CHUNKS[:10])))

    def test_another_owner_s_are_not_ours(self) -> None:
        """The same hashes under another owner: none."""
        self.assertEqual(self.have(bytes(20)), frozenset())

    def test_one_copy_is_not_certain(self) -> None:
        """Only what a majority has counts."""
        chunk = CHUNKS[20]
        self.ring.wait(self.ring.node(self.ring.around(chunk.key.ring_id)[1]).store.put([chunk]))
        self.assertNotIn(chunk.key.element, self.have())

    def test_who_cannot_be_asked_does_not_have_it(self) -> None:
        """Two of three holders give no answer: not certain."""
        chunk = CHUNKS[0]
        for name in self.ring.around(chunk.key.ring_id)[:2]:
            Wire(self.ring.node(name)).instead("have-chunks", refuse(StorageError("The disk is away.")))
        self.assertNotIn(chunk.key.element, self.have())

    def test_none(self) -> None:
        """No hashes: none, without asking."""
        self.assertEqual(self.ring.wait(self.gateway.have_chunks(OWNER, [])), frozenset())
