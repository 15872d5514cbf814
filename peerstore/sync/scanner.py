"""Looking at a synced folder: what is there, and what nobody could look at.

Everything goes by directory handle, and no link is followed: what is found is
below the root, whatever is renamed meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from peerstore.client.source import Found, Unread, folder_of, found_as, look_closely, show
from peerstore.files.manifest import NodeKind
from peerstore.files.safepath import RESERVED, is_safe

__all__ = ["Scan", "Scanner"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass
class Scan:
    """What was found at and below a path, and the paths where something is
    that is no file, folder or link, or that could not be read.  Of those, and
    of all that may be below them, nothing is known."""

    found: dict[bytes, Found] = field(default_factory=dict)
    unread: set[bytes] = field(default_factory=set)


class Scanner:
    """Looks at a folder, or at a path in it.  Blocks.

    :param root: raw bytes.
    :param skip: absolute paths that are never kept, like the client's own
        home and key; known by what they are, not by what they are called.
    """

    def __init__(self, root: bytes, skip: Collection[bytes] = ()) -> None:
        self._root = root
        self._skip = tuple(skip)

    def scan(self, path: bytes, note: Callable[[str], None]) -> Scan:
        """Everything at and below *path*; the empty path is the folder itself,
        which is not in the result.

        :param note: told one line for each thing that is not kept.
        :raises OSError: when the root itself cannot be read.
        """
        scan = Scan()
        if not path:
            self._scan_folder(os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), b"", scan, note)
            return scan
        try:
            found = look_closely(self._root, path)
        except Unread as error:
            note(error.what)
            scan.unread.add(path)
            return scan
        if found is None:
            return scan
        if (os.stat(self._root).st_dev, found.inode) in self._skipped():
            scan.unread.add(path)
            return scan
        scan.found[path] = found
        if found.kind != NodeKind.FOLDER:
            return scan
        try:
            with folder_of(self._root, path) as (parent, last):
                handle = os.open(last, _FOLDER, dir_fd=parent)
        except (FileNotFoundError, NotADirectoryError):
            # It went, or became something else; that has an event of its own.
            return scan
        except OSError as error:
            note(f"{show(path)}: not read ({error.strerror}); not kept")
            scan.unread.add(path)
            return scan
        self._scan_folder(handle, path, scan, note)
        return scan

    def _scan_folder(self, handle: int, path: bytes, scan: Scan, note: Callable[[str], None]) -> None:
        """Everything below an open folder, which is closed."""
        try:
            device = os.stat(self._root).st_dev
            walk = _Walk(self._skipped(), device, scan, note)
            if os.fstat(handle).st_dev == device:
                walk.below(handle, path)
            else:
                walk.leave_out(path, "another file system")
        finally:
            os.close(handle)

    def _skipped(self) -> frozenset[tuple[int, int]]:
        known = set()
        for place in self._skip:
            with contextlib.suppress(OSError):
                status = os.stat(place)
                known.add((status.st_dev, status.st_ino))
        return frozenset(known)


class _Walk:
    """One walk, on one file system."""

    def __init__(
        self, skipped: frozenset[tuple[int, int]], device: int, scan: Scan, note: Callable[[str], None]
    ) -> None:
        self._skipped = skipped
        self._device = device
        self._scan = scan
        self._note = note

    def leave_out(self, path: bytes, why: str) -> None:
        """Something is there, and nothing more is known."""
        self._note(f"{show(path)}: {why}; not kept")
        self._scan.unread.add(path)

    def below(self, handle: int, folder: bytes) -> None:
        """Everything in an open folder, and below."""
        for name, status in self._listing(handle, folder):
            path = folder + b"/" + name if folder else name
            found = self._judge(path, status)
            if found is None:
                continue
            if found.kind != NodeKind.FOLDER:
                self._scan.found[path] = found
                continue
            try:
                inner = os.open(name, _FOLDER, dir_fd=handle)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                self.leave_out(path, f"not read ({error.strerror})")
                continue
            self._scan.found[path] = found
            try:
                self.below(inner, path)
            finally:
                os.close(inner)

    def _listing(self, handle: int, folder: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
        try:
            with os.scandir(handle) as listing:
                entries = list(listing)
        except OSError as error:
            self.leave_out(folder, f"not read ({error.strerror})")
            return
        for entry in entries:
            # Listed by handle, names are text with escapes for what is none.
            name = os.fsencode(entry.name)
            if name.startswith(RESERVED) and not folder:
                continue
            try:
                yield name, entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError as error:
                self.leave_out(folder + b"/" + name if folder else name, f"not read ({error.strerror})")

    def _judge(self, path: bytes, status: os.stat_result) -> Found | None:
        if (status.st_dev, status.st_ino) in self._skipped:
            self.leave_out(path, "PeerStore's own")
        elif not is_safe(path):
            self.leave_out(path, "its name is too long or begins like our own, or it is too deep")
        elif stat.S_ISDIR(status.st_mode) and status.st_dev != self._device:
            self.leave_out(path, "another file system")
        else:
            found = found_as(path, status)
            if found is None:
                self.leave_out(path, "no file, folder or link")
            return found
        return None
