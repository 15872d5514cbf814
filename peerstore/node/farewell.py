"""How a node goes: for a while, or for good."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from peerstore import ids
from peerstore.errors import PeerStoreError, StorageError, UsageError
from peerstore.interfaces import INodeStore
from peerstore.items import ALL_KINDS, ItemKey
from peerstore.node.canvass import Canvass
from peerstore.node.debts import Debts
from peerstore.node.duties import Duties
from peerstore.node.duty import share_of
from peerstore.node.electorate import Electorate
from peerstore.node.exchange import Exchange
from peerstore.node.keeper import Keeper
from peerstore.node.replicate import Replicator
from peerstore.node.strays import Strays
from peerstore.ring.host import RingHost
from peerstore.ring.hosts import HostTable
from peerstore.util.complaint import Complaint
from peerstore.util.together import all_of

__all__ = ["Farewell"]

#: Seconds between two looks at what is left.
AGAIN = 1.0
_ALL = bytes(20)


class Farewell:
    """Sees to it that nothing is missed when this node is gone.

    :param copies: k.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        store: INodeStore,
        keeper: Keeper,
        ring: RingHost,
        hosts: HostTable,
        electorate: Electorate,
        canvass: Canvass,
        duties: Duties,
        strays: Strays,
        replicator: Replicator,
        exchange: Exchange,
        debts: Debts,
        copies: int,
    ) -> None:
        self._clock = clock
        self._store = store
        self._keeper = keeper
        self._ring = ring
        self._hosts = hosts
        self._electorate = electorate
        self._canvass = canvass
        self._duties = duties
        self._strays = strays
        self._replicator = replicator
        self._exchange = exchange
        self._debts = debts
        self._copies = copies
        #: Of our own disk, which fails every attempt while it does.
        self._complaint = Complaint(clock.seconds)
        self._trouble = ""
        self._left = 0

    @property
    def trouble(self) -> str:
        """What keeps us from going, in words; empty when nothing does.

        Who votes comes first: others do not know that we go before it is on
        our disk, and take nothing over.
        """
        return self._canvass.trouble or self._trouble

    # -- for a while ---------------------------------------------------------------

    async def for_a_while(self) -> None:
        """Push what too few others have; all else is theirs already."""
        groups: dict[bytes, list[ItemKey]] = {}
        found = self._duties.shares()
        for key in self._debts.all():
            share = share_of(found, ids.from_bytes(key.ring_id))
            for fp in share.now if share is not None else ():
                if fp != self._electorate.fp:
                    groups.setdefault(fp, []).append(key)
        await all_of([Deferred.fromCoroutine(self._give(fp, keys)) for fp, keys in groups.items()])

    async def _give(self, fp: bytes, keys: list[ItemKey]) -> None:
        try:
            if fp in self._hosts:
                await self._exchange.give(self._hosts.position(fp, 0), keys)
        except PeerStoreError as error:
            self._log.info(
                "{host} could not be given what only this node has: {why}", host=ids.short(fp), why=error.what
            )

    # -- for good --------------------------------------------------------------------

    async def for_good(self, say: Callable[[int], None]) -> None:
        """Hand everything over, and leave the ring when k others (or all there
        are) have it.  We go on serving meanwhile; what this disk holds stays on it.

        :param say: told now and then how many items are still to go, with
            what stands in the way in ``trouble``.
        :raises peerstore.errors.UsageError: when there is nobody to take it.
        """
        if not self._duties.others():
            raise UsageError(
                "No other node of the ring answers: what this one holds would be lost.",
                "Start others first, and wait until `peerstore ring` shows them.",
            )
        self._log.info("this node hands over what it holds, to leave the ring for good")
        await self._replicator.stop()
        self._electorate.withdraw()
        while not await self._is_all_for_sure(say):
            await deferLater(self._clock, AGAIN)
        # Not before: who is not in the ring any more hears nothing of who
        # comes, goes, or is retired, and could wait for the dead for ever.
        await self._ring.leave(retired=True)
        self._log.info("all that this node held is with others: it is retired")

    async def _is_all_for_sure(self, say: Callable[[int], None]) -> bool:
        """Hand everything over, and look once more when nothing is taken any
        more; true with the keeper closed.

        Clients bring things until the last moment: of what was taken after
        the last look nobody would know."""
        while not await self._is_with_others(say):
            await deferLater(self._clock, AGAIN)
        sure = False
        try:
            await self._keeper.close()
            sure = await self._is_with_others(say)
        finally:
            if not sure:
                self._keeper.reopen()
        return sure

    async def _is_with_others(self, say: Callable[[int], None]) -> bool:
        """Hand over once more; whether nothing is left, and nothing came meanwhile."""
        self._canvass.ring_changed()
        try:
            before = await self._store.range_digest(_ALL, _ALL, ALL_KINDS)
            others = self._duties.others()
            if not others:
                # All are away: there is nobody of whom it could be lacking.
                self._trouble = "No other node of the ring answers. Start some."
                say(self._left)
                return False
            enough = min(self._copies, others)
            left = await self._strays.round(enough, drop=False)
            after = await self._store.range_digest(_ALL, _ALL, ALL_KINDS)
        except StorageError as error:
            # We are withdrawn already: to go on is all that there is to do.
            if self._complaint.due():
                self._log.error("handing over: {why} This is said every ten minutes.", why=str(error))
            self._trouble = str(error)
            say(self._left)
            return False
        self._trouble, self._left = "", left
        say(left)
        return not left and before == after and self._electorate.has_let_go_of_all
