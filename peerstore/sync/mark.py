"""The mark by which a synced folder is known to be the one we mean.

An unmounted disk leaves an empty folder behind, and a restored backup one
that is a month old: taken for the folder itself, all that is missing in them
would be deleted everywhere.  So the folder holds a small file with a random
number that only this device knows, and the number of the file system that it
was made on::

    peerstore mark 1\\n
    <32 hex digits of the number>\\n
    <file system, hex>\\n
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from peerstore.client.source import show
from peerstore.errors import UsageError
from peerstore.files.safepath import RESERVED
from peerstore.util.durable import disk_error

__all__ = ["MARK", "MARK_BYTES", "Mark", "RootLost", "mark_name", "pack_mark", "read_mark", "unpack_mark", "write_mark"]

MARK = RESERVED + b"mark"
#: Bytes of the random number.
MARK_BYTES = 16
_FORM = re.compile(rb"peerstore mark 1\n([0-9a-f]{32})\n([0-9a-f]{1,32})\n")
_SAFE = (
    "If its disk is not mounted, mount it. If this folder is to be kept equal from now on, start with a new --home: "
    "then nothing in it is taken for deleted."
)


class RootLost(UsageError):
    """The folder is not there, or not the one that was synced."""


class Mark(NamedTuple):
    """A folder's number, and that of its file system."""

    number: bytes
    file_system: int


def mark_name(folder: str) -> str:
    """Under which name a device keeps the number of the folder that is called
    *folder* in the ring."""
    return f"mark:{folder}"


def pack_mark(mark: Mark) -> bytes:
    """A mark as it is kept."""
    return b"peerstore mark 1\n%b\n%x\n" % (mark.number.hex().encode(), mark.file_system)


def unpack_mark(data: bytes) -> Mark | None:
    """The reverse; None when it is none."""
    found = _FORM.fullmatch(data)
    return Mark(bytes.fromhex(found[1].decode()), int(found[2], 16)) if found else None


def write_mark(root: bytes, number: bytes) -> None:
    """Mark a folder, durably; an older mark is replaced.

    :raises peerstore.errors.StorageError: when it cannot be written.
    """
    place, temporary = os.path.join(root, MARK), os.path.join(root, MARK + b".new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, pack_mark(Mark(number, os.statvfs(root).f_fsid)))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, place)
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise disk_error(error, show(root)) from error


def read_mark(root: bytes, number: bytes) -> os.stat_result:
    """Make sure that a folder is the one that was marked with *number*.

    :return: the folder's status.
    :raises RootLost: saying what is wrong, and the safe next step.
    """
    try:
        status = os.stat(root)
        descriptor = os.open(os.path.join(root, MARK), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        what = "is not there" if not os.path.isdir(root) else "lacks the mark of the folder that was synced"
        raise RootLost(f"{show(root)} {what}; nothing is done.", _SAFE) from error
    try:
        mark = unpack_mark(os.read(descriptor, 256))
    except OSError as error:
        raise RootLost(
            f"The mark in {show(root)} cannot be read ({error.strerror}); nothing is done.", _SAFE
        ) from error
    finally:
        os.close(descriptor)
    if mark is None or mark.number != number:
        raise RootLost(f"{show(root)} has the mark of another folder; nothing is done.", _SAFE)
    here = os.statvfs(root).f_fsid
    if mark.file_system and here and mark.file_system != here:
        raise RootLost(
            f"{show(root)} is on another file system than the folder that was synced; nothing is done.", _SAFE
        )
    return status
