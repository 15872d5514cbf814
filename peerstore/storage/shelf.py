"""Where an item lies: its row, and the file of a larger chunk.

Everything here blocks.  What takes a :class:`Transaction` runs in the writing
thread and nowhere else, so that no two of them ever meet at one file.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from peerstore import ids
from peerstore.errors import CorruptData
from peerstore.items import Item, ItemKey, Kind
from peerstore.storage import tables
from peerstore.storage.chunk_files import ChunkFiles
from peerstore.storage.writer import Transaction

__all__ = ["SMALL", "Rotten", "Shelf", "needs_file"]

#: Chunks up to this size live in the database.
SMALL = 64 * 1024


class Rotten(NamedTuple):
    """An item whose bytes are not what was put, and how that showed."""

    key: ItemKey
    why: str


def needs_file(item: Item) -> bool:
    """Whether an item's data goes into a file of its own."""
    return item.key.kind == Kind.CHUNK and len(item.data) > SMALL


class Shelf:
    """Items in tables and files.

    :param files: where larger chunks lie.
    """

    def __init__(self, files: ChunkFiles) -> None:
        self._files = files

    # -- reading, from any thread ----------------------------------------------------

    def load(self, db: sqlite3.Connection, key: ItemKey) -> Item | Rotten | None:
        """One item, with its bytes checked."""
        row = tables.read(db, key)
        if row is None:
            return None
        if not row.sound:
            return Rotten(key, "Its row has rotted.")
        data = row.data
        if data is None:
            try:
                data = self._files.read(key.element, key.owner)
            except CorruptData as error:
                # Or it was removed between the two looks: that is no rot.
                return Rotten(key, error.what) if tables.has(db, key) else None
        elif key.kind == Kind.CHUNK and hashlib.sha256(data).digest() != key.element:
            return Rotten(key, "Its bytes are not those that its name says.")
        return Item(key, row.statement, data)

    def absent(self, db: sqlite3.Connection, items: Sequence[Item]) -> list[int]:
        """The places of those items that need a file which is not there."""
        return [
            place
            for place, item in enumerate(items)
            if needs_file(item)
            and not (tables.has(db, item.key) and self._files.present(item.key.element, item.key.owner, len(item.data)))
        ]

    def stage(self, items: Sequence[Item], places: Sequence[int]) -> dict[int, Path]:
        """Bring the data of some items onto the disk.

        :raises peerstore.errors.StorageError: and nothing is left behind.
        """
        staged: dict[int, Path] = {}
        try:
            for place in places:
                staged[place] = self._files.stage(items[place].data)
        except BaseException:
            self.discard(staged)
            raise
        return staged

    def discard(self, staged: Mapping[int, Path]) -> None:
        """Remove what was staged and not placed."""
        for path in staged.values():
            path.unlink(missing_ok=True)

    # -- in the writing thread ---------------------------------------------------

    def insert(self, tx: Transaction, items: Sequence[Item], staged: Mapping[int, Path]) -> list[bool] | None:
        """Add items; true where new.  None when a file that was there before
        is there no longer, and all is to be staged: nothing was done then."""
        if any(place not in staged for place in self.absent(tx.db, items)):
            return None
        new = []
        for place, item in enumerate(items):
            key = item.key
            if place in staged:
                # Also when the row is known: its file may be the one missing.
                tx.otherwise.append(partial(self._unlink, tx.db, key))
                tx.folders.add(self._files.place(staged[place], key.element, key.owner))
            new.append(tables.insert(tx.db, item, None if needs_file(item) else item.data))
        return new

    def forget(self, tx: Transaction, keys: Sequence[ItemKey]) -> int:
        """Remove items; how many there were."""
        gone = [key for key in keys if tables.remove(tx.db, key)]
        # Files only once nothing tells of them any more.
        tx.afterwards.extend(partial(self._unlink, tx.db, key) for key in gone if key.kind == Kind.CHUNK)
        return len(gone)

    def condemn(self, tx: Transaction, keys: Sequence[ItemKey]) -> list[Rotten]:
        """Quarantine and remove those that are still rotten: somebody may
        have put a good copy since it was looked at."""
        rotten = [found for found in (self.load(tx.db, key) for key in keys) if isinstance(found, Rotten)]
        for key, _why in rotten:
            if key.kind == Kind.CHUNK:
                self._files.quarantine(key.element, key.owner)
            tables.remove(tx.db, key)
        return rotten

    def sweep(self, db: sqlite3.Connection) -> int:
        """Remove files that no row tells of; how many.  Before the writing
        thread starts."""
        swept = 0
        for digest, owner in self._files.names():
            if not tables.has(db, ItemKey(ids.chunk_ring_id(digest), owner, Kind.CHUNK, digest)):
                self._files.remove(digest, owner)
                swept += 1
        return swept

    def _unlink(self, db: sqlite3.Connection, key: ItemKey) -> None:
        # A later job of the same transaction may have put it again.
        if not tables.has(db, key):
            self._files.remove(key.element, key.owner)
