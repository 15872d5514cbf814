"""post-chunks, have-chunks, get-chunks, post-heads, get-heads, usage: one node."""

from __future__ import annotations

import hashlib

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from peerstore.files.chunk import MAX_SEALED, SealedChunk, chunk_item
from peerstore.files.head import decode_head, head_item, newest
from peerstore.items import Item, ItemKey, Kind
from peerstore.node.admission import MAX_MANIFEST
from peerstore.node.handlers.common import ANSWER_BYTES
from peerstore.wire.bodies import (
    GetChunks,
    GetHeads,
    GetUsage,
    Had,
    HaveChunks,
    Items,
    PostChunks,
    Posted,
    PostHeads,
    Usage,
)
from peerstore.wire.framing import FRAME_LIMIT
from peerstore.wire.messages import METHODS, Status, encode_body
from tests.support.rings import Ring
from tests.support.storage import record
from tests.support.things import DEVICE, OWNER, a_chain, a_chunk, a_head

CHUNK, HEAD = a_chunk(1), a_head(1)
(ENTRY,) = a_chain(1)
OTHER = b"o" * 20


def rekeyed(item: Item, **fields: object) -> Item:
    """An item under another name."""
    return Item(msgspec.structs.replace(item.key, **fields), item.statement, item.data)


def large(number: int, size: int) -> Item:
    """A chunk of exactly *size* stored bytes."""
    data = number.to_bytes(4, "big") * (size // 4)
    return chunk_item(OWNER, SealedChunk(hashlib.sha256(data).digest(), b"", len(data), data), 1)


class OneNodeTestCase(SynchronousTestCase):
    """A lone node, asked by a user."""

    def setUp(self) -> None:
        self.ring = Ring("a")

    def statuses(self, method: str, body: object) -> list[Status]:
        """How each item of a post was judged."""
        answer: Posted = self.ring.ask("a", method, body)
        return [Status(told.status) for told in answer.outcomes]

    def assert_nothing_kept(self) -> None:
        """The store is as empty as it was."""
        self.assertEqual(self.ring.held("a"), set())


class AnyMethodTests(OneNodeTestCase):
    """What holds of all of them."""

    def test_bodies_that_are_none(self) -> None:
        """Garbage, the wrong type, too many fields: BAD_REQUEST, for each method."""
        for method in METHODS:
            if method == "get-node-records":
                continue
            for raw in (b"", b"\xc1", b"\x01", encode_body(Items((), False)) + b"x", msgspec.msgpack.encode([1] * 20)):
                self.assertEqual(self.ring.refused_raw("a", method, raw), Status.BAD_REQUEST, (method, raw))
        self.assert_nothing_kept()

    def test_methods_that_are_none(self) -> None:
        """An unknown method is refused by name."""
        for method in ("", "get", "GET-CHUNKS", "x" * 64):
            self.assertEqual(self.ring.refused_raw("a", method, b"\x90"), Status.BAD_REQUEST)

    def test_every_method_has_a_handler(self) -> None:
        """The table and the node agree."""
        for method in METHODS:
            self.assertIn(method, self.ring.node("a").dispatcher._handlers)


class PostChunksTests(OneNodeTestCase):
    """Chunks for our ranges."""

    def test_a_sound_one_is_kept(self) -> None:
        """On disk when it is answered; the holder and the majority are named."""
        answer: Posted = self.ring.ask("a", "post-chunks", PostChunks((CHUNK,)))
        (told,) = answer.outcomes
        fp = self.ring.fp("a")
        self.assertEqual((told.status, told.holders, told.voters, told.needed), (0, (fp,), (fp,), 1))
        self.ring.world.hosts["a"].crash()
        self.ring.world.start("a")
        self.ring.run(2.0)
        self.assertEqual(self.ring.held("a"), {CHUNK.key})

    def test_none_at_all(self) -> None:
        """An empty post has no outcomes."""
        self.assertEqual(self.statuses("post-chunks", PostChunks(())), [])

    def test_bytes_that_do_not_fit_the_hash(self) -> None:
        """Rejected, and not stored."""
        bad = [
            Item(CHUNK.key, CHUNK.statement, CHUNK.data[:-1] + b"!"),
            Item(CHUNK.key, CHUNK.statement, CHUNK.data + b"!"),
            Item(CHUNK.key, CHUNK.statement, b""),
        ]
        self.assertEqual(self.statuses("post-chunks", PostChunks(tuple(bad))), [Status.REJECTED] * 3)
        self.assert_nothing_kept()

    def test_claims_that_do_not_fit(self) -> None:
        """Another owner's, another chunk's, no claim at all."""
        bad = [
            rekeyed(CHUNK, owner=OTHER),
            Item(CHUNK.key, a_chunk(2).statement, CHUNK.data),
            Item(CHUNK.key, HEAD.statement, CHUNK.data),
            Item(CHUNK.key, b"", CHUNK.data),
            Item(CHUNK.key, b"\xc1", CHUNK.data),
        ]
        self.assertEqual(self.statuses("post-chunks", PostChunks(tuple(bad))), [Status.REJECTED] * 5)
        self.assert_nothing_kept()

    def test_names_of_the_wrong_shape(self) -> None:
        """Ring id, owner and element of other lengths, or in another place."""
        key = CHUNK.key
        bad = [
            rekeyed(CHUNK, ring_id=key.ring_id[:-1]),
            rekeyed(CHUNK, ring_id=b""),
            rekeyed(CHUNK, owner=OWNER + b"x"),
            rekeyed(CHUNK, element=key.element[:20]),
            rekeyed(CHUNK, ring_id=OTHER),
        ]
        self.assertEqual(self.statuses("post-chunks", PostChunks(tuple(bad))), [Status.REJECTED] * 5)
        self.assert_nothing_kept()

    def test_other_kinds(self) -> None:
        """Heads, entries and records are not posted here."""
        self.assertEqual(
            self.statuses("post-chunks", PostChunks((HEAD, ENTRY, record(1), rekeyed(CHUNK, kind=Kind.HEAD)))),
            [Status.REJECTED] * 4,
        )
        self.assert_nothing_kept()

    def test_the_bad_do_not_spoil_the_good(self) -> None:
        """Each item has an outcome of its own, in order."""
        body = PostChunks((HEAD, CHUNK, rekeyed(CHUNK, owner=OTHER), a_chunk(2)))
        self.assertEqual(self.statuses("post-chunks", body), [Status.REJECTED, Status.OK, Status.REJECTED, Status.OK])
        self.assertEqual(self.ring.held("a"), {CHUNK.key, a_chunk(2).key})

    def test_too_many(self) -> None:
        """More than 1,024 items in one request: refused whole."""
        body = PostChunks((CHUNK,) * 1025)
        self.assertEqual(self.ring.refused("a", "post-chunks", body), Status.BAD_REQUEST)
        self.assert_nothing_kept()

    def test_too_large(self) -> None:
        """Larger than the largest sealed chunk: rejected; just as large: kept."""
        body = PostChunks((large(1, MAX_SEALED + 4), large(2, MAX_SEALED)))
        self.assertEqual(self.statuses("post-chunks", body), [Status.REJECTED, Status.OK])

    def test_again(self) -> None:
        """The same twice, in one request and in two: OK, and once on disk."""
        self.assertEqual(self.statuses("post-chunks", PostChunks((CHUNK, CHUNK))), [Status.OK] * 2)
        self.assertEqual(self.statuses("post-chunks", PostChunks((CHUNK,))), [Status.OK])
        self.assertEqual(self.ring.held("a"), {CHUNK.key})

    def test_two_owners(self) -> None:
        """The same content of two people is two things."""
        body = PostChunks((CHUNK, a_chunk(1, owner=OTHER)))
        self.assertEqual(self.statuses("post-chunks", body), [Status.OK] * 2)
        self.assertEqual(len(self.ring.held("a")), 2)

    def test_a_full_disk(self) -> None:
        """UNAVAILABLE, and nothing is there."""
        self.ring.world.hosts["a"].disk.full = True
        self.assertEqual(self.statuses("post-chunks", PostChunks((CHUNK,))), [Status.UNAVAILABLE])
        self.assert_nothing_kept()


class GetChunksTests(OneNodeTestCase):
    """Chunks by hash, and whether they are here."""

    def test_what_is_here(self) -> None:
        """In the order asked, what is missing left out, another's as well."""
        chunks = [a_chunk(3), a_chunk(1), a_chunk(2, owner=OTHER)]
        self.ring.ask("a", "post-chunks", PostChunks(tuple(chunks)))
        asked = [chunks[0], a_chunk(9), chunks[2], chunks[1]]
        answer = self.ring.ask("a", "get-chunks", GetChunks(tuple(item.key.element for item in asked)))
        self.assertEqual(answer, Items((chunks[0], chunks[2], chunks[1]), False))

    def test_an_answer_has_a_bound(self) -> None:
        """As many as fit 4 MiB, one at least, and whether there is more."""
        chunks = [large(number, 1_500_000) for number in range(4)]
        self.ring.ask("a", "post-chunks", PostChunks(tuple(chunks)))
        hashes = [item.key.element for item in chunks]
        answer = self.ring.ask("a", "get-chunks", GetChunks(tuple(hashes)))
        self.assertEqual(answer, Items(tuple(chunks[:2]), True))
        rest = self.ring.ask("a", "get-chunks", GetChunks(tuple(hashes[2:])))
        self.assertEqual(rest, Items(tuple(chunks[2:]), False))

    def test_the_largest_fits_a_frame(self) -> None:
        """A chunk of full size is answered alone, within the frame."""
        chunks = [large(number, MAX_SEALED) for number in range(2)]
        for chunk in chunks:
            self.ring.ask("a", "post-chunks", PostChunks((chunk,)))
        answer = self.ring.ask("a", "get-chunks", GetChunks(tuple(item.key.element for item in chunks)))
        self.assertEqual(answer, Items((chunks[0],), True))
        self.assertLess(len(encode_body(answer)), FRAME_LIMIT - 1024)

    def test_wrong_questions(self) -> None:
        """Hashes of another length, and too many of them."""
        for hashes in ((b"",), (bytes(20),), (bytes(32), bytes(33)), (bytes(32),) * 1025):
            self.assertEqual(self.ring.refused("a", "get-chunks", GetChunks(hashes)), Status.BAD_REQUEST)

    def test_have(self) -> None:
        """True for what this owner has here, in order."""
        self.ring.ask("a", "post-chunks", PostChunks((CHUNK, a_chunk(2, owner=OTHER))))
        hashes = (a_chunk(2).key.element, CHUNK.key.element, CHUNK.key.element)
        self.assertEqual(self.ring.ask("a", "have-chunks", HaveChunks(OWNER, hashes, 0)), Had((False, True, True)))
        self.assertEqual(self.ring.ask("a", "have-chunks", HaveChunks(OTHER, hashes, 0)), Had((True, False, False)))
        self.assertEqual(self.ring.ask("a", "have-chunks", HaveChunks(OWNER, (), 0)), Had(()))

    def test_have_asked_wrongly(self) -> None:
        """Owners and hashes of other lengths, and too many."""
        for body in (
            HaveChunks(b"", (), 0),
            HaveChunks(bytes(32), (), 0),
            HaveChunks(OWNER, (bytes(20),), 0),
            HaveChunks(OWNER, (bytes(32),) * 8193, 0),
        ):
            self.assertEqual(self.ring.refused("a", "have-chunks", body), Status.BAD_REQUEST)

    def test_usage(self) -> None:
        """Bytes and items of one owner."""
        self.ring.ask("a", "post-chunks", PostChunks((CHUNK, a_chunk(2), a_chunk(3, owner=OTHER))))
        size = CHUNK.size + a_chunk(2).size
        self.assertEqual(self.ring.ask("a", "usage", GetUsage(OWNER)), Usage(size, 2, 0))
        self.assertEqual(self.ring.ask("a", "usage", GetUsage(b"n" * 20)), Usage(0, 0, 0))
        self.assertEqual(self.ring.refused("a", "usage", GetUsage(b"")), Status.BAD_REQUEST)


class PostHeadsTests(OneNodeTestCase):
    """Heads, and the entries that go with them."""

    def test_a_sound_one_is_kept(self) -> None:
        """And is read back with its manifest."""
        self.assertEqual(self.statuses("post-heads", PostHeads((HEAD,), ())), [Status.OK])
        answer = self.ring.ask("a", "get-heads", GetHeads(HEAD.key.ring_id, OWNER, ()))
        self.assertEqual((answer.items, answer.more), ((HEAD,), False))
        self.assertEqual(answer.vote.voters, (self.ring.fp("a"),))

    def test_what_does_not_fit(self) -> None:
        """Another's name, another manifest, no head, a tombstone with content."""
        tombstone = a_head(2, data=None)
        bad = [
            rekeyed(HEAD, owner=OTHER),
            rekeyed(HEAD, ring_id=OTHER),
            rekeyed(HEAD, element=bytes(32)),
            Item(HEAD.key, HEAD.statement, b"another manifest"),
            Item(HEAD.key, a_head(1, 2).statement, HEAD.data),
            Item(HEAD.key, CHUNK.statement, HEAD.data),
            Item(tombstone.key, tombstone.statement, b"content"),
            CHUNK,
            ENTRY,
        ]
        self.assertEqual(self.statuses("post-heads", PostHeads(tuple(bad), ())), [Status.REJECTED] * len(bad))
        self.assert_nothing_kept()

    def test_a_manifest_larger_than_manifests_are(self) -> None:
        """It should have been chunked."""
        heads = [a_head(number, data=bytes(MAX_MANIFEST + number)) for number in (0, 1)]
        self.assertEqual(self.statuses("post-heads", PostHeads(tuple(heads), ())), [Status.OK, Status.REJECTED])

    def test_too_many(self) -> None:
        """Heads and entries together."""
        body = PostHeads((HEAD,) * 1000, (ENTRY,) * 25)
        self.assertEqual(self.ring.refused("a", "post-heads", body), Status.BAD_REQUEST)
        self.assert_nothing_kept()

    def test_entries_are_passed_on(self) -> None:
        """Outcomes: the heads', then the entries'."""
        chain = a_chain(2)
        self.assertEqual(self.statuses("post-heads", PostHeads((HEAD,), tuple(chain))), [Status.OK] * 3)
        self.assertEqual(self.ring.held("a"), {HEAD.key, *(entry.key for entry in chain)})

    def test_entries_wait_for_every_head(self) -> None:
        """One head is bad: the good one is kept, the entry is not."""
        body = PostHeads((HEAD, rekeyed(a_head(2), owner=OTHER)), (ENTRY,))
        self.assertEqual(self.statuses("post-heads", body), [Status.OK, Status.REJECTED, Status.NOT_READY])
        self.assertEqual(self.ring.held("a"), {HEAD.key})

    def test_entries_that_are_none(self) -> None:
        """Something else in an entry's place is rejected, like a bad head."""
        self.assertEqual(self.statuses("post-heads", PostHeads((HEAD,), (CHUNK,))), [Status.OK, Status.REJECTED])
        bad = Item(ENTRY.key, HEAD.statement, b"")
        self.assertEqual(self.statuses("post-heads", PostHeads((HEAD,), (bad,))), [Status.OK, Status.REJECTED])
        self.assertEqual(self.ring.held("a"), {HEAD.key})

    def test_a_gap_is_told(self) -> None:
        """As append tells it."""
        self.assertEqual(self.statuses("post-heads", PostHeads((HEAD,), (a_chain(3)[2],))), [Status.OK, Status.GAP])


class GetHeadsTests(OneNodeTestCase):
    """One resource's heads."""

    def test_newest_only_and_history_by_name(self) -> None:
        """What another replaces is given only to who names it."""
        heads = [a_head(1, counter) for counter in (1, 2, 3)]
        self.ring.ask("a", "post-heads", PostHeads(tuple(heads), ()))
        resource = HEAD.key.ring_id
        self.assertEqual(self.ring.ask("a", "get-heads", GetHeads(resource, OWNER, ())).items, (heads[2],))
        named = tuple(head.key.element for head in heads[:2])
        self.assertEqual(self.ring.ask("a", "get-heads", GetHeads(resource, OWNER, named)).items, tuple(heads[:2]))

    def test_names_of_others(self) -> None:
        """Elements of another resource or owner are not found under this one."""
        self.ring.ask("a", "post-heads", PostHeads((HEAD, a_head(2)), ()))
        for body in (
            GetHeads(HEAD.key.ring_id, OTHER, ()),
            GetHeads(HEAD.key.ring_id, OWNER, (a_head(2).key.element,)),
            GetHeads(OTHER, OWNER, (HEAD.key.element,)),
        ):
            answer = self.ring.ask("a", "get-heads", body)
            self.assertEqual((answer.items, answer.more), ((), False))

    def test_crossed_edits(self) -> None:
        """All that no other replaces, the one with the name first."""
        resource = HEAD.key.ring_id
        crossed = [head_item(OWNER, resource, ((b"%016d" % n, 1),), n, b"%016d" % n, 0, b"m") for n in range(5)]
        self.ring.ask("a", "post-heads", PostHeads(tuple(crossed), ()))
        answer = self.ring.ask("a", "get-heads", GetHeads(resource, OWNER, ()))
        self.assertEqual(answer.items, tuple(reversed(crossed)))

    def test_the_same_as_by_hand(self) -> None:
        """A long history with branches: just those that nothing replaces."""
        resource = HEAD.key.ring_id
        heads = []
        for n in range(60):
            vector = tuple((b"%016d" % d, 1 + (n * (d + 1)) % 7) for d in range(3))
            heads.append(head_item(OWNER, resource, vector, n, vector[0][0], 0, b"%d" % n))
        self.ring.ask("a", "post-heads", PostHeads(tuple(heads), ()))
        expected = [version.id for version in newest(decode_head(head) for head in heads)]
        answer = self.ring.ask("a", "get-heads", GetHeads(resource, OWNER, ()))
        self.assertEqual([item.key.element for item in answer.items], expected)

    def test_more_crossed_edits_than_anybody_is_told(self) -> None:
        """Twelve hundred devices wrote at once: 1,024 of them, and that it is cut."""
        resource = HEAD.key.ring_id
        for start in range(0, 1200, 200):
            crossed = [
                head_item(OWNER, resource, ((b"%016d" % n, 1),), n, b"%016d" % n, 0, b"m")
                for n in range(start, start + 200)
            ]
            self.ring.ask("a", "post-heads", PostHeads(tuple(crossed), ()))
        answer = self.ring.ask("a", "get-heads", GetHeads(resource, OWNER, ()))
        self.assertEqual((len(answer.items), answer.more), (1024, True))

    def test_an_answer_has_a_bound(self) -> None:
        """Some of it, and that there is more; never over the bound."""
        resource = HEAD.key.ring_id
        crossed = [
            head_item(OWNER, resource, ((b"%016d" % n, 1),), n, b"%016d" % n, 0, bytes(1_000_000)) for n in range(6)
        ]
        for head in crossed:
            self.ring.ask("a", "post-heads", PostHeads((head,), ()))
        for names in ((), tuple(head.key.element for head in crossed)):
            answer = self.ring.ask("a", "get-heads", GetHeads(resource, OWNER, names))
            self.assertTrue(answer.more)
            self.assertEqual(len(answer.items), 4)
            self.assertLess(len(encode_body(answer)), ANSWER_BYTES + 1024)

    def test_wrong_questions(self) -> None:
        """Lengths, and more names than are answered."""
        ring_id = HEAD.key.ring_id
        for body in (
            GetHeads(b"", OWNER, ()),
            GetHeads(ring_id, bytes(32), ()),
            GetHeads(ring_id, OWNER, (bytes(20),)),
            GetHeads(ring_id, OWNER, (bytes(32),) * 1025),
        ):
            self.assertEqual(self.ring.refused("a", "get-heads", body), Status.BAD_REQUEST)


class HistoryMemoryTests(OneNodeTestCase):
    """A question costs what its answer weighs, however long the history is."""

    def most_at_a_time(self, body: GetHeads) -> int:
        """Bytes that the store gave out at once, at most."""
        store = self.ring.node("a").store
        most = 0

        def weigh(found: list[Item | None]) -> list[Item | None]:
            nonlocal most
            most = max(most, sum(item.size for item in found if item is not None))
            return found

        for place, name in ((store, "get"), (store.heads, "heads_of"), (store.heads, "get")):
            real = getattr(place, name)
            self.patch(place, name, lambda *args, real=real: real(*args).addCallback(weigh))
        self.ring.ask("a", "get-heads", body)
        return most

    def test_the_newest_of_many(self) -> None:
        """Three hundred versions of 60 kB are not loaded for the one that is asked for."""
        resource = b"\x0e" * 20
        heads = [head_item(OWNER, resource, ((DEVICE, n + 1),), n, DEVICE, 0, b"%05d" % n * 12_000) for n in range(300)]
        for at in range(0, 300, 30):
            self.ring.ask("a", "post-heads", PostHeads(tuple(heads[at : at + 30]), ()))
        self.assertLess(self.most_at_a_time(GetHeads(resource, OWNER, ())), 1_000_000)

    def test_many_named_ones(self) -> None:
        """Those that the answer has no room for are not loaded, either."""
        resource = b"\x0e" * 20
        heads = [head_item(OWNER, resource, ((DEVICE, n + 1),), n, DEVICE, 0, b"%05d" % n * 200_000) for n in range(8)]
        for head in heads:
            self.ring.ask("a", "post-heads", PostHeads((head,), ()))
        names = tuple(head.key.element for head in heads)
        self.assertLess(self.most_at_a_time(GetHeads(resource, OWNER, names)), 1_100_000)


class NotOursTests(SynchronousTestCase):
    """Posts for keys that belong to another node."""

    def test_not_responsible(self) -> None:
        """Each kind: told so, and not kept by the wrong one."""
        ring = Ring("abcde")
        for method, item, body in (
            ("post-chunks", CHUNK, PostChunks((CHUNK,))),
            ("post-heads", HEAD, PostHeads((HEAD,), ())),
        ):
            for name in ring.around(item.key.ring_id)[1:]:
                (told,) = ring.ask(name, method, body).outcomes
                self.assertEqual((told.status, told.holders), (Status.NOT_RESPONSIBLE, ()))
            self.assertEqual(ring.holders(item.key), "")

    def test_only_those_that_are_not(self) -> None:
        """The others of the same request are kept."""
        ring = Ring("abcde")
        chunks = [a_chunk(number) for number in range(20)]
        owners = [ring.around(chunk.key.ring_id)[0] for chunk in chunks]
        name = owners[0]
        outcomes = ring.ask(name, "post-chunks", PostChunks(tuple(chunks))).outcomes
        self.assertEqual(
            [told.status for told in outcomes],
            [Status.OK if owner == name else Status.NOT_RESPONSIBLE for owner in owners],
        )

    def test_a_key_of_the_wrong_shape_is_not_looked_for(self) -> None:
        """Judged, not passed on."""
        ring = Ring("ab")
        bad = Item(ItemKey(b"", OWNER, Kind.CHUNK, bytes(32)), b"", b"")
        for name in "ab":
            (told,) = ring.ask(name, "post-chunks", PostChunks((bad,))).outcomes
            self.assertEqual(told.status, Status.REJECTED)
