"""Copies follow the ring.

For each of our ranges we compare digests with the other hosts that should
hold it, fetch what is missing here, and push what is missing there.  That
happens now and then, and soon after any change of the ring.  Nothing is ever
dropped here: a copy too many does no harm.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from peerstore import ids
from peerstore.errors import PeerStoreError, StorageError
from peerstore.gateway.ask import BULK_TIMEOUT, ask
from peerstore.interfaces import INodeStore, IPeerPool
from peerstore.items import ALL_KINDS, Item, ItemKey
from peerstore.node.keeper import Keeper
from peerstore.node.ranges import OwnRange, Ranges
from peerstore.ring.member import Member
from peerstore.util.periodic import Periodic
from peerstore.wire.bodies import (
    Fetch,
    GetRangeDigest,
    Items,
    KeyPage,
    ListRange,
    Push,
    Pushed,
    RangeDigest,
)

__all__ = ["Replicator"]

QUIET = 30.0
#: While a range of ours is still behind.
SOON = 1.0
#: After a change of the ring, which seldom comes alone.
DEBOUNCE = 0.25
PAGE = 2048
FETCH = 64
PUSH_BYTES = 2 * 1024 * 1024


class Replicator:
    """Keeps our ranges and their other holders equal.

    :param pool: reaches the other holders.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, store: INodeStore, keeper: Keeper, ranges: Ranges, pool: IPeerPool) -> None:
        self._clock = clock
        self._store = store
        self._keeper = keeper
        self._ranges = ranges
        self._pool = pool
        self._rounds = Periodic(clock, self._round, self._interval, "replication")
        self._soon: IDelayedCall | None = None
        self._behind = True

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    def stop(self) -> Deferred[None]:
        """End; fires when the round in flight is over."""
        if self._soon is not None and self._soon.active():
            self._soon.cancel()
        return self._rounds.stop()

    def ring_changed(self) -> None:
        """Neighbours came or went: compare again soon."""
        if self._soon is None or not self._soon.active():
            self._soon = self._clock.callLater(DEBOUNCE, self._rounds.hurry)

    def _interval(self) -> float:
        return SOON if self._behind else QUIET

    def _round(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._all())

    async def _all(self) -> None:
        behind = False
        for own in self._ranges.current():
            # One host more than hold it: where we are new, that one held it.
            others = self._ranges.holders(own, self._ranges.copies + 1)[1:]
            fine = [await self._compare(own, member, place) for place, member in enumerate(others)]
            if all(fine):
                if not self._ranges.merged(own):
                    self._ranges.mark_merged(own)
            else:
                behind = True
        self._behind = behind

    async def _compare(self, own: OwnRange, member: Member, place: int) -> bool:
        """Bring one range and one other holder together; whether it worked."""
        after, through = ids.to_bytes(own.after), ids.to_bytes(own.through)
        # The host after the last holder is asked while we are new, and is
        # never pushed to: it need not hold this.
        beyond = place >= self._ranges.copies - 1
        if beyond and self._ranges.merged(own):
            return True
        try:
            theirs = await ask(
                self._pool, member, "range-digest", GetRangeDigest(after, through, ALL_KINDS), RangeDigest, BULK_TIMEOUT
            )
            count, digest = await self._store.range_digest(after, through, ALL_KINDS)
            if (theirs.count, theirs.digest) == (count, digest):
                return True
            await self._exchange(own, member, push=not beyond)
        except StorageError as error:
            self._log.error("replication: {why}", why=str(error))
            return False
        except PeerStoreError as error:
            self._log.debug("replication with {host}: {why}", host=ids.short(member.fp), why=error.what)
            return False
        return True

    async def _exchange(self, own: OwnRange, member: Member, push: bool) -> None:
        """Walk both lists of keys in step; fetch and push what differs."""
        after, through = ids.to_bytes(own.after), ids.to_bytes(own.through)
        fetched = pushed = 0
        cursor: ItemKey | None = None
        theirs: set[ItemKey] = set()
        while True:
            body = ListRange(after, through, ALL_KINDS, cursor, PAGE)
            page = await ask(self._pool, member, "range-list", body, KeyPage, BULK_TIMEOUT)
            have = await self._store.have(page.keys)
            missing = [key for key, there in zip(page.keys, have, strict=True) if not there]
            fetched += await self._fetch(member, missing)
            theirs.update(page.keys)
            cursor = page.cursor
            if cursor is None or not page.keys:
                break
        while push:
            keys, cursor = await self._store.range_list(after, through, ALL_KINDS, cursor, PAGE)
            pushed += await self._push(member, [key for key in keys if key not in theirs])
            if cursor is None:
                break
        if fetched or pushed:
            self._log.info(
                "replication with {host}: {fetched} items fetched, {pushed} pushed",
                host=ids.short(member.fp),
                fetched=fetched,
                pushed=pushed,
            )

    async def _fetch(self, member: Member, keys: Sequence[ItemKey]) -> int:
        fetched = 0
        waiting = list(keys)
        while waiting:
            part, waiting = waiting[:FETCH], waiting[FETCH:]
            answer = await ask(self._pool, member, "fetch", Fetch(tuple(part)), Items, BULK_TIMEOUT)
            verdicts = await self._keeper.keep(answer.items)
            fetched += sum(verdict.kept for verdict in verdicts)
            if answer.more and answer.items:
                got = {item.key for item in answer.items}
                waiting = [key for key in part if key not in got] + waiting
        return fetched

    async def _push(self, member: Member, keys: Sequence[ItemKey]) -> int:
        pushed = 0
        batch: list[Item] = []
        size = 0
        for key in keys:
            (item,) = await self._store.get([key])
            if item is None:
                continue
            if batch and size + item.size > PUSH_BYTES:
                pushed += await self._send(member, batch)
                batch, size = [], 0
            batch.append(item)
            size += item.size
        if batch:
            pushed += await self._send(member, batch)
        return pushed

    async def _send(self, member: Member, batch: Sequence[Item]) -> int:
        answer = await ask(self._pool, member, "push", Push(tuple(batch)), Pushed, BULK_TIMEOUT)
        return sum(status == 0 for status in answer.statuses)
