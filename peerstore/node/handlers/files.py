"""The files family: chunks and heads, posted and read."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.logger import Logger

from peerstore.errors import NotReady, PeerStoreError
from peerstore.files.head import decode_head, newest
from peerstore.gateway.gateway import Gateway
from peerstore.interfaces import IBlockingRunner, INodeStore
from peerstore.items import Item, ItemKey, Kind
from peerstore.net.dispatch import Handler
from peerstore.node.admission import IN_THREAD
from peerstore.node.copies import Copier
from peerstore.node.handlers.common import check_length, check_lengths, check_limit, fill, started
from peerstore.node.ranges import Ranges
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
#: Seconds for passing entries on; the client sees to it after that.
PASS_ON = 8.0


class FilesHandlers:
    """post-chunks, have-chunks, get-chunks, post-heads, get-heads, usage.

    :param gateway: our own way into the ring, for passing entries on.
    :param runner: threads for what hashes much.
    :param passes: log entries are passed on for this many posts at a time,
        fewer than there are relay workers: the log's nodes need some, too.
    """

    _log = Logger()

    def __init__(
        self,
        store: INodeStore,
        copier: Copier,
        ranges: Ranges,
        gateway: Gateway,
        runner: IBlockingRunner,
        passes: int,
    ) -> None:
        self._store = store
        self._copier = copier
        self._ranges = ranges
        self._gateway = gateway
        self._runner = runner
        self._passes = passes
        self._passing = 0

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
        if not certain or not body.heads or any(entry.key.kind is not Kind.LOG for entry in body.entries):
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
        """The heads that no other replaces, or those that were named.

        :raises NotReady: while we do not know all there is.
        """
        check_length(body.ring_id, 20, "a ring id")
        check_length(body.owner, 20, "an owner")
        check_lengths(body.elements, 32, "an element")
        if body.elements:
            keys = [ItemKey(body.ring_id, body.owner, Kind.HEAD, element) for element in body.elements[:MAX_ITEMS]]
            found = [item for item in await self._store.get(keys) if item is not None]
            complete = len(found) == len(body.elements)
        else:
            found = await self._unreplaced(await self._store.heads.heads_of(body.ring_id, body.owner))
            complete = False
        if not complete and not self._ranges.may_answer(body.ring_id):
            raise NotReady("This node is still fetching what it became responsible for.", status=Status.NOT_READY)
        answer: list[Item] = []
        used = 0
        for item in found:
            used = fill(answer, item, used)
            if used < 0:
                return Items(tuple(answer), True)
        return Items(tuple(answer), False)

    async def usage(self, caller: Greeting, body: GetUsage) -> Usage:
        """What one owner uses here; there is no quota yet."""
        check_length(body.owner, 20, "an owner")
        size, items = await self._store.usage(body.owner)
        return Usage(size, items, 0)

    # -- inside ---------------------------------------------------------------

    async def _unreplaced(self, items: Sequence[Item]) -> list[Item]:
        if sum(item.size for item in items) <= IN_THREAD:
            return _unreplaced(items)
        kept: list[Item] = await self._runner.run(_unreplaced, items)
        return kept

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


def _unreplaced(items: Sequence[Item]) -> list[Item]:
    """Those heads that no other replaces."""
    heads = [(decode_head(item), item) for item in items]
    by_id = {version.id: item for version, item in heads}
    return [by_id[version.id] for version in newest(version for version, _ in heads)]
