"""The way to a key, step by step, and what is found at its end.

The way is that of somebody who knows one node and nothing else, so what is
shown is what the ring knows, not what this computer remembers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from peerstore import ids
from peerstore.client.survey import is_syncing, vote_at
from peerstore.errors import LookupFailed, PeerError, PeerStoreError, RemoteError
from peerstore.interfaces import IPeerPool, IRemotePeer
from peerstore.items import ALL_KINDS, ItemKey, Kind
from peerstore.ring.hosts import HostTable
from peerstore.ring.lookup import Located, Search
from peerstore.ring.member import Member
from peerstore.ring.placement import replica_hosts
from peerstore.wire import bodies

__all__ = ["Holder", "Hop", "Trace", "trace"]

ATTEMPTS = 3
#: Seconds before another attempt, in which a ring may heal.
PAUSE = 1.0
CALL_TIMEOUT = 3.0
#: Keys asked for at a time, and in all: a log may have very many entries.
PAGE = 4096
MOST_KEYS = 65536


class Hop(NamedTuple):
    """One node that was asked.

    *fp* is None where no connection came about; *latency* is that of the
    answer, in seconds, without connecting; *error* is why there was none.
    *position* is the member that answered; *owns* whether it claims the key,
    its range then being (*after*, position]; *named* whom it sends on to,
    the likely owner first.
    """

    address: str
    fp: bytes | None
    latency: float
    error: PeerStoreError | None = None
    position: Member | None = None
    owns: bool = False
    after: int | None = None
    named: tuple[Member, ...] = ()


class Holder(NamedTuple):
    """A host that keeps the key, or may have something of it.

    *keeper* is whether it is one of the first k; *keys* what it has there,
    None where it did not answer, for *error*; *vote* what its answers about
    the key count for, None where that is not known.
    """

    member: Member
    keeper: bool
    keys: frozenset[ItemKey] | None
    error: PeerStoreError | None = None
    vote: bodies.Vote | None = None
    latency: float = 0.0

    @property
    def syncing(self) -> bool | None:
        """Whether it is still fetching what it is to hold."""
        return is_syncing(self.vote)

    def count(self, kind: Kind) -> int:
        """How many things of a kind it has at the key."""
        return sum(key.kind is kind for key in self.keys or ())


class Trace(NamedTuple):
    """*located* is None when nobody claims the key, for *error*; *copies* is
    the ring's k; *holders* are in ring order from the key."""

    key: int
    hops: tuple[Hop, ...]
    located: Located | None
    error: PeerStoreError | None
    copies: int
    holders: tuple[Holder, ...] = ()

    @property
    def keepers(self) -> list[Holder]:
        """The first k."""
        return [holder for holder in self.holders if holder.keeper]

    @property
    def votes(self) -> tuple[int, int]:
        """(how many keepers answer in one name, how many of those make a read
        complete and a write certain)."""
        voting = [holder for holder in self.keepers if holder.vote is not None and holder.keys is not None]
        names = Counter(
            holder.vote.name
            for holder in voting
            if holder.vote and holder.vote.name and holder.member.fp in holder.vote.voters
        )
        needed = max((holder.vote.needed for holder in voting if holder.vote), default=1)
        return max(names.values(), default=0), min(needed, self.copies // 2 + 1)

    @property
    def keys(self) -> frozenset[ItemKey]:
        """All that anybody has there."""
        return frozenset().union(*(holder.keys or () for holder in self.holders))


async def trace(pool: IPeerPool, clock: IReactorTime, starts: Sequence[str], key: int) -> Trace:
    """Find a key's owner, and ask all its holders what they have.

    :param starts: addresses of nodes, the first that answers is the first hop.
    """
    recorder = _Recorder(pool, clock)
    located, error = None, None
    for attempt in range(ATTEMPTS):
        if attempt:
            await deferLater(clock, PAUSE)
        recorder.begin()
        try:
            located = await Search(recorder, recorder.hosts, key).owner(list(starts))
        except (LookupFailed, PeerError, RemoteError) as failed:
            error = failed
            continue
        error = None
        break
    hops = recorder.hops()
    if located is None:
        return Trace(key, hops, None, error, 0)
    copies = await _copies(pool, located.owner)
    members = replica_hosts(located.members, 2 * copies)
    asking = [
        Deferred.fromCoroutine(_ask(pool, clock, member, place < copies, key)) for place, member in enumerate(members)
    ]
    return Trace(key, hops, located, None, copies, tuple([await one for one in asking]))


async def _copies(pool: IPeerPool, owner: Member) -> int:
    peer = await pool.peer(owner.address, owner.fp)
    return max(1, int(peer.greeting.copies))


async def _ask(pool: IPeerPool, clock: IReactorTime, member: Member, keeper: bool, key: int) -> Holder:
    """What one host has at a key."""
    after, through = ids.to_bytes((key - 1) % ids.RING_SIZE), ids.to_bytes(key)
    keys: list[ItemKey] = []
    cursor: ItemKey | None = None
    try:
        await pool.peer(member.address, member.fp)
        began = clock.seconds()
        while True:
            question = bodies.ListRange(after, through, ALL_KINDS, cursor, PAGE)
            page: bodies.KeyPage = await pool.call(member.address, "range-list", question, CALL_TIMEOUT, member.fp)
            if cursor is None:
                latency = clock.seconds() - began
            keys += page.keys
            cursor = page.cursor
            if cursor is None or not page.keys or len(keys) >= MOST_KEYS:
                break
    except (PeerError, RemoteError) as error:
        return Holder(member, keeper, None, error)
    vote = await vote_at(pool, member, through) if keeper else None
    return Holder(member, keeper, frozenset(keys), None, vote, latency)


class _Step(NamedTuple):
    address: str
    fp: bytes | None
    latency: float
    answer: bodies.Found | None
    error: PeerStoreError | None


@implementer(IPeerPool)
class _Recorder:
    """A pool that writes down each step of a lookup, and learns the ring
    anew for each attempt."""

    def __init__(self, pool: IPeerPool, clock: IReactorTime) -> None:
        self._pool = pool
        self.clock = clock
        self.begin()

    def begin(self) -> None:
        """Forget what was learned and written down."""
        self.hosts = HostTable(self.clock)
        self._steps: list[_Step] = []

    def hops(self) -> tuple[Hop, ...]:
        """What was written down, with those whom answers name."""
        return tuple(self._hop(step) for step in self._steps)

    def _hop(self, step: _Step) -> Hop:
        found = step.answer
        if found is None:
            return Hop(step.address, step.fp, step.latency, step.error)
        before = self.hosts.member(found.predecessor) if found.predecessor is not None else None
        position = self.hosts.member(found.position)
        after = before.id if before is not None else None
        if found.owns and after is None and position is not None:
            # Alone on the circle.
            after = position.id
        named = () if found.owns else self.hosts.members((*found.successors, *found.candidates))
        return Hop(step.address, step.fp, step.latency, None, position, found.owns, after, named)

    def note(self, address: str, fp: bytes | None, began: float, result: Any) -> Any:
        """Write an answer or a failure down, and pass it on."""
        latency = self.clock.seconds() - began
        if isinstance(result, bodies.Found):
            self._steps.append(_Step(address, fp, latency, result, None))
        elif isinstance(result, Failure) and isinstance(result.value, PeerStoreError):
            self._steps.append(_Step(address, fp, latency, None, result.value))
        return result

    def peer(self, address: str, fp: bytes | None = None) -> Deferred[Any]:
        """The peer, whose answers are written down."""
        began = self.clock.seconds()
        dialled: Deferred[Any] = self._pool.peer(address, fp)
        return dialled.addCallbacks(
            lambda peer: _RecordedPeer(peer, address, self), lambda failure: self.note(address, fp, began, failure)
        )

    def call(
        self, address: str, method: str, body: Any, timeout: float | None = None, fp: bytes | None = None
    ) -> Deferred[Any]:
        """What a lookup asks beside its way."""
        return self._pool.call(address, method, body, timeout, fp)  # type: ignore[no-any-return]

    def drop(self, address: str) -> None:
        """See ``IPeerPool``."""
        self._pool.drop(address)

    def forget_backoff(self, address: str) -> None:
        """See ``IPeerPool``."""
        self._pool.forget_backoff(address)

    def watch_losses(self, callback: Any) -> None:
        """See ``IPeerPool``."""
        self._pool.watch_losses(callback)

    def stop(self) -> Deferred[Any]:
        """See ``IPeerPool``."""
        return self._pool.stop()  # type: ignore[no-any-return]


@implementer(IRemotePeer)
class _RecordedPeer:
    def __init__(self, peer: IRemotePeer, address: str, recorder: _Recorder) -> None:
        self._peer = peer
        self._recorder = recorder
        self.address = address
        self.fp: bytes = peer.fp
        self.greeting: Any = peer.greeting

    def call(self, method: str, body: Any, timeout: float | None = None) -> Deferred[Any]:
        """Ask, and write down how it went."""
        began = self._recorder.clock.seconds()
        asked: Deferred[Any] = self._peer.call(method, body, timeout)
        return asked.addBoth(lambda result: self._recorder.note(self.address, self.fp, began, result))
