"""Larger chunks, a file each.

::

    chunks/ab/ab12…ef.<owner>    the chunk whose hash is ab12…ef
    incoming/                    written here first: fsync, rename, fsync of the folder
    quarantine/                  whose bytes were not what their name says

A file gets its final name only when all of its bytes are on the disk, and the
database tells of it only after that; so no half file is ever served, and a
file without a row is a put that was never acknowledged.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from pathlib import Path

from peerstore.errors import CorruptData
from peerstore.util.durable import disk_error, sync_directory

__all__ = ["ChunkFiles"]


class ChunkFiles:
    """Files of one node's data folder.  Everything here blocks.

    :param folder: the node's data folder.
    """

    def __init__(self, folder: Path) -> None:
        self._chunks = folder / "chunks"
        self._incoming = folder / "incoming"
        self._quarantine = folder / "quarantine"
        self._numbers = itertools.count()

    def open(self) -> None:
        """Make the folders, and clear what a crash left half written."""
        try:
            for path in (self._chunks, self._incoming, self._quarantine):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for prefix in range(256):
                (self._chunks / f"{prefix:02x}").mkdir(mode=0o700, exist_ok=True)
            for left in self._incoming.iterdir():
                left.unlink()
            sync_directory(self._chunks)
        except OSError as error:
            raise disk_error(error, self._chunks) from error

    def path(self, digest: bytes, owner: bytes) -> Path:
        """Where a chunk lies."""
        name = digest.hex()
        return self._chunks / name[:2] / f"{name}.{owner.hex()}"

    def write(self, digest: bytes, owner: bytes, data: bytes) -> Path:
        """Put one chunk under its final name; its folder is still to be
        synced, which the caller does once for many.

        :return: that folder.
        :raises peerstore.errors.StorageError: and nothing is left behind.
        """
        temporary = self._incoming / f"{next(self._numbers)}"
        final = self.path(digest, owner)
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            temporary.rename(final)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise disk_error(error, final) from error
        return final.parent

    def read(self, digest: bytes, owner: bytes) -> bytes:
        """A chunk's bytes, checked against its hash.

        :raises peerstore.errors.CorruptData: when the file is missing or its
            bytes are others; then it is moved aside and never served.
        """
        path = self.path(digest, owner)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise CorruptData(f"The file of chunk {digest.hex()[:8]} is missing.") from error
        except OSError as error:
            raise disk_error(error, path) from error
        if hashlib.sha256(data).digest() != digest:
            try:
                path.rename(self._quarantine / path.name)
            except OSError as error:
                raise disk_error(error, path) from error
            raise CorruptData(f"The file of chunk {digest.hex()[:8]} had rotted and was moved aside.")
        return data

    def remove(self, digest: bytes, owner: bytes) -> None:
        """Forget a chunk's file; one that is not there is no error."""
        self.path(digest, owner).unlink(missing_ok=True)
