"""Ring arithmetic: 160-bit identifiers on a circle, and how keys become them.

A *ring id* is an ``int`` in ``[0, 2**160)`` inside the ring's own code and 20
big-endian bytes on the wire and on disk.  It is a label and nothing more:
every trust decision compares the 32-byte *fingerprint* instead.

The ids are never reduced (a modulo would make distinct nodes collide) and
never compared with a plain ``<``: the circle has no smallest element.
"""

from __future__ import annotations

import hashlib

__all__ = [
    "ID_BITS",
    "ID_BYTES",
    "RING_SIZE",
    "between",
    "chunk_ring_id",
    "distance",
    "fingerprint",
    "from_bytes",
    "in_half_open",
    "key_id",
    "log_ring_id",
    "position_id",
    "short",
    "to_bytes",
]

ID_BITS = 160
ID_BYTES = ID_BITS // 8
RING_SIZE = 1 << ID_BITS


def to_bytes(ring_id: int) -> bytes:
    """The 20 big-endian bytes of a ring id.  ``OverflowError`` off the ring."""
    return ring_id.to_bytes(ID_BYTES, "big")


def from_bytes(raw: bytes) -> int:
    """The ring id of exactly 20 big-endian bytes.

    :raises ValueError: for any other length.
    """
    if len(raw) != ID_BYTES:
        raise ValueError(f"a ring id has {ID_BYTES} bytes, not {len(raw)}")
    return int.from_bytes(raw, "big")


def between(low: int, x: int, high: int) -> bool:
    """Whether *x* is met strictly between *low* and *high*, going clockwise.

    ``between(a, x, a)`` is true for every ``x != a`` (the whole circle but
    *a*); ``between(a, a, b)`` and ``between(b, a, a)`` are false.
    """
    if low < high:
        return low < x < high
    return x > low or x < high


def in_half_open(low: int, x: int, high: int) -> bool:
    """Whether *x* lies in ``(low, high]``: the range a member owns.

    ``low == high`` is the whole circle: a lone member owns every key.
    """
    return x == high or between(low, x, high)


def distance(low: int, high: int) -> int:
    """Clockwise steps from *low* to *high*, in ``[0, 2**160)``."""
    return (high - low) % RING_SIZE


def key_id(spki: bytes) -> bytes:
    """SHA-1 of a DER SubjectPublicKeyInfo: a node's or user's 20-byte label."""
    return hashlib.sha1(spki, usedforsecurity=False).digest()


def fingerprint(spki: bytes) -> bytes:
    """SHA-256 of a DER SubjectPublicKeyInfo: 32 bytes, what trust compares."""
    return hashlib.sha256(spki).digest()


def position_id(spki: bytes, index: int) -> int:
    """Where position *index* of the host with this key sits.

    Position 0 is at SHA-1(SPKI), position i at SHA-1(SPKI || u32 i), so the
    receiver computes it from the key it knows and nobody chooses an id.
    """
    if index == 0:
        return int.from_bytes(key_id(spki), "big")
    return int.from_bytes(key_id(spki + index.to_bytes(4, "big")), "big")


def log_ring_id(spki: bytes) -> bytes:
    """Where a user's transaction log lives: SHA-1(SPKI || "-transaction-log")."""
    return key_id(spki + b"-transaction-log")


def chunk_ring_id(chunk_hash: bytes) -> bytes:
    """The first 20 of a chunk's 32 hash bytes: where it lives on the ring."""
    return chunk_hash[:ID_BYTES]


def short(value: int | bytes) -> str:
    """The first 8 hex digits, for logs and for people; never for decisions."""
    raw = to_bytes(value) if isinstance(value, int) else bytes(value)
    return raw[:4].hex()
