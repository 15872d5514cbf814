"""The node's database: its tables, their version, and opening it safely.

::

    item     (ring_id, owner, kind, element) -> size, number of its content, crc
    content  number -> statement, data or NULL, crc
    chain    (ring_id, owner, device, number, element): log entries in order
    account  owner -> bytes, items
    setting  name -> value, crc
    lost     (ring_id, owner, kind, element) -> why: was here, rotted, is to be fetched again

An item whose data is NULL lies in a file of its own (``chunk_files``).
``WITHOUT ROWID`` keeps items sorted by key, and their content is elsewhere,
so that ranges of the ring are read as they lie, many keys to a page.

SQLite's pages have no checksums, so rows have them: ``content`` over what it
holds, ``item`` over its key, its size and its content's, which also ties the
two together.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from pathlib import Path
from urllib.parse import quote

from peerstore.errors import CorruptData, DiskFull, NewerSchema, ReadOnly, StorageError

__all__ = [
    "DATABASE",
    "REFILL",
    "VERSION",
    "content_crc",
    "database_error",
    "is_malformed",
    "item_crc",
    "open_database",
    "open_reader",
    "resort",
    "setting_crc",
]

DATABASE = "node.sqlite"
VERSION = 2
#: The safe next step when a database is past mending.
REFILL = (
    "Check the disk. Stop the node, move its folder aside, and start it with --join, naming another node, and a folder"
    " that holds only the old key.pem and publickey.pem: the other nodes fill it. Keep the old folder until they have."
)

TABLES = """
CREATE TABLE item (
    ring_id BLOB NOT NULL,
    owner   BLOB NOT NULL,
    kind    INTEGER NOT NULL,
    element BLOB NOT NULL,
    size    INTEGER NOT NULL,
    content INTEGER NOT NULL,
    crc     INTEGER NOT NULL,
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
    value BLOB NOT NULL,
    crc   INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE lost (
    ring_id BLOB NOT NULL,
    owner   BLOB NOT NULL,
    kind    INTEGER NOT NULL,
    element BLOB NOT NULL,
    why     TEXT NOT NULL,
    PRIMARY KEY (ring_id, owner, kind, element)
) WITHOUT ROWID;
"""


_NAMES = ("item", "content", "chain", "account", "setting", "lost")


def _statement(table: str) -> str:
    """What makes one of the tables."""
    return next(f"CREATE {part}" for part in TABLES.split("CREATE ") if part.startswith(f"TABLE {table} "))


#: From version 1, which had no checksums but that of ``content``: its rows
#: are taken as they are, and sealed from now on.
UPGRADE = f"""
ALTER TABLE item RENAME TO item_1;
ALTER TABLE setting RENAME TO setting_1;
{_statement("item")}
{_statement("setting")}
{_statement("lost")}
INSERT INTO item SELECT item_1.*,
    item_crc(ring_id, owner, kind, element, size, (SELECT crc FROM content WHERE id = content)) FROM item_1;
INSERT INTO setting SELECT name, value, setting_crc(name, value) FROM setting_1;
DROP TABLE item_1;
DROP TABLE setting_1;
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
        connection.text_factory = _text
        connection.execute("PRAGMA journal_mode = WAL")
        # A put is on the disk when it is answered: WAL's default would be
        # durable against a killed process only, not against a power cut.
        connection.execute("PRAGMA synchronous = FULL")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version < VERSION:
            connection.create_function("item_crc", 6, item_crc, deterministic=True)
            connection.create_function("setting_crc", 2, setting_crc, deterministic=True)
            script = TABLES if version == 0 else UPGRADE
            # One transaction: cut off anywhere, it is the old version still.
            connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {VERSION}; COMMIT;")
        there = {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE type = 'table'")}
        if not {_statement(table).strip().rstrip(";") for table in _NAMES} <= there:
            connection.close()
            raise CorruptData(f"{path} is damaged (its tables are not as they were made).", REFILL)
    except (sqlite3.Error, UnicodeDecodeError) as error:
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
    except (sqlite3.Error, UnicodeDecodeError) as error:
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
    connection.text_factory = _text
    try:
        return connection, int(connection.execute("PRAGMA user_version").fetchone()[0])
    except (sqlite3.Error, UnicodeDecodeError):
        connection.close()
        raise


def resort(db: sqlite3.Connection, table: str) -> None:
    """Make a table anew from its rows as they lie, inside the caller's
    transaction: one with rows out of order, which searches miss."""
    db.execute(f"ALTER TABLE {table} RENAME TO unsorted")
    db.execute(_statement(table))
    # With a limit it goes row by row; else SQLite copies pages as they are.
    db.execute(f"INSERT OR IGNORE INTO {table} SELECT * FROM unsorted LIMIT -1")
    db.execute("DROP TABLE unsorted")


def content_crc(statement: bytes, data: bytes | None) -> int:
    """CRC-32 of statement, then data (nothing where that lies in a file)."""
    return zlib.crc32(data or b"", zlib.crc32(statement))


def item_crc(ring_id: bytes, owner: bytes, kind: int, element: bytes, size: int, content: int | None) -> int:
    """CRC-32 of ring id, owner, kind (u8), element, size (u64) and the crc of
    the content (u32); 0 for values that only rot can have put there."""
    try:
        packed = ring_id + owner + kind.to_bytes(1, "big") + element + size.to_bytes(8, "big")
        return zlib.crc32(packed + (content or 0).to_bytes(4, "big"))
    except (AttributeError, OverflowError, TypeError):
        return 0


def setting_crc(name: str, value: bytes) -> int:
    """CRC-32 of the name in UTF-8, a zero byte, and the value."""
    return zlib.crc32(value, zlib.crc32(name.encode() + b"\x00"))


def is_malformed(error: sqlite3.Error) -> bool:
    """Whether an error says that the database's own structure has rotted."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _text(raw: bytes) -> str:
    """Text, also where rot has made it none, or made text of bytes."""
    return raw.decode(errors="replace")


def database_error(error: sqlite3.Error | UnicodeDecodeError, path: Path) -> StorageError:
    """SQLite's error as one of ours, naming the file.

    One that cannot even be decoded quotes a name in the database that has
    rotted.
    """
    if isinstance(error, UnicodeDecodeError):
        return CorruptData(f"{path} is damaged (its tables are not as they were made).", REFILL)
    extended = getattr(error, "sqlite_errorcode", None) or 0
    code = extended & 0xFF
    if code == sqlite3.SQLITE_FULL or extended == sqlite3.SQLITE_IOERR_SHMSIZE:
        return DiskFull(f"No room left for {path}.", "Free some space there; nothing that was stored is lost.")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return ReadOnly(f"{path} cannot be opened or written ({error}).", "Check its owner and mount options.")
    if is_malformed(error):
        return CorruptData(f"{path} is damaged ({error}).", REFILL)
    return StorageError(f"{path}: {error}.", "Check the disk, then try again.")
