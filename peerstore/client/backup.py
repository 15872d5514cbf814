"""Backing a folder up: what changed since the last time goes to the ring."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred

from peerstore.client.client import Change, Client, require_complete
from peerstore.client.crew import Crew
from peerstore.client.source import Found, Walk, show
from peerstore.client.state import Agreed
from peerstore.client.upload import PATIENT, Uploaded, Vanished
from peerstore.errors import Conflict, DiskFull, Incomplete, LookupFailed, PeerError, PeerStoreError, RemoteError
from peerstore.files.manifest import INLINE, NodeKind
from peerstore.files.names import check_folder
from peerstore.transactions.view import PathVersion

__all__ = ["Backup", "BackupReport", "Progress"]

#: Changes gathered for one entry of the log.
BATCH = 256
#: Bytes of manifests gathered for one entry.
BATCH_BYTES = 4 * 1024 * 1024
#: Files read at a time; large ones take several turns.
PARALLEL = 8
LARGE_TURNS = 4
#: File systems count time in steps of up to so many ns.
STEP = 2_000_000_000


class Progress:
    """What is told of a transfer while it runs; does nothing by itself."""

    def total(self, files: int, size: int) -> None:
        """So many files and bytes are to be looked at."""

    def done(self, size: int) -> None:
        """So many bytes more are done (or, negative, to be done again)."""

    def file(self, path: bytes) -> None:
        """A file is finished."""


@dataclass
class BackupReport:
    """What a backup did, or with *dry_run* would do.

    *files* counts everything but folders; so do *changed*, *removed* and
    *unchanged*.  Sizes in bytes; *sent* is what went over the wire for
    contents.  *notes* are lines about what is not kept, *problems* about what
    failed.  *planned* and *gone* are the paths that would be stored and
    removed, on a dry run only.
    """

    folder: str
    files: int = 0
    folders: int = 0
    size: int = 0
    changed: int = 0
    changed_folders: int = 0
    removed: int = 0
    unchanged: int = 0
    sent: int = 0
    dry_run: bool = False
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    planned: list[bytes] = field(default_factory=list)
    gone: list[bytes] = field(default_factory=list)


class Backup:
    """One run over one folder.

    :param root: the local folder, raw bytes.
    :param folder: the NAME under which it is kept.
    :param patterns: paths to leave out; what of it was stored before stays.
    :param into: allow a folder that another device, or another place on this
        one, wrote last; then nothing is deleted that we had not agreed to.
    :param anew: trust nothing that this device remembers of the ring: read
        every file, and ask for every chunk and head whether it is there.
    :param dry_run: only look and say what would be done.
    :param skip: folders that are left out, wherever they are met.
    """

    def __init__(
        self,
        client: Client,
        root: bytes,
        folder: str,
        patterns: Sequence[bytes] = (),
        into: bool = False,
        progress: Progress | None = None,
        *,
        anew: bool = False,
        dry_run: bool = False,
        skip: Sequence[bytes] = (),
    ) -> None:
        check_folder(folder)
        self._client = client
        self._root = os.path.abspath(root)
        self._folder = folder
        self._into = into
        self._anew = anew
        self._dry_run = dry_run
        self._progress = progress or Progress()
        self._ready: list[tuple[Change, Agreed | None]] = []
        self._ready_bytes = 0
        # What is agreed on without anything to be published for it.
        self._settled: list[tuple[bytes, Agreed | None]] = []
        self.report = BackupReport(folder, dry_run=dry_run)
        report = self.report
        self._walk = Walk(self._root, patterns, report.notes.append, report.problems.append, skip)

    def run(self) -> Deferred[BackupReport]:
        """Do it.  Fails with Conflict for another writer's folder, with
        Incomplete or a PeerError when the ring does not take it; what was
        stored by then is not sent again by the next run."""
        return Deferred.fromCoroutine(self._run())

    async def _run(self) -> BackupReport:
        client, report = self._client, self.report
        require_complete(await client.refresh(self._anew))
        found: list[Found] = await client.runner.run(list, self._walk.run())
        await self._claim()
        agreed: dict[bytes, Agreed] = await client.database.run(client.state.agreed, self._folder, self._root)
        report.files = sum(1 for item in found if item.kind != NodeKind.FOLDER)
        report.folders = len(found) - report.files
        report.size = sum(item.size for item in found)
        if self._dry_run:
            self._only_look(found, agreed)
            return report
        self._progress.total(report.files, report.size)
        async with Crew(PARALLEL) as crew:
            for item in found:
                if self._is_unchanged(item, agreed.get(item.path)) and not self._anew:
                    report.unchanged += item.kind != NodeKind.FOLDER
                    self._finished(item)
                    self._progress.done(item.size)
                    continue
                turns = LARGE_TURNS if item.size > INLINE * 64 else 1
                await crew.start(turns, self._store, item, agreed.get(item.path))
                await self._publish_when_full()
        await self._remove_gone({item.path for item in found}, agreed)
        await self._publish()
        return report

    # -- what to do -------------------------------------------------------------------

    async def _claim(self) -> None:
        """One device and one place write a folder; others must say so."""
        client, name = self._client, f"source:{self._folder}"
        writer = client.view.last_writer(self._folder)
        source: bytes | None = await client.database.run(client.state.meta, name)
        if not self._into:
            if writer is not None and writer != client.device:
                raise Conflict(
                    f"{self._folder!r} was last written by another computer.",
                    "Use --as with another name, or --into to add to it.",
                )
            if source is not None and source != self._root:
                raise Conflict(
                    f"{self._folder!r} is the backup of {show(source)}.",
                    "Use --as with another name, or --into to add to it.",
                )
        if not self._dry_run:
            await client.database.run(client.state.keep_meta, name, self._root)

    def _is_unchanged(self, item: Found, last: Agreed | None) -> bool:
        if last is None:
            return False
        standing = self._client.view.current(self._folder, item.path)
        if standing is None or standing.version != last.version:
            return False
        if item.kind == NodeKind.FOLDER:
            return last.kind == item.kind and last.mode == item.mode and last.mtime_ns == item.mtime_ns
        now = (item.kind, item.size, item.mtime_ns, item.ctime_ns, item.inode, item.mode)
        return now == (last.kind, last.size, last.mtime_ns, last.ctime_ns, last.inode, last.mode)

    def _only_look(self, found: Sequence[Found], agreed: dict[bytes, Agreed]) -> None:
        """Fill the report with what a real run would do."""
        report = self.report
        for item in found:
            if self._anew or not self._is_unchanged(item, agreed.get(item.path)):
                self._count_changed(item)
                report.planned.append(item.path)
            else:
                report.unchanged += item.kind != NodeKind.FOLDER
        for path in self._gone({item.path for item in found}, agreed):
            if self._client.view.current(self._folder, path) is not None:
                report.removed += agreed[path].kind != NodeKind.FOLDER
                report.gone.append(path)

    def _count_changed(self, item: Found) -> None:
        if item.kind == NodeKind.FOLDER:
            self.report.changed_folders += 1
        else:
            self.report.changed += 1

    def _finished(self, item: Found) -> None:
        if item.kind != NodeKind.FOLDER:
            self._progress.file(item.path)

    # -- storing ---------------------------------------------------------------------

    async def _store(self, item: Found, last: Agreed | None) -> None:
        try:
            began = self._client.wall_ns()
            uploaded = await self._client.upload(self._root, item, self._progress.done, PATIENT)
            self.report.sent += uploaded.sent
            await self._ready_to_publish(item, self._unless_fresh(uploaded, began), last)
            self._finished(item)
        except Vanished as error:
            # Nothing is there to be stored; the next run takes note of it.
            self.report.notes.append(str(error))
        except (Incomplete, PeerError, RemoteError, LookupFailed, DiskFull):
            # The ring's trouble, or our own disk's: no use in trying every file.
            raise
        except PeerStoreError as error:
            self.report.problems.append(str(error))

    def _unless_fresh(self, uploaded: Uploaded, began: int) -> Uploaded:
        """What was read, with a ctime that no file has if this one was last
        changed about when it was read: were it changed once more in that
        step of the file system's clock, it would look as it does now.  So the
        next run reads it again.

        :param began: the time of day (ns) before it was looked at.
        """
        changed = uploaded.found.ctime_ns
        if began - STEP <= changed <= self._client.wall_ns() + STEP:
            return uploaded._replace(found=uploaded.found._replace(ctime_ns=0))
        return uploaded

    async def _ready_to_publish(self, item: Found, uploaded: Uploaded, last: Agreed | None) -> None:
        client, standing = self._client, self._client.view.current(self._folder, item.path)
        manifest = uploaded.manifest
        based_on = [last.vector] if last is not None else []
        if standing is not None and _is_same(standing, uploaded):
            if not self._anew or await client.is_stored(standing):
                self._settled.append((item.path, _agreed(standing, uploaded)))
                self.report.unchanged += item.kind != NodeKind.FOLDER
                return
            based_on = [standing.vector]
        change = await client.change(self._folder, item.path, uploaded, based_on)
        self._ready.append((change, _agreed(change.version, uploaded)))
        self._ready_bytes += len(uploaded.blob)
        self._count_changed(item)
        self.report.sent += len(manifest.inline)

    def _gone(self, present: set[bytes], agreed: dict[bytes, Agreed]) -> list[bytes]:
        """What was here and is not, deepest first: not what is left out on
        purpose, nor what could not be looked at."""
        return [path for path in sorted(set(agreed) - present, reverse=True) if self._walk.knows(path)]

    async def _remove_gone(self, present: set[bytes], agreed: dict[bytes, Agreed]) -> None:
        """Tombstones for what we had agreed on and is gone from the source."""
        for path in self._gone(present, agreed):
            if self._client.view.current(self._folder, path) is None:
                self._settled.append((path, None))
                continue
            change = await self._client.deletion(self._folder, path, [agreed[path].vector])
            self._ready.append((change, None))
            self.report.removed += agreed[path].kind != NodeKind.FOLDER

    # -- publishing --------------------------------------------------------------------

    async def _publish_when_full(self) -> None:
        if len(self._ready) + len(self._settled) >= BATCH or self._ready_bytes >= BATCH_BYTES:
            await self._publish()

    async def _publish(self) -> None:
        ready, self._ready, self._ready_bytes = self._ready, [], 0
        agreed, self._settled = self._settled, []
        if ready:
            made = [(self._folder, change.version.name.path, now) for change, now in ready]
            await self._client.publish([change for change, _ in ready], made, self._root)
        if agreed:
            await self._client.database.run(self._client.state.agree, self._folder, agreed, self._root)


def _is_same(standing: PathVersion, uploaded: Uploaded) -> bool:
    """Whether the log has just this: then there is nothing to add."""
    name, manifest = standing.name, uploaded.manifest
    if (name.kind, name.mode, name.sha256) != (int(manifest.kind), manifest.mode, manifest.sha256):
        return False
    return name.mtime_ns == manifest.mtime_ns


def _agreed(version: PathVersion, uploaded: Uploaded) -> Agreed:
    found = uploaded.found
    return Agreed(
        version.version,
        version.vector,
        int(found.kind),
        found.size,
        found.mtime_ns,
        found.ctime_ns,
        found.inode,
        found.mode,
        uploaded.manifest.sha256,
    )
