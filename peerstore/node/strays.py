"""Copies that are not, or no longer, ours to hold.

They are brought to those whose they are, and then dropped; never before k
others have said that they have them.  A host says so only of what it has just
*read*, and found whole; only as one who is to hold it, by its own view; and
never of what it is itself about to drop.  So of hosts that all take each other
for the holders, none drops anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from peerstore import ids
from peerstore.errors import PeerError, PeerStoreError, StorageError
from peerstore.gateway.ask import BULK_TIMEOUT, ask
from peerstore.interfaces import INodeStore, IPeerPool
from peerstore.items import ALL_KINDS, ItemKey, Kind
from peerstore.node.duties import Duties
from peerstore.node.duty import Share, in_order, share_of
from peerstore.node.electorate import Electorate
from peerstore.node.exchange import Exchange
from peerstore.node.progress import Progress
from peerstore.ring.hosts import HostTable
from peerstore.ring.member import Member
from peerstore.util.together import all_of
from peerstore.wire.bodies import Confirm, Confirmed

__all__ = ["Strays"]

#: Keys in one question: the other end reads what they name.
PER_QUESTION = 32


class Strays:
    """Hands over and drops what others hold.

    :param pool: reaches the others.
    """

    _log = Logger()

    def __init__(
        self,
        store: INodeStore,
        duties: Duties,
        electorate: Electorate,
        exchange: Exchange,
        hosts: HostTable,
        pool: IPeerPool,
        clock: IReactorTime,
    ) -> None:
        self._store = store
        self._duties = duties
        self._electorate = electorate
        self._exchange = exchange
        self._hosts = hosts
        self._pool = pool
        #: Hosts that had no room for what they were given in this round.
        self._full: set[bytes] = set()
        #: Those that did not answer in it: each question would take its time,
        #: and what is ours to see to waits for the end of the round.
        self._silent: set[bytes] = set()
        #: Of what the holders of a share give each other.
        self._progress = Progress(clock)

    async def round(self, enough: int, drop: bool) -> int:
        """Hand over all that others hold; how much of it is not with *enough*
        of them yet.

        :param drop: remove our own copies of what is.
        :raises peerstore.errors.StorageError: when our own disk fails.
        """
        left = dropped = 0
        self._full.clear()
        self._silent.clear()
        found = self._duties.shares()
        self._progress.only(set(found))
        missed: dict[Share, bool] = {}
        strange = [share for share in found if not share.concerns(self._electorate.fp)]
        for after, through in in_order(strange):
            cursor: ItemKey | None = None
            more = True
            while more:
                keys, cursor = await self._store.range_list(
                    ids.to_bytes(after), ids.to_bytes(through), ALL_KINDS, cursor, PER_QUESTION
                )
                more = cursor is not None and bool(keys)
                groups: dict[Share, list[ItemKey]] = {}
                for key in keys:
                    share = share_of(found, ids.from_bytes(key.ring_id))
                    assert share is not None
                    groups.setdefault(share, []).append(key)
                for share, some in groups.items():
                    if share not in missed:
                        missed[share] = len(share.now) >= enough and await self._is_missed(share)
                    sure = await self._with_others(share, some) if missed[share] else []
                    left += len(some) - len(sure)
                    dropped += await self._drop(share, sure) if drop else 0
        if dropped:
            self._log.info("{n} copies that {k} others have were dropped here", n=dropped, k=enough)
        return left

    def may_confirm(self, key: ItemKey) -> bool:
        """Whether others may rely on our copy of this, if we have one."""
        return key not in self._exchange.dropping and self._duties.holds(key.ring_id)

    # -- inside ------------------------------------------------------------------

    async def _is_missed(self, share: Share) -> bool:
        """Whether it is time to ask the holders of a share for its items, and
        to give them what they lack.

        As long as some of them have fewer than we, and others of them have
        as many, those are giving them what they lack.
        """
        told = await all_of([Deferred.fromCoroutine(self._counts(fp, share)) for fp in share.now])
        mine = max(own for own, _ in told)
        theirs = [count for _, count in told]
        return min(theirs) >= mine or max(theirs) < mine or self._progress.is_stuck(share, sum(theirs))

    async def _counts(self, fp: bytes, share: Share) -> tuple[int, int]:
        """How many items of a share we have, and another host."""
        if fp not in self._hosts or fp in self._silent:
            return 0, -1
        member = self._hosts.position(fp, 0)
        try:
            own, their, _ = await self._exchange.alike(member, ALL_KINDS, share.after, share.through)
        except StorageError:
            raise
        except PeerStoreError as error:
            self._failed(fp, error)
            return 0, -1
        return own, their

    async def _with_others(self, share: Share, keys: Sequence[ItemKey]) -> list[ItemKey]:
        """Those of *keys* that all holders of a share have, also because we
        gave them."""
        ripe = [key for key in keys if self._is_ripe(key)]
        if not ripe:
            return []
        asking = [Deferred.fromCoroutine(self._with(fp, ripe)) for fp in share.now]
        had = await all_of(asking)
        return [key for key in ripe if all(key in theirs for theirs in had)]

    async def _with(self, fp: bytes, keys: Sequence[ItemKey]) -> frozenset[ItemKey]:
        member = self._hosts.whereabouts(fp)
        if member is None or fp in self._silent:
            return frozenset()
        try:
            has = await self._ask(member, keys)
            lacks = [key for key in keys if key not in has]
            if lacks and fp not in self._full:
                if not await self._exchange.give(member, lacks):
                    self._full.add(fp)
                has |= await self._ask(member, lacks)
        except PeerStoreError as error:
            self._failed(fp, error)
            return frozenset()
        return has

    def _failed(self, fp: bytes, error: PeerStoreError) -> None:
        self._log.debug("handing over to {host}: {why}", host=ids.short(fp), why=error.what)
        if isinstance(error, PeerError):
            self._silent.add(fp)

    async def _ask(self, member: Member, keys: Sequence[ItemKey]) -> frozenset[ItemKey]:
        answer = await ask(self._pool, member, "confirm", Confirm(tuple(keys)), Confirmed, BULK_TIMEOUT)
        return frozenset(key for key, has in zip(keys, answer.has, strict=False) if has)

    def _is_ripe(self, key: ItemKey) -> bool:
        """What is voted on is the old voters' until the new ones know it all."""
        return key.kind is Kind.CHUNK or self._electorate.has_let_go(key.ring_id)

    def _is_still(self, share: Share, key: ItemKey) -> bool:
        """Whether a key is where it was when its holders were asked: since
        then we may have become one of them, or a voter, and they none."""
        return share == share_of(self._duties.shares(), ids.from_bytes(key.ring_id)) and self._is_ripe(key)

    def _drop(self, share: Share, keys: Sequence[ItemKey]) -> Deferred[int]:
        """Remove what is still another share's.  From here on we confirm none
        of it, until it is gone: also if nobody waits for that any more."""
        going = [key for key in keys if self._is_still(share, key)]
        told: Deferred[int] = Deferred()
        self._exchange.dropping.update(going)

        def gone(result: int | Failure) -> None:
            self._exchange.dropping.difference_update(going)
            told.callback(result)  # type: ignore[arg-type]

        removing: Deferred[int] = self._store.remove(going) if going else succeed(0)
        removing.addBoth(gone)
        return told
