"""From a local path to chunks that are certain, and a manifest of them."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from peerstore.client.budget import ByteBudget
from peerstore.client.source import Found, folder_of, look, open_file, show
from peerstore.client.state import ClientState
from peerstore.errors import Incomplete, StorageError
from peerstore.files.chunk import SealedChunk, chunk_item, seal_chunk
from peerstore.files.chunker import Chunker
from peerstore.files.manifest import INLINE, ChunkRef, Manifest, NodeKind, encode_manifest
from peerstore.gateway.gateway import Gateway
from peerstore.gateway.results import Outcome
from peerstore.interfaces import IBlockingRunner

__all__ = ["ChangedWhileRead", "Uploaded", "Uploader", "check_outcomes"]

#: Sealed bytes held at a time, over all files.
IN_FLIGHT = 8 * 1024 * 1024
#: Chunks gathered before asking which of them the ring has.
GROUP = 2 * 1024 * 1024
ATTEMPTS = 3


class ChangedWhileRead(StorageError):
    """A file did not hold still long enough to be read whole."""


class Uploaded(NamedTuple):
    """Content that is certain: the manifest, its blob for the head, bytes
    that were really sent, and what was on the disk when it was read."""

    manifest: Manifest
    blob: bytes
    sent: int
    found: Found


def check_outcomes(outcomes: list[Outcome]) -> None:
    """Refuse to go on unless everything is certain.

    :raises peerstore.errors.Incomplete: saying how far it came.
    """
    for outcome in outcomes:
        if not outcome.certain:
            have, need = len(outcome.holders), outcome.needed
            why = f" {outcome.why}" if outcome.why else ""
            raise Incomplete(
                f"Only {have} of the {need} copies that make it safe could be stored.{why}",
                "Check that the nodes run and have room, then run this again: it goes on from here.",
            )


class Uploader:
    """Cuts, seals and posts contents.

    :param runner: threads for reading and sealing.
    :param database: the one thread that the state is used in.
    """

    def __init__(
        self,
        gateway: Gateway,
        owner: bytes,
        seed: int,
        state: ClientState,
        runner: IBlockingRunner,
        database: IBlockingRunner,
        clock: Callable[[], int],
    ) -> None:
        self._gateway = gateway
        self._owner = owner
        self._chunker = Chunker(seed)
        self._state = state
        self._runner = runner
        self._database = database
        self._clock = clock
        self._budget = ByteBudget(IN_FLIGHT)

    async def upload(self, root: bytes, found: Found, progress: Callable[[int], None]) -> Uploaded:
        """Store what lies at a path now.

        :param progress: told the plain bytes that are done, as they are.
        :raises ChangedWhileRead: after three attempts.
        :raises peerstore.errors.PeerStoreError: when it is gone, cannot be
            read, or the ring does not take it.
        """
        if found.kind == NodeKind.FOLDER:
            manifest = Manifest(NodeKind.FOLDER, 0, found.mtime_ns, found.mode, b"", b"", ())
            return await self._finish(manifest, 0, found)
        if found.kind == NodeKind.SYMLINK:
            text = await self._runner.run(_read_link, root, found.path)
            digest = hashlib.sha256(text).digest()
            manifest = Manifest(NodeKind.SYMLINK, len(text), found.mtime_ns, found.mode, digest, text, ())
            return await self._finish(manifest, 0, found)
        counted = 0
        for _attempt in range(ATTEMPTS):
            before: Found | None = await self._runner.run(look, root, found.path)
            if before is None or before.kind != NodeKind.FILE:
                raise ChangedWhileRead(f"{show(found.path)} went away while it was read.")
            stream: IO[bytes] = await self._runner.run(_open_file, root, found.path)
            try:
                counted = 0

                def count(number: int) -> None:
                    nonlocal counted
                    counted += number
                    progress(number)

                content, sent = await self._content(stream, before, count)
            finally:
                await self._runner.run(stream.close)
            after: Found | None = await self._runner.run(look, root, found.path)
            if after == before and content.size == before.size:
                return await self._finish(content, sent, before)
            progress(-counted)
        raise ChangedWhileRead(
            f"{show(found.path)} kept changing while it was read, and is not stored.",
            "Run this again when it is quiet.",
        )

    async def upload_stream(self, stream: Any, mode: int, mtime_ns: int, progress: Callable[[int], None]) -> Uploaded:
        """Store what a blocking stream gives until its end."""
        found = Found(b"", NodeKind.FILE, 0, mtime_ns, 0, 0, mode)
        manifest, sent = await self._content(stream, found, progress)
        return await self._finish(manifest, sent, found._replace(size=manifest.size))

    async def store(self, manifest: Manifest) -> Uploaded:
        """Make what a manifest itself needs certain; its chunks are."""
        found = Found(b"", manifest.kind, manifest.size, manifest.mtime_ns, 0, 0, manifest.mode)
        return await self._finish(manifest, 0, found)

    # -- inside ----------------------------------------------------------------

    async def _content(self, stream: Any, found: Found, progress: Callable[[int], None]) -> tuple[Manifest, int]:
        start: bytes = await self._runner.run(_read_fully, stream, INLINE + 1)
        whole = hashlib.sha256()
        if len(start) <= INLINE:
            whole.update(start)
            progress(len(start))
            digest = whole.digest()
            return Manifest(NodeKind.FILE, len(start), found.mtime_ns, found.mode, digest, start, ()), 0
        pieces = self._pieces(_Joined(start, stream), whole)
        refs: list[ChunkRef] = []
        posting: list[Deferred[int]] = []
        group: list[SealedChunk] = []
        held = size = 0
        try:
            while True:
                piece: SealedChunk | None = await self._runner.run(next, pieces, None)
                if piece is not None:
                    refs.append(ChunkRef(piece.hash, piece.key, piece.length))
                    group.append(piece)
                    held += len(piece.data)
                    size += piece.length
                if group and (piece is None or held >= GROUP):
                    await self._budget.take(held)
                    posting.append(Deferred.fromCoroutine(self._post(group, held, progress)))
                    group, held = [], 0
                if piece is None:
                    break
        finally:
            results = await DeferredList(posting, consumeErrors=True)
        sent = sum(_value(result) for _, result in results)
        return Manifest(NodeKind.FILE, size, found.mtime_ns, found.mode, whole.digest(), b"", tuple(refs)), sent

    def _pieces(self, stream: Any, whole: Any) -> Iterator[SealedChunk]:
        for plain in self._chunker.split(stream):
            whole.update(plain)
            yield seal_chunk(plain)

    async def _post(self, group: list[SealedChunk], held: int, progress: Callable[[int], None]) -> int:
        """Make a group certain; bytes that were sent for it."""
        try:
            known: set[bytes] = await self._database.run(self._state.known_chunks, [piece.hash for piece in group])
            there: frozenset[bytes] = frozenset()
            if known:
                there = await self._gateway.have_chunks(self._owner, sorted(known))
            wanted = list({piece.hash: piece for piece in group if piece.hash not in there}.values())
            if wanted:
                clock = self._clock()
                outcomes = await self._gateway.put_chunks([chunk_item(self._owner, piece, clock) for piece in wanted])
                check_outcomes(outcomes)
                await self._database.run(self._state.add_chunks, [piece.hash for piece in wanted])
            progress(sum(piece.length for piece in group))
            return sum(len(piece.data) for piece in wanted)
        finally:
            self._budget.give_back(held)

    async def _finish(self, manifest: Manifest, sent: int, found: Found) -> Uploaded:
        blob, extra = await self._runner.run(encode_manifest, manifest)
        if extra:
            held = sum(len(piece.data) for piece in extra)
            await self._budget.take(held)
            sent += await self._post(extra, held, lambda _: None)
        return Uploaded(manifest, blob, sent, found)


class _Joined(io.RawIOBase):
    """Bytes that were read already, and then the rest of the stream."""

    def __init__(self, start: bytes, rest: Any) -> None:
        self._start = start
        self._rest = rest

    def read(self, size: int = -1) -> bytes:
        if self._start:
            piece, self._start = self._start[:size], self._start[size:]
            return piece
        data: bytes = self._rest.read(size)
        return data


def _value(result: Any) -> int:
    """What a post gave, or the error it failed with."""
    if isinstance(result, Failure):
        result.raiseException()
    count: int = result
    return count


def _read_fully(stream: Any, size: int) -> bytes:
    pieces = bytearray()
    while len(pieces) < size:
        piece = stream.read(size - len(pieces))
        if not piece:
            break
        pieces += piece
    return bytes(pieces)


def _open_file(root: bytes, path: bytes) -> IO[bytes]:
    try:
        return os.fdopen(open_file(root, path), "rb", buffering=0)
    except OSError as error:
        raise StorageError(f"{show(path)}: not read ({error.strerror}).", "Check its permissions.") from error


def _read_link(root: bytes, path: bytes) -> bytes:
    try:
        with folder_of(root, path) as (folder, last):
            return os.readlink(last, dir_fd=folder)
    except OSError as error:
        raise StorageError(f"{show(path)}: not read ({error.strerror}).") from error
