"""Copies follow the ring.

What is voted on comes first: ``canvass`` sees to it that those who are to
vote know all there is.  Chunks follow: for each of our ranges we compare
digests with the other hosts that should hold it, fetch what is missing here,
and push what is missing there.  That happens now and then, and soon after any
change of the ring.  What belongs to a range that is no longer ours is handed
to whoever has it now.  Nothing is ever dropped here: a copy too many does no
harm.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from peerstore import ids
from peerstore.errors import PeerStoreError, StorageError
from peerstore.gateway.locate import ILookup
from peerstore.interfaces import INodeStore
from peerstore.items import ALL_KINDS, Kind
from peerstore.node.canvass import Canvass
from peerstore.node.exchange import Exchange, Task
from peerstore.node.ranges import OwnRange, Progress, Ranges, span
from peerstore.ring.member import Member
from peerstore.util.periodic import Periodic
from peerstore.util.together import all_of

__all__ = ["Replicator"]

QUIET = 30.0
#: Between two looks at arcs of votes that are in order.
THOROUGH = 300.0
#: While a range of ours is still behind.
SOON = 1.0
#: After a change of the ring, which seldom comes alone.
DEBOUNCE = 0.25
CHUNKS = (Kind.CHUNK,)
#: Arcs that wait to be handed over; a ring that changes more often than that
#: is brought together by the holders' own rounds.
MAX_ARCS = 256
MAX_OWNERS = 256


class Replicator:
    """Keeps our ranges and their other holders equal.

    :param exchange: compares one range with one host.
    :param lookup: finds who has now what was ours.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        store: INodeStore,
        ranges: Ranges,
        canvass: Canvass,
        exchange: Exchange,
        lookup: ILookup,
        fp: bytes,
    ) -> None:
        self._clock = clock
        self._store = store
        self._ranges = ranges
        self._canvass = canvass
        self._exchange = exchange
        self._lookup = lookup
        self._fp = fp
        self._rounds = Periodic(clock, self.round, self._interval, "replication")
        self._soon: IDelayedCall | None = None
        self._behind = True
        self._thorough = 0.0
        self._changed = False
        self._stopped = False
        self._chunks = Progress()
        self._last: dict[int, int] = {}
        self._arcs: list[tuple[int, int]] = []

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    def stop(self) -> Deferred[None]:
        """End; fires when the round in flight is over."""
        self._stopped = True
        if self._soon is not None and self._soon.active():
            self._soon.cancel()
        return self._rounds.stop()

    def ring_changed(self) -> None:
        """Neighbours came or went: compare again soon."""
        self._changed = True
        if not self._stopped and (self._soon is None or not self._soon.active()):
            self._soon = self._clock.callLater(DEBOUNCE, self._rounds.hurry)

    def round(self) -> Deferred[None]:
        """Compare everything once; fires when done, whatever failed."""
        return Deferred.fromCoroutine(self._round())

    def _interval(self) -> float:
        return SOON if self._behind or self._arcs else QUIET

    async def _round(self) -> None:
        self._changed = False
        ranges = self._ranges.current()
        self._note_shrunk(ranges)
        thorough = self._clock.seconds() >= self._thorough
        # What is voted on first, for all arcs: readers wait for it.
        behind = not await self._canvass.round(thorough)
        if thorough:
            self._thorough = self._clock.seconds() + THOROUGH
        await self._hand_over()
        for own in ranges:
            if self._changed or self._stopped:
                behind = True
                break
            behind = not await self._level(own) or behind
        self._behind = behind

    async def _level(self, own: OwnRange) -> bool:
        """Chunks of one range; whether all holders agree."""
        done = self._chunks.done(own)
        fine, others = await self._with_others(own, CHUNKS, done)
        if fine == others:
            self._chunks.mark(own)
        return fine == others

    async def _with_others(self, own: OwnRange, kinds: tuple[Kind, ...], done: bool) -> tuple[int, int]:
        """Bring one range and its other holders together: with how many it
        worked, of how many.

        While we are new, the host after the last holder is asked, too: it was
        the last holder before us.  It is never pushed to.
        """
        copies = self._ranges.copies
        others = self._ranges.holders(own, copies if done else copies + 1)[1:]
        jobs = [
            Deferred.fromCoroutine(self._one(own, Task(member, kinds, True, place < copies - 1)))
            for place, member in enumerate(others)
        ]
        return sum(await all_of(jobs)), len(others)

    async def _one(self, own: OwnRange, task: Task) -> bool:
        try:
            await self._exchange.run(task, own.after, own.through)
        except PeerStoreError as error:
            self._failed(task.member, error)
            return False
        return True

    def _failed(self, member: Member, error: PeerStoreError) -> None:
        if isinstance(error, StorageError):
            self._log.error("replication: {why}", why=str(error))
        else:
            self._log.debug("replication with {host}: {why}", host=ids.short(member.fp), why=error.what)

    # -- what is no longer ours ------------------------------------------------------

    def _note_shrunk(self, ranges: Sequence[OwnRange]) -> None:
        for own in ranges:
            before = self._last.get(own.index)
            if before is not None and span(before, own.through) > own.span:
                self._arcs.append((before, own.after))
            self._last[own.index] = own.after
        del self._arcs[:-MAX_ARCS]

    async def _hand_over(self) -> None:
        """Push what lies in arcs that we lost to those who got them.

        They fetch it themselves from the hosts after them.  But where two
        rings were joined, we may be none of those.
        """
        arcs, self._arcs = self._arcs, []
        for after, through in arcs:
            try:
                await self._give(after, through)
            except PeerStoreError as error:
                self._log.debug("handing over: {why}", why=error.what)
                self._arcs.append((after, through))

    async def _give(self, after: int, through: int) -> None:
        for _ in range(MAX_OWNERS):
            count, _digest = await self._store.range_digest(ids.to_bytes(after), ids.to_bytes(through), ALL_KINDS)
            if not count:
                return
            located = await self._lookup.lookup((after + 1) % ids.RING_SIZE)
            owner = located.owner
            end = owner.id if ids.in_half_open(after, owner.id, through) else through
            if owner.fp != self._fp:
                await self._exchange.run(Task(owner, ALL_KINDS, False, True), after, end)
            if end == through:
                return
            after = end
