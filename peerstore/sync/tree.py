"""The local side of a synced folder: looking at it, and changing it."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

from peerstore.client.source import ChangedMeanwhile, Found, folder_of, look_closely, open_file, show
from peerstore.client.target import Target
from peerstore.errors import UsageError
from peerstore.files.manifest import NodeKind
from peerstore.files.safepath import RESERVED, check_path
from peerstore.sync.mark import RootLost, read_mark, write_mark
from peerstore.sync.scanner import Scan, Scanner
from peerstore.util.durable import disk_error

__all__ = ["HiddenFile", "LocalTree"]

#: Where files are written before they get their names.
HIDDEN = RESERVED + b"sync"
_PIECE = 1024 * 1024
_T = TypeVar("_T")
#: Of a mode that comes from elsewhere; never the right to act as somebody else.
_FILE_MODE = 0o0777
_FOLDER_MODE = 0o1777


class HiddenFile:
    """A file in the making.  Once it is closed, nothing goes to its number,
    which may be somebody else's by then."""

    def __init__(self, name: bytes, descriptor: int) -> None:
        self.name = name
        self._descriptor = descriptor

    def write(self, piece: Any) -> int:
        """Append bytes; how many were taken.

        :raises OSError: as the system says, or when it was closed.
        """
        return os.write(self._open, piece)

    def start_anew(self) -> None:
        """Forget what was written."""
        os.ftruncate(self._open, 0)
        os.lseek(self._open, 0, os.SEEK_SET)

    def finish(self) -> None:
        """Make its bytes durable, and close it."""
        os.fsync(self._open)
        self.close()

    def close(self) -> None:
        """Close it; more than once does no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def _open(self) -> int:
        if self._descriptor < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._descriptor


class LocalTree:
    """One folder on a real disk.  Everything here blocks.

    :param root: raw bytes.
    :param skip: absolute paths that are not kept; see ``Scanner``.
    """

    def __init__(self, root: bytes, skip: Collection[bytes] = ()) -> None:
        self.root = os.path.abspath(root)
        self._scanner = Scanner(self.root, skip)
        self._target = Target(self.root, HIDDEN)
        self._number = b""
        self._place = (0, 0)
        # Held by whoever has made a read-only folder writable for the moment.
        self._loosening = threading.Lock()

    # -- the root ----------------------------------------------------------------

    def open(self, number: bytes, fresh: bool) -> None:
        """Hold the folder.

        :param number: what marks it, 16 bytes.
        :param fresh: nothing was agreed yet: any folder will do, and is
            marked now.
        :raises RootLost: when it is missing or foreign.
        :raises peerstore.errors.StorageError: when it cannot be written.
        """
        if fresh:
            if not os.path.isdir(self.root):
                raise RootLost(f"{show(self.root)} is not there.", "Mount it, or make the folder, and start again.")
            write_mark(self.root, number)
        self._number = number
        self._hold()

    def check(self) -> bool:
        """Make sure that the root is the one we mean.

        :return: whether it is the one that we hold; else it was away, or our
            hidden folder in it was, and now we hold it again.
        :raises RootLost: when it is missing or foreign.
        """
        status = read_mark(self.root, self._number)
        if (status.st_dev, status.st_ino) == self._place and self._target.is_whole():
            return True
        self._target.close(keep_hidden=True)
        self._hold()
        return False

    def close(self) -> None:
        """Let go; the mark stays."""
        self._target.close(keep_hidden=True)

    def _hold(self) -> None:
        status = read_mark(self.root, self._number)
        self._target.open()
        self._place = (status.st_dev, status.st_ino)

    def is_empty(self) -> bool:
        """Whether nothing but what is ours is in the folder.

        :raises peerstore.errors.UsageError: when it cannot be read.
        """
        try:
            return all(name.startswith(RESERVED) for name in os.listdir(self.root))
        except OSError as error:
            raise UsageError(f"{show(self.root)}: {error.strerror}.", "Check its permissions.") from error

    # -- looking -----------------------------------------------------------------

    def scan(self, path: bytes, note: Callable[[str], None]) -> Scan:
        """What lies at and below a path; the empty path is all of the folder.

        :raises peerstore.errors.UsageError: when the root cannot be read.
        """
        try:
            return self._scanner.scan(path, note)
        except OSError as error:
            raise UsageError(f"{show(self.root)}: {error.strerror}.", "Check its permissions.") from error

    def look(self, path: bytes) -> Found | None:
        """One path, or None when nothing is there.

        :raises peerstore.client.source.Unread: when that cannot be told.
        :raises peerstore.errors.BadMessage: for a path that may lead out.
        """
        check_path(path)
        return look_closely(self.root, path)

    def expect(self, path: bytes, found: Found | None) -> None:
        """Make sure that a path is still what a scan saw.

        :raises ChangedMeanwhile: when it is not.
        """
        if not _alike(self.look(path), found):
            raise ChangedMeanwhile(f"{show(path)} changed meanwhile; it is looked at again.")

    def digest(self, found: Found) -> bytes:
        """SHA-256 of a file or of a link's text; empty for a folder.

        :raises peerstore.errors.StorageError: when it is not as it was found,
            or cannot be read.
        """
        self.expect(found.path, found)
        if found.kind == NodeKind.FOLDER:
            return b""
        whole = hashlib.sha256()
        try:
            if found.kind == NodeKind.SYMLINK:
                with folder_of(self.root, found.path) as (folder, last):
                    whole.update(os.readlink(last, dir_fd=folder))
            else:
                with os.fdopen(open_file(self.root, found.path), "rb", buffering=0) as file:
                    while piece := file.read(_PIECE):
                        whole.update(piece)
        except FileNotFoundError as error:
            raise ChangedMeanwhile(f"{show(found.path)} went meanwhile; it is looked at again.") from error
        except OSError as error:
            raise disk_error(error, show(found.path)) from error
        self.expect(found.path, found)
        return whole.digest()

    # -- writing -------------------------------------------------------------------

    def temporary(self) -> HiddenFile:
        """A new hidden file."""
        return HiddenFile(*self._target.temporary())

    def discard(self, file: HiddenFile) -> None:
        """Take an unfinished hidden file away."""
        file.close()
        self._target.discard(file.name)

    def copy(self, path: bytes, to: HiddenFile) -> bytes:
        """Copy a file of this folder into a hidden one; SHA-256 of the copy.

        :raises OSError: as the system says.
        """
        whole = hashlib.sha256()
        with os.fdopen(open_file(self.root, path), "rb", buffering=0) as file:
            while piece := file.read(_PIECE):
                whole.update(piece)
                view = memoryview(piece)
                while view:
                    view = view[to.write(view) :]
        return whole.digest()

    def place(self, file: HiddenFile, path: bytes, mode: int, mtime_ns: int, expected: Found | None) -> Found:
        """Give a finished hidden file its name, in place of what is expected.

        :return: what was placed, before anybody else could touch it.
        :raises peerstore.errors.StorageError: when something else is there.
        """
        self.expect(path, expected)
        mode &= _FILE_MODE
        return self._inside(path, lambda: self._target.place(file.name, path, mode, mtime_ns, expected, False))

    def symlink(self, path: bytes, text: bytes, mtime_ns: int, expected: Found | None) -> Found:
        """Make a symbolic link; like :meth:`place`."""
        self.expect(path, expected)
        return self._inside(path, lambda: self._target.symlink(path, text, mtime_ns, expected, False))

    def folder(self, path: bytes, found: Found | None) -> None:
        """Make a folder, in place of a file or link that is expected."""
        if found is not None and found.kind != NodeKind.FOLDER:
            self.remove(path, found)
        self._inside(path, lambda: self._target.folder(path))

    def change_mode(self, found: Found, mode: int) -> Found:
        """Set the mode of a file or folder; what it then is.

        :raises OSError: as the system says.
        """
        if found.kind == NodeKind.SYMLINK:
            return found
        if found.kind == NodeKind.FOLDER:
            mode &= _FOLDER_MODE
            self._target.attributes(found.path, mode, None)
        else:
            mode &= _FILE_MODE
            self._target.file_attributes(found.path, mode, None)
        # Not every file system keeps every mode.
        now = self.look(found.path)
        return found._replace(mode=now.mode if now is not None else mode)

    def remove(self, path: bytes, found: Found) -> None:
        """Take a file, link or empty folder away, if it is what was found.

        :raises ChangedMeanwhile: when it is not.
        """
        self._inside(path, lambda: self._target.remove(path, found))

    def step_aside(self, found: Found, other: bytes) -> bool:
        """Rename a local file; false when the other name is taken.

        :raises peerstore.errors.StorageError: when it is not as it was found.
        """
        if self.look(other) is not None:
            return False
        self._inside(found.path, lambda: self._target.rename(found.path, other, found))
        return True

    def _inside(self, path: bytes, step: Callable[[], _T]) -> _T:
        """Take a step in the folder that holds a path.  If that is read-only
        and ours, it is made writable for the moment: what its owner may not
        change by accident still has to be what it is elsewhere.  One step at
        a time: the mode of the moment must not be taken for the folder's own."""
        try:
            return step()
        except PermissionError:
            return self._loosened(path, step)

    def _loosened(self, path: bytes, step: Callable[[], _T]) -> _T:
        with self._loosening:
            folder = path.rpartition(b"/")[0]
            found = self.look(folder) if folder else None
            if found is None or found.mode & 0o300 == 0o300:
                # Another reason; or somebody made it writable by now.
                return step()
            self._target.attributes(folder, found.mode | 0o700, None)
            try:
                return step()
            finally:
                self._target.attributes(folder, found.mode, None)

    def sync(self, paths: Iterable[bytes]) -> None:
        """Make the names of these paths durable, or their absence."""
        folders = {path.rpartition(b"/")[0] for path in paths}
        for folder in sorted(folders):
            try:
                handle = open_folder(self.root, folder)
            except (FileNotFoundError, NotADirectoryError):
                # Gone by now, with all that was in it.
                continue
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def open_folder(root: bytes, path: bytes) -> int:
    """A handle of a folder below *root*, reached without following a link."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    if not path:
        return os.open(root, flags)
    with folder_of(root, path) as (parent, last):
        return os.open(last, flags | os.O_NOFOLLOW, dir_fd=parent)


def _alike(a: Found | None, b: Found | None) -> bool:
    if a is None or b is None:
        return a is b
    if a.kind == NodeKind.FOLDER == b.kind:
        return True
    return (a.kind, a.size, a.mtime_ns, a.inode, a.mode) == (b.kind, b.size, b.mtime_ns, b.inode, b.mode)
