"""The mark by which a folder is known."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import ReadOnly
from peerstore.sync import mark as module
from peerstore.sync.mark import MARK, Mark, RootLost, pack_mark, read_mark, unpack_mark, write_mark
from tests.support.properties import check
from tests.support.vectors import frozen

NUMBER = bytes(range(16))


class FormTests(SynchronousTestCase):
    """What is in the file."""

    def test_frozen(self) -> None:
        """Not a byte of it moves."""
        kept = frozen("sync_mark")
        mark = Mark(bytes.fromhex(kept["number"]), kept["file_system"])
        self.assertEqual(pack_mark(mark).hex(), kept["bytes"])
        self.assertEqual(MARK.decode(), kept["name"])

    @check(st.binary(min_size=16, max_size=16), st.integers(0, (1 << 64) - 1))
    def test_back_and_forth(self, number: bytes, file_system: int) -> None:
        """Every mark is read as it was written."""
        self.assertEqual(unpack_mark(pack_mark(Mark(number, file_system))), Mark(number, file_system))

    def test_what_is_none(self) -> None:
        """Cut, longer, of a later version, or something else."""
        whole = pack_mark(Mark(NUMBER, 1))
        for data in (b"", whole[:-1], whole + b"x", whole.replace(b" 1\n", b" 2\n", 1), b"\xff" * 60):
            self.assertIs(unpack_mark(data), None, data)


class FolderTests(SynchronousTestCase):
    """Marking a folder, and knowing it again."""

    def setUp(self) -> None:
        self.place = Path(self.mktemp()).absolute()
        self.place.mkdir()
        self.root = os.fsencode(self.place)

    def refused(self, number: bytes = NUMBER) -> str:
        error = self.assertRaises(RootLost, read_mark, self.root, number)
        self.assertIn("--home", error.next_step)
        return error.what

    def test_the_same_folder(self) -> None:
        """It is known by its number; the status is that of the folder."""
        write_mark(self.root, NUMBER)
        self.assertEqual(read_mark(self.root, NUMBER).st_ino, self.place.stat().st_ino)
        self.assertEqual(sorted(os.listdir(self.root)), [MARK])

    def test_a_new_mark(self) -> None:
        """Replaces the old one."""
        write_mark(self.root, NUMBER)
        write_mark(self.root, b"n" * 16)
        read_mark(self.root, b"n" * 16)
        self.assertIn("another folder", self.refused())

    def test_a_missing_folder(self) -> None:
        """As when its disk is gone altogether."""
        write_mark(self.root, NUMBER)
        self.place.rename(self.place.with_name("elsewhere"))
        self.assertIn("is not there", self.refused())

    def test_an_empty_mount_point(self) -> None:
        """The folder is there, and has no mark."""
        self.assertIn("lacks the mark", self.refused())

    def test_a_damaged_mark(self) -> None:
        """Is nobody's."""
        (self.place / ".peerstore-mark").write_bytes(b"half")
        self.assertIn("another folder", self.refused())

    def test_a_mark_that_is_a_link(self) -> None:
        """Is not followed."""
        write_mark(self.root, NUMBER)
        mark = self.place / ".peerstore-mark"
        mark.rename(self.place / "real")
        mark.symlink_to("real")
        self.assertIn("lacks the mark", self.refused())

    def test_a_copy_on_another_disk(self) -> None:
        """The same mark on another file system is a copy's."""
        write_mark(self.root, NUMBER)
        here = os.statvfs(self.root).f_fsid
        (self.place / ".peerstore-mark").write_bytes(pack_mark(Mark(NUMBER, here + 1)))
        self.assertIn("another file system", self.refused())

    def test_file_systems_without_a_number(self) -> None:
        """They are told apart by the mark alone."""
        write_mark(self.root, NUMBER)
        (self.place / ".peerstore-mark").write_bytes(pack_mark(Mark(NUMBER, 0)))
        read_mark(self.root, NUMBER)

    def test_a_folder_that_cannot_be_written(self) -> None:
        """That is said in words."""

        def refuse(*arguments: object, **named: object) -> int:
            raise PermissionError(13, "no")

        self.patch(module.os, "open", refuse)
        self.assertRaises(ReadOnly, write_mark, self.root, NUMBER)
