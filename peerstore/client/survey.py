"""The ring as its hosts describe it: who there is, what each knows of its place.

Everybody is asked for everybody they know, so hosts that do not answer are in
the picture, too.  Nothing is believed here: what hosts say of themselves and
of each other is put side by side, for a person to look at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from peerstore import ids
from peerstore.client.crew import Crew
from peerstore.errors import NotReady, PeerError, PeerStoreError, PeerTimeout, RemoteError
from peerstore.interfaces import IPeerPool
from peerstore.ring.hosts import RETIRED, HostTable
from peerstore.ring.lookup import fetch_records
from peerstore.ring.member import Member
from peerstore.ring.placement import replica_hosts
from peerstore.wire import bodies

__all__ = ["HostSeen", "PlaceSeen", "Range", "Survey", "is_syncing", "survey", "vote_at"]

#: Seconds that one host has for all that it is asked.
PATIENCE = 5.0
CALL_TIMEOUT = 3.0
#: For what can be left open; a pool waits longer while other answers come in.
SHORT_TIMEOUT = 1.5
#: Hosts that are asked at a time.
PARALLEL = 16


class PlaceSeen(NamedTuple):
    """One position, and what it says of its neighbours.

    *before* is its predecessor, *behind* its list; *syncing* is whether its
    host is still fetching what is in its range, None where it did not say.
    """

    member: Member
    before: Member | None
    behind: tuple[Member, ...]
    syncing: bool | None

    @property
    def after(self) -> int | None:
        """Where its range begins: (after, id] is its own.  None where it does
        not know."""
        if self.before is not None:
            return self.before.id
        return self.member.id if not self.behind else None


class HostSeen(NamedTuple):
    """One host.

    *trouble* is why it did not answer, None if it did; *status* its ring
    status; *latency* that of one answer (s); *quiet* for how many seconds its
    neighbours have been the same; *places* its positions that have joined;
    *listed_by* how many other hosts have it among their neighbours.
    """

    fp: bytes
    address: str
    positions: tuple[Member, ...]
    trouble: PeerStoreError | None = None
    status: str = ""
    latency: float = 0.0
    quiet: int = 0
    places: tuple[PlaceSeen, ...] = ()
    listed_by: int = 0

    @property
    def answers(self) -> bool:
        """Whether it does."""
        return self.trouble is None

    @property
    def syncing(self) -> int:
        """For how many of its ranges it is still fetching what it lacks."""
        return sum(place.syncing is True for place in self.places)


class Range(NamedTuple):
    """(after, through], the share of it in the circle, and the hosts that
    are to keep what is in it, the first one first."""

    after: int
    through: int
    share: float
    place: PlaceSeen
    keepers: tuple[Member, ...]


class Survey(NamedTuple):
    """All hosts, by fingerprint; *copies* is the ring's k."""

    hosts: tuple[HostSeen, ...]
    copies: int

    @property
    def places(self) -> list[PlaceSeen]:
        """All positions that answered, around the ring."""
        return sorted((place for host in self.hosts for place in host.places), key=lambda place: place.member.id)

    @property
    def quiet(self) -> int | None:
        """Seconds since the last change that anybody saw; None if nobody
        answered."""
        return min((host.quiet for host in self.hosts if host.answers), default=None)

    @property
    def complete(self) -> bool:
        """Whether all hosts that are known did answer."""
        return bool(self.hosts) and all(host.answers for host in self.hosts)

    @property
    def disorder(self) -> int:
        """How many positions do not name just those that follow them, and the
        one before them."""
        order = [place.member.id for place in self.places]
        return sum(not _in_order(place, at, order) for at, place in enumerate(self.places))

    @property
    def ideal(self) -> bool:
        """Whether every position of every host that answers is in order."""
        joined = all(len(host.places) == len(host.positions) for host in self.hosts if host.answers)
        return bool(self.places) and joined and not self.disorder

    def ranges(self) -> list[Range]:
        """Whose range is where, as those say who hold it, around the ring."""
        found = []
        for place in self.places:
            if place.after is None:
                continue
            through = place.member.id
            share = (ids.distance(place.after, through) or ids.RING_SIZE) / ids.RING_SIZE
            keepers = replica_hosts((place.member, *place.behind), self.copies)
            found.append(Range(place.after, through, share, place, keepers))
        return found

    def shares(self) -> dict[bytes, float]:
        """{fingerprint: the part of the ring for which it comes first}."""
        shares: dict[bytes, float] = {}
        places = self.places
        for at, place in enumerate(places):
            span = ids.distance(places[at - 1].member.id, place.member.id) or ids.RING_SIZE
            shares[place.member.fp] = shares.get(place.member.fp, 0.0) + span / ids.RING_SIZE
        return shares


def _in_order(place: PlaceSeen, at: int, order: Sequence[int]) -> bool:
    following = tuple(order[(at + step) % len(order)] for step in range(1, len(order)))
    behind = tuple(member.id for member in place.behind)
    if behind != following[: len(behind)]:
        return False
    alone = len(order) == 1
    return alone or (bool(behind) and place.before is not None and place.before.id == order[at - 1])


async def vote_at(pool: IPeerPool, member: Member, ring_id: bytes) -> bodies.Vote | None:
    """What a host's answers about a key count for; None where that cannot be
    told.

    :param ring_id: 20 bytes.
    """
    try:
        # Of an owner who cannot be: what counts is the vote that comes with it.
        question = bodies.GetHeads(ring_id, bytes(20), ())
        found: bodies.Items = await pool.call(member.address, "get-heads", question, SHORT_TIMEOUT, member.fp)
    except NotReady:
        return bodies.Vote(b"", (), 1)
    except (PeerError, RemoteError):
        return None
    return found.vote


def is_syncing(vote: bodies.Vote | None) -> bool | None:
    """Whether a host with this vote is still fetching what it is to hold, so
    that its silence means nothing; None where that cannot be told."""
    return None if vote is None else not vote.name


async def survey(pool: IPeerPool, hosts: HostTable, clock: IReactorTime) -> Survey:
    """Ask all hosts that anybody knows.

    :param hosts: whom we know to begin with; learns the others.
    """
    surveyor = _Surveyor(pool, hosts, clock)
    await surveyor.run()
    records = [hosts.record(fp) for fp in hosts.fps()]
    copies = max((record.copies for record in records if record is not None), default=1)
    listed = Counter(fp for host in surveyor.seen.values() for fp in _lists(host))
    seen = [surveyor.seen[fp]._replace(listed_by=listed[fp]) for fp in sorted(surveyor.seen)]
    return Survey(tuple(seen), copies)


def _lists(host: HostSeen) -> set[bytes]:
    """The other hosts that a host names as neighbours."""
    named = {member.fp for place in host.places for member in place.behind}
    return (named | {place.before.fp for place in host.places if place.before is not None}) - {host.fp}


def _unwrapped(failure: Failure) -> Failure:
    """The error of one of several that were waited for together."""
    return failure.value.subFailure if isinstance(failure.value, FirstError) else failure


class _Surveyor:
    def __init__(self, pool: IPeerPool, hosts: HostTable, clock: IReactorTime) -> None:
        self._pool = pool
        self._hosts = hosts
        self._clock = clock
        self.seen: dict[bytes, HostSeen] = {}
        self._retired: set[bytes] = set()

    async def run(self) -> None:
        """Look at everybody, and at whoever they name, and so on."""
        while True:
            waiting = [fp for fp in self._hosts.fps() if fp not in self.seen]
            if not waiting:
                break
            async with Crew(PARALLEL) as crew:
                for fp in waiting:
                    await crew.start(1, self._look_at, fp)
        for fp in self._retired:
            self.seen.pop(fp, None)

    async def _look_at(self, fp: bytes) -> None:
        positions = self._positions(fp)
        where = positions[0].address
        self.seen[fp] = HostSeen(fp, where, positions, PeerTimeout("It was not asked."))
        looking = Deferred.fromCoroutine(self._look(fp, positions))
        try:
            self.seen[fp] = await looking.addErrback(_unwrapped).addTimeout(PATIENCE, self._clock)
        except DeferredTimeout:
            self.seen[fp] = HostSeen(fp, where, positions, PeerTimeout(f"It did not answer within {PATIENCE:.0f} s."))
        except (PeerError, RemoteError) as error:
            self.seen[fp] = HostSeen(fp, where, positions, error)

    def _positions(self, fp: bytes) -> tuple[Member, ...]:
        record = self._hosts.record(fp)
        count = record.virtual_nodes if record is not None else 1
        return tuple(self._hosts.position(fp, index) for index in range(count))

    async def _look(self, fp: bytes, positions: tuple[Member, ...]) -> HostSeen:
        address = positions[0].address
        # Connected first: the latency is that of an answer alone.
        await self._pool.peer(address, fp)
        began = self._clock.seconds()
        pong: bodies.Pong = await self._ask(address, fp, "ping", bodies.Ping())
        latency = self._clock.seconds() - began
        await self._meet(address, fp)
        looking = [Deferred.fromCoroutine(self._place(one)) for one in positions]
        places = [place for place in await gatherResults(looking, consumeErrors=True) if place is not None]
        return HostSeen(fp, address, positions, None, pong.status, latency, pong.quiet, tuple(places))

    async def _meet(self, address: str, fp: bytes) -> None:
        """Whom this host knows, alive or not."""
        try:
            marks: bodies.HostMarks = await self._ask(address, fp, "compare-hosts", bodies.CompareHosts(()))
        except RemoteError:
            # Then others tell.
            return
        self._retired.update(mark.fp for mark in marks.marks if mark.state == RETIRED)
        news = [mark.fp for mark in marks.marks if mark.state != RETIRED and mark.fp not in self._hosts]
        await fetch_records(self._pool, self._hosts, address, news)

    async def _place(self, member: Member) -> PlaceSeen | None:
        try:
            told: bodies.Neighbours = await self._ask(
                member.address, member.fp, "get-neighbours", bodies.GetNeighbours(member.index)
            )
        except NotReady:
            return None
        before = self._hosts.member(told.predecessor) if told.predecessor is not None else None
        vote = await vote_at(self._pool, member, ids.to_bytes(member.id))
        return PlaceSeen(member, before, self._hosts.members(told.successors), is_syncing(vote))

    async def _ask(self, address: str, fp: bytes, method: str, body: Any) -> Any:
        return await self._pool.call(address, method, body, CALL_TIMEOUT, fp)
