"""A node's store in memory, on a disk that can be the simulator's.

The disk is a dictionary with a delay: what was written counts only once
``sync`` has fired, and a crash loses the rest.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from peerstore.errors import BadMessage
from peerstore.interfaces import INodeStore
from peerstore.items import ALL_KINDS, Item, ItemKey, Kind
from peerstore.storage.digests import RangeHash, arcs, check_keys, pack_key, unpack_key
from peerstore.storage.doubts import Doubts
from peerstore.storage.families import ChunkStore, HeadStore, LogStore, RecordStore
from peerstore.storage.scrub import Scrubbed
from peerstore.transactions.entry import decode_entry

__all__ = ["Disk", "MemoryDisk", "MemoryNodeStore"]

_T = TypeVar("_T")


class Disk(Protocol):
    """Where bytes stay when the process does not."""

    def load(self) -> Mapping[bytes, bytes]:
        """What a process that starts now finds."""
        ...

    def write(self, key: bytes, value: bytes) -> None:
        """Set a key; lost at a crash until synced."""
        ...

    def delete(self, key: bytes) -> None:
        """Remove a key; undone by a crash until synced."""
        ...

    def sync(self) -> Deferred[None]:
        """Make what was written durable; fails with a StorageError."""
        ...


class MemoryDisk:
    """A disk that never fails and is always synced."""

    def __init__(self) -> None:
        self._content: dict[bytes, bytes] = {}

    def load(self) -> Mapping[bytes, bytes]:
        """Everything."""
        return dict(self._content)

    def write(self, key: bytes, value: bytes) -> None:
        """Set a key."""
        self._content[key] = value

    def delete(self, key: bytes) -> None:
        """Remove a key."""
        self._content.pop(key, None)

    def sync(self) -> Deferred[None]:
        """At once."""
        return succeed(None)


@implementer(INodeStore)
class MemoryNodeStore:
    """Provides ``INodeStore`` on a :class:`Disk`.

    :param disk: what outlives this object.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._items: dict[ItemKey, Item] = {}
        self._order: list[ItemKey] = []
        self._by_hash: dict[bytes, list[ItemKey]] = {}
        #: (ring id, owner) -> its entries' (device, number, element), sorted.
        self._chains: dict[tuple[bytes, bytes], list[tuple[bytes, int, bytes]]] = {}
        self._settings: dict[str, bytes] = {}
        self._lost: set[ItemKey] = set()
        #: Keys of each put whose sync is under way.
        self._coming: list[set[ItemKey]] = []
        self.doubts = Doubts()
        self.chunks = ChunkStore(self)
        self.heads = HeadStore(self)
        self.logs = LogStore(self)
        self.records = RecordStore(self)

    def start(self) -> Deferred[None]:
        """Read what the disk holds; what has rotted there is noted as lost."""
        for part in (self._items, self._order, self._by_hash, self._chains, self._settings, self._lost):
            part.clear()
        for key, value in sorted(self._disk.load().items()):
            if key.startswith(b"s"):
                self._settings[key[1:].decode()] = value
            elif key.startswith(b"l"):
                self._lose(unpack_key(key[1:]))
            elif (item := _read(key, value)) is not None:
                self._index(item)
            else:
                self._disk.delete(key)
                self._lose(unpack_key(key[1:]))
        return succeed(None)

    def stop(self) -> Deferred[None]:
        """Sync what was written."""
        return self._disk.sync()

    def setting(self, name: str) -> Deferred[bytes | None]:
        """The bytes kept under *name*, or None."""
        return succeed(self._settings.get(name))

    def keep_setting(self, name: str, value: bytes) -> Deferred[None]:
        """Keep bytes under *name*, durably."""
        self._settings[name] = value
        self._disk.write(b"s" + name.encode(), value)
        return self._disk.sync()

    def put(self, items: Sequence[Item]) -> Deferred[list[bool]]:
        """Keep items; true where new; durable when it fires."""
        pending = list(items)
        try:
            check_keys(pending)
            for item in pending:
                if item.key.kind == Kind.LOG:
                    decode_entry(item.statement)
        except (BadMessage, ValueError):
            return fail()
        for item in pending:
            if item.key not in self._items:
                self._disk.write(b"i" + pack_key(item.key), _written(item))
        back = [item.key for item in pending if item.key in self._lost]
        for key in back:
            self._disk.delete(b"l" + pack_key(key))
        coming = {item.key for item in pending}
        self._coming.append(coming)

        def synced(result: Any) -> Any:
            self._coming = [keys for keys in self._coming if keys is not coming]
            if isinstance(result, Failure):
                return result
            # Only now may it be read: what is served must survive a crash.
            self._lost.difference_update(back)
            self.doubts.clear(back)
            return [item.key in coming and self._index(item) for item in pending]

        return _told(self._disk.sync().addBoth(synced))

    def have(self, keys: Sequence[ItemKey]) -> Deferred[list[bool]]:
        """One bool for each key."""
        return succeed([key in self._items for key in keys])

    def get(self, keys: Sequence[ItemKey]) -> Deferred[list[Item | None]]:
        """One Item or None for each key."""
        return succeed([self._items.get(key) for key in keys])

    def remove(self, keys: Sequence[ItemKey]) -> Deferred[int]:
        """Forget these keys; how many there were."""
        gone = 0
        for key in keys:
            coming = [put for put in self._coming if key in put]
            for put in coming:
                # Written, and not yet here; and never to be.
                put.discard(key)
                self._disk.delete(b"i" + pack_key(key))
            gone += self._drop(key) or bool(coming)
        return _told(self._disk.sync().addCallback(lambda _: gone))

    def _drop(self, key: ItemKey) -> bool:
        item = self._items.pop(key, None)
        if item is None:
            return False
        del self._order[bisect_left(self._order, key)]
        self._disk.delete(b"i" + pack_key(key))
        if key.kind == Kind.CHUNK:
            self._by_hash[key.element].remove(key)
        elif key.kind == Kind.LOG:
            self._chains[key.ring_id, key.owner].remove(_place(item))
        return True

    def find_chunks(self, hashes: Sequence[bytes]) -> Deferred[list[Item | None]]:
        """One Item or None for each hash, whoever owns it."""
        found = ([self._items[key] for key in self._by_hash.get(digest, [])] for digest in hashes)
        return succeed([copies[0] if copies else None for copies in found])

    def items_at(self, ring_id: bytes, owner: bytes | None, kind: Kind) -> Deferred[list[Item]]:
        """All items of one kind at a ring id."""
        keys = self._between(ring_id, True, ring_id)
        wanted = (key for key in keys if key.kind == kind and owner in (None, key.owner))
        return succeed([self._items[key] for key in wanted])

    def log_since(
        self, ring_id: bytes, owner: bytes, seen: Mapping[bytes, int], limit: int
    ) -> Deferred[tuple[list[Item], bool]]:
        """Entries of a log after *seen*, and whether more follow."""
        chain = self._chains.get((ring_id, owner), [])
        found = [
            ItemKey(ring_id, owner, Kind.LOG, element)
            for device, number, element in chain
            if number > seen.get(device, 0)
        ]
        return succeed(([self._items[key] for key in found[:limit]], len(found) > limit))

    def log_heads(self, ring_id: bytes, owner: bytes) -> Deferred[dict[bytes, int]]:
        """{device: last number without a gap before it}."""
        heads: dict[bytes, int] = {}
        for device, number, _ in self._chains.get((ring_id, owner), []):
            if number == heads.get(device, 0) + 1:
                heads[device] = number
        return succeed(heads)

    def range_digest(self, after: bytes, through: bytes, kinds: Sequence[Kind]) -> Deferred[tuple[int, bytes]]:
        """(count, SHA-256) over the keys in (after, through]."""
        digest = RangeHash()
        digest.add(pack_key(key) for key in self._range(after, through, kinds))
        return succeed((digest.count, digest.digest()))

    def range_list(
        self, after: bytes, through: bytes, kinds: Sequence[Kind], cursor: ItemKey | None, limit: int
    ) -> Deferred[tuple[list[ItemKey], ItemKey | None]]:
        """Keys in (after, through] behind *cursor*, and the next cursor."""
        page: list[ItemKey] = []
        for low, inclusive, high in arcs(after, through):
            keys = self._between(low, inclusive, high)
            if cursor is not None:
                # Where it was, if it has been removed since.
                if not (cursor.ring_id >= low if inclusive else cursor.ring_id > low) or cursor.ring_id > high:
                    continue
                keys = keys[bisect_right(keys, cursor) :]
                cursor = None
            page.extend(key for key in keys if key.kind in (kinds or ALL_KINDS))
        return succeed((page[:limit], page[limit - 1] if len(page) >= limit else None))

    def usage(self, owner: bytes) -> Deferred[tuple[int, int]]:
        """(bytes, items) of one owner."""
        sizes = [item.size for item in self._items.values() if item.key.owner == owner]
        return succeed((sum(sizes), len(sizes)))

    # -- rot ---------------------------------------------------------------------

    def total(self) -> Deferred[int]:
        """Bytes of all owners."""
        return succeed(sum(item.size for item in self._items.values()))

    def scrub(self, after: ItemKey | None, budget: int) -> Deferred[Scrubbed]:
        """Compare what is served with what is on the disk."""
        there = self._disk.load()
        keys = self._order[0 if after is None else bisect_right(self._order, after) :]
        rotten: list[ItemKey] = []
        items = size = 0
        for key in keys:
            value = there.get(b"i" + pack_key(key))
            # Not yet on the disk: that is no rot.
            if value is not None and _read(b"i" + pack_key(key), value) is None:
                rotten.append(key)
            items, size = items + 1, size + self._items[key].size
            if size >= budget:
                break
        for key in rotten:
            self._drop(key)
            self._lose(key)
        cursor = keys[items - 1] if items < len(keys) else None

        def synced(_: None) -> Scrubbed:
            if rotten:
                self.doubts.tell()
            return Scrubbed(cursor, items, size, len(rotten))

        return self._disk.sync().addCallback(synced) if rotten else succeed(Scrubbed(cursor, items, size, 0))

    def check(self) -> Deferred[str]:
        """There is nothing here that is made from items."""
        return succeed("")

    def lost(self, limit: int, skip: int = 0) -> Deferred[list[ItemKey]]:
        """What rotted and has not come back."""
        return succeed(sorted(self._lost)[skip : skip + limit])

    def give_up(self, keys: Sequence[ItemKey]) -> Deferred[None]:
        """They are waited for no more."""
        for key in keys:
            self._disk.delete(b"l" + pack_key(key))
        self._lost.difference_update(keys)
        self.doubts.clear(keys)
        return self._disk.sync()

    def _lose(self, key: ItemKey) -> None:
        self._lost.add(key)
        self.doubts.add([key])
        self._disk.write(b"l" + pack_key(key), b"")

    # -- inside ----------------------------------------------------------------

    def _index(self, item: Item) -> bool:
        key = item.key
        if key in self._items:
            return False
        self._items[key] = item
        insort(self._order, key)
        if key.kind == Kind.CHUNK:
            insort(self._by_hash.setdefault(key.element, []), key)
        elif key.kind == Kind.LOG:
            insort(self._chains.setdefault((key.ring_id, key.owner), []), _place(item))
        return True

    def _between(self, low: bytes, inclusive: bool, high: bytes) -> list[ItemKey]:
        def place(key: ItemKey) -> bytes:
            return key.ring_id

        end = bisect_right(self._order, high, key=place)
        start = bisect_right(self._order, low, key=place)
        while inclusive and start > 0 and self._order[start - 1].ring_id == low:
            start -= 1
        return self._order[start:end]

    def _range(self, after: bytes, through: bytes, kinds: Sequence[Kind]) -> Iterable[ItemKey]:
        for low, inclusive, high in arcs(after, through):
            yield from (key for key in self._between(low, inclusive, high) if key.kind in (kinds or ALL_KINDS))


def _told(work: Deferred[_T]) -> Deferred[_T]:
    """The outcome of *work*, for somebody who may stop waiting for it: the
    work itself goes on."""
    told: Deferred[_T] = Deferred()
    work.addBoth(told.callback)
    return told


def _place(item: Item) -> tuple[bytes, int, bytes]:
    entry = decode_entry(item.statement)
    return (entry.device, entry.number, item.key.element)


def _written(item: Item) -> bytes:
    """An item as it goes to the disk, behind a check of all of it."""
    packed = msgspec.msgpack.encode(item)
    return _check(packed) + packed


def _check(packed: bytes) -> bytes:
    return hashlib.sha256(packed).digest()[:8]


def _read(key: bytes, value: bytes) -> Item | None:
    """An item as the disk gives it back, or None when it is not what was put."""
    if value[:8] != _check(value[8:]):
        return None
    try:
        item = msgspec.msgpack.decode(value[8:], type=Item)
        if item.key.kind == Kind.LOG:
            decode_entry(item.statement)
    except (msgspec.DecodeError, BadMessage):
        return None
    return None if key != b"i" + pack_key(item.key) else item
