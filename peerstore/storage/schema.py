"""The node's database: its tables, their version, and opening it safely.

::

    item     (ring_id, owner, kind, element) -> statement, data or NULL
    chain    (ring_id, owner, device, number, element): log entries in order
    setting  name -> value

An item whose data is NULL lies in a file of its own (``chunk_files``).
``WITHOUT ROWID`` keeps items sorted by key, so that ranges of the ring are
read as they lie.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from peerstore.errors import CorruptData, DiskFull, NewerSchema, ReadOnly, StorageError

__all__ = ["DATABASE", "VERSION", "database_error", "open_database", "open_reader"]

DATABASE = "node.sqlite"
VERSION = 1

TABLES = """
CREATE TABLE item (
    ring_id   BLOB NOT NULL,
    owner     BLOB NOT NULL,
    kind      INTEGER NOT NULL,
    element   BLOB NOT NULL,
    size      INTEGER NOT NULL,
    statement BLOB NOT NULL,
    data      BLOB,
    PRIMARY KEY (ring_id, owner, kind, element)
) WITHOUT ROWID;
CREATE INDEX item_by_owner ON item (owner, size);
CREATE TABLE chain (
    ring_id BLOB NOT NULL,
    owner   BLOB NOT NULL,
    device  BLOB NOT NULL,
    number  INTEGER NOT NULL,
    element BLOB NOT NULL,
    PRIMARY KEY (ring_id, owner, device, number, element)
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
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            connection.close()
            raise NewerSchema(
                f"{path} was written by a newer PeerStore (format {version}, this one knows {VERSION}).",
                "Update this program; the data was not touched.",
            )
        connection.execute("PRAGMA journal_mode = WAL")
        # A put is on the disk when it is answered: WAL's default would be
        # durable against a killed process only, not against a power cut.
        connection.execute("PRAGMA synchronous = FULL")
        if version == 0:
            connection.executescript(f"BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
    except sqlite3.Error as error:
        raise database_error(error, path) from error
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads, also while a node writes.

    :raises peerstore.errors.StorageError: with the reason in words.
    """
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as error:
        raise database_error(error, path) from error
    if version > VERSION:
        connection.close()
        raise NewerSchema(f"{path} was written by a newer PeerStore.", "Update this program.")
    return connection


def database_error(error: sqlite3.Error, path: Path) -> StorageError:
    """SQLite's error as one of ours, naming the file."""
    text = str(error).lower()
    if "full" in text:
        return DiskFull(f"No room left for {path}.", "Free some space there; nothing that was stored is lost.")
    if "readonly" in text or "read-only" in text or "unable to open" in text:
        return ReadOnly(f"{path} cannot be written ({error}).", "Check its owner and mount options.")
    if "malformed" in text or "not a database" in text:
        return CorruptData(f"{path} is damaged ({error}).", "Keep a copy; the ring has the other copies.")
    return StorageError(f"{path}: {error}.", "Check the disk, then try again.")
