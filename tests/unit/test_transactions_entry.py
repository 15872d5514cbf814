"""Log entries: what is taken, and all that is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore.crypto.statements import StatementType, leaf, pack_statement
from peerstore.errors import BadMessage
from peerstore.items import Item, ItemKey, Kind
from peerstore.transactions.entry import (
    CONTENT,
    MAX_OPERATIONS,
    MAX_SEALED,
    MAX_SEEN,
    MAX_STATEMENT,
    NO_ENTRY,
    Entry,
    NameRecord,
    Operation,
    OperationKind,
    Seen,
    decode_entry,
    entry_item,
    entry_of,
    pack_name,
    unpack_name,
)
from tests.support.logs import LOG_ID, OWNER, update
from tests.support.properties import DEVICES, check, device_vectors

ONE, TWO, THREE = DEVICES
GOOD = Entry(
    OWNER,
    ONE,
    2,
    b"\x01" * 32,
    7,
    1_700_000_000_000_000_000,
    (Seen(TWO, 1, b"\x02" * 32), Seen(THREE, 9, b"\x03" * 32)),
    (update(b"a/b", ((ONE, 1),), b"\x04" * 32),),
)
NAME = NameRecord("home", b"a/\xff", 1, 10, -5, 0o644, b"\x05" * 32)
MOST = (1 << 63) - 1

_sizes = st.integers(0, MOST)
_names = st.builds(
    NameRecord,
    st.text(max_size=8),
    st.binary(max_size=12),
    st.integers(0, 3),
    _sizes,
    st.integers(-(1 << 63), MOST),
    st.integers(0, 0o7777),
    st.sampled_from([b"", bytes(32), b"\xff" * 32]),
)
_operations = st.builds(
    Operation,
    st.sampled_from(OperationKind),
    st.binary(min_size=20, max_size=20),
    st.binary(min_size=32, max_size=32),
    device_vectors(least=1),
    _sizes,
    st.one_of(_names.map(pack_name), st.binary(max_size=9)),
)
_entries = st.builds(
    lambda number, clock, wall, operations: Entry(
        OWNER, ONE, number, NO_ENTRY if number == 1 else b"\x01" * 32, clock, wall, (), tuple(operations)
    ),
    st.integers(1, MOST),
    _sizes,
    _sizes,
    st.lists(_operations, max_size=3),
)


def changed(**fields: Any) -> Entry:
    """The good entry with some of its fields others."""
    return msgspec.structs.replace(GOOD, **fields)


def operation(**fields: Any) -> Entry:
    """The good entry with its operation's fields others."""
    return changed(operations=(msgspec.structs.replace(GOOD.operations[0], **fields),))


def bad_entries() -> Iterator[tuple[str, Entry]]:
    """Everything that is out of range, one thing at a time."""
    for field, size in (("owner", 20), ("device", 16), ("previous", 32)):
        yield f"short {field}", changed(**{field: b"x" * (size - 1)})
        yield f"long {field}", changed(**{field: b"x" * (size + 1)})
        yield f"no {field}", changed(**{field: b""})
    for number in (0, -1, MOST + 1, (1 << 64) - 1):
        yield f"number {number}", changed(number=number)
    for field in ("clock", "wall_ns"):
        for value in (-1, MOST + 1, (1 << 64) - 1):
            yield f"{field} {value}", changed(**{field: value})
    yield "first that follows on something", changed(number=1)
    yield "second that follows on nothing", changed(previous=NO_ENTRY)
    seen = GOOD.seen
    yield "seen unsorted", changed(seen=seen[::-1])
    yield "seen twice", changed(seen=(seen[0], seen[0]))
    for other in (
        Seen(TWO[:15], 1, bytes(32)),
        Seen(TWO, 1, bytes(31)),
        Seen(TWO, 0, bytes(32)),
        Seen(TWO, -1, bytes(32)),
    ):
        yield f"seen {other}", changed(seen=(other,))
    yield "seen too far", changed(seen=(Seen(TWO, MOST + 1, bytes(32)),))
    crowd = tuple(Seen(n.to_bytes(16, "big"), 1, bytes(32)) for n in range(MAX_SEEN + 1))
    yield "too many seen", changed(seen=crowd)
    yield "too many operations", changed(operations=GOOD.operations * (MAX_OPERATIONS + 1))


def bad_operations() -> Iterator[tuple[str, Entry]]:
    """The same of an operation."""
    for size in (0, 19, 21):
        yield f"resource of {size}", operation(resource=b"x" * size)
    for size in (0, 31, 33):
        yield f"version of {size}", operation(version=b"x" * size)
    for clock in (-1, MOST + 1):
        yield f"clock {clock}", operation(clock=clock)
    for vector in (
        (),
        ((TWO, 1), (ONE, 1)),
        ((ONE, 1), (ONE, 1)),
        ((ONE, 0),),
        ((ONE[:8], 1),),
        ((ONE, MOST + 1),),
    ):
        yield f"vector {vector}", operation(vector=vector)
    yield "sealed too large", operation(sealed=bytes(MAX_SEALED + 1))


def stored(entry: Entry) -> Item:
    """An entry with a fitting name, whatever it says."""
    return entry_item(LOG_ID, entry)


class RoundTripTests(SynchronousTestCase):
    """What is written is read."""

    @check(_entries)
    def test_any_sound_entry(self, entry: Entry) -> None:
        """Through the item, and through its statement alone."""
        item = stored(entry)
        self.assertEqual(entry_of(item), entry)
        self.assertEqual(decode_entry(item.statement), entry)

    def test_the_good_one(self) -> None:
        """What the refusals below start from is taken."""
        self.assertEqual(entry_of(stored(GOOD)), GOOD)

    def test_the_limits_themselves_are_inside(self) -> None:
        """As many operations, as long a name, as high a number as may be."""
        full = operation(sealed=bytes(MAX_SEALED)).operations * MAX_OPERATIONS
        crowd = tuple(Seen(n.to_bytes(16, "big"), MOST, bytes(32)) for n in range(MAX_SEEN))
        slim = GOOD.operations * MAX_OPERATIONS
        for entry in (
            changed(operations=slim, seen=crowd, number=MOST, clock=MOST, wall_ns=MOST),
            changed(operations=full[:128]),
            changed(operations=()),
            changed(number=1, previous=NO_ENTRY),
        ):
            self.assertEqual(entry_of(stored(entry)), entry)

    def test_operations_that_name_no_path_need_no_vector(self) -> None:
        """A snapshot or a setting is derived from nothing."""
        for kind in OperationKind:
            item = stored(operation(kind=kind, vector=()))
            if kind in CONTENT:
                self.assertRaises(BadMessage, entry_of, item)
            else:
                self.assertEqual(entry_of(item).operations[0].kind, kind)

    def test_owner_comes_first(self) -> None:
        """The first twenty bytes of the body's content are the owner's id."""
        body = msgspec.msgpack.encode(GOOD)
        self.assertEqual(body[:3] + OWNER, b"\x98\xc4\x14" + body[3:23])

    def test_the_key(self) -> None:
        """At the log's address, under the owner, named by the leaf."""
        item = stored(GOOD)
        element = leaf(StatementType.LOG_ENTRY, msgspec.msgpack.encode(GOOD))
        self.assertEqual(item.key, ItemKey(LOG_ID, OWNER, Kind.LOG, element))
        self.assertEqual(item.data, b"")


class RefusalTests(SynchronousTestCase):
    """What does not fit."""

    def test_fields_out_of_range(self) -> None:
        """Each alone is enough, for nodes and for readers."""
        for what, entry in (*bad_entries(), *bad_operations()):
            item = stored(entry)
            self.assertRaises(BadMessage, entry_of, item)
            with self.assertRaises(BadMessage, msg=what):
                decode_entry(item.statement)

    def test_another_name(self) -> None:
        """Another owner, element or kind than the entry's own."""
        item = stored(GOOD)
        key = item.key
        for other in (
            ItemKey(key.ring_id, b"\x0b" * 20, key.kind, key.element),
            ItemKey(key.ring_id, key.owner, key.kind, b"\x0b" * 32),
            ItemKey(key.ring_id, key.owner, Kind.HEAD, key.element),
        ):
            self.assertRaises(BadMessage, entry_of, Item(other, item.statement, b""))

    def test_content_beside_it(self) -> None:
        """An entry has none."""
        item = stored(GOOD)
        self.assertRaises(BadMessage, entry_of, Item(item.key, item.statement, b"x"))

    def test_too_large(self) -> None:
        """Judged before it is read."""
        for read in (entry_of, lambda item: decode_entry(item.statement)):
            with self.assertRaises(BadMessage) as caught:
                read(Item(stored(GOOD).key, bytes(MAX_STATEMENT + 1), b""))
            self.assertIn("larger", str(caught.exception))

    def test_another_type_of_statement(self) -> None:
        """A head's body is no entry, and an entry's no head."""
        body = msgspec.msgpack.encode(GOOD)
        for kind in StatementType:
            if kind != StatementType.LOG_ENTRY:
                self.assertRaises(BadMessage, decode_entry, pack_statement(kind, body))

    def test_another_shape(self) -> None:
        """A field less, a field more, another type, an unknown operation."""
        fields = msgspec.msgpack.decode(msgspec.msgpack.encode(GOOD))
        one = fields[7][0]
        for body in (
            fields[:-1],
            [*fields, 0],
            [fields[0].hex(), *fields[1:]],
            [*fields[:2], 2.0, *fields[3:]],
            [*fields[:7], [[8, *one[1:]]]],
            [*fields[:7], [[0, *one[1:]]]],
            [*fields[:7], [one[:-1]]],
            [*fields[:7], [[*one, 0]]],
            {},
            None,
        ):
            statement = pack_statement(StatementType.LOG_ENTRY, msgspec.msgpack.encode(body))
            with self.assertRaises(BadMessage, msg=repr(body)):
                decode_entry(statement)

    @check(st.binary(max_size=60))
    def test_garbage(self, raw: bytes) -> None:
        """Anything at all is refused as such, as statement and as body."""
        self.assertRaises(BadMessage, decode_entry, raw)
        self.assertRaises(BadMessage, decode_entry, pack_statement(StatementType.LOG_ENTRY, raw))

    def test_every_cut(self) -> None:
        """No prefix of an entry is an entry."""
        statement = stored(GOOD).statement
        for end in range(len(statement)):
            self.assertRaises(BadMessage, decode_entry, statement[:end])

    def test_every_changed_byte(self) -> None:
        """Under its own name, nothing but the entry itself is taken."""
        item = stored(GOOD)
        for at in range(len(item.statement)):
            forged = bytearray(item.statement)
            forged[at] ^= 0x01
            with self.assertRaises(BadMessage, msg=str(at)):
                entry_of(Item(item.key, bytes(forged), b""))


class NameTests(SynchronousTestCase):
    """What only the owner is to read of an operation."""

    @check(_names)
    def test_round_trip(self, name: NameRecord) -> None:
        """Paths are bytes, whatever they hold."""
        self.assertEqual(unpack_name(pack_name(name)), name)

    def test_fields_out_of_range(self) -> None:
        """Kinds of the future, sizes, times, modes and hashes that cannot be."""
        for fields in (
            {"kind": -1},
            {"kind": 4},
            {"size": -1},
            {"size": MOST + 1},
            {"mtime_ns": MOST + 1},
            {"mode": -1},
            {"mode": 0o10000},
            {"sha256": b"x" * 31},
            {"sha256": b"x" * 33},
        ):
            sealed = pack_name(msgspec.structs.replace(NAME, **fields))
            with self.assertRaises(BadMessage, msg=repr(fields)):
                unpack_name(sealed)

    @check(st.binary(max_size=40))
    def test_garbage(self, raw: bytes) -> None:
        """It is a name that encodes to the same bytes, or it is refused."""
        try:
            name = unpack_name(raw)
        except BadMessage:
            return
        self.assertEqual(pack_name(name), raw)

    def test_only_the_shortest_form(self) -> None:
        """The same values packed at greater length are refused."""
        raw = pack_name(NAME)
        self.assertEqual(raw[0], 0x97)
        self.assertRaises(BadMessage, unpack_name, b"\xdc\x00\x07" + raw[1:])
