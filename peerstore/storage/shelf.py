"""Where an item lies: its row, and the file of a larger chunk.

Everything here blocks.  What takes a :class:`Transaction` runs in the writing
thread and nowhere else, so that no two of them ever meet at one file.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from peerstore import ids
from peerstore.crypto.statements import StatementType, leaf, unpack_statement
from peerstore.errors import BadMessage, CorruptData
from peerstore.items import Item, ItemKey, Kind
from peerstore.storage import chains, tables
from peerstore.storage.chunk_files import ChunkFiles
from peerstore.storage.schema import is_malformed
from peerstore.storage.writer import Transaction

__all__ = ["SMALL", "Condemned", "Rotten", "Shelf", "misnamed", "needs_file"]

#: What the names of things other than chunks are made from.
_STATEMENTS = {
    Kind.HEAD: (StatementType.HEAD,),
    Kind.LOG: (StatementType.LOG_ENTRY,),
    Kind.RECORD: (StatementType.NODE, StatementType.USER),
}
#: Chunks up to this size live in the database.
SMALL = 64 * 1024


class Rotten(NamedTuple):
    """An item whose bytes are not what was put, and how that showed."""

    key: ItemKey
    why: str
    #: False when its rows lie on a page that SQLite cannot read.
    readable: bool = True


class Condemned(NamedTuple):
    """What was moved aside, and which of the keys in question are to be
    fetched again, now or since before."""

    rotten: tuple[Rotten, ...]
    lost: frozenset[ItemKey]


def misnamed(item: Item) -> str:
    """What is wrong when a statement is not the one that its item is named
    by; empty for one that is.  Cheap enough for every read: content has a
    checksum, and a chunk its hash, but only this ties a head or an entry to
    its name as firmly."""
    wanted = _STATEMENTS.get(item.key.kind, ())
    for kind in wanted:
        try:
            if leaf(kind, unpack_statement(item.statement, kind)) == item.key.element:
                return ""
        except BadMessage:
            continue
    return "" if not wanted else "It is not the one that its name says."


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
        try:
            row = tables.read(db, key)
        except sqlite3.DatabaseError as error:
            if not is_malformed(error):
                raise
            # Its page, and perhaps that of a few others.
            return Rotten(key, f"Its row cannot be read ({error}).", readable=False)
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
        item = Item(key, row.statement, data)
        why = misnamed(item)
        return Rotten(key, why) if why else item

    def load_entry(self, db: sqlite3.Connection, key: ItemKey) -> Item | Rotten | None:
        """One entry that a chain names."""
        found = self.load(db, key)
        if found is None and chains.named(db, key):
            return Rotten(key, "Its chain names it, and it is not there.")
        return found

    def absent(self, db: sqlite3.Connection, items: Sequence[Item], thorough: bool = False) -> list[int]:
        """The places of those items that need a file which is not there.

        :param thorough: read what is there; one that has rotted is no file.
        """
        return [
            place
            for place, item in enumerate(items)
            if needs_file(item) and not (tables.has(db, item.key) and self._is_there(item, thorough))
        ]

    def _is_there(self, item: Item, thorough: bool) -> bool:
        if not self._files.present(item.key.element, item.key.owner, len(item.data)):
            return False
        return not thorough or self.file(item.key) is not None

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
        gone = [key for key in keys if tables.remove(tx.db, tables.place_of(key))]
        # Files only once nothing tells of them any more.
        tx.afterwards.extend(partial(self._unlink, tx.db, key) for key in gone if key.kind == Kind.CHUNK)
        return len(gone)

    def set_aside(self, tx: Transaction, rotten: Sequence[Rotten], keys: Iterable[ItemKey]) -> Condemned:
        """Move these aside, and note that they are to be fetched again; of
        *keys* it is told which are.

        Cut off anywhere, it is begun again by the next who looks: a chunk
        whose file has been moved is one whose file is missing.
        """
        for key, why, readable in rotten:
            if key.kind == Kind.CHUNK:
                self._files.condemn(key.element, key.owner)
            if readable:
                self._note(tx.db, key)
            tables.remove(tx.db, tables.place_of(key), readable)
            tables.lose(tx.db, key, why)
        return Condemned(tuple(rotten), frozenset(key for key in keys if tables.is_lost(tx.db, key)))

    def file(self, key: ItemKey) -> bytes | None:
        """What a chunk's own file holds; None when that is not the chunk."""
        try:
            return self._files.read(key.element, key.owner)
        except CorruptData:
            return None

    def _note(self, db: sqlite3.Connection, key: ItemKey) -> None:
        """Keep what rows hold for a person."""
        row = tables.read(db, key)
        if row is not None and row.raw and (row.data is not None or key.kind != Kind.CHUNK):
            name = f"{key.kind.name.lower()}-{key.element.hex()}.{key.owner.hex()}"
            self._files.quarantine.note(name, row.raw)

    def sweep(self, db: sqlite3.Connection) -> int:
        """Remove files that no row tells of; how many.  Before the writing
        thread starts."""
        swept = 0
        for digest, owner in self._files.names():
            # Also where the rows cannot be read: then nothing is removed.
            if not tables.has(db, ItemKey(ids.chunk_ring_id(digest), owner, Kind.CHUNK, digest)):
                self._files.remove(digest, owner)
                swept += 1
        return swept

    def _unlink(self, db: sqlite3.Connection, key: ItemKey) -> None:
        # A later job of the same transaction may have put it again.
        if not tables.has(db, key):
            self._files.remove(key.element, key.owner)
