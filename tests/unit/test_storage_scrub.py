"""Scrub: rot is found wherever it is, never served, kept aside, and missed."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.errors import CorruptData, RingMismatch, StorageError
from peerstore.items import Item, ItemKey, Kind
from peerstore.node.preflight import check_data
from peerstore.storage import schema, tables
from peerstore.storage.doubts import Doubts
from peerstore.storage.listing import list_keys, list_lost
from peerstore.storage.memory_store import MemoryNodeStore
from peerstore.storage.quarantine import Quarantine, list_quarantine
from peerstore.storage.schema import DATABASE, REFILL
from peerstore.storage.scrub import Scrubbed
from peerstore.storage.sqlite_store import SqliteNodeStore
from tests.support.log_lines import LogLines
from tests.support.storage import (
    OTHER,
    OWNER,
    CrashingDisk,
    SqliteMedium,
    chunk,
    entry,
    head,
    large_chunk,
    record,
    some_of_everything,
)

VECTORS = Path(__file__).parent.parent / "vectors" / "node_rows.json"
LOG = b"\x0c" * 20
MIB = 1024 * 1024

#: The tables of version 1, as they were.
VERSION_1 = """
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


class ScrubCase(SynchronousTestCase):
    """One folder, and a store that is open in it."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.medium = SqliteMedium(self.folder)
        self.wait = self.medium.wait
        self.store: SqliteNodeStore = self.medium.open()
        self.addCleanup(lambda: self.medium.close(self.store))

    def reopen(self) -> None:
        """Stop, and start again."""
        self.medium.close(self.store)
        self.store = self.medium.open()

    def put(self, *items: Item) -> None:
        """Put and wait."""
        self.wait(self.store.put(items))

    def get(self, *items: Item) -> list[Item | None]:
        """Get these items' keys and wait."""
        found: list[Item | None] = self.wait(self.store.get([item.key for item in items]))
        return found

    def lost(self) -> list[ItemKey]:
        """What is to be fetched again."""
        found: list[ItemKey] = self.wait(self.store.lost(100))
        return found

    def scrub(self, budget: int = 100 * MIB) -> Scrubbed:
        """A whole pass; its sums."""
        cursor, items, size, rotten = None, 0, 0, 0
        while True:
            part = self.wait(self.store.scrub(cursor, budget))
            items, size, rotten = items + part.items, size + part.bytes, rotten + part.rotten
            cursor = part.cursor
            if cursor is None:
                return Scrubbed(None, items, size, rotten)

    def sql(self, statement: str, *values: object) -> list[Any]:
        """Change the database behind the store's back."""
        db = sqlite3.connect(self.folder / DATABASE)
        try:
            with db:
                return db.execute(statement, values).fetchall()
        finally:
            db.close()

    def flip_content(self, item: Item, column: str) -> None:
        """One bit of a row's content."""
        ((raw, number),) = self.sql(
            f"SELECT {column}, id FROM content WHERE id = (SELECT content FROM item WHERE element = ?)",
            item.key.element,
        )
        self.sql(f"UPDATE content SET {column} = ? WHERE id = ?", flipped(raw), number)

    def file_of(self, item: Item) -> Path:
        """Where a large chunk lies."""
        name = item.key.element.hex()
        return self.folder / "chunks" / name[:2] / f"{name}.{item.key.owner.hex()}"


def flipped(raw: bytes) -> bytes:
    """The same with one bit changed, in the middle."""
    changed = bytearray(raw)
    changed[len(raw) // 2] ^= 0x10
    return bytes(changed)


class PassTests(ScrubCase):
    """A pass over everything, in slices."""

    def test_all_is_well(self) -> None:
        """Every item and byte is looked at, and nothing is found."""
        items = some_of_everything()
        self.put(*items)
        total = sum(item.size for item in items)
        self.assertEqual(self.scrub(), Scrubbed(None, len(items), total, 0))
        self.assertEqual(self.wait(self.store.total()), total)
        self.assertEqual((self.lost(), self.wait(self.store.check())), ([], ""))

    def test_slices_come_to_the_whole(self) -> None:
        """However small they are, each thing is looked at once."""
        items = [chunk(number, owner) for number in range(100) for owner in (OWNER, OTHER)]
        self.put(*items)
        for budget in (1, 500, 5000):
            self.assertEqual(self.scrub(budget).items, len(items))

    def test_a_slice_is_about_as_large_as_asked(self) -> None:
        """It ends with the item that fills it."""
        self.put(*(chunk(number, size=1000) for number in range(20)))
        part = self.wait(self.store.scrub(None, 4000))
        self.assertEqual((part.items, part.cursor is None), (4, False))

    def test_nothing_is_a_pass(self) -> None:
        """An empty store."""
        self.assertEqual(self.scrub(), Scrubbed(None, 0, 0, 0))


class RotTests(ScrubCase):
    """One flipped bit, wherever it is."""

    def is_found(self, item: Item) -> None:
        """Scrub finds it, before anybody reads; it is gone, noted, and comes
        back with a good copy."""
        told: list[bool] = []
        self.store.doubts.watch(lambda: told.append(True))
        self.assertEqual(self.scrub().rotten, 1)
        self.assertEqual(told, [True])
        self.assertEqual(self.wait(self.store.have([item.key])), [False])
        self.assertEqual(self.get(item), [None])
        self.assertEqual(self.lost(), [item.key])
        self.assertEqual(self.scrub().rotten, 0)
        self.put(item)
        self.assertEqual((self.get(item), self.lost()), ([item], []))
        self.assertEqual(self.scrub().rotten, 0)

    def test_in_a_chunks_file(self) -> None:
        """Its bytes are kept aside."""
        item = large_chunk(0)
        self.put(item, chunk(1))
        rotten = flipped(item.data)
        self.file_of(item).write_bytes(rotten)
        self.is_found(item)
        kept = self.folder / "quarantine" / self.file_of(item).name
        self.assertEqual(kept.read_bytes(), rotten)

    def test_in_rows(self) -> None:
        """In what a small chunk, a head, an entry and a record say, and in
        what they hold; what the row held is kept aside."""
        for item in (chunk(0), head(0), entry(1), record(0)):
            for column in ("statement", "data"):
                if getattr(item, column):
                    self.put(item, chunk(1))
                    self.flip_content(item, column)
                    self.is_found(item)
                    name = f"{item.key.kind.name.lower()}-{item.key.element.hex()}.{item.key.owner.hex()}"
                    raw = (self.folder / "quarantine" / name).read_bytes()
                    good = item.statement + item.data
                    self.assertEqual(sum((a ^ b).bit_count() for a, b in zip(raw, good, strict=True)), 1)

    def test_a_put_replaces_it(self) -> None:
        """Whoever puts what is there and rotten is not told that it is kept
        before it is: what is read then is right."""
        for item in (chunk(0), head(0), entry(1), large_chunk(0)):
            self.put(item)
            if item.size > 64 * 1024:
                self.file_of(item).write_bytes(flipped(item.data))
            else:
                self.flip_content(item, "statement")
            self.put(item)
            self.assertEqual((self.get(item), self.lost(), self.scrub().rotten), ([item], [], 0))
        self.assertEqual(self.wait(self.store.check()), "")
        self.assertEqual(self.wait(self.store.usage(OWNER))[1], 4)

    def test_reading_finds_it_too(self) -> None:
        """Whoever reads first is not served rot."""
        for item in (chunk(0), head(0), entry(1), record(0)):
            self.put(item)
            self.flip_content(item, "statement")
            self.assertEqual(self.get(item), [None])
            self.assertEqual(self.lost(), [item.key])
            self.put(item)

    def test_content_of_another(self) -> None:
        """A row that points to the content of another, which is sound: one is
        mended from what it says of itself, and the other is noted as lost."""
        for first, second in ((head(0), head(1)), (entry(1), entry(2)), (chunk(0), chunk(1))):
            self.put(first, second)
            self.sql(
                "UPDATE item SET content = (SELECT content FROM item WHERE element = ?) WHERE element = ?",
                second.key.element,
                first.key.element,
            )
            self.assertEqual(self.get(first, second), [None, second])
            self.scrub()
            self.assertEqual(self.get(first, second), [None, second])
            self.put(first)
            self.assertEqual((self.get(first, second), self.scrub().rotten), ([first, second], 0))

    def test_wrong_by_its_own_account(self) -> None:
        """Sealed as it is, but not what its name says: a fault that came in
        by another way than the disk."""
        sound, other = head(1), head(2)
        self.put(Item(sound.key, other.statement, other.data))
        self.assertEqual(self.get(sound), [None])
        self.put(Item(other.key, other.statement, sound.data))
        self.assertEqual(self.scrub().rotten, 1)
        self.assertEqual(self.get(other), [None])


class RowTests(ScrubCase):
    """Rot in what stands around the content."""

    def test_a_wrong_checksum_or_size_is_put_right(self) -> None:
        """The content says what the row should say; nothing is lost."""
        items = [chunk(0), head(0), large_chunk(1)]
        self.put(*items)
        for item in items:
            for column in ("crc", "size"):
                self.sql(f"UPDATE item SET {column} = {column} + 64 WHERE element = ?", item.key.element)
                self.assertEqual(self.scrub().rotten, 0)
                self.assertEqual((self.get(item), self.lost()), ([item], []))
        self.assertEqual(self.wait(self.store.check()), "")
        self.assertEqual(self.wait(self.store.usage(OWNER)), (sum(item.size for item in items), 3))

    def test_a_key_is_put_right(self) -> None:
        """Wherever a bit of it flipped: ring id, owner, kind, element."""
        for item in (chunk(0), head(0, resource=b"\x0e" * 20), large_chunk(0), entry(1)):
            for column in ("ring_id", "owner", "element"):
                self.put(item)
                old = getattr(item.key, column)
                self.sql(f"UPDATE item SET {column} = ? WHERE {column} = ?", flipped(old), old)
                self.assertEqual(self.get(item), [None])
                self.assertEqual(self.scrub().rotten, 0)
                self.assertEqual((self.get(item), self.lost()), ([item], []), (item.key.kind, column))
            self.put(item)
            self.sql("UPDATE item SET kind = 9")
            self.scrub()
            self.assertEqual(self.get(item), [item])
            self.wait(self.store.remove([item.key]))

    def test_an_entry_at_a_wrong_address(self) -> None:
        """With more than a bit changed nothing tells where its log is: moved
        aside, and its log is whole again once it is put again."""
        self.put(entry(1), entry(2))
        wrong = bytes(range(20))
        self.sql("UPDATE item SET ring_id = ? WHERE element = ?", wrong, entry(1).key.element)
        self.assertEqual(self.wait(self.store.logs.read_since(LOG, OWNER, {}, 10)), ([entry(2)], False))
        self.scrub()
        self.assertEqual(self.wait(self.store.have([ItemKey(wrong, OWNER, Kind.LOG, entry(1).key.element)])), [False])
        self.put(entry(1))
        self.assertEqual(self.wait(self.store.logs.read_since(LOG, OWNER, {}, 10)), ([entry(1), entry(2)], False))

    def test_a_key_that_is_none(self) -> None:
        """Ranges are listed and compared without it, and scrub removes it."""
        self.put(chunk(0), head(0))
        for wrong in (b"short", "text", None):
            self.sql("INSERT INTO item VALUES (?, ?, 1, ?, 1, 999, 0)", b"\x01" * 20, OWNER, wrong or b"")
            keys, _ = self.wait(self.store.range_list(bytes(20), bytes(20), (), None, 10))
            count, _ = self.wait(self.store.range_digest(bytes(20), bytes(20), ()))
            self.assertEqual((sorted(keys), count), (sorted([chunk(0).key, head(0).key]), 2))
            self.scrub()
            self.assertEqual(self.sql("SELECT COUNT(*) FROM item"), [(2,)])

    def test_a_chain_is_made_anew(self) -> None:
        """By who reads the log, or by scrub: a wrong number, a wrong element,
        a row that is missing, and one too many."""
        chain = [entry(1), entry(2), entry(3)]
        self.put(*chain)
        element = entry(2).key.element
        for harm, values in (
            ("UPDATE chain SET element = ? WHERE element = ?", (flipped(element), element)),
            ("DELETE FROM chain WHERE element = ?", (element,)),
            ("UPDATE chain SET number = 66 WHERE element = ?", (element,)),
            ("INSERT INTO chain SELECT ring_id, owner, device, 4, ? FROM chain LIMIT 1", (b"\x09" * 32,)),
        ):
            self.sql(harm, *values)
            self.assertEqual(self.wait(self.store.check()), "")
            self.scrub()
            self.assertEqual(self.wait(self.store.logs.read_since(LOG, OWNER, {}, 10)), (chain, False), harm)
            self.assertEqual(list(self.wait(self.store.logs.chain_heads(LOG, OWNER)).values()), [3])
        self.assertEqual(self.lost(), [])

    def test_a_reader_mends_the_chain_it_reads(self) -> None:
        """A chain that names what is not there gives a whole answer at once."""
        chain = [entry(1), entry(2), entry(3)]
        self.put(*chain)
        self.sql("UPDATE chain SET element = ? WHERE number = 2", b"\x09" * 32)
        self.assertEqual(self.wait(self.store.logs.read_since(LOG, OWNER, {}, 10)), (chain, False))

    def test_accounts_are_made_anew(self) -> None:
        """Wrong sums, and an owner who is nobody."""
        self.put(*some_of_everything())
        before = [self.wait(self.store.usage(owner)) for owner in (OWNER, OTHER)]
        self.sql("UPDATE account SET bytes = bytes + 1024")
        self.sql("INSERT INTO account VALUES (?, 5, 1)", b"\x0f" * 20)
        self.wait(self.store.check())
        after = [self.wait(self.store.usage(owner)) for owner in (OWNER, OTHER, b"\x0f" * 20)]
        self.assertEqual(after, [*before, (0, 0)])

    def test_settings(self) -> None:
        """A setting with a flipped bit is told, not believed."""
        self.wait(self.store.keep_setting("copies", b"3"))
        self.sql("UPDATE setting SET value = ?", b"2")
        with self.assertRaises(CorruptData) as caught:
            self.wait(self.store.setting("copies"))
        self.assertIn("'copies'", str(caught.exception))


class StructureTests(ScrubCase):
    """Rot in SQLite's own pages."""

    def damaged(self, needle: bytes, change: Any) -> None:
        """Stop, change the page that holds *needle*, and start again."""
        self.medium.close(self.store)
        path = self.folder / DATABASE
        raw = bytearray(path.read_bytes())
        at = raw.rfind(needle)
        page = at // 4096 * 4096
        change(raw, at, page)
        path.write_bytes(raw)
        self.store = self.medium.open()

    def zero(self, raw: bytearray, at: int, page: int) -> None:
        """The whole page is gone."""
        raw[page : page + 4096] = bytes(4096)

    def many(self) -> list[Item]:
        """Enough for several pages."""
        items = [head(number, resource=number.to_bytes(20, "big")) for number in range(1, 300)]
        self.put(*items)
        return items

    def test_keys_out_of_order_are_sorted(self) -> None:
        """A flipped high bit of a key: no search finds the row there."""
        items = self.many()
        lost = items[150]

        def flip(raw: bytearray, at: int, page: int) -> None:
            raw[at] ^= 0x80

        self.damaged(lost.key.ring_id + lost.key.owner, flip)
        self.assertEqual(self.wait(self.store.check()), "")
        self.scrub()
        self.assertEqual((self.get(*items), self.lost()), (items, []))
        self.assertFalse(self.store.doubts.at(lost.key.ring_id))

    def test_a_walk_over_rows_out_of_order_ends(self) -> None:
        """Also where nobody has sorted them before."""
        items = self.many()

        def flip(raw: bytearray, at: int, page: int) -> None:
            raw[at + 19] ^= 0x80

        # What stood behind 199 is 72 now, and a search goes on with 73.
        self.damaged(items[199].key.ring_id + items[199].key.owner, flip)
        for budget in (1, 500, 100 * MIB):
            self.assertLessEqual(self.scrub(budget).items, 2 * len(items))

    def test_a_page_of_content(self) -> None:
        """Those on it are noted as lost one by one, the others are read, and
        the store takes them again; what to do about the page is said once."""
        lines = LogLines(self)
        items = self.many()
        self.damaged(items[150].data, self.zero)
        found = self.get(*items)
        missing = [item for item, here in zip(items, found, strict=True) if here is None]
        self.assertEqual([here for here in found if here], [item for item in items if item not in missing])
        self.assertTrue(0 < len(missing) < 100)
        self.assertEqual(sorted(self.lost()), sorted(item.key for item in missing))
        self.assertEqual(len(lines.having("Stop the node")), 1)
        self.put(*missing)
        self.assertEqual(self.get(*items), items)
        self.assertEqual(self.scrub().rotten, 0)

    def test_a_page_of_keys(self) -> None:
        """Everything is in doubt then: the store cannot say what it lacks."""
        items = self.many()
        self.damaged(items[150].key.ring_id + items[150].key.owner, self.zero)
        found = self.get(*items)
        missing = [item for item, here in zip(items, found, strict=True) if here is None]
        self.assertTrue(0 < len(missing) < 100)
        self.assertEqual([here for here in found if here], [item for item in items if item not in missing])
        with self.assertRaises(CorruptData) as caught:
            self.wait(self.store.range_digest(bytes(20), bytes(20), ()))
        self.assertIn("damaged", str(caught.exception))
        self.assertIn("Stop the node", caught.exception.next_step)
        self.assertTrue(self.store.doubts.at(b"any" * 7))
        self.assertTrue(self.store.doubts.between(bytes(20), b"\1" * 20))
        self.assertIn("Stop the node", self.wait(self.store.check()))
        with self.assertRaises(CorruptData):
            self.scrub()

    def test_the_names_of_columns(self) -> None:
        """A flipped bit in what SQLite knows of the tables."""
        self.many()

        def rename(raw: bytearray, at: int, page: int) -> None:
            raw[at] ^= 0x02

        with self.assertRaises(CorruptData) as caught:
            self.damaged(b"statement BLOB NOT NULL", rename)
        self.assertIn("its tables", str(caught.exception))
        (self.folder / DATABASE).unlink()
        self.store = self.medium.open()

    def test_the_first_page(self) -> None:
        """The start is refused, with the safe next step."""
        self.many()
        with self.assertRaises(CorruptData) as caught:
            self.damaged(b"SQLite format 3", self.zero)
        self.assertIn("key.pem", caught.exception.next_step)
        (self.folder / DATABASE).unlink()
        self.store = self.medium.open()


class RefillTests(SynchronousTestCase):
    """What is said of a database that is past mending."""

    def test_a_step_that_is_safe(self) -> None:
        """A node with an empty folder begins a ring of its own unless it is told whom to join, and says of
        everything that it is not there; and the old folder may be the last one with a thing."""
        self.assertIn("--join", REFILL)
        self.assertIn("Keep the old folder", REFILL)


class DoubtTests(ScrubCase):
    """What was lost is not "never was"."""

    def test_a_lost_entry_leaves_its_place_in_doubt(self) -> None:
        """Until it is back; also over a restart."""
        self.put(entry(1), head(0))
        self.flip_content(entry(1), "statement")
        self.assertFalse(self.store.doubts.at(LOG))
        self.wait(self.store.logs.read_since(LOG, OWNER, {}, 10))
        self.assertTrue(self.store.doubts.at(LOG))
        self.reopen()
        self.assertTrue(self.store.doubts.at(LOG))
        self.assertFalse(self.store.doubts.at(head(0).key.ring_id))
        before = (int.from_bytes(LOG, "big") - 1).to_bytes(20, "big")
        self.assertEqual([self.store.doubts.between(*ends) for ends in ((before, LOG), (LOG, before))], [True, False])
        self.put(entry(1))
        self.assertFalse(self.store.doubts.at(LOG))

    def test_given_up(self) -> None:
        """Nobody has it: no doubt any more, also after a restart."""
        self.put(entry(1))
        self.flip_content(entry(1), "statement")
        self.get(entry(1))
        self.wait(self.store.give_up([entry(1).key]))
        self.assertEqual((self.store.doubts.at(LOG), self.lost()), (False, []))
        self.reopen()
        self.assertFalse(self.store.doubts.at(LOG))

    def test_between(self) -> None:
        """Whether a place in doubt is in a part of the circle, wherever that begins, also past zero; equal
        ends are all of it."""
        spots = [number.to_bytes(20, "big") for number in (0, 1, 5, 6, (1 << 160) - 1)]
        for count in range(4):
            for places in itertools.combinations(spots, count):
                doubts = Doubts()
                keys = [ItemKey(place, OWNER, Kind.HEAD, bytes(32)) for place in places]
                doubts.add(keys)
                doubts.add(keys[:1])
                for low, high in itertools.product(spots, repeat=2):
                    ends = int.from_bytes(low, "big"), int.from_bytes(high, "big")
                    wanted = any(ids.in_half_open(ends[0], int.from_bytes(place, "big"), ends[1]) for place in places)
                    self.assertEqual(doubts.between(low, high), wanted, (places, low, high))
                doubts.clear(keys)
                self.assertFalse(doubts.between(bytes(20), bytes(20)))
                doubts.broken = "It is damaged."
                self.assertTrue(doubts.between(spots[1], spots[2]))

    def test_what_is_lost_page_by_page(self) -> None:
        """Each once, whatever a page has room for; what is voted on comes first."""
        items = [entry(1), *(head(number) for number in range(4)), *(chunk(number) for number in range(4))]
        self.put(*items)
        for item in items:
            self.flip_content(item, "statement")
        self.get(*items)
        pages = [self.wait(self.store.lost(4, skip)) for skip in (0, 4, 8, 12)]
        self.assertEqual([len(page) for page in pages], [4, 4, 1, 0])
        listed = [key for page in pages for key in page]
        self.assertEqual(sorted(listed), sorted(item.key for item in items))
        self.assertEqual([key.kind for key in listed[-4:]], [Kind.CHUNK] * 4)

    def test_in_doubt_before_it_is_moved_aside(self) -> None:
        """From the moment at which it was seen to be rotten."""
        self.put(entry(1))
        self.flip_content(entry(1), "statement")
        seen: list[bool] = []
        real = self.store._writing

        def watched(work: Any) -> Any:
            seen.append(self.store.doubts.at(LOG))
            return real(work)

        self.patch(self.store, "_writing", watched)
        self.get(entry(1))
        self.assertEqual(seen, [True])

    def test_chunks_are_no_doubt(self) -> None:
        """Whoever does not find one asks the next node."""
        doubts = Doubts()
        doubts.add([chunk(0).key])
        self.assertFalse(doubts.at(chunk(0).key.ring_id))
        doubts.clear([chunk(0).key, entry(1).key])
        doubts.broken = "all of it"
        self.assertTrue(doubts.at(chunk(0).key.ring_id))

    def test_what_cannot_be_moved_aside_is_not_served(self) -> None:
        """A disk that takes no writes: still never rotten bytes, and one that
        is well is served in the same answer."""
        self.put(entry(1), chunk(0))
        self.flip_content(entry(1), "statement")
        assert self.store._writer is not None

        def refused(work: Any) -> Any:
            from twisted.internet.defer import fail

            return fail(StorageError("It takes none."))

        self.patch(self.store._writer, "submit", refused)
        self.assertEqual(self.get(entry(1), chunk(0)), [None, chunk(0)])
        self.assertTrue(self.store.doubts.at(LOG))


class CutTests(ScrubCase):
    """A process that ends, or a disk that fails, in the middle of it."""

    def fails_at(self, module: Any, name: str) -> Any:
        """Whoever calls this fails as SQLite does without room; a patch that
        can be taken back."""

        def full(*args: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        return self.patch(module, name, full)

    def crashed(self) -> None:
        """What lies on the disk at this moment is opened anew."""
        copy = Path(self.mktemp())
        shutil.copytree(self.folder, copy)
        self.medium.close(self.store)
        self.folder = copy
        self.medium = SqliteMedium(copy)
        self.wait = self.medium.wait
        self.store = self.medium.open()

    def test_between_moving_and_noting(self) -> None:
        """The file is in quarantine, and its row is still there: found again."""
        item = large_chunk(0)
        self.put(item)
        rotten = flipped(item.data)
        self.file_of(item).write_bytes(rotten)
        patch = self.fails_at(tables, "lose")
        self.assertEqual(self.get(item), [None])
        self.assertEqual(self.wait(self.store.have([item.key])), [True])
        self.assertFalse(self.file_of(item).exists())
        patch.restore()
        self.crashed()
        self.assertEqual(self.scrub().rotten, 1)
        self.assertEqual((self.lost(), self.wait(self.store.have([item.key]))), ([item.key], [False]))
        kept = self.folder / "quarantine" / self.file_of(item).name
        self.assertEqual(kept.read_bytes(), rotten)

    def test_removed_and_noted_at_once(self) -> None:
        """Neither without the other."""
        self.put(entry(1))
        self.flip_content(entry(1), "statement")
        with_rot = self.sql("SELECT COUNT(*) FROM item")
        self.fails_at(tables, "lose")
        self.assertEqual(self.get(entry(1)), [None])
        self.assertEqual((self.sql("SELECT COUNT(*) FROM item"), self.lost()), (with_rot, []))
        self.assertTrue(self.store.doubts.at(LOG))

    def test_put_and_found_at_once(self) -> None:
        """A put that fails leaves it lost, and its place in doubt."""
        self.put(entry(1))
        self.flip_content(entry(1), "statement")
        self.get(entry(1))
        self.fails_at(tables, "item_crc")
        with self.assertRaises(StorageError):
            self.put(entry(1))
        self.assertEqual((self.lost(), self.store.doubts.at(LOG)), ([entry(1).key], True))
        self.crashed()
        self.assertEqual((self.lost(), self.store.doubts.at(LOG)), ([entry(1).key], True))


class QuarantineTests(SynchronousTestCase):
    """Rotten bytes for a person to look at."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.quarantine = Quarantine(self.folder, most_bytes=1000, most_files=5)
        self.quarantine.open()

    def names(self) -> list[str]:
        """What is there."""
        return [one.name for one in list_quarantine(self.folder)]

    def test_the_oldest_go_first(self) -> None:
        """At most so many bytes."""
        for number in range(4):
            self.quarantine.note(f"head-{number}", bytes(400))
            os.utime(self.folder / "quarantine" / f"head-{number}")
        self.assertEqual(self.names(), ["head-2", "head-3"])

    def test_at_most_so_many(self) -> None:
        """However small they are."""
        for number in range(9):
            self.quarantine.note(f"head-{number}", b"")
        self.assertEqual(len(self.names()), 5)
        self.assertIn("head-8", self.names())

    def test_a_file_that_is_gone(self) -> None:
        """Nothing to move."""
        self.quarantine.take(self.folder / "nothing")
        self.assertEqual(self.names(), [])

    def test_no_folder_is_an_empty_one(self) -> None:
        """Of what is no data folder."""
        self.assertEqual(list_quarantine(self.folder / "elsewhere"), [])

    def test_a_disk_that_takes_nothing(self) -> None:
        """The bytes are not kept, and that is all."""
        blocked = self.folder / "quarantine"
        blocked.rmdir()
        blocked.write_bytes(b"")
        self.quarantine.note("head-1", b"rot")
        self.assertEqual(blocked.read_bytes(), b"")


class ListingTests(ScrubCase):
    """``peerstore node keys`` names what was lost."""

    def test_lost_things(self) -> None:
        """Each with how it was lost, also while the node runs."""
        self.put(entry(1), chunk(0))
        self.assertEqual(list_lost(self.folder), [])
        self.flip_content(entry(1), "statement")
        self.get(entry(1))
        ((key, why),) = list_lost(self.folder)
        self.assertEqual((key, why), (entry(1).key, "Its row has rotted."))
        self.assertEqual(len(list(list_keys(self.folder))), 1)


class VersionTests(SynchronousTestCase):
    """Folders of version 1, and the checksums of version 2."""

    def setUp(self) -> None:
        self.vectors: dict[str, Any] = json.loads(VECTORS.read_text())
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.medium = SqliteMedium(self.folder)

    def sql(self, statement: str) -> list[Any]:
        """Look into the database."""
        db = sqlite3.connect(self.folder / DATABASE)
        try:
            return db.execute(statement).fetchall()
        finally:
            db.close()

    def old(self, items: list[Item]) -> None:
        """A folder that version 1 has left."""
        db = sqlite3.connect(self.folder / DATABASE)
        db.executescript(VERSION_1)
        for number, item in enumerate(items, 1):
            key = item.key
            crc = schema.content_crc(item.statement, item.data)
            db.execute("INSERT INTO content VALUES (?, ?, ?, ?)", (number, item.statement, item.data, crc))
            values = (key.ring_id, key.owner, int(key.kind), key.element, item.size, number)
            db.execute("INSERT INTO item VALUES (?, ?, ?, ?, ?, ?)", values)
        db.execute("INSERT INTO account VALUES (?, ?, ?)", (OWNER, sum(item.size for item in items), len(items)))
        db.execute("INSERT INTO setting VALUES ('copies', x'33'), ('virtual-nodes', x'38')")
        db.execute("PRAGMA user_version = 1")
        db.commit()
        db.close()

    def test_rows_are_sealed_as_written_down(self) -> None:
        """Checksums of items and settings, byte for byte."""
        for row in self.vectors["items"]:
            key = [bytes.fromhex(row[name]) for name in ("ring_id", "owner", "element")]
            statement, data = bytes.fromhex(row["statement"]), bytes.fromhex(row["data"])
            crc = schema.content_crc(statement, data)
            self.assertEqual(crc, row["content_crc"])
            self.assertEqual(schema.item_crc(key[0], key[1], row["kind"], key[2], row["size"], crc), row["item_crc"])
        for row in self.vectors["settings"]:
            self.assertEqual(schema.setting_crc(row["name"], bytes.fromhex(row["value"])), row["crc"])

    def test_the_store_writes_them(self) -> None:
        """What a put leaves in the tables is what the vectors say."""
        store = self.medium.open()
        rows = self.vectors["items"]
        for row in rows:
            key = ItemKey(
                bytes.fromhex(row["ring_id"]),
                bytes.fromhex(row["owner"]),
                Kind(row["kind"]),
                bytes.fromhex(row["element"]),
            )
            self.medium.wait(store.put([Item(key, bytes.fromhex(row["statement"]), bytes.fromhex(row["data"]))]))
        for row in self.vectors["settings"]:
            self.medium.wait(store.keep_setting(row["name"], bytes.fromhex(row["value"])))
        self.medium.close(store)
        self.assertEqual(
            sorted(self.sql("SELECT item.crc, content.crc FROM item JOIN content ON content.id = content")),
            sorted((row["item_crc"], row["content_crc"]) for row in rows),
        )
        self.assertEqual(
            self.sql("SELECT name, crc FROM setting WHERE name NOT LIKE 'storage:%' ORDER BY name"),
            sorted((row["name"], row["crc"]) for row in self.vectors["settings"]),
        )

    def test_version_1_is_brought_up_to_date(self) -> None:
        """All that it held is there, sealed, and the tables are the new ones."""
        items = [chunk(0), head(0), record(0)]
        self.old(items)
        for _ in range(2):
            store = self.medium.open()
            self.assertEqual(self.medium.wait(store.get([item.key for item in items])), items)
            self.assertEqual(self.medium.wait(store.setting("copies")), b"3")
            self.assertEqual(self.medium.wait(store.scrub(None, MIB)).rotten, 0)
            self.medium.close(store)
        self.assertEqual(self.sql("PRAGMA user_version"), [(2,)])
        tables = dict(self.sql("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
        new = Path(self.mktemp())
        new.mkdir()
        db = schema.open_database(new / DATABASE)
        self.addCleanup(db.close)
        self.assertEqual(tables, dict(db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'")))

    def test_rot_from_before_is_still_rot(self) -> None:
        """What had changed under version 1's checksum is not sealed as good."""
        self.old([chunk(0), head(0)])
        db = sqlite3.connect(self.folder / DATABASE)
        db.execute("UPDATE content SET data = x'00' WHERE id = 2")
        db.commit()
        db.close()
        store = self.medium.open()
        self.addCleanup(self.medium.close, store)
        self.assertEqual(self.medium.wait(store.get([chunk(0).key, head(0).key])), [chunk(0), None])

    def test_looked_at_before_it_is_brought_up_to_date(self) -> None:
        """The keys of a folder that no node of this version has opened yet,
        and its settings, which are read before the node becomes a daemon."""
        self.old([chunk(0)])
        self.assertEqual([key.element for key in list_keys(self.folder)], [chunk(0).key.element])
        self.assertEqual(list_lost(self.folder), [])
        check_data(self.folder, 3, 8)
        with self.assertRaises(RingMismatch):
            check_data(self.folder, 2, 8)

    def test_cut_off_anywhere_it_is_the_old_version(self) -> None:
        """The change is one transaction."""
        self.old([chunk(0)])
        self.patch(schema, "UPGRADE", schema.UPGRADE + "INSERT INTO nothing VALUES (1);")
        with self.assertRaises(StorageError):
            self.medium.open()
        self.assertEqual(self.sql("PRAGMA user_version"), [(1,)])
        self.assertEqual(len(self.sql("SELECT * FROM item")[0]), 6)


class MemoryTests(SynchronousTestCase):
    """The provider in memory finds rot on its disk as well."""

    def setUp(self) -> None:
        self.disk = CrashingDisk()
        self.store = MemoryNodeStore(self.disk)
        self.successResultOf(self.store.start())
        self.items = [chunk(0), head(0), entry(1)]
        self.successResultOf(self.store.put(self.items))

    def rot(self, item: Item) -> None:
        """Change what the disk has of an item."""
        for key, value in self.disk.load().items():
            if item.key.element in key:
                self.disk.write(key, value[:50])

    def test_found_by_a_pass(self) -> None:
        """Gone, in doubt, and told."""
        told: list[bool] = []
        self.store.doubts.watch(lambda: told.append(True))
        self.assertEqual(self.successResultOf(self.store.scrub(None, MIB)).rotten, 0)
        self.rot(entry(1))
        self.assertEqual(self.successResultOf(self.store.scrub(None, MIB)).rotten, 1)
        self.assertEqual(self.successResultOf(self.store.get([entry(1).key])), [None])
        self.assertEqual((self.store.doubts.at(LOG), told), (True, [True]))
        self.assertEqual(self.successResultOf(self.store.lost(9)), [entry(1).key])

    def test_found_at_the_start(self) -> None:
        """And known as lost from then on, until it is put again."""
        self.rot(entry(1))
        for _ in range(2):
            self.store = MemoryNodeStore(self.disk)
            self.successResultOf(self.store.start())
            self.assertTrue(self.store.doubts.at(LOG))
        self.successResultOf(self.store.put([entry(1)]))
        self.assertFalse(self.store.doubts.at(LOG))
        self.store = MemoryNodeStore(self.disk)
        self.successResultOf(self.store.start())
        self.assertFalse(self.store.doubts.at(LOG))

    def test_given_up(self) -> None:
        """Waited for no more."""
        self.rot(entry(1))
        self.successResultOf(self.store.scrub(None, MIB))
        self.successResultOf(self.store.give_up([entry(1).key]))
        self.assertEqual((self.successResultOf(self.store.lost(9)), self.store.doubts.at(LOG)), ([], False))

    def test_slices(self) -> None:
        """One thing at a time."""
        cursor, count = None, 0
        while True:
            part = self.successResultOf(self.store.scrub(cursor, 1))
            count, cursor = count + part.items, part.cursor
            if cursor is None:
                break
        self.assertEqual(count, len(self.items))
        self.assertEqual(self.successResultOf(self.store.total()), sum(item.size for item in self.items))
        self.assertEqual(self.successResultOf(self.store.check()), "")
