"""A node's store on a real disk: SQLite, and files for larger chunks."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from zope.interface import implementer

from peerstore import ids
from peerstore.errors import StorageError, UsageError
from peerstore.interfaces import INodeStore
from peerstore.items import Item, ItemKey, Kind
from peerstore.storage import chains, tables
from peerstore.storage.chunk_files import ChunkFiles
from peerstore.storage.digests import check_keys
from peerstore.storage.doubts import Doubts
from peerstore.storage.families import ChunkStore, HeadStore, LogStore, RecordStore
from peerstore.storage.schema import DATABASE, REFILL, database_error, is_malformed, open_database, open_reader
from peerstore.storage.scrub import Found, IndexReport, Scrubbed, check_indexes, condemn, look, mend_indexes
from peerstore.storage.shelf import SMALL, Condemned, Rotten, Shelf, needs_file
from peerstore.storage.writer import Transaction, Writer
from peerstore.util.blocking import ThreadRunner
from peerstore.util.complaint import Complaint
from peerstore.util.durable import disk_error, make_directory

__all__ = ["SMALL", "SqliteNodeStore"]

READERS = 4
#: Kept among the settings while no process has the folder open, if the last
#: one ended in order: then no file can lack its row.
_IN_ORDER = "storage: ended in order"


@implementer(INodeStore)
class SqliteNodeStore:
    """Everything that one node keeps, in one folder.

    :param folder: the data folder; made when missing, locked while open.
    :param reactor: results of threads are handed back in its thread.
    :param seconds: a clock, by which complaints are not repeated too often.
    """

    _log = Logger()

    def __init__(
        self, folder: Path, reactor: IReactorFromThreads, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self.folder = folder
        self._reactor = reactor
        self._path = folder / DATABASE
        self._files = ChunkFiles(folder)
        self._shelf = Shelf(self._files)
        self._runner: ThreadRunner | None = None
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._writer: Writer | None = None
        self._lock = -1
        self.doubts = Doubts()
        #: Of a damaged database, which every reader comes upon anew.
        self._complaint = Complaint(seconds)
        self.chunks = ChunkStore(self)
        self.heads = HeadStore(self)
        self.logs = LogStore(self)
        self.records = RecordStore(self)

    # -- life --------------------------------------------------------------------

    def start(self) -> Deferred[None]:
        """Lock and open the folder; fails with a StorageError or UsageError."""
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        runner = ThreadRunner(self._reactor, READERS, "peerstore-storage")
        runner.start()
        try:
            db: sqlite3.Connection = await runner.run(self._open)
        except BaseException:
            await runner.stop()
            raise
        self._runner = runner
        self._writer = Writer(self._reactor, db, self._path)
        self._writer.start()

    def stop(self) -> Deferred[None]:
        """Commit what waits, close, and unlock.  What has not reached the
        writer by now fails, and was never acknowledged."""
        writer, self._writer = self._writer, None
        runner, self._runner = self._runner, None
        if writer is None or runner is None:
            return succeed(None)

        def settled(_: object) -> Deferred[None]:
            # Readers first: the last to close takes the journal away, which
            # only the writer can.
            for reader in self._readers:
                reader.close()
            self._readers.clear()
            self._local = threading.local()
            marked = writer.submit(lambda tx: tables.keep_setting(tx.db, _IN_ORDER, b""))
            marked.addErrback(lambda failure: self._log.warn("not marked as closed: {why}", why=str(failure.value)))
            return writer.stop()

        def ended(_: object) -> None:
            os.close(self._lock)
            self._lock = -1

        return runner.stop().addCallback(settled).addCallback(ended)

    def _open(self) -> sqlite3.Connection:
        """Lock the folder and open all that is in it, or leave it as it was."""
        make_directory(self.folder)
        try:
            lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise disk_error(error, self.folder) from error
        db: sqlite3.Connection | None = None
        try:
            self._take(lock)
            db = open_database(self._path)
            self._files.open()
            try:
                ended = db.execute("DELETE FROM setting WHERE name = ?", (_IN_ORDER,)).rowcount
                swept = 0 if ended else self._shelf.sweep(db)
                self.doubts.add(key for key, _ in tables.lost(db))
            except OSError as error:
                raise disk_error(error, self.folder) from error
            except sqlite3.Error as error:
                raise database_error(error, self._path) from error
        except BaseException:
            if db is not None:
                db.close()
            os.close(lock)
            raise
        if swept:
            self._log.info("removed {count} chunk files of puts that were cut off", count=swept)
        self._lock = lock
        return db

    def _take(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"Another node is running on {self.folder}.", "Stop it first, or name another folder with --data."
            ) from error
        except OSError as error:
            raise disk_error(error, self.folder / "lock") from error

    # -- settings ----------------------------------------------------------------

    def setting(self, name: str) -> Deferred[bytes | None]:
        """The bytes kept under *name*, or None."""
        return self._reading(lambda db: tables.setting(db, name))

    def keep_setting(self, name: str, value: bytes) -> Deferred[None]:
        """Keep bytes under *name*, durably."""
        return self._writing(lambda tx: tables.keep_setting(tx.db, name, value))

    # -- items -----------------------------------------------------------------

    def put(self, items: Sequence[Item]) -> Deferred[list[bool]]:
        """Keep items of any kinds; true where new; durable when it fires."""
        return Deferred.fromCoroutine(self._put(list(items)))

    async def _put(self, items: list[Item]) -> list[bool]:
        check_keys(items)
        large = [place for place, item in enumerate(items) if needs_file(item)]
        absent: list[int] = await self._reading(lambda db: self._shelf.absent(db, items, True)) if large else []
        new = await self._insert(items, absent)
        if new is None:
            # Somebody removed one while we were on our way.
            new = await self._insert(items, large)
        if new is None:
            raise StorageError(f"A chunk could not be placed in {self.folder}.", "Try again.")
        self.doubts.clear(item.key for item in items)
        return new

    async def _insert(self, items: list[Item], places: list[int]) -> list[bool] | None:
        staged: dict[int, Path] = await self._running(self._shelf.stage, items, places) if places else {}
        try:
            new: list[bool] | None = await self._writing(lambda tx: self._shelf.insert(tx, items, staged))
        except BaseException:
            self._shelf.discard(staged)
            raise
        if new is None:
            self._shelf.discard(staged)
        return new

    def have(self, keys: Sequence[ItemKey]) -> Deferred[list[bool]]:
        """One bool for each key."""
        wanted = list(keys)
        return self._reading(lambda db: [tables.has(db, key) for key in wanted])

    def get(self, keys: Sequence[ItemKey]) -> Deferred[list[Item | None]]:
        """One Item or None for each key; rotten ones are moved aside."""
        wanted = list(keys)
        return self._sound(lambda db: [self._shelf.load(db, key) for key in wanted])

    def remove(self, keys: Sequence[ItemKey]) -> Deferred[int]:
        """Forget these keys; how many there were."""
        wanted = list(keys)
        return self._writing(lambda tx: self._shelf.forget(tx, wanted))

    # -- what the families ask --------------------------------------------------------

    def find_chunks(self, hashes: Sequence[bytes]) -> Deferred[list[Item | None]]:
        """One Item or None for each hash, whoever owns it."""
        return Deferred.fromCoroutine(self._find(list(hashes)))

    async def _find(self, hashes: Sequence[bytes]) -> list[Item | None]:
        owners: list[list[bytes]] = await self._reading(lambda db: [tables.owners_of(db, digest) for digest in hashes])
        found: list[Item | None] = []
        for digest, whose in zip(hashes, owners, strict=True):
            item = None
            for owner in whose:
                (item,) = await self.get([ItemKey(ids.chunk_ring_id(digest), owner, Kind.CHUNK, digest)])
                if item is not None:
                    break
            found.append(item)
        return found

    def items_at(self, ring_id: bytes, owner: bytes | None, kind: Kind) -> Deferred[list[Item]]:
        """All items of one kind at a ring id, of one owner or of all."""
        loaded = self._sound(
            lambda db: [self._shelf.load(db, key) for key in tables.of_resource(db, ring_id, owner, kind)]
        )
        return loaded.addCallback(_there)

    def log_since(
        self, ring_id: bytes, owner: bytes, seen: Mapping[bytes, int], limit: int
    ) -> Deferred[tuple[list[Item], bool]]:
        """Entries of a log after *seen*, and whether more follow."""
        after = dict(seen)
        more = False

        def read(db: sqlite3.Connection) -> list[Item | Rotten | None]:
            nonlocal more
            keys, more = chains.read_since(db, ring_id, owner, after, limit)
            return [self._shelf.load_entry(db, key) for key in keys]

        return self._sound(read).addCallback(lambda found: (_there(found), more))

    def log_heads(self, ring_id: bytes, owner: bytes) -> Deferred[dict[bytes, int]]:
        """{device: last number} of one log."""
        return self._reading(lambda db: chains.chain_heads(db, ring_id, owner))

    # -- ranges ------------------------------------------------------------------

    def range_digest(self, after: bytes, through: bytes, kinds: Sequence[Kind]) -> Deferred[tuple[int, bytes]]:
        """(count, SHA-256) over the keys in (after, through]."""
        return self._reading(lambda db: tables.range_digest(db, after, through, kinds))

    def range_list(
        self, after: bytes, through: bytes, kinds: Sequence[Kind], cursor: ItemKey | None, limit: int
    ) -> Deferred[tuple[list[ItemKey], ItemKey | None]]:
        """Keys in (after, through] behind *cursor*, and the next cursor."""
        return self._reading(lambda db: tables.slice_of(db, after, through, kinds, cursor, limit))

    def usage(self, owner: bytes) -> Deferred[tuple[int, int]]:
        """(bytes, items) of one owner."""
        return self._reading(lambda db: tables.usage(db, owner))

    # -- rot ---------------------------------------------------------------------

    def scrub(self, after: ItemKey | None, budget: int) -> Deferred[Scrubbed]:
        """Look for rot behind *after*, in about so many bytes."""
        return Deferred.fromCoroutine(self._scrub(after, budget))

    async def _scrub(self, after: ItemKey | None, budget: int) -> Scrubbed:
        found: Found = await self._reading(lambda db: look(self._shelf, db, after, budget))
        rotten = () if found.all_is_well else await self._condemn(found)
        return Scrubbed(found.cursor, found.items, found.bytes, len(rotten))

    def check(self) -> Deferred[str]:
        """Look at the indexes, and mend what can be; what cannot, in words."""
        return Deferred.fromCoroutine(self._check())

    async def _check(self) -> str:
        report: IndexReport = await self._reading(check_indexes)
        if report.mendable:
            self._log.error("the database's indexes had rotted and are made anew: {what}", what=report.mendable)
            await self._writing(lambda tx: mend_indexes(self._shelf, tx, report))
            report = await self._reading(check_indexes)
        self.doubts.broken = report.structure
        return f"{self._path} is damaged ({report.structure}). {REFILL}" if report.structure else ""

    def total(self) -> Deferred[int]:
        """Bytes of all that is kept."""
        return self._reading(tables.total)

    def lost(self, limit: int, skip: int = 0) -> Deferred[list[ItemKey]]:
        """What was here, rotted, and has not come back."""
        return self._reading(lambda db: [key for key, _ in tables.lost(db, limit, skip)])

    def give_up(self, keys: Sequence[ItemKey]) -> Deferred[None]:
        """No other node has these: they are waited for no more."""
        gone = list(keys)

        def forget(tx: Transaction) -> None:
            for key in gone:
                tables.forget_lost(tx.db, key)

        return self._writing(forget).addCallback(lambda _: self.doubts.clear(gone))

    # -- inside ----------------------------------------------------------------

    def _sound(self, read: Callable[[sqlite3.Connection], list[Item | Rotten | None]]) -> Deferred[list[Item | None]]:
        """Read items; those that have rotted are moved aside, and None."""
        return Deferred.fromCoroutine(self._read_soundly(read))

    async def _read_soundly(
        self, read: Callable[[sqlite3.Connection], list[Item | Rotten | None]]
    ) -> list[Item | None]:
        found: list[Item | Rotten | None] = await self._reading(read)
        rotten = [item for item in found if isinstance(item, Rotten)]
        if rotten:
            suspects = tuple(item.key for item in rotten if item.readable)
            await self._condemn(Found(None, 0, 0, suspects, tuple(item for item in rotten if not item.readable)))
            # Some of it may be in its place again.
            found = await self._reading(read)
        return [None if isinstance(item, Rotten) else item for item in found]

    async def _condemn(self, found: Found) -> tuple[Rotten, ...]:
        """Have what has rotted moved aside; what was.

        In doubt from now on, not only once it is gone: who reads in between
        must not take it for something that never was.
        """
        self.doubts.add(found.keys)
        try:
            condemned: Condemned = await self._writing(lambda tx: condemn(self._shelf, tx, found))
        except StorageError as error:
            # It stays where it is, in doubt, and is found again.
            if self._complaint.due():
                self._log.error("rotten, not served, and could not be moved aside: {why}", why=str(error))
            return ()
        self.doubts.clear(found.keys - condemned.lost)
        for key, why, _ in condemned.rotten:
            self._log.error(
                "not served and moved aside: {kind} {element}. {why}",
                kind=key.kind.name,
                element=ids.short(key.element),
                why=why,
            )
        for one in found.unreadable[:1]:
            if self._complaint.due():
                self._log.error("{path} is damaged ({why}) {next}", path=self._path, why=one.why, next=REFILL)
        if condemned.rotten:
            self.doubts.tell()
        return condemned.rotten

    def _running(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        if self._runner is None:
            return fail(self._closed())
        return self._runner.run(function, *args)

    def _reading(self, look: Callable[[sqlite3.Connection], Any]) -> Deferred[Any]:
        return self._running(self._in_reader, look)

    def _in_reader(self, look: Callable[[sqlite3.Connection], Any]) -> Any:
        db = getattr(self._local, "db", None)
        try:
            if db is None:
                db = self._local.db = open_reader(self._path)
                self._readers.append(db)
            return look(db)
        except sqlite3.Error as error:
            if is_malformed(error):
                # Whatever is said of what is not here would be a guess.
                self._reactor.callFromThread(self._is_broken, error)
            raise database_error(error, self._path) from error

    def _is_broken(self, error: sqlite3.Error) -> None:
        if self._complaint.due():
            self._log.error("{why}", why=str(database_error(error, self._path)))
        self.doubts.broken = str(error)

    def _writing(self, work: Callable[[Transaction], Any]) -> Deferred[Any]:
        if self._writer is None:
            return fail(self._closed())
        return self._writer.submit(work)

    def _closed(self) -> StorageError:
        return StorageError(f"The store in {self.folder} is not open.")


def _there(found: Sequence[Item | None]) -> list[Item]:
    return [item for item in found if item is not None]
