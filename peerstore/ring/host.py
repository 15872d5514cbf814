"""All positions of one host on the ring, and their upkeep.

The positions share one process, one connection per peer and one idea of who
is alive; their ring state is each one's own.  A host is JOINING until its
positions have joined, MEMBER from then on (alone, if nobody can be reached),
LEAVING when it goes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from peerstore import ids
from peerstore.errors import HostRetired, PeerStoreError, RemoteError
from peerstore.interfaces import IPeerPool
from peerstore.ring import position as steps
from peerstore.ring.answers import RingAnswers
from peerstore.ring.gossip import Gossip
from peerstore.ring.hosts import HostTable
from peerstore.ring.identity import Identity, Keep
from peerstore.ring.joining import Joiner
from peerstore.ring.liveness import Liveness
from peerstore.ring.lookup import Located, LookupClient, Search
from peerstore.ring.member import Member
from peerstore.ring.seeking import Seeker
from peerstore.ring.strangers import Strangers
from peerstore.ring.upkeep import PositionUpkeep
from peerstore.util.periodic import Periodic
from peerstore.wire import bodies

__all__ = ["JOINING", "LEAVING", "MEMBER", "NEW", "RingHost", "STOPPED", "list_size_for"]

NEW, JOINING, MEMBER, LEAVING, STOPPED = "NEW", "JOINING", "MEMBER", "LEAVING", "STOPPED"
FIRST_PERIOD = 0.5
LONGEST_PERIOD = 30.0
SLOWER = 1.5
#: No two rounds closer than this, however many hints arrive.
SHORTEST_GAP = 0.05
#: So many rounds may follow each other that closely; then each has to be
#: saved up for one period.  Two hosts that disagree for ever cost no more.
EAGER_ROUNDS = 40


def _keep_nothing(incarnation: int) -> Deferred[None]:
    """For hosts that live in memory only."""
    return succeed(None)


def list_size_for(virtual_nodes: int) -> int:
    """r = max(16, 3 v)."""
    return max(16, 3 * virtual_nodes)


class RingHost:
    """One host's share of the ring.

    :param spki: our key, DER; with *address*, *incarnation*, *copies* and
        *virtual_nodes* it makes our record.
    :param bootstrap: addresses to join through; empty for a first node.
    :param hosts: whom we know; ours alone to change.
    :param list_size: r; by default max(16, 3 v).
    :param keep_incarnation: makes a new incarnation of ours durable.
    :param gave_up: told why, when we can take no part any more.
    :param knows_all: whether tables of all hosts are exchanged and used; the
        ring forms and holds without.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        rng: random.Random,
        pool: IPeerPool,
        hosts: HostTable,
        spki: bytes,
        address: str,
        incarnation: int,
        copies: int,
        virtual_nodes: int,
        bootstrap: Sequence[str] = (),
        list_size: int | None = None,
        longest_period: float = LONGEST_PERIOD,
        keep_incarnation: Keep = _keep_nothing,
        gave_up: Callable[[PeerStoreError], None] | None = None,
        knows_all: bool = True,
    ) -> None:
        self.clock = clock
        self.rng = rng
        self.pool = pool
        self.hosts = hosts
        self.fp = ids.fingerprint(spki)
        self.address = address
        self.bootstrap = tuple(at for at in bootstrap if at != address)
        self.copies = copies
        self.knows_all = knows_all
        self.status = NEW
        hosts.set_own(bodies.HostRecord(spki, (address,), incarnation, copies, virtual_nodes))
        size = list_size or list_size_for(virtual_nodes)
        self.positions: list[PositionUpkeep] = [PositionUpkeep(self, index, size) for index in range(virtual_nodes)]
        self._longest = longest_period
        self._period = FIRST_PERIOD
        self._watchers: list[Callable[[], None]] = []
        self._drop_watchers: list[Callable[[bytes], None]] = []
        self._upkeep = Periodic(clock, self._round, self._next_gap, "ring upkeep")
        self._last_round = -SHORTEST_GAP
        #: When a predecessor or list of ours changed last, as the clock counts.
        self.last_change = clock.seconds()
        self._eager = float(EAGER_ROUNDS)
        self._gave_up = gave_up
        self._joiner = Joiner(self)
        self._seeker = Seeker(self, self._joiner, longest_period)
        self._answers = RingAnswers(self)
        self.liveness = Liveness(self)
        self.strangers = Strangers(self)
        self.gossip = Gossip(self)
        self.identity = Identity(self, keep_incarnation)
        self._client = LookupClient(
            pool, hosts, clock, lambda: [address, *self.bootstrap], self._answers.find_successor_here
        )
        pool.watch_losses(self.note_lost)

    # -- life ------------------------------------------------------------------

    def start(self) -> None:
        """Join, or be the first; goes on by itself until stopped."""
        self.status = JOINING
        if self.hosts.is_retired(self.fp):
            self._be_retired()
            return
        self._upkeep.start()

    def stop(self) -> Deferred[None]:
        """End upkeep at once; what was in flight is waited for."""
        self.status = STOPPED
        ending = DeferredList([part.stop() for part in (self._upkeep, self._seeker, self.gossip)], consumeErrors=True)
        return ending.addCallback(lambda _: None)

    def leave(self, retired: bool = False) -> Deferred[None]:
        """Tell the neighbours that we go; a hint, which they verify.

        :param retired: for good: the ring counts us no more, and takes us back
            no more.
        """
        if not self.serving:
            # Nobody knows us, or somebody else has our key: not ours to say.
            return succeed(None)
        told = sorted({member.fp for place in self.positions for member in place.neighbours()} - {self.fp})
        self.status = LEAVING
        if retired:
            self.hosts.retire(self.fp)
        message = bodies.Leaving(self._own_incarnation(), retired)
        calls = [self._tell(fp, message) for fp in told[:32]]
        return DeferredList(calls, consumeErrors=True).addCallback(lambda _: None)

    def retire(self, fp: bytes) -> None:
        """A host is gone for good: everybody is told, and it counts no more."""
        if fp == self.fp:
            if not self.hosts.is_retired(fp):
                self.hosts.retire(fp)
                self._be_retired()
        elif self.hosts.retire(fp):
            self._log.info("{fp} is retired from the ring", fp=ids.short(fp))
            self.liveness.drop(fp)
            self.gossip.news()

    def give_up(self, error: PeerStoreError) -> None:
        """Take no part in any ring from now on: there is no safe way to."""
        if self.status == STOPPED:
            return
        self._log.error("{why}", why=str(error))
        for place in self.positions:
            place.is_member = False
        self.stop()
        self._tell_watchers()
        if self._gave_up is not None:
            self._gave_up(error)

    def _be_retired(self) -> None:
        self.give_up(
            HostRetired(
                "This node was retired from its ring, which counts it no more; what it holds is kept.",
                "To take part again, start it with a new data folder.",
            )
        )

    @property
    def serving(self) -> bool:
        """Whether positions that have joined answer for their ranges."""
        return self.status in (JOINING, MEMBER)

    @property
    def alone(self) -> bool:
        """Whether no position has a foreign entry: an orphan, or the first."""
        return not any(member.fp != self.fp for place in self.positions for member in place.neighbours())

    @property
    def settled(self) -> bool:
        """Whether upkeep has been quiet for some rounds."""
        return self.status == MEMBER and self._period > FIRST_PERIOD * SLOWER**3

    def become_member(self, alone: bool) -> None:
        """All positions stand on the ring, or on one of our own."""
        self.status = MEMBER
        self._log.info(
            "{fp} {how} with {v} positions",
            fp=ids.short(self.fp),
            how="starts alone, as a ring of its own," if alone else "has joined the ring",
            v=len(self.positions),
        )
        self._seeker.start()
        if self.knows_all:
            self.gossip.start()
        self.changed()

    # -- what others ask of us ------------------------------------------------------

    def handlers(self) -> Mapping[str, Callable[[Any, Any], Any]]:
        """Handlers of the ring's methods; none of them asks anybody."""
        return self._answers.handlers()

    def lookup(self, key: int) -> Deferred[Located]:
        """The verified owner of *key*; fails with LookupFailed."""
        mine = self.own_position(key)
        if self.status == MEMBER and mine is not None:
            state = mine.state
            before = state.predecessor.id if state.predecessor is not None else None
            return succeed(Located(key, mine.member, before, (mine.member, *state.successors)))
        return self._client.lookup(key)

    def search(self, key: int) -> Search:
        """A single lookup of *key*, our own positions included."""
        return Search(self.pool, self.hosts, key, here=self._answers.find_successor_here)

    def nearest(self, place: PositionUpkeep, key: int) -> list[Member]:
        """Members nearest before *key*, nearest first: all that we know."""
        return self._answers.nearest(place, key, None)

    def own_position(self, key: int) -> PositionUpkeep | None:
        """Our position that owns *key*, if one does."""
        for place in self.positions:
            if place.is_member and steps.owns(place.state, key):
                return place
        return None

    def watch_changes(self, callback: Callable[[], None]) -> None:
        """*callback()* after any change of a predecessor or list of ours."""
        self._watchers.append(callback)

    def watch_drops(self, callback: Callable[[bytes], None]) -> None:
        """*callback(fp)* whenever a host is taken for dead, or goes."""
        self._drop_watchers.append(callback)

    def tell_drop(self, fp: bytes) -> None:
        """Tell who watches that this host is taken for dead, or goes."""
        for watcher in list(self._drop_watchers):
            watcher(fp)

    # -- what positions tell us -----------------------------------------------------

    def changed(self) -> None:
        """Something moved: look again soon, and tell who watches."""
        self.last_change = self.clock.seconds()
        self.wake()
        self._tell_watchers()

    def _tell_watchers(self) -> None:
        for watcher in list(self._watchers):
            # Theirs is not to break what we are in the middle of.
            maybeDeferred(watcher).addErrback(self._watcher_failed)

    def _watcher_failed(self, failure: Failure) -> None:
        self._log.failure("somebody who watches the ring failed", failure=failure)

    def hurry(self) -> None:
        """A round soon, but not closer than the shortest gap to the last, nor
        so close for ever."""
        gap = SHORTEST_GAP if self._eager >= 1 else FIRST_PERIOD
        self._upkeep.hurry(max(0.0, self._last_round + gap - self.clock.seconds()))

    def contacted(self, address: str) -> None:
        """A host that may not know where it belongs spoke to us."""
        if self.alone:
            self._joiner.contacted(address)
            self._seeker.hurry()

    def wake(self) -> None:
        """Something may have changed: look soon, and more often for a while."""
        self._period = FIRST_PERIOD
        self._seeker.changed()
        self.hurry()

    def note_lost(self, fp: bytes) -> None:
        """A connection ended; to a neighbour's host, that counts as change."""
        if self.status == MEMBER and any(member.fp == fp for place in self.positions for member in place.neighbours()):
            self.wake()

    # -- rounds ------------------------------------------------------------------

    def _next_gap(self) -> float:
        if self.status != MEMBER:
            return self.rng.uniform(0.15, 0.3)
        period = self._period
        self._period = min(self._longest, period * SLOWER)
        return period * self.rng.uniform(0.75, 1.25)

    def _round(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._one_round())

    async def _one_round(self) -> None:
        now = self.clock.seconds()
        self._eager = min(EAGER_ROUNDS, self._eager + (now - self._last_round) / FIRST_PERIOD) - 1
        self._last_round = now
        if self.status == JOINING:
            await self._joiner.join()
        if self.status != MEMBER:
            return
        await self.liveness.look_round()
        standing = [place.round() for place in self.positions if place.is_member]
        for fine, result in await DeferredList(standing, consumeErrors=True):
            if not fine:
                self._log.failure("a position's upkeep failed", failure=_failure(result))

    def _tell(self, fp: bytes, message: bodies.Leaving) -> Deferred[Any]:
        member = self.hosts.position(fp, 0)
        return self.pool.call(member.address, "leaving", message, 2.0, fp)  # type: ignore[no-any-return]

    def _own_incarnation(self) -> int:
        record = self.hosts.record(self.fp)
        return record.incarnation if record else 0


def _failure(result: Any) -> Failure:
    return result if isinstance(result, Failure) else Failure(RemoteError(str(result)))
