"""Entries of the transaction log.

An entry is a statement whose body is a msgpack array of :class:`Entry`'s
fields.  The entries of one device form a hash chain: each names the leaf of
the one before.  Chains have one writer, so two entries at one number are
proof of a copied device.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from peerstore import vectors
from peerstore.crypto.statements import StatementType, leaf, pack_statement, unpack_statement
from peerstore.errors import BadMessage
from peerstore.items import Item, ItemKey, Kind

__all__ = [
    "Entry",
    "MAX_OPERATIONS",
    "NO_ENTRY",
    "NameRecord",
    "Operation",
    "OperationKind",
    "Seen",
    "decode_entry",
    "entry_item",
    "entry_of",
    "pack_name",
    "unpack_name",
]

#: What the first entry of a chain names as the one before it.
NO_ENTRY = bytes(32)
MAX_OPERATIONS = 256
MAX_STATEMENT = 3 * 1024 * 1024
MAX_SEEN = 1024


class OperationKind(IntEnum):
    """What an operation does; the numbers are a disk format."""

    UPDATE = 1
    DELETE = 2
    MOVE = 3
    SNAPSHOT = 4
    SETTING = 5
    CHECKPOINT = 6
    RETIRE_DEVICE = 7


class NameRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What only the owner is to read of an operation: where the path is, and
    enough of its attributes to list it without asking for its head.

    *kind* is a ``files.manifest.NodeKind`` number, 0 for a deletion.
    """

    folder: str
    path: bytes
    kind: int
    size: int
    mtime_ns: int
    mode: int
    sha256: bytes


class Operation(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One change: 20-byte resource, 32-byte version, its vector, its name."""

    kind: OperationKind
    resource: bytes
    version: bytes
    vector: vectors.Vector
    sealed: bytes


class Seen(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The end of another device's chain as the writer knew it.  It detects
    withholding and decides nothing."""

    device: bytes
    number: int
    leaf: bytes


class Entry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One entry: owner first; 16-byte device; number from 1; leaf of the
    entry before; Lamport clock; wall time in ns (shown only)."""

    owner: bytes
    device: bytes
    number: int
    previous: bytes
    clock: int
    wall_ns: int
    seen: tuple[Seen, ...]
    operations: tuple[Operation, ...]


_entries = msgspec.msgpack.Decoder(Entry, strict=True)
_names = msgspec.msgpack.Decoder(NameRecord, strict=True)


def entry_item(log_ring_id: bytes, entry: Entry) -> Item:
    """An entry, ready to be appended at its log's 20-byte address."""
    body = msgspec.msgpack.encode(entry)
    key = ItemKey(log_ring_id, entry.owner, Kind.LOG, leaf(StatementType.LOG_ENTRY, body))
    return Item(key, pack_statement(StatementType.LOG_ENTRY, body), b"")


def decode_entry(statement: bytes) -> Entry:
    """The entry in a statement.

    :raises peerstore.errors.BadMessage: when it is none.
    """
    return _read(unpack_statement(statement, StatementType.LOG_ENTRY))


def entry_of(item: Item) -> Entry:
    """Check an entry against its name, and read it.

    :raises peerstore.errors.BadMessage: saying what does not fit.
    """
    if len(item.statement) > MAX_STATEMENT or item.data:
        raise BadMessage("a log entry is larger than an entry can be.")
    body = unpack_statement(item.statement, StatementType.LOG_ENTRY)
    entry = _read(body)
    if entry.owner != item.key.owner or leaf(StatementType.LOG_ENTRY, body) != item.key.element:
        raise BadMessage("a log entry is stored under another's name.")
    return entry


def pack_name(record: NameRecord) -> bytes:
    """A name as it goes into an operation; sealing will be added here."""
    return msgspec.msgpack.encode(record)


def unpack_name(sealed: bytes) -> NameRecord:
    """The reverse of :func:`pack_name`.

    :raises peerstore.errors.BadMessage: when it is none.
    """
    try:
        return _names.decode(sealed)
    except msgspec.DecodeError as error:
        raise BadMessage(f"a name in the log cannot be read: {error}.") from error


def _read(body: bytes) -> Entry:
    try:
        entry = _entries.decode(body)
    except msgspec.DecodeError as error:
        raise BadMessage(f"a log entry cannot be read: {error}.") from error
    sound = (
        len(entry.owner) == 20
        and len(entry.device) == 16
        and len(entry.previous) == 32
        and 0 < entry.number < 1 << 63
        and 0 <= entry.clock < 1 << 63
        and (entry.number == 1) == (entry.previous == NO_ENTRY)
        and len(entry.seen) <= MAX_SEEN
        and len(entry.operations) <= MAX_OPERATIONS
        and all(len(op.resource) == 20 and len(op.version) == 32 for op in entry.operations)
    )
    if not sound:
        raise BadMessage("a log entry has fields out of range.")
    return entry
