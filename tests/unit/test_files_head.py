"""Heads: one version of one path; which are newest, and who has the name."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore.crypto.statements import StatementType, leaf, pack_statement
from peerstore.errors import BadMessage
from peerstore.files.head import (
    MAX_RECIPIENTS,
    MAX_STATEMENT,
    Head,
    MovedFrom,
    Recipient,
    Version,
    decode_head,
    head_item,
    newest,
    replaces,
    winner,
)
from peerstore.items import Item, ItemKey, Kind
from peerstore.vectors import MAX_DEVICES, Vector, covers
from tests.support.properties import DEVICES, check, device_vectors

ONE, TWO, _ = DEVICES
OWNER, RESOURCE = b"\x0a" * 20, b"\x0e" * 20
BLOB = b"a manifest"
MOST = (1 << 63) - 1
READERS = (Recipient(b"\x01" * 20, b"\x01" * 32, bytes(384)), Recipient(b"\x02" * 20, b"\x02" * 32, bytes(512)))
GOOD = Head(
    OWNER,
    RESOURCE,
    ((ONE, 3), (TWO, 1)),
    5,
    ONE,
    1_700_000_000_000_000_000,
    MovedFrom(b"\x03" * 20, b"\x04" * 32),
    bytes(16),
    b"",
    b"",
    (),
    hashlib.sha256(BLOB).digest(),
    False,
)


def stored(head: Head, data: bytes = BLOB) -> Item:
    """A head with a fitting name, whatever it says."""
    body = msgspec.msgpack.encode(head)
    key = ItemKey(head.resource, head.owner, Kind.HEAD, leaf(StatementType.HEAD, body))
    return Item(key, pack_statement(StatementType.HEAD, body), data)


def changed(**fields: Any) -> Head:
    """The good head with some fields others."""
    return msgspec.structs.replace(GOOD, **fields)


def tombstone(**fields: Any) -> Head:
    """A tombstone."""
    return changed(tombstone=True, manifest=b"", **fields)


def bad_heads() -> Iterator[tuple[str, Head]]:
    """Everything that is out of range, one thing at a time."""
    for field, size in (("owner", 20), ("resource", 20), ("device", 16), ("epoch", 16), ("manifest", 32)):
        for wrong in (0, size - 1, size + 1):
            yield f"{field} of {wrong}", changed(**{field: b"x" * wrong})
    for field in ("commitment", "salt"):
        for wrong in (1, 31, 33):
            yield f"{field} of {wrong}", changed(**{field: b"x" * wrong})
    for field in ("clock", "wall_ns"):
        for value in (-1, MOST + 1, (1 << 64) - 1):
            yield f"{field} {value}", changed(**{field: value})
    for moved in (MovedFrom(b"x" * 19, bytes(32)), MovedFrom(bytes(20), b"x" * 33), MovedFrom(b"", b"")):
        yield f"moved from {moved}", changed(moved_from=moved)
    yield "a device that is not in the vector", changed(device=b"\xee" * 16)
    for vector in bad_vectors():
        yield f"vector {vector[:3]}", changed(vector=vector)
    for readers in bad_recipients():
        yield f"readers {readers[:2]}", changed(recipients=readers)


def bad_vectors() -> Iterator[Vector]:
    """Vectors that are none; all of them know the writing device."""
    yield ()
    yield ((TWO, 1), (ONE, 1))
    yield ((ONE, 1), (ONE, 1))
    yield ((ONE, 0),)
    yield ((ONE, -1),)
    yield ((ONE, MOST + 1),)
    yield ((ONE, 1), (TWO[:15], 1))
    yield tuple(sorted([(n.to_bytes(16, "big"), 1) for n in range(MAX_DEVICES)] + [(ONE, 1)]))


def bad_recipients() -> Iterator[tuple[Recipient, ...]]:
    """Readers out of order or range."""
    one, two = READERS
    yield (two, one)
    yield (one, one)
    for fields in ({"id": b"x" * 19}, {"id": b""}, {"id": OWNER}, {"fp": b"x" * 31}, {"wrapped_key": b""}):
        yield (msgspec.structs.replace(one, **fields),)
    yield (msgspec.structs.replace(one, wrapped_key=bytes(513)),)
    yield tuple(Recipient(bytes(20), n.to_bytes(32, "big"), b"k") for n in range(MAX_RECIPIENTS + 1))


class RoundTripTests(SynchronousTestCase):
    """What is written is read."""

    def test_a_version_with_everything(self) -> None:
        """Readers, commitment, salt, where it came from."""
        head = changed(recipients=READERS, commitment=b"c" * 32, salt=b"s" * 32, epoch=b"e" * 16)
        item = stored(head)
        self.assertEqual(decode_head(item), Version(item.key.element, head))
        self.assertEqual(decode_head(stored(GOOD)).head, GOOD)

    def test_a_tombstone(self) -> None:
        """No manifest, nothing beside it; it may have readers."""
        for head in (tombstone(), tombstone(recipients=READERS)):
            self.assertEqual(decode_head(stored(head, b"")).head, head)

    def test_what_head_item_makes(self) -> None:
        """A file and a tombstone, unsealed, under their own leaf."""
        item = head_item(OWNER, RESOURCE, ((ONE, 1),), 4, ONE, 9, BLOB, MovedFrom(bytes(20), bytes(32)))
        version = decode_head(item)
        self.assertEqual((item.data, version.id, item.key.kind), (BLOB, item.key.element, Kind.HEAD))
        self.assertEqual(version.head.manifest, hashlib.sha256(BLOB).digest())
        self.assertEqual(version.head.moved_from, MovedFrom(bytes(20), bytes(32)))
        self.assertEqual((version.head.commitment, version.head.salt, version.head.recipients), (b"", b"", ()))
        gone = head_item(OWNER, RESOURCE, ((ONE, 2),), 5, ONE, 9, None)
        self.assertEqual((gone.data, decode_head(gone).head.tombstone), (b"", True))

    def test_the_limits_themselves_are_inside(self) -> None:
        """As many readers as may be, with the largest keys; the last numbers."""
        crowd = tuple(Recipient(bytes(20), n.to_bytes(32, "big"), bytes(512)) for n in range(MAX_RECIPIENTS))
        for head in (changed(recipients=crowd), changed(vector=((ONE, MOST),), clock=MOST, wall_ns=MOST)):
            self.assertEqual(decode_head(stored(head)).head, head)

    def test_owner_comes_first(self) -> None:
        """The first twenty bytes of the body's content are the owner's id."""
        self.assertEqual(msgspec.msgpack.encode(GOOD)[:23], b"\x9d\xc4\x14" + OWNER)


class RefusalTests(SynchronousTestCase):
    """What does not fit."""

    def test_fields_out_of_range(self) -> None:
        """Each alone is enough."""
        for what, head in bad_heads():
            with self.assertRaises(BadMessage, msg=what):
                decode_head(stored(head))

    def test_another_place(self) -> None:
        """Another ring id, owner, kind or element than the head's own."""
        item = stored(GOOD)
        for fields in (
            {"ring_id": b"\x0f" * 20},
            {"owner": b"\x0b" * 20},
            {"kind": Kind.LOG},
            {"element": bytes(32)},
        ):
            key = msgspec.structs.replace(item.key, **fields)
            with self.assertRaises(BadMessage, msg=repr(fields)):
                decode_head(Item(key, item.statement, item.data))

    def test_another_manifest(self) -> None:
        """Changed, cut, missing."""
        item = stored(GOOD)
        for data in (b"", BLOB[:-1], BLOB + b"\0", b"b" + BLOB[1:]):
            self.assertRaises(BadMessage, decode_head, Item(item.key, item.statement, data))

    def test_a_tombstone_with_content(self) -> None:
        """Named or beside it."""
        self.assertRaises(BadMessage, decode_head, stored(tombstone(), BLOB))
        self.assertRaises(BadMessage, decode_head, stored(changed(tombstone=True), BLOB))
        self.assertRaises(BadMessage, decode_head, stored(changed(tombstone=True), b""))

    def test_a_file_without_a_manifest(self) -> None:
        """Only a tombstone has none."""
        self.assertRaises(BadMessage, decode_head, stored(changed(manifest=b""), b""))

    def test_too_large(self) -> None:
        """Judged before it is read."""
        with self.assertRaises(BadMessage) as caught:
            decode_head(Item(stored(GOOD).key, bytes(MAX_STATEMENT + 1), BLOB))
        self.assertIn("larger", str(caught.exception))

    def test_another_shape(self) -> None:
        """A field less, a field more, another type, another statement."""
        item = stored(GOOD)
        fields = msgspec.msgpack.decode(msgspec.msgpack.encode(GOOD))
        for wrong in (fields[:-1], [*fields, 0], [*fields[:-1], 0], [*fields[:3], "5", *fields[4:]], {}, None):
            body = msgspec.msgpack.encode(wrong)
            key = msgspec.structs.replace(item.key, element=leaf(StatementType.HEAD, body))
            with self.assertRaises(BadMessage, msg=repr(wrong)):
                decode_head(Item(key, pack_statement(StatementType.HEAD, body), BLOB))
        body = msgspec.msgpack.encode(GOOD)
        self.assertRaises(BadMessage, decode_head, Item(item.key, pack_statement(StatementType.LOG_ENTRY, body), BLOB))

    def test_every_cut_and_every_changed_byte(self) -> None:
        """Under its own name, nothing but the head itself is taken."""
        item = stored(GOOD)
        for at in range(len(item.statement)):
            forged = bytearray(item.statement)
            forged[at] ^= 0x01
            self.assertRaises(BadMessage, decode_head, Item(item.key, bytes(forged), BLOB))
            self.assertRaises(BadMessage, decode_head, Item(item.key, item.statement[:at], BLOB))

    @check(st.binary(max_size=60))
    def test_garbage(self, raw: bytes) -> None:
        """Refused as such, as statement and as body."""
        key = stored(GOOD).key
        self.assertRaises(BadMessage, decode_head, Item(key, raw, BLOB))
        self.assertRaises(BadMessage, decode_head, Item(key, pack_statement(StatementType.HEAD, raw), BLOB))


def version(vector: Vector, clock: int = 1, device: bytes = ONE, number: int = 0, gone: bool = False) -> Version:
    """A version; its id is made up, another for each *number*."""
    head = (
        tombstone(vector=vector, clock=clock, device=device)
        if gone
        else changed(vector=vector, clock=clock, device=device)
    )
    return Version(number.to_bytes(32, "big"), head)


_versions = st.lists(
    st.tuples(device_vectors(least=1), st.integers(1, 3), st.sampled_from(DEVICES), st.integers(0, 20), st.booleans()),
    max_size=12,
).map(lambda drawn: list({one[3]: version(*one) for one in drawn}.values()))


class NewestTests(SynchronousTestCase):
    """What no other replaces."""

    @check(_versions, examples=200)
    def test_it_is_what_the_definition_says(self, versions: list[Version]) -> None:
        """Every pair looked at: the vector of none covers a kept one's."""
        kept = {
            a.id
            for a in versions
            if not any(b.head.vector != a.head.vector and covers(b.head.vector, a.head.vector) for b in versions)
        }
        self.assertEqual({one.id for one in newest(versions)}, kept)

    @check(_versions, st.randoms(use_true_random=False))
    def test_order_and_repetition_do_not_matter(self, versions: list[Version], rng: random.Random) -> None:
        """The same list, whoever was heard first, and how often."""
        shuffled = versions + versions[::2]
        rng.shuffle(shuffled)
        self.assertEqual(newest(shuffled), newest(versions))

    @check(_versions, _versions)
    def test_two_readers_may_leave_out_what_is_replaced(self, a: list[Version], b: list[Version]) -> None:
        """Uniting what two nodes hold for newest is as good as uniting all."""
        union = {one.id: one for one in [*a, *b]}
        self.assertEqual(newest([*newest(union.values()), *newest(union.values())]), newest(union.values()))

    def test_equal_vectors_on_different_heads_both_stand(self) -> None:
        """A device that was copied used a number twice: nothing is lost."""
        twins = [version(((ONE, 1),), number=1), version(((ONE, 1),), number=2)]
        self.assertEqual([one.id for one in newest(twins)], [twins[1].id, twins[0].id])
        self.assertFalse(replaces(*twins))

    def test_a_version_does_not_replace_itself(self) -> None:
        """It is there once, however often it is given."""
        one = version(((ONE, 1),))
        self.assertFalse(replaces(one, one))
        self.assertEqual(newest([one, one]), [one])

    def test_years_of_versions_are_looked_at_once_each(self) -> None:
        """Thousands, each derived from the one before, shuffled: comparing
        all pairs would take minutes."""
        chain = [version(((ONE, counter),), number=counter) for counter in range(1, 5001)]
        random.Random(3).shuffle(chain)
        (last,) = newest(chain)
        self.assertEqual(last.head.vector, ((ONE, 5000),))


class WinnerTests(SynchronousTestCase):
    """Who has the name."""

    def test_nobody(self) -> None:
        """Of nothing, nothing."""
        self.assertIsNone(winner([]))

    def test_the_order(self) -> None:
        """File before tombstone, then clock, then device, then id."""
        ranked = [
            version(((ONE, 1),), 2, device=TWO, number=1),
            version(((ONE, 1),), 2, device=ONE, number=9),
            version(((ONE, 1),), 2, device=ONE, number=8),
            version(((ONE, 1),), 1, device=TWO, number=10),
            version(((ONE, 1),), 3, device=TWO, number=11, gone=True),
        ]
        self.assertEqual(newest(ranked[::-1]), ranked)
        self.assertEqual(winner(ranked[::-1]), ranked[0])

    def test_a_replaced_version_never_wins(self) -> None:
        """Whatever its clock says."""
        old, new = version(((ONE, 1),), clock=9, number=1), version(((ONE, 2),), clock=1, number=2)
        self.assertEqual(winner([old, new]), new)

    def test_a_tombstone_wins_when_it_is_all_there_is(self) -> None:
        """Then the path is deleted."""
        old, gone = version(((ONE, 1),), number=1), version(((ONE, 2),), number=2, gone=True)
        self.assertEqual(winner([old, gone]), gone)
