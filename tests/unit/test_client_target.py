"""Writing below a folder, and never outside of it."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from peerstore.client import target as module
from peerstore.client.target import Target, write_with_holes
from peerstore.errors import BadMessage, PeerStoreError, StorageError, UsageError
from peerstore.files.manifest import NodeKind

HIDDEN = ".peerstore-incoming"


class TargetTestCase(SynchronousTestCase):
    """A folder that is written into, and one outside of it."""

    def setUp(self) -> None:
        base = Path(self.mktemp()).absolute()
        self.place, self.outside = base / "in", base / "out"
        self.outside.mkdir(parents=True)
        (self.outside / "note").write_text("not ours")
        self.target = self.opened()

    def opened(self, place: Path | None = None, **options: Any) -> Target:
        target = Target(os.fsencode(place or self.place), **options)
        target.open()
        self.addCleanup(target.close)
        return target

    def write(self, path: bytes, content: bytes = b"text", mode: int = 0o644, force: bool = False) -> None:
        name, descriptor = self.target.temporary()
        try:
            os.write(descriptor, content)
            os.close(descriptor)
            self.target.place(name, path, mode, 1_234_567_890_123_456_789, None, force)
        except BaseException:
            self.target.discard(name)
            raise

    def untouched(self) -> None:
        """Nothing outside has changed, and nothing unfinished is left."""
        self.assertEqual(os.listdir(self.outside), ["note"])
        self.assertEqual((self.outside / "note").read_text(), "not ours")
        self.assertEqual(os.listdir(self.place / HIDDEN), [])


class OutsideTests(TargetTestCase):
    """No name and no link leads out."""

    def test_names(self) -> None:
        """What is no plain component is refused, in any place."""
        for path in (b"../out/x", b"..", b"a/../../out/x", b"/etc/x", b"a//b", b".", b"a/.", b"\0", b"x" * 256):
            self.assertRaises(BadMessage, self.write, path)
            self.assertRaises(BadMessage, self.target.folder, path)
            self.assertRaises(BadMessage, self.target.symlink, path, b"x", 0, None, False)
        self.assertRaises(BadMessage, self.write, b".peerstore-incoming/x")
        self.untouched()

    def test_a_link_on_the_way(self) -> None:
        """It is not followed: not for files, links, folders, attributes."""
        (self.place / "sub").symlink_to(self.outside)
        steps = (
            lambda: self.write(b"sub/x"),
            lambda: self.write(b"sub/note", force=True),
            lambda: self.write(b"sub/a/b"),
            lambda: self.target.symlink(b"sub/x", b"y", 0, None, True),
            lambda: self.target.folder(b"sub/x"),
            lambda: self.target.attributes(b"sub/x", 0o777, 0),
            lambda: self.target.file_attributes(b"sub/note", 0o777, 0),
            lambda: self.target.rename(b"sub/note", b"y"),
        )
        for step in steps:
            self.assertRaises(PeerStoreError, step)
        self.assertRaises(OSError, self.target.digest, b"sub/note", NodeKind.FILE)
        self.untouched()

    def test_a_link_at_the_place(self) -> None:
        """A link is itself in the way; with force it is replaced, and what it
        points to stays."""
        (self.place / "note").symlink_to(self.outside / "note")
        self.assertRaises(StorageError, self.write, b"note")
        self.assertRaises(OSError, self.target.file_attributes, b"note", 0o777, 0)
        self.write(b"note", b"ours", force=True)
        self.assertEqual((self.place / "note").read_text(), "ours")
        self.assertFalse((self.place / "note").is_symlink())
        self.untouched()

    def test_a_link_where_a_folder_is_wanted(self) -> None:
        """It does not serve as one; force puts a folder in its place."""
        (self.place / "sub").symlink_to(self.outside)
        self.assertRaises(StorageError, self.target.folder, b"sub")
        self.target.folder(b"sub", True)
        self.write(b"sub/x")
        self.untouched()

    def test_a_link_under_our_own_name(self) -> None:
        """A hidden folder that is a link is refused; what it points to is
        neither emptied nor written into."""
        other = self.place.parent / "other"
        other.mkdir()
        (other / HIDDEN).symlink_to(self.outside)
        error = self.assertRaises(UsageError, self.opened, other)
        self.assertIn(HIDDEN, error.what)
        self.assertEqual(os.listdir(self.outside), ["note"])

    def test_a_link_to_nowhere(self) -> None:
        """What a stored link says is kept as it is, never resolved."""
        for text in (b"/etc/passwd", b"../../../x", b"\xff", b"loop"):
            self.target.symlink(b"loop", text, 1_000_000_000_000_000_001, None, True)
            self.assertEqual(os.readlink(os.fsencode(self.place / "loop")), text)
        self.assertEqual((self.place / "loop").lstat().st_mtime_ns, 1_000_000_000_000_000_001)
        self.untouched()


class PlaceTests(TargetTestCase):
    """Whole files, with all their attributes, in the right place."""

    def test_attributes(self) -> None:
        """All twelve mode bits, and the time in ns."""
        for mode in (0o644, 0o400, 0o000, 0o4755, 0o1777, 0o2775):
            self.write(b"a/b/file", mode=mode, force=True)
            status = (self.place / "a" / "b" / "file").stat()
            self.assertEqual((stat.S_IMODE(status.st_mode), status.st_mtime_ns), (mode, 1_234_567_890_123_456_789))

    def test_something_is_there(self) -> None:
        """A different file, a folder, a pipe: left alone without force."""
        (self.place / "file").write_text("mine")
        (self.place / "folder").mkdir()
        (self.place / "full").mkdir()
        (self.place / "full" / "x").touch()
        os.mkfifo(self.place / "pipe")
        for name in (b"file", b"folder", b"full", b"pipe"):
            self.assertRaises(StorageError, self.write, name)
        self.assertEqual((self.place / "file").read_text(), "mine")
        error = self.assertRaises(StorageError, self.write, b"file")
        self.assertIn("--force", error.next_step)

    def test_with_force(self) -> None:
        """A file, a link and an empty folder are replaced; a folder with
        something in it, and what is no file at all, never."""
        (self.place / "file").write_text("mine")
        (self.place / "folder").mkdir()
        for name in (b"file", b"folder"):
            self.write(name, b"new", force=True)
            self.assertEqual((self.place / os.fsdecode(name)).read_text(), "new")
        (self.place / "full").mkdir()
        (self.place / "full" / "x").touch()
        os.mkfifo(self.place / "pipe")
        for name in (b"full", b"pipe"):
            self.assertRaises(StorageError, self.write, name, force=True)
            self.assertRaises(StorageError, self.target.symlink, name, b"x", 0, None, True)
        self.assertRaises(StorageError, self.target.folder, b"pipe", True)
        self.assertTrue((self.place / "full" / "x").exists())
        self.assertTrue((self.place / "pipe").is_fifo())

    def test_devices_are_not_replaced(self) -> None:
        """get --to /dev/null must not make a file of it, not even for root."""
        target = Target(b"/dev")
        target.open(only_look=True)
        self.addCleanup(target.close)
        name, descriptor = self.target.temporary()
        os.close(descriptor)
        self.assertRaises(StorageError, target._there, b"null")
        self.target.discard(name)

    def test_a_digest(self) -> None:
        """Of a file's content, of a link's text."""
        self.write(b"sub/file", b"content")
        self.target.symlink(b"link", b"sub/file", 0, None, False)
        self.assertEqual(self.target.digest(b"sub/file", NodeKind.FILE), hashlib.sha256(b"content").digest())
        self.assertEqual(self.target.digest(b"link", NodeKind.SYMLINK), hashlib.sha256(b"sub/file").digest())

    def test_names_of_their_own(self) -> None:
        """No two unfinished files share a name, whoever asks when."""
        names = [self.target.temporary() for _ in range(50)]
        for name, descriptor in names:
            os.close(descriptor)
            self.target.discard(name)
        self.assertEqual(len({name for name, _ in names}), 50)


class HoleTests(TargetTestCase):
    """Runs of zeros."""

    def content(self, *pieces: bytes) -> Path:
        name, descriptor = self.target.temporary()
        for piece in pieces:
            self.assertEqual(write_with_holes(descriptor, piece), len(piece))
        os.ftruncate(descriptor, os.lseek(descriptor, 0, os.SEEK_CUR))
        os.close(descriptor)
        self.target.place(name, b"file", 0o644, 0, None, True)
        self.assertEqual((self.place / "file").read_bytes(), b"".join(pieces))
        return self.place / "file"

    def test_content_is_the_same(self) -> None:
        """Wherever the zeros are, and however the pieces are cut."""
        block = module._BLOCK
        zeros = bytes(block)
        for pieces in (
            (b"",),
            (b"x",),
            (zeros,),
            (zeros, b"x", zeros),
            (b"x" + zeros * 3 + b"y",),
            (zeros[:-1], zeros),
            (b"x" * block + zeros, zeros + b"x" * block),
        ):
            self.content(*pieces)

    def test_zeros_take_no_room(self) -> None:
        """Where the file system has holes."""
        with (self.place / "probe").open("wb") as probe:
            probe.truncate(2**24)
        file = self.content(*[bytes(2**22)] * 4)
        if (self.place / "probe").stat().st_blocks == 0:
            self.assertLess(file.stat().st_blocks * 512, 2**20)


class LifeTests(TargetTestCase):
    """Opening and closing."""

    def test_the_hidden_folder_goes(self) -> None:
        """When it is empty, and nobody else writes here."""
        other = self.opened()
        other.close()
        self.assertTrue((self.place / HIDDEN).exists())
        self.write(b"still works")
        self.target.close()
        self.assertFalse((self.place / HIDDEN).exists())
        self.target.close()

    def test_a_folder_that_cannot_be_made(self) -> None:
        """A file on the way: said in words."""
        for place in (self.outside / "note", self.outside / "note" / "below"):
            self.assertRaises(UsageError, self.opened, place)

    def test_only_looking(self) -> None:
        """Leaves no trace, and needs a folder that is there."""
        self.place.chmod(0o500)
        before = self.outside.stat().st_mtime_ns
        target = Target(os.fsencode(self.outside), loosen=True)
        target.open(only_look=True)
        self.assertIsNot(target.look(b"note"), None)
        target.close()
        self.assertEqual((self.outside.stat().st_mtime_ns, os.listdir(self.outside)), (before, ["note"]))
        self.assertRaises(StorageError, Target(os.fsencode(self.place / "no")).open, True)

    def test_read_only_folders(self) -> None:
        """They are writable while they are filled, if that is asked for, and
        what they were, or what they are to be, at last."""
        for name, mode in (("a", 0o555), ("b", 0o500), ("c", 0o770)):
            (self.place / "tree" / name).mkdir(parents=True)
            (self.place / "tree" / name).chmod(mode)
        (self.place / "tree").chmod(0o555)
        target = self.opened(self.place / "tree", loosen=True)
        modes = lambda: [stat.S_IMODE((self.place / "tree" / n).stat().st_mode) for n in ("a", "b", "c", ".")]  # noqa: E731
        for name in (b"a", b"b", b"c"):
            target.folder(name)
        self.assertEqual(modes(), [0o755, 0o700, 0o770, 0o755])
        target.attributes(b"a", 0o511, 5)
        target.close()
        self.assertEqual(modes(), [0o511, 0o500, 0o770, 0o555])
        strict = self.opened(self.place / "tree")
        strict.folder(b"a")
        self.assertEqual(modes()[0], 0o511)

    def test_the_hidden_folder_of_a_read_only_one(self) -> None:
        """It goes while that can be written; afterwards nobody could take it away."""
        tree = self.place / "tree"
        tree.mkdir()
        tree.chmod(0o555)
        target = self.opened(tree, loosen=True)
        seen: list[int] = []
        real = os.rmdir

        def rmdir(name: bytes, dir_fd: int) -> None:
            seen.append(stat.S_IMODE(tree.stat().st_mode))
            real(name, dir_fd=dir_fd)

        self.patch(module.os, "rmdir", rmdir)
        target.close()
        self.assertEqual((seen, stat.S_IMODE(tree.stat().st_mode), os.listdir(tree)), ([0o755], 0o555, []))

    def test_the_folders_own_attributes(self) -> None:
        """They are set last: the hidden folder that goes changes the time."""
        self.write(b"file")
        self.target.close_as(0o750, 1_000_000_000_000_000_007)
        status = self.place.stat()
        self.assertEqual((stat.S_IMODE(status.st_mode), status.st_mtime_ns), (0o750, 1_000_000_000_000_000_007))
        self.assertEqual(os.listdir(self.place), ["file"])

    def test_a_file_system_without_locks(self) -> None:
        """Works all the same."""

        def none(*_: Any) -> None:
            raise OSError(95, "Operation not supported")

        self.patch(module.fcntl, "flock", none)
        other = self.opened(self.place.parent / "other")
        other.close()
        self.assertEqual(os.listdir(self.place.parent / "other"), [])
