"""What one device remembers between runs, in SQLite.

::

    meta     name -> value          device id, counter, clock, folder sources
    entry    leaf -> statement      our copy of the log
    pending  number -> statement    entries of ours that are not certain yet, each
                                    with the last head that it names
    agreed   (folder, root, path) -> ...  what this device and the log last agreed
                                    on, for each local root that was kept there
    chunk    hash                   chunks that were certain when we posted them

Everything here blocks: it is called through one thread of its own.  The
device's counter is saved before a number is used, in blocks, so that no
number is ever used twice, whatever is killed when.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from peerstore.errors import CorruptData, DiskFull, NewerSchema, ReadOnly, StorageError
from peerstore.vectors import Vector

__all__ = ["Agreed", "Agreement", "ClientState"]

VERSION = 2
#: Numbers reserved at a time; those unused at the end of a run are skipped.
BLOCK = 256
#: Seconds to wait for another process; a reader may be at work beside a writer.
LOCK_WAIT = 20.0

TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE entry (leaf BLOB PRIMARY KEY, statement BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE pending (number INTEGER PRIMARY KEY, leaf BLOB NOT NULL, statement BLOB NOT NULL,
    head BLOB NOT NULL);
CREATE TABLE agreed (
    folder TEXT NOT NULL, root BLOB NOT NULL, path BLOB NOT NULL, version BLOB NOT NULL, vector BLOB NOT NULL,
    kind INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL, mode INTEGER NOT NULL, sha256 BLOB NOT NULL, PRIMARY KEY (folder, root, path))
    WITHOUT ROWID;
CREATE TABLE chunk (hash BLOB PRIMARY KEY) WITHOUT ROWID;
"""
#: Version 1 kept one agreement for each folder: backups' was with their last
#: source; that of sync, which marks its folder, has no root.
FROM_1 = """
ALTER TABLE agreed RENAME TO agreed_1;
CREATE TABLE agreed (
    folder TEXT NOT NULL, root BLOB NOT NULL, path BLOB NOT NULL, version BLOB NOT NULL, vector BLOB NOT NULL,
    kind INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL, mode INTEGER NOT NULL, sha256 BLOB NOT NULL, PRIMARY KEY (folder, root, path))
    WITHOUT ROWID;
INSERT INTO agreed SELECT folder, coalesce((SELECT value FROM meta WHERE name = 'source:' || folder), x''), path,
    version, vector, kind, size, mtime_ns, ctime_ns, inode, mode, sha256 FROM agreed_1;
DROP TABLE agreed_1;
"""
STEPS = {0: TABLES, 1: FROM_1}


class Agreed(NamedTuple):
    """What a path was when this device and the log last agreed on it.

    *kind* is a ``NodeKind`` number; sizes in bytes, times in ns; *vector* is
    that of the *version*.
    """

    version: bytes
    vector: Vector
    kind: int
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    mode: int
    sha256: bytes


#: A folder's NAME, a path in it, and what is agreed for it; None: nothing is.
Agreement = tuple[str, bytes, Agreed | None]


class ClientState:
    """The state of one device.

    :param path: the database file; made when missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._next = 0
        self._reserved = 0

    # -- life --------------------------------------------------------------------

    def open(self) -> None:
        """Open or make the file.

        :raises peerstore.errors.StorageError: with the reason in words.
        """
        with self._errors():
            db = sqlite3.connect(self._path, timeout=LOCK_WAIT, isolation_level=None, check_same_thread=False)
            try:
                self._prepare(db)
                self._db = db
                self._next = self._reserved = int.from_bytes(self.meta("counter") or b"", "big")
            except BaseException:
                self._db = None
                db.close()
                raise

    def _prepare(self, db: sqlite3.Connection) -> None:
        """Make or migrate the tables; a newer file is not touched."""
        if _version(db) > VERSION:
            raise NewerSchema(f"{self._path} was written by a newer PeerStore.", "Update this program.")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        if _version(db) == VERSION:
            return
        db.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have done it while we waited.
            while (version := _version(db)) != VERSION:
                for statement in STEPS[version].split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {VERSION if version == 0 else version + 1}")
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")

    def close(self) -> None:
        """Close; more than once does no harm."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def damaged(self) -> CorruptData:
        """The error for a file that does not hold what it should."""
        return CorruptData(
            f"{self._path} is damaged.",
            f"Move it and any {self._path.name}-* away, then run this again with --into: "
            "this computer is a new device then.",
        )

    # -- names and numbers ------------------------------------------------------------

    def meta(self, name: str) -> bytes | None:
        """The bytes kept under *name*."""
        rows = self._all("SELECT value FROM meta WHERE name = ?", name)
        return rows[0][0] if rows else None

    def keep_meta(self, name: str, value: bytes) -> None:
        """Keep bytes under *name*."""
        self._do("INSERT OR REPLACE INTO meta VALUES (?, ?)", name, value)

    def metas(self, prefix: str) -> dict[str, bytes]:
        """All names that begin with *prefix*, without it."""
        rows = self._all("SELECT name, value FROM meta WHERE substr(name, 1, ?) = ?", len(prefix), prefix)
        return {str(name)[len(prefix) :]: value for name, value in rows}

    def next_counter(self) -> int:
        """A number that this device never used, from 1 up."""
        if self._next >= self._reserved:
            self._reserved = self._next + BLOCK
            self.keep_meta("counter", self._reserved.to_bytes(8, "big"))
        self._next += 1
        return self._next

    # -- the log ---------------------------------------------------------------------

    def entries(self) -> list[tuple[bytes, bytes]]:
        """(leaf, statement) of every entry we have."""
        return [(bytes(leaf), bytes(statement)) for leaf, statement in self._all("SELECT leaf, statement FROM entry")]

    def add_entries(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep (leaf, statement) pairs."""
        with self._transaction() as db:
            db.executemany("INSERT OR IGNORE INTO entry VALUES (?, ?)", entries)

    def pending(self) -> list[tuple[int, bytes, bytes, bytes]]:
        """(number, leaf, statement, packed head) of our entries that wait."""
        rows = self._all("SELECT number, leaf, statement, head FROM pending ORDER BY number")
        return [(int(number), bytes(leaf), bytes(text), bytes(head)) for number, leaf, text, head in rows]

    def add_pending(
        self,
        number: int,
        leaf: bytes,
        statement: bytes,
        head: bytes,
        agreed: Iterable[Agreement] = (),
        root: bytes = b"",
    ) -> None:
        """An entry is about to be sent, with the last head it names.

        :param agreed: what it makes true of local paths.  Our view of the log
            has the entry from here on; were the paths not agreed in the same
            moment, their next edit would contradict our own.
        """
        with self._transaction() as db:
            db.execute("INSERT INTO pending VALUES (?, ?, ?, ?)", (number, leaf, statement, head))
            for folder, path, now in agreed:
                _set_agreed(db, folder, root, path, now)

    def settle(self, number: int) -> None:
        """An entry of ours is certain: it belongs to our copy of the log now."""
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO entry SELECT leaf, statement FROM pending WHERE number = ?", (number,))
            db.execute("DELETE FROM pending WHERE number = ?", (number,))

    # -- what was agreed ---------------------------------------------------------------

    def agreed(self, folder: str, root: bytes = b"") -> dict[bytes, Agreed]:
        """{path: what was agreed} between a folder of the log and a local
        *root*; who keeps one root only need not name it."""
        rows = self._all(
            "SELECT path, version, vector, kind, size, mtime_ns, ctime_ns, inode, mode, sha256 FROM agreed"
            " WHERE folder = ? AND root = ?",
            folder,
            root,
        )
        return {bytes(row[0]): _agreed(row[1:]) for row in rows}

    def agree(self, folder: str, changes: Iterable[tuple[bytes, Agreed | None]], root: bytes = b"") -> None:
        """Set what was agreed for paths, or forget it (None), at once."""
        with self._transaction() as db:
            for path, now in changes:
                _set_agreed(db, folder, root, path, now)

    def known_chunks(self, hashes: Iterable[bytes]) -> set[bytes]:
        """Those of these chunks that we posted before."""
        return {digest for digest in hashes if self._one("SELECT 1 FROM chunk WHERE hash = ?", digest)}

    def add_chunks(self, hashes: Iterable[bytes]) -> None:
        """These chunks are certain."""
        with self._transaction() as db:
            db.executemany("INSERT OR IGNORE INTO chunk VALUES (?)", [(digest,) for digest in hashes])

    # -- inside ----------------------------------------------------------------

    @property
    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            raise StorageError(f"{self._path} is not open.")
        return self._db

    def _one(self, sql: str, *values: object) -> tuple[object, ...] | None:
        rows = self._all(sql, *values)
        return rows[0] if rows else None

    def _all(self, sql: str, *values: object) -> list[tuple[bytes, ...]]:
        with self._errors():
            return self._open.execute(sql, values).fetchall()

    def _do(self, sql: str, *values: object) -> None:
        with self._errors():
            self._open.execute(sql, values)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._errors():
            db = self._open
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            text = str(error).lower()
            if "full" in text:
                raise DiskFull(f"No room left for {self._path}.", "Free some space, then run this again.") from error
            if "readonly" in text or "unable to open" in text:
                raise ReadOnly(f"{self._path} cannot be written.", "Check its owner and mount options.") from error
            if "malformed" in text or "not a database" in text:
                raise self.damaged() from error
            raise StorageError(f"{self._path}: {error}.", "Check the disk, then run this again.") from error


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _set_agreed(db: sqlite3.Connection, folder: str, root: bytes, path: bytes, now: Agreed | None) -> None:
    if now is None:
        db.execute("DELETE FROM agreed WHERE folder = ? AND root = ? AND path = ?", (folder, root, path))
        return
    fields = now._replace(vector=msgspec.msgpack.encode(now.vector))  # type: ignore[arg-type]
    db.execute("INSERT OR REPLACE INTO agreed VALUES (?,?,?, ?,?,?,?,?,?,?,?,?)", (folder, root, path, *fields))


def _agreed(row: tuple[object, ...]) -> Agreed:
    values = Agreed(*row)  # type: ignore[arg-type]
    vector = msgspec.msgpack.decode(bytes(values.vector), type=Vector)  # type: ignore[arg-type]
    return values._replace(vector=vector, version=bytes(values.version), sha256=bytes(values.sha256))
