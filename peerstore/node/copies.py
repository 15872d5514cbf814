"""Posts: kept here and copied to the other holders at the same time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from peerstore import ids
from peerstore.errors import Busy, PeerStoreError, PeerTimeout, StorageError
from peerstore.gateway.ask import ask
from peerstore.gateway.lanes import Lanes
from peerstore.gateway.patience import Patience
from peerstore.gateway.put import Batch, batches
from peerstore.interfaces import IPeerPool
from peerstore.items import Item, Kind
from peerstore.node.debts import Debts
from peerstore.node.electorate import Electorate
from peerstore.node.keeper import Keeper
from peerstore.node.ranges import OwnRange, Ranges
from peerstore.ring.hosts import HostTable
from peerstore.ring.member import Member
from peerstore.util.complaint import Complaint
from peerstore.util.together import all_of
from peerstore.wire.bodies import ItemOutcome, Push, Pushed
from peerstore.wire.messages import Status

__all__ = ["Copier", "PUSH_TIMEOUT"]

PUSH_TIMEOUT = 15.0
#: Seconds that the last copies get once the others are enough.
GRACE = 2.0
#: Seconds for which a host that says BUSY is asked again.
BUSY_PATIENCE = 3.0


class _Posted:
    """One posted item on its way: whose it is, and who has it by now."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.own: OwnRange | None = None
        self.status = Status.OK
        self.holders: list[bytes] = []
        self.next_hosts: list[Member] = []
        self.wanted = 0
        #: Who took it in the name of which list of voters.
        self.names: dict[bytes, bytes] = {}
        self.needed = 1
        self.certain = False
        self.became_certain: Callable[[], None] = lambda: None

    @property
    def counted(self) -> list[bytes]:
        """The holders that make it certain: of a chunk all, else only those
        that took it in one name."""
        if self.item.key.kind is Kind.CHUNK:
            return self.holders
        groups: dict[bytes, list[bytes]] = {}
        for fp in self.holders:
            if self.names.get(fp):
                groups.setdefault(self.names[fp], []).append(fp)
        return max(groups.values(), key=len, default=[])

    def add(self, fp: bytes, name: bytes = b"", needed: int = 1, first: bool = False) -> None:
        """One more host has it on disk, and took it in this name."""
        self.holders.insert(0 if first else len(self.holders), fp)
        self.names[fp] = name
        self.needed = max(self.needed, needed)
        if not self.certain and len(self.counted) >= self.needed:
            self.certain = True
            self.became_certain()


class _Waiting:
    """Waits for copies: for all of them, but once every item is certain only
    ``GRACE`` longer.  A holder whose disk hangs must not stop all writes."""

    def __init__(self, clock: IReactorTime, posts: Sequence[_Posted]) -> None:
        self._clock = clock
        self._uncertain = len(posts)
        self._done: Deferred[object] = Deferred()
        self._timer: IDelayedCall | None = None
        for post in posts:
            post.became_certain = self._one_more

    async def until(self, copying: Deferred[None]) -> None:
        """Return when there is no more to wait for; what is still on its way
        then is the caller's to call back, and left to replication."""
        copying.addBoth(self._finish)
        try:
            await self._done
        finally:
            self._uncertain = 0
            if self._timer is not None and self._timer.active():
                self._timer.cancel()

    def _one_more(self) -> None:
        self._uncertain -= 1
        # Below: our own disk was late, and nobody waits any more.
        if self._uncertain == 0:
            self._timer = self._clock.callLater(GRACE, self._finish, None)

    def _finish(self, result: object) -> None:
        if not self._done.called:
            self._done.callback(result)


class _Parcel(NamedTuple):
    """What goes to one host in one pass."""

    member: Member
    posts: list[_Posted]


class Copier:
    """Keeps what clients post for our ranges, and pushes it to the others.

    :param pool: reaches the other holders.
    :param fp: our own fingerprint.
    :param lanes: bounds on the copies in flight: what a host will not take at
        the same time waits here, and is not taken for a refusal.
    """

    _log = Logger()

    def __init__(
        self,
        keeper: Keeper,
        ranges: Ranges,
        electorate: Electorate,
        debts: Debts,
        hosts: HostTable,
        pool: IPeerPool,
        fp: bytes,
        lanes: Lanes,
        clock: IReactorTime,
        rng: random.Random,
    ) -> None:
        self._keeper = keeper
        self._ranges = ranges
        self._electorate = electorate
        self._debts = debts
        self._hosts = hosts
        self._pool = pool
        self._fp = fp
        self._lanes = lanes
        self._clock = clock
        self._rng = rng
        self._complaint = Complaint(clock.seconds)
        #: Of a disk that does not answer at all.
        self._silence = Complaint(clock.seconds)

    async def post(self, items: Sequence[Item]) -> list[ItemOutcome]:
        """Keep and copy; one outcome each, in order.

        A holder is named only when the item is on its disk.  Chunks go on to
        further hosts (the first 2 k) when one of the first k does not take
        them.  Heads and entries go to every voter, and only those count as
        holders that took them in the name of one and the same list.
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
        await self._store(good)
        kept = [post for post in good if self._fp in post.holders]
        # Not where we do not count anyway: the disk that hangs is the same.
        if kept and not await self._electorate.may_vote():
            for post in kept:
                post.names.pop(self._fp, None)
        for post in good:
            # We do not count: once we stop, what is left is what others have.
            if self._fp in post.holders and len(set(post.counted) - {self._fp}) < post.needed:
                self._debts.owe(post.item.key)
            else:
                self._debts.paid(post.item.key)
        return [self._outcome(post) for post in posts]

    async def _store(self, posts: Sequence[_Posted]) -> None:
        """On our own disk and on others', at the same time.

        Our own is waited for like any other: where it hangs, and the others
        are enough, they are told of, and it is not.
        """
        waiting = _Waiting(self._clock, posts)
        kept: Deferred[None] = Deferred()
        copying = Deferred.fromCoroutine(self._spread(posts, kept))
        # It goes on whoever waits for it: what a disk was given, it writes.
        Deferred.fromCoroutine(self._keep_here(posts)).addBoth(self._was_kept, kept)
        try:
            await waiting.until(copying)
        except Exception:
            # Not when this is thrown away, as all of a dead node's work is.
            copying.addErrback(lambda failure: failure.trap(CancelledError))
            copying.cancel()
            raise
        is_silent = not kept.called
        copying.cancel()
        if is_silent and self._silence.due():
            self._log.error(
                "this node's disk does not write in time what is posted: others keep it, and it is fetched from them "
                "later. If that goes on, check the disk. This is said every ten minutes."
            )

    def _was_kept(self, result: Failure | None, kept: Deferred[None]) -> None:
        if not kept.called:
            kept.callback(result)  # type: ignore[arg-type]
        elif isinstance(result, Failure):
            self._log.failure("what was posted could not be kept here", failure=result)

    async def _spread(self, posts: Sequence[_Posted], kept: Deferred[None]) -> None:
        """To the others; one more for what we could not keep ourselves, once
        our own disk has answered (*kept*)."""
        await self._copy(posts)
        await kept
        short = [post for post in posts if self._fp not in post.holders]
        for post in short:
            post.wanted += 1
        await self._copy(short)

    def _plan(self, post: _Posted) -> None:
        assert post.own is not None
        copies = self._ranges.copies
        if post.item.key.kind is Kind.CHUNK:
            post.next_hosts = list(self._ranges.holders(post.own, 2 * copies)[1:])
            post.wanted = copies - 1
            post.needed = self._ranges.majority(len(self._ranges.holders(post.own, copies)))
            return
        found = {member.fp: member for member in self._ranges.holders(post.own, copies)}
        vote = self._electorate.vote(post.item.key.ring_id)
        for fp in vote.voters:
            if fp not in found and fp in self._hosts:
                found[fp] = self._hosts.position(fp, 0)
        found.pop(self._fp, None)
        post.next_hosts = list(found.values())
        post.wanted = len(found)
        post.needed = vote.needed

    async def _keep_here(self, posts: Sequence[_Posted]) -> None:
        if self._keeper.closed:
            return
        try:
            await self._keeper.write([post.item for post in posts])
        except StorageError as error:
            if self._complaint.due():
                self._log.error(
                    "what is posted cannot be stored: {why} This is said every ten minutes.", why=str(error)
                )
            return
        if posts and self._complaint.over():
            self._log.info("what is posted can be stored again")
        if posts and self._silence.over():
            self._log.info("this node's disk writes in time again")
        for post in posts:
            # After the write: had we spoken in another name before it,
            # whoever heard us has not seen it.
            post.add(self._fp, *self._in_name(post), first=True)

    def _in_name(self, post: _Posted) -> tuple[bytes, int]:
        if post.item.key.kind is Kind.CHUNK:
            return b"", 1
        vote = self._electorate.vote(post.item.key.ring_id)
        return vote.name, vote.needed

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
                    sending.append(Deferred.fromCoroutine(self._push(parcel.member, batch, part)))
            await all_of(sending)
            short = [post for post in short if len([fp for fp in post.holders if fp != self._fp]) < post.wanted]

    async def _push(self, member: Member, batch: Batch, posts: Sequence[_Posted]) -> None:
        body = Push(tuple(post.item for post in posts))
        began = self._clock.seconds()
        waits = Patience(self._clock, self._rng, BUSY_PATIENCE)
        try:
            pushed = await self._ask(member, batch.size, body, began)
            while pushed is None and await waits.pause():
                pushed = await self._ask(member, batch.size, body, began)
            if pushed is None:
                raise Busy("It is still busy.")
        except PeerStoreError as error:
            self._log.debug("a copy to {host} failed: {why}", host=ids.short(member.fp), why=error.what)
            return
        for post, status, name in zip(posts, pushed.statuses, pushed.names, strict=False):
            if status == Status.OK:
                # No more than a majority of k is ever needed, whatever it says.
                post.add(member.fp, name, min(pushed.needed, self._ranges.copies // 2 + 1))

    async def _ask(self, member: Member, size: int, body: Push, began: float) -> Pushed | None:
        """One attempt; None when the other host is busy."""
        try:
            async with self._lanes.room(member.fp, size):
                # Behind others that a host let wait in vain: once is enough.
                if self._clock.seconds() - began >= PUSH_TIMEOUT:
                    raise PeerTimeout(f"{member.address} takes no copies just now.")
                return await ask(self._pool, member, "push", body, Pushed, PUSH_TIMEOUT)
        except Busy:
            return None

    def _outcome(self, post: _Posted) -> ItemOutcome:
        if post.own is None:
            return ItemOutcome(int(post.status), (), (), 1)
        status = post.status
        if status is Status.OK and not post.holders:
            status = Status.UNAVAILABLE
        if post.item.key.kind is Kind.CHUNK:
            hosts = tuple(member.fp for member in self._ranges.holders(post.own, self._ranges.copies))
            return ItemOutcome(int(status), tuple(post.holders), hosts, self._ranges.majority(len(hosts)))
        vote = self._electorate.vote(post.item.key.ring_id)
        return ItemOutcome(int(status), tuple(post.counted), vote.voters, max(post.needed, vote.needed))
