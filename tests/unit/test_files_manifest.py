"""Manifests: every kind of path, large ones in pieces, and strictness."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import BadMessage
from peerstore.files.chunk import open_chunk
from peerstore.files.chunker import MAXIMUM
from peerstore.files.manifest import (
    INLINE,
    MAX_BLOB,
    ChunkRef,
    Manifest,
    NodeKind,
    decode_chunks,
    decode_manifest,
    encode_manifest,
)
from tests.support.properties import check
from tests.support.streams import noise

MOST = (1 << 63) - 1
HASH = b"\x07" * 32
FOLDER = Manifest(NodeKind.FOLDER, 0, 5, 0o755, b"", b"", ())
SYMLINK = Manifest(NodeKind.SYMLINK, 4, 5, 0o777, HASH, b"a/\xffb", ())
SMALL = Manifest(NodeKind.FILE, 3, 5, 0o644, HASH, b"abc", ())
EMPTY = Manifest(NodeKind.FILE, 0, 5, 0o644, HASH, b"", ())
LARGE = Manifest(
    NodeKind.FILE, 7, -5, 0o4755, HASH, b"", (ChunkRef(b"\x01" * 32, b"", 3), ChunkRef(b"\x02" * 32, bytes(32), 4))
)
#: Enough chunks for a list of three pieces.
MANY = 60_000


def of_chunks(count: int) -> Manifest:
    """A file of so many chunks of a byte each; another hash for each."""
    hashes = noise("hashes", 32 * count)
    refs = tuple(ChunkRef(hashes[32 * at : 32 * at + 32], b"", 1) for at in range(count))
    return Manifest(NodeKind.FILE, count, 0, 0o644, HASH, b"", refs)


def packed(manifest: Manifest) -> bytes:
    """The bytes of a manifest, whatever it says."""
    return msgspec.msgpack.encode(manifest)


def changed(manifest: Manifest, **fields: Any) -> bytes:
    """The same with some fields others."""
    return packed(msgspec.structs.replace(manifest, **fields))


def bad_manifests() -> Iterator[tuple[str, bytes]]:
    """What no manifest says, one thing at a time."""
    for mode in (-1, 0o10000, 1 << 40):
        yield f"mode {mode}", changed(SMALL, mode=mode)
    for size in (-1, 2, 4, MOST + 1, (1 << 64) - 1):
        yield f"size {size}", changed(SMALL, size=size)
        yield f"size {size} in chunks", changed(LARGE, size=size)
    for time in (MOST + 1, (1 << 64) - 1):
        yield f"mtime {time}", changed(SMALL, mtime_ns=time)
    for digest in (b"", b"x" * 31, b"x" * 33):
        yield f"sha256 {digest!r}", changed(SMALL, sha256=digest)
    yield "inline and chunks", changed(LARGE, size=10, inline=b"abc")
    yield "inline too long", changed(SMALL, size=INLINE + 1, inline=bytes(INLINE + 1))
    for ref in (
        ChunkRef(b"x" * 31, b"", 7),
        ChunkRef(b"x" * 33, b"", 7),
        ChunkRef(b"", b"", 7),
        ChunkRef(HASH, b"x", 7),
        ChunkRef(HASH, b"x" * 33, 7),
    ):
        yield f"chunk {ref}", changed(LARGE, chunks=(ref,))
        yield f"piece {ref}", changed(LARGE, chunks=(), pieces=(ref,))
    for length in (0, -7, MAXIMUM + 1):
        ref = ChunkRef(HASH, b"", length)
        yield f"chunk of {length}", changed(LARGE, size=max(0, length), chunks=(ref,))
        yield f"piece of {length}", changed(LARGE, chunks=(), pieces=(ref,))
    piece = (ChunkRef(HASH, b"", 100),)
    yield "chunks and pieces", changed(LARGE, pieces=piece)
    yield "inline and pieces", changed(SMALL, pieces=piece)


def bad_kinds() -> Iterator[tuple[str, bytes]]:
    """What a folder or a link does not have."""
    ref = (ChunkRef(HASH, b"", 4),)
    yield "folder with a size", changed(FOLDER, size=1)
    yield "folder with a hash", changed(FOLDER, sha256=HASH)
    yield "folder with inline content", changed(FOLDER, size=1, inline=b"x")
    yield "folder with chunks", changed(FOLDER, size=4, chunks=ref)
    yield "folder with pieces", changed(FOLDER, pieces=ref)
    yield "link without text", changed(SYMLINK, size=0, inline=b"")
    yield "link with a NUL", changed(SYMLINK, inline=b"a\0bc")
    yield "link in chunks", changed(SYMLINK, inline=b"", chunks=ref)
    yield "link in pieces", changed(SYMLINK, inline=b"", pieces=ref)
    yield "link without a hash", changed(SYMLINK, sha256=b"")
    for kind in (0, 4, 255, -1):
        fields = msgspec.msgpack.decode(packed(SMALL))
        yield f"kind {kind}", msgspec.msgpack.encode([kind, *fields[1:]])


class RoundTripTests(SynchronousTestCase):
    """What is written is read."""

    def test_every_kind(self) -> None:
        """Folder, link, empty, inline, in chunks: no chunks of their own."""
        for manifest in (FOLDER, SYMLINK, EMPTY, SMALL, LARGE):
            blob, extra = encode_manifest(manifest)
            self.assertEqual(decode_manifest(blob), manifest)
            self.assertEqual(extra, [])

    def test_the_limits_themselves_are_inside(self) -> None:
        """64 KiB inline, any mode, the first and the last moment."""
        for manifest in (
            msgspec.structs.replace(SMALL, size=INLINE, inline=bytes(INLINE)),
            msgspec.structs.replace(SMALL, mode=0o7777, mtime_ns=MOST),
            msgspec.structs.replace(SMALL, mode=0, mtime_ns=-(1 << 63)),
            msgspec.structs.replace(LARGE, size=MAXIMUM, chunks=(ChunkRef(HASH, b"", MAXIMUM),)),
        ):
            self.assertEqual(decode_manifest(encode_manifest(manifest)[0]), manifest)

    @check(
        st.lists(st.tuples(st.binary(min_size=32, max_size=32), st.integers(1, MAXIMUM)), min_size=1, max_size=5),
        st.integers(-(1 << 63), MOST),
        st.integers(0, 0o7777),
    )
    def test_any_file(self, refs: list[tuple[bytes, int]], mtime: int, mode: int) -> None:
        """Sizes add up, times and modes come back."""
        chunks = tuple(ChunkRef(digest, b"", length) for digest, length in refs)
        size = sum(ref.length for ref in chunks)
        manifest = Manifest(NodeKind.FILE, size, mtime, mode, HASH, b"", chunks)
        self.assertEqual(decode_manifest(encode_manifest(manifest)[0]), manifest)


class PiecesTests(SynchronousTestCase):
    """A manifest of thousands of chunks is chunked itself."""

    def setUp(self) -> None:
        self.manifest = of_chunks(MANY)
        self.blob, self.extra = encode_manifest(self.manifest)

    def opened(self) -> list[bytes]:
        """The pieces as a reader gets them."""
        refs = decode_manifest(self.blob).pieces
        return [
            open_chunk(chunk.data, ref.hash, ref.key, ref.length) for chunk, ref in zip(self.extra, refs, strict=True)
        ]

    def test_the_blob_is_small_and_names_them(self) -> None:
        """Everything but the list itself stays in it."""
        small = decode_manifest(self.blob)
        self.assertLess(len(self.blob), 1000)
        self.assertEqual(small.chunks, ())
        self.assertEqual([ref.hash for ref in small.pieces], [chunk.hash for chunk in self.extra])
        self.assertEqual(msgspec.structs.replace(small, pieces=(), chunks=self.manifest.chunks), self.manifest)

    def test_the_pieces_make_it_whole(self) -> None:
        """In order, opened, they are the list."""
        self.assertEqual(len(self.extra), 3)
        self.assertEqual(decode_chunks(decode_manifest(self.blob), self.opened()), self.manifest)

    def test_pieces_in_another_order_or_number(self) -> None:
        """Swapped, missing, doubled, of another length, cut elsewhere."""
        small, parts = decode_manifest(self.blob), self.opened()
        elsewhere = [parts[0][:-1], parts[0][-1:] + parts[1], *parts[2:]]
        self.assertRaises(BadMessage, decode_chunks, small, elsewhere)
        for wrong in (parts[::-1], parts[:-1], [*parts, parts[0]], [], [parts[0], parts[1][:-1]]):
            self.assertRaises(BadMessage, decode_chunks, small, wrong)

    def test_a_list_that_does_not_add_up(self) -> None:
        """The size is judged once the list is whole."""
        small = msgspec.structs.replace(decode_manifest(self.blob), size=MANY + 1)
        self.assertRaises(BadMessage, decode_chunks, small, self.opened())

    def test_a_list_that_is_none(self) -> None:
        """Garbage of the right length, and chunks that cannot be."""
        for listing in (
            b"\xc1" * 40,
            msgspec.msgpack.encode([[HASH, b"", 0]]),
            msgspec.msgpack.encode([[b"", b"", 1]]),
        ):
            small = Manifest(NodeKind.FILE, 1, 0, 0, HASH, b"", (), (ChunkRef(HASH, b"", len(listing)),))
            self.assertRaises(BadMessage, decode_chunks, small, [listing])

    def test_where_the_limit_is(self) -> None:
        """1 MiB still fits into a blob; the first that does not is in pieces."""
        one = 38
        rest = len(packed(of_chunks(30_000))) - 30_000 * one
        fits = (MAX_BLOB - rest) // one
        blob, extra = encode_manifest(of_chunks(fits))
        self.assertEqual((len(blob) <= MAX_BLOB, extra), (True, []))
        self.assertGreater(len(blob), MAX_BLOB - one)
        blob, extra = encode_manifest(of_chunks(fits + 1))
        self.assertGreater(len(extra), 0)
        self.assertEqual(decode_manifest(blob).size, fits + 1)


class RefusalTests(SynchronousTestCase):
    """What does not fit."""

    def test_fields_out_of_range(self) -> None:
        """Each alone is enough."""
        for what, blob in bad_manifests():
            with self.assertRaises(BadMessage, msg=what):
                decode_manifest(blob)

    def test_kinds_have_what_they_have(self) -> None:
        """A folder no content, a link a text, nothing an unknown kind."""
        for what, blob in bad_kinds():
            with self.assertRaises(BadMessage, msg=what):
                decode_manifest(blob)

    def test_a_blob_over_the_limit(self) -> None:
        """Judged before it is read."""
        with self.assertRaises(BadMessage) as caught:
            decode_manifest(bytes(MAX_BLOB + 1))
        self.assertIn("larger", str(caught.exception))

    def test_counts_that_promise_billions(self) -> None:
        """An array that says it has 2**32 - 1 chunks takes no memory."""
        blob = packed(LARGE)
        head, tail = blob[: blob.index(b"\x92\x93")], blob[blob.index(b"\x92\x93") + 1 :]
        tracemalloc.start()
        try:
            self.assertRaises(BadMessage, decode_manifest, head + b"\xdd\xff\xff\xff\xff" + tail)
            self.assertRaises(BadMessage, decode_manifest, head + b"\xdc\xff\xff" + tail)
            self.assertLess(tracemalloc.get_traced_memory()[1], 100_000)
        finally:
            tracemalloc.stop()

    def test_every_cut_and_more(self) -> None:
        """No prefix is a manifest, and nothing may follow it."""
        blob = packed(LARGE)
        for end in range(len(blob)):
            self.assertRaises(BadMessage, decode_manifest, blob[:end])
        self.assertRaises(BadMessage, decode_manifest, blob + b"\0")

    def test_only_the_shortest_form(self) -> None:
        """A field left out, or packed at greater length."""
        blob = packed(SMALL)
        self.assertEqual(blob[:2], b"\x98\x01")
        self.assertRaises(BadMessage, decode_manifest, b"\x97" + blob[1:-1])
        self.assertRaises(BadMessage, decode_manifest, b"\xdc\x00\x08" + blob[1:])
        self.assertRaises(BadMessage, decode_manifest, b"\x98\xcc\x01" + blob[2:])

    @check(st.binary(max_size=60))
    def test_garbage(self, raw: bytes) -> None:
        """It is refused, or it is what encodes to the same bytes."""
        try:
            manifest = decode_manifest(raw)
        except BadMessage:
            return
        self.assertEqual(encode_manifest(manifest)[0], raw)

    def test_a_manifests_hash_names_it(self) -> None:
        """Two that differ in anything differ in bytes."""
        blobs = {hashlib.sha256(packed(one)).digest() for one in (FOLDER, SYMLINK, EMPTY, SMALL, LARGE)}
        self.assertEqual(len(blobs), 5)
