"""The folders that a log describes, now or at any moment.

Every operation names a version with its vector; a version that another's
vector covers is history.  What is left for a path is what stands there: one
version, or several where edits crossed.  The order in which entries arrive
does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from peerstore import vectors
from peerstore.errors import BadMessage
from peerstore.transactions.chain import LoggedEntry, order
from peerstore.transactions.entry import CONTENT, Entry, NameRecord, Operation, OperationKind, pack_name, unpack_name

__all__ = ["FolderView", "PathVersion"]


class PathVersion(NamedTuple):
    """One version of one path, as its owner's log tells it.

    *clock* is the Lamport clock of the version's head; *wall_ns* is when the
    log was told of it.
    """

    resource: bytes
    version: bytes
    vector: vectors.Vector
    name: NameRecord
    clock: int
    device: bytes
    wall_ns: int

    @property
    def deleted(self) -> bool:
        """Whether this version is a tombstone."""
        return self.name.kind == 0

    @property
    def precedence(self) -> tuple[bool, int, bytes, bytes]:
        """What decides who has the name: file before tombstone, then the
        highest (clock, device, id).  ``files.head`` decides alike."""
        return (not self.deleted, self.clock, self.device, self.version)


class FolderView:
    """All folders of one owner.

    :param entries: in any order.
    :param until_ns: leave out what was written after this wall time.
    """

    def __init__(self, entries: Iterable[LoggedEntry] = (), until_ns: int | None = None) -> None:
        self._until = until_ns
        self._folders: dict[str, dict[bytes, list[PathVersion]]] = {}
        self._last: dict[str, tuple[tuple[int, bytes, int, bytes], bytes]] = {}
        self._unread: set[tuple[bytes, int]] = set()
        for logged in entries:
            self.add(logged)

    @property
    def unread(self) -> int:
        """How many operations could not be read: they are left out, and the
        rest stands.  A newer program's, or damaged."""
        return len(self._unread)

    def add(self, logged: LoggedEntry) -> list[PathVersion]:
        """Take one more entry in; the versions it told of."""
        entry = logged.entry
        if self._until is not None and entry.wall_ns > self._until:
            return []
        told = []
        for index, operation in enumerate(entry.operations):
            if operation.kind not in CONTENT:
                continue
            try:
                version = _version(entry, operation)
            except BadMessage:
                # One that says nothing must not hide all the others.
                self._unread.add((logged.leaf, index))
                continue
            self._place(version)
            told.append(version)
            place, folder = order(logged), version.name.folder
            if folder not in self._last or self._last[folder][0] < place:
                self._last[folder] = (place, entry.device)
        return told

    def folders(self) -> list[str]:
        """Names of all folders in which something stands."""
        return sorted(name for name, paths in self._folders.items() if any(self.current(name, path) for path in paths))

    def last_writer(self, folder: str) -> bytes | None:
        """The 16-byte device whose entry about the folder is the latest."""
        last = self._last.get(folder)
        return last[1] if last else None

    def versions(self, folder: str, path: bytes) -> list[PathVersion]:
        """What no other replaces at a path, tombstones included; the first
        has the name."""
        told = self._folders.get(folder, {}).get(path, [])
        if len(told) > 1:
            # One that was told of twice counts once, as it was told first.
            once: dict[bytes, PathVersion] = {}
            for version in sorted(told, key=_telling):
                once.setdefault(version.version, version)
            told = list(once.values())
        return sorted(told, key=lambda version: version.precedence, reverse=True)

    def current(self, folder: str, path: bytes) -> PathVersion | None:
        """The version that has the name, or None where nothing stands."""
        standing = self.versions(folder, path)
        return standing[0] if standing and not standing[0].deleted else None

    def paths(self, folder: str) -> list[bytes]:
        """All paths that the folder ever had and that have a newest version,
        sorted; some may be tombstones."""
        return sorted(self._folders.get(folder, {}))

    def tree(self, folder: str) -> dict[bytes, PathVersion]:
        """{path: the version that has the name} of what stands, sorted."""
        found = ((path, self.current(folder, path)) for path in self.paths(folder))
        return {path: version for path, version in found if version is not None}

    def _place(self, new: PathVersion) -> None:
        standing = self._folders.setdefault(new.name.folder, {}).setdefault(new.name.path, [])
        kept = []
        for old in standing:
            if old == new or (old.vector != new.vector and vectors.covers(old.vector, new.vector)):
                return
            if old.vector == new.vector or not vectors.covers(new.vector, old.vector):
                kept.append(old)
        kept.append(new)
        standing[:] = kept


def _version(entry: Entry, operation: Operation) -> PathVersion:
    name = unpack_name(operation.sealed)
    if (name.kind == 0) != (operation.kind == OperationKind.DELETE):
        raise BadMessage("an operation in the log contradicts its name.")
    return PathVersion(
        operation.resource,
        operation.version,
        operation.vector,
        name,
        operation.clock,
        entry.device,
        entry.wall_ns,
    )


def _telling(version: PathVersion) -> tuple[int, bytes, int, vectors.Vector, bytes, bytes]:
    """Sorts what several entries told of one version."""
    return (
        version.wall_ns,
        version.device,
        version.clock,
        version.vector,
        version.resource,
        pack_name(version.name),
    )
