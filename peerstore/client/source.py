"""Reading a local folder: what is there, and what of it is not kept."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import stat
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from peerstore.errors import StorageError, UsageError
from peerstore.files.manifest import NodeKind
from peerstore.files.safepath import RESERVED, is_safe

__all__ = [
    "ChangedMeanwhile",
    "Found",
    "HIDDEN",
    "Unread",
    "Walk",
    "excluded",
    "folder_of",
    "found_as",
    "look",
    "look_closely",
    "open_file",
    "show",
]

#: Where a restore keeps unfinished files, on the same file system as the rest.
HIDDEN = RESERVED + b"incoming"
#: What we put into folders, here and in sync.
_OURS = frozenset({HIDDEN, RESERVED + b"mark", RESERVED + b"sync"})
#: Extended attributes that somebody gave a file; others the system hangs on all.
_GIVEN = ("user.", "trusted.", "system.posix_acl_", "security.capability")

_SPECIAL = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISCHR, "a character device"),
)


class Found(NamedTuple):
    """One path as it lies on the disk now.

    *path* is relative, raw bytes, "/" between components; the folder itself
    is the empty path.  Times in ns; *mode* is the twelve permission bits.
    """

    path: bytes
    kind: NodeKind
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    mode: int


def show(path: bytes) -> str:
    """A path for a person, on one line: bytes that are no text are shown as
    \\xNN, and so are characters that would move a terminal's cursor."""
    text = path.decode("utf-8", "backslashreplace") or "."
    if text.isprintable():
        return text
    return "".join(char if _plain(char) else char.encode("unicode_escape").decode() for char in text)


def _plain(char: str) -> bool:
    return char.isprintable() or unicodedata.category(char) == "Zs"


def excluded(path: bytes, patterns: Sequence[bytes]) -> bool:
    """Whether a pattern matches the whole path or its last component."""
    name = path.rsplit(b"/", 1)[-1]
    return any(fnmatch.fnmatchcase(path, p) or fnmatch.fnmatchcase(name, p) for p in (q.rstrip(b"/") for q in patterns))


class Unread(StorageError):
    """Something is there, and it cannot be judged: no kind that is kept, or
    not to be read.  It is never taken for absent."""


class ChangedMeanwhile(StorageError):
    """Somebody was at a path between our look and our step; nothing was done."""


@contextlib.contextmanager
def folder_of(root: bytes, path: bytes) -> Iterator[tuple[int, bytes]]:
    """(handle of the folder that holds *path*, last component); below *root*
    no link is followed on the way.

    :raises OSError: as the system says, also for a link on the way.
    """
    parts = path.split(b"/")
    held = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            below = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=held)
            os.close(held)
            held = below
        yield held, parts[-1]
    finally:
        os.close(held)


def open_file(root: bytes, path: bytes) -> int:
    """A descriptor for reading a file below *root*; no link is followed.

    :raises OSError: as the system says.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    if not path:
        return os.open(root, flags)
    with folder_of(root, path) as (folder, last):
        return os.open(last, flags, dir_fd=folder)


def look(root: bytes, path: bytes) -> Found | None:
    """One path, or None when it is gone or of no kind that is kept."""
    try:
        return look_closely(root, path)
    except Unread:
        return None


def look_closely(root: bytes, path: bytes) -> Found | None:
    """One path, or None when it is gone: nothing, or a link or file where a
    folder on the way was.

    :raises Unread: when something is there that cannot be judged.
    """
    try:
        if not path:
            status = os.lstat(root)
        else:
            with folder_of(root, path) as (folder, last):
                status = os.stat(last, dir_fd=folder, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Unread(f"{show(path)}: not read ({error.strerror}).", "Check its permissions.") from error
    found = found_as(path, status)
    if found is None:
        raise Unread(f"{show(path)}: {_what(status)}; not kept.")
    return found


class Walk:
    """One look at everything below a folder.  Blocks; runs in a thread.

    Lines that are told are of the form ``PATH: what``.

    :param patterns: shell patterns of what is left out.
    :param note: told one line for each thing that is not kept, or not whole.
    :param failed: told one line for each thing that could not be read; the
        same as *note* if not given.
    :param skip: folders that are left out, wherever they are met.
    :raises peerstore.errors.UsageError: when *root* is no readable folder.
    """

    def __init__(
        self,
        root: bytes,
        patterns: Sequence[bytes],
        note: Callable[[str], None],
        failed: Callable[[str], None] | None = None,
        skip: Sequence[bytes] = (),
    ) -> None:
        self.root = root
        #: Paths that could not be looked at: nobody knows what is there.
        self.unread: list[bytes] = []
        self._patterns = patterns
        self._note = note
        self._say_failed = failed or note
        self._skip = skip

    def run(self) -> Iterator[Found]:
        """Everything in a stable order, folders before what is in them, the
        root itself first."""
        root = self.root
        try:
            status = os.stat(root)
            if not stat.S_ISDIR(status.st_mode):
                raise UsageError(
                    f"{show(root)} is no folder.",
                    "Name a folder; for one file use: peerstore put FILE --as NAME/path",
                )
            os.listdir(root)
        except OSError as error:
            raise UsageError(f"{show(root)}: {error.strerror}.", "Name a folder that you can read.") from error
        top = found_as(b"", status)
        assert top is not None
        # Looked up now: a home may have been made since the last walk.
        skipped = {(there.st_dev, there.st_ino) for there in map(_status, self._skip) if there is not None}
        yield top
        yield from self._below(b"", skipped)

    def knows(self, path: bytes) -> bool:
        """Whether the absence of *path* from what was found means anything."""
        parents = _with_parents(path)
        if any(excluded(parent, self._patterns) for parent in parents if parent):
            return False
        return not any(parent in self.unread for parent in parents)

    def _below(self, folder: bytes, skipped: set[tuple[int, int]]) -> Iterator[Found]:
        try:
            with os.scandir(os.path.join(self.root, folder)) as listing:
                names = sorted(entry.name for entry in listing)
        except OSError as error:
            self._failed(folder, error)
            return
        for name in names:
            path = folder + b"/" + name if folder else name
            if excluded(path, self._patterns) or name in _OURS:
                continue
            if not is_safe(path):
                why = "the name is one of our own" if name.startswith(RESERVED) else "the path is too long, or too deep"
                self._note(f"{show(path)}: {why}; not kept")
                continue
            try:
                status = os.lstat(os.path.join(self.root, path))
            except FileNotFoundError:
                continue
            except OSError as error:
                self._failed(path, error)
                continue
            if (status.st_dev, status.st_ino) in skipped:
                self._note(f"{show(path)}: PeerStore's own folder; not kept")
                continue
            found = self._judge(path, status)
            if found is None:
                continue
            yield found
            if found.kind == NodeKind.FOLDER:
                yield from self._below(path, skipped)

    def _judge(self, path: bytes, status: os.stat_result) -> Found | None:
        """What lies there if it is kept, and the lines on what is not."""
        found = found_as(path, status)
        if found is None:
            self._note(f"{show(path)}: {_what(status)}; not kept")
            return None
        if found.kind == NodeKind.FILE and status.st_nlink > 1:
            self._note(f"{show(path)}: a hard link; kept as a file of its own")
        if _has_xattrs(os.path.join(self.root, path)):
            self._note(f"{show(path)}: its extended attributes are not kept")
        return found

    def _failed(self, path: bytes, error: OSError) -> None:
        self.unread.append(path)
        self._say_failed(f"{show(path)}: not read ({error.strerror})")


def _status(path: bytes) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _with_parents(path: bytes) -> list[bytes]:
    """A relative path and all folders above it, the root (empty) last."""
    found = [path]
    while path:
        path = path.rpartition(b"/")[0]
        found.append(path)
    return found


def _what(status: os.stat_result) -> str:
    return next((words for test, words in _SPECIAL if test(status.st_mode)), "no file or folder")


def found_as(path: bytes, status: os.stat_result) -> Found | None:
    """What a status says of a path; None for a kind that is not kept."""
    if stat.S_ISREG(status.st_mode):
        kind = NodeKind.FILE
    elif stat.S_ISDIR(status.st_mode):
        kind = NodeKind.FOLDER
    elif stat.S_ISLNK(status.st_mode):
        kind = NodeKind.SYMLINK
    else:
        return None
    size = 0 if kind == NodeKind.FOLDER else status.st_size
    mode = stat.S_IMODE(status.st_mode) if kind != NodeKind.SYMLINK else 0o777
    return Found(path, kind, size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, mode)


def _has_xattrs(path: bytes) -> bool:
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return False
    return any(name.startswith(_GIVEN) for name in names)
