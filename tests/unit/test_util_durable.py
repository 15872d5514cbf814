"""Files that are there, whole, after a crash at any moment."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import DiskFull, ReadOnly, StorageError
from peerstore.util.durable import disk_error, make_directory, sync_directory, write_durably

OLD, NEW = b"the old content", b"the new content, longer than the old one"


class Crash(BaseException):
    """The power goes."""


class Calls:
    """Functions of ``os``, patched so that they are noted and fail on demand.

    :ivar names: the calls since the last :meth:`break_at`, in order.
    """

    FUNCTIONS = ("open", "write", "fsync", "close", "rename", "unlink", "mkdir")

    def __init__(self, case: SynchronousTestCase) -> None:
        self.names: list[str] = []
        self._at = -1
        self._error: BaseException = Crash()
        self._after = False
        self._paths: dict[int, str] = {}
        for name in self.FUNCTIONS:
            case.patch(os, name, self._wrapped(name, getattr(os, name)))

    def break_at(self, at: int, error: int = 0, after: bool = False) -> None:
        """Let call number *at* from now on fail, with an errno or else as if
        the power went; *after* it was done, if so wished.  -1 is none."""
        self.names.clear()
        self._at, self._after = at, after
        self._error = OSError(error, os.strerror(error)) if error else Crash()

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            breaks = len(self.names) == self._at
            what = args[0]
            self.names.append(
                f"{name} {self._paths.get(what, what) if isinstance(what, int) else os.path.basename(what)}"
            )
            if breaks and not self._after:
                raise self._error
            try:
                result = real(*args, **kwargs)
                if name == "open":
                    self._paths[result] = os.path.basename(what)
                return result
            finally:
                if breaks:
                    raise self._error

        return call


class Folder(SynchronousTestCase):
    """A folder with a file in it."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = self.folder / "file"

    def left(self) -> list[str]:
        """What is in the folder."""
        return sorted(os.listdir(self.folder))


class WriteTests(Folder):
    """``write_durably`` when all goes well."""

    def test_new_and_replaced(self) -> None:
        """The content is there, and nothing else."""
        for data in (OLD, NEW, b""):
            write_durably(self.path, data)
            self.assertEqual((self.path.read_bytes(), self.left()), (data, ["file"]))

    def test_the_mode(self) -> None:
        """0600 unless said otherwise, also in place of another."""
        write_durably(self.path, OLD, 0o640)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o640)
        write_durably(self.path, OLD)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_a_leftover_lends_nothing(self) -> None:
        """Neither its mode nor, if it is a link, the place that it leads to."""
        leftover, elsewhere = self.folder / ".file.new", self.folder / "elsewhere"
        leftover.write_bytes(b"cut off")
        leftover.chmod(0o666)
        write_durably(self.path, NEW)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        elsewhere.write_bytes(OLD)
        leftover.symlink_to(elsewhere)
        write_durably(self.path, NEW)
        self.assertEqual((elsewhere.read_bytes(), self.path.read_bytes()), (OLD, NEW))
        self.assertFalse(self.path.is_symlink())

    def test_short_writes(self) -> None:
        """A disk may take less than it is given."""
        real = os.write
        self.patch(os, "write", lambda descriptor, data: real(descriptor, bytes(data)[:3]))
        write_durably(self.path, NEW)
        self.assertEqual(self.path.read_bytes(), NEW)

    def test_the_order_of_steps(self) -> None:
        """Bytes before the name, the name before the folder."""
        calls = Calls(self)
        write_durably(self.path, NEW)
        steps = [name for name in calls.names if name.split()[0] in ("write", "fsync", "rename")]
        folder = self.folder.name
        self.assertEqual(steps, ["write .file.new", "fsync .file.new", "rename .file.new", f"fsync {folder}"])


class CrashTests(Folder):
    """The power goes, or a call fails, at every step in turn."""

    def setUp(self) -> None:
        super().setUp()
        self.calls = Calls(self)
        write_durably(self.path, OLD)
        self.steps = list(self.calls.names)

    def replaced(self) -> None:
        """A write that must go well, after one that did not."""
        self.calls.break_at(-1)
        write_durably(self.path, OLD)
        self.assertEqual((self.path.read_bytes(), self.left()), (OLD, ["file"]))

    def test_old_or_new_and_never_a_half(self) -> None:
        """Before and after every call; and the next write mends it."""
        self.assertGreater(len(self.steps), 5)
        for after in (False, True):
            for at in range(len(self.steps)):
                self.calls.break_at(at, after=after)
                self.assertRaises(Crash, write_durably, self.path, NEW)
                self.assertIn(self.path.read_bytes(), (OLD, NEW), self.calls.names)
                self.replaced()

    def test_until_the_rename_the_old_file_is_there(self) -> None:
        """And from then on the new one."""
        renamed = next(at for at, name in enumerate(self.steps) if name.startswith("rename"))
        for at in range(len(self.steps)):
            self.calls.break_at(at)
            self.assertRaises(Crash, write_durably, self.path, NEW)
            self.assertEqual(self.path.read_bytes(), NEW if at > renamed else OLD)
            self.replaced()

    def test_an_error_is_told_in_words(self) -> None:
        """At every step, as one of ours that names the file; and old or new
        is there, and nothing else."""
        for at in range(len(self.steps)):
            self.calls.break_at(at, errno.ENOSPC)
            with self.assertRaises(DiskFull) as caught:
                write_durably(self.path, NEW)
            self.assertIn(str(self.path), str(caught.exception))
            self.assertEqual(self.left(), ["file"])
            self.assertIn(self.path.read_bytes(), (OLD, NEW))
            self.replaced()


class RefusalTests(Folder):
    """Places that cannot be written."""

    def test_a_folder_that_is_missing(self) -> None:
        """Is not made."""
        self.assertRaises(StorageError, write_durably, self.folder / "no" / "file", NEW)

    def test_a_file_in_the_way_of_the_folder(self) -> None:
        """Told as such, also when there is nothing to clean up."""
        write_durably(self.path, OLD)
        with self.assertRaises(StorageError) as caught:
            write_durably(self.path / "below", NEW)
        self.assertIn("directory", str(caught.exception))

    def test_a_folder_in_the_way_of_the_file(self) -> None:
        """Stays, and no temporary file does."""
        self.path.mkdir()
        self.assertRaises(StorageError, write_durably, self.path, NEW)
        self.assertEqual(self.left(), ["file"])

    def test_a_disk_that_takes_no_writes(self) -> None:
        """Read-only, even for cleaning up."""

        def refuse(*_: Any, **__: Any) -> Any:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        for name in ("open", "unlink"):
            self.patch(os, name, refuse)
        self.assertRaises(ReadOnly, write_durably, self.path, NEW)


class DirectoryTests(Folder):
    """``make_directory``."""

    def test_all_that_are_missing(self) -> None:
        """For their owner alone, each made durable in the one above."""
        calls = Calls(self)
        make_directory(self.folder / "a" / "b")
        self.assertEqual(
            [name for name in calls.names if name.split()[0] in ("mkdir", "fsync")],
            ["mkdir a", f"fsync {self.folder.name}", "mkdir b", "fsync a"],
        )
        for made in ("a", "a/b"):
            self.assertEqual(stat.S_IMODE((self.folder / made).stat().st_mode), 0o700)

    def test_one_that_is_there_stays_as_it_is(self) -> None:
        """Its mode included."""
        there = self.folder / "there"
        there.mkdir()
        there.chmod(0o755)
        (there / "file").write_bytes(OLD)
        make_directory(there)
        self.assertEqual((stat.S_IMODE(there.stat().st_mode), os.listdir(there)), (0o755, ["file"]))

    def test_somebody_else_makes_it_meanwhile(self) -> None:
        """That is as good."""
        real = os.mkdir

        def twice(path: Any, mode: int = 0o777, **kwargs: Any) -> None:
            real(path, mode, **kwargs)
            real(path, mode, **kwargs)

        self.patch(os, "mkdir", twice)
        make_directory(self.folder / "a" / "b")
        self.assertTrue((self.folder / "a" / "b").is_dir())

    def test_something_else_in_the_way(self) -> None:
        """A file, a link to nowhere: told in words, and left alone."""
        self.path.write_bytes(OLD)
        (self.folder / "link").symlink_to("nowhere")
        for name in ("file", "file/below", "link"):
            self.assertRaises(StorageError, make_directory, self.folder / name)
        self.assertEqual(self.left(), ["file", "link"])

    def test_what_may_not_even_be_looked_at(self) -> None:
        """A folder above that lets nobody in is told in words, too."""

        def refuse(*_: Any, **__: Any) -> Any:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        self.patch(os, "stat", refuse)
        self.patch(os, "mkdir", refuse)
        self.assertRaises(ReadOnly, make_directory, self.folder / "a" / "b")

    def test_a_cut_between_any_two_steps(self) -> None:
        """The next start makes what is missing."""
        calls = Calls(self)
        make_directory(self.folder / "0" / "b")
        for at in range(len(calls.names)):
            calls.break_at(at)
            place = self.folder / str(at + 1) / "b"
            self.assertRaises(Crash, make_directory, place)
            calls.break_at(-1)
            make_directory(place)
            self.assertTrue(place.is_dir())

    def test_no_room(self) -> None:
        """Told as such."""
        calls = Calls(self)
        calls.break_at(0, errno.EDQUOT)
        self.assertRaises(DiskFull, make_directory, self.folder / "a")


class SyncTests(Folder):
    """``sync_directory``."""

    def test_the_folder_itself_is_synced_and_let_go(self) -> None:
        """One open, one fsync, one close; also when the sync fails."""
        calls, name = Calls(self), self.folder.name
        sync_directory(self.folder)
        self.assertEqual(calls.names, [f"open {name}", f"fsync {name}", f"close {name}"])
        calls.break_at(1, errno.EIO)
        self.assertRaises(OSError, sync_directory, self.folder)
        self.assertEqual(calls.names[-1], f"close {name}")

    def test_a_file_is_no_folder(self) -> None:
        """An error, not a silent sync of something else."""
        self.path.write_bytes(OLD)
        self.assertRaises(NotADirectoryError, sync_directory, self.path)


class WordsTests(SynchronousTestCase):
    """``disk_error``: what happened, and the safe next step."""

    def told(self, number: int) -> StorageError:
        """An errno as one of ours."""
        return disk_error(OSError(number, os.strerror(number)), Path("/data/file"))

    def test_kinds(self) -> None:
        """Full, read-only, and the rest; each names the place and a step."""
        for number, kind in (
            (errno.ENOSPC, DiskFull),
            (errno.EDQUOT, DiskFull),
            (errno.EROFS, ReadOnly),
            (errno.EACCES, ReadOnly),
            (errno.EPERM, ReadOnly),
            (errno.EIO, StorageError),
            (errno.ENOENT, StorageError),
            (errno.EMFILE, StorageError),
        ):
            error = self.told(number)
            self.assertIs(type(error), kind, number)
            self.assertIn("/data/file", error.what)
            self.assertTrue(error.next_step)

    def test_the_reason_is_there(self) -> None:
        """In the system's words."""
        for number in (errno.EROFS, errno.EIO, errno.EMFILE):
            self.assertIn(os.strerror(number), self.told(number).what)

    def test_an_error_without_a_number(self) -> None:
        """Some libraries raise those."""
        self.assertIn("torn cable", disk_error(OSError("torn cable"), "/data").what)
