"""From a local path to chunks that are certain, and a manifest of them."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, NamedTuple

from twisted.internet.defer import Deferred

from peerstore.client.budget import ByteBudget
from peerstore.client.crew import Crew, in_thread
from peerstore.client.source import ChangedMeanwhile, Found, folder_of, look, open_file, show
from peerstore.client.state import ClientState
from peerstore.errors import Incomplete, PeerStoreError, StorageError
from peerstore.files.chunk import SealedChunk, chunk_item, seal_chunk
from peerstore.files.chunker import Chunker
from peerstore.files.manifest import INLINE, ChunkRef, Manifest, NodeKind, encode_manifest
from peerstore.gateway.gateway import Gateway
from peerstore.gateway.results import Outcome
from peerstore.interfaces import IBlockingRunner
from peerstore.wire.messages import Status

__all__ = ["ChangedWhileRead", "PATIENT", "Uploaded", "Uploader", "Vanished", "check_outcomes"]

#: Sealed bytes held at a time, over all files.
IN_FLIGHT = 8 * 1024 * 1024
#: Chunks gathered before asking which of them the ring has.
GROUP = 2 * 1024 * 1024
#: The same in plain bytes: zeros get small, and people want to see progress.
PLAIN_GROUP = 32 * 1024 * 1024
#: Groups of one file that may be on their way; the budget bounds their bytes.
GROUPS = 8
#: Pauses (s) that give a file time to be written to its end.
PATIENT = (0.5, 2.0)


class ChangedWhileRead(ChangedMeanwhile):
    """A file did not hold still long enough to be read whole."""


class Vanished(ChangedWhileRead):
    """A file is not there any more."""


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
            why = f" {outcome.why}" if outcome.why and outcome.status != Status.OK else ""
            if outcome.status == Status.REJECTED:
                raise Incomplete(
                    f"The nodes do not take what this program sends.{why}",
                    "Make sure that the nodes and this program are of one version; then run this again.",
                )
            raise Incomplete(
                f"Only {have} of the {need} copies that make it safe could be stored.{why}",
                "Check that the nodes run and have room, then run this again: it goes on from here.",
            )


class Uploader:
    """Cuts, seals and posts contents.

    :param runner: threads for reading and sealing.
    :param database: the one thread that the state is used in.
    :param clock: gives the Lamport time of a post.
    :param pause: a Deferred that fires so many seconds later.
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
        pause: Callable[[float], Deferred[None]],
    ) -> None:
        self._gateway = gateway
        self._owner = owner
        self._chunker = Chunker(seed)
        self._state = state
        self._runner = runner
        self._database = database
        self._clock = clock
        self._pause = pause
        self._budget = ByteBudget(IN_FLIGHT)

    async def upload(
        self, root: bytes, found: Found, progress: Callable[[int], None], pauses: Sequence[float] = ()
    ) -> Uploaded:
        """Store what lies at a path now.

        :param progress: told the plain bytes that are done, as they are.
        :param pauses: seconds before each further attempt at a file that
            changed while it was read.
        :raises ChangedWhileRead: after the last attempt.
        :raises peerstore.errors.PeerStoreError: when it is gone, cannot be
            read, or the ring does not take it.
        """
        if found.kind == NodeKind.FOLDER:
            manifest = Manifest(NodeKind.FOLDER, 0, found.mtime_ns, found.mode, b"", b"", ())
            return await self._finish(manifest, 0, found)
        if found.kind == NodeKind.SYMLINK:
            text = await self._runner.run(_read_link, root, found.path)
            progress(found.size)
            digest = hashlib.sha256(text).digest()
            manifest = Manifest(NodeKind.SYMLINK, len(text), found.mtime_ns, found.mode, digest, text, ())
            return await self._finish(manifest, 0, found)
        for pause in (0.0, *pauses):
            if pause:
                await self._pause(pause)
            uploaded = await self._attempt(root, found.path, progress)
            if uploaded is not None:
                return uploaded
        raise ChangedWhileRead(
            f"{show(found.path)}: it kept changing while it was read, and is not stored.",
            "Run this again when it is quiet.",
        )

    async def upload_stream(
        self,
        stream: Any,
        mode: int,
        mtime_ns: int,
        progress: Callable[[int], None],
        give_up: Callable[[], None] | None = None,
    ) -> Uploaded:
        """Store what a blocking stream gives until its end.

        :param give_up: makes a read that waits return; called when cancelled.
        """
        found = Found(b"", NodeKind.FILE, 0, mtime_ns, 0, 0, mode)
        manifest, sent = await self._content(stream, found, progress, give_up)
        return await self._finish(manifest, sent, found._replace(size=manifest.size))

    async def store(self, manifest: Manifest) -> Uploaded:
        """Make what a manifest itself needs certain; its chunks are."""
        found = Found(b"", manifest.kind, manifest.size, manifest.mtime_ns, 0, 0, manifest.mode)
        return await self._finish(manifest, 0, found)

    # -- inside ----------------------------------------------------------------

    async def _attempt(self, root: bytes, path: bytes, progress: Callable[[int], None]) -> Uploaded | None:
        """Store a file as it is; None when it did not hold still."""
        before: Found | None = await self._runner.run(look, root, path)
        if before is None or before.kind != NodeKind.FILE:
            raise Vanished(f"{show(path)}: it went away before it was read.")
        counted = 0

        def count(number: int) -> None:
            nonlocal counted
            counted += number
            progress(number)

        stream: IO[bytes] = await in_thread(self._runner, _open_file, root, path)
        try:
            content, sent = await self._content(stream, before, count)
        except OSError as error:
            raise _unread(path, error) from error
        finally:
            stream.close()
        after: Found | None = await self._runner.run(look, root, path)
        if after == before and content.size == before.size:
            return await self._finish(content, sent, before)
        progress(-counted)
        return None

    async def _content(
        self, stream: Any, found: Found, progress: Callable[[int], None], give_up: Callable[[], None] | None = None
    ) -> tuple[Manifest, int]:
        start: bytes = await in_thread(self._runner, _read_fully, stream, INLINE + 1, give_up=give_up)
        whole = hashlib.sha256()
        if len(start) <= INLINE:
            whole.update(start)
            progress(len(start))
            digest = whole.digest()
            return Manifest(NodeKind.FILE, len(start), found.mtime_ns, found.mode, digest, start, ()), 0
        pieces = self._pieces(_Joined(start, stream), whole)
        refs: list[ChunkRef] = []
        group: list[SealedChunk] = []
        held = covers = size = sent = 0
        # A file of zeros is one chunk, many times: nobody is asked about it twice.
        settled: set[bytes] = set()

        async def post(group: list[SealedChunk], held: int) -> None:
            nonlocal sent
            # Others post meanwhile: the sum is read only once there is something to add.
            cost = await self._post([piece for piece in group if piece.hash not in settled], held)
            sent += cost
            settled.update(piece.hash for piece in group)
            progress(sum(piece.length for piece in group))

        async with Crew(GROUPS) as posting:
            while True:
                piece: SealedChunk | None = await in_thread(self._runner, next, pieces, None, give_up=give_up)
                if piece is not None:
                    refs.append(ChunkRef(piece.hash, piece.key, piece.length))
                    group.append(piece)
                    held += len(piece.data)
                    covers += piece.length
                    size += piece.length
                if group and (piece is None or held >= GROUP or covers >= PLAIN_GROUP):
                    await self._budget.take(held)
                    try:
                        await posting.start(1, post, group, held)
                    except BaseException:
                        self._budget.give_back(held)
                        raise
                    group, held, covers = [], 0, 0
                if piece is None:
                    break
        return Manifest(NodeKind.FILE, size, found.mtime_ns, found.mode, whole.digest(), b"", tuple(refs)), sent

    def _pieces(self, stream: Any, whole: Any) -> Iterator[SealedChunk]:
        for plain in self._chunker.split(stream):
            whole.update(plain)
            yield seal_chunk(plain)

    async def _post(self, group: Sequence[SealedChunk], held: int) -> int:
        """Make a group certain, and give *held* bytes of the budget back; how
        many bytes were sent for it."""
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
            return sum(len(piece.data) for piece in wanted)
        finally:
            self._budget.give_back(held)

    async def _finish(self, manifest: Manifest, sent: int, found: Found) -> Uploaded:
        blob, extra = await self._runner.run(encode_manifest, manifest)
        if extra:
            held = sum(len(piece.data) for piece in extra)
            await self._budget.take(held)
            sent += await self._post(extra, held)
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
    except FileNotFoundError:
        raise Vanished(f"{show(path)}: it went away before it was read.") from None
    except OSError as error:
        raise _unread(path, error) from error


def _read_link(root: bytes, path: bytes) -> bytes:
    try:
        with folder_of(root, path) as (folder, last):
            return os.readlink(last, dir_fd=folder)
    except FileNotFoundError:
        raise Vanished(f"{show(path)}: it went away before it was read.") from None
    except OSError as error:
        raise _unread(path, error) from error


def _unread(path: bytes, error: OSError) -> PeerStoreError:
    return StorageError(f"{show(path)}: not read ({error.strerror or error}).", "Check its permissions and its disk.")
