"""Reading a local folder: what is there, and what of it is not kept."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from peerstore.errors import StorageError, UsageError
from peerstore.files.manifest import NodeKind
from peerstore.files.safepath import RESERVED, is_safe

__all__ = [
    "Found",
    "Unread",
    "excluded",
    "folder_of",
    "found_as",
    "look",
    "look_closely",
    "open_file",
    "show",
    "walk",
]

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
    """A path for a person: bytes that are no text are shown as \\xNN."""
    return path.decode("utf-8", "backslashreplace") or "."


def excluded(path: bytes, patterns: Sequence[bytes]) -> bool:
    """Whether a pattern matches the whole path or its last component."""
    name = path.rsplit(b"/", 1)[-1]
    return any(fnmatch.fnmatchcase(path, p) or fnmatch.fnmatchcase(name, p.rstrip(b"/")) for p in patterns)


class Unread(StorageError):
    """Something is there, and it cannot be judged: no kind that is kept, or
    not to be read.  It is never taken for absent."""


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


def walk(root: bytes, patterns: Sequence[bytes], note: Callable[[str], None]) -> Iterator[Found]:
    """Everything below *root* in a stable order, folders before what is in
    them, the root itself first.  Blocks; runs in a thread.

    :param note: told one line for each thing that is not kept, or not whole.
    :raises peerstore.errors.UsageError: when *root* is no readable folder.
    """
    try:
        status = os.stat(root)
        os.listdir(root)
    except OSError as error:
        raise UsageError(f"{show(root)}: {error.strerror}.", "Name a folder that you can read.") from error
    if not stat.S_ISDIR(status.st_mode):
        raise UsageError(
            f"{show(root)} is no folder.", "Name a folder; for one file use: peerstore put FILE --as NAME/path"
        )
    top = found_as(b"", status)
    assert top is not None
    yield top
    yield from _below(root, b"", patterns, note)


def _below(root: bytes, folder: bytes, patterns: Sequence[bytes], note: Callable[[str], None]) -> Iterator[Found]:
    try:
        with os.scandir(os.path.join(root, folder)) as listing:
            names = sorted(entry.name for entry in listing)
    except OSError as error:
        note(f"{show(folder)}: not read ({error.strerror}); nothing in it is kept")
        return
    for name in names:
        path = folder + b"/" + name if folder else name
        if name.startswith(RESERVED) or excluded(path, patterns):
            continue
        if not is_safe(path):
            note(f"{show(path)}: the name is too long, or the path too deep; not kept")
            continue
        try:
            status = os.lstat(os.path.join(root, path))
        except FileNotFoundError:
            continue
        except OSError as error:
            note(f"{show(path)}: not read ({error.strerror})")
            continue
        found = found_as(path, status)
        if found is None:
            note(f"{show(path)}: {_what(status)}; not kept")
            continue
        if found.kind == NodeKind.FILE and status.st_nlink > 1:
            note(f"{show(path)}: a hard link; kept as a file of its own")
        if _has_xattrs(os.path.join(root, path)):
            note(f"{show(path)}: its extended attributes are not kept")
        yield found
        if found.kind == NodeKind.FOLDER:
            yield from _below(root, path, patterns, note)


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
    return any(not name.startswith(("security.", "system.")) for name in names)
