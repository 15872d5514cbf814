"""The node's database: its tables, their version, and opening it safely.

::

    item     (ring_id, owner, kind, element) -> size, number of its content
    content  number -> statement, data or NULL, crc
    chain    (ring_id, owner, device, number, element): log entries in order
    account  owner -> bytes, items
    setting  name -> value

An item whose data is NULL lies in a file of its own (``chunk_files``).
``WITHOUT ROWID`` keeps items sorted by key, and their content is elsewhere,
so that ranges of the ring are read as they lie, many keys to a page.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from peerstore.errors import CorruptData, DiskFull, NewerSchema, ReadOnly, StorageError

__all__ = ["DATABASE", "VERSION", "database_error", "open_database", "open_reader"]

DATABASE = "node.sqlite"
VERSION = 1

TABLES = """
CREATE TABLE item (
    ring_id BLOB NOT NULL,
    owner   BLOB NOT NULL,
    kind    INTEGER NOT NULL,
    element BLOB NOT NULL,
    size    INTEGER NOT NULL,
    content INTEGER NOT NULL,
    PRIMARY KEY (ring_id, owner, kind, element)
) WITHOUT ROWID;
CREATE TABLE content (
    id        INTEGER PRIMARY KEY,
    statement BLOB NOT NULL,
    data      BLOB,
    crc       INTEGER NOT NULL
);
CREATE TABLE chain (
    ring_id BLOB NOT NULL,
    owner   BLOB NOT NULL,
    device  BLOB NOT NULL,
    number  INTEGER NOT NULL,
    element BLOB NOT NULL,
    PRIMARY KEY (ring_id, owner, device, number, element)
) WITHOUT ROWID;
CREATE TABLE account (
    owner BLOB PRIMARY KEY,
    bytes INTEGER NOT NULL,
    items INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE setting (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;
"""


def open_database(path: Path) -> sqlite3.Connection:
    """The writer's connection; makes the tables in a new file.

    :raises peerstore.errors.NewerSchema: and leaves the file untouched.
    :raises peerstore.errors.StorageError: with the reason in words.
    """
    if path.exists():
        # Looked at through a connection that cannot write: closing any other
        # one would fold a newer program's journal into its file.
        open_reader(path).close()
    connection = None
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        # A put is on the disk when it is answered: WAL's default would be
        # durable against a killed process only, not against a power cut.
        connection.execute("PRAGMA synchronous = FULL")
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            connection.executescript(f"BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise database_error(error, path) from error
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads, also while a node writes.

    :raises peerstore.errors.NewerSchema: and leaves the file untouched.
    :raises peerstore.errors.StorageError: with the reason in words.
    """
    try:
        try:
            connection, version = _read_only(path, "mode=ro")
        except sqlite3.OperationalError:
            if path.with_name(f"{path.name}-wal").exists():
                raise
            # A file system that takes no writes at all, not even the shared
            # memory of a reader: nobody can be writing there.
            connection, version = _read_only(path, "mode=ro&immutable=1")
    except sqlite3.Error as error:
        raise database_error(error, path) from error
    if version > VERSION:
        connection.close()
        raise NewerSchema(
            f"{path} was written by a newer PeerStore (format {version}, this one knows {VERSION}).",
            "Update this program; the data was not touched.",
        )
    return connection


def _read_only(path: Path, options: str) -> tuple[sqlite3.Connection, int]:
    # A name may hold what has a meaning in a URI, and bytes that are no text.
    uri = f"file:{quote(os.fsencode(path))}?{options}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        return connection, int(connection.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error:
        connection.close()
        raise


def database_error(error: sqlite3.Error, path: Path) -> StorageError:
    """SQLite's error as one of ours, naming the file."""
    extended = getattr(error, "sqlite_errorcode", None) or 0
    code = extended & 0xFF
    if code == sqlite3.SQLITE_FULL or extended == sqlite3.SQLITE_IOERR_SHMSIZE:
        return DiskFull(f"No room left for {path}.", "Free some space there; nothing that was stored is lost.")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return ReadOnly(f"{path} cannot be opened or written ({error}).", "Check its owner and mount options.")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return CorruptData(f"{path} is damaged ({error}).", "Keep a copy; the ring has the other copies.")
    return StorageError(f"{path}: {error}.", "Check the disk, then try again.")
