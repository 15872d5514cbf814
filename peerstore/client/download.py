"""From a version's id to its bytes, checked."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from peerstore.client.budget import ByteBudget
from peerstore.client.crew import in_thread
from peerstore.client.source import show
from peerstore.errors import CorruptData, Incomplete, NotFound
from peerstore.files.chunk import open_chunk
from peerstore.files.head import Version, decode_head
from peerstore.files.manifest import ChunkRef, Manifest, decode_chunks, decode_manifest
from peerstore.gateway.gateway import Gateway
from peerstore.interfaces import IBlockingRunner
from peerstore.transactions.view import PathVersion

__all__ = ["Downloader", "Fetched"]

#: Plain bytes of chunks held at a time, over all files.
IN_FLIGHT = 12 * 1024 * 1024
#: Chunks asked for in one go.
GROUP = 2 * 1024 * 1024


class Fetched(NamedTuple):
    """A version's head and its manifest, with all chunks named."""

    version: Version
    manifest: Manifest


class Downloader:
    """Fetches heads, manifests and contents.

    :param runner: threads for hashing, unpacking and writing.
    """

    def __init__(self, gateway: Gateway, owner: bytes, runner: IBlockingRunner) -> None:
        self._gateway = gateway
        self._owner = owner
        self._runner = runner
        self._budget = ByteBudget(IN_FLIGHT)

    async def manifest(self, wanted: PathVersion) -> Fetched:
        """The head and manifest of one version that the log names.

        :raises peerstore.errors.Incomplete: when no node that answered has
            it, and some did not answer.
        :raises peerstore.errors.NotFound: when all answered and none has it.
        """
        read = await self._gateway.get_heads(wanted.resource, self._owner, (wanted.version,))
        for item in read.items:
            if item.key.element == wanted.version:
                version = decode_head(item)
                manifest = decode_manifest(item.data)
                if manifest.pieces:
                    async with aclosing(self._chunks(manifest.pieces)) as opened:
                        parts = [part async for part in opened]
                    manifest = decode_chunks(manifest, parts)
                return Fetched(version, manifest)
        name = f"{wanted.name.folder}/{show(wanted.name.path)}"
        if read.complete:
            raise NotFound(f"{name}: the log names a version that no node has.", "Another version may be restored.")
        raise Incomplete(
            f"{name}: too few nodes answered to find it.", "Start the nodes that are down, then try again."
        )

    async def content(
        self,
        manifest: Manifest,
        write: Callable[[bytes], Any],
        progress: Callable[[int], None],
        done: int = 0,
        whole: Any = None,
    ) -> None:
        """Pass a file's bytes on, in order, to a blocking *write*.

        :param done: so many chunks are there already, and *whole* is the
            SHA-256 of their content.
        :raises peerstore.errors.CorruptData: when the whole is not what was
            stored, although each part was.
        """
        whole = whole if done else hashlib.sha256()
        if not manifest.chunks:
            whole.update(manifest.inline)
            if manifest.inline:
                await in_thread(self._runner, write, manifest.inline)
            progress(len(manifest.inline))
        # Closed at once when writing fails: what it holds is of the common budget.
        async with aclosing(self._chunks(manifest.chunks[done:])) as opened:
            async for plain in opened:
                await in_thread(self._runner, _write_hashed, write, whole, plain)
                progress(len(plain))
        if whole.digest() != manifest.sha256:
            raise CorruptData("A file's content is not what was stored.", "Try again; another copy will be asked.")

    def _let_go(self, _: None, size: int) -> None:
        self._budget.give_back(size)

    async def _chunks(self, refs: tuple[ChunkRef, ...]) -> AsyncGenerator[bytes, None]:
        """Opened chunks in order, some groups ahead of the reader."""
        groups = _grouped(refs)
        ahead: list[tuple[list[ChunkRef], int, Deferred[dict[bytes, Any]]]] = []
        try:
            while groups or ahead:
                while groups and len(ahead) < 3:
                    group = groups.pop(0)
                    size = sum(ref.length for ref in group)
                    turn = self._budget.take(size)
                    if ahead and not turn.called:
                        # Never wait for room while holding some: others would
                        # do the same, and all would wait for ever.
                        turn.addCallback(self._let_go, size)
                        groups.insert(0, group)
                        break
                    await turn
                    ahead.append((group, size, self._gateway.get_chunks([ref.hash for ref in group])))
                group, size, coming = ahead[0]
                found = await coming
                for ref in group:
                    item = found.get(ref.hash)
                    if item is None:
                        raise Incomplete(
                            "A part of a file could not be fetched from any node that answers.",
                            "Start the nodes that are down, then try again.",
                        )
                    plain: bytes = await self._runner.run(open_chunk, item.data, ref.hash, ref.key, ref.length)
                    yield plain
                self._budget.give_back(size)
                ahead.pop(0)
        finally:
            for _, size, coming in ahead:
                coming.addErrback(lambda _: None)
                coming.cancel()
                self._budget.give_back(size)


def _grouped(refs: tuple[ChunkRef, ...]) -> list[list[ChunkRef]]:
    groups: list[list[ChunkRef]] = []
    size = GROUP
    for ref in refs:
        if size + ref.length > GROUP:
            groups.append([])
            size = 0
        groups[-1].append(ref)
        size += ref.length
    return groups


def _write_hashed(write: Callable[[bytes], Any], whole: Any, plain: bytes) -> None:
    whole.update(plain)
    view = memoryview(plain)
    while view:
        view = view[write(view) or len(view) :]  # type: ignore[arg-type]
