"""A node's store on a real disk: SQLite, and files for larger chunks."""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from zope.interface import implementer

from peerstore import ids
from peerstore.errors import CorruptData, StorageError, UsageError
from peerstore.interfaces import INodeStore
from peerstore.items import Item, ItemKey, Kind
from peerstore.storage import tables
from peerstore.storage.chunk_files import ChunkFiles
from peerstore.storage.families import ChunkStore, HeadStore, LogStore, RecordStore
from peerstore.storage.schema import DATABASE, database_error, open_database, open_reader
from peerstore.storage.writer import Writer
from peerstore.util.blocking import ThreadRunner
from peerstore.util.durable import disk_error

__all__ = ["SMALL", "SqliteNodeStore"]

#: Chunks up to this size live in the database.
SMALL = 64 * 1024
READERS = 4


@implementer(INodeStore)
class SqliteNodeStore:
    """Everything that one node keeps, in one folder.

    :param folder: the data folder; made when missing, locked while open.
    :param reactor: results of threads are handed back in its thread.
    """

    _log = Logger()

    def __init__(self, folder: Path, reactor: IReactorFromThreads) -> None:
        self.folder = folder
        self._reactor = reactor
        self._path = folder / DATABASE
        self._files = ChunkFiles(folder)
        self._runner = ThreadRunner(reactor, READERS, "peerstore-storage")
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._writer: Writer | None = None
        self._lock = -1
        self.chunks = ChunkStore(self)
        self.heads = HeadStore(self)
        self.logs = LogStore(self)
        self.records = RecordStore(self)

    # -- life --------------------------------------------------------------------

    def start(self) -> Deferred[None]:
        """Lock and open the folder; fails with a StorageError or UsageError."""
        self._runner.start()

        def opened(db: sqlite3.Connection) -> None:
            self._writer = Writer(self._reactor, db, self._path)
            self._writer.start()

        return self._runner.run(self._open).addCallback(opened)

    def stop(self) -> Deferred[None]:
        """Commit what waits, close, and unlock."""

        def closed(_: object) -> Deferred[None]:
            self._writer = None
            for reader in self._readers:
                reader.close()
            self._readers.clear()
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1
            return self._runner.stop()

        ending = self._writer.stop() if self._writer is not None else succeed(None)
        return ending.addCallback(closed)

    def _open(self) -> sqlite3.Connection:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise disk_error(error, self.folder) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            self._lock = -1
            raise UsageError(
                f"Another node is running on {self.folder}.", "Stop it first, or name another folder with --data."
            ) from error
        db = open_database(self._path)
        self._files.open()
        return db

    # -- settings ----------------------------------------------------------------

    def setting(self, name: str) -> Deferred[bytes | None]:
        """The bytes kept under *name*, or None."""

        def look(db: sqlite3.Connection) -> bytes | None:
            row = db.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
            return bytes(row[0]) if row else None

        return self._reading(look)

    def keep_setting(self, name: str, value: bytes) -> Deferred[None]:
        """Keep bytes under *name*, durably."""

        def write(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, value))

        return self._writing(write)

    # -- items -----------------------------------------------------------------

    def put(self, items: Sequence[Item]) -> Deferred[list[bool]]:
        """Keep items of any kinds; true where new; durable when it fires."""
        return Deferred.fromCoroutine(self._put(list(items)))

    async def _put(self, items: list[Item]) -> list[bool]:
        large = [item for item in items if item.key.kind == Kind.CHUNK and len(item.data) > SMALL]
        folders: list[Path] = []
        if large:
            known = await self.have([item.key for item in large])
            missing = [item for item, there in zip(large, known, strict=True) if not there]
            folders = await self._runner.run(self._write_files, missing)
        names = {item.key for item in large}

        def insert(db: sqlite3.Connection) -> list[bool]:
            return [tables.insert(db, item, None if item.key in names else item.data) for item in items]

        new: list[bool] = await self._writing(insert, folders)
        return new

    def have(self, keys: Sequence[ItemKey]) -> Deferred[list[bool]]:
        """One bool for each key."""
        return self._reading(lambda db: [tables.has(db, key) for key in keys])

    def get(self, keys: Sequence[ItemKey]) -> Deferred[list[Item | None]]:
        """One Item or None for each key; rotten ones are moved aside."""
        return Deferred.fromCoroutine(self._get(list(keys)))

    async def _get(self, keys: list[ItemKey]) -> list[Item | None]:
        rotten: list[ItemKey] = []

        def look(db: sqlite3.Connection) -> list[Item | None]:
            return [self._item(db, key, rotten) for key in keys]

        found: list[Item | None] = await self._reading(look)
        if rotten:
            await self.remove(rotten)
        return found

    def remove(self, keys: Sequence[ItemKey]) -> Deferred[int]:
        """Forget these keys; how many there were."""

        def delete(db: sqlite3.Connection) -> list[ItemKey]:
            return [key for key in keys if tables.remove(db, key)]

        def unlink(gone: list[ItemKey]) -> Deferred[int]:
            chunks = [key for key in gone if key.kind == Kind.CHUNK]

            def files() -> int:
                for key in chunks:
                    self._files.remove(key.element, key.owner)
                return len(gone)

            return self._runner.run(files)

        return self._writing(delete).addCallback(unlink)

    # -- what the families ask --------------------------------------------------------

    def find_chunks(self, hashes: Sequence[bytes]) -> Deferred[list[Item | None]]:
        """One Item or None for each hash, whoever owns it."""
        return Deferred.fromCoroutine(self._find(list(hashes)))

    async def _find(self, hashes: list[bytes]) -> list[Item | None]:
        rotten: list[ItemKey] = []

        def look(db: sqlite3.Connection) -> list[Item | None]:
            found: list[Item | None] = []
            for digest in hashes:
                item = None
                for owner in tables.owners_of(db, digest):
                    key = ItemKey(ids.chunk_ring_id(digest), owner, Kind.CHUNK, digest)
                    item = item or self._item(db, key, rotten)
                found.append(item)
            return found

        result: list[Item | None] = await self._reading(look)
        if rotten:
            await self.remove(rotten)
        return result

    def items_at(self, ring_id: bytes, owner: bytes | None, kind: Kind) -> Deferred[list[Item]]:
        """All items of one kind at a ring id, of one owner or of all."""

        def look(db: sqlite3.Connection) -> list[Item]:
            keys = tables.of_resource(db, ring_id, owner, kind)
            found = (self._item(db, key, []) for key in keys)
            return [item for item in found if item is not None]

        return self._reading(look)

    def log_since(
        self, ring_id: bytes, owner: bytes, seen: Mapping[bytes, int], limit: int
    ) -> Deferred[tuple[list[Item], bool]]:
        """Entries of a log after *seen*, and whether more follow."""

        def look(db: sqlite3.Connection) -> tuple[list[Item], bool]:
            keys, more = tables.read_since(db, ring_id, owner, seen, limit)
            found = (self._item(db, key, []) for key in keys)
            return [item for item in found if item is not None], more

        return self._reading(look)

    def log_heads(self, ring_id: bytes, owner: bytes) -> Deferred[dict[bytes, int]]:
        """{device: last number} of one log."""
        return self._reading(lambda db: tables.chain_heads(db, ring_id, owner))

    # -- ranges ------------------------------------------------------------------

    def range_digest(self, after: bytes, through: bytes, kinds: Sequence[Kind]) -> Deferred[tuple[int, bytes]]:
        """(count, SHA-256) over the keys in (after, through]."""
        return self._reading(lambda db: tables.range_digest(db, after, through, tables.all_kinds(kinds)))

    def range_list(
        self, after: bytes, through: bytes, kinds: Sequence[Kind], cursor: ItemKey | None, limit: int
    ) -> Deferred[tuple[list[ItemKey], ItemKey | None]]:
        """Keys in (after, through] behind *cursor*, and the next cursor."""
        return self._reading(lambda db: tables.slice_of(db, after, through, tables.all_kinds(kinds), cursor, limit))

    def usage(self, owner: bytes) -> Deferred[tuple[int, int]]:
        """(bytes, items) of one owner."""
        return self._reading(lambda db: tables.usage(db, owner))

    # -- inside ----------------------------------------------------------------

    def _write_files(self, items: list[Item]) -> list[Path]:
        return [self._files.write(item.key.element, item.key.owner, item.data) for item in items]

    def _item(self, db: sqlite3.Connection, key: ItemKey, rotten: list[ItemKey]) -> Item | None:
        row = tables.read(db, key)
        if row is None:
            return None
        statement, data = row
        try:
            if data is None:
                data = self._files.read(key.element, key.owner)
            elif key.kind == Kind.CHUNK and hashlib.sha256(data).digest() != key.element:
                raise CorruptData(f"Chunk {ids.short(key.element)} had rotted in the database.")
        except CorruptData as error:
            self._log.error("{what} It is not served, and will be fetched again.", what=error.what)
            rotten.append(key)
            return None
        return Item(key, statement, data)

    def _reading(self, look: Callable[[sqlite3.Connection], Any]) -> Deferred[Any]:
        return self._runner.run(self._in_reader, look)

    def _in_reader(self, look: Callable[[sqlite3.Connection], Any]) -> Any:
        db = getattr(self._local, "db", None)
        try:
            if db is None:
                db = self._local.db = open_reader(self._path)
                self._readers.append(db)
            return look(db)
        except sqlite3.Error as error:
            raise database_error(error, self._path) from error

    def _writing(self, work: Callable[[sqlite3.Connection], Any], folders: Sequence[Path] = ()) -> Deferred[Any]:
        if self._writer is None:
            raise StorageError(f"{self.folder} is not open.")
        return self._writer.submit(work, folders)
