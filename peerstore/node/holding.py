"""All parts of a node that see to copies, put together."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from peerstore import ids
from peerstore.errors import UsageError
from peerstore.interfaces import INodeStore, IPeerPool
from peerstore.node.canvass import Canvass
from peerstore.node.config import NodeConfig
from peerstore.node.debts import Debts
from peerstore.node.duties import Duties
from peerstore.node.electorate import Electorate
from peerstore.node.exchange import Exchange
from peerstore.node.farewell import Farewell
from peerstore.node.keeper import Keeper
from peerstore.node.mend import Mender, fetch_from, holders_of
from peerstore.node.ranges import Ranges
from peerstore.node.replicate import Replicator
from peerstore.node.scrubber import Scrubber
from peerstore.node.strays import Strays
from peerstore.node.suspicions import Suspicions
from peerstore.ring.host import MEMBER, RingHost
from peerstore.ring.hosts import HostTable
from peerstore.util.pace import Pace

__all__ = ["Holding"]

#: The longest (s) that what only we have is pushed to others before we go.
HAND_OVER = 60.0


class Holding:
    """Who votes, who holds, and how copies get there.

    :param pool: reaches the other hosts.
    :param entropy: gives random bytes.
    :param keep_hosts: puts the table of hosts on disk, where it has changed.
    :param is_first: whether nobody was named whom this node is to join.  Only
        such a node begins a ring.  One that reaches none of those it is to
        join, being new or having lost its disk while all others are down,
        would say of all that they have that it is not there.
    """

    _log = Logger()

    def __init__(
        self,
        config: NodeConfig,
        copies: int,
        clock: IReactorTime,
        store: INodeStore,
        keeper: Keeper,
        pool: IPeerPool,
        ring: RingHost,
        hosts: HostTable,
        ranges: Ranges,
        entropy: Callable[[int], bytes],
        keep_hosts: Callable[[], Coroutine[Any, Any, None]],
        is_first: bool,
    ) -> None:
        fp = ring.fp
        self._is_first = is_first
        self._clock = clock
        self._ring = ring
        self._told: list[Callable[[int], None]] = []
        self._ends: list[Deferred[None]] = []
        self._is_over = False
        self._hosts = hosts
        self._keep_hosts = keep_hosts
        self.debts = debts = Debts()
        self.electorate = electorate = Electorate(store, hosts, fp, copies, clock.seconds, entropy, keep_hosts)
        pace = Pace(clock, config.repair_rate)
        exchange = Exchange(store, keeper, pool, pace)
        suspicions = Suspicions(clock.seconds, electorate.suspect)
        self.canvass = canvass = Canvass(clock, electorate, suspicions, ranges, exchange, hosts, pool)
        self.duties = duties = Duties(electorate, hosts, clock, config.repair_grace)
        self.strays = strays = Strays(store, duties, electorate, exchange, hosts, pool, clock)
        self.replicator = replicator = Replicator(clock, duties, exchange, strays, debts, hosts, fp, copies)
        self.farewell = Farewell(
            clock, store, keeper, ring, hosts, electorate, canvass, duties, strays, replicator, exchange, debts, copies
        )
        self.mender = Mender(
            clock,
            store,
            keeper,
            lambda key: holders_of(key, electorate, duties, hosts),
            lambda member, keys: fetch_from(pool, pace, member, keys),
        )
        self.scrubber = Scrubber(clock, store, config.scrub_rate, config.scrub_days)
        for part in (canvass, replicator):
            ring.watch_changes(part.ring_changed)
            electorate.watch(part.ring_changed)
        ring.watch_changes(self._perhaps_first)
        ring.watch_drops(suspicions.lost)

    async def start(self) -> None:
        """Begin a new life; it is on disk when this returns.

        :raises peerstore.errors.StorageError: when it cannot be.
        """
        await self.electorate.open()

    def run(self) -> None:
        """Begin the rounds, unless they were ended meanwhile."""
        if self._is_over:
            return
        for part in (self.canvass, self.replicator, self.mender, self.scrubber):
            part.start()

    def stop(self) -> Deferred[None]:
        """End them, for good."""
        self._is_over = True
        parts = (self.canvass, self.replicator, self.mender, self.scrubber)
        ending = DeferredList([part.stop() for part in parts], consumeErrors=True)
        return ending.addCallback(lambda _: None)

    async def hand_over(self) -> None:
        """What others lack, before we go; for no longer than people wait."""
        if not self._ring.serving:
            return
        handing = Deferred.fromCoroutine(self.farewell.for_a_while())
        handing.addTimeout(HAND_OVER, self._clock)
        handing.addErrback(self._not_handed_over)
        await handing

    def retire(self, say: Callable[[int], None]) -> Deferred[None]:
        """Leave the ring for good: see ``farewell``.  Fires when all that we
        hold is with others; the node is to be stopped then.  Whoever asks
        again meanwhile is told how it goes, too."""
        self._told.append(say)
        done: Deferred[None] = Deferred()
        self._ends.append(done)
        if len(self._ends) == 1:
            retiring = Deferred.fromCoroutine(self.farewell.for_good(self._tell))
            retiring.addBoth(self._retired)
        return done

    def _tell(self, left: int) -> None:
        for say in self._told:
            say(left)

    def _retired(self, result: Any) -> None:
        ends, self._ends, self._told = self._ends, [], []
        for done in ends:
            done.callback(result)

    def retire_lost(self, name: str) -> Deferred[None]:
        """Another host is gone for good, and whatever only it had with it.
        Fires when that is on disk: nobody has to say it twice.

        :param name: its fingerprint as hex digits, or the first 8 or more.
        :raises peerstore.errors.UsageError: when it is not known, or lives.  What
            is returned fails with a StorageError when it cannot be kept.
        """
        if len(name) < 8:
            raise UsageError(
                f"{name} is too little to tell nodes apart.",
                "Name the lost one by at least eight digits, as `peerstore ring` shows them.",
            )
        known = [fp for fp in (self._ring.fp, *self._hosts.fps()) if fp.hex().startswith(name.lower())]
        before = [fp for fp in self._hosts.retired() if fp.hex().startswith(name.lower())]
        if len(before) == 1 and not known:
            # It was retired before, perhaps not for long enough to be kept.
            return Deferred.fromCoroutine(self._keep_hosts())
        if len(known) != 1:
            raise UsageError(f"No node here is known as {name}.", "`peerstore ring` names them all.")
        (fp,) = known
        if fp == self._ring.fp or self._hosts.is_alive(fp):
            raise UsageError(
                f"{ids.short(fp)} is alive.",
                "Run `peerstore node retire DATA` there, so that it hands over what it has.",
            )
        self._ring.retire(fp)
        return Deferred.fromCoroutine(self._keep_hosts())

    def _not_handed_over(self, failure: Failure) -> None:
        self._log.warn("others could not be given all that only this node has: {why}", why=failure.getErrorMessage())

    def _perhaps_first(self) -> None:
        """A node that is alone, and never met anybody, begins a ring: it is
        the one that votes there, until others come."""
        if self._is_first and self._ring.status == MEMBER and self._ring.alone and not self._hosts.fps():
            self.electorate.found()
