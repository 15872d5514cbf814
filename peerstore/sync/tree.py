"""The local side of a synced folder: looking at it, and changing it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from peerstore.client.source import Found, look, show, walk
from peerstore.client.target import HIDDEN, Target
from peerstore.errors import StorageError, UsageError
from peerstore.files.manifest import NodeKind

__all__ = ["LocalTree"]


class LocalTree:
    """One folder on a real disk.  Everything here blocks.

    The hidden folder in it is where files are written before they get their
    names, and the mark by which the root is known to be the one we mean: an
    empty mount point has none.

    :param root: raw bytes.
    """

    def __init__(self, root: bytes) -> None:
        self.root = os.path.abspath(root)
        self.target = Target(self.root)

    def open(self, fresh: bool) -> None:
        """Hold the folder.

        :param fresh: nothing was agreed yet, so that a new folder is fine.
        :raises peerstore.errors.UsageError: when it is missing or foreign.
        """
        self.check(fresh)
        self.target.open()

    def check(self, fresh: bool = False) -> None:
        """Refuse to take a missing root for an emptied folder.

        :raises peerstore.errors.UsageError: with the safe next step.
        """
        if not os.path.isdir(self.root):
            raise UsageError(f"{show(self.root)} is not there.", "Mount it, or make the folder, and start again.")
        if not fresh and not os.path.isdir(os.path.join(self.root, HIDDEN)):
            raise UsageError(
                f"{show(self.root)} is not the folder that was synced before (it lacks our mark).",
                "If the disk is not mounted, mount it. If the folder is meant to start anew, use a new --home.",
            )

    def close(self) -> None:
        """Let go; the mark stays."""
        self.target.close(keep_hidden=True)

    def scan(self, note: Callable[[str], None]) -> dict[bytes, Found]:
        """{path: what lies there} of everything that is kept."""
        self.check()
        return {found.path: found for found in walk(self.root, (), note) if found.path}

    def scan_below(self, path: bytes, note: Callable[[str], None]) -> dict[bytes, Found | None]:
        """What lies at a path and below it; None when nothing does."""
        found = look(self.root, path)
        if found is None or found.kind != NodeKind.FOLDER:
            return {path: found}
        below: dict[bytes, Found | None] = {path: found}
        for inner in walk(os.path.join(self.root, path), (), note):
            if inner.path:
                name = path + b"/" + inner.path
                below[name] = inner._replace(path=name)
        return below

    def digest(self, found: Found) -> bytes:
        """SHA-256 of a file or of a link's text; empty for a folder."""
        place = os.path.join(self.root, found.path)
        if found.kind == NodeKind.SYMLINK:
            return hashlib.sha256(os.readlink(place)).digest()
        if found.kind == NodeKind.FOLDER:
            return b""
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    def step_aside(self, path: bytes, other: bytes, expected: Found) -> None:
        """Rename a local file; nothing may be at the other name."""
        there = look(self.root, path)
        if there is None or (there.size, there.mtime_ns, there.inode) != (
            expected.size,
            expected.mtime_ns,
            expected.inode,
        ):
            raise StorageError(f"{show(path)} changed meanwhile; it is looked at again.")
        self.target.rename(path, other)
