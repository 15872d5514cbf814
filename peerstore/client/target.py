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
import fcntl
import hashlib
import itertools
import os
import stat
import time
from collections.abc import Iterator

from peerstore.client.partial import PARTIAL, forget_partials, open_partial
from peerstore.client.source import (
    HIDDEN,
    ChangedMeanwhile,
    Found,
    Unread,
    folder_of,
    found_as,
    look,
    look_closely,
    open_file,
    show,
)
from peerstore.errors import ReadOnly, StorageError, UsageError
from peerstore.files.manifest import NodeKind
from peerstore.files.safepath import check_path
from peerstore.util.durable import disk_error
from peerstore.util.renaming import exchange, rename_new

__all__ = ["Target", "in_the_way", "write_with_holes"]

#: Things set aside that a crash left behind are kept for so long (s).
KEEP_ASIDE = 30 * 86400
_ASIDE = b"old-"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Runs of zeros of this length become holes.
_BLOCK = 64 * 1024
_ZEROS = bytes(_BLOCK)


def write_with_holes(descriptor: int, data: bytes | memoryview) -> int:
    """Write *data* at the end of a fresh file, leaving holes for blocks of
    zeros; the caller sets the length at last.  How many bytes it took."""
    view = memoryview(data)
    for at in range(0, len(view), _BLOCK):
        piece = view[at : at + _BLOCK]
        if len(piece) == _BLOCK and piece == _ZEROS:
            os.lseek(descriptor, _BLOCK, os.SEEK_CUR)
            continue
        while piece:
            piece = piece[os.write(descriptor, piece) :]
    return len(view)


class Target:
    """A folder that is written into.  Everything here blocks, and may be
    called from several threads.

    :param root: raw bytes; made when missing.
    :param hidden: where unfinished files are, in *root*; whoever else writes
        into the same folder has another.
    :param loosen: make folders that are read-only writable while they are
        filled; whoever does that gives each its mode at last.
    """

    def __init__(self, root: bytes, hidden: bytes = HIDDEN, loosen: bool = False) -> None:
        self.root = root
        self._may_loosen = loosen
        self._hidden_name = hidden
        self._numbers = itertools.count(1)
        self._descriptor = -1
        self._hidden = -1
        # Folders that were made writable for the time being: path -> mode.
        self._loosened: dict[bytes, int] = {}

    def open(self, only_look: bool = False) -> None:
        """Make and hold the folder, or with *only_look* one that is there,
        which is left just as it is.

        :raises peerstore.errors.PeerStoreError: when it cannot be used.
        """
        try:
            if not only_look:
                os.makedirs(self.root, exist_ok=True)
            self._descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if only_look:
                return
            self._loosen(b"", self._descriptor)
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._hidden_name, 0o700, dir_fd=self._descriptor)
            self._hidden = os.open(self._hidden_name, _FOLDER, dir_fd=self._descriptor)
            if self._is_alone():
                self._clear_leftovers()
            with contextlib.suppress(OSError):
                fcntl.flock(self._hidden, fcntl.LOCK_SH)
        except (NotADirectoryError, FileExistsError) as error:
            what = show(self.root if self._descriptor < 0 else os.path.join(self.root, self._hidden_name))
            self.close()
            raise UsageError(f"{what} is no folder that can be used.", "Name another with --to.") from error
        except OSError as error:
            self.close()
            raise disk_error(error, show(self.root)) from error

    def close(self, keep_hidden: bool = False) -> None:
        """Let go, and take the hidden folder away when it is empty."""
        if self._hidden >= 0:
            if not keep_hidden and self._is_alone():
                with contextlib.suppress(OSError):
                    os.rmdir(self._hidden_name, dir_fd=self._descriptor)
            os.close(self._hidden)
            self._hidden = -1
        # Not before: nothing can be taken out of a folder that is read-only.
        for path in sorted(self._loosened, reverse=True):
            with contextlib.suppress(OSError, StorageError):
                self._tighten(path)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def close_as(self, mode: int, mtime_ns: int) -> None:
        """Close, and give the folder itself its mode and time at last: the
        hidden folder that goes away changes the time.

        :raises OSError: when it does not take them.
        """
        held = os.dup(self._descriptor)
        try:
            self._loosened.pop(b"", None)
            self.close()
            os.fchmod(held, mode & 0o7777)
            os.utime(held, ns=(mtime_ns, mtime_ns))
        finally:
            os.close(held)

    def is_whole(self) -> bool:
        """Whether the hidden folder is still where it was made."""
        try:
            there = os.stat(self._hidden_name, dir_fd=self._descriptor, follow_symlinks=False)
        except OSError:
            return False
        held = os.fstat(self._hidden)
        return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)

    # -- looking ---------------------------------------------------------------

    def look(self, path: bytes) -> Found | None:
        """What lies at a path now."""
        return look(self.root, path)

    def digest(self, path: bytes, kind: NodeKind) -> bytes:
        """SHA-256 of a file's content or of a link's text.

        :raises OSError: when it cannot be read, or is something else by now.
        """
        if kind == NodeKind.SYMLINK:
            with folder_of(self.root, path) as (folder, last):
                return hashlib.sha256(os.readlink(last, dir_fd=folder)).digest()
        with os.fdopen(open_file(self.root, path), "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    # -- writing ---------------------------------------------------------------

    def temporary(self) -> tuple[bytes, int]:
        """(name, descriptor) of a new hidden file."""
        name = self._new_name(b"")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return name, os.open(name, flags, 0o600, dir_fd=self._hidden)

    def partial(self, version: bytes) -> tuple[bytes, int] | None:
        """The same for a large file that may have been begun before; None
        when another program is at work on it."""
        return open_partial(self._hidden, version)

    def forget_partials(self) -> None:
        """No file that was begun is waited for any more."""
        forget_partials(self._hidden)

    def discard(self, name: bytes) -> None:
        """Take an unfinished file away."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._hidden)

    def place(self, name: bytes, path: bytes, mode: int, mtime_ns: int, expected: Found | None, force: bool) -> Found:
        """Give a finished hidden file its name.

        :param expected: what is to be replaced; anything else there by now is
            left alone, unless *force*.
        :return: what was placed, as it was before anybody else could touch it.
        :raises peerstore.errors.StorageError: when something else is there.
        """
        os.chmod(name, mode & 0o7777, dir_fd=self._hidden)
        os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=self._hidden)
        return self._put(name, path, expected, force)

    def symlink(self, path: bytes, text: bytes, mtime_ns: int, expected: Found | None, force: bool) -> Found:
        """Make a symbolic link, which is never followed; like :meth:`place`."""
        name = self._new_name(b"")
        os.symlink(text, name, dir_fd=self._hidden)
        try:
            os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=self._hidden, follow_symlinks=False)
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
                    self._loosen(path, parent, last)
                    return
                if not force or found_as(path, there) is None:
                    raise StorageError(
                        f"{show(path)}: something that is no folder is in the way.", "Move it away, or use --force."
                    ) from None
                os.unlink(last, dir_fd=parent)
                os.mkdir(last, 0o700, dir_fd=parent)

    def attributes(self, path: bytes, mode: int, mtime_ns: int | None) -> None:
        """Set a folder's mode, and its time unless None, once everything in
        it is written."""
        self._loosened.pop(path, None)
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
                raise ChangedMeanwhile(f"{show(old)} changed meanwhile; it is looked at again.")

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

    def _new_name(self, prefix: bytes) -> bytes:
        return b"%b%d-%d" % (prefix, os.getpid(), next(self._numbers))

    def _is_alone(self) -> bool:
        """Whether no other program writes here; our share of the lock is given up."""
        try:
            fcntl.flock(self._hidden, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            # A file system without locks.
            return True
        return True

    def _loosen(self, path: bytes, place: int, last: bytes | None = None) -> None:
        """Let the owner of a folder write into it for now."""
        if not self._may_loosen:
            return
        status = os.fstat(place) if last is None else os.stat(last, dir_fd=place, follow_symlinks=False)
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o700 == 0o700 or status.st_uid != os.geteuid():
            return
        if last is None:
            os.fchmod(place, mode | 0o700)
        else:
            os.chmod(last, mode | 0o700, dir_fd=place)
        self._loosened[path] = mode

    def _tighten(self, path: bytes) -> None:
        mode = self._loosened.pop(path)
        if not path:
            os.fchmod(self._descriptor, mode)
            return
        with self._parent(path) as (parent, last):
            os.chmod(last, mode, dir_fd=parent)

    def _clear_leftovers(self) -> None:
        """Unfinished files of an earlier run go; large ones, and what it had
        set aside and not yet judged, stay for a while."""
        for left in os.listdir(self._hidden):
            status = os.stat(left, dir_fd=self._hidden, follow_symlinks=False)
            if not os.fsencode(left).startswith((_ASIDE, PARTIAL)) or status.st_ctime < time.time() - KEEP_ASIDE:
                os.unlink(left, dir_fd=self._hidden)

    def _put(self, name: bytes, path: bytes, expected: Found | None, force: bool) -> Found:
        """Move a hidden file to its place; what it then is."""
        status = os.stat(name, dir_fd=self._hidden, follow_symlinks=False)
        placed = found_as(path, status)
        assert placed is not None
        with self._parent(path, make=True) as (parent, last):
            there = self._there(path)
            if there is not None and not force and (expected is None or not _same(there, expected)):
                raise in_the_way(path)
            if there is not None and there.kind == NodeKind.FOLDER:
                self._remove(parent, last, path, there)
                there = None
            if force and there is not None:
                os.rename(name, last, src_dir_fd=self._hidden, dst_dir_fd=parent)
            elif there is None:
                try:
                    rename_new(name, last, self._hidden, parent)
                except FileExistsError as error:
                    raise ChangedMeanwhile(f"{show(path)} is there by now; it is looked at again.") from error
            else:
                self._exchange(name, parent, last, path, there)
        return placed

    def _exchange(self, name: bytes, parent: int, last: bytes, path: bytes, expected: Found) -> None:
        """Put a hidden file in place of what is expected there, or not at all."""
        aside = self._new_name(_ASIDE)
        os.rename(name, aside, src_dir_fd=self._hidden, dst_dir_fd=self._hidden)
        try:
            if not exchange(aside, last, self._hidden, parent):
                os.rename(aside, last, src_dir_fd=self._hidden, dst_dir_fd=parent)
                return
            if not _is(aside, self._hidden, expected):
                exchange(aside, last, self._hidden, parent)
                raise ChangedMeanwhile(f"{show(path)} changed meanwhile; it is looked at again.")
        except BaseException:
            # Back to the name under which the caller discards it.
            os.rename(aside, name, src_dir_fd=self._hidden, dst_dir_fd=self._hidden)
            raise
        os.unlink(aside, dir_fd=self._hidden)

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
                raise StorageError(
                    f"{show(path)}: a folder that is not empty is in the way.", "Move it away, then run this again."
                ) from error
        # A file or a link is judged where nobody can change it any more.
        aside = self._new_name(_ASIDE)
        rename_new(last, aside, parent, self._hidden)
        if expected is not None and not _is(aside, self._hidden, expected):
            rename_new(aside, last, self._hidden, parent)
            raise ChangedMeanwhile(f"{show(path)} has changed meanwhile, and is left alone.")
        os.unlink(aside, dir_fd=self._hidden)

    def _there(self, path: bytes) -> Found | None:
        try:
            return look_closely(self.root, path)
        except Unread as error:
            raise StorageError(
                f"{show(path)}: what is there is no file, folder or link, or cannot be looked at, and is left alone.",
                "Move it away, or choose another place with --to.",
            ) from error


def in_the_way(path: bytes) -> StorageError:
    """The error for a path at which something different is."""
    return StorageError(
        f"{show(path)}: it is there already, and different.", "Use --force to replace it, or --to for another place."
    )


def _is(name: bytes, folder: int, expected: Found) -> bool:
    """Whether a name holds what is expected."""
    there = found_as(expected.path, os.stat(name, dir_fd=folder, follow_symlinks=False))
    return there is not None and _same(there, expected)


def _same(a: Found, b: Found) -> bool:
    if a.kind == NodeKind.FOLDER == b.kind:
        # Its time changes with what is in it.
        return a.inode == b.inode
    return (a.kind, a.size, a.mtime_ns, a.inode) == (b.kind, b.size, b.mtime_ns, b.inode)
