"""Bringing one range of ours and one other host's together.

Digests say whether anything differs; where much differs, the range is cut in
sixteen, so that a few new things in a large range cost a few questions.
"""

from __future__ import annotations

import functools
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec
from twisted.logger import Logger

from peerstore import ids
from peerstore.errors import BadMessage, Busy, NotReady
from peerstore.gateway.ask import BULK_TIMEOUT, ask
from peerstore.interfaces import INodeStore, IPeerPool
from peerstore.items import Item, ItemKey, Kind
from peerstore.node.keeper import Keeper
from peerstore.node.ranges import span
from peerstore.ring.member import Member
from peerstore.util.pace import Pace
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

Place = tuple[int, bytes, int, bytes]


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


def _place(after: int, key: ItemKey) -> Place:
    """Where a key stands among those of a range that begins behind *after*."""
    distance = ids.distance(after, ids.from_bytes(key.ring_id)) or ids.RING_SIZE
    return distance, key.owner, int(key.kind), key.element


class _Listing:
    """One side's keys in order, a page at a time.

    :param page: the page behind a cursor.
    :param most: keys that may come; more is a list without an end.
    """

    def __init__(
        self,
        page: Callable[[ItemKey | None], Awaitable[tuple[Sequence[ItemKey], ItemKey | None]]],
        place: Callable[[ItemKey], Place],
        most: int,
    ) -> None:
        self._page = page
        self._place = place
        self._left = most
        self._keys: deque[ItemKey] = deque()
        self._cursor: ItemKey | None = None
        self._ended = False
        self._last: Place | None = None

    async def next(self) -> ItemKey | None:
        """The next key, or None after the last.

        :raises peerstore.errors.BadMessage: when they are not in order, or
            do not end.
        """
        if not self._keys and not self._ended:
            keys, self._cursor = await self._page(self._cursor)
            self._ended = self._cursor is None or not keys
            self._keys.extend(keys)
        if not self._keys:
            return None
        key = self._keys.popleft()
        self._left -= 1
        if not key.well_formed() or self._left < 0:
            raise BadMessage("a list of keys is malformed, or has no end.")
        place = self._place(key)
        if self._last is not None and place <= self._last:
            raise BadMessage("a list of keys is out of order.")
        self._last = place
        return key


class Exchange:
    """Compares, fetches and pushes, holding a few MiB at a time.

    :param pool: reaches the other host.
    :param pace: what chunks keep to; what is voted on waits for nothing.
    """

    _log = Logger()

    def __init__(self, store: INodeStore, keeper: Keeper, pool: IPeerPool, pace: Pace) -> None:
        self._store = store
        self._keeper = keeper
        self._pool = pool
        self._pace = pace
        #: About to be removed from our disk: not to be counted on, or compared.
        self.dropping: set[ItemKey] = set()

    async def run(self, task: Task, after: int, through: int) -> int:
        """Make (after, through] the same on both sides, as far as *task* says;
        how many items came from there.

        :raises peerstore.errors.PeerStoreError: when it could not be done.
        """
        if any(
            key.kind in task.kinds and ids.in_half_open(after, ids.from_bytes(key.ring_id), through)
            for key in self.dropping
        ):
            # It would be found to be here, and not be fetched.
            raise Busy("Some of that range is just being dropped here.")
        lacks: list[ItemKey] = []
        fetched, pushed = await self._compare(task, after, through, sys.maxsize, lacks)
        if fetched or pushed:
            self._log.info(
                "replication with {host}: {fetched} items fetched, {pushed} pushed",
                host=ids.short(task.member.fp),
                fetched=fetched,
                pushed=pushed,
            )
        if lacks:
            # It has rotted there, was dropped a moment ago, or was damaged on
            # its way.  Whoever takes this for all that there is must not vote
            # by it; and nothing else has to wait for it.
            raise NotReady("A host does not give what it said it has.", status=Status.NOT_READY)
        return fetched

    async def alike(self, member: Member, kinds: tuple[Kind, ...], after: int, through: int) -> tuple[int, int, bool]:
        """How many items we have in (after, through], how many another host,
        and whether they are the same.

        :raises peerstore.errors.PeerStoreError: when it could not be asked.
        """
        body = GetRangeDigest(ids.to_bytes(after), ids.to_bytes(through), kinds)
        theirs = await ask(self._pool, member, "range-digest", body, RangeDigest, DIGEST_TIMEOUT)
        count, digest = await self._store.range_digest(body.after, body.through, body.kinds)
        return count, theirs.count, (theirs.count, theirs.digest) == (count, digest)

    async def give(self, member: Member, keys: Sequence[ItemKey]) -> int:
        """Push these items to a host; how many it took: it is given no more
        once it has no room.

        :raises peerstore.errors.PeerStoreError: when it could not be done.
        """
        return await self._push(member, keys)

    async def _compare(self, task: Task, after: int, through: int, above: int, lacks: list[ItemKey]) -> tuple[int, int]:
        """Items (fetched, pushed).

        :param above: how many keys the range has of which this one was cut.
        :param lacks: something is added to it where what is voted on did not come.
        """
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
            return await self._exchange(task, after, through, theirs.count, lacks)
        fetched = pushed = 0
        for low, high in split(after, through):
            more = await self._compare(task, low, high, most, lacks)
            fetched, pushed = fetched + more[0], pushed + more[1]
        return fetched, pushed

    async def _exchange(
        self, task: Task, after: int, through: int, count: int, lacks: list[ItemKey]
    ) -> tuple[int, int]:
        """Compare the keys themselves, and move what differs.

        Both sides list their keys in the same order, so that a page of each
        is enough to see which of them the other lacks.
        """
        place = functools.partial(_place, after)
        body = ListRange(ids.to_bytes(after), ids.to_bytes(through), task.kinds, None, PAGE)

        async def their_page(cursor: ItemKey | None) -> tuple[Sequence[ItemKey], ItemKey | None]:
            listing = msgspec.structs.replace(body, cursor=cursor)
            page = await ask(self._pool, task.member, "range-list", listing, KeyPage, BULK_TIMEOUT)
            return page.keys, page.cursor

        async def own_page(cursor: ItemKey | None) -> tuple[Sequence[ItemKey], ItemKey | None]:
            page: tuple[list[ItemKey], ItemKey | None] = await self._store.range_list(
                body.after, body.through, body.kinds, cursor, PAGE
            )
            return page

        theirs, ours = _Listing(their_page, place, 2 * count + PAGE), _Listing(own_page, place, sys.maxsize)
        fetched = pushed = 0
        wanted: list[ItemKey] = []
        offered: list[ItemKey] = []
        their, own = await theirs.next(), await ours.next()
        while their is not None or own is not None:
            if own is None or (their is not None and place(their) < place(own)):
                wanted += [their] if task.fetch and their is not None else []
                their = await theirs.next()
            elif their is None or place(own) < place(their):
                offered += [own] if task.push else []
                own = await ours.next()
            else:
                their, own = await theirs.next(), await ours.next()
            if len(wanted) >= PAGE:
                fetched += await self._fetch(task.member, wanted, lacks)
                wanted = []
            if len(offered) >= PAGE:
                pushed += await self._push(task.member, offered)
                offered = []
        fetched += await self._fetch(task.member, wanted, lacks)
        pushed += await self._push(task.member, offered)
        return fetched, pushed

    async def _fetch(self, member: Member, keys: Sequence[ItemKey], lacks: list[ItemKey]) -> int:
        """Get items by key, judged like anybody's; how many were kept."""
        fetched = 0
        waiting = list(keys)
        while waiting:
            part, waiting = waiting[:FETCH], waiting[FETCH:]
            answer = await ask(self._pool, member, "fetch", Fetch(tuple(part)), Items, BULK_TIMEOUT)
            asked = set(part)
            given = [item for item in answer.items if item.key in asked]
            verdicts = await self._keeper.keep(given)
            await self._pace.spend(_weight(given))
            kept = {item.key for item, verdict in zip(given, verdicts, strict=True) if verdict.kept}
            fetched += len(kept)
            missing = asked - kept
            if answer.more and given:
                got = {item.key for item in given}
                waiting = [key for key in part if key not in got] + waiting
                missing &= got
            if not lacks:
                lacks += [key for key in missing if key.kind is not Kind.CHUNK]
        return fetched

    async def _push(self, member: Member, keys: Sequence[ItemKey]) -> int:
        """Send items by key, some at a time; how many were taken."""
        pushed = size = 0
        batch: list[Item] = []
        for key in keys:
            (item,) = await self._store.get([key])
            if item is None:
                continue
            if batch and (size + item.size > PUSH_BYTES or len(batch) >= PUSH_ITEMS):
                taken = await self._send(member, batch)
                if taken < 0:
                    return pushed
                pushed, batch, size = pushed + taken, [], 0
            batch.append(item)
            size += item.size
        if batch:
            pushed += max(0, await self._send(member, batch))
        return pushed

    async def _send(self, member: Member, batch: Sequence[Item]) -> int:
        """How many of a batch were taken; -1 when there is no room for any."""
        await self._pace.spend(_weight(batch))
        answer = await ask(self._pool, member, "push", Push(tuple(batch)), Pushed, BULK_TIMEOUT)
        if all(status == Status.UNAVAILABLE for status in answer.statuses):
            return -1
        return sum(status == Status.OK for status in answer.statuses)


def _weight(items: Sequence[Item]) -> int:
    """Bytes that keep to the rate."""
    return sum(item.size for item in items if item.key.kind is Kind.CHUNK)
