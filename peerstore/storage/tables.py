"""The SQL of a node's database, one function per question.  All of it blocks."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from peerstore.items import ALL_KINDS, Item, ItemKey, Kind
from peerstore.storage.digests import RangeHash, arcs
from peerstore.transactions.entry import decode_entry

__all__ = [
    "Row",
    "chain_heads",
    "has",
    "insert",
    "keep_setting",
    "of_resource",
    "owners_of",
    "range_digest",
    "read",
    "read_since",
    "remove",
    "setting",
    "slice_of",
    "usage",
]

_WHERE = "ring_id = ? AND owner = ? AND kind = ? AND element = ?"
_LAST_NUMBER = (1 << 63) - 1


class Row(NamedTuple):
    """What the tables hold of an item: *data* is None when it lies in a file,
    and *sound* says whether the bytes are those that were written."""

    statement: bytes
    data: bytes | None
    sound: bool


def _values(key: ItemKey) -> tuple[bytes, bytes, int, bytes]:
    return (key.ring_id, key.owner, int(key.kind), key.element)


def insert(db: sqlite3.Connection, item: Item, data: bytes | None) -> bool:
    """Add one item inside the caller's transaction; false if it was there.

    *data* is None when it lies in a file.

    :raises peerstore.errors.BadMessage: for a log entry that is none.
    """
    key = item.key
    if has(db, key):
        return False
    content = db.execute(
        "INSERT INTO content (statement, data, crc) VALUES (?, ?, ?)",
        (item.statement, data, _crc(item.statement, data)),
    ).lastrowid
    db.execute("INSERT INTO item VALUES (?, ?, ?, ?, ?, ?)", (*_values(key), item.size, content))
    db.execute(
        "INSERT INTO account VALUES (?, ?, 1) ON CONFLICT (owner) DO UPDATE"
        " SET bytes = bytes + excluded.bytes, items = items + 1",
        (key.owner, item.size),
    )
    if key.kind == Kind.LOG:
        entry = decode_entry(item.statement)
        db.execute(
            "INSERT INTO chain VALUES (?, ?, ?, ?, ?)",
            (key.ring_id, key.owner, entry.device, entry.number, key.element),
        )
    return True


def has(db: sqlite3.Connection, key: ItemKey) -> bool:
    """Whether a key is there."""
    return db.execute(f"SELECT 1 FROM item WHERE {_WHERE}", _values(key)).fetchone() is not None


def read(db: sqlite3.Connection, key: ItemKey) -> Row | None:
    """One item's row, checked against what was written."""
    found = db.execute(
        f"SELECT statement, data, crc FROM item LEFT JOIN content ON content.id = item.content WHERE {_WHERE}",
        _values(key),
    ).fetchone()
    if found is None:
        return None
    statement, data, crc = found
    if not isinstance(statement, bytes) or not isinstance(data, bytes | None):
        return Row(b"", None, False)
    return Row(statement, data, crc == _crc(statement, data))


def remove(db: sqlite3.Connection, key: ItemKey) -> bool:
    """Delete one item inside the caller's transaction."""
    found = db.execute(f"SELECT size, content FROM item WHERE {_WHERE}", _values(key)).fetchone()
    if found is None:
        return False
    size, content = found
    db.execute(f"DELETE FROM item WHERE {_WHERE}", _values(key))
    db.execute("DELETE FROM content WHERE id = ?", (content,))
    db.execute("UPDATE account SET bytes = bytes - ?, items = items - 1 WHERE owner = ?", (size, key.owner))
    if key.kind == Kind.LOG:
        db.execute(
            "DELETE FROM chain WHERE ring_id = ? AND owner = ? AND element = ?", (key.ring_id, key.owner, key.element)
        )
    return True


def setting(db: sqlite3.Connection, name: str) -> bytes | None:
    """The bytes kept under *name*."""
    row = db.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
    return bytes(row[0]) if row else None


def keep_setting(db: sqlite3.Connection, name: str, value: bytes) -> None:
    """Keep bytes under *name*, inside the caller's transaction."""
    db.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, value))


def owners_of(db: sqlite3.Connection, digest: bytes) -> list[bytes]:
    """Who has posted the chunk with this 32-byte hash."""
    rows = db.execute(
        "SELECT owner FROM item WHERE ring_id = ? AND kind = ? AND element = ? ORDER BY owner",
        (digest[:20], int(Kind.CHUNK), digest),
    )
    return [owner for (owner,) in rows]


def of_resource(db: sqlite3.Connection, ring_id: bytes, owner: bytes | None, kind: Kind) -> list[ItemKey]:
    """All keys of one kind at a ring id, of one owner or of all."""
    if owner is None:
        rows = db.execute(
            "SELECT owner, element FROM item WHERE ring_id = ? AND kind = ? ORDER BY owner, element",
            (ring_id, int(kind)),
        )
    else:
        rows = db.execute(
            "SELECT owner, element FROM item WHERE ring_id = ? AND owner = ? AND kind = ? ORDER BY element",
            (ring_id, owner, int(kind)),
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
            (ring_id, owner, device, min(seen.get(device, 0), _LAST_NUMBER), limit + 1 - len(found)),
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
    for low, inclusive, high in arcs(after, through):
        where = "ring_id >= ?" if inclusive else "ring_id > ?"
        values: tuple[object, ...] = (low,)
        if cursor is not None:
            if not (cursor.ring_id >= low if inclusive else cursor.ring_id > low) or cursor.ring_id > high:
                continue
            where = "(ring_id, owner, kind, element) > (?, ?, ?, ?)"
            values = _values(cursor)
            cursor = None
        rows = db.execute(
            f"SELECT ring_id, owner, kind, element FROM item WHERE {where} AND ring_id <= ?{_of(kinds)}"
            " ORDER BY ring_id, owner, kind, element LIMIT ?",
            (*values, high, limit - len(keys)),
        )
        keys.extend(ItemKey(ring_id, owner, Kind(kind), element) for ring_id, owner, kind, element in rows)
        if len(keys) >= limit:
            return keys, keys[-1]
    return keys, None


def range_digest(db: sqlite3.Connection, after: bytes, through: bytes, kinds: Sequence[Kind]) -> tuple[int, bytes]:
    """(count, SHA-256) of the keys in (after, through]."""
    digest = RangeHash()
    byte = {int(kind): bytes([kind]) for kind in ALL_KINDS}
    for low, inclusive, high in arcs(after, through):
        start = "ring_id >= ?" if inclusive else "ring_id > ?"
        rows = db.execute(
            f"SELECT ring_id, owner, kind, element FROM item WHERE {start} AND ring_id <= ?{_of(kinds)}"
            " ORDER BY ring_id, owner, kind, element",
            (low, high),
        )
        digest.add(ring_id + owner + byte[kind] + element for ring_id, owner, kind, element in rows)
    return digest.count, digest.digest()


def usage(db: sqlite3.Connection, owner: bytes) -> tuple[int, int]:
    """(bytes, items) of one owner."""
    row = db.execute("SELECT bytes, items FROM account WHERE owner = ?", (owner,)).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def _of(kinds: Sequence[Kind]) -> str:
    """The condition for these kinds; none at all when all are meant."""
    if not kinds or set(kinds) == set(ALL_KINDS):
        return ""
    return f" AND kind IN ({','.join(str(int(kind)) for kind in kinds)})"


def _crc(statement: bytes, data: bytes | None) -> int:
    return zlib.crc32(data or b"", zlib.crc32(statement))
