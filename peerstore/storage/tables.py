"""The SQL of a node's database, one function per question.  All of it blocks."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from peerstore.items import ALL_KINDS, Item, ItemKey, Kind
from peerstore.storage.digests import RangeHash, arcs
from peerstore.transactions.entry import decode_entry

__all__ = ["Row", "chain_heads", "insert", "of_resource", "read", "read_since", "remove", "slice_of", "usage"]

#: (statement, data or None when it lies in a file)
Row = tuple[bytes, bytes | None]
_WHERE = "ring_id = ? AND owner = ? AND kind = ? AND element = ?"


def _values(key: ItemKey) -> tuple[bytes, bytes, int, bytes]:
    return (key.ring_id, key.owner, int(key.kind), key.element)


def insert(db: sqlite3.Connection, item: Item, data: bytes | None) -> bool:
    """Add one item inside the caller's transaction; false if it was there."""
    cursor = db.execute(
        "INSERT OR IGNORE INTO item VALUES (?, ?, ?, ?, ?, ?, ?)",
        (*_values(item.key), item.size, item.statement, data),
    )
    if cursor.rowcount and item.key.kind == Kind.LOG:
        entry = decode_entry(item.statement)
        db.execute(
            "INSERT OR IGNORE INTO chain VALUES (?, ?, ?, ?, ?)",
            (item.key.ring_id, item.key.owner, entry.device, entry.number, item.key.element),
        )
    return bool(cursor.rowcount)


def has(db: sqlite3.Connection, key: ItemKey) -> bool:
    """Whether a key is there."""
    return db.execute(f"SELECT 1 FROM item WHERE {_WHERE}", _values(key)).fetchone() is not None


def read(db: sqlite3.Connection, key: ItemKey) -> Row | None:
    """One item's statement and data."""
    row: Row | None = db.execute(f"SELECT statement, data FROM item WHERE {_WHERE}", _values(key)).fetchone()
    return row


def remove(db: sqlite3.Connection, key: ItemKey) -> bool:
    """Delete one item inside the caller's transaction."""
    if key.kind == Kind.LOG:
        db.execute(
            "DELETE FROM chain WHERE ring_id = ? AND owner = ? AND element = ?", (key.ring_id, key.owner, key.element)
        )
    return bool(db.execute(f"DELETE FROM item WHERE {_WHERE}", _values(key)).rowcount)


def owners_of(db: sqlite3.Connection, digest: bytes) -> list[bytes]:
    """Who has posted the chunk with this 32-byte hash."""
    rows = db.execute(
        "SELECT owner FROM item WHERE ring_id = ? AND kind = ? AND element = ?", (digest[:20], int(Kind.CHUNK), digest)
    )
    return [owner for (owner,) in rows]


def of_resource(db: sqlite3.Connection, ring_id: bytes, owner: bytes | None, kind: Kind) -> list[ItemKey]:
    """All keys of one kind at a ring id, of one owner or of all."""
    if owner is None:
        rows = db.execute("SELECT owner, element FROM item WHERE ring_id = ? AND kind = ?", (ring_id, int(kind)))
    else:
        rows = db.execute(
            "SELECT owner, element FROM item WHERE ring_id = ? AND owner = ? AND kind = ?", (ring_id, owner, int(kind))
        )
    return [ItemKey(ring_id, whose, kind, element) for whose, element in rows]


def chain_heads(db: sqlite3.Connection, ring_id: bytes, owner: bytes) -> dict[bytes, int]:
    """{device: its last number without a gap before it} of one log."""
    heads: dict[bytes, int] = {}
    rows = db.execute(
        "SELECT DISTINCT device, number FROM chain WHERE ring_id = ? AND owner = ? ORDER BY device, number",
        (ring_id, owner),
    )
    for device, number in rows:
        if number == heads.get(device, 0) + 1:
            heads[device] = number
    return heads


def read_since(
    db: sqlite3.Connection, ring_id: bytes, owner: bytes, seen: Mapping[bytes, int], limit: int
) -> tuple[list[ItemKey], bool]:
    """Keys of entries after *seen*, device by device, and whether more follow."""
    found: list[ItemKey] = []
    devices = db.execute(
        "SELECT DISTINCT device FROM chain WHERE ring_id = ? AND owner = ? ORDER BY device", (ring_id, owner)
    ).fetchall()
    for (device,) in devices:
        rows = db.execute(
            "SELECT element FROM chain WHERE ring_id = ? AND owner = ? AND device = ? AND number > ?"
            " ORDER BY number, element LIMIT ?",
            (ring_id, owner, device, seen.get(device, 0), limit + 1 - len(found)),
        )
        found.extend(ItemKey(ring_id, owner, Kind.LOG, element) for (element,) in rows)
        if len(found) > limit:
            return found[:limit], True
    return found, False


def slice_of(
    db: sqlite3.Connection, after: bytes, through: bytes, kinds: Sequence[Kind], cursor: ItemKey | None, limit: int
) -> tuple[list[ItemKey], ItemKey | None]:
    """Keys in (after, through] behind *cursor*, clockwise, and the next cursor."""
    keys: list[ItemKey] = []
    behind = cursor is None
    for low, inclusive, high in arcs(after, through):
        if not behind and cursor is not None and not _in_arc(cursor.ring_id, low, inclusive, high):
            continue
        start = "ring_id >= ?" if inclusive else "ring_id > ?"
        values: list[object] = [low, high, *map(int, kinds)]
        more = ""
        if not behind and cursor is not None:
            more = " AND (ring_id, owner, kind, element) > (?, ?, ?, ?)"
            values.extend(_values(cursor))
        behind = True
        rows = db.execute(
            f"SELECT ring_id, owner, kind, element FROM item WHERE {start} AND ring_id <= ?"
            f" AND kind IN ({','.join('?' * len(kinds))}){more} ORDER BY ring_id, owner, kind, element LIMIT ?",
            (*values, limit - len(keys)),
        )
        keys.extend(ItemKey(ring_id, owner, Kind(kind), element) for ring_id, owner, kind, element in rows)
        if len(keys) >= limit:
            return keys, keys[-1]
    return keys, None


def range_digest(db: sqlite3.Connection, after: bytes, through: bytes, kinds: Sequence[Kind]) -> tuple[int, bytes]:
    """(count, SHA-256) of the keys in (after, through]."""
    digest = RangeHash()
    for low, inclusive, high in arcs(after, through):
        start = "ring_id >= ?" if inclusive else "ring_id > ?"
        rows = db.execute(
            f"SELECT ring_id, owner, kind, element FROM item WHERE {start} AND ring_id <= ?"
            f" AND kind IN ({','.join('?' * len(kinds))}) ORDER BY ring_id, owner, kind, element",
            (low, high, *map(int, kinds)),
        )
        digest.add(ring_id + owner + bytes([kind]) + element for ring_id, owner, kind, element in rows)
    return digest.count, digest.digest()


def usage(db: sqlite3.Connection, owner: bytes) -> tuple[int, int]:
    """(bytes, items) of one owner."""
    total, count = db.execute("SELECT COALESCE(SUM(size), 0), COUNT(*) FROM item WHERE owner = ?", (owner,)).fetchone()
    return int(total), int(count)


def _in_arc(ring_id: bytes, low: bytes, inclusive: bool, high: bytes) -> bool:
    return (ring_id >= low if inclusive else ring_id > low) and ring_id <= high


def all_kinds(kinds: Iterable[Kind]) -> tuple[Kind, ...]:
    """The kinds asked for, or all of them."""
    return tuple(kinds) or ALL_KINDS
