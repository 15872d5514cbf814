"""Bringing one range of ours and one other host's together.

Digests say whether anything differs; where much differs, the range is cut in
sixteen, so that a few new things in a large range cost a few questions.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from twisted.logger import Logger

from peerstore import ids
from peerstore.gateway.ask import BULK_TIMEOUT, ask
from peerstore.interfaces import INodeStore, IPeerPool
from peerstore.items import Item, ItemKey, Kind
from peerstore.node.keeper import Keeper
from peerstore.node.ranges import span
from peerstore.ring.member import Member
from peerstore.wire.bodies import Fetch, GetRangeDigest, Items, KeyPage, ListRange, Push, Pushed, RangeDigest
from peerstore.wire.messages import Status

__all__ = ["Exchange", "Task", "split"]

#: Keys that are compared one by one; above this, the range is cut.
LEAF = 1024
PIECES = 16
PAGE = 1024
FETCH = 64
PUSH_BYTES = 2 * 1024 * 1024
PUSH_ITEMS = 256
DIGEST_TIMEOUT = 10.0


class Task(NamedTuple):
    """What to do with whom: keys of *kinds*, in which directions."""

    member: Member
    kinds: tuple[Kind, ...]
    fetch: bool
    push: bool


def split(after: int, through: int, pieces: int = PIECES) -> list[tuple[int, int]]:
    """(after, through] in *pieces* parts of about equal size."""
    size = span(after, through)
    cuts = [(after + size * part // pieces) % ids.RING_SIZE for part in range(pieces)] + [through]
    return list(pairwise(cuts))


class Exchange:
    """Compares, fetches and pushes, holding a few MiB at a time.

    :param pool: reaches the other host.
    """

    _log = Logger()

    def __init__(self, store: INodeStore, keeper: Keeper, pool: IPeerPool) -> None:
        self._store = store
        self._keeper = keeper
        self._pool = pool

    async def run(self, task: Task, after: int, through: int) -> None:
        """Make (after, through] the same on both sides, as far as *task* says.

        :raises peerstore.errors.PeerStoreError: when it could not be done.
        """
        fetched, pushed = await self._compare(task, after, through, sys.maxsize)
        if fetched or pushed:
            self._log.info(
                "replication with {host}: {fetched} items fetched, {pushed} pushed",
                host=ids.short(task.member.fp),
                fetched=fetched,
                pushed=pushed,
            )

    async def _compare(self, task: Task, after: int, through: int, above: int) -> tuple[int, int]:
        """Items (fetched, pushed); *above* is how many keys the range has of
        which this one was cut."""
        body = GetRangeDigest(ids.to_bytes(after), ids.to_bytes(through), task.kinds)
        theirs = await ask(self._pool, task.member, "range-digest", body, RangeDigest, DIGEST_TIMEOUT)
        count, digest = await self._store.range_digest(body.after, body.through, body.kinds)
        if (theirs.count, theirs.digest) == (count, digest):
            return 0, 0
        if not task.fetch and not count:
            return 0, 0
        most = max(count, theirs.count)
        # Where cutting does not spread the keys, they all have one ring id
        # (a long log), and cutting on would never end.
        if not LEAF < most < above or span(after, through) < PIECES:
            return await self._exchange(task, body.after, body.through)
        fetched = pushed = 0
        for low, high in split(after, through):
            more = await self._compare(task, low, high, most)
            fetched, pushed = fetched + more[0], pushed + more[1]
        return fetched, pushed

    async def _exchange(self, task: Task, after: bytes, through: bytes) -> tuple[int, int]:
        """Compare the keys themselves, and move what differs."""
        theirs: dict[ItemKey, None] = {}
        cursor: ItemKey | None = None
        while True:
            listing = ListRange(after, through, task.kinds, cursor, PAGE)
            page = await ask(self._pool, task.member, "range-list", listing, KeyPage, BULK_TIMEOUT)
            theirs.update(dict.fromkeys(page.keys))
            cursor = page.cursor
            if cursor is None or not page.keys:
                break
        here: dict[ItemKey, None] = {}
        while True:
            keys, cursor = await self._store.range_list(after, through, task.kinds, cursor, PAGE)
            here.update(dict.fromkeys(keys))
            if cursor is None or not keys:
                break
        fetched = await self._fetch(task.member, [key for key in theirs if key not in here]) if task.fetch else 0
        pushed = await self._push(task.member, (key for key in here if key not in theirs)) if task.push else 0
        return fetched, pushed

    async def _fetch(self, member: Member, keys: Sequence[ItemKey]) -> int:
        """Get items by key, judged like anybody's; how many were kept."""
        fetched = 0
        waiting = list(keys)
        while waiting:
            part, waiting = waiting[:FETCH], waiting[FETCH:]
            answer = await ask(self._pool, member, "fetch", Fetch(tuple(part)), Items, BULK_TIMEOUT)
            asked = set(part)
            given = [item for item in answer.items if item.key in asked]
            verdicts = await self._keeper.keep(given)
            fetched += sum(verdict.kept for verdict in verdicts)
            if answer.more and given:
                got = {item.key for item in given}
                waiting = [key for key in part if key not in got] + waiting
        return fetched

    async def _push(self, member: Member, keys: Iterable[ItemKey]) -> int:
        """Send items by key, some at a time; how many were taken."""
        pushed = size = 0
        batch: list[Item] = []
        for key in keys:
            (item,) = await self._store.get([key])
            if item is None:
                continue
            if batch and (size + item.size > PUSH_BYTES or len(batch) >= PUSH_ITEMS):
                pushed += await self._send(member, batch)
                batch, size = [], 0
            batch.append(item)
            size += item.size
        if batch:
            pushed += await self._send(member, batch)
        return pushed

    async def _send(self, member: Member, batch: Sequence[Item]) -> int:
        answer = await ask(self._pool, member, "push", Push(tuple(batch)), Pushed, BULK_TIMEOUT)
        return sum(status == Status.OK for status in answer.statuses)
