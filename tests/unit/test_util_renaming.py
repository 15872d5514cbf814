"""Renames that never destroy what is at the new name."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from peerstore.util import renaming


class RenamingTests(SynchronousTestCase):
    """On this system's own call, and where it is missing."""

    def setUp(self) -> None:
        self.place = Path(self.mktemp())
        self.place.mkdir()
        self.handle = os.open(self.place, os.O_RDONLY | os.O_DIRECTORY)
        self.addCleanup(os.close, self.handle)
        (self.place / "old").write_text("old")

    def rename(self) -> None:
        renaming.rename_new(b"old", b"new", self.handle, self.handle)

    def check_free_and_taken(self) -> None:
        (self.place / "new").write_text("new")
        self.assertRaises(FileExistsError, self.rename)
        self.assertEqual((self.place / "new").read_text(), "new")
        (self.place / "new").unlink()
        self.rename()
        self.assertEqual(os.listdir(self.place), ["new"])
        self.assertEqual((self.place / "new").read_text(), "old")
        (self.place / "new").unlink()
        self.assertRaises(FileNotFoundError, self.rename)

    def test_only_to_a_free_name(self) -> None:
        """What is at the new name stays; nothing at the old one is an error."""
        self.check_free_and_taken()

    def test_without_the_call(self) -> None:
        """A C library without renameat2 gives the same."""
        self.patch(renaming, "_renameat2", None)
        self.check_free_and_taken()

    def test_a_file_system_that_cannot(self) -> None:
        """One that does not know the flags gives the same."""

        def refuse(*arguments: Any) -> int:
            renaming.ctypes.set_errno(errno.EINVAL)
            return -1

        self.patch(renaming, "_renameat2", refuse)
        self.check_free_and_taken()

    def test_a_dangling_link_is_something(self) -> None:
        """A link that leads nowhere also takes the name."""
        (self.place / "new").symlink_to("nowhere")
        self.assertRaises(FileExistsError, self.rename)
        self.patch(renaming, "_renameat2", None)
        self.assertRaises(FileExistsError, self.rename)

    def test_exchange(self) -> None:
        """Two names change places; both must be there."""
        self.assertRaises(FileNotFoundError, renaming.exchange, b"old", b"new", self.handle, self.handle)
        (self.place / "new").write_text("new")
        self.assertTrue(renaming.exchange(b"old", b"new", self.handle, self.handle))
        self.assertEqual((self.place / "new").read_text(), "old")
        self.assertEqual((self.place / "old").read_text(), "new")

    def test_exchange_where_it_cannot(self) -> None:
        """It says so, and does nothing."""
        self.patch(renaming, "_renameat2", None)
        (self.place / "new").write_text("new")
        self.assertFalse(renaming.exchange(b"old", b"new", self.handle, self.handle))
        self.assertEqual((self.place / "new").read_text(), "new")
