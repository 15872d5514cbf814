"""Backing a folder up: what changed since the last time goes to the ring."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults

from peerstore.client.client import Change, Client, require_complete
from peerstore.client.source import Found, show, walk
from peerstore.client.state import Agreed
from peerstore.client.upload import ChangedWhileRead, Uploaded
from peerstore.errors import Conflict, Incomplete, PeerError, PeerStoreError, RemoteError
from peerstore.files.manifest import INLINE, NodeKind
from peerstore.transactions.view import PathVersion

__all__ = ["Backup", "BackupReport", "Progress"]

#: Changes gathered for one entry of the log.
BATCH = 256
#: Bytes of manifests gathered for one entry.
BATCH_BYTES = 4 * 1024 * 1024
#: Files read at a time; large ones take several turns.
PARALLEL = 8
LARGE_TURNS = 4


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
    """What a backup did.  Sizes in bytes; *sent* is what went over the wire
    for contents; *notes* are lines about what is not kept, *problems* about
    what failed."""

    folder: str
    files: int = 0
    size: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    sent: int = 0
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Backup:
    """One run over one folder.

    :param root: the local folder, raw bytes.
    :param folder: the NAME under which it is kept.
    :param patterns: paths to leave out.
    :param into: allow a folder that another device, or another place on this
        one, wrote last; then nothing is deleted that we had not agreed to.
    """

    def __init__(
        self,
        client: Client,
        root: bytes,
        folder: str,
        patterns: Sequence[bytes] = (),
        into: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self._client = client
        self._root = os.path.abspath(root)
        self._folder = folder
        self._patterns = patterns
        self._into = into
        self._progress = progress or Progress()
        self._turns = DeferredSemaphore(PARALLEL)
        self._ready: list[tuple[Change, Agreed | None]] = []
        self._ready_bytes = 0
        self._fatal: PeerStoreError | None = None
        self.report = BackupReport(folder)

    def run(self) -> Deferred[BackupReport]:
        """Do it.  Fails with Conflict for another writer's folder, with
        Incomplete or a PeerError when the ring does not take it; what was
        stored by then is not sent again by the next run."""
        return Deferred.fromCoroutine(self._run())

    async def _run(self) -> BackupReport:
        client = self._client
        require_complete(await client.refresh())
        await self._claim()
        found: list[Found] = await client.runner.run(self._walk)
        agreed: dict[bytes, Agreed] = await client.database.run(client.state.agreed, self._folder)
        self.report.files = sum(1 for item in found if item.kind != NodeKind.FOLDER)
        self.report.size = sum(item.size for item in found)
        self._progress.total(self.report.files, self.report.size)
        working: list[Deferred[None]] = []
        for item in found:
            if self._fatal is not None:
                break
            if self._is_unchanged(item, agreed.get(item.path)):
                self.report.unchanged += 1
                self._progress.done(item.size)
                continue
            turns = LARGE_TURNS if item.size > INLINE * 64 else 1
            held = [await self._turns.acquire() for _ in range(turns)]
            working.append(Deferred.fromCoroutine(self._store(item, agreed.get(item.path), len(held))))
            if len(working) >= 64:
                working = [work for work in working if not work.called]
            await self._publish_when_full()
        await gatherResults(working, consumeErrors=True)
        if self._fatal is not None:
            raise self._fatal
        await self._remove_gone({item.path for item in found}, agreed)
        await self._publish()
        return self.report

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
        await client.database.run(client.state.keep_meta, name, self._root)

    def _walk(self) -> list[Found]:
        return list(walk(self._root, self._patterns, self.report.notes.append))

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

    async def _store(self, item: Found, last: Agreed | None, turns: int) -> None:
        try:
            uploaded = await self._client.upload(self._root, item, self._progress.done)
            self.report.sent += uploaded.sent
            await self._ready_to_publish(item, uploaded, last)
            self._progress.file(item.path)
        except ChangedWhileRead as error:
            self.report.problems.append(str(error))
        except (Incomplete, PeerError, RemoteError) as error:
            # The ring's trouble is everybody's: no use in trying every file.
            self._fatal = self._fatal or error
        except PeerStoreError as error:
            self.report.problems.append(str(error))
        finally:
            for _ in range(turns):
                self._turns.release()

    async def _ready_to_publish(self, item: Found, uploaded: Uploaded, last: Agreed | None) -> None:
        client, standing = self._client, self._client.view.current(self._folder, item.path)
        manifest = uploaded.manifest
        if standing is not None and _is_same(standing, uploaded):
            await self._agree(item.path, _agreed(standing, uploaded))
            self.report.unchanged += 1
            return
        based_on = [last.vector] if last is not None else []
        change = await client.change(self._folder, item.path, uploaded, based_on)
        self._ready.append((change, _agreed(change.version, uploaded)))
        self._ready_bytes += len(uploaded.blob)
        self.report.changed += 1
        self.report.sent += len(manifest.inline)

    async def _remove_gone(self, present: set[bytes], agreed: dict[bytes, Agreed]) -> None:
        """Tombstones for what we had agreed on and is gone from the source."""
        if self.report.notes and any("nothing in it is kept" in note for note in self.report.notes):
            # An unreadable folder is not an empty one.
            self.report.problems.append("A folder could not be read, so nothing was taken for deleted in this run.")
            return
        failed = {problem.split(" ")[0] for problem in self.report.problems}
        for path in sorted(set(agreed) - present, reverse=True):
            if self._client.view.current(self._folder, path) is None or show(path) in failed:
                await self._agree(path, None)
                continue
            change = await self._client.deletion(self._folder, path, [agreed[path].vector])
            self._ready.append((change, None))
            self.report.removed += 1

    # -- publishing --------------------------------------------------------------------

    async def _publish_when_full(self) -> None:
        if len(self._ready) >= BATCH or self._ready_bytes >= BATCH_BYTES:
            await self._publish()

    async def _publish(self) -> None:
        ready, self._ready, self._ready_bytes = self._ready, [], 0
        if not ready:
            return
        agreed = [(self._folder, change.version.name.path, now) for change, now in ready]
        await self._client.publish([change for change, _ in ready], agreed)

    async def _agree(self, path: bytes, now: Agreed | None) -> None:
        await self._client.database.run(self._client.state.agree, self._folder, [(path, now)])


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
