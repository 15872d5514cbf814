"""What one version of a file consists of.

A manifest is a msgpack array::

    [kind, size, mtime_ns, mode, sha256, inline, chunks, pieces]

``chunks`` is an array of [hash, key, plain length]; content up to 64 KiB
stands in ``inline`` instead.  A manifest over 1 MiB is cut into chunks itself:
then ``pieces`` names those, and ``chunks`` is what they hold, joined.  A
symbolic link's text is its inline content.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import msgspec

from peerstore.crypto.statements import decode_exactly
from peerstore.errors import BadMessage
from peerstore.files.chunk import SealedChunk, seal_chunk
from peerstore.files.chunker import AVERAGE, MAXIMUM

__all__ = ["ChunkRef", "INLINE", "Manifest", "NodeKind", "decode_chunks", "decode_manifest", "encode_manifest"]

#: Content up to this many bytes travels inside the manifest.
INLINE = 64 * 1024
#: A larger manifest is itself cut into chunks.
MAX_BLOB = 1024 * 1024
_LIMIT = 1 << 63


class NodeKind(IntEnum):
    """What a path is; the numbers are a disk format."""

    FILE = 1
    FOLDER = 2
    SYMLINK = 3


class ChunkRef(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One chunk of a file: 32-byte hash, key (empty for now), plain length."""

    hash: bytes
    key: bytes
    length: int


class Manifest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One version's content and attributes.

    *mode* holds the twelve permission bits; *mtime_ns* counts from 1970 and
    may be negative; *sha256* is that of the plain content (empty for folders).
    """

    kind: NodeKind
    size: int
    mtime_ns: int
    mode: int
    sha256: bytes
    inline: bytes
    chunks: tuple[ChunkRef, ...]
    pieces: tuple[ChunkRef, ...] = ()


_manifests = msgspec.msgpack.Decoder(Manifest, strict=True)
_refs = msgspec.msgpack.Decoder(tuple[ChunkRef, ...], strict=True)


def encode_manifest(manifest: Manifest) -> tuple[bytes, list[SealedChunk]]:
    """The blob that goes with the head, and chunks that must be stored for it.

    There are such chunks only for files of thousands of chunks.
    """
    blob = msgspec.msgpack.encode(manifest)
    if len(blob) <= MAX_BLOB:
        return blob, []
    listing = msgspec.msgpack.encode(manifest.chunks)
    sealed = [seal_chunk(listing[at : at + AVERAGE]) for at in range(0, len(listing), AVERAGE)]
    pieces = tuple(ChunkRef(piece.hash, piece.key, piece.length) for piece in sealed)
    small = msgspec.structs.replace(manifest, chunks=(), pieces=pieces)
    return msgspec.msgpack.encode(small), sealed


def decode_manifest(blob: bytes) -> Manifest:
    """A manifest, checked; its *pieces*, if any, are still to be fetched.

    :raises peerstore.errors.BadMessage: when it is none, or contradicts
        itself.
    """
    if len(blob) > MAX_BLOB:
        raise BadMessage("a manifest is larger than a manifest can be.")
    manifest = decode_exactly(_manifests, blob, "a manifest")
    sound = (
        0 <= manifest.mode <= 0o7777
        and 0 <= manifest.size < _LIMIT
        and -_LIMIT <= manifest.mtime_ns < _LIMIT
        and len(manifest.inline) <= INLINE
        and len(manifest.sha256) == (0 if manifest.kind == NodeKind.FOLDER else 32)
    )
    if not sound:
        raise BadMessage("a manifest has fields out of range.")
    if manifest.kind == NodeKind.FOLDER and manifest.size:
        raise BadMessage("a folder's manifest has content.")
    if manifest.kind != NodeKind.FILE and (manifest.chunks or manifest.pieces):
        raise BadMessage("a manifest of no file names chunks.")
    if manifest.kind == NodeKind.SYMLINK and (not manifest.inline or b"\0" in manifest.inline):
        raise BadMessage("a link's manifest has no text that a link can have.")
    _check_refs(manifest.pieces)
    if manifest.pieces and (manifest.chunks or manifest.inline):
        raise BadMessage("a manifest names its chunks twice.")
    if not manifest.pieces:
        _check_content(manifest)
    return manifest


def decode_chunks(manifest: Manifest, pieces: Sequence[bytes]) -> Manifest:
    """A manifest in pieces made whole, from their opened contents in order.

    :raises peerstore.errors.BadMessage: when they hold no list of chunks.
    """
    if [len(piece) for piece in pieces] != [ref.length for ref in manifest.pieces]:
        raise BadMessage("a manifest's pieces are not those that it names.")
    chunks = decode_exactly(_refs, b"".join(pieces), "a manifest in pieces")
    whole = msgspec.structs.replace(manifest, chunks=chunks, pieces=())
    _check_content(whole)
    return whole


def _check_refs(refs: Sequence[ChunkRef]) -> None:
    if any(len(ref.hash) != 32 or len(ref.key) not in (0, 32) or not 0 < ref.length <= MAXIMUM for ref in refs):
        raise BadMessage("a manifest names a chunk that cannot be.")


def _check_content(manifest: Manifest) -> None:
    _check_refs(manifest.chunks)
    held = len(manifest.inline) + sum(ref.length for ref in manifest.chunks)
    if held != manifest.size or (manifest.inline and manifest.chunks):
        raise BadMessage("a manifest's parts do not add up to its size.")
