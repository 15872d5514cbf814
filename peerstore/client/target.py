"""Writing below one folder, and never outside of it.

Every step goes by directory handle and refuses links on the way, so that no
name and no link that somebody puts there meanwhile leads out.  Files appear
whole: written under a name of our own in a hidden folder, synced, renamed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from peerstore.client.source import Found, look, show
from peerstore.errors import ReadOnly, StorageError, UsageError
from peerstore.files.manifest import NodeKind
from peerstore.files.safepath import RESERVED, check_path
from peerstore.util.durable import disk_error

__all__ = ["HIDDEN", "Target"]

#: Where unfinished files are, on the same file system as the rest.
HIDDEN = RESERVED + b"incoming"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Target:
    """A folder that is written into.  Everything here blocks.

    :param root: raw bytes; made when missing.
    """

    def __init__(self, root: bytes) -> None:
        self.root = root
        self._count = 0
        self._descriptor = -1

    def open(self) -> None:
        """Make and hold the folder.

        :raises peerstore.errors.PeerStoreError: when it cannot be used.
        """
        try:
            os.makedirs(self.root, exist_ok=True)
            self._descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with contextlib.suppress(FileExistsError):
                os.mkdir(HIDDEN, 0o700, dir_fd=self._descriptor)
            for left in os.listdir(os.path.join(self.root, HIDDEN)):
                os.unlink(HIDDEN + b"/" + left, dir_fd=self._descriptor)
        except NotADirectoryError as error:
            raise UsageError(f"{show(self.root)} is no folder.", "Name another with --to.") from error
        except OSError as error:
            raise disk_error(error, show(self.root)) from error

    def close(self, keep_hidden: bool = False) -> None:
        """Let go, and take the hidden folder away when it is empty."""
        if self._descriptor >= 0:
            if not keep_hidden:
                with contextlib.suppress(OSError):
                    os.rmdir(HIDDEN, dir_fd=self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    # -- looking ---------------------------------------------------------------

    def look(self, path: bytes) -> Found | None:
        """What lies at a path now."""
        return look(self.root, path)

    # -- writing ---------------------------------------------------------------

    def temporary(self) -> tuple[bytes, int]:
        """(name, descriptor) of a new hidden file."""
        self._count += 1
        name = HIDDEN + b"/%d-%d" % (os.getpid(), self._count)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return name, os.open(name, flags, 0o600, dir_fd=self._descriptor)

    def discard(self, name: bytes) -> None:
        """Take an unfinished file away."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)

    def place(self, name: bytes, path: bytes, mode: int, mtime_ns: int, expected: Found | None, force: bool) -> None:
        """Give a finished hidden file its name.

        :param expected: what is to be replaced; anything else there by now is
            left alone, unless *force*.
        :raises peerstore.errors.StorageError: when something else is there.
        """
        os.chmod(name, mode & 0o7777, dir_fd=self._descriptor)
        os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=self._descriptor)
        with self._parent(path) as (parent, last):
            self._make_room(parent, last, path, expected, force)
            os.rename(name, last, src_dir_fd=self._descriptor, dst_dir_fd=parent)

    def symlink(self, path: bytes, text: bytes, mtime_ns: int, expected: Found | None, force: bool) -> None:
        """Make a symbolic link, which is never followed."""
        self._count += 1
        name = HIDDEN + b"/%d-%d" % (os.getpid(), self._count)
        os.symlink(text, name, dir_fd=self._descriptor)
        os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=self._descriptor, follow_symlinks=False)
        with self._parent(path) as (parent, last):
            self._make_room(parent, last, path, expected, force)
            os.rename(name, last, src_dir_fd=self._descriptor, dst_dir_fd=parent)

    def folder(self, path: bytes, force: bool = False) -> None:
        """Make a folder, and those above it."""
        if not path:
            return
        with self._parent(path) as (parent, last):
            try:
                os.mkdir(last, 0o700, dir_fd=parent)
            except FileExistsError:
                there = os.stat(last, dir_fd=parent, follow_symlinks=False)
                if stat.S_ISDIR(there.st_mode):
                    return
                if not force:
                    raise StorageError(
                        f"{show(path)}: something that is no folder is in the way.", "Move it away, or use --force."
                    ) from None
                os.unlink(last, dir_fd=parent)
                os.mkdir(last, 0o700, dir_fd=parent)

    def attributes(self, path: bytes, mode: int, mtime_ns: int) -> None:
        """Set a folder's mode and time, once everything in it is written."""
        if not path:
            os.fchmod(self._descriptor, mode & 0o7777)
            os.utime(self._descriptor, ns=(mtime_ns, mtime_ns))
            return
        with self._parent(path) as (parent, last):
            descriptor = os.open(last, _FOLDER, dir_fd=parent)
            try:
                os.fchmod(descriptor, mode & 0o7777)
                os.utime(descriptor, ns=(mtime_ns, mtime_ns))
            finally:
                os.close(descriptor)

    def file_attributes(self, path: bytes, mode: int, mtime_ns: int) -> None:
        """Set the mode and time of a file whose content is right already."""
        with self._parent(path) as (parent, last):
            descriptor = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
            try:
                os.fchmod(descriptor, mode & 0o7777)
                os.utime(descriptor, ns=(mtime_ns, mtime_ns))
            finally:
                os.close(descriptor)

    def remove(self, path: bytes, expected: Found | None) -> None:
        """Take a file, link or empty folder away, if it is what we think."""
        with self._parent(path) as (parent, last):
            there = self.look(path)
            if there is None:
                return
            if expected is not None and not _same(there, expected):
                raise StorageError(f"{show(path)} has changed meanwhile, and is left alone.")
            if there.kind == NodeKind.FOLDER:
                os.rmdir(last, dir_fd=parent)
            else:
                os.unlink(last, dir_fd=parent)

    def rename(self, old: bytes, new: bytes) -> None:
        """Move a path within the folder; nothing may be at the new one."""
        with self._parent(old) as (before, name), self._parent(new) as (after, last):
            try:
                os.stat(last, dir_fd=after, follow_symlinks=False)
            except FileNotFoundError:
                os.rename(name, last, src_dir_fd=before, dst_dir_fd=after)
                return
            raise StorageError(f"{show(new)} is there already.")

    def sync(self, path: bytes) -> None:
        """Make the names in the folder of a path durable."""
        with self._parent(path) as (parent, _):
            os.fsync(parent)

    # -- inside ----------------------------------------------------------------

    @contextlib.contextmanager
    def _parent(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        """(directory handle, last component), folders on the way made."""
        parts = check_path(path)
        held = os.dup(self._descriptor)
        try:
            for part in parts[:-1]:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=held)
                try:
                    below = os.open(part, _FOLDER, dir_fd=held)
                except OSError as error:
                    raise ReadOnly(
                        f"{show(path)}: {show(part)} is no folder that can be used ({error.strerror}).",
                        "Move it away, or restore to another place with --to.",
                    ) from error
                os.close(held)
                held = below
            yield held, parts[-1]
        finally:
            os.close(held)

    def _make_room(self, parent: int, last: bytes, path: bytes, expected: Found | None, force: bool) -> None:
        there = self.look(path)
        if there is None:
            return
        if not force and (expected is None or not _same(there, expected)):
            raise StorageError(f"{show(path)} is there already, and different.", "Use --force to replace it.")
        if there.kind == NodeKind.FOLDER:
            try:
                os.rmdir(last, dir_fd=parent)
            except OSError as error:
                raise StorageError(f"{show(path)}: a folder that is not empty is in the way.") from error


def _same(a: Found, b: Found) -> bool:
    return (a.kind, a.size, a.mtime_ns, a.inode) == (b.kind, b.size, b.mtime_ns, b.inode)
