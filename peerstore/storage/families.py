"""The four stores of a node, as views of one.

Chunks, heads, logs and records are kept alike; what differs is what one asks
of them.  Both providers of ``INodeStore`` offer the few questions below, and
get their four families from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred
from zope.interface import implementer

from peerstore.interfaces import IChunkStore, IHeadStore, ILogStore, IRecordStore
from peerstore.items import Item, ItemKey, Kind

__all__ = ["ChunkStore", "HeadStore", "LogStore", "RecordStore"]


class _Whole(Protocol):
    def put(self, items: Sequence[Item]) -> Deferred[list[bool]]: ...
    def have(self, keys: Sequence[ItemKey]) -> Deferred[list[bool]]: ...
    def get(self, keys: Sequence[ItemKey]) -> Deferred[list[Item | None]]: ...
    def remove(self, keys: Sequence[ItemKey]) -> Deferred[int]: ...
    def find_chunks(self, hashes: Sequence[bytes]) -> Deferred[list[Item | None]]: ...
    def items_at(self, ring_id: bytes, owner: bytes | None, kind: Kind) -> Deferred[list[Item]]: ...
    def log_since(
        self, ring_id: bytes, owner: bytes, seen: Mapping[bytes, int], limit: int
    ) -> Deferred[tuple[list[Item], bool]]: ...
    def log_heads(self, ring_id: bytes, owner: bytes) -> Deferred[dict[bytes, int]]: ...


class _Family:
    """What all four have in common; refuses items of another kind."""

    kind: Kind

    def __init__(self, whole: _Whole) -> None:
        self._whole = whole

    def put(self, items: Sequence[Item]) -> Deferred[list[bool]]:
        """Keep these items; a list of bool, true where new."""
        self._check([item.key for item in items])
        return self._whole.put(items)

    def have(self, keys: Sequence[ItemKey]) -> Deferred[list[bool]]:
        """One bool for each key."""
        return self._whole.have(keys)

    def get(self, keys: Sequence[ItemKey]) -> Deferred[list[Item | None]]:
        """One Item or None for each key."""
        return self._whole.get(keys)

    def remove(self, keys: Sequence[ItemKey]) -> Deferred[int]:
        """Forget these keys; how many there were."""
        self._check(keys)
        return self._whole.remove(keys)

    def _check(self, keys: Sequence[ItemKey]) -> None:
        if any(key.kind != self.kind for key in keys):
            raise ValueError(f"this store keeps {self.kind.name} items only")


@implementer(IChunkStore)
class ChunkStore(_Family):
    """Chunks, found by hash."""

    kind = Kind.CHUNK

    def find(self, hashes: Sequence[bytes]) -> Deferred[list[Item | None]]:
        """One Item or None for each 32-byte hash, whoever owns it."""
        return self._whole.find_chunks(hashes)


@implementer(IHeadStore)
class HeadStore(_Family):
    """Heads, found by resource and owner."""

    kind = Kind.HEAD

    def heads_of(self, ring_id: bytes, owner: bytes) -> Deferred[list[Item]]:
        """All heads of one resource."""
        return self._whole.items_at(ring_id, owner, Kind.HEAD)


@implementer(ILogStore)
class LogStore(_Family):
    """Log entries, in chains."""

    kind = Kind.LOG

    def read_since(
        self, ring_id: bytes, owner: bytes, seen: Mapping[bytes, int], limit: int
    ) -> Deferred[tuple[list[Item], bool]]:
        """Entries after *seen*, and whether more follow."""
        return self._whole.log_since(ring_id, owner, seen, limit)

    def chain_heads(self, ring_id: bytes, owner: bytes) -> Deferred[dict[bytes, int]]:
        """{device: last number}."""
        return self._whole.log_heads(ring_id, owner)


@implementer(IRecordStore)
class RecordStore(_Family):
    """Records of nodes and users."""

    kind = Kind.RECORD

    def records_of(self, ring_id: bytes) -> Deferred[list[Item]]:
        """All records at one ring id."""
        return self._whole.items_at(ring_id, None, Kind.RECORD)
