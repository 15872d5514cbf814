"""What a device remembers: numbers that are never used twice, files that are
newer, damaged, or of an earlier version."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from peerstore.client import state as module
from peerstore.client.state import BLOCK, Agreed, ClientState
from peerstore.errors import CorruptData, NewerSchema, StorageError

#: The tables as version 1 wrote them.
VERSION_1 = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE entry (leaf BLOB PRIMARY KEY, statement BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE pending (number INTEGER PRIMARY KEY, leaf BLOB NOT NULL, statement BLOB NOT NULL,
    head BLOB NOT NULL);
CREATE TABLE agreed (
    folder TEXT NOT NULL, path BLOB NOT NULL, version BLOB NOT NULL, vector BLOB NOT NULL, kind INTEGER NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL,
    mode INTEGER NOT NULL, sha256 BLOB NOT NULL, PRIMARY KEY (folder, path)) WITHOUT ROWID;
CREATE TABLE chunk (hash BLOB PRIMARY KEY) WITHOUT ROWID;
PRAGMA user_version = 1;
"""


def agreed(number: int) -> Agreed:
    """Something that was agreed on."""
    return Agreed(bytes([number]) * 32, ((b"d" * 16, number),), 1, number, -5, 7, 8, 0o644, b"s" * 32)


class StateTestCase(SynchronousTestCase):
    """States in one folder."""

    def setUp(self) -> None:
        self.place = Path(self.mktemp()).absolute()
        self.place.mkdir()
        self.path = self.place / "state.sqlite"

    def open(self) -> ClientState:
        """The state, opened; as after a kill, an earlier one is just left."""
        state = ClientState(self.path)
        state.open()
        self.addCleanup(state.close)
        return state


class NumberTests(StateTestCase):
    """The device's counter."""

    def test_it_counts_from_one(self) -> None:
        """Each number once, also past a reserved block."""
        state = self.open()
        self.assertEqual([state.next_counter() for _ in range(BLOCK + 3)], list(range(1, BLOCK + 4)))

    def test_never_twice_across_kills(self) -> None:
        """Whatever was used before a kill is never given again."""
        used: list[int] = []
        for count in (1, BLOCK - 1, BLOCK, BLOCK + 1, 0, 5):
            state = self.open()
            used += [state.next_counter() for _ in range(count)]
        self.assertEqual(len(set(used)), len(used))
        self.assertEqual(used, sorted(used))

    def test_a_number_is_reserved_before_it_is_used(self) -> None:
        """Another process that opens the file meanwhile starts above it."""
        state = self.open()
        number = state.next_counter()
        self.assertGreater(self.open().next_counter(), number)


class KeepingTests(StateTestCase):
    """What is kept is found again."""

    def test_agreements_of_two_roots(self) -> None:
        """What one local folder agreed on is not what another did."""
        state = self.open()
        state.agree("docs", [(b"a", agreed(1)), (b"b", agreed(2))], b"/home/one")
        state.agree("docs", [(b"a", agreed(3))], b"/home/two")
        state.agree("docs", [(b"a", agreed(4))])
        state.agree("docs", [(b"b", None)], b"/home/two")
        again = self.open()
        self.assertEqual(again.agreed("docs", b"/home/one"), {b"a": agreed(1), b"b": agreed(2)})
        self.assertEqual(again.agreed("docs", b"/home/two"), {b"a": agreed(3)})
        self.assertEqual(again.agreed("docs"), {b"a": agreed(4)})
        self.assertEqual(again.agreed("other"), {})

    def test_a_pending_entry_and_what_it_agrees_on(self) -> None:
        """Both are there, or neither; settled, it belongs to the log."""
        state = self.open()
        state.add_pending(1, b"leaf", b"text", b"head", [("docs", b"a", agreed(1))], b"/r")
        self.assertRaises(
            StorageError, state.add_pending, 1, b"leaf 2", b"text", b"head", [("docs", b"b", agreed(2))], b"/r"
        )
        again = self.open()
        self.assertEqual(again.pending(), [(1, b"leaf", b"text", b"head")])
        self.assertEqual(again.agreed("docs", b"/r"), {b"a": agreed(1)})
        again.settle(1)
        again.settle(1)
        self.assertEqual((again.pending(), again.entries()), ([], [(b"leaf", b"text")]))

    def test_names_by_their_beginning(self) -> None:
        """Names are compared as they are, not as patterns."""
        state = self.open()
        for name in ("source:docs", "source:a%b", "sourceX", "counter2"):
            state.keep_meta(name, name.encode())
        self.assertEqual(state.metas("source:"), {"docs": b"source:docs", "a%b": b"source:a%b"})

    def test_chunks(self) -> None:
        """Those that were posted, of those that are asked for."""
        state = self.open()
        state.add_chunks([b"1" * 32, b"2" * 32, b"1" * 32])
        self.assertEqual(self.open().known_chunks([b"1" * 32, b"3" * 32]), {b"1" * 32})


class FileTests(StateTestCase):
    """Files of other programs, and damaged ones."""

    def test_a_newer_file_is_left_alone(self) -> None:
        """It is refused, and not a byte of it changes."""
        self.open().close()
        with sqlite3.connect(self.path) as database:
            database.execute(f"PRAGMA user_version = {module.VERSION + 1}")
        database.close()
        before = {path.name: path.read_bytes() for path in self.place.iterdir()}
        error = self.assertRaises(NewerSchema, ClientState(self.path).open)
        self.assertIn("Update this program", str(error))
        self.assertEqual({path.name: path.read_bytes() for path in self.place.iterdir()}, before)

    def test_a_file_of_version_1(self) -> None:
        """What was agreed belongs to the root that was kept there last; that
        of sync has none."""
        with sqlite3.connect(self.path) as database:
            database.executescript(VERSION_1)
            database.execute("INSERT INTO meta VALUES ('source:docs', x'2f72'), ('counter', x'0100')")
            for folder in ("docs", "synced"):
                row = (folder, b"a", b"v" * 32, b"\x90", 1, 2, 3, 4, 5, 6, b"s" * 32)
                database.execute(f"INSERT INTO agreed VALUES ({','.join('?' * 11)})", row)
            database.execute("INSERT INTO entry VALUES (x'01', x'02')")
        database.close()
        expected = Agreed(b"v" * 32, (), 1, 2, 3, 4, 5, 6, b"s" * 32)
        for _ in range(2):
            state = self.open()
            self.assertEqual(state.agreed("docs", b"/r"), {b"a": expected})
            self.assertEqual(state.agreed("synced"), {b"a": expected})
            self.assertEqual((state.agreed("docs"), state.agreed("synced", b"/r")), ({}, {}))
            self.assertEqual(state.entries(), [(b"\x01", b"\x02")])
            self.assertGreater(state.next_counter(), 256)
            state.close()

    def test_a_migration_that_fails(self) -> None:
        """Everything stays as it was."""
        with sqlite3.connect(self.path) as database:
            database.executescript(VERSION_1)
        database.close()
        self.patch(module, "STEPS", {1: module.FROM_1 + "; THIS IS NO STATEMENT"})
        self.assertRaises(StorageError, ClientState(self.path).open)
        with sqlite3.connect(self.path) as database:
            self.assertEqual(database.execute("PRAGMA user_version").fetchone(), (1,))
            self.assertEqual(database.execute("SELECT count(*) FROM agreed").fetchone(), (0,))
        database.close()

    def test_a_damaged_file(self) -> None:
        """It is told as damage, with a way out that loses nothing."""
        self.path.write_bytes(b"this is no database, whatever its name says" * 100)
        error = self.assertRaises(CorruptData, ClientState(self.path).open)
        self.assertIn("is damaged", error.what)
        self.assertIn("state.sqlite-*", error.next_step)
        self.assertEqual(error.exit_status, 7)

    def test_a_file_with_a_hole(self) -> None:
        """Pages that were overwritten: an error of ours, no other."""
        state = self.open()
        state.agree("docs", [(b"%d" % number, agreed(1)) for number in range(500)])
        state.close()
        content = bytearray(self.path.read_bytes())
        content[4096:-4096] = b"\xff" * (len(content) - 8192)
        self.path.write_bytes(content)
        self.assertRaises(CorruptData, self.open)

    def test_a_folder_that_is_none(self) -> None:
        """A path that cannot be opened is told in words."""
        error = self.assertRaises(StorageError, ClientState(self.place / "no" / "state.sqlite").open)
        self.assertIn("cannot be written", str(error))

    def test_used_when_closed(self) -> None:
        """Also that is an error of ours."""
        self.assertRaises(StorageError, ClientState(self.path).meta, "device")
