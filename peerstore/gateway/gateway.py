"""Everything that nodes and clients ask of a ring, in one place."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from peerstore.gateway.fetch import ChunkReader
from peerstore.gateway.lanes import Lanes
from peerstore.gateway.locate import ILookup, Locator
from peerstore.gateway.put import ITEM_OVERHEAD, Writer
from peerstore.gateway.results import UNSENT, LogRead, Outcome, SetRead
from peerstore.gateway.settings import IKnownHosts, RingSettings
from peerstore.gateway.union import SetReader
from peerstore.interfaces import IBlockingRunner, IPeerPool
from peerstore.items import Item
from peerstore.util.blocking import InlineRunner
from peerstore.wire.bodies import Append, PostChunks, PostHeads
from peerstore.wire.messages import Status

__all__ = ["Gateway"]

#: What is in flight over all connections: about 16 MiB, in each direction.
TOTAL_BYTES = 16 * 1024 * 1024
TOTAL_REQUESTS = 64
#: A node takes 8 MiB and 32 requests on one connection; others use it, too.
HOST_BYTES = 6 * 1024 * 1024
HOST_REQUESTS = 12
#: Entries above this many bytes do not travel with a head.
PASSED_ON = 1024 * 1024


class Gateway:
    """Puts to and gets from the ring, through its changes.

    Every write is idempotent and sent again until it is certain or *patience*
    (s) is over; every read says whether it is complete.

    :param pool: kept connections.
    :param hosts: the table of known hosts.
    :param lookup: a ``LookupClient`` or a ``RingHost``.
    :param clock: provides ``IReactorTime``.
    :param rng: spreads retries.
    :param copies: copies that the ring keeps; 0: learn it from a greeting.
    :param runner: where large hashes are computed.
    :param on_wait: called once when a read has to wait for more nodes.
    """

    def __init__(
        self,
        pool: IPeerPool,
        hosts: IKnownHosts,
        lookup: ILookup,
        clock: IReactorTime,
        rng: random.Random,
        *,
        copies: int = 0,
        patience: float = 30.0,
        runner: IBlockingRunner | None = None,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self.patience = patience
        self.locator = Locator(lookup, clock)
        settings = RingSettings(pool, copies, hosts)
        writes = Lanes(TOTAL_BYTES, TOTAL_REQUESTS, HOST_BYTES, HOST_REQUESTS)
        reads = Lanes(TOTAL_BYTES, TOTAL_REQUESTS, TOTAL_BYTES // 2, HOST_REQUESTS)
        self._writer = Writer(pool, self.locator, writes, clock, rng)
        self._chunks = ChunkReader(pool, self.locator, reads, settings, clock, rng, runner or InlineRunner())
        self._sets = SetReader(pool, self.locator, settings, clock, rng, on_wait)

    # -- writes ---------------------------------------------------------------

    def put_chunks(self, items: Sequence[Item], patience: float | None = None) -> Deferred[list[Outcome]]:
        """Store chunks; one outcome each, in order."""
        return Deferred.fromCoroutine(self._writer.put("post-chunks", items, PostChunks, self._patience(patience)))

    def put_heads(
        self, heads: Sequence[Item], entries: Sequence[Item] = (), patience: float | None = None
    ) -> Deferred[list[Outcome]]:
        """Store heads, and once all are certain append *entries* to their log.

        The entries travel with the last head, whose node passes them on; if
        that did not work out, they are appended from here.  Outcomes are
        those of the heads, then of the entries (UNAVAILABLE where a head was
        not certain, so that the entry was held back).
        """
        return Deferred.fromCoroutine(self._put_heads(heads, entries, self._patience(patience)))

    def append(self, entries: Sequence[Item], patience: float | None = None) -> Deferred[list[Outcome]]:
        """Append log entries, in order within each chain.

        GAP says that the log's node lacks earlier entries of the chain
        (:meth:`read_log` with limit 0 tells which it has), REJECTED that there
        is another entry at that number.
        """
        return Deferred.fromCoroutine(self._append(entries, self._patience(patience)))

    # -- reads ----------------------------------------------------------------

    def get_chunks(self, hashes: Sequence[bytes], patience: float | None = None) -> Deferred[dict[bytes, Item]]:
        """Verified chunks by their 32-byte hashes; what nobody has is left out."""
        return Deferred.fromCoroutine(self._chunks.get(hashes, self._patience(patience)))

    def have_chunks(self, owner: bytes, hashes: Sequence[bytes]) -> Deferred[frozenset[bytes]]:
        """Those of *owner*'s chunks that are certain: on a majority of hosts.

        Hosts that cannot be asked count as not having them.
        """
        return Deferred.fromCoroutine(self._chunks.have(owner, hashes))

    def get_heads(
        self, ring_id: bytes, owner: bytes, elements: Sequence[bytes] = (), patience: float | None = None
    ) -> Deferred[SetRead]:
        """The newest heads of one resource, or those that *elements* name."""
        return Deferred.fromCoroutine(self._sets.heads(ring_id, owner, tuple(elements), self._patience(patience)))

    def read_log(
        self,
        ring_id: bytes,
        owner: bytes,
        seen: Mapping[bytes, int],
        limit: int = 256,
        patience: float | None = None,
    ) -> Deferred[LogRead]:
        """Entries of a log after the numbers in *seen*, at most about *limit*."""
        return Deferred.fromCoroutine(self._sets.log(ring_id, owner, seen, limit, self._patience(patience)))

    def watch_log(
        self, ring_id: bytes, owner: bytes, seen: Mapping[bytes, int], limit: int = 256, wait: float = 60.0
    ) -> Deferred[LogRead]:
        """Like :meth:`read_log`, answered as soon as there is news, or empty
        after *wait* seconds.  Cancel it to stop waiting.

        Fails with a PeerStoreError when the log's nodes cannot be found.
        """
        return Deferred.fromCoroutine(self._sets.watch(ring_id, owner, seen, limit, wait, self.patience))

    # -- inside ---------------------------------------------------------------

    def _patience(self, patience: float | None) -> float:
        return self.patience if patience is None else patience

    async def _append(self, entries: Sequence[Item], patience: float) -> list[Outcome]:
        return await self._writer.put("append", entries, Append, patience, in_order=True)

    async def _put_heads(self, heads: Sequence[Item], entries: Sequence[Item], patience: float) -> list[Outcome]:
        weight = sum(entry.size + ITEM_OVERHEAD for entry in entries)
        last = len(heads) - 1 if entries and heads and weight <= PASSED_ON else len(heads)
        outcomes = await self._writer.put("post-heads", heads[:last], lambda items: PostHeads(items, ()), patience)
        held = [UNSENT._replace(why="Held back until every head is certain.")] * len(entries)
        if not all(outcome.certain for outcome in outcomes):
            # The last head goes alone; an entry never names what may be lost.
            outcomes += await self._writer.put("post-heads", heads[last:], lambda items: PostHeads(items, ()), patience)
            return outcomes + held
        passed: list[Outcome] = []
        outcomes += await self._writer.put(
            "post-heads", heads[last:], lambda items: PostHeads(items, tuple(entries)), patience, passed
        )
        if not all(outcome.certain for outcome in outcomes):
            return outcomes + held
        if entries and not (len(passed) == len(entries) and all(outcome.certain for outcome in passed)):
            refused = [outcome for outcome in passed if outcome.status in (Status.GAP, Status.REJECTED)]
            if not refused or len(passed) != len(entries):
                passed = await self._append(entries, patience)
        return outcomes + passed
