"""Giving a folder, or one file, back."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults

from peerstore.client.backup import Progress
from peerstore.client.client import Client
from peerstore.client.download import Fetched
from peerstore.client.source import Found, show
from peerstore.client.target import Target
from peerstore.errors import PeerStoreError
from peerstore.files.manifest import NodeKind
from peerstore.transactions.view import PathVersion
from peerstore.util.durable import disk_error

__all__ = ["Restore", "RestoreReport"]

PARALLEL = 8


@dataclass
class RestoreReport:
    """What a restore did; *present* are files that were there and equal."""

    folder: str
    files: int = 0
    size: int = 0
    written: int = 0
    present: int = 0
    complete: bool = True
    problems: list[str] = field(default_factory=list)


class Restore:
    """One run that writes versions below one target folder.

    :param force: replace files that are there and different.
    """

    def __init__(self, client: Client, target: Target, force: bool = False, progress: Progress | None = None) -> None:
        self._client = client
        self._target = target
        self._force = force
        self._progress = progress or Progress()
        self._turns = DeferredSemaphore(PARALLEL)

    def run(self, folder: str, below: bytes = b"") -> Deferred[RestoreReport]:
        """Everything that stands in a folder, or below one of its paths."""
        return Deferred.fromCoroutine(self._run(folder, below))

    async def _run(self, folder: str, below: bytes) -> RestoreReport:
        report = RestoreReport(folder)
        tree = self._client.view.tree(folder)
        prefix = below + b"/" if below else b""
        wanted = {
            path[len(prefix) :] if path != below else b"": version
            for path, version in tree.items()
            if path == below or path.startswith(prefix)
        }
        folders = {path: v for path, v in wanted.items() if v.name.kind == NodeKind.FOLDER}
        rest = {path: v for path, v in wanted.items() if v.name.kind != NodeKind.FOLDER}
        report.files, report.size = len(rest), sum(v.name.size for v in rest.values())
        self._progress.total(report.files, report.size)
        runner = self._client.runner
        await runner.run(self._target.open)
        try:
            for path in sorted(folders):
                try:
                    await runner.run(self._target.folder, path, self._force)
                except (PeerStoreError, OSError) as error:
                    report.problems.append(str(error))
            working = []
            for path, version in rest.items():
                await self._turns.acquire()
                working.append(Deferred.fromCoroutine(self._one(path, version, report)))
                working = [work for work in working if not work.called]
            await gatherResults(working)
            # Deepest first: writing below a folder changes its time.
            for path in sorted(folders, reverse=True):
                name = folders[path].name
                try:
                    await runner.run(self._target.attributes, path, name.mode, name.mtime_ns)
                except (PeerStoreError, OSError) as error:
                    report.problems.append(f"{show(path)}: {error}")
        finally:
            await runner.run(self._close)
        if b"" in folders:
            name = folders[b""].name
            await runner.run(_top_attributes, self._target.root, name.mode, name.mtime_ns)
        return report

    async def _one(self, path: bytes, version: PathVersion, report: RestoreReport) -> None:
        try:
            there: Found | None = await self._client.runner.run(self._target.look, path)
            if there is not None and await self.is_there(path, there, version):
                report.present += 1
                self._progress.done(version.name.size)
            else:
                await self.write(path, version)
                report.written += 1
            self._progress.file(path)
        except OSError as error:
            report.problems.append(str(disk_error(error, show(path))))
        except PeerStoreError as error:
            report.problems.append(str(error) if show(path) in str(error) else f"{show(path)}: {error}")
        finally:
            self._turns.release()

    async def write(self, path: bytes, version: PathVersion, expected: Found | None = None) -> None:
        """Fetch one version and put it in its place, whole."""
        client, target = self._client, self._target
        fetched: Fetched = await client.manifest(version)
        manifest = fetched.manifest
        if manifest.kind == NodeKind.SYMLINK:
            self._progress.done(manifest.size)
            await client.runner.run(target.symlink, path, manifest.inline, manifest.mtime_ns, expected, self._force)
            return
        name, descriptor = await client.runner.run(target.temporary)
        try:
            try:

                def write(piece: bytes) -> int:
                    return os.write(descriptor, piece)

                await client.content(fetched, write, self._progress.done)
                await client.runner.run(os.fsync, descriptor)
            finally:
                await client.runner.run(os.close, descriptor)
            await client.runner.run(target.place, name, path, manifest.mode, manifest.mtime_ns, expected, self._force)
        except BaseException:
            await client.runner.run(target.discard, name)
            raise

    async def is_there(self, path: bytes, there: Found, version: PathVersion) -> bool:
        """Whether the path holds the wanted content already; its attributes
        are set then, for they may not be."""
        name = version.name
        if there.kind != name.kind or there.size != name.size:
            return False
        digest: bytes = await self._client.runner.run(_digest, os.path.join(self._target.root, path), there.kind)
        if digest != name.sha256:
            return False
        if there.kind == NodeKind.FILE:
            await self._client.runner.run(self._target.file_attributes, path, name.mode, name.mtime_ns)
        return True

    def _close(self) -> None:
        os.sync()
        self._target.close()


def _digest(place: bytes, kind: NodeKind) -> bytes:
    if kind == NodeKind.SYMLINK:
        return hashlib.sha256(os.readlink(place)).digest()
    with open(place, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _top_attributes(root: bytes, mode: int, mtime_ns: int) -> None:
    os.chmod(root, mode)
    os.utime(root, ns=(mtime_ns, mtime_ns))
