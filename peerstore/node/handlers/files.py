"""The files family: chunks and heads, posted and read."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.logger import Logger

from peerstore import ids
from peerstore.errors import PeerStoreError
from peerstore.files.head import Version, decode_head, newest, replaces
from peerstore.gateway.gateway import Gateway
from peerstore.interfaces import IBlockingRunner, INodeStore
from peerstore.items import Item, ItemKey, Kind
from peerstore.net.dispatch import Handler
from peerstore.node.admission import IN_THREAD
from peerstore.node.copies import Copier
from peerstore.node.electorate import Electorate
from peerstore.node.handlers.common import STEP, Reading, check_length, check_lengths, check_limit, fill, started
from peerstore.wire.bodies import (
    GetChunks,
    GetHeads,
    GetUsage,
    Had,
    HaveChunks,
    ItemOutcome,
    Items,
    PostChunks,
    Posted,
    PostHeads,
    Usage,
)
from peerstore.wire.messages import Status
from peerstore.wire.session import Greeting

__all__ = ["FilesHandlers"]

MAX_ITEMS = 1024
MAX_HASHES = 8192
#: Keys that are listed at a time.
PAGE = 1024
#: With so many versions that do not know of each other, comparing them takes
#: a while.
CROSSED = 64
#: Seconds for passing entries on; the client sees to it after that.
PASS_ON = 8.0


class FilesHandlers:
    """post-chunks, have-chunks, get-chunks, post-heads, get-heads, usage.

    :param gateway: our own way into the ring, for passing entries on.
    :param runner: threads for what hashes much.
    :param passes: log entries are passed on for this many posts at a time,
        fewer than there are relay workers: the log's nodes need some, too.
    :param reading: bounds what is loaded at a time, over all handlers.
    """

    _log = Logger()

    def __init__(
        self,
        store: INodeStore,
        copier: Copier,
        electorate: Electorate,
        gateway: Gateway,
        runner: IBlockingRunner,
        passes: int,
        reading: Reading,
    ) -> None:
        self._store = store
        self._copier = copier
        self._electorate = electorate
        self._gateway = gateway
        self._runner = runner
        self._passes = passes
        self._passing = 0
        self._reading = reading

    def handlers(self) -> dict[str, Handler]:
        """By method."""
        return {
            "post-chunks": started(self.post_chunks),
            "have-chunks": started(self.have_chunks),
            "get-chunks": started(self.get_chunks),
            "post-heads": started(self.post_heads),
            "get-heads": started(self.get_heads),
            "usage": started(self.usage),
        }

    async def post_chunks(self, caller: Greeting, body: PostChunks) -> Posted:
        """Keep and copy chunks whose keys are ours."""
        check_limit(len(body.items), MAX_ITEMS, "items")
        return Posted(tuple(await self._post_kind(body.items, Kind.CHUNK)))

    async def post_heads(self, caller: Greeting, body: PostHeads) -> Posted:
        """Keep and copy heads; then pass the log entries on, if every head is
        certain.  Outcomes: the heads', then the entries'."""
        check_limit(len(body.heads) + len(body.entries), MAX_ITEMS, "items")
        outcomes = await self._post_kind(body.heads, Kind.HEAD)
        certain = all(told.status == Status.OK and len(told.holders) >= told.needed for told in outcomes)
        if not body.entries:
            return Posted(tuple(outcomes))
        if any(entry.key.kind is not Kind.LOG for entry in body.entries):
            return Posted((*outcomes, *(_held(Status.REJECTED) for _ in body.entries)))
        if not certain or not body.heads:
            return Posted((*outcomes, *(_held(Status.NOT_READY) for _ in body.entries)))
        return Posted((*outcomes, *await self._pass_on(body.entries)))

    async def have_chunks(self, caller: Greeting, body: HaveChunks) -> Had:
        """Which of these chunks of one owner are on this disk."""
        check_limit(len(body.hashes), MAX_HASHES, "hashes")
        check_length(body.owner, 20, "an owner")
        check_lengths(body.hashes, 32, "a hash")
        keys = [ItemKey(digest[:20], body.owner, Kind.CHUNK, digest) for digest in body.hashes]
        present: list[bool] = await self._store.have(keys)
        return Had(tuple(present))

    async def get_chunks(self, caller: Greeting, body: GetChunks) -> Items:
        """Chunks by hash, whoever owns them, as many as fit."""
        check_limit(len(body.hashes), MAX_ITEMS, "hashes")
        check_lengths(body.hashes, 32, "a hash")
        answer: list[Item] = []
        used = 0
        async with self._reading:
            for digest in body.hashes:
                # One at a time: a request for a thousand must not load them all.
                (item,) = await self._store.chunks.find([digest])
                if item is None:
                    continue
                used = fill(answer, item, used)
                if used < 0:
                    return Items(tuple(answer), True)
        return Items(tuple(answer), False)

    async def get_heads(self, caller: Greeting, body: GetHeads) -> Items:
        """The heads that no other replaces, or those that were named, with
        our vote on there being no others."""
        check_length(body.ring_id, 20, "a ring id")
        check_length(body.owner, 20, "an owner")
        check_limit(len(body.elements), MAX_ITEMS, "elements")
        check_lengths(body.elements, 32, "an element")
        # The vote first: what is in our name must be in what we read then.
        vote = self._electorate.vote(body.ring_id)
        async with self._reading:
            wanted: Sequence[bytes] = body.elements
            cut = False
            if not wanted:
                wanted, cut = await self._newest(body.ring_id, body.owner)
            answer: list[Item] = []
            used = 0
            for element in wanted:
                (item,) = await self._store.get([ItemKey(body.ring_id, body.owner, Kind.HEAD, element)])
                if item is None:
                    continue
                used = fill(answer, item, used)
                if used < 0:
                    cut = True
                    break
        return Items(tuple(answer), cut, await self._electorate.sure(vote, body.ring_id))

    async def usage(self, caller: Greeting, body: GetUsage) -> Usage:
        """What one owner uses here; there is no quota yet."""
        check_length(body.owner, 20, "an owner")
        size, items = await self._store.usage(body.owner)
        return Usage(size, items, 0)

    # -- inside ---------------------------------------------------------------

    async def _newest(self, ring_id: bytes, owner: bytes) -> tuple[list[bytes], bool]:
        """The heads that no other replaces, the one that has the name first,
        and whether there are more of them than anybody is told.

        A few at a time, and only what says who replaces whom is kept: a
        history may have thousands of versions, each with its manifest.
        """
        after = ids.to_bytes((ids.from_bytes(ring_id) - 1) % ids.RING_SIZE)
        versions: list[Version] = []
        cursor: ItemKey | None = None
        while True:
            page, cursor = await self._store.range_list(after, ring_id, (Kind.HEAD,), cursor, PAGE)
            keys = [key for key in page if key.owner == owner]
            for at in range(0, len(keys), STEP):
                found = [item for item in await self._store.get(keys[at : at + STEP]) if item is not None]
                versions = await self._joined(versions, found)
            if cursor is None or not page or len(versions) > MAX_ITEMS:
                return [version.id for version in newest(versions[:MAX_ITEMS])], len(versions) > MAX_ITEMS

    async def _joined(self, versions: list[Version], items: Sequence[Item]) -> list[Version]:
        if sum(item.size for item in items) <= IN_THREAD and len(versions) < CROSSED:
            return _joined(versions, items)
        joined: list[Version] = await self._runner.run(_joined, versions, items)
        return joined

    async def _post_kind(self, items: Sequence[Item], kind: Kind) -> list[ItemOutcome]:
        """Post, refusing items of any other kind."""
        right = [item for item in items if item.key.kind is kind]
        posted = iter(await self._copier.post(right))
        return [next(posted) if item.key.kind is kind else _held(Status.REJECTED) for item in items]

    async def _pass_on(self, entries: Sequence[Item]) -> list[ItemOutcome]:
        """Append entries to their log through the ring."""
        if self._passing >= self._passes:
            return [_held(Status.BUSY) for _ in entries]
        self._passing += 1
        try:
            outcomes = await self._gateway.append(entries, PASS_ON)
        except PeerStoreError as error:
            self._log.info("log entries could not be passed on: {why}", why=error.what)
            return [_held(Status.UNAVAILABLE) for _ in entries]
        finally:
            self._passing -= 1
        return [ItemOutcome(int(out.status), out.holders, (), out.needed) for out in outcomes]


def _held(status: Status) -> ItemOutcome:
    return ItemOutcome(int(status), (), (), 1)


def _joined(versions: Sequence[Version], items: Sequence[Item]) -> list[Version]:
    """Those of *versions*, none of which replaces another, and of *items* that
    no other of them replaces."""
    kept = list(versions)
    for new in map(decode_head, items):
        if not any(replaces(old, new) for old in kept):
            kept = [old for old in kept if not replaces(new, old)]
            kept.append(new)
    return kept
