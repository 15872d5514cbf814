"""What lies in a synced folder, kept up to date by looking where it changed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping

from peerstore.client.source import Found, show
from peerstore.client.state import Agreed
from peerstore.errors import UsageError
from peerstore.files.manifest import NodeKind
from peerstore.interfaces import IBlockingRunner
from peerstore.sync.plan import above, differs
from peerstore.sync.scanner import Scan
from peerstore.sync.tree import LocalTree

__all__ = ["Looker", "believe"]

#: A whole look at the folder about this often (s): events may be missed.
RESCAN = 1200.0
#: And this often while part of it cannot be watched.
RESCAN_BLIND = 60.0
#: A folder with this many things that is empty all at once is not believed.
SUDDEN = 3


def believe(root: bytes, is_empty: bool, agreed: int) -> None:
    """Do not take a folder that was emptied by accident for a decision.

    :param agreed: how many things were in it.
    :raises peerstore.errors.UsageError: with the safe next step.
    """
    if is_empty and agreed >= SUDDEN:
        raise UsageError(
            f"{show(root)} is empty all at once; nothing is deleted elsewhere.",
            "If that is an accident, stop sync and bring its content back. If you meant it, put any file into it.",
        )


class Looker:
    """Knows what is in the folder, by whole looks and by looks at paths.

    :param now: seconds, of no particular zero.
    :param wall_ns: the time of day, which files' times are compared with.
    :param settle: seconds for which a file must be quiet.
    :param touch: called with a path that was found, but not quiet.
    :param note: told one line for each thing that is not kept.
    """

    def __init__(
        self,
        tree: LocalTree,
        runner: IBlockingRunner,
        agreed: Mapping[bytes, Agreed],
        now: Callable[[], float],
        wall_ns: Callable[[], int],
        rng: random.Random,
        settle: float,
        touch: Callable[[bytes], None],
        note: Callable[[str], None],
    ) -> None:
        self._tree = tree
        self._runner = runner
        self._agreed = agreed
        self._now = now
        self._wall_ns = wall_ns
        self._rng = rng
        self._settle = settle
        self._touch = touch
        self._note = note
        self._dirty: set[bytes] = set()
        self._all_dirty = True
        self._scanned = 0.0
        self._jitter = 1.0
        self.local: dict[bytes, Found] = {}
        self.unread: set[bytes] = set()
        #: How many whole looks there were.
        self.scans = 0

    def add(self, paths: Iterable[bytes]) -> None:
        """Look at these paths the next time."""
        self._dirty.update(paths)

    def add_all(self) -> None:
        """Look at everything the next time."""
        self._all_dirty = True

    def learn(self, path: bytes, found: Found | None) -> None:
        """Something was put there, or taken away, by ourselves."""
        if found is None:
            self.local.pop(path, None)
        else:
            self.local[path] = found

    async def look(self, blind: bool) -> bool:
        """Look where it is needed.

        :param blind: the folder is watched in part only.
        :return: whether anything is not as it was agreed.
        :raises peerstore.errors.UsageError: when the folder cannot be read,
            or is empty all at once.
        """
        age = self._now() - self._scanned
        dirty, self._dirty = self._dirty - {b""}, set()
        if self._all_dirty or age >= (RESCAN_BLIND if blind else RESCAN) * self._jitter:
            self._all_dirty = False
            try:
                scan: Scan = await self._runner.run(self._tree.scan, b"", self._note)
            except BaseException:
                self._all_dirty = True
                raise
            self._take_all(scan)
            touched = {*self.local, *self._agreed}
        elif dirty:
            try:
                scans = await self._runner.run(self._scan_each, sorted(dirty))
            except BaseException:
                self._dirty |= dirty
                raise
            touched = self._take(scans)
        else:
            touched = set()
        is_empty = not self.local and not self.unread
        if not is_empty and any(path in self._agreed and path not in self.local for path in touched):
            # We may be told of one deletion before the next.
            is_empty = await self._runner.run(self._tree.is_empty)
        believe(self._tree.root, is_empty, len(self._agreed))
        return any(differs(self.local.get(path), self._agreed.get(path)) for path in touched - self.unread)

    def _scan_each(self, paths: list[bytes]) -> dict[bytes, Scan]:
        scans: dict[bytes, Scan] = {}
        for path in paths:
            # Whoever is in a folder that was looked at was looked at, too.
            if not any(folder in scans for folder in above(path)):
                scans[path] = self._tree.scan(path, self._note)
        return scans

    def _take_all(self, scan: Scan) -> None:
        self.scans += 1
        self._scanned, self._jitter = self._now(), self._rng.uniform(0.75, 1.25)
        self.local, self.unread = scan.found, scan.unread
        # Events tell when a file is quiet; a look finds it at any moment.
        wall, quiet = self._wall_ns(), int(self._settle * 1e9)
        for path, found in self.local.items():
            fresh = found.kind == NodeKind.FILE and 0 <= wall - found.ctime_ns < quiet
            if fresh and differs(found, self._agreed.get(path)):
                self.unread.add(path)
                self._touch(path)

    def _take(self, scans: Mapping[bytes, Scan]) -> set[bytes]:
        """Replace what was known at and below these paths; all that is
        touched by that."""
        touched = set(scans)
        if any(path in self.unread or self._is_folder(path) for path in scans):
            below = (path for path in (*self.local, *self.unread) if any(folder in scans for folder in above(path)))
            touched.update(below)
        for path in touched:
            self.local.pop(path, None)
            self.unread.discard(path)
        for scan in scans.values():
            self.local.update(scan.found)
            self.unread |= scan.unread
            touched.update(scan.found)
        return touched

    def _is_folder(self, path: bytes) -> bool:
        return path in self.local and self.local[path].kind == NodeKind.FOLDER
