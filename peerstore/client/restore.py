"""Giving a folder, or one file, back."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from peerstore.client.backup import Progress
from peerstore.client.client import Client
from peerstore.client.crew import Crew, in_thread
from peerstore.client.download import Fetched
from peerstore.client.partial import LARGE, take_up
from peerstore.client.source import Found, show
from peerstore.client.target import Target, in_the_way, write_with_holes
from peerstore.errors import (
    CorruptData,
    DiskFull,
    Incomplete,
    LookupFailed,
    PeerError,
    PeerStoreError,
    RemoteError,
)
from peerstore.files.manifest import Manifest, NodeKind
from peerstore.transactions.view import PathVersion
from peerstore.util.durable import disk_error

__all__ = ["Restore", "RestoreReport"]

PARALLEL = 8
AGAIN = "When that is mended, run this again: it goes on from here."


@dataclass
class RestoreReport:
    """What a restore did, or with *dry_run* would do.

    *files* are all that were wanted, *size* their bytes; *present* were there
    and equal; *planned* are the paths to be written, on a dry run only.
    """

    folder: str
    files: int = 0
    size: int = 0
    written: int = 0
    present: int = 0
    dry_run: bool = False
    problems: list[str] = field(default_factory=list)
    planned: list[bytes] = field(default_factory=list)


class Restore:
    """One run that writes versions below one target folder.

    :param force: replace files that are there and different.
    :param dry_run: only look; the target need not be there.
    """

    def __init__(
        self,
        client: Client,
        target: Target,
        force: bool = False,
        progress: Progress | None = None,
        dry_run: bool = False,
    ) -> None:
        self._client = client
        self._target = target
        self._force = force
        self._progress = progress or Progress()
        self._dry_run = dry_run
        self._single = False

    def run(self, folder: str, below: bytes = b"") -> Deferred[RestoreReport]:
        """Everything that stands in a folder, or below one of its paths, which
        becomes the target folder itself.

        Fails with a PeerError or Incomplete when no node answers any more.
        """
        tree = self._client.view.tree(folder)
        prefix = below + b"/" if below else b""
        wanted = {path[len(prefix) :]: version for path, version in tree.items() if path.startswith(prefix) and path}
        if below in tree and tree[below].name.kind == NodeKind.FOLDER:
            wanted[b""] = tree[below]
        return Deferred.fromCoroutine(self._run(folder, wanted))

    def run_one(self, version: PathVersion, name: bytes) -> Deferred[RestoreReport]:
        """One file or link, under a name of one component in the target.

        Fails with what went wrong: there is nothing else to report.
        """
        self._single = True
        return Deferred.fromCoroutine(self._run(version.name.folder, {name: version}))

    async def write(self, path: bytes, version: PathVersion, expected: Found | None = None) -> None:
        """Fetch one version and put it in its place, whole."""
        client, target = self._client, self._target
        fetched: Fetched = await client.manifest(version)
        manifest = fetched.manifest
        if manifest.kind == NodeKind.SYMLINK:
            self._progress.done(manifest.size)
            await in_thread(
                client.runner, target.symlink, path, manifest.inline, manifest.mtime_ns, expected, self._force
            )
            return
        if manifest.size < LARGE:
            await self._write_file(path, fetched, expected)
            return
        for again in (False, True):
            try:
                await self._write_large(path, version.version, fetched, expected)
                return
            except CorruptData:
                # What was there already may be what is wrong.
                if again:
                    raise

    async def _write_file(self, path: bytes, fetched: Fetched, expected: Found | None) -> None:
        # Not in a thread: stopped in between, nobody would know of the file.
        name, descriptor = self._target.temporary()
        try:
            try:
                await self._fill(descriptor, fetched)
            finally:
                os.close(descriptor)
            await self._place(name, path, fetched.manifest, expected)
        except BaseException:
            self._target.discard(name)
            raise

    async def _write_large(self, path: bytes, version: bytes, fetched: Fetched, expected: Found | None) -> None:
        """Like any other file, but stopped, or left alone by all nodes, it
        goes on from there the next time."""
        begun = self._target.partial(version)
        if begun is None:
            await self._write_file(path, fetched, expected)
            return
        name, descriptor = begun
        try:
            try:
                chunks = fetched.manifest.chunks
                done, whole = await in_thread(self._client.runner, take_up, descriptor, chunks)
                self._progress.done(sum(ref.length for ref in chunks[:done]))
                await self._fill(descriptor, fetched, done, whole)
                await self._place(name, path, fetched.manifest, expected)
            finally:
                os.close(descriptor)
        except (CancelledError, Incomplete, PeerError, RemoteError, LookupFailed):
            raise
        except BaseException:
            self._target.discard(name)
            raise

    async def _fill(self, descriptor: int, fetched: Fetched, done: int = 0, whole: Any = None) -> None:
        def write(piece: bytes) -> int:
            return write_with_holes(descriptor, piece)

        await self._client.content(fetched, write, self._progress.done, done, whole)
        await in_thread(self._client.runner, _finish, descriptor)

    async def _place(self, name: bytes, path: bytes, manifest: Manifest, expected: Found | None) -> None:
        place = self._target.place
        await in_thread(self._client.runner, place, name, path, manifest.mode, manifest.mtime_ns, expected, self._force)

    # -- inside ----------------------------------------------------------------

    async def _run(self, folder: str, wanted: dict[bytes, PathVersion]) -> RestoreReport:
        report = RestoreReport(folder, dry_run=self._dry_run)
        folders = {path: version for path, version in wanted.items() if version.name.kind == NodeKind.FOLDER}
        rest = {path: version for path, version in wanted.items() if version.name.kind != NodeKind.FOLDER}
        report.files, report.size = len(rest), sum(version.name.size for version in rest.values())
        self._progress.total(report.files, report.size)
        run = self._client.runner.run
        if self._dry_run:
            await self._look_only(rest, report)
            return report
        await run(self._target.open)
        try:
            for path in sorted(folders):
                await self._folder_step(report, path, self._target.folder, path, self._force)
            await self._files(rest, report)
            # Deepest first: writing below a folder changes its time.
            for path in sorted(folders, reverse=True):
                name = folders[path].name
                if path:
                    await self._folder_step(report, path, self._target.attributes, path, name.mode, name.mtime_ns)
            if not report.problems:
                await run(self._target.forget_partials)
            if b"" in folders:
                name = folders[b""].name
                await self._folder_step(report, b"", self._target.close_as, name.mode, name.mtime_ns)
        finally:
            await in_thread(self._client.runner, self._close)
        return report

    async def _look_only(self, rest: dict[bytes, PathVersion], report: RestoreReport) -> None:
        run = self._client.runner.run
        if not await run(os.path.lexists, self._target.root):
            report.planned, report.written = sorted(rest), len(rest)
            return
        await run(self._target.open, True)
        try:
            await self._files(rest, report)
        finally:
            await in_thread(self._client.runner, self._target.close)
        report.planned.sort()

    async def _files(self, rest: dict[bytes, PathVersion], report: RestoreReport) -> None:
        try:
            async with Crew(PARALLEL) as crew:
                for path, version in rest.items():
                    await crew.start(1, self._one, path, version, report)
        except _EndOfAll as end:
            done = report.written + report.present
            raise type(end.why)(f"{end.why.what} {done} of {report.files} files are there.", AGAIN) from end

    async def _folder_step(self, report: RestoreReport, path: bytes, step: object, *args: object) -> None:
        try:
            await self._client.runner.run(step, *args)
        except OSError as error:
            report.problems.append(str(disk_error(error, show(path))))
        except PeerStoreError as error:
            report.problems.append(_naming(path, error))

    async def _one(self, path: bytes, version: PathVersion, report: RestoreReport) -> None:
        try:
            there: Found | None = await self._client.runner.run(self._target.look, path)
            if there is not None and await self.is_there(path, there, version):
                report.present += 1
                self._progress.done(version.name.size)
            elif self._dry_run:
                self._judge(path, there, report)
            else:
                await self.write(path, version)
                report.written += 1
            self._progress.file(path)
        except OSError as error:
            problem = disk_error(error, show(path))
            if self._single:
                raise problem from error
            if isinstance(problem, DiskFull):
                raise _EndOfAll(DiskFull(f"No room left in {show(self._target.root)}.")) from error
            report.problems.append(str(problem))
        except (PeerError, LookupFailed, Incomplete) as error:
            # One file that cannot be had is that file's problem; when nobody
            # answers any more, it is everybody's.
            if self._single:
                raise
            if not await self._client.somebody_answers():
                raise _EndOfAll(Incomplete("The nodes do not answer any more.")) from error
            report.problems.append(_naming(path, error))
        except PeerStoreError as error:
            if self._single:
                raise
            report.problems.append(_naming(path, error))

    def _judge(self, path: bytes, there: Found | None, report: RestoreReport) -> None:
        """What writing would come to, on a dry run."""
        if there is not None and (not self._force or there.kind == NodeKind.FOLDER):
            raise in_the_way(path)
        report.planned.append(path)
        report.written += 1

    async def is_there(self, path: bytes, there: Found, version: PathVersion) -> bool:
        """Whether the path holds the wanted content already; its attributes
        are set then, for they may not be."""
        name = version.name
        if there.kind != name.kind or there.size != name.size:
            return False
        digest: bytes = await self._client.runner.run(self._target.digest, path, there.kind)
        if digest != name.sha256:
            return False
        if there.kind == NodeKind.FILE and not self._dry_run:
            await self._client.runner.run(self._target.file_attributes, path, name.mode, name.mtime_ns)
        return True

    def _close(self) -> None:
        self._target.close()
        os.sync()


class _EndOfAll(Exception):
    """Something after which no other file need be tried."""

    def __init__(self, why: PeerStoreError) -> None:
        super().__init__(why.what)
        self.why = why


def _naming(path: bytes, error: PeerStoreError) -> str:
    return str(error) if show(path) in str(error) else f"{show(path)}: {error}"


def _finish(descriptor: int) -> None:
    """The last block may be a hole; then everything to the disk."""
    os.ftruncate(descriptor, os.lseek(descriptor, 0, os.SEEK_CUR))
    os.fsync(descriptor)
