"""Large files whose restore was cut short, and goes on where it stopped.

The unfinished file lies in the target's hidden folder under the id of the
version that it is to become, so that only a restore of the same version ever
takes it up.  Its bytes were written in order; what of it is on the disk is
believed only once the whole file has the right hash.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import os
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from peerstore.files.manifest import ChunkRef

__all__ = ["LARGE", "PARTIAL", "forget_partials", "open_partial", "take_up"]

#: Files of so many bytes are worth it.
LARGE = 64 * 1024 * 1024
#: How names of unfinished files begin.
PARTIAL = b"part-"
_PIECE = 1024 * 1024


def open_partial(hidden: int, version: bytes) -> tuple[bytes, int] | None:
    """(name, descriptor) of the unfinished file of a version, begun if there
    is none; None when another program is at work on it.

    :param hidden: handle of the target's hidden folder.
    :raises OSError: as the system says.
    """
    name = PARTIAL + version.hex().encode()
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=hidden)
    if not (_lock(descriptor) and _is_there(name, hidden, descriptor)):
        os.close(descriptor)
        return None
    return name, descriptor


def _is_there(name: bytes, hidden: int, descriptor: int) -> bool:
    """Whether the file has its name still: the one who had the lock may have
    just put it in its place, where it is not to be written to any more."""
    held = os.fstat(descriptor)
    try:
        there = os.stat(name, dir_fd=hidden, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)


def take_up(descriptor: int, chunks: Sequence[ChunkRef]) -> tuple[int, Any]:
    """How many of a file's chunks are there already, and the SHA-256 of them
    so far.  Bytes after them are cut off.  Blocks.

    :raises OSError: as the system says.
    """
    there = os.fstat(descriptor).st_size
    ends = list(itertools.accumulate(ref.length for ref in chunks))
    count = bisect_right(ends, there)
    size = ends[count - 1] if count else 0
    whole = hashlib.sha256()
    os.lseek(descriptor, 0, os.SEEK_SET)
    left = size
    while left:
        piece = os.read(descriptor, min(_PIECE, left))
        if not piece:
            break
        whole.update(piece)
        left -= len(piece)
    if left:
        # It got shorter while it was read.
        count, size, whole = 0, 0, hashlib.sha256()
    os.ftruncate(descriptor, size)
    os.lseek(descriptor, size, os.SEEK_SET)
    return count, whole


def forget_partials(hidden: int) -> None:
    """Take all unfinished files away that nobody is at work on."""
    for left in os.listdir(hidden):
        if not os.fsencode(left).startswith(PARTIAL):
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=hidden)
            try:
                if _lock(descriptor):
                    os.unlink(left, dir_fd=hidden)
            finally:
                os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # A file system without locks.
        return True
    return True
