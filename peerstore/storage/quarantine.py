"""Rotten bytes, kept aside for a person to look at.

::

    quarantine/ab12…ef.<owner>          a chunk's file
    quarantine/head-ab12…ef.<owner>     what the rows of an item held: statement, then data

Nothing here is ever served or read again by the node.  The folder is bounded;
what was moved here first goes first.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from twisted.logger import Logger

from peerstore.util.durable import disk_error, make_directory

__all__ = ["MOST_BYTES", "MOST_FILES", "Quarantine", "Quarantined", "list_quarantine"]

MOST_BYTES = 256 * 1024 * 1024
MOST_FILES = 1000
FOLDER = "quarantine"


class Quarantined(NamedTuple):
    """One file there: its name, bytes, and when it came (ns, time of day)."""

    name: str
    size: int
    since: int


class Quarantine:
    """The folder of one node.  Everything here blocks.

    A disk that takes no more, or nothing at all, is no reason to serve or
    keep what is rotten: then the bytes are not kept for looking at.

    :param folder: the node's data folder.
    """

    _log = Logger()

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES, most_files: int = MOST_FILES) -> None:
        self._folder = folder / FOLDER
        self._most_bytes = most_bytes
        self._most_files = most_files

    def open(self) -> None:
        """Make the folder.

        :raises peerstore.errors.StorageError: with the reason in words.
        """
        make_directory(self._folder)

    def take(self, path: Path) -> None:
        """Move a file here; one that is not there is no error.

        :raises OSError: when it could not be moved, and is where it was.
        """
        try:
            path.rename(self._folder / path.name)
        except FileNotFoundError:
            return
        self._trim()

    def note(self, name: str, data: bytes) -> None:
        """Keep these bytes, if the disk lets us."""
        try:
            (self._folder / name).write_bytes(data)
            self._trim()
        except OSError as error:
            self._log.warn("rotten bytes could not be kept aside: {why}", why=str(disk_error(error, self._folder)))

    def _trim(self) -> None:
        """Remove the oldest until it fits."""
        kept = sorted(_files(self._folder), key=lambda one: one.since)
        size = sum(one.size for one in kept)
        while kept and (size > self._most_bytes or len(kept) > self._most_files):
            oldest = kept.pop(0)
            size -= oldest.size
            (self._folder / oldest.name).unlink(missing_ok=True)


def list_quarantine(folder: Path) -> list[Quarantined]:
    """What the quarantine of a data folder holds, by name.

    :raises peerstore.errors.StorageError: with the disk's reason in words.
    """
    try:
        return sorted(_files(folder / FOLDER))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise disk_error(error, folder / FOLDER) from error


def _files(folder: Path) -> list[Quarantined]:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            # A rename does not change when a file was written.
            status = entry.stat(follow_symlinks=False)
            found.append(Quarantined(entry.name, status.st_size, status.st_ctime_ns))
    return found
