"""What a node holds, for people: ``peerstore node keys DATA``."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from peerstore.errors import UsageError
from peerstore.items import ItemKey, Kind
from peerstore.storage import tables
from peerstore.storage.schema import DATABASE, database_error, open_reader
from peerstore.util.durable import disk_error

__all__ = ["ListedKey", "list_keys", "list_lost"]

PAGE = 1000


class ListedKey(NamedTuple):
    """One stored item: ids as bytes, size in bytes."""

    ring_id: bytes
    owner: bytes
    kind: Kind
    element: bytes
    size: int


def list_keys(folder: Path) -> Iterator[ListedKey]:
    """Everything in a node's data folder, sorted by ring id.

    Reads only, and may run while the node does; a page at a time, so that a
    long listing holds up nothing.

    :raises peerstore.errors.UsageError: when it is no node's data folder.
    """
    path = folder / DATABASE
    db = _open(path)
    last: tuple[bytes, bytes, int, bytes] = (b"", b"", 0, b"")
    try:
        while True:
            rows = db.execute(
                "SELECT ring_id, owner, kind, element, size FROM item"
                " WHERE (ring_id, owner, kind, element) > (?, ?, ?, ?) ORDER BY ring_id, owner, kind, element LIMIT ?",
                (*last, PAGE),
            ).fetchall()
            for ring_id, owner, kind, element, size in rows:
                yield ListedKey(ring_id, owner, Kind(kind), element, size)
            if len(rows) < PAGE:
                return
            last = rows[-1][:4]
    except sqlite3.Error as error:
        raise database_error(error, path) from error
    finally:
        db.close()


def list_lost(folder: Path) -> list[tuple[ItemKey, str]]:
    """What was in a node's data folder, rotted, and has not come back yet,
    each with how that showed.

    :raises peerstore.errors.UsageError: when it is no node's data folder.
    """
    path = folder / DATABASE
    db = _open(path)
    try:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'lost'").fetchone():
            # A folder of version 1, which noted nothing.
            return []
        return tables.lost(db)
    except sqlite3.Error as error:
        raise database_error(error, path) from error
    finally:
        db.close()


def _open(path: Path) -> sqlite3.Connection:
    try:
        there = path.exists()
    except OSError as error:
        raise disk_error(error, path) from error
    if not there:
        raise UsageError(f"{path.parent} is no node's data folder.", "Name the folder that was given as --data.")
    return open_reader(path)
