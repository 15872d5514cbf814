"""One chunk: packed, sealed, named by its hash.

::

    p' = u32 length | u8 flag | content (raw, or a zstd frame) | zeros to 4 KiB steps

The hash, and with it the id, is SHA-256 of what is stored.  Sealing is not
there yet: what is stored is p', and a chunk's key is empty.  It will take the
place of :func:`_seal` and :func:`_unseal`, which nothing else knows of.
"""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple

import msgspec
import zstandard

from peerstore import ids
from peerstore.crypto.statements import StatementType, decode_exactly, pack_statement, unpack_statement
from peerstore.errors import BadMessage, CorruptData
from peerstore.files.chunker import MAXIMUM
from peerstore.items import Item, ItemKey, Kind

__all__ = ["Claim", "SealedChunk", "chunk_item", "chunk_key", "open_chunk", "seal_chunk", "verify_chunk"]

STEP = 4096
RAW, ZSTD = 0, 1
LEVEL = 3
_HEAD = struct.Struct(">IB")
#: The longest p': a chunk that does not compress, its header, the padding.
MAX_SEALED = MAXIMUM + STEP


class SealedChunk(NamedTuple):
    """A chunk as it is stored: 32-byte *hash* of *data*, the *key* that opens
    it (empty for now), and the *length* of the plain content."""

    hash: bytes
    key: bytes
    length: int
    data: bytes


class Claim(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An owner's word that a chunk is theirs: 20-byte owner, hash, stored
    length, Lamport clock of the post."""

    owner: bytes
    hash: bytes
    length: int
    clock: int


_claims = msgspec.msgpack.Decoder(Claim, strict=True)


def seal_chunk(plain: bytes) -> SealedChunk:
    """Pack and seal one chunk of at most 4 MiB.

    Compresses only what gets smaller.  Costs milliseconds: in a thread.
    """
    if len(plain) > MAXIMUM:
        raise ValueError("a chunk is larger than the largest chunk")
    content, flag = plain, RAW
    if len(plain) > 64:
        squeezed = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True).compress(plain)
        if len(squeezed) < len(plain):
            content, flag = squeezed, ZSTD
    padding = _padded(len(content)) - _HEAD.size - len(content)
    padded = b"".join((_HEAD.pack(len(plain), flag), content, bytes(padding)))
    data, key = _seal(padded)
    return SealedChunk(hashlib.sha256(data).digest(), key, len(plain), data)


def open_chunk(data: bytes, expected_hash: bytes, key: bytes, length: int) -> bytes:
    """The plain content of a stored chunk.

    :raises peerstore.errors.CorruptData: when the bytes are not those that
        the hash names, or do not unpack to what was declared.
    """
    if hashlib.sha256(data).digest() != expected_hash:
        raise CorruptData("A chunk's bytes are not those that were stored.", "Another copy will be asked.")
    padded = _unseal(data, key)
    if len(padded) < _HEAD.size:
        raise CorruptData("A chunk is too short to be one.")
    declared, flag = _HEAD.unpack_from(padded)
    if declared != length or declared > MAXIMUM:
        raise CorruptData("A chunk's length is not the one in its manifest.")
    if len(padded) % STEP:
        raise CorruptData("A chunk is not padded as chunks are.")
    body = memoryview(padded)[_HEAD.size :]
    if flag == RAW:
        if len(padded) != _padded(declared) or any(body[declared:]):
            raise CorruptData("A chunk is shorter or longer than it says.")
        return bytes(body[:declared])
    if flag != ZSTD:
        raise CorruptData("A chunk is packed in a way that this version does not know.", "Update this program.")
    try:
        # Bounded by what was declared: a bomb inflates to nothing more.
        with zstandard.ZstdDecompressor(max_window_size=MAXIMUM * 2).stream_reader(body) as reader:
            plain = reader.read(declared + 1)
    except zstandard.ZstdError as error:
        raise CorruptData("A chunk does not unpack.") from error
    if len(plain) != declared:
        raise CorruptData("A chunk does not unpack to the length it says.")
    return plain


def chunk_key(owner: bytes, digest: bytes) -> ItemKey:
    """The name under which a chunk of *owner* is stored."""
    return ItemKey(ids.chunk_ring_id(digest), owner, Kind.CHUNK, digest)


def chunk_item(owner: bytes, sealed: SealedChunk, clock: int) -> Item:
    """A sealed chunk with its owner's claim, ready to be posted."""
    claim = Claim(owner, sealed.hash, len(sealed.data), clock)
    statement = pack_statement(StatementType.CHUNK, msgspec.msgpack.encode(claim))
    return Item(chunk_key(owner, sealed.hash), statement, sealed.data)


def verify_chunk(item: Item) -> Claim:
    """Check a chunk against its claim and its name, as every node does.

    :raises peerstore.errors.BadMessage: saying what does not fit.
    """
    claim = decode_exactly(_claims, unpack_statement(item.statement, StatementType.CHUNK), "a chunk's claim")
    key = item.key
    if claim.owner != key.owner or claim.hash != key.element or claim.length != len(item.data):
        raise BadMessage("a chunk's claim is about another chunk.")
    if not 0 <= claim.clock < 1 << 63:
        raise BadMessage("a chunk's claim has a clock out of range.")
    if not 0 < len(item.data) <= MAX_SEALED:
        raise BadMessage("a chunk is empty or too large.")
    if key.kind is not Kind.CHUNK or key.ring_id != ids.chunk_ring_id(key.element):
        raise BadMessage("a chunk is in another's place.")
    if hashlib.sha256(item.data).digest() != key.element:
        raise BadMessage("a chunk's bytes do not have the hash it is named by.")
    return claim


def _padded(content: int) -> int:
    """How long p' is for so many bytes of content as it is packed."""
    return -(-(_HEAD.size + content) // STEP) * STEP


def _seal(padded: bytes) -> tuple[bytes, bytes]:
    return padded, b""


def _unseal(data: bytes, key: bytes) -> bytes:
    if key:
        raise CorruptData("A chunk is sealed, and this version cannot open it.", "Update this program.")
    return data
