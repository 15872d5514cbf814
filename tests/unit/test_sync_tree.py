"""The local side of a synced folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from peerstore.client.source import ChangedMeanwhile, Found, Unread
from peerstore.errors import BadMessage, ReadOnly, StorageError, UsageError
from peerstore.files.manifest import NodeKind
from peerstore.sync import tree as module
from peerstore.sync.mark import RootLost, write_mark
from peerstore.sync.tree import LocalTree, open_folder

NUMBER = b"n" * 16


class TreeTestCase(SynchronousTestCase):
    """A folder that is held."""

    def setUp(self) -> None:
        self.place = Path(self.mktemp()).absolute()
        self.place.mkdir()
        self.root = os.fsencode(self.place)
        self.tree = LocalTree(self.root)
        self.tree.open(NUMBER, True)
        self.addCleanup(self.tree.close)

    def found(self, path: bytes) -> Found:
        there = self.tree.look(path)
        assert there is not None
        return there

    def put(self, path: bytes, data: bytes, mode: int = 0o644, expected: Found | None = None) -> Found:
        """Place a file as a fetch does."""
        file = self.tree.temporary()
        file.write(data)
        file.finish()
        try:
            return self.tree.place(file, path, mode, 1_000_000_000, expected)
        except BaseException:
            self.tree.discard(file)
            raise

    def hidden(self) -> list[str]:
        return os.listdir(self.place / ".peerstore-sync")


class RootTests(TreeTestCase):
    """Whether it is the folder that we mean."""

    def test_a_fresh_folder_is_marked(self) -> None:
        """And is known from then on."""
        self.assertTrue(self.tree.check())
        again = LocalTree(self.root)
        again.open(NUMBER, False)
        again.close()

    def test_a_fresh_folder_must_be_there(self) -> None:
        """It is not made."""
        tree = LocalTree(self.root + b"-missing")
        self.assertRaises(RootLost, tree.open, NUMBER, True)
        self.assertFalse(os.path.exists(self.root + b"-missing"))

    def test_a_folder_with_another_mark(self) -> None:
        """A known folder is never marked again."""
        self.assertRaises(RootLost, LocalTree(self.root).open, b"x" * 16, False)
        self.assertTrue(self.tree.check())

    def test_a_missing_root(self) -> None:
        """Is told of by every check, and is not taken for empty."""
        self.place.rename(self.place.with_name("away"))
        self.assertRaises(RootLost, self.tree.check)
        self.assertRaises(UsageError, self.tree.scan, b"", print)

    def test_an_empty_folder_in_its_place(self) -> None:
        """As under an unmounted disk."""
        self.place.rename(self.place.with_name(self.place.name + "-away"))
        self.place.mkdir()
        self.assertRaises(RootLost, self.tree.check)

    def test_a_root_that_comes_back(self) -> None:
        """Mounted again it is another thing to the system: it is held anew,
        and what is written goes there."""
        away = self.place.with_name(self.place.name + "-away")
        self.place.rename(away)
        self.assertRaises(RootLost, self.tree.check)
        shutil.copytree(away, self.place)
        self.assertFalse(self.tree.check())
        self.assertTrue(self.tree.check())
        self.put(b"a", b"x")
        self.assertEqual((self.place / "a").read_bytes(), b"x")
        self.assertFalse((away / "a").exists())

    def test_a_hidden_folder_that_was_taken_away(self) -> None:
        """By somebody who tidied up: the next check makes it anew."""
        self.put(b"a", b"x")
        shutil.rmtree(self.place / ".peerstore-sync")
        self.assertRaises(OSError, self.put, b"b", b"x")
        self.assertFalse(self.tree.check())
        self.assertTrue(self.tree.check())
        self.put(b"b", b"x")
        self.assertEqual((self.place / "b").read_bytes(), b"x")

    def test_another_folder_of_ours_in_its_place(self) -> None:
        """Has another mark."""
        self.place.rename(self.place.with_name(self.place.name + "-away"))
        self.place.mkdir()
        write_mark(self.root, b"o" * 16)
        self.assertRaises(RootLost, self.tree.check)


class LookTests(TreeTestCase):
    """Looking closely."""

    def test_expect(self) -> None:
        """What a scan saw is still there, or somebody was at it."""
        self.tree.expect(b"a", None)
        (self.place / "a").write_text("x")
        before = self.found(b"a")
        self.tree.expect(b"a", before)
        self.assertRaises(ChangedMeanwhile, self.tree.expect, b"a", None)
        self.assertRaises(ChangedMeanwhile, self.tree.expect, b"b", before)
        (self.place / "a").chmod(0o600)
        self.assertRaises(ChangedMeanwhile, self.tree.expect, b"a", before)

    def test_expect_a_folder(self) -> None:
        """Its time and mode may be others."""
        (self.place / "d").mkdir()
        before = self.found(b"d")
        (self.place / "d" / "f").touch()
        self.tree.expect(b"d", before)

    def test_what_cannot_be_judged(self) -> None:
        """Is no absence."""
        os.mkfifo(self.place / "pipe")
        self.assertRaises(Unread, self.tree.expect, b"pipe", None)

    def test_digests(self) -> None:
        """Of a file, a link's text, and a folder."""
        (self.place / "f").write_bytes(b"x" * 3_000_000)
        (self.place / "l").symlink_to("target")
        (self.place / "d").mkdir()
        self.assertEqual(self.tree.digest(self.found(b"f")), hashlib.sha256(b"x" * 3_000_000).digest())
        self.assertEqual(self.tree.digest(self.found(b"l")), hashlib.sha256(b"target").digest())
        self.assertEqual(self.tree.digest(self.found(b"d")), b"")

    def test_a_file_that_changes_while_it_is_read(self) -> None:
        """Has no digest."""
        (self.place / "f").write_text("x")
        before = self.found(b"f")
        real = hashlib.sha256

        def meddle(*data: bytes) -> Any:
            (self.place / "f").write_text("another")
            return real(*data)

        self.patch(hashlib, "sha256", meddle)
        self.assertRaises(ChangedMeanwhile, self.tree.digest, before)

    def test_a_file_that_cannot_be_read(self) -> None:
        """Is told of in words."""
        (self.place / "f").write_text("x")
        before = self.found(b"f")
        self.patch(self.tree, "expect", lambda *_: None)
        self.patch(module, "open_file", self.refuse)
        self.assertRaises(ReadOnly, self.tree.digest, before)

    def refuse(self, *_: object) -> int:
        raise PermissionError(13, "Permission denied")

    def test_a_file_that_goes_while_it_is_read(self) -> None:
        """Is told as a change."""
        (self.place / "f").write_text("x")
        before = self.found(b"f")
        self.patch(self.tree, "expect", lambda *_: None)
        (self.place / "f").unlink()
        self.assertRaises(ChangedMeanwhile, self.tree.digest, before)

    def test_scan(self) -> None:
        """The whole folder without what is ours, or a part of it."""
        (self.place / "d").mkdir()
        (self.place / "d" / "f").touch()
        self.assertEqual(sorted(self.tree.scan(b"", print).found), [b"d", b"d/f"])
        self.assertEqual(sorted(self.tree.scan(b"d/f", print).found), [b"d/f"])


class WriteTests(TreeTestCase):
    """Files appear whole, and where they should."""

    def test_place(self) -> None:
        """With mode and time, and folders on the way."""
        placed = self.put(b"d/e/f", b"text", 0o640)
        self.assertEqual((self.place / "d/e/f").read_bytes(), b"text")
        self.assertEqual(placed._replace(ctime_ns=0), self.found(b"d/e/f")._replace(ctime_ns=0))
        self.assertEqual(self.hidden(), [])

    def test_no_rights_of_somebody_else(self) -> None:
        """setuid, setgid and sticky bits are not taken from elsewhere, but a
        shared folder's."""
        self.assertEqual(self.put(b"f", b"x", 0o6755).mode, 0o755)
        self.tree.folder(b"d", None)
        self.assertEqual(self.tree.change_mode(self.found(b"d"), 0o7777).mode, 0o1777)
        self.assertEqual(self.tree.change_mode(self.found(b"f"), 0o4700).mode, 0o700)
        self.assertEqual(self.found(b"f").mode, 0o700)

    def test_a_mode_that_the_file_system_does_not_keep(self) -> None:
        """What it then has is told, not what was asked for."""
        before = self.put(b"f", b"x", 0o644)
        self.patch(os, "fchmod", lambda *_: None)
        self.assertEqual(self.tree.change_mode(before, 0o600).mode, 0o644)

    def test_an_edit_while_the_mode_is_set(self) -> None:
        """Is not covered up: what is told has the time from before it."""
        before = self.put(b"f", b"x", 0o644)
        (self.place / "f").write_text("edited")
        self.assertEqual(self.tree.change_mode(before, 0o600).mtime_ns, before.mtime_ns)
        self.assertNotEqual(self.found(b"f").mtime_ns, before.mtime_ns)

    def test_names_that_lead_out(self) -> None:
        """Are refused, whatever asks for them."""
        for path in (b"../x", b"/x", b"a/../../x", b"a//x", b".", b"x\0", b"y" * 256, b".peerstore-mark"):
            self.assertRaises(BadMessage, self.put, path, b"x")
            self.assertRaises(BadMessage, self.tree.symlink, path, b"x", 0, None)
            self.assertRaises(BadMessage, self.tree.folder, path, None)
        self.assertEqual(self.hidden(), [])

    def test_links_on_the_way_are_not_followed(self) -> None:
        """Nothing is written, made or removed through one."""
        outside = self.place.with_name(self.place.name + "-outside")
        outside.mkdir()
        (outside / "f").write_text("theirs")
        (self.place / "out").symlink_to(outside)
        self.assertRaises(ReadOnly, self.put, b"out/g", b"x")
        self.assertRaises(ReadOnly, self.tree.folder, b"out/d", None)
        self.assertRaises(ReadOnly, self.tree.symlink, b"out/l", b"x", 0, None)
        self.assertRaises(OSError, open_folder, self.root, b"out")
        self.assertIs(self.tree.look(b"out/f"), None)
        self.assertEqual(os.listdir(outside), ["f"])

    def test_a_link_under_a_hidden_name(self) -> None:
        """A link planted where a hidden file is to be is not written through."""
        outside = self.place.with_name(self.place.name + "-victim")
        outside.write_text("theirs")
        for number in range(1, 4):
            (self.place / ".peerstore-sync" / f"{os.getpid()}-{number}").symlink_to(outside)
        self.assertRaises(FileExistsError, self.tree.temporary)
        self.assertEqual(outside.read_text(), "theirs")

    def test_a_link_in_place_of_a_file(self) -> None:
        """The link itself is replaced, not what it leads to."""
        outside = self.place.with_name(self.place.name + "-victim")
        outside.write_text("theirs")
        (self.place / "f").symlink_to(outside)
        self.put(b"f", b"ours", expected=self.found(b"f"))
        self.assertFalse((self.place / "f").is_symlink())
        self.assertEqual(outside.read_text(), "theirs")

    def test_symlinks(self) -> None:
        """Any text, also bytes that are none."""
        placed = self.tree.symlink(b"l", b"../\xff", 5, None)
        self.assertEqual(os.readlink(os.path.join(self.root, b"l")), b"../\xff")
        self.assertEqual((placed.kind, placed.mtime_ns), (NodeKind.SYMLINK, 5))
        again = self.tree.symlink(b"l", b"elsewhere", 6, placed)
        self.assertEqual((os.readlink(os.path.join(self.root, b"l")), again.size), (b"elsewhere", 9))

    def test_a_folder_in_place_of_a_file(self) -> None:
        """If the file is the one that was seen."""
        (self.place / "a").write_text("x")
        seen = self.found(b"a")
        (self.place / "a").write_text("another")
        self.assertRaises(ChangedMeanwhile, self.tree.folder, b"a", seen)
        self.tree.folder(b"a", self.found(b"a"))
        self.assertTrue((self.place / "a").is_dir())
        self.tree.folder(b"a", self.found(b"a"))

    def test_a_file_in_place_of_a_folder(self) -> None:
        """If that is empty; its time does not matter."""
        (self.place / "a").mkdir()
        seen = self.found(b"a")
        (self.place / "a" / "b").touch()
        self.assertRaises(StorageError, self.put, b"a", b"x", expected=seen)
        (self.place / "a" / "b").unlink()
        self.put(b"a", b"x", expected=seen)
        self.assertEqual((self.place / "a").read_bytes(), b"x")

    def test_remove(self) -> None:
        """Files, links and empty folders, if they are what was seen."""
        (self.place / "f").write_text("x")
        (self.place / "l").symlink_to("x")
        (self.place / "d").mkdir()
        (self.place / "d" / "in").touch()
        self.tree.remove(b"f", self.found(b"f"))
        self.tree.remove(b"l", self.found(b"l"))
        self.assertRaises(StorageError, self.tree.remove, b"d", self.found(b"d"))
        self.tree.remove(b"d/in", self.found(b"d/in"))
        self.tree.remove(b"d", self.found(b"d"))
        self.assertEqual(list(self.tree.scan(b"", print).found), [])

    def test_copy(self) -> None:
        """From one file of the folder, with its digest."""
        (self.place / "f").write_bytes(b"x" * 2_500_000)
        file = self.tree.temporary()
        file.write(b"something else")
        file.start_anew()
        self.assertEqual(self.tree.copy(b"f", file), hashlib.sha256(b"x" * 2_500_000).digest())
        file.finish()
        self.tree.place(file, b"g", 0o600, 0, None)
        self.assertEqual((self.place / "g").read_bytes(), b"x" * 2_500_000)

    def test_nothing_is_written_to_a_closed_file(self) -> None:
        """Its number may be somebody else's by then."""
        file = self.tree.temporary()
        file.close()
        file.close()
        self.assertRaises(OSError, file.write, b"x")
        self.assertRaises(OSError, file.finish)
        self.tree.discard(file)
        self.assertEqual(self.hidden(), [])

    def test_sync(self) -> None:
        """Each folder once, also for what is gone; folders that are gone with
        it are left out."""
        (self.place / "d").mkdir()
        synced: list[int] = []
        self.patch(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
        self.tree.sync([b"a", b"b", b"d/x", b"gone/x"])
        self.assertEqual(synced, [self.place.stat().st_ino, (self.place / "d").stat().st_ino])


class ReadOnlyTests(TreeTestCase):
    """Folders into which their owner may not write."""

    def setUp(self) -> None:
        super().setUp()
        self.shut = self.place / "shut"
        (self.shut / "old").mkdir(parents=True)
        (self.shut / "f").write_text("x")
        (self.shut / "g").write_text("x")
        self.shut.chmod(0o555)
        self.addCleanup(self.shut.chmod, 0o755)
        # Root may write everywhere, so the system's part is played here.
        for name in ("place", "symlink", "folder", "remove", "rename"):
            self.patch(self.tree._target, name, self.guarded(getattr(self.tree._target, name)))

    def guarded(self, step: Any) -> Any:
        """A step that is refused while the folder is read-only."""

        def call(*arguments: Any) -> Any:
            if not self.shut.stat().st_mode & 0o200:
                raise PermissionError(13, "Permission denied")
            return step(*arguments)

        return call

    def test_every_step(self) -> None:
        """Works, and leaves the folder as it was."""
        self.put(b"shut/new", b"x")
        self.put(b"shut/f", b"y", expected=self.found(b"shut/f"))
        self.tree.symlink(b"shut/l", b"x", 0, None)
        self.tree.folder(b"shut/d", None)
        self.tree.remove(b"shut/old", self.found(b"shut/old"))
        self.assertTrue(self.tree.step_aside(self.found(b"shut/g"), b"shut/h"))
        self.assertEqual(sorted(os.listdir(self.shut)), ["d", "f", "h", "l", "new"])
        self.assertEqual((self.shut / "f").read_text(), "y")
        self.assertEqual(self.shut.stat().st_mode & 0o777, 0o555)

    def test_a_step_that_fails_all_the_same(self) -> None:
        """Also leaves it as it was."""
        self.assertRaises(ChangedMeanwhile, self.put, b"shut/f", b"y")
        before = self.found(b"shut/f")
        self.patch(self.tree._target, "remove", self.refuse)
        self.assertRaises(PermissionError, self.tree.remove, b"shut/f", before)
        self.assertEqual(self.shut.stat().st_mode & 0o777, 0o555)

    def refuse(self, *arguments: object) -> None:
        raise PermissionError(13, "no")

    def test_two_steps_at_once(self) -> None:
        """One does not take the mode that the other set for the moment for
        the folder's own."""
        real, refused, errors, turn = self.tree._target.place, [], [], threading.Lock()
        # The other one waits for its turn, or for the first one's end.
        on, ended = threading.Event(), threading.Event()

        class Turn:
            def __enter__(self) -> None:
                if turn.locked():
                    on.set()
                turn.acquire()

            def __exit__(self, *_: object) -> None:
                turn.release()

        def place(name: bytes, path: bytes, *arguments: Any) -> Found:
            if path == b"shut/one" and self.shut.stat().st_mode & 0o200:
                other.start()
                on.wait()
            elif path == b"shut/other" and not refused:
                refused.append(path)
                raise PermissionError(13, "Permission denied")
            elif path == b"shut/other":
                on.set()
                ended.wait()
            return real(name, path, *arguments)

        def put_other() -> None:
            try:
                self.put(b"shut/other", b"x")
            except OSError as error:
                errors.append(error)

        other = threading.Thread(target=put_other)
        self.patch(self.tree, "_loosening", Turn())
        self.patch(self.tree._target, "place", place)
        self.put(b"shut/one", b"x")
        ended.set()
        other.join()
        self.assertEqual((refused, errors), ([b"shut/other"], []))
        self.assertEqual(sorted(os.listdir(self.shut)), ["f", "g", "old", "one", "other"])
        self.assertEqual(self.shut.stat().st_mode & 0o777, 0o555)


class AsideTests(TreeTestCase):
    """A local file that gives up its name."""

    def test_it_is_renamed(self) -> None:
        """And is still the same file."""
        (self.place / "a").write_text("mine")
        inode = (self.place / "a").stat().st_ino
        self.assertTrue(self.tree.step_aside(self.found(b"a"), b"b"))
        self.assertEqual((self.place / "b").stat().st_ino, inode)
        self.assertFalse((self.place / "a").exists())

    def test_a_name_that_is_taken(self) -> None:
        """Is not taken from who has it."""
        (self.place / "a").write_text("mine")
        (self.place / "b").write_text("other")
        self.assertFalse(self.tree.step_aside(self.found(b"a"), b"b"))
        self.assertEqual((self.place / "b").read_text(), "other")

    def test_a_file_that_changed(self) -> None:
        """Stays where it is."""
        (self.place / "a").write_text("mine")
        before = self.found(b"a")
        (self.place / "a").write_text("mine, later")
        self.assertRaises(ChangedMeanwhile, self.tree.step_aside, before, b"b")
        self.assertEqual((self.place / "a").read_text(), "mine, later")
        self.assertFalse((self.place / "b").exists())
