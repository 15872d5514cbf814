"""Looking for rot, a little at a time.

A pass goes through all rows in the order of their keys and looks at each item
as strictly as it was judged when it came: row and file by their checksums,
and chunk, head and entry by what their names say of them.  At its end come
the indexes: SQLite's own structure, chains, accounts.

::

    walk ──► a slice: some MiB of items ──► suspects ──► condemned in the writing thread, which looks again

What is only damaged in its key is put back in its place from what it says of
itself; chains and accounts are made anew from the items.  Everything here
blocks.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

import msgspec

from peerstore.crypto.statements import StatementType, leaf, unpack_statement
from peerstore.errors import BadMessage
from peerstore.files.chunk import verify_chunk
from peerstore.files.head import decode_head
from peerstore.items import Item, ItemKey, Kind
from peerstore.storage import chains, tables
from peerstore.storage.schema import content_crc, is_malformed, item_crc, resort
from peerstore.storage.shelf import Condemned, Rotten, Shelf
from peerstore.storage.tables import Place
from peerstore.storage.writer import Transaction
from peerstore.transactions.entry import entry_of

__all__ = ["Found", "IndexReport", "Scrubbed", "check_indexes", "condemn", "examine", "look", "mend_indexes"]

#: Rows that are listed at a time.
PAGE = 64
#: What is looked at in one go.  Not the content: that is nearly all there is,
#: and each row of it is looked at when its item's turn comes.
TABLES = ("item", "chain", "account", "setting", "lost")
_TYPES = {Kind.CHUNK: StatementType.CHUNK, Kind.HEAD: StatementType.HEAD, Kind.LOG: StatementType.LOG_ENTRY}
#: What SQLite says of a key with a flipped bit, which no search finds there.
OUT_OF_ORDER = "row not in PRIMARY KEY order for "


class Scrubbed(NamedTuple):
    """What one slice of a pass came to: where the next begins (None: the pass
    is over), how much was looked at, and how many things were rotten."""

    cursor: ItemKey | None
    items: int
    bytes: int
    rotten: int


class Found(NamedTuple):
    """One slice as the reading thread saw it: *suspects* are items whose bytes
    are wrong, *unreadable* those on pages that have rotted as a whole,
    *misplaced* rows whose key is none."""

    cursor: ItemKey | None
    items: int
    bytes: int
    suspects: tuple[ItemKey, ...] = ()
    unreadable: tuple[Rotten, ...] = ()
    misplaced: tuple[Place, ...] = ()

    @property
    def all_is_well(self) -> bool:
        """Whether there is nothing to be done."""
        return not (self.suspects or self.unreadable or self.misplaced)

    @property
    def keys(self) -> frozenset[ItemKey]:
        """What may be rotten."""
        return frozenset((*self.suspects, *(one.key for one in self.unreadable)))


class IndexReport(NamedTuple):
    """What is wrong with what is made from items: *structure* is SQLite's
    first complaint, *unsorted* tables have rows out of order, *logs* chains
    that do not fit, *owners* accounts that do not."""

    structure: str
    unsorted: tuple[str, ...] = ()
    logs: tuple[tuple[bytes, bytes], ...] = ()
    owners: tuple[bytes, ...] = ()

    @property
    def mendable(self) -> str:
        """What can be made anew, in words; empty when nothing need be."""
        parts = [f"rows of {table}" for table in self.unsorted]
        parts += [f"{len(found)} {what}" for found, what in ((self.logs, "logs"), (self.owners, "accounts")) if found]
        return ", ".join(parts)


def examine(item: Item) -> str:
    """What is wrong with an item, by its own account; empty when nothing is."""
    try:
        if item.key.kind is Kind.CHUNK:
            verify_chunk(item)
        elif item.key.kind is Kind.HEAD:
            decode_head(item)
        elif item.key.kind is Kind.LOG:
            entry_of(item)
    except BadMessage as error:
        return error.what
    return ""


def look(shelf: Shelf, db: sqlite3.Connection, after: ItemKey | None, budget: int) -> Found:
    """Look at items behind *after* until they come to *budget* bytes; at one
    at least.

    :raises sqlite3.Error: when the rows cannot even be listed.
    """
    cursor = after
    items = size = 0
    suspects: list[ItemKey] = []
    unreadable: list[Rotten] = []
    misplaced: list[Place] = []

    def found(end: ItemKey | None) -> Found:
        return Found(end, items, size, tuple(suspects), tuple(unreadable), tuple(misplaced))

    at: Place | None = None if after is None else tables.place_of(after)
    while True:
        rows = tables.walk(db, at, PAGE)
        for at in rows:
            key = tables.key_at(at)
            if key is None:
                misplaced.append(at)
                continue
            if cursor is not None and key <= cursor:
                # Out of order: what begins the next pass sees to that.
                return found(None)
            items += 1
            cursor = key
            item = shelf.load(db, key)
            if isinstance(item, Rotten) and not item.readable:
                unreadable.append(item)
            elif isinstance(item, Rotten) or (item is not None and (examine(item) or not _in_chain(db, key, item))):
                suspects.append(key)
            size += item.size if isinstance(item, Item) else 0
            if size >= budget:
                return found(cursor)
        if len(rows) < PAGE:
            return found(None)


def condemn(shelf: Shelf, tx: Transaction, found: Found) -> Condemned:
    """In the writing thread: look again, put back what can be, and move aside
    what is rotten."""
    for place in found.misplaced:
        if not refile(shelf, tx.db, place):
            # It is no key, so it cannot be asked for; what it was is missing
            # here, and comparing digests shows that.
            tables.remove(tx.db, place)
    wrong: list[Rotten] = list(found.unreadable)
    for key in found.suspects:
        item = shelf.load(tx.db, key)
        if isinstance(item, Rotten):
            if not refile(shelf, tx.db, tables.place_of(key)):
                wrong.append(item)
        elif item is not None and (why := examine(item)):
            wrong.append(Rotten(key, f"It is wrong by its own account: {why}"))
        elif key.kind is Kind.LOG and not _in_chain(tx.db, key, item):
            chains.rechain(tx.db, key.ring_id, key.owner)
    return shelf.set_aside(tx, wrong, found.keys)


def refile(shelf: Shelf, db: sqlite3.Connection, place: Place) -> bool:
    """Where only an item's own row is wrong, and its content sound: make the
    row anew, in the place that the content names; whether that was done."""
    held = tables.content_at(db, place)
    return held is not None and _put_back(shelf, db, place, held)


def _put_back(shelf: Shelf, db: sqlite3.Connection, place: Place, held: tables.Held) -> bool:
    item = _by_itself(shelf, place, held)
    if item is None:
        return False
    tables.remove(db, place)
    if tables.insert(db, item, held.data):
        db.execute("DELETE FROM content WHERE id = ?", (held.content,))
    return True


def _by_itself(shelf: Shelf, place: Place, held: tables.Held) -> Item | None:
    """The item that a row's content says it is; None when that cannot be told
    for sure."""
    if not isinstance(held.statement, bytes) or not isinstance(held.data, bytes | None):
        return None
    if held.crc != content_crc(held.statement, held.data):
        return None
    for kind, type_ in (
        (Kind.CHUNK, StatementType.CHUNK),
        (Kind.HEAD, StatementType.HEAD),
        (Kind.LOG, StatementType.LOG_ENTRY),
    ):
        try:
            body = unpack_statement(held.statement, type_)
            owner, second = msgspec.msgpack.decode(body)[:2]
        except (BadMessage, msgspec.DecodeError, TypeError, ValueError):
            continue
        ring_id, element = {
            Kind.CHUNK: (second[:20], second),
            Kind.HEAD: (second, leaf(type_, body)),
            Kind.LOG: (_address(place[0], owner, leaf(type_, body), held), leaf(type_, body)),
        }[kind]
        key = tables.key_at((ring_id, owner, int(kind), element))
        data = held.data if held.data is not None or key is None else shelf.file(key)
        if key is None or data is None:
            return None
        item = Item(key, held.statement, data)
        return None if examine(item) else item
    return None


def _address(ring_id: object, owner: bytes, element: bytes, held: tables.Held) -> bytes | None:
    """The address of an entry's log, which the entry does not say: the one
    in its row, or that with one bit changed, whichever the row's checksum
    agrees to."""
    if not isinstance(ring_id, bytes) or len(ring_id) != 20:
        return None
    there = int.from_bytes(ring_id, "big")
    for mask in (0, *(1 << bit for bit in range(160))):
        address = (there ^ mask).to_bytes(20, "big")
        if held.sealed == item_crc(address, owner, int(Kind.LOG), element, len(held.statement), held.crc):
            return address
    return None


def _in_chain(db: sqlite3.Connection, key: ItemKey, item: Item | None) -> bool:
    """Whether the chains of its log are right about an entry; nothing else
    is in any."""
    if key.kind is not Kind.LOG:
        return True
    return not chains.named(db, key) if item is None else chains.chained(db, key, item.statement)


def check_indexes(db: sqlite3.Connection) -> IndexReport:
    """Look at what is made from items, all of it at once.

    :raises sqlite3.Error: when it cannot be read.
    """
    structure, unsorted = "", []
    for table in TABLES:
        try:
            said = [row[0] for row in db.execute(f"PRAGMA integrity_check({table})")]
        except sqlite3.DatabaseError as error:
            if not is_malformed(error):
                raise
            said = [str(error)]
        # Rows that no search finds seem to have no values, too.
        if any(line.startswith(OUT_OF_ORDER) for line in said):
            unsorted.append(table)
        elif said != ["ok"]:
            structure = structure or f"{table}: {said[0]}"
    if structure or unsorted:
        return IndexReport(structure, tuple(unsorted))
    return IndexReport("", (), tuple(chains.stray_logs(db)), tuple(tables.wrong_accounts(db)))


def mend_indexes(shelf: Shelf, tx: Transaction, report: IndexReport) -> None:
    """In the writing thread: sort what is out of order, and make chains and
    accounts anew."""
    for table in report.unsorted:
        resort(tx.db, table)
    if "item" in report.unsorted:
        # A row that was no row any more did not come along.
        for held in tables.orphans(tx.db):
            _put_back(shelf, tx.db, (None, None, None, None), held)
    for ring_id, owner in report.logs:
        chains.rechain(tx.db, ring_id, owner)
    for owner in report.owners:
        tables.recount(tx.db, owner)
