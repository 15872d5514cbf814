"""What a node holds, for people: ``peerstore node keys DATA``."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from peerstore.errors import UsageError
from peerstore.items import Kind
from peerstore.storage.schema import DATABASE, database_error, open_reader

__all__ = ["ListedKey", "list_keys"]


class ListedKey(NamedTuple):
    """One stored item: ids as bytes, size in bytes."""

    ring_id: bytes
    owner: bytes
    kind: Kind
    element: bytes
    size: int


def list_keys(folder: Path) -> Iterator[ListedKey]:
    """Everything in a node's data folder, sorted by ring id.

    Reads only, and may run while the node does.

    :raises peerstore.errors.UsageError: when it is no node's data folder.
    """
    path = folder / DATABASE
    if not path.exists():
        raise UsageError(f"{folder} is no node's data folder.", "Name the folder that was given as --data.")
    db = open_reader(path)
    try:
        rows = db.execute("SELECT ring_id, owner, kind, element, size FROM item ORDER BY ring_id, owner, kind, element")
        for ring_id, owner, kind, element, size in rows:
            yield ListedKey(ring_id, owner, Kind(kind), element, size)
    except sqlite3.Error as error:
        raise database_error(error, path) from error
    finally:
        db.close()
