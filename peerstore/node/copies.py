"""Posts: kept here and copied to the other holders at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from peerstore import ids
from peerstore.errors import PeerStoreError, StorageError
from peerstore.gateway.ask import ask
from peerstore.gateway.put import batches
from peerstore.gateway.together import all_of
from peerstore.interfaces import IPeerPool
from peerstore.items import Item, Kind
from peerstore.node.keeper import Keeper
from peerstore.node.ranges import OwnRange, Ranges
from peerstore.ring.member import Member
from peerstore.wire.bodies import ItemOutcome, Push, Pushed
from peerstore.wire.messages import Status

__all__ = ["Copier", "PUSH_TIMEOUT"]

PUSH_TIMEOUT = 15.0


class _Posted:
    """One posted item on its way: whose it is, and who has it by now."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.own: OwnRange | None = None
        self.status = Status.OK
        self.holders: list[bytes] = []
        self.next_hosts: list[Member] = []
        self.wanted = 0


class _Parcel(NamedTuple):
    """What goes to one host in one pass."""

    member: Member
    posts: list[_Posted]


class Copier:
    """Keeps what clients post for our ranges, and pushes it to the others.

    :param pool: reaches the other holders.
    :param fp: our own fingerprint.
    """

    _log = Logger()

    def __init__(self, keeper: Keeper, ranges: Ranges, pool: IPeerPool, fp: bytes) -> None:
        self._keeper = keeper
        self._ranges = ranges
        self._pool = pool
        self._fp = fp

    async def post(self, items: Sequence[Item]) -> list[ItemOutcome]:
        """Keep and copy; one outcome each, in order.

        A holder is named only when the item is on its disk.  Chunks go on to
        further hosts (the first 2 k) when one of the first k does not take
        them; heads and entries have voters and stay with the first k.
        """
        posts = [_Posted(item) for item in items]
        for post in posts:
            if not post.item.key.well_formed():
                post.status = Status.REJECTED
                continue
            post.own = self._ranges.owner_of(post.item.key.ring_id)
            if post.own is None:
                post.status = Status.NOT_RESPONSIBLE
        mine = [post for post in posts if post.own is not None]
        for post, verdict in zip(mine, await self._keeper.judge([post.item for post in mine]), strict=True):
            post.status = verdict.status
        good = [post for post in mine if post.status is Status.OK]
        for post in good:
            self._plan(post)
        # Our own disk and the others' work at the same time.
        here = Deferred.fromCoroutine(self._keep_here(good))
        there = Deferred.fromCoroutine(self._copy(good))
        await all_of([here, there])
        # What we could not keep ourselves is short of one copy still.
        short = [post for post in good if self._fp not in post.holders]
        for post in short:
            post.wanted += 1
        await self._copy(short)
        return [self._outcome(post) for post in posts]

    def _plan(self, post: _Posted) -> None:
        assert post.own is not None
        copies = self._ranges.copies
        reach = 2 * copies if post.item.key.kind is Kind.CHUNK else copies
        post.next_hosts = list(self._ranges.holders(post.own, reach)[1:])
        post.wanted = copies - 1

    async def _keep_here(self, posts: Sequence[_Posted]) -> None:
        try:
            await self._keeper.write([post.item for post in posts])
        except StorageError as error:
            self._log.warn("could not store {n} items: {why}", n=len(posts), why=error.what)
            return
        for post in posts:
            post.holders.insert(0, self._fp)

    async def _copy(self, posts: Sequence[_Posted]) -> None:
        """Push each item to as many hosts as it needs, in passes: whatever a
        host did not take goes to the next ones."""
        short = list(posts)
        while short:
            parcels: dict[bytes, _Parcel] = {}
            for post in short:
                had = len([fp for fp in post.holders if fp != self._fp])
                take, post.next_hosts = (
                    post.next_hosts[: post.wanted - had],
                    post.next_hosts[max(0, post.wanted - had) :],
                )
                for member in take:
                    parcels.setdefault(member.fp, _Parcel(member, [])).posts.append(post)
            if not parcels:
                return
            sending = []
            for parcel in parcels.values():
                contents = [post.item for post in parcel.posts]
                for batch in batches(range(len(contents)), contents):
                    part = [parcel.posts[place] for place in batch.places]
                    sending.append(Deferred.fromCoroutine(self._push(parcel.member, part)))
            await all_of(sending)
            short = [post for post in short if len([fp for fp in post.holders if fp != self._fp]) < post.wanted]

    async def _push(self, member: Member, posts: Sequence[_Posted]) -> None:
        body = Push(tuple(post.item for post in posts))
        try:
            pushed = await ask(self._pool, member, "push", body, Pushed, PUSH_TIMEOUT)
        except PeerStoreError as error:
            self._log.debug("a copy to {host} failed: {why}", host=ids.short(member.fp), why=error.what)
            return
        for post, status in zip(posts, pushed.statuses, strict=False):
            if status == Status.OK:
                post.holders.append(member.fp)

    def _outcome(self, post: _Posted) -> ItemOutcome:
        if post.own is None:
            return ItemOutcome(int(post.status), (), (), 1)
        voters = tuple(member.fp for member in self._ranges.holders(post.own, self._ranges.copies))
        enough = self._ranges.majority(len(voters))
        status = post.status
        if status is Status.OK and not post.holders:
            status = Status.UNAVAILABLE
        return ItemOutcome(int(status), tuple(post.holders), voters, enough)
