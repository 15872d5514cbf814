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
from peerstore.crypto.statements import StatementType, decode_exactly, leaf, pack_statement, unpack_statement
from peerstore.errors import BadMessage
from peerstore.items import Item, ItemKey, Kind

__all__ = [
    "CONTENT",
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
#: A packed and sealed name: a path of 4 KiB, the folder's name, and room.
MAX_SEALED = 16 * 1024
_LIMIT = 1 << 63


class OperationKind(IntEnum):
    """What an operation does; the numbers are a disk format."""

    UPDATE = 1
    DELETE = 2
    MOVE = 3
    SNAPSHOT = 4
    SETTING = 5
    CHECKPOINT = 6
    RETIRE_DEVICE = 7


#: The kinds that tell of a version of a path.
CONTENT = frozenset({OperationKind.UPDATE, OperationKind.DELETE, OperationKind.MOVE})


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
    """One change: 20-byte resource, 32-byte version, the vector and Lamport
    clock of its head, its name.

    The clock is the head's, not the entry's: who reads heads and who reads the
    log must agree on which of several versions has the name.
    """

    kind: OperationKind
    resource: bytes
    version: bytes
    vector: vectors.Vector
    clock: int
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
    return _read(_body(statement))


def entry_of(item: Item) -> Entry:
    """Check an entry against its name, and read it.

    :raises peerstore.errors.BadMessage: saying what does not fit.
    """
    if item.data:
        raise BadMessage("a log entry has content beside it.")
    body = _body(item.statement)
    entry = _read(body)
    key = item.key
    if key.kind is not Kind.LOG or entry.owner != key.owner or leaf(StatementType.LOG_ENTRY, body) != key.element:
        raise BadMessage("a log entry is stored under another's name.")
    return entry


def pack_name(record: NameRecord) -> bytes:
    """A name as it goes into an operation; sealing will be added here."""
    return msgspec.msgpack.encode(record)


def unpack_name(sealed: bytes) -> NameRecord:
    """The reverse of :func:`pack_name`.

    :raises peerstore.errors.BadMessage: when it is none.
    """
    name = decode_exactly(_names, sealed, "a name in the log")
    sound = (
        0 <= name.kind <= 3
        and 0 <= name.size < _LIMIT
        and -_LIMIT <= name.mtime_ns < _LIMIT
        and 0 <= name.mode <= 0o7777
        and len(name.sha256) in (0, 32)
    )
    if not sound:
        raise BadMessage("a name in the log has fields out of range.")
    return name


def _body(statement: bytes) -> bytes:
    if len(statement) > MAX_STATEMENT:
        raise BadMessage("a log entry is larger than an entry can be.")
    return unpack_statement(statement, StatementType.LOG_ENTRY)


def _read(body: bytes) -> Entry:
    entry = decode_exactly(_entries, body, "a log entry")
    others = [seen.device for seen in entry.seen]
    sound = (
        len(entry.owner) == 20
        and len(entry.device) == 16
        and len(entry.previous) == 32
        and 0 < entry.number < _LIMIT
        and 0 <= entry.clock < _LIMIT
        and 0 <= entry.wall_ns < _LIMIT
        and (entry.number == 1) == (entry.previous == NO_ENTRY)
        and len(entry.seen) <= MAX_SEEN
        and all(len(seen.device) == 16 and len(seen.leaf) == 32 and 0 < seen.number < _LIMIT for seen in entry.seen)
        and others == sorted(set(others))
        and len(entry.operations) <= MAX_OPERATIONS
        and all(_sound(operation) for operation in entry.operations)
    )
    if not sound:
        raise BadMessage("a log entry has fields out of range.")
    return entry


def _sound(operation: Operation) -> bool:
    return (
        len(operation.resource) == 20
        and len(operation.version) == 32
        and vectors.well_formed(operation.vector)
        and (bool(operation.vector) or operation.kind not in CONTENT)
        and 0 <= operation.clock < _LIMIT
        and len(operation.sealed) <= MAX_SEALED
    )
