"""Ranges of the ring, and digests over the keys in them.

The digest of a range is SHA-256 over its keys, sorted, each packed as::

    ring id (20) | owner (20) | kind (1) | element (32)

Both providers compute it here, so that two nodes agree whatever they store
things in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from peerstore.items import Item, ItemKey, Kind

__all__ = ["RangeHash", "arcs", "check_keys", "pack_key", "unpack_key"]

_LOW, _HIGH = bytes(20), b"\xff" * 20


def pack_key(key: ItemKey) -> bytes:
    """The 73 bytes of a key in a digest."""
    return key.ring_id + key.owner + bytes([key.kind]) + key.element


def unpack_key(packed: bytes) -> ItemKey:
    """The reverse of :func:`pack_key`."""
    return ItemKey(packed[:20], packed[20:40], Kind(packed[40]), packed[41:])


def check_keys(items: Iterable[Item]) -> None:
    """:raises ValueError: when a key's lengths are not those of a key, which
    would put it somewhere else on the circle and spoil digests."""
    if not all(item.key.well_formed() for item in items):
        raise ValueError("an item's key is malformed")


def arcs(after: bytes, through: bytes) -> list[tuple[bytes, bool, bytes]]:
    """(after, through] as one or two arcs that do not pass zero.

    Each is (low, whether low itself belongs to it, high with high belonging
    to it), in clockwise order from *after*; equal ends are the whole circle.
    """
    if after < through:
        return [(after, False, through)]
    first = [(after, False, _HIGH)] if after != _HIGH else []
    return [*first, (_LOW, True, through)]


class RangeHash:
    """Accumulates keys; they must come in clockwise order from the start."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.count = 0

    def add(self, keys: Iterable[bytes]) -> None:
        """Packed keys, in order."""
        for key in keys:
            self._hash.update(key)
            self.count += 1

    def digest(self) -> bytes:
        """32 bytes."""
        return self._hash.digest()
