"""The entries of logs in their order: the SQL of chains.  All of it blocks.

Chains say nothing that the entries do not say themselves; they are an index,
and are made anew from the entries where they do not fit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from peerstore.items import ItemKey, Kind
from peerstore.storage import tables
from peerstore.transactions.entry import decode_entry

__all__ = ["chain_heads", "chained", "named", "read_since", "rechain", "stray_logs"]

_LAST_NUMBER = (1 << 63) - 1


def chained(db: sqlite3.Connection, key: ItemKey, statement: bytes) -> bool:
    """Whether an entry is in its chain, at its number."""
    entry = decode_entry(statement)
    found = db.execute(
        "SELECT 1 FROM chain WHERE ring_id = ? AND owner = ? AND device = ? AND number = ? AND element = ?",
        (key.ring_id, key.owner, entry.device, entry.number, key.element),
    )
    return found.fetchone() is not None


def named(db: sqlite3.Connection, key: ItemKey) -> bool:
    """Whether some chain of its log names an entry."""
    found = db.execute(
        "SELECT 1 FROM chain WHERE ring_id = ? AND owner = ? AND element = ?", (key.ring_id, key.owner, key.element)
    )
    return found.fetchone() is not None


def rechain(db: sqlite3.Connection, ring_id: bytes, owner: bytes) -> None:
    """Make the chains of one log anew, from the entries that are there and
    sound."""
    db.execute("DELETE FROM chain WHERE ring_id = ? AND owner = ?", (ring_id, owner))
    for key in tables.of_resource(db, ring_id, owner, Kind.LOG):
        row = tables.read(db, key)
        if row is None or not row.sound:
            continue
        entry = decode_entry(row.statement)
        db.execute(
            "INSERT OR IGNORE INTO chain VALUES (?, ?, ?, ?, ?)",
            (ring_id, owner, entry.device, entry.number, key.element),
        )


def stray_logs(db: sqlite3.Connection) -> list[tuple[bytes, bytes]]:
    """(ring id, owner) of chains that name entries which are not there."""
    return db.execute(
        "SELECT DISTINCT chain.ring_id, chain.owner FROM chain LEFT JOIN item ON item.ring_id = chain.ring_id"
        f" AND item.owner = chain.owner AND item.kind = {int(Kind.LOG)} AND item.element = chain.element"
        " WHERE item.element IS NULL"
    ).fetchall()


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
