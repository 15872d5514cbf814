"""Larger chunks, a file each.

::

    chunks/ab/ab12…ef.<owner>    the chunk whose hash is ab12…ef
    incoming/                    written here first: fsync, rename, fsync of the folder
    quarantine/                  whose bytes were not what their name says (``quarantine``)

A file gets its final name only when all of its bytes are on the disk, and the
database tells of it only after that; so no half file is ever served, and a
file without a row is a put that was never acknowledged.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from peerstore.errors import CorruptData
from peerstore.storage.quarantine import Quarantine
from peerstore.util.durable import disk_error, make_directory, sync_directory

__all__ = ["ChunkFiles", "RESERVE", "room_of"]

#: Bytes that chunks leave free, at most; of a small file system a twentieth.
#: A node that cannot note who votes, or that it starts, is of no use to anybody.
RESERVE = 64 * 1024 * 1024
SMALLEST_PART = 20


def room_of(folder: Path) -> tuple[int, int]:
    """(bytes that are free for us, bytes of the whole file system).

    :raises OSError: when the system does not say.
    """
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


class ChunkFiles:
    """Files of one node's data folder.  Everything here blocks.

    :param folder: the node's data folder.
    :param room: tells how much room there is; see ``room_of``.
    """

    def __init__(self, folder: Path, room: Callable[[Path], tuple[int, int]] = room_of) -> None:
        self._folder = folder
        self._room = room
        self._chunks = folder / "chunks"
        self._incoming = folder / "incoming"
        self.quarantine = Quarantine(folder)
        self._numbers = itertools.count()

    def open(self) -> None:
        """Make the folders, and clear what a crash left half written.

        :raises peerstore.errors.StorageError: with the reason in words.
        """
        for path in (self._chunks, self._incoming):
            make_directory(path)
        self.quarantine.open()
        try:
            for prefix in range(256):
                (self._chunks / f"{prefix:02x}").mkdir(mode=0o700, exist_ok=True)
            sync_directory(self._chunks)
            for left in self._incoming.iterdir():
                left.unlink()
        except OSError as error:
            raise disk_error(error, self._chunks) from error

    def path(self, digest: bytes, owner: bytes) -> Path:
        """Where a chunk lies."""
        name = digest.hex()
        return self._chunks / name[:2] / f"{name}.{owner.hex()}"

    def stage(self, data: bytes) -> Path:
        """Bring bytes onto the disk, under a name that nobody asks for.

        :raises peerstore.errors.StorageError: and nothing is left behind;
            also when that would use up what is kept free for the database.
        """
        temporary = self._incoming / f"{next(self._numbers)}"
        try:
            free, whole = self._room(self._incoming)
            if free - len(data) < min(RESERVE, whole // SMALLEST_PART):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise disk_error(error, temporary) from error
        return temporary

    def place(self, staged: Path, digest: bytes, owner: bytes) -> Path:
        """Give a staged file its final name, or find that it has it already.

        :return: the folder that is still to be synced.
        :raises OSError: when it is neither here nor there.
        """
        final = self.path(digest, owner)
        try:
            staged.rename(final)
        except FileNotFoundError:
            if not final.exists():
                raise
        return final.parent

    def present(self, digest: bytes, owner: bytes, size: int) -> bool:
        """Whether there is a file of this size; says nothing of its bytes."""
        try:
            return self.path(digest, owner).stat().st_size == size
        except FileNotFoundError:
            return False

    def read(self, digest: bytes, owner: bytes) -> bytes:
        """A chunk's bytes, checked against its hash.

        :raises peerstore.errors.CorruptData: when the file is missing, cannot
            be read, or its bytes are others.
        """
        path = self.path(digest, owner)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise CorruptData(f"The file of chunk {digest.hex()[:8]} is missing.") from error
        except OSError as error:
            if error.errno == errno.EIO:
                raise CorruptData(f"The file of chunk {digest.hex()[:8]} cannot be read.") from error
            raise disk_error(error, path) from error
        if hashlib.sha256(data).digest() != digest:
            raise CorruptData(f"The file of chunk {digest.hex()[:8]} has rotted.")
        return data

    def condemn(self, digest: bytes, owner: bytes) -> None:
        """Move a chunk's file aside, where it is never served again.

        :raises OSError: when it could not be moved.
        """
        self.quarantine.take(self.path(digest, owner))

    def remove(self, digest: bytes, owner: bytes) -> None:
        """Forget a chunk's file; one that is not there is no error."""
        self.path(digest, owner).unlink(missing_ok=True)

    def names(self) -> Iterator[tuple[bytes, bytes]]:
        """(hash, owner) of every file there is, in no order; what has no such
        name is none of ours and left out."""
        for prefix in range(256):
            with os.scandir(self._chunks / f"{prefix:02x}") as entries:
                for entry in entries:
                    digest, _, owner = entry.name.partition(".")
                    try:
                        found = bytes.fromhex(digest), bytes.fromhex(owner)
                    except ValueError:
                        continue
                    if len(found[0]) == 32 and len(found[1]) == 20:
                        yield found
