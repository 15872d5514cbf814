"""Writing below one folder, and never outside of it.

Every step goes by directory handle and refuses links on the way, so that no
name and no link that somebody puts there meanwhile leads out.  Files appear
whole: written under a name of our own in a hidden folder, synced, renamed.

What is replaced or removed is first moved into the hidden folder, in one
step, and only then compared with what was expected there: an edit that came
in between is seen, and is put back.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import time
from collections.abc import Iterator

from peerstore.client.source import Found, Unread, found_as, look, look_closely, show
from peerstore.errors import ReadOnly, StorageError, UsageError
from peerstore.files.manifest import NodeKind
from peerstore.files.safepath import RESERVED, check_path
from peerstore.util.durable import disk_error
from peerstore.util.renaming import exchange, rename_new

__all__ = ["HIDDEN", "Target"]

#: Where unfinished files are, on the same file system as the rest.
HIDDEN = RESERVED + b"incoming"
#: Things set aside that a crash left behind are kept for so long (s).
KEEP_ASIDE = 30 * 86400
_ASIDE = b"old-"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Target:
    """A folder that is written into.  Everything here blocks.

    :param root: raw bytes; made when missing.
    :param hidden: where unfinished files are, in *root*; whoever else writes
        into the same folder has another.
    """

    def __init__(self, root: bytes, hidden: bytes = HIDDEN) -> None:
        self.root = root
        self._hidden = hidden
        self._numbers = itertools.count(1)
        self._descriptor = -1

    def open(self) -> None:
        """Make and hold the folder.

        :raises peerstore.errors.PeerStoreError: when it cannot be used.
        """
        try:
            os.makedirs(self.root, exist_ok=True)
            self._descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._hidden, 0o700, dir_fd=self._descriptor)
            self._clear_leftovers()
        except NotADirectoryError as error:
            raise UsageError(f"{show(self.root)} is no folder.", "Name another with --to.") from error
        except OSError as error:
            raise disk_error(error, show(self.root)) from error

    def close(self, keep_hidden: bool = False) -> None:
        """Let go, and take the hidden folder away when it is empty."""
        if self._descriptor >= 0:
            if not keep_hidden:
                with contextlib.suppress(OSError):
                    os.rmdir(self._hidden, dir_fd=self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    # -- looking ---------------------------------------------------------------

    def look(self, path: bytes) -> Found | None:
        """What lies at a path now."""
        return look(self.root, path)

    # -- writing ---------------------------------------------------------------

    def temporary(self) -> tuple[bytes, int]:
        """(name, descriptor) of a new hidden file."""
        name = self._hidden_name(b"")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return name, os.open(name, flags, 0o600, dir_fd=self._descriptor)

    def discard(self, name: bytes) -> None:
        """Take an unfinished file away."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)

    def place(self, name: bytes, path: bytes, mode: int, mtime_ns: int, expected: Found | None, force: bool) -> Found:
        """Give a finished hidden file its name.

        :param expected: what is to be replaced; anything else there by now is
            left alone, unless *force*.
        :return: what was placed, as it was before anybody else could touch it.
        :raises peerstore.errors.StorageError: when something else is there.
        """
        os.chmod(name, mode & 0o7777, dir_fd=self._descriptor)
        os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=self._descriptor)
        return self._put(name, path, expected, force)

    def symlink(self, path: bytes, text: bytes, mtime_ns: int, expected: Found | None, force: bool) -> Found:
        """Make a symbolic link, which is never followed; like :meth:`place`."""
        name = self._hidden_name(b"")
        os.symlink(text, name, dir_fd=self._descriptor)
        try:
            os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=self._descriptor, follow_symlinks=False)
            return self._put(name, path, expected, force)
        except BaseException:
            self.discard(name)
            raise

    def folder(self, path: bytes, force: bool = False) -> None:
        """Make a folder, and those above it."""
        if not path:
            return
        with self._parent(path, make=True) as (parent, last):
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

    def attributes(self, path: bytes, mode: int, mtime_ns: int | None) -> None:
        """Set a folder's mode, and its time unless None, once everything in
        it is written."""
        if not path:
            os.fchmod(self._descriptor, mode & 0o7777)
            if mtime_ns is not None:
                os.utime(self._descriptor, ns=(mtime_ns, mtime_ns))
            return
        with self._parent(path) as (parent, last):
            descriptor = os.open(last, _FOLDER, dir_fd=parent)
            try:
                os.fchmod(descriptor, mode & 0o7777)
                if mtime_ns is not None:
                    os.utime(descriptor, ns=(mtime_ns, mtime_ns))
            finally:
                os.close(descriptor)

    def file_attributes(self, path: bytes, mode: int, mtime_ns: int | None) -> None:
        """Set the mode, and the time unless None, of a file whose content is
        right already."""
        with self._parent(path) as (parent, last):
            descriptor = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
            try:
                os.fchmod(descriptor, mode & 0o7777)
                if mtime_ns is not None:
                    os.utime(descriptor, ns=(mtime_ns, mtime_ns))
            finally:
                os.close(descriptor)

    def remove(self, path: bytes, expected: Found | None) -> None:
        """Take a file, link or empty folder away, if it is what we think.

        :raises peerstore.errors.StorageError: when it is something else, or a
            folder with something in it.
        """
        if look_closely(self.root, path) is None:
            return
        with self._parent(path) as (parent, last):
            self._remove(parent, last, path, expected)

    def rename(self, old: bytes, new: bytes, expected: Found | None = None) -> None:
        """Move a path within the folder; nothing may be at the new one.

        :param expected: what is to be moved; anything else stays, or goes back.
        :raises peerstore.errors.StorageError: when that is not so.
        """
        with self._parent(old) as (before, name), self._parent(new) as (after, last):
            try:
                rename_new(name, last, before, after)
            except FileExistsError as error:
                raise StorageError(f"{show(new)} is there already.") from error
            if expected is not None and not _is(last, after, expected):
                rename_new(last, name, after, before)
                raise StorageError(f"{show(old)} changed meanwhile; it is looked at again.")

    # -- inside ----------------------------------------------------------------

    @contextlib.contextmanager
    def _parent(self, path: bytes, make: bool = False) -> Iterator[tuple[int, bytes]]:
        """(directory handle, last component); *make* folders on the way."""
        parts = check_path(path)
        held = os.dup(self._descriptor)
        try:
            for part in parts[:-1]:
                if make:
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

    def _hidden_name(self, prefix: bytes) -> bytes:
        return self._hidden + b"/%b%d-%d" % (prefix, os.getpid(), next(self._numbers))

    def _clear_leftovers(self) -> None:
        """Unfinished files of an earlier run go; what it had set aside and not
        yet judged stays for a while."""
        place = os.path.join(self.root, self._hidden)
        for left in os.listdir(place):
            status = os.lstat(os.path.join(place, left))
            if not left.startswith(_ASIDE) or status.st_ctime < time.time() - KEEP_ASIDE:
                os.unlink(self._hidden + b"/" + left, dir_fd=self._descriptor)

    def _put(self, name: bytes, path: bytes, expected: Found | None, force: bool) -> Found:
        """Move a hidden file to its place; what it then is."""
        status = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        placed = found_as(path, status)
        assert placed is not None
        with self._parent(path, make=True) as (parent, last):
            there = self._there(path)
            if there is not None and not force and (expected is None or not _same(there, expected)):
                raise StorageError(f"{show(path)} is there already, and different.", "Use --force to replace it.")
            if there is not None and there.kind == NodeKind.FOLDER:
                self._remove(parent, last, path, there)
                there = None
            if force and there is not None:
                os.rename(name, last, src_dir_fd=self._descriptor, dst_dir_fd=parent)
            elif there is None:
                try:
                    rename_new(name, last, self._descriptor, parent)
                except FileExistsError as error:
                    raise StorageError(f"{show(path)} is there by now; it is looked at again.") from error
            else:
                self._exchange(name, parent, last, path, there)
        return placed

    def _exchange(self, name: bytes, parent: int, last: bytes, path: bytes, expected: Found) -> None:
        """Put a hidden file in place of what is expected there, or not at all."""
        aside = self._hidden_name(_ASIDE)
        os.rename(name, aside, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        try:
            if not exchange(aside, last, self._descriptor, parent):
                os.rename(aside, last, src_dir_fd=self._descriptor, dst_dir_fd=parent)
                return
            if not _is(aside, self._descriptor, expected):
                exchange(aside, last, self._descriptor, parent)
                raise StorageError(f"{show(path)} changed meanwhile; it is looked at again.")
        except BaseException:
            # Back to the name under which the caller discards it.
            os.rename(aside, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
            raise
        os.unlink(aside, dir_fd=self._descriptor)

    def _remove(self, parent: int, last: bytes, path: bytes, expected: Found | None) -> None:
        if expected is None or expected.kind == NodeKind.FOLDER:
            try:
                os.rmdir(last, dir_fd=parent)
                return
            except NotADirectoryError:
                pass
            except FileNotFoundError:
                return
            except OSError as error:
                raise StorageError(f"{show(path)}: a folder that is not empty is in the way.") from error
        # A file or a link is judged where nobody can change it any more.
        aside = self._hidden_name(_ASIDE)
        rename_new(last, aside, parent, self._descriptor)
        if expected is not None and not _is(aside, self._descriptor, expected):
            rename_new(aside, last, self._descriptor, parent)
            raise StorageError(f"{show(path)} has changed meanwhile, and is left alone.")
        os.unlink(aside, dir_fd=self._descriptor)

    def _there(self, path: bytes) -> Found | None:
        try:
            return look_closely(self.root, path)
        except Unread as error:
            raise StorageError(f"{error.what}", "Move it away.") from error


def _is(name: bytes, folder: int, expected: Found) -> bool:
    """Whether a name holds what is expected."""
    there = found_as(expected.path, os.stat(name, dir_fd=folder, follow_symlinks=False))
    return there is not None and _same(there, expected)


def _same(a: Found, b: Found) -> bool:
    if a.kind == NodeKind.FOLDER == b.kind:
        # Its time changes with what is in it.
        return a.inode == b.inode
    return (a.kind, a.size, a.mtime_ns, a.inode) == (b.kind, b.size, b.mtime_ns, b.inode)
