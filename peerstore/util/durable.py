"""Files that are on the disk when we say so.

A rename is durable only once the *directory* has been synced, and the file's
bytes only if they were synced before the rename; in any other order a power
cut leaves an empty or half file under the final name.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from peerstore.errors import DiskFull, ReadOnly, StorageError

__all__ = ["disk_error", "make_directory", "sync_directory", "write_durably"]


def sync_directory(path: Path | bytes | str) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path, mode: int = 0o700) -> None:
    """Make a folder and those above it, so that a power cut leaves them there.

    One that is there already is left as it is.

    :raises peerstore.errors.StorageError: with the disk's reason in words.
    """
    missing = []
    place = path.absolute()
    try:
        while not place.exists():
            missing.append(place)
            place = place.parent
        for folder in reversed(missing):
            folder.mkdir(mode=mode, exist_ok=True)
            sync_directory(folder.parent)
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    except OSError as error:
        raise disk_error(error, path) from error


def write_durably(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace *path* with *data*, whole or not at all, even at a power cut.

    :raises peerstore.errors.StorageError: with the disk's reason in words.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        # What a crash left there has a mode of its own, or is a link by now.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
        sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise disk_error(error, path) from error


def disk_error(error: OSError, path: Path | str) -> StorageError:
    """An operating system's error as one of ours, naming the path."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"No room left for {path}.", "Free some space there, then try again; nothing was lost.")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return ReadOnly(f"{path} cannot be written ({os.strerror(error.errno)}).", "Check its owner and mount options.")
    return StorageError(f"{path}: {error.strerror or error}.", "Check the disk, then try again.")
