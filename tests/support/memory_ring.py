"""A ring in memory, as a client sees it, and devices of its users.

``MemoryGateway`` has the public methods of ``gateway.gateway.Gateway``; what
it holds survives any number of clients, and it can be told to misbehave.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.client.client import Client
from peerstore.client.state import ClientState
from peerstore.errors import LookupFailed, PeerStoreError
from peerstore.gateway.results import UNSENT, LogRead, Outcome, SetRead
from peerstore.items import Item
from peerstore.transactions.entry import entry_of
from peerstore.util.blocking import InlineRunner
from peerstore.wire.messages import Status

__all__ = ["ClientTestCase", "Device", "FakeKey", "MemoryGateway"]

_STORED = Outcome(Status.OK, (b"a" * 32, b"b" * 32), 2, True)
_SHORT = Outcome(Status.OK, (b"a" * 32,), 2, False, "Stored on 1 hosts so far; 2 make it certain.")


class FakeKey:
    """A user's key without RSA, which no client test is about."""

    def __init__(self, name: str = "a user") -> None:
        self.spki = hashlib.sha512(name.encode()).digest()
        self.id = ids.key_id(self.spki)
        self._root = hashlib.sha256(name.encode()).digest()

    def root_secret(self) -> bytes:
        """32 bytes that belong to the name."""
        return self._root


class MemoryGateway:
    """Everything that is stored, and switches for what may go wrong.

    *sent* counts bytes of chunks that were put, *calls* the calls by name.
    With *down*, nobody answers.  *weak* writes are stored once only.
    """

    patience = 0.0

    def __init__(self) -> None:
        self.chunks: dict[bytes, Item] = {}
        self.heads: dict[bytes, dict[bytes, Item]] = {}
        self.logs: dict[bytes, dict[tuple[bytes, int], Item]] = {}
        self.sent = 0
        self.calls: list[str] = []
        self.down = False
        self.weak = False
        #: Called with the name of a call before it is carried out.
        self.before: Callable[[str], None] = lambda name: None
        self.page = 256

    def _called(self, name: str) -> None:
        self.calls.append(name)
        self.before(name)

    # -- writes ---------------------------------------------------------------

    def put_chunks(self, items: Sequence[Item], patience: float | None = None) -> Deferred[list[Outcome]]:
        """Store chunks."""
        return self._put("put_chunks", items, self._keep_chunk)

    def _keep_chunk(self, item: Item) -> Outcome:
        self.chunks[item.key.element] = item
        self.sent += len(item.data)
        return _STORED

    def _keep_head(self, item: Item) -> Outcome:
        self.heads.setdefault(item.key.ring_id, {})[item.key.element] = item
        return _STORED

    def _keep_entry(self, item: Item) -> Outcome:
        entry = entry_of(item)
        log = self.logs.setdefault(item.key.ring_id, {})
        standing = log.get((entry.device, entry.number))
        before = log.get((entry.device, entry.number - 1))
        if standing is not None and standing.key.element != item.key.element:
            return Outcome(Status.REJECTED, (), 2, False, "The node judged it malformed or contradicted.")
        if entry.number > 1 and before is None:
            return Outcome(Status.GAP, (), 2, False, "Earlier entries of this chain are missing there.")
        if before is not None and before.key.element != entry.previous:
            return Outcome(Status.REJECTED, (), 2, False, "The node judged it malformed or contradicted.")
        log[(entry.device, entry.number)] = item
        return _STORED

    def put_heads(
        self, heads: Sequence[Item], entries: Sequence[Item] = (), patience: float | None = None
    ) -> Deferred[list[Outcome]]:
        """Store heads, then entries."""

        def then(outcomes: list[Outcome]) -> Any:
            if not all(outcome.certain for outcome in outcomes):
                return outcomes + [UNSENT] * len(entries)
            if not entries:
                return outcomes
            return self._put("append", entries, self._keep_entry).addCallback(lambda more: outcomes + more)

        return self._put("put_heads", heads, self._keep_head).addCallback(then)

    def append(self, entries: Sequence[Item], patience: float | None = None) -> Deferred[list[Outcome]]:
        """Append log entries."""
        return self._put("append", entries, self._keep_entry)

    def _put(self, name: str, items: Sequence[Item], keep: Callable[[Item], Outcome]) -> Deferred[list[Outcome]]:
        try:
            self._called(name)
        except PeerStoreError as error:
            return fail(error)
        if self.down:
            return succeed([UNSENT] * len(items))
        outcomes = [keep(item) for item in items]
        return succeed([_SHORT] * len(items) if self.weak else outcomes)

    # -- reads ----------------------------------------------------------------

    def get_chunks(self, hashes: Sequence[bytes], patience: float | None = None) -> Deferred[dict[bytes, Item]]:
        """Chunks by hash."""
        self._called("get_chunks")
        return succeed({} if self.down else {d: self.chunks[d] for d in hashes if d in self.chunks})

    def have_chunks(self, owner: bytes, hashes: Sequence[bytes]) -> Deferred[frozenset[bytes]]:
        """Which chunks are here."""
        self._called("have_chunks")
        return succeed(frozenset() if self.down else frozenset(hashes) & frozenset(self.chunks))

    def get_heads(
        self, ring_id: bytes, owner: bytes, elements: Sequence[bytes] = (), patience: float | None = None
    ) -> Deferred[SetRead]:
        """Heads of one resource."""
        self._called("get_heads")
        if self.down:
            return succeed(SetRead((), False))
        held = self.heads.get(ring_id, {})
        found = tuple(item for element, item in held.items() if not elements or element in elements)
        return succeed(SetRead(found, True))

    def read_log(
        self,
        ring_id: bytes,
        owner: bytes,
        seen: Mapping[bytes, int],
        limit: int = 256,
        patience: float | None = None,
    ) -> Deferred[LogRead]:
        """Entries after *seen*, ``page`` at a time."""
        self._called("read_log")
        if self.down:
            return succeed(LogRead((), {}, False, False))
        log = self.logs.get(ring_id, {})
        ends: dict[bytes, int] = {}
        for device, number in log:
            ends[device] = max(number, ends.get(device, 0))
        new = [log[place] for place in sorted(log) if place[1] > seen.get(place[0], 0)]
        most = min(limit, self.page)
        return succeed(LogRead(tuple(new[:most]), ends, True, limit > 0 and len(new) > most))

    def watch_log(
        self, ring_id: bytes, owner: bytes, seen: Mapping[bytes, int], limit: int = 256, wait: float = 60.0
    ) -> Deferred[LogRead]:
        """Like a read, at once."""
        if self.down:
            return fail(LookupFailed("None of the nodes that keep this log answered."))
        return self.read_log(ring_id, owner, seen, limit)


class Device:
    """One computer of a user: a home on a real disk, and clients on it.

    :param pauses: collects how long uploads wanted to wait before a retry.
    """

    def __init__(self, gateway: MemoryGateway, home: Path, key: FakeKey, entropy: Callable[[int], bytes]) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.gateway = gateway
        self.home = home
        self.key = key
        self.pauses: list[float] = []
        self._entropy = entropy

    def _pause(self, seconds: float) -> Deferred[None]:
        self.pauses.append(seconds)
        return succeed(None)

    def client(self, writing: bool = True) -> Client:
        """A client, not yet open; nothing of an earlier one is in memory."""
        return Client(
            self.gateway,  # type: ignore[arg-type]
            self.key,
            ClientState(self.home / "state.sqlite"),
            None,
            InlineRunner(),
            InlineRunner(),
            self._entropy,
            lambda: 1_700_000_000_000_000_000,
            pause=self._pause,
            writing=writing,
        )


class ClientTestCase(SynchronousTestCase):
    """A ring in memory, folders on disk, and devices; all at once."""

    def setUp(self) -> None:
        self.place = Path(self.mktemp()).absolute()
        self.place.mkdir(parents=True)
        self.gateway = MemoryGateway()
        self._given = 0

    def _entropy(self, size: int) -> bytes:
        self._given += 1
        return hashlib.sha512(b"%d" % self._given).digest()[:size]

    def device(self, name: str = "home", key: FakeKey | None = None) -> Device:
        """A computer of the user's."""
        return Device(self.gateway, self.place / name, key or FakeKey(), self._entropy)

    def client(self, device: Device | None = None, writing: bool = True) -> Client:
        """An open client on a device; closed when the test is over."""
        client = (device or self.device()).client(writing)
        self.result(client.open())
        self.addCleanup(client.state.close)
        return client

    def result(self, work: Any) -> Any:
        """What a coroutine or Deferred, which must be done, gave."""
        return self.successResultOf(work if isinstance(work, Deferred) else Deferred.fromCoroutine(work))

    def error(self, work: Any, *kinds: type[BaseException]) -> Any:
        """The error, of one of these kinds, with which it ended."""
        deferred = work if isinstance(work, Deferred) else Deferred.fromCoroutine(work)
        return self.failureResultOf(deferred, *kinds).value

    def folder(self, name: str, **files: bytes) -> Path:
        """A folder with a few files."""
        place = self.place / name
        place.mkdir(exist_ok=True)
        for file, content in files.items():
            (place / file).write_bytes(content)
        return place

    def raw(self, path: Path) -> bytes:
        """A path as the client takes it."""
        return os.fsencode(path)
