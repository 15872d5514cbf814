"""Files that somebody else changes between our look and our step."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from peerstore.client import target as module
from peerstore.client.source import Found, look
from peerstore.client.target import Target
from peerstore.errors import ReadOnly, StorageError


class RaceTests(SynchronousTestCase):
    """An edit that comes in between survives under its name."""

    def setUp(self) -> None:
        self.place = Path(self.mktemp()).absolute()
        self.place.mkdir()
        self.root = os.fsencode(self.place)
        self.target = Target(self.root)
        self.target.open()
        self.addCleanup(self.target.close)
        self.file = self.place / "note"

    def ready(self, text: bytes = b"from afar") -> bytes:
        """A finished hidden file."""
        name, descriptor = self.target.temporary()
        os.write(descriptor, text)
        os.close(descriptor)
        return name

    def found(self, path: bytes = b"note") -> Found:
        found = look(self.root, path)
        assert found is not None
        return found

    def just_before(self, name: str, edit: Callable[[], object]) -> None:
        """Let *edit* happen when the target is about to call *name*."""
        real = getattr(module, name)
        done: list[bool] = []

        def late(*arguments: Any) -> Any:
            if not done:
                done.append(True)
                edit()
            return real(*arguments)

        self.patch(module, name, late)

    def save(self, text: str = "mine") -> None:
        """As editors do: a new file, renamed."""
        other = self.place / "note~"
        other.write_text(text)
        other.rename(self.file)

    def hidden(self) -> list[str]:
        return os.listdir(self.place / ".peerstore-incoming")

    def test_what_was_placed_is_told(self) -> None:
        """The look is of the placed file itself, not of what is there later."""
        self.file.write_text("old")
        before = self.found()
        placed = self.target.place(self.ready(), b"note", 0o640, 1_000_000_000, before, False)
        self.assertEqual(placed._replace(ctime_ns=0), self.found()._replace(ctime_ns=0))
        self.assertEqual((placed.mode, placed.mtime_ns, placed.size), (0o640, 1_000_000_000, 9))
        self.assertEqual(self.hidden(), [])

    def test_replaced_in_between(self) -> None:
        """A save just before the exchange is put back, and ours is not placed."""
        self.file.write_text("old")
        before, name = self.found(), self.ready()
        self.just_before("exchange", self.save)
        self.assertRaises(StorageError, self.target.place, name, b"note", 0o600, 0, before, False)
        self.assertEqual(self.file.read_text(), "mine")
        self.target.discard(name)
        self.assertEqual(self.hidden(), [])

    def test_written_in_between(self) -> None:
        """So is a file that was written in place."""
        self.file.write_text("old")
        before, name = self.found(), self.ready()
        self.just_before("exchange", lambda: self.file.write_text("mine, and longer"))
        self.assertRaises(StorageError, self.target.place, name, b"note", 0o600, 0, before, False)
        self.assertEqual(self.file.read_text(), "mine, and longer")

    def test_removed_in_between(self) -> None:
        """A file that was expected and is gone: looked at again."""
        self.file.write_text("old")
        before, name = self.found(), self.ready()
        self.just_before("exchange", self.file.unlink)
        self.assertRaises(OSError, self.target.place, name, b"note", 0o600, 0, before, False)
        self.assertFalse(self.file.exists())
        self.target.discard(name)
        self.assertEqual(self.hidden(), [])

    def test_made_in_between(self) -> None:
        """Where nothing was expected, something new is not replaced."""
        name = self.ready()
        self.just_before("rename_new", self.save)
        self.assertRaises(StorageError, self.target.place, name, b"note", 0o600, 0, None, False)
        self.assertEqual(self.file.read_text(), "mine")

    def test_a_link_made_in_between(self) -> None:
        """Nor by a link; and no unfinished link stays behind."""
        self.just_before("rename_new", self.save)
        self.assertRaises(StorageError, self.target.symlink, b"note", b"there", 0, None, False)
        self.assertEqual(self.file.read_text(), "mine")
        self.assertEqual(self.hidden(), [])

    def test_changed_before_removal(self) -> None:
        """A save just before the removal stays."""
        self.file.write_text("old")
        before = self.found()
        self.just_before("rename_new", self.save)
        self.assertRaises(StorageError, self.target.remove, b"note", before)
        self.assertEqual(self.file.read_text(), "mine")
        self.assertEqual(self.hidden(), [])

    def test_a_folder_where_a_file_was(self) -> None:
        """A folder that took the file's place is not removed, empty or not."""
        self.file.write_text("old")
        before = self.found()

        def swap() -> None:
            self.file.unlink()
            self.file.mkdir()

        self.just_before("rename_new", swap)
        self.assertRaises(StorageError, self.target.remove, b"note", before)
        self.assertTrue(self.file.is_dir())

    def test_changed_before_a_rename(self) -> None:
        """A save just before we rename the file goes back to its name."""
        self.file.write_text("old")
        before = self.found()
        self.just_before("rename_new", self.save)
        self.assertRaises(StorageError, self.target.rename, b"note", b"aside", before)
        self.assertEqual(self.file.read_text(), "mine")
        self.assertFalse((self.place / "aside").exists())

    def test_a_pipe_in_the_way(self) -> None:
        """What is no file, folder or link is never replaced."""
        os.mkfifo(self.file)
        self.assertRaises(StorageError, self.target.place, self.ready(), b"note", 0o600, 0, None, False)
        self.assertRaises(StorageError, self.target.remove, b"note", None)
        self.assertTrue(self.file.is_fifo())

    def test_removing_makes_no_folders(self) -> None:
        """Removing or renaming below a folder that is gone leaves it gone."""
        self.target.remove(b"gone/note", None)
        self.assertRaises(ReadOnly, self.target.rename, b"gone/note", b"note")
        self.assertFalse((self.place / "gone").exists())

    def test_a_folder_that_became_a_link(self) -> None:
        """A link on the way is not followed: nothing outside is seen, read or
        removed."""
        outside = self.place.parent / (self.place.name + "-outside")
        outside.mkdir()
        (outside / "note").write_text("not ours")
        (self.place / "sub").symlink_to(outside)
        self.assertIs(look(self.root, b"sub/note"), None)
        self.target.remove(b"sub/note", None)
        self.assertRaises(ReadOnly, self.target.place, self.ready(), b"sub/note", 0o600, 0, None, False)
        self.assertEqual((outside / "note").read_text(), "not ours")

    def test_what_a_crash_left_aside(self) -> None:
        """Unfinished files go at the next start; what was set aside stays for
        thirty days."""
        hidden = self.place / ".peerstore-incoming"
        (hidden / "7-1").write_text("unfinished")
        (hidden / "old-7-2").write_text("set aside")
        again = Target(self.root)
        again.open()
        again.close()
        # As long as somebody else writes here, it may all be theirs.
        self.assertEqual(sorted(self.hidden()), ["7-1", "old-7-2"])
        self.target.close()
        again.open()
        self.assertEqual(self.hidden(), ["old-7-2"])
        self.patch(module.time, "time", lambda: os.stat(hidden / "old-7-2").st_ctime + module.KEEP_ASIDE + 1)
        again.close()
        again.open()
        self.addCleanup(again.close)
        self.assertEqual(self.hidden(), [])
