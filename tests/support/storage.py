"""What tests of storage share: a reactor's thread, a disk that crashes, items."""

from __future__ import annotations

import hashlib
import queue
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from peerstore.crypto.statements import StatementType, leaf, pack_statement
from peerstore.files.chunk import SealedChunk, chunk_item
from peerstore.files.head import head_item
from peerstore.items import Item, ItemKey, Kind
from peerstore.storage.memory_store import MemoryDisk, MemoryNodeStore
from peerstore.storage.sqlite_store import SMALL, SqliteNodeStore
from peerstore.transactions.entry import NO_ENTRY, Entry, entry_item

OWNER = b"\x0a" * 20
OTHER = b"\x0b" * 20
DEVICE = b"\xd1" * 16
OTHER_DEVICE = b"\xd2" * 16
WHOLE = (bytes(20), bytes(20))
#: Longer than any test should wait for a thread; never reached when all is well.
PATIENCE = 60.0


class ThreadedReactor:
    """The part of a reactor that threads hand their results to, run by hand."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()

    def callFromThread(self, function: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """From any thread: to be called by :meth:`wait`."""
        self._calls.put(lambda: function(*args, **kwargs))

    def wait(self, deferred: Deferred[Any]) -> Any:
        """Work until *deferred* has fired; its result, or its failure raised."""
        results: list[Any] = []
        deferred.addBoth(results.append)
        while not results:
            self._calls.get(timeout=PATIENCE)()
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]


class CrashingDisk:
    """A disk whose unsynced writes are lost when the power goes.

    *held* set, ``sync`` waits until :meth:`release`.
    """

    def __init__(self) -> None:
        self._durable: dict[bytes, bytes] = {}
        self._written: dict[bytes, bytes] = {}
        self._waiting: list[Deferred[None]] = []
        self.held = False

    def load(self) -> Mapping[bytes, bytes]:
        """What is there."""
        return dict(self._written)

    def write(self, key: bytes, value: bytes) -> None:
        """Set a key."""
        self._written[key] = value

    def delete(self, key: bytes) -> None:
        """Remove a key."""
        self._written.pop(key, None)

    def sync(self) -> Deferred[None]:
        """Now, or once released."""
        if self.held:
            self._waiting.append(Deferred())
            return self._waiting[-1]
        self._durable = dict(self._written)
        return succeed(None)

    def release(self) -> None:
        """Let what waits for a sync go on."""
        self.held = False
        self._durable = dict(self._written)
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(None)

    def crash(self) -> None:
        """Back to what was synced."""
        self._written = dict(self._durable)
        self._waiting = []
        self.held = False


class SqliteMedium:
    """Stores in one folder, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reactor = ThreadedReactor()
        self.wait = self.reactor.wait

    def open(self) -> SqliteNodeStore:
        """A started store."""
        store = SqliteNodeStore(self.folder, self.reactor)  # type: ignore[arg-type]
        self.wait(store.start())
        return store

    def close(self, store: SqliteNodeStore) -> None:
        """Stop it in order."""
        self.wait(store.stop())


class MemoryMedium:
    """Stores on one disk, one after the other."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self.wait = ThreadedReactor().wait

    def open(self) -> MemoryNodeStore:
        """A started store."""
        store = MemoryNodeStore(self.disk)
        self.wait(store.start())
        return store

    def close(self, store: MemoryNodeStore) -> None:
        """Stop it in order."""
        self.wait(store.stop())


def chunk(number: int, owner: bytes = OWNER, size: int = 100) -> Item:
    """A chunk with a sound claim, different for each number."""
    data = (number.to_bytes(8, "big") * (size // 8 + 1))[:size]
    return chunk_item(owner, SealedChunk(hashlib.sha256(data).digest(), b"", size, data), number + 1)


def large_chunk(number: int, owner: bytes = OWNER) -> Item:
    """A chunk that gets a file of its own."""
    return chunk(number, owner, SMALL + 8 + number)


def head(number: int, owner: bytes = OWNER, resource: bytes = b"\x0e" * 20) -> Item:
    """A head with its manifest."""
    return head_item(owner, resource, ((DEVICE, number + 1),), number, DEVICE, 0, b"manifest %d" % number)


def entry(
    number: int, owner: bytes = OWNER, device: bytes = DEVICE, ring_id: bytes = b"\x0c" * 20, clock: int = 0
) -> Item:
    """A log entry; *number* from 1.  Chains are judged elsewhere."""
    previous = NO_ENTRY if number == 1 else b"\x01" * 32
    return entry_item(ring_id, Entry(owner, device, number, previous, clock, 0, (), ()))


def record(number: int, owner: bytes = OWNER) -> Item:
    """Somebody's record, at their own ring id."""
    body = msgspec.msgpack.encode([owner, number])
    return Item(
        ItemKey(owner, owner, Kind.RECORD, leaf(StatementType.USER, body)),
        pack_statement(StatementType.USER, body),
        b"",
    )


def some_of_everything() -> list[Item]:
    """A few items of each kind, of two owners."""
    items: list[Item] = []
    for owner in (OWNER, OTHER):
        items += [chunk(n, owner) for n in range(3)] + [large_chunk(1, owner)]
        items += [head(n, owner) for n in range(2)] + [entry(n + 1, owner) for n in range(2)] + [record(0, owner)]
    return items
