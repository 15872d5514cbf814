"""Chunks: packed, padded, named by their hash, and what is refused."""

from __future__ import annotations

import hashlib
import struct
import tracemalloc
from typing import Any

import msgspec
import zstandard
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.crypto.statements import StatementType, pack_statement
from peerstore.errors import BadMessage, CorruptData
from peerstore.files.chunk import (
    MAX_SEALED,
    STEP,
    Claim,
    SealedChunk,
    chunk_item,
    chunk_key,
    open_chunk,
    seal_chunk,
    verify_chunk,
)
from peerstore.files.chunker import MAXIMUM
from peerstore.items import Item, ItemKey, Kind
from tests.support.properties import check
from tests.support.streams import noise

OWNER = b"\x0a" * 20
RAW, ZSTD = 0, 1


def opened(chunk: SealedChunk) -> bytes:
    """A chunk with the hash, key and length that its manifest would have."""
    return open_chunk(chunk.data, chunk.hash, chunk.key, chunk.length)


def packed(length: int, flag: int, content: bytes, size: int | None = None, padding: bytes = b"") -> SealedChunk:
    """A chunk with a sound hash and a packing that says what it likes."""
    data = struct.pack(">IB", length, flag) + content + padding
    data += bytes((-len(data) % STEP) if size is None else size - len(data))
    return SealedChunk(hashlib.sha256(data).digest(), b"", length, data)


class RoundTripTests(SynchronousTestCase):
    """What is sealed opens."""

    @check(st.binary(max_size=300), st.integers(0, 40))
    def test_any_content(self, content: bytes, times: int) -> None:
        """Short and long, repeated (compressible) and not."""
        plain = content * times
        chunk = seal_chunk(plain)
        self.assertEqual(opened(chunk), plain)
        self.assertEqual(chunk.length, len(plain))

    def test_the_largest(self) -> None:
        """4 MiB that do not compress, and 4 MiB that do; a byte more is refused."""
        for plain in (noise("large", MAXIMUM), bytes(MAXIMUM)):
            chunk = seal_chunk(plain)
            self.assertLessEqual(len(chunk.data), MAX_SEALED)
            self.assertEqual(opened(chunk), plain)
        self.assertRaises(ValueError, seal_chunk, bytes(MAXIMUM + 1))

    def test_equal_contents_are_one_chunk(self) -> None:
        """The id follows from the content alone."""
        self.assertEqual(seal_chunk(b"same" * 100), seal_chunk(b"same" * 100))
        self.assertNotEqual(seal_chunk(b"same").hash, seal_chunk(b"Same").hash)

    def test_the_hash_is_that_of_what_is_stored(self) -> None:
        """SHA-256, and its first 20 bytes are the place on the ring."""
        chunk = seal_chunk(b"content")
        self.assertEqual(chunk.hash, hashlib.sha256(chunk.data).digest())
        self.assertEqual(chunk_key(OWNER, chunk.hash), ItemKey(chunk.hash[:20], OWNER, Kind.CHUNK, chunk.hash))


class PackingTests(SynchronousTestCase):
    """How long what is stored is, and what that tells."""

    def test_sizes_are_whole_steps(self) -> None:
        """Whatever the content's size: from 0 bytes up to the step and over."""
        for size in (0, 1, 64, 65, STEP - 6, STEP - 5, STEP - 4, STEP, 2 * STEP - 5, 2 * STEP - 4, 100_000):
            chunk = seal_chunk(noise("steps", size))
            self.assertEqual(len(chunk.data), -(-(size + 5) // STEP) * STEP, size)

    def test_the_steps_hide_small_differences(self) -> None:
        """A byte more or less does not show."""
        self.assertEqual(len(seal_chunk(noise("a", 5000)).data), len(seal_chunk(noise("a", 5001)).data))

    def test_what_gets_smaller_is_compressed(self) -> None:
        """Zeros take a step; the flag says zstd."""
        chunk = seal_chunk(bytes(1024 * 1024))
        self.assertEqual((len(chunk.data), chunk.data[4]), (STEP, ZSTD))

    def test_what_does_not_is_kept_as_it_is(self) -> None:
        """Incompressible content, and content too short to try."""
        for plain in (noise("raw", 5000), bytes(64)):
            chunk = seal_chunk(plain)
            self.assertEqual(chunk.data[:5], struct.pack(">IB", len(plain), RAW))
            self.assertEqual(chunk.data[5 : 5 + len(plain)], plain)
            self.assertFalse(any(chunk.data[5 + len(plain) :]))

    def test_zstd_at_any_level_opens(self) -> None:
        """Another version of the library, or of us, may compress otherwise."""
        plain = b"some words again and again. " * 300
        for level in (1, 9, 19):
            for frame in (
                zstandard.ZstdCompressor(level=level).compress(plain),
                zstandard.ZstdCompressor(level=level, write_content_size=False, write_checksum=True).compress(plain),
            ):
                self.assertEqual(opened(packed(len(plain), ZSTD, frame)), plain)


class DamageTests(SynchronousTestCase):
    """Bytes that are not those that were stored."""

    def setUp(self) -> None:
        self.chunk = seal_chunk(noise("damage", 100))

    def refused(self, data: bytes) -> None:
        """Not opened, and not taken by a node."""
        chunk = self.chunk
        self.assertRaises(CorruptData, open_chunk, data, chunk.hash, chunk.key, chunk.length)
        item = chunk_item(OWNER, chunk, 1)
        self.assertRaises(BadMessage, verify_chunk, Item(item.key, item.statement, data))

    def test_every_flipped_byte(self) -> None:
        """Header, content and padding."""
        for at in range(len(self.chunk.data)):
            data = bytearray(self.chunk.data)
            data[at] ^= 1 << (at % 8)
            self.refused(bytes(data))

    def test_every_cut(self) -> None:
        """Truncated anywhere, to nothing included."""
        for end in range(0, len(self.chunk.data), 37):
            self.refused(self.chunk.data[:end])

    def test_more_than_there_was(self) -> None:
        """A byte, or a step of zeros, at the end."""
        self.refused(self.chunk.data + b"\0")
        self.refused(self.chunk.data + bytes(STEP))

    def test_another_chunk(self) -> None:
        """Sound, and not the one that was asked for."""
        self.refused(seal_chunk(b"another").data)


class MisPackedTests(SynchronousTestCase):
    """Chunks whose hash is right and whose content is not."""

    def refused(self, chunk: SealedChunk, length: int | None = None) -> None:
        """It does not open."""
        length = chunk.length if length is None else length
        self.assertRaises(CorruptData, open_chunk, chunk.data, chunk.hash, chunk.key, length)

    def test_sound_ones_open(self) -> None:
        """The same helper makes chunks that are taken."""
        self.assertEqual(opened(packed(3, RAW, b"abc")), b"abc")

    def test_another_length_than_the_manifests(self) -> None:
        """Longer or shorter than declared there."""
        chunk = seal_chunk(b"abc")
        for length in (0, 2, 4, -1):
            self.refused(chunk, length)

    def test_lengths_that_cannot_be(self) -> None:
        """More than there is, more than there may be."""
        self.refused(packed(STEP, RAW, b"abc"))
        self.refused(packed(MAXIMUM + 1, RAW, b"abc"))
        self.refused(packed(0xFFFFFFFF, ZSTD, zstandard.compress(b"abc")))

    def test_too_short_to_be_one(self) -> None:
        """Not even a header."""
        for data in (b"", b"abcd"):
            self.refused(SealedChunk(hashlib.sha256(data).digest(), b"", 0, data))

    def test_an_unknown_packing(self) -> None:
        """From a newer program: it says so."""
        for flag in (2, 255):
            with self.assertRaises(CorruptData) as caught:
                opened(packed(3, flag, b"abc"))
            self.assertIn("Update", caught.exception.next_step)

    def test_padding_that_is_not_ours(self) -> None:
        """Not whole steps, a step too many, anything but zeros."""
        self.refused(packed(3, RAW, b"abc", size=STEP - 1))
        self.refused(packed(3, RAW, b"abc", size=2 * STEP))
        self.refused(packed(3, RAW, b"abc", padding=b"\0\0x"))
        self.refused(packed(3, RAW, b"abcd"))
        self.refused(packed(3, ZSTD, zstandard.compress(b"abc"), size=STEP + 1))

    def test_zstd_that_is_none(self) -> None:
        """Garbage, half a frame, an empty one, a frame of another length."""
        frame = zstandard.compress(noise("frame", 500))
        self.refused(packed(500, ZSTD, b"garbage"))
        self.refused(packed(6000, ZSTD, zstandard.compress(noise("frame", 6000))[: STEP - 5]))
        self.refused(packed(500, ZSTD, b""))
        self.refused(packed(499, ZSTD, frame))
        self.refused(packed(501, ZSTD, frame))

    def test_a_key_that_nothing_here_opens(self) -> None:
        """A sealed chunk is not shown as if it were plain."""
        chunk = seal_chunk(b"abc")
        self.assertRaises(CorruptData, open_chunk, chunk.data, chunk.hash, bytes(32), chunk.length)


class BombTests(SynchronousTestCase):
    """Little that wants to become much."""

    def peak(self, chunk: SealedChunk) -> int:
        """The memory that refusing a chunk takes."""
        tracemalloc.start()
        try:
            self.assertRaises(CorruptData, opened, chunk)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def test_more_than_declared_is_never_inflated(self) -> None:
        """A gigabyte of zeros that says it is ten bytes."""
        frame = zstandard.ZstdCompressor(level=3).compressobj()
        bomb = b"".join([frame.compress(bytes(1 << 20)) for _ in range(256)] + [frame.flush()])
        self.assertLess(len(bomb), 64 * 1024)
        self.assertLess(self.peak(packed(10, ZSTD, bomb)), 1 << 20)
        self.assertLess(self.peak(packed(MAXIMUM, ZSTD, bomb)), 2 * MAXIMUM + (1 << 20))

    def test_a_window_that_is_too_large_is_refused(self) -> None:
        """A frame may ask for gigabytes before its first byte."""
        parameters = zstandard.ZstdCompressionParameters(window_log=27)
        writer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        frame = writer.compress(b"abc" * 100) + writer.flush()
        self.assertLess(self.peak(packed(300, ZSTD, frame)), 1 << 20)


class ClaimTests(SynchronousTestCase):
    """The owner's word that goes with a chunk."""

    def setUp(self) -> None:
        self.chunk = seal_chunk(b"content")
        self.item = chunk_item(OWNER, self.chunk, 7)

    def claimed(self, **fields: Any) -> Item:
        """The item with another claim."""
        claim = Claim(OWNER, self.chunk.hash, len(self.chunk.data), 7)
        body = msgspec.msgpack.encode(msgspec.structs.replace(claim, **fields))
        return Item(self.item.key, pack_statement(StatementType.CHUNK, body), self.item.data)

    def keyed(self, **fields: Any) -> Item:
        """The item under another name."""
        return Item(msgspec.structs.replace(self.item.key, **fields), self.item.statement, self.item.data)

    def test_a_sound_one(self) -> None:
        """What it says is what was posted."""
        self.assertEqual(verify_chunk(self.item), Claim(OWNER, self.chunk.hash, STEP, 7))
        self.assertEqual(verify_chunk(self.claimed()), verify_chunk(self.item))
        self.assertEqual(self.item.size, len(self.item.statement) + STEP)

    def test_about_something_else(self) -> None:
        """Another owner, hash or length, a clock that cannot be."""
        for fields in (
            {"owner": b"\x0b" * 20},
            {"owner": b""},
            {"hash": bytes(32)},
            {"length": 0},
            {"length": STEP - 1},
            {"clock": -1},
            {"clock": 1 << 63},
        ):
            with self.assertRaises(BadMessage, msg=repr(fields)):
                verify_chunk(self.claimed(**fields))

    def test_in_another_place(self) -> None:
        """Another ring id, owner, kind or element than the hash says."""
        for fields in (
            {"ring_id": bytes(20)},
            {"owner": b"\x0b" * 20},
            {"kind": Kind.HEAD},
            {"element": bytes(32)},
        ):
            with self.assertRaises(BadMessage, msg=repr(fields)):
                verify_chunk(self.keyed(**fields))

    def test_nothing_and_too_much(self) -> None:
        """An empty chunk is none; one over the largest is none."""
        for data in (b"", bytes(MAX_SEALED + 1)):
            chunk = SealedChunk(hashlib.sha256(data).digest(), b"", 0, data)
            self.assertRaises(BadMessage, verify_chunk, chunk_item(OWNER, chunk, 1))

    def test_a_claim_that_is_none(self) -> None:
        """Another type, garbage, a field more."""
        body = msgspec.msgpack.encode([OWNER, self.chunk.hash, STEP, 7])
        longer = msgspec.msgpack.encode([OWNER, self.chunk.hash, STEP, 7, 0])
        for statement in (
            pack_statement(StatementType.HEAD, body),
            pack_statement(StatementType.CHUNK, longer),
            pack_statement(StatementType.CHUNK, b""),
            b"",
            self.item.statement[:-1],
            self.item.statement + b"\0",
        ):
            self.assertRaises(BadMessage, verify_chunk, Item(self.item.key, statement, self.item.data))

    def test_every_flipped_byte_of_a_claim(self) -> None:
        """It is refused; or it says another clock, which signing will settle."""
        for at in range(len(self.item.statement)):
            forged = bytearray(self.item.statement)
            forged[at] ^= 0x01
            try:
                claim = verify_chunk(Item(self.item.key, bytes(forged), self.item.data))
            except BadMessage:
                continue
            self.assertEqual(msgspec.structs.replace(claim, clock=7), verify_chunk(self.item))

    def test_the_place_on_the_ring(self) -> None:
        """The first 20 bytes of the hash."""
        self.assertEqual(self.item.key.ring_id, ids.chunk_ring_id(self.chunk.hash))
