"""The SQL of a node's database, one function per question.  All of it blocks."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from peerstore.errors import CorruptData
from peerstore.items import ALL_KINDS, Item, ItemKey, Kind
from peerstore.storage.digests import RangeHash, arcs
from peerstore.storage.schema import REFILL, content_crc, item_crc, setting_crc
from peerstore.transactions.entry import decode_entry

__all__ = [
    "Held",
    "Place",
    "Row",
    "content_at",
    "forget_lost",
    "has",
    "insert",
    "is_lost",
    "keep_setting",
    "key_at",
    "lose",
    "lost",
    "of_resource",
    "orphans",
    "owners_of",
    "place_of",
    "range_digest",
    "read",
    "recount",
    "remove",
    "setting",
    "slice_of",
    "total",
    "usage",
    "walk",
    "wrong_accounts",
]

#: A row's key as it lies there: with rot in it, it may be no ItemKey at all.
Place = tuple[Any, Any, Any, Any]

_WHERE = "ring_id = ? AND owner = ? AND kind = ? AND element = ?"
_KINDS = frozenset(map(int, ALL_KINDS))


class Row(NamedTuple):
    """What the tables hold of an item: *data* is None when it lies in a file,
    and *sound* says whether the bytes are those that were written."""

    statement: bytes
    data: bytes | None
    sound: bool

    @property
    def raw(self) -> bytes:
        """Statement, then data, as they lie there."""
        return self.statement + (self.data or b"")


class Held(NamedTuple):
    """A row of ``item`` with its content, as they lie there: their checksums
    (*sealed*, *crc*), the *content*'s number, and what it holds."""

    sealed: Any
    content: int
    statement: bytes
    data: bytes | None
    crc: int


def place_of(key: ItemKey) -> tuple[bytes, bytes, int, bytes]:
    """A key as the tables have it."""
    return (key.ring_id, key.owner, int(key.kind), key.element)


def key_at(place: Place) -> ItemKey | None:
    """The key in a row; None when rot has made it none."""
    ring_id, owner, kind, element = place
    if not all(isinstance(part, bytes) for part in (ring_id, owner, element)) or kind not in _KINDS:
        return None
    key = ItemKey(ring_id, owner, Kind(kind), element)
    return key if key.well_formed() else None


def insert(db: sqlite3.Connection, item: Item, data: bytes | None) -> bool:
    """Add one item inside the caller's transaction; false if it was there.

    *data* is None when it lies in a file.  What was there, and has rotted, is
    replaced: whoever is told that it is kept takes that for a promise.

    :raises peerstore.errors.BadMessage: for a log entry that is none.
    """
    key = item.key
    forget_lost(db, key)
    there = read(db, key)
    if there is not None:
        if there.sound:
            return False
        remove(db, place_of(key))
    crc = content_crc(item.statement, data)
    content = db.execute(
        "INSERT INTO content (statement, data, crc) VALUES (?, ?, ?)", (item.statement, data, crc)
    ).lastrowid
    sealed = item_crc(*place_of(key), item.size, crc)
    db.execute("INSERT INTO item VALUES (?, ?, ?, ?, ?, ?, ?)", (*place_of(key), item.size, content, sealed))
    db.execute(
        "INSERT INTO account VALUES (?, ?, 1) ON CONFLICT (owner) DO UPDATE"
        " SET bytes = bytes + excluded.bytes, items = items + 1",
        (key.owner, item.size),
    )
    if key.kind == Kind.LOG:
        entry = decode_entry(item.statement)
        db.execute(
            "INSERT OR IGNORE INTO chain VALUES (?, ?, ?, ?, ?)",
            (key.ring_id, key.owner, entry.device, entry.number, key.element),
        )
    return True


def has(db: sqlite3.Connection, key: ItemKey) -> bool:
    """Whether a key is there."""
    return db.execute(f"SELECT 1 FROM item WHERE {_WHERE}", place_of(key)).fetchone() is not None


def read(db: sqlite3.Connection, key: ItemKey) -> Row | None:
    """One item's rows, checked against what was written."""
    found = db.execute(
        "SELECT size, item.crc, statement, data, content.crc FROM item"
        f" LEFT JOIN content ON content.id = item.content WHERE {_WHERE}",
        place_of(key),
    ).fetchone()
    if found is None:
        return None
    size, sealed, statement, data, crc = found
    if not isinstance(statement, bytes) or not isinstance(data, bytes | None):
        return Row(b"", None, False)
    sound = crc == content_crc(statement, data) and sealed == item_crc(*place_of(key), size, crc)
    return Row(statement, data, sound)


def content_at(db: sqlite3.Connection, place: Place) -> Held | None:
    """A row and its content, unchecked; None when one of them is missing."""
    found = db.execute(
        "SELECT item.crc, content.id, statement, data, content.crc FROM item JOIN content ON content.id = item.content"
        f" WHERE {_WHERE}",
        place,
    ).fetchone()
    return None if found is None else Held(*found)


def orphans(db: sqlite3.Connection) -> list[Held]:
    """Content that no item has."""
    rows = db.execute("SELECT NULL, id, statement, data, crc FROM content WHERE id NOT IN (SELECT content FROM item)")
    return [Held(*row) for row in rows]


def remove(db: sqlite3.Connection, place: Place, readable: bool = True) -> bool:
    """Delete one item inside the caller's transaction, whatever is wrong
    with its rows.

    :param readable: false leaves its content alone, which cannot be read:
        trying to would spoil the transaction.
    """
    found = db.execute(f"SELECT size, content, crc FROM item WHERE {_WHERE}", place).fetchone()
    if found is None:
        return False
    size, content, sealed = found
    ring_id, owner, kind, element = place
    db.execute(f"DELETE FROM item WHERE {_WHERE}", place)
    held = db.execute("SELECT crc FROM content WHERE id = ?", (content,)).fetchone() if readable else None
    # Where rot made this one point to another's content, that one stays.
    if held is not None and item_crc(*place, size, held[0]) == sealed:
        db.execute("DELETE FROM content WHERE id = ?", (content,))
    db.execute("UPDATE account SET bytes = bytes - ?, items = items - 1 WHERE owner = ?", (size, owner))
    if kind == Kind.LOG:
        db.execute("DELETE FROM chain WHERE ring_id = ? AND owner = ? AND element = ?", (ring_id, owner, element))
    return True


def lose(db: sqlite3.Connection, key: ItemKey, why: str) -> None:
    """Note that an item was here, and is to be fetched again."""
    db.execute("INSERT OR REPLACE INTO lost VALUES (?, ?, ?, ?, ?)", (*place_of(key), why))


def forget_lost(db: sqlite3.Connection, key: ItemKey) -> bool:
    """It is here again, or nobody has it; whether it was noted."""
    return db.execute(f"DELETE FROM lost WHERE {_WHERE}", place_of(key)).rowcount > 0


def lost(db: sqlite3.Connection, limit: int = -1, skip: int = 0) -> list[tuple[ItemKey, str]]:
    """What is to be fetched again, and how it was lost; -1 is all of it.
    Chunks come last: what is voted on is in doubt until it is back."""
    rows = db.execute(
        "SELECT ring_id, owner, kind, element, why FROM lost"
        " ORDER BY kind DESC, ring_id, owner, element LIMIT ? OFFSET ?",
        (limit, skip),
    )
    return [(key, str(why)) for *place, why in rows if (key := key_at(tuple(place))) is not None]  # type: ignore[arg-type]


def is_lost(db: sqlite3.Connection, key: ItemKey) -> bool:
    """Whether an item is noted as lost."""
    return db.execute(f"SELECT 1 FROM lost WHERE {_WHERE}", place_of(key)).fetchone() is not None


def walk(db: sqlite3.Connection, after: Place | None, limit: int) -> list[Place]:
    """The next rows behind a place, in the order of their keys: each key as
    it lies there."""
    where, values = ("", ()) if after is None else ("WHERE (ring_id, owner, kind, element) > (?, ?, ?, ?)", after)
    rows = db.execute(
        f"SELECT ring_id, owner, kind, element FROM item {where} ORDER BY ring_id, owner, kind, element LIMIT ?",
        (*values, limit),
    )
    return rows.fetchall()


def setting(db: sqlite3.Connection, name: str) -> bytes | None:
    """The bytes kept under *name*.

    :raises peerstore.errors.CorruptData: when they are not those kept.
    """
    # All columns: a folder of version 1, which is looked at before it is
    # brought up to date, has no checksum here.
    row = db.execute("SELECT * FROM setting WHERE name = ?", (name,)).fetchone()
    if row is None:
        return None
    value = row[1]
    if not isinstance(value, bytes) or (len(row) > 2 and row[2] != setting_crc(name, value)):
        raise CorruptData(f"The setting {name!r} in the data folder has rotted.", REFILL)
    return value


def keep_setting(db: sqlite3.Connection, name: str, value: bytes) -> None:
    """Keep bytes under *name*, inside the caller's transaction."""
    db.execute("INSERT OR REPLACE INTO setting VALUES (?, ?, ?)", (name, value, setting_crc(name, value)))


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


def wrong_accounts(db: sqlite3.Connection) -> list[bytes]:
    """Owners whose account is not the sum of their items."""
    rows = db.execute(
        "SELECT owner, SUM(bytes), SUM(items) FROM (SELECT owner, bytes, items FROM account"
        " UNION ALL SELECT owner, -SUM(size), -COUNT(*) FROM item GROUP BY owner) GROUP BY owner"
        " HAVING SUM(bytes) <> 0 OR SUM(items) <> 0"
    )
    return [owner for owner, _, _ in rows]


def recount(db: sqlite3.Connection, owner: bytes) -> None:
    """Make one account anew."""
    db.execute("DELETE FROM account WHERE owner = ?", (owner,))
    db.execute(
        "INSERT INTO account SELECT owner, SUM(size), COUNT(*) FROM item WHERE owner = ? GROUP BY owner", (owner,)
    )


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
            values = place_of(cursor)
            cursor = None
        wanted = limit - len(keys)
        rows = db.execute(
            f"SELECT ring_id, owner, kind, element FROM item WHERE {where} AND ring_id <= ?{_of(kinds)}"
            " ORDER BY ring_id, owner, kind, element LIMIT ?",
            (*values, high, wanted),
        )
        places = rows.fetchall()
        keys.extend(key for place in places if (key := key_at(place)) is not None)
        if len(places) >= wanted:
            return keys, (keys[-1] if keys else None)
    return keys, None


def range_digest(db: sqlite3.Connection, after: bytes, through: bytes, kinds: Sequence[Kind]) -> tuple[int, bytes]:
    """(count, SHA-256) of the keys in (after, through]."""
    digest = RangeHash()
    for low, inclusive, high in arcs(after, through):
        start = "ring_id >= ?" if inclusive else "ring_id > ?"
        rows = db.execute(
            f"SELECT ring_id, owner, kind, element FROM item WHERE {start} AND ring_id <= ?{_of(kinds)}"
            " ORDER BY ring_id, owner, kind, element",
            (low, high),
        )
        digest.add(_packed(rows))
    return digest.count, digest.digest()


def _packed(rows: Iterable[Place]) -> Iterator[bytes]:
    """Keys in a digest.  What rot has made no key is left out: so it shows as
    a difference, and the thing that it was is fetched from elsewhere."""
    byte = {int(kind): bytes([kind]) for kind in ALL_KINDS}
    for ring_id, owner, kind, element in rows:
        try:
            packed: bytes = ring_id + owner + byte[kind] + element
        except (KeyError, TypeError):
            continue
        if len(packed) == 73:
            yield packed


def total(db: sqlite3.Connection) -> int:
    """Bytes of all owners."""
    return int(db.execute("SELECT COALESCE(SUM(bytes), 0) FROM account").fetchone()[0])


def usage(db: sqlite3.Connection, owner: bytes) -> tuple[int, int]:
    """(bytes, items) of one owner."""
    row = db.execute("SELECT bytes, items FROM account WHERE owner = ?", (owner,)).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def _of(kinds: Sequence[Kind]) -> str:
    """The condition for these kinds; none at all when all are meant."""
    if not kinds or set(kinds) == set(ALL_KINDS):
        return ""
    return f" AND kind IN ({','.join(str(int(kind)) for kind in kinds)})"
