"""Copies that are not, or no longer, ours to hold.

They are brought to those whose they are, and then dropped; never before k
others have said that they have them.  A host says so only of what it has just
*read*, and found whole; only as one who is to hold it, by its own view; and
never of what it is itself about to drop.  So of hosts that all take each other
for the holders, none drops anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from peerstore import ids
from peerstore.errors import PeerStoreError
from peerstore.gateway.ask import BULK_TIMEOUT, ask
from peerstore.interfaces import INodeStore, IPeerPool
from peerstore.items import ALL_KINDS, ItemKey, Kind
from peerstore.node.duties import Duties
from peerstore.node.duty import Share, in_order, share_of
from peerstore.node.electorate import Electorate
from peerstore.node.exchange import Exchange
from peerstore.ring.hosts import HostTable
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
    ) -> None:
        self._store = store
        self._duties = duties
        self._electorate = electorate
        self._exchange = exchange
        self._hosts = hosts
        self._pool = pool
        #: About to be removed from this disk: not to be counted on.
        self.dropping: set[ItemKey] = set()

    async def round(self, enough: int, drop: bool) -> int:
        """Hand over all that others hold; how much of it is not with *enough*
        of them yet.

        :param drop: remove our own copies of what is.
        :raises peerstore.errors.StorageError: when our own disk fails.
        """
        left = dropped = 0
        found = self._duties.shares()
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
                    sure = await self._with_others(share, some) if len(share.now) >= enough else []
                    left += len(some) - len(sure)
                    dropped += await self._drop(sure) if drop else 0
        if dropped:
            self._log.info("{n} copies that {k} others have were dropped here", n=dropped, k=enough)
        return left

    def may_confirm(self, key: ItemKey) -> bool:
        """Whether others may rely on our copy of this, if we have one."""
        return key not in self.dropping and self._duties.holds(key.ring_id)

    # -- inside ------------------------------------------------------------------

    async def _with_others(self, share: Share, keys: Sequence[ItemKey]) -> list[ItemKey]:
        """Those of *keys* that all holders of a share have, also because we
        gave them."""
        # What is voted on is the old voters' until the new ones know it all.
        ripe = [key for key in keys if key.kind is Kind.CHUNK or self._electorate.has_let_go(key.ring_id)]
        if not ripe:
            return []
        asking = [Deferred.fromCoroutine(self._with(fp, ripe)) for fp in share.now]
        had = await all_of(asking)
        return [key for key in ripe if all(key in theirs for theirs in had)]

    async def _with(self, fp: bytes, keys: Sequence[ItemKey]) -> frozenset[ItemKey]:
        if fp not in self._hosts:
            return frozenset()
        try:
            has = await self._ask(fp, keys)
            lacks = [key for key in keys if key not in has]
            if lacks:
                await self._exchange.give(self._hosts.position(fp, 0), lacks)
                has |= await self._ask(fp, lacks)
        except PeerStoreError as error:
            self._log.debug("handing over to {host}: {why}", host=ids.short(fp), why=error.what)
            return frozenset()
        return has

    async def _ask(self, fp: bytes, keys: Sequence[ItemKey]) -> frozenset[ItemKey]:
        member = self._hosts.position(fp, 0)
        answer = await ask(self._pool, member, "confirm", Confirm(tuple(keys)), Confirmed, BULK_TIMEOUT)
        return frozenset(key for key, has in zip(keys, answer.has, strict=False) if has)

    async def _drop(self, keys: Sequence[ItemKey]) -> int:
        """Remove what is still not ours to hold.  From here on we confirm
        none of it."""
        going = [key for key in keys if not self._duties.holds(key.ring_id)]
        self.dropping.update(going)
        try:
            removed: int = await self._store.remove(going)
        finally:
            self.dropping.difference_update(going)
        return removed
