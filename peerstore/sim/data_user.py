"""A user's device in virtual time: puts, replaces, deletes and reads for ever.

It does what ``client`` does with the same gateway: chunks first, the head
once they are certain, the entry that names it last, its own chain in order,
and what is not certain again later.  Whatever it is told goes to the oracle.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from peerstore import ids, vectors
from peerstore.errors import PeerStoreError
from peerstore.files.chunk import chunk_item, seal_chunk
from peerstore.files.head import Version, decode_head, head_item, replaces, winner
from peerstore.gateway.gateway import Gateway
from peerstore.gateway.results import LogRead, Outcome
from peerstore.items import Item, ItemKey, Kind
from peerstore.sim.data_oracle import Oracle
from peerstore.sim.data_schedule import drawn
from peerstore.sim.world import World
from peerstore.transactions.chain import Log
from peerstore.transactions.entry import NO_ENTRY, Entry, Operation, OperationKind, entry_item
from peerstore.wire.messages import Status

__all__ = ["ENDS", "Device", "log_of", "owner_of", "read_log"]

#: The longest that any call may take (s), beyond its patience.
ENDS = 180.0
#: The patience (s) of what is asked behind a cut.
BEHIND = 1.0
#: Paths of one person, and contents: equal ones are posted more than once.
FILES = 6
CONTENTS = 40
#: Entries in one page of a log.
PAGE = 40


def owner_of(person: str) -> bytes:
    """A person's 20-byte id."""
    return ids.key_id(f"the key of {person}".encode())


def log_of(owner: bytes) -> bytes:
    """Where that person's log is."""
    return ids.key_id(owner + b"-log")


def resource_of(owner: bytes, number: int) -> bytes:
    """Where a path's heads are."""
    return ids.key_id(owner + b"path %d" % number)


async def read_log(gateway: Gateway, owner: bytes, patience: float) -> LogRead:
    """A whole log, page by page, as a client reads it."""
    log, items, complete = Log(), dict[bytes, Item](), True
    while True:
        page = await gateway.read_log(log_of(owner), owner, dict(log.heads()), PAGE, patience)
        complete = complete and page.complete
        items.update((item.key.element, item) for item in page.items)
        if not log.add_items(page.items) or not page.more:
            return LogRead(tuple(items.values()), page.heads, complete, page.more)


class _Unlogged(NamedTuple):
    """A version that is on its way: its chunks, its head, its entry."""

    chunks: list[Item]
    head: Item
    entry: Item


class Device:
    """One device of one person, on a machine of its own.

    :param machine: its name on the network.
    :param person: whose it is; devices of one person share files and log.
    :param hosts: machines that it was told of.
    :param pause: mean seconds between two operations.
    """

    def __init__(
        self, world: World, oracle: Oracle, machine: str, person: str, hosts: Sequence[str], pause: float
    ) -> None:
        self.machine = machine
        self._world = world
        self._oracle = oracle
        self._chance = world.decisions
        self._hosts = list(hosts)
        self._pause = pause
        self.owner = owner_of(person)
        self.device = hashlib.sha256(machine.encode()).digest()[:16]
        self._gateway = world.client(machine, self._hosts)
        self._clients = 1
        self._counter = 0
        self._clock = 0
        #: What this device knows of each path.
        self._versions: dict[int, list[Version]] = {}
        #: Its own entries, all of them, and those that are not certain yet.
        self._chain: list[Item] = []
        self._waiting: list[_Unlogged] = []
        self.operations: Counter[str] = Counter()
        self._stop = True
        self._busy = False
        #: Questions that were put to it, and are under way.
        self._looking = 0

    # -- its life ----------------------------------------------------------------

    def start(self) -> None:
        """Work until :meth:`stop`."""
        self._stop = False
        if not self._busy:
            self._busy = True
            Deferred.fromCoroutine(self._live()).addErrback(
                lambda failure: self._world.problem(f"{self.machine}: {failure.getTraceback()}")
            )

    def stop(self) -> None:
        """Begin nothing more."""
        self._stop = True

    def look_for(self, key: ItemKey) -> None:
        """Ask for a head's resource, or for the log, whatever else is under way."""
        self._looking += 1
        looking = Deferred.fromCoroutine(self._look_for(key))
        looking.addErrback(lambda failure: self._world.problem(f"{self.machine}: {failure.getTraceback()}"))
        looking.addCallback(lambda _: self._looked())

    def _looked(self) -> None:
        self._looking -= 1

    @property
    def idle(self) -> bool:
        """Whether it does nothing, and has nothing under way."""
        return not (self._busy or self._looking)

    async def _live(self) -> None:
        while not self._stop:
            await deferLater(self._world.clock, 2 * self._pause * self._fraction("pause"))
            if not self._stop:
                await self._once()
        self._busy = False

    async def _once(self) -> None:
        kinds = {
            self._save: 7,
            self._delete: 1,
            self._leave_behind: 1,
            self._read: 6,
            self._read_old: 1,
            self._read_log: 2,
            self._have: 1,
            self._anew: 1,
        }
        operation = drawn(self._fraction("operation"), kinds)
        self.operations[operation.__name__.strip("_")] += 1
        await operation()

    # -- writing -----------------------------------------------------------------

    async def _save(self) -> None:
        """A new version of a path, with some content."""
        await self._flush()
        contents = [self._content() for _ in range(self._number("chunks") % 4)]
        path = self._number("path") % FILES
        await self._publish(self._version(path, contents, OperationKind.UPDATE))

    async def _delete(self) -> None:
        """A tombstone for a path."""
        await self._flush()
        path = self._number("path") % FILES
        await self._publish(self._version(path, None, OperationKind.DELETE))

    async def _leave_behind(self) -> None:
        """Content, or a version, that is posted once, without patience, and
        never named: the device is switched off."""
        items = [self._content() for _ in range(self._number("chunks") % 3)]
        if items:
            self._told(items, await self._call(self._gateway.put_chunks(items, 0.0), "put_chunks"))
        else:
            head, _ = self._head(self._number("path") % FILES, [])
            self._told([head], await self._call(self._gateway.put_heads([head], (), 0.0), "put_heads"))

    async def _flush(self) -> None:
        """Go on with what is not certain yet."""
        waiting, self._waiting = self._waiting, []
        for place, one in enumerate(waiting):
            if not await self._publish(one):
                self._waiting += waiting[place + 1 :]
                return

    async def _publish(self, one: _Unlogged) -> bool:
        """Chunks, head, entry; whether all of it is certain now."""
        if self._waiting:
            self._waiting.append(one)
            return False
        patience = (0.0, 2.0, 20.0)[self._number("patience") % 3]
        if one.chunks:
            outcomes = await self._call(self._gateway.put_chunks(one.chunks, patience), "put_chunks")
            self._told(one.chunks, outcomes)
            if not _all_certain(outcomes, len(one.chunks)):
                self._waiting.append(one)
                return False
        self._oracle.writing(one.entry, self._name(one.entry))
        told = await self._call(self._gateway.put_heads([one.head], [one.entry], patience), "put_heads")
        self._told([one.head], told[:1])
        if _all_certain(told[:1], 1):
            self._told([one.entry], told[1:])
            if _all_certain(told[1:], 1) or await self._append(one.entry, patience):
                return True
        self._waiting.append(one)
        return False

    async def _append(self, entry: Item, patience: float) -> bool:
        outcomes = await self._call(self._gateway.append([entry], patience), "append")
        self._told([entry], outcomes)
        if outcomes and outcomes[0].status is Status.GAP:
            chain = self._chain[: self._chain.index(entry) + 1]
            outcomes = await self._call(self._gateway.append(chain, patience), "append")
            self._told(chain, outcomes, whole=True)
            outcomes = outcomes[-1:]
        return _all_certain(outcomes, 1)

    def _version(self, path: int, chunks: list[Item] | None, kind: OperationKind) -> _Unlogged:
        """The next version of a path, and the entry that names it."""
        head, version = self._head(path, chunks)
        self._versions[path] = [version]
        operation = Operation(kind, head.key.ring_id, version.id, version.head.vector, self._clock, b"")
        before = self._chain[-1].key.element if self._chain else NO_ENTRY
        number = len(self._chain) + 1
        entry = Entry(self.owner, self.device, number, before, self._clock, 0, (), (operation,))
        self._chain.append(entry_item(log_of(self.owner), entry))
        return _Unlogged(chunks or [], head, self._chain[-1])

    def _head(self, path: int, chunks: list[Item] | None) -> tuple[Item, Version]:
        """A version of a path, derived from those that are known."""
        self._counter += 1
        known = self._versions.get(path, [])
        self._clock = max([self._clock, *(version.head.clock for version in known)]) + 1
        vector = vectors.advance(vectors.join(one.head.vector for one in known), self.device, self._counter)
        manifest = None if chunks is None else b"".join(chunk.key.element for chunk in chunks) + b"%d" % self._counter
        head = head_item(self.owner, resource_of(self.owner, path), vector, self._clock, self.device, 0, manifest)
        self._oracle.writing(head, f"version {self._counter} of path {path} by {self.machine}")
        return head, decode_head(head)

    def _content(self) -> Item:
        number = self._number("content") % CONTENTS
        plain = hashlib.shake_128(b"content %d" % number).digest(50 + 37 * number)
        self._clock += 1
        item = chunk_item(self.owner, seal_chunk(plain), self._clock)
        self._oracle.writing(item, f"chunk {item.key.element.hex()[:8]} of {self.machine}")
        return item

    def _told(self, items: Sequence[Item], outcomes: Sequence[Outcome], whole: bool = False) -> None:
        for item, outcome in zip(items, outcomes, strict=False):
            self._world.trace.event("told", self.machine, item.key.element.hex()[:8], outcome.status.name)
            self._oracle.outcome(item, outcome, whole)
            self.operations["certain" if outcome.certain else "uncertain"] += 1

    # -- reading -----------------------------------------------------------------

    async def _read(self) -> None:
        """The newest of a path, and its content."""
        path = self._number("path") % FILES
        gateway = self._reader()
        await self.read_path(gateway, path, self._patience())

    async def read_path(self, gateway: Gateway, path: int, patience: float, rest: bool = False) -> bool:
        """Read one path; whether the read was complete."""
        read = await self._heads(gateway, resource_of(self.owner, path), (), patience)
        if not read:
            return False
        versions = [decode_head(item) for item in read.items]
        self._learn(path, versions)
        newest = winner(versions)
        if newest is not None:
            item = next(item for item in read.items if item.key.element == newest.id)
            hashes = [item.data[at : at + 32] for at in range(0, len(item.data) // 32 * 32, 32)]
            if hashes:
                mark = self._oracle.mark()
                found = await self._call(gateway.get_chunks(hashes, patience), "get_chunks")
                self._oracle.chunks_read(mark, self.owner, hashes, dict(found or {}).values(), rest)
        return bool(read.complete)

    async def _look_for(self, key: ItemKey) -> None:
        gateway = self._world.client(self.machine, self._hosts)
        if key.kind is Kind.LOG:
            await self._whole_log(gateway, BEHIND)
        else:
            await self._heads(gateway, key.ring_id, (), BEHIND)

    async def _heads(self, gateway: Gateway, resource: bytes, elements: tuple[bytes, ...], patience: float) -> Any:
        """Ask for heads, the newest or those named, and have the answer looked at."""
        mark = self._oracle.mark()
        read = await self._call(gateway.get_heads(resource, self.owner, elements, patience), "get_heads")
        if read:
            self._count_read(read.complete)
            self._oracle.heads_read(mark, resource, self.owner, elements, read.items, read.complete)
        return read

    async def _whole_log(self, gateway: Gateway, patience: float) -> None:
        """Ask for all of the log, and have the answer looked at."""
        mark = self._oracle.mark()
        asking = Deferred.fromCoroutine(read_log(gateway, self.owner, patience))
        read = await self._call(asking, "read_log")
        if read:
            self._count_read(read.complete)
            self._oracle.log_read(mark, log_of(self.owner), self.owner, read.items, read.complete)

    async def _read_old(self) -> None:
        """A version by its name, whatever replaced it."""
        heads = self._oracle.of(self.owner, Kind.HEAD)
        if heads:
            known = heads[self._number("version") % len(heads)]
            await self._heads(self._reader(), known.key.ring_id, (known.key.element,), self._patience())

    async def _read_log(self) -> None:
        await self._whole_log(self._reader(), self._patience())

    async def _have(self) -> None:
        """Ask for what is said to be certain: it counts as that from then on."""
        chunks = [known.key.element for known in self._oracle.of(self.owner, Kind.CHUNK)]
        if chunks:
            for digest in sorted(await self._call(self._gateway.have_chunks(self.owner, chunks), "have_chunks") or ()):
                known = next(one for one in self._oracle.of(self.owner, Kind.CHUNK) if one.key.element == digest)
                self._oracle.certain(known.key)

    async def _anew(self) -> None:
        """The program is started again: it knows no ring any more."""
        self._clients += 1
        self._gateway = self._world.client(f"{self.machine}", self._hosts)

    def _reader(self) -> Gateway:
        """The device's own gateway, or one that knows nothing yet."""
        if self._number("reader") % 3:
            return self._gateway
        return self._world.client(self.machine, self._hosts)

    def _learn(self, path: int, versions: Sequence[Version]) -> None:
        known = [*self._versions.get(path, []), *versions]
        self._versions[path] = [one for one in known if not any(replaces(other, one) for other in known)]

    def _count_read(self, complete: bool) -> None:
        self.operations["complete" if complete else "unknown"] += 1

    # -- inside ------------------------------------------------------------------

    async def _call(self, asking: Deferred[Any], what: str) -> Any:
        """The result of one call, which has to end; nothing for an error."""
        world = self._world
        late = world.clock.callLater(ENDS, self._oracle.violated, "answer", f"{self.machine}: no end of {what}")
        try:
            return await asking
        except PeerStoreError as error:
            world.trace.event("failed", self.machine, what, str(error))
            return ()
        finally:
            if late.active():
                late.cancel()

    def _patience(self) -> float:
        return (0.0, 3.0, 15.0)[self._number("patience") % 3]

    def _name(self, entry: Item) -> str:
        return f"entry {self._chain.index(entry) + 1} of {self.machine}"

    def _number(self, kind: str) -> int:
        return self._chance.number(self.machine, kind)

    def _fraction(self, kind: str) -> float:
        return self._chance.fraction(self.machine, kind)


def _all_certain(outcomes: Sequence[Outcome], count: int) -> bool:
    return len(outcomes) == count and all(outcome.certain for outcome in outcomes)
