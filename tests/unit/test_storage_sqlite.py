"""SQLite and files: what a disk can do to a store, and what it then says."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import BadMessage, CorruptData, NewerSchema, StorageError, UsageError
from peerstore.items import Item, ItemKey, Kind
from peerstore.storage.listing import list_keys
from peerstore.storage.schema import DATABASE, VERSION
from peerstore.storage.sqlite_store import SqliteNodeStore
from tests.support.storage import (
    OWNER,
    PATIENCE,
    WHOLE,
    SqliteMedium,
    chunk,
    entry,
    head,
    large_chunk,
    some_of_everything,
)


class _FolderCase(SynchronousTestCase):
    """One folder, and a store that is open in it."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.medium = SqliteMedium(self.folder)
        self.wait = self.medium.wait
        self.stores: list[SqliteNodeStore] = []
        self.addCleanup(lambda: [self.medium.close(store) for store in self.stores])
        self.store = self.open()

    def open(self) -> SqliteNodeStore:
        """A started store, stopped at the end."""
        store = self.medium.open()
        self.stores.append(store)
        return store

    def close(self) -> None:
        """Stop the store in order."""
        self.medium.close(self.stores.pop())

    def put(self, *items: Item) -> list[bool]:
        """Put and wait."""
        new: list[bool] = self.wait(self.store.put(items))
        return new

    def get(self, *items: Item) -> list[Item | None]:
        """Get these items' keys and wait."""
        found: list[Item | None] = self.wait(self.store.get([item.key for item in items]))
        return found

    def file_of(self, item: Item) -> Path:
        """Where a large chunk lies."""
        name = item.key.element.hex()
        return self.folder / "chunks" / name[:2] / f"{name}.{item.key.owner.hex()}"

    def sql(self, statement: str, *values: object) -> list[Any]:
        """Change the database behind the store's back."""
        db = sqlite3.connect(self.folder / DATABASE)
        try:
            with db:
                return db.execute(statement, values).fetchall()
        finally:
            db.close()


class DurabilityTests(_FolderCase):
    """What is asked of the disk, and how often."""

    def test_sqlite_is_told_to_be_durable(self) -> None:
        """The writing connection has WAL and synchronous=FULL."""
        assert self.store._writer is not None
        modes = self.wait(
            self.store._writer.submit(
                lambda tx: [tx.db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
            )
        )
        self.assertEqual(modes, ["wal", 2])

    def test_waiting_puts_share_a_commit(self) -> None:
        """A thousand puts at once cost a handful of commits."""
        assert self.store._writer is not None
        before = self.store._writer.commits
        gathered = threading.Event()
        held = self.store._writer.submit(lambda _: gathered.wait(PATIENCE))
        puts = [self.store.put([chunk(n)]) for n in range(1000)]
        gathered.set()
        self.assertTrue(self.wait(held))
        self.assertEqual([self.wait(put) for put in puts], [[True]] * 1000)
        self.assertLessEqual(self.store._writer.commits - before, 3)

    def test_a_failing_put_fails_alone(self) -> None:
        """Puts that share a transaction with a bad one are kept."""
        bad = Item(ItemKey(b"l" * 20, OWNER, Kind.LOG, b"e" * 32), b"no statement", b"")
        puts = [self.store.put([chunk(0)]), self.store.put([large_chunk(1), bad]), self.store.put([chunk(2)])]
        self.assertEqual(self.wait(puts[0]), [True])
        with self.assertRaises(BadMessage):
            self.wait(puts[1])
        self.assertEqual(self.wait(puts[2]), [True])
        self.assertEqual(self.get(chunk(0), large_chunk(1), chunk(2)), [chunk(0), None, chunk(2)])
        self.assertFalse(self.file_of(large_chunk(1)).exists())
        self.assertEqual(os.listdir(self.folder / "incoming"), [])

    def test_large_chunks_are_files_and_small_ones_are_not(self) -> None:
        """A file per large chunk and owner, and none else."""
        self.put(*some_of_everything())
        files = [path for path in (self.folder / "chunks").rglob("*") if path.is_file()]
        large = [item for item in some_of_everything() if len(item.data) > 64 * 1024]
        self.assertEqual(sorted(files), sorted(self.file_of(item) for item in large))
        self.assertEqual([self.file_of(item).read_bytes() for item in large], [item.data for item in large])
        self.wait(self.store.remove([item.key for item in large]))
        self.assertEqual([path for path in (self.folder / "chunks").rglob("*") if path.is_file()], [])

    def test_after_stop_nothing_is_answered(self) -> None:
        """A closed store fails at once instead of never."""
        self.close()
        calls = [
            self.store.put([chunk(0)]),
            self.store.put([large_chunk(0)]),
            self.store.get([chunk(0).key]),
            self.store.keep_setting("a", b""),
        ]
        for call in calls:
            self.failureResultOf(call, StorageError)

    def test_puts_before_stop_are_kept(self) -> None:
        """Stopping commits what waits."""
        puts = [self.store.put([chunk(n)]) for n in range(50)]
        self.close()
        self.assertEqual([self.wait(put) for put in puts], [[True]] * 50)
        self.store = self.open()
        self.assertEqual(self.wait(self.store.range_digest(*WHOLE, ()))[0], 50)

    def test_stop_leaves_one_file(self) -> None:
        """In order closed, the journal is folded into the database."""
        self.put(chunk(0))
        self.get(chunk(0))
        self.close()
        left = [path.name for path in self.folder.iterdir() if path.name.startswith(DATABASE)]
        self.assertEqual(left, [DATABASE])


class RotTests(_FolderCase):
    """Bytes that are not what was put are never served."""

    def _is_moved_aside(self, item: Item) -> None:
        self.assertEqual(self.get(item), [None])
        self.assertEqual(self.wait(self.store.have([item.key])), [False])
        self.assertEqual(self.wait(self.store.usage(OWNER)), (0, 0))
        self.assertEqual(self.put(item), [True])
        self.assertEqual(self.get(item), [item])

    def test_a_changed_chunk_file(self) -> None:
        """One flipped bit: quarantined, gone, and may be put again."""
        item = large_chunk(0)
        self.put(item)
        rotten = bytearray(item.data)
        rotten[1000] ^= 1
        self.file_of(item).write_bytes(rotten)
        self._is_moved_aside(item)
        kept = self.folder / "quarantine" / self.file_of(item).name
        self.assertEqual(kept.read_bytes(), bytes(rotten))

    def test_a_torn_chunk_file(self) -> None:
        """Half a file, and an empty one."""
        for size in (0, 1, 40_000):
            item = large_chunk(size)
            self.put(item)
            os.truncate(self.file_of(item), size)
            self._is_moved_aside(item)
            self.wait(self.store.remove([item.key]))

    def test_a_missing_chunk_file(self) -> None:
        """A row without its file."""
        item = large_chunk(0)
        self.put(item)
        self.file_of(item).unlink()
        self._is_moved_aside(item)

    def test_rot_is_found_by_hash_too(self) -> None:
        """A search by hash goes on to the next owner's copy."""
        mine, theirs = large_chunk(0), large_chunk(0, b"\xff" * 20)
        self.put(mine, theirs)
        self.file_of(mine).write_bytes(b"rot" * 30_000)
        self.assertEqual(self.wait(self.store.chunks.find([mine.key.element])), [theirs])
        self.assertEqual(self.wait(self.store.have([mine.key, theirs.key])), [False, True])

    def test_a_put_brings_a_missing_file_back(self) -> None:
        """Repair by putting again, before anybody has read it."""
        item = large_chunk(0)
        for damage in (lambda path: path.unlink(), lambda path: os.truncate(path, 100)):
            self.put(item)
            damage(self.file_of(item))
            self.assertEqual(self.put(item), [False])
            self.assertEqual(self.get(item), [item])

    def test_rot_in_the_database(self) -> None:
        """Statements and data in rows are checked as well, of every kind."""
        for item in (chunk(0), head(0), entry(1)):
            for column in ("data", "statement"):
                self.put(item)
                if getattr(item, column):
                    self.sql(f"UPDATE content SET {column} = CAST({column} || 'x' AS BLOB)")
                    self._is_moved_aside(item)
                self.wait(self.store.remove([item.key]))

    def test_rot_in_a_log_shows_as_a_gap(self) -> None:
        """A rotten entry is left out, and the chain ends before it."""
        self.put(entry(1), entry(2), entry(3))
        self.sql(
            "UPDATE content SET statement = x'00' WHERE id = (SELECT content FROM item WHERE element = ?)",
            entry(2).key.element,
        )
        found = self.wait(self.store.logs.read_since(b"\x0c" * 20, OWNER, {}, 10))
        self.assertEqual(found, ([entry(1), entry(3)], False))
        self.assertEqual(list(self.wait(self.store.logs.chain_heads(b"\x0c" * 20, OWNER)).values()), [1])


class LeftoverTests(_FolderCase):
    """What a crash leaves behind."""

    def _crash(self) -> None:
        """As if the process had been killed: a copy of the folder as it is."""
        copy = Path(self.mktemp())
        shutil.copytree(self.folder, copy)
        self.close()
        self.folder = copy
        self.medium = SqliteMedium(copy)
        self.wait = self.medium.wait

    def test_half_written_files_are_cleared(self) -> None:
        """What was in incoming/ was never acknowledged."""
        self._crash()
        (self.folder / "incoming" / "17").write_bytes(b"half")
        self.store = self.open()
        self.assertEqual(os.listdir(self.folder / "incoming"), [])

    def test_files_without_a_row_are_cleared(self) -> None:
        """A file that was renamed, but whose row was not committed."""
        kept, lost = large_chunk(0), large_chunk(1)
        self.put(kept)
        self._crash()
        self.file_of(lost).write_bytes(lost.data)
        foreign = self.folder / "chunks" / "00" / "notes.txt"
        foreign.write_bytes(b"not ours")
        self.store = self.open()
        self.assertFalse(self.file_of(lost).exists())
        self.assertTrue(foreign.exists())
        self.assertEqual(self.get(kept, lost), [kept, None])

    def test_acknowledged_items_are_there_after_a_crash(self) -> None:
        """The journal is read back."""
        self.put(*some_of_everything())
        self._crash()
        self.store = self.open()
        self.assertEqual(self.get(*some_of_everything()), some_of_everything())


class RefusalTests(_FolderCase):
    """Folders that are not opened, each in one plain sentence."""

    def _refused(self, error: type[Exception], *words: str) -> None:
        store = SqliteNodeStore(self.folder, self.medium.reactor)  # type: ignore[arg-type]
        with self.assertRaises(error) as caught:
            self.wait(store.start())
        text = str(caught.exception)
        for word in (str(self.folder), *words):
            self.assertIn(word, text)
        self.assertNotIn("\n", text)

    def test_a_second_process_is_refused(self) -> None:
        """One folder, one node; free again once the first has stopped."""
        self._refused(UsageError, "Another node is running", "--data")
        self.close()
        self.store = self.open()
        self.assertEqual(self.put(chunk(0)), [True])

    def test_a_newer_database_is_left_untouched(self) -> None:
        """Not a byte of it changes, its journal included."""
        self.close()
        db = sqlite3.connect(self.folder / DATABASE)
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
        db.execute("CREATE TABLE news (of_tomorrow)")
        db.commit()
        names = (DATABASE, f"{DATABASE}-wal")
        before = [(self.folder / name).read_bytes() for name in names]
        copy = Path(self.mktemp())
        shutil.copytree(self.folder, copy)
        db.close()
        self.folder = copy
        self._refused(NewerSchema, "newer", "Update", "not touched")
        self.assertEqual([(copy / name).read_bytes() for name in names], before)
        with self.assertRaises(NewerSchema):
            list(list_keys(copy))

    def test_what_is_no_database_is_refused(self) -> None:
        """Some other file under that name is not overwritten."""
        self.close()
        (self.folder / DATABASE).write_bytes(b"something else entirely" * 100)
        self._refused(CorruptData, "damaged")
        self.assertTrue((self.folder / DATABASE).read_bytes().startswith(b"something else"))

    def test_a_file_in_place_of_the_folder(self) -> None:
        """A path that is no folder is named."""
        self.folder = Path(self.mktemp())
        self.folder.write_bytes(b"")
        self._refused(StorageError, "Not a directory")

    def test_a_refused_start_lets_go(self) -> None:
        """What was locked for a start that failed is free again."""
        self.close()
        database = (self.folder / DATABASE).read_bytes()
        (self.folder / DATABASE).write_bytes(b"x" * 4096)
        self._refused(CorruptData)
        (self.folder / DATABASE).write_bytes(database)
        self.store = self.open()
        self.assertEqual(self.put(chunk(0)), [True])


class ListingTests(_FolderCase):
    """``list_keys``, for people."""

    def test_lists_while_the_node_runs(self) -> None:
        """Every item, sorted, with its size; also what was put a moment ago."""
        self.put(*some_of_everything())
        expected = sorted((item.key, item.size) for item in some_of_everything())
        listed = [(ItemKey(k.ring_id, k.owner, k.kind, k.element), k.size) for k in list_keys(self.folder)]
        self.assertEqual(listed, expected)

    def test_lists_more_than_a_page(self) -> None:
        """No key is lost or doubled between pages."""
        self.put(*(chunk(n) for n in range(2500)))
        self.assertEqual(len({key.element for key in list_keys(self.folder)}), 2500)

    def test_folder_names_with_special_characters(self) -> None:
        """Characters that mean something in a URI, and bytes that are no text."""
        for name in ("a?mode=rwc#b%41", os.fsdecode(b"not \xff utf-8")):
            medium = SqliteMedium(Path(self.mktemp()) / name)
            store = medium.open()
            medium.wait(store.put([chunk(0)]))
            self.assertEqual(medium.wait(store.get([chunk(0).key])), [chunk(0)])
            self.assertEqual(len(list(list_keys(medium.folder))), 1)
            medium.close(store)

    def test_no_data_folder(self) -> None:
        """A folder of something else is refused, and nothing is made in it."""
        other = Path(self.mktemp())
        other.mkdir()
        with self.assertRaises(UsageError):
            list(list_keys(other))
        self.assertEqual(list(other.iterdir()), [])
