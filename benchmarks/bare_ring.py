"""Rings of the shipped ``RingHost`` and nothing else, in virtual time.

No connections, no disks: a question reaches whom it is for after a trip, the
shipped handler answers, and the answer makes a trip as well.  So the ring's
own code can be run with thousands of hosts.  Both sides share the objects,
which nothing changes; what they would weigh on the wire is found by packing
them as the wire does, where that is asked for.
"""

from __future__ import annotations

import hashlib
import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from peerstore import ids
from peerstore.errors import PeerMismatch, PeerStoreError, PeerTimeout, PeerUnreachable
from peerstore.interfaces import IPeerPool, IRemotePeer
from peerstore.ring.host import MEMBER, RingHost
from peerstore.ring.hosts import HostTable
from peerstore.ring.upkeep import PositionUpkeep
from peerstore.sim.clock import SimClock
from peerstore.wire import bodies
from peerstore.wire.messages import Request, Response, encode_body, encode_message, error_for, status_for
from peerstore.wire.session import SUITE_CLEAR, VERSION, Greeting

__all__ = ["BareHost", "BareNet", "BarePool", "spki_of"]

COPIES = 3
#: A DER SubjectPublicKeyInfo of RSA with 3072 bits has so many bytes.
SPKI_BYTES = 422
#: Before each payload on the wire.
FRAME_HEADER = 4
TIMEOUT = 3.0


def spki_of(name: str) -> bytes:
    """What stands for a key: nobody signs anything here."""
    return (hashlib.sha512(name.encode()).digest() * 7)[:SPKI_BYTES]


class BareHost:
    """One host, and what others see of it."""

    def __init__(self, net: BareNet, number: int, bootstrap: Sequence[str]) -> None:
        self.address = f"tcp:10.{number >> 16}.{number >> 8 & 255}.{number & 255}:4001"
        self.record = bodies.HostRecord(spki_of(f"{net.seed}/{number}"), (self.address,), 1, COPIES, net.virtual_nodes)
        self.greeting = Greeting(
            (VERSION,),
            (SUITE_CLEAR,),
            self.record.spki,
            "node",
            COPIES,
            net.virtual_nodes,
            self.address,
            1,
            bytes(32),
        )
        self.fp = ids.fingerprint(self.record.spki)
        self.caller = _Caller(self.greeting, self.fp)
        self.alive = True
        self.pool = BarePool(net, self)
        self.ring = net.host_kind(
            net.clock,
            random.Random(f"{net.seed}/{number}"),
            self.pool,
            net.table_kind(net.clock),
            self.record.spki,
            self.address,
            1,
            COPIES,
            net.virtual_nodes,
            bootstrap,
            net.list_size,
            knows_all=net.knows_all,
        )
        self.handlers: Mapping[str, Callable[[Any, Any], Any]] = self.ring.handlers()


class _Caller:
    """A greeting whose fingerprint is computed once."""

    __slots__ = ("address", "copies", "fp", "incarnation", "role", "spki", "virtual_nodes")

    def __init__(self, greeting: Greeting, fp: bytes) -> None:
        self.fp = fp
        self.spki = greeting.spki
        self.role = greeting.role
        self.address = greeting.address
        self.copies = greeting.copies
        self.virtual_nodes = greeting.virtual_nodes
        self.incarnation = greeting.incarnation


class BareNet:
    """All hosts, and time.

    :param seed: decides everything.
    :param list_size: r; None for the shipped rule.
    :param knows_all: whether hosts exchange tables of all hosts.
    :param trip: seconds that a message takes, asked for each; None for a
        network where all answers are there at once and no clock is needed.
    :param timeout: after so many seconds whoever is gone is given up; those
        who live are waited for as long as the asker says.
    :param weigh: whether bytes are counted, which costs time.
    :param host_kind: ``RingHost``, or one with other timers.
    :param table_kind: ``HostTable``, or one that forgets.
    """

    def __init__(
        self,
        seed: int,
        list_size: int | None = None,
        knows_all: bool = False,
        virtual_nodes: int = 1,
        trip: Callable[[], float] | None = None,
        timeout: float = TIMEOUT,
        weigh: bool = False,
        host_kind: type[RingHost] = RingHost,
        table_kind: type[HostTable] = HostTable,
    ) -> None:
        self.seed = seed
        self.clock = SimClock()
        self.list_size = list_size
        self.knows_all = knows_all
        self.virtual_nodes = virtual_nodes
        self.trip = trip
        self.timeout = timeout
        self.weigh = weigh
        self.host_kind = host_kind
        self.table_kind = table_kind
        self.hosts: dict[str, BareHost] = {}
        #: Questions by method, whether they were answered or not.
        self.calls: Counter[str] = Counter()
        #: Questions that nobody answered.
        self.unanswered: Counter[str] = Counter()
        #: Bytes of questions and answers together, by method.
        self.weights: Counter[str] = Counter()

    # -- hosts -------------------------------------------------------------------

    def add(self, *through: BareHost) -> BareHost:
        """A new host that is to join through others; it does nothing yet."""
        host = BareHost(self, len(self.hosts), [other.address for other in through])
        self.hosts[host.address] = host
        return host

    def live(self) -> list[BareHost]:
        """All that run."""
        return [host for host in self.hosts.values() if host.alive]

    def kill(self, host: BareHost) -> None:
        """It ends without a word, and its machine is silent."""
        host.alive = False
        host.ring.stop()

    def leave(self, host: BareHost) -> None:
        """It says goodbye, and ends: its goodbyes are on their way."""
        host.ring.leave()
        self.kill(host)

    def stand(self, count: int, table: bool = False) -> list[BareHost]:
        """An ideal ring of *count* hosts, made rather than grown: lists,
        predecessors and every finger are right.

        :param table: whether each knows that all the others live.
        """
        hosts = [self.add() for _ in range(count)]
        places = sorted((place for host in hosts for place in host.ring.positions), key=lambda place: place.id)
        points = [place.id for place in places]
        owners = {host.fp: host for host in hosts}
        for at, place in enumerate(places):
            ring = place.host
            length = min(place.state.size, len(places) - 1)
            near = [places[(at + step) % len(places)] for step in range(-1, length + 1)]
            fingers = list(_fingers_of(place, places, points))
            for other in [*near, *(finger for _, finger in fingers)]:
                if other.host is not ring:
                    ring.hosts.learn(owners[other.host.fp].record)
            for number, finger in fingers:
                place.fingers.put(number, ring.hosts.position(finger.host.fp, finger.index))
            members = [ring.hosts.position(other.host.fp, other.index) for other in near]
            place.is_member = True
            place.state = place.state._replace(
                predecessor=members[0] if length else None, successors=tuple(members[2:])
            )
            ring.status = MEMBER
        if table:
            for host in hosts:
                for other in hosts:
                    if other is not host:
                        host.ring.hosts.learn(other.record)
                        host.ring.hosts.alive(other.fp)
        return hosts

    @staticmethod
    def wake(hosts: Iterable[BareHost], seeking: bool = True) -> None:
        """Hosts of a ring that stands begin their upkeep, as slow as it is
        where all has been quiet for long.

        :param seeking: look for others and at fingers as newcomers do, often
            at first; else as seldom as the rest.
        """
        for host in hosts:
            ring = host.ring
            for fp in ring.hosts.fps():
                ring.hosts.alive(fp)
            ring._period = ring._longest
            ring._upkeep.start(now=False)
            if not seeking:
                ring._seeker._period = ring._seeker._longest
            ring._seeker._rounds.start(now=seeking)
            if ring.knows_all:
                ring.gossip.start()

    def wrong(self) -> int:
        """How many positions of hosts that run lack an ideal predecessor, or
        an ideal first successor."""
        places = sorted(
            (place for host in self.live() for place in host.ring.positions if place.is_member),
            key=lambda place: place.id,
        )
        count = 0
        for at, place in enumerate(places):
            state = place.state
            first, before = state.first, state.told_predecessor
            count += (
                first is None
                or before is None
                or first.id != places[(at + 1) % len(places)].id
                or before.id != places[at - 1].id
            )
        return count


def _fingers_of(
    place: PositionUpkeep, places: Sequence[PositionUpkeep], points: Sequence[int]
) -> Iterable[tuple[int, PositionUpkeep]]:
    """All that ``FingerTable.pick`` may come to: the owners of me + 2**i
    beyond the first successor."""
    here = bisect_left(points, place.id)
    reach = ids.distance(place.id, points[(here + 1) % len(points)])
    for number in range(max(0, reach.bit_length() - 1), ids.ID_BITS):
        at = bisect_left(points, (place.id + (1 << number)) % ids.RING_SIZE) % len(points)
        if places[at] is not place:
            yield number, places[at]


@implementer(IRemotePeer)
class _Peer:
    """Somebody who was met."""

    __slots__ = ("_pool", "_there", "address", "fp", "greeting")

    def __init__(self, pool: BarePool, there: BareHost) -> None:
        self._pool = pool
        self._there = there
        self.address = there.address
        self.fp = there.fp
        self.greeting = there.greeting

    def call(self, method: str, body: Any, timeout: float | None = None) -> Deferred[Any]:
        """Ask it."""
        return self._pool.ask(self._there, method, body, timeout)


@implementer(IPeerPool)
class BarePool:
    """One host's way to the others."""

    def __init__(self, net: BareNet, owner: BareHost) -> None:
        self._net = net
        self._owner = owner
        self._peers: dict[str, _Peer] = {}
        #: Bytes that this host's questions and their answers weighed.
        self.asked_for = 0

    def call(
        self, address: str, method: str, body: Any, timeout: float | None = None, fp: bytes | None = None
    ) -> Deferred[Any]:
        """Ask whoever is at *address*."""
        there = self._net.hosts.get(address)
        if there is None or (fp is not None and there.fp != fp):
            return self.peer(address, fp)
        return self.ask(there, method, body, timeout)

    def peer(self, address: str, fp: bytes | None = None) -> Deferred[Any]:
        """Meet whoever is at *address*."""
        there = self._net.hosts.get(address)
        if there is None:
            return fail(PeerUnreachable(f"Nobody is at {address}."))
        if fp is not None and there.fp != fp:
            return fail(PeerMismatch(f"{address} is another."))
        peer = self._peers.get(address)
        if peer is None:
            peer = self._peers[address] = _Peer(self, there)
        return succeed(peer)

    def ask(self, there: BareHost, method: str, body: Any, timeout: float | None) -> Deferred[Any]:
        """Ask one host; fails with PeerTimeout where it is gone."""
        net = self._net
        net.calls[method] += 1
        if net.trip is None:
            return self._at_once(there, method, body)
        limit = net.timeout if timeout is None else timeout
        if not there.alive:
            limit = min(limit, net.timeout)
        flight = _Flight(self, there, method, body, net.trip(), net.trip(), limit)
        net.clock.callLater(min(flight.there_after, limit), flight.arrive)
        return flight.answer

    def drop(self, address: str) -> None:
        """Nothing is kept open here."""

    def forget_backoff(self, address: str) -> None:
        """Nobody backs off here."""

    def watch_losses(self, callback: Callable[[bytes], None]) -> None:
        """No connection ends here: there is none."""

    def stop(self) -> Deferred[None]:
        """Nothing to close."""
        return succeed(None)

    def handled(self, there: BareHost, method: str, body: Any) -> Any:
        """What the other's handler answers: a body, or an error to fail with."""
        try:
            told = there.handlers[method](self._owner.caller, body)
            status = 0
        except PeerStoreError as error:
            code, told = status_for(error)
            status = int(code)
        if self._net.weigh:
            question = Request(1 << 20, method, there.fp[:20], 1 << 20, 3000, encode_body(body))
            response = Response(1 << 20, status, 1 << 20, encode_body(told))
            weight = len(encode_message(question)) + len(encode_message(response)) + 2 * FRAME_HEADER
            self._net.weights[method] += weight
            self.asked_for += weight
        return error_for(status, told) if status else told

    def _at_once(self, there: BareHost, method: str, body: Any) -> Deferred[Any]:
        if not there.alive:
            self._net.unanswered[method] += 1
            return fail(PeerTimeout("No answer in time."))
        told = self.handled(there, method, body)
        return fail(told) if isinstance(told, PeerStoreError) else succeed(told)


class _Flight:
    """A question on its way, and its answer."""

    __slots__ = ("_back_after", "_body", "_limit", "_method", "_pool", "_there", "answer", "there_after")

    def __init__(
        self, pool: BarePool, there: BareHost, method: str, body: Any, out: float, back: float, limit: float
    ) -> None:
        self._pool = pool
        self._there = there
        self._method = method
        self._body = body
        self._back_after = back
        self._limit = limit
        self.there_after = out
        self.answer: Deferred[Any] = Deferred()

    def arrive(self) -> None:
        """It is there, or nobody waits for the answer any more."""
        clock = self._pool._net.clock
        out, back = self.there_after, self._back_after
        if not self._there.alive or out + back > self._limit:
            if self._there.alive and out <= self._limit:
                self._pool.handled(self._there, self._method, self._body)
            clock.callLater(max(0.0, self._limit - out), self._late)
            return
        clock.callLater(back, self._answered, self._pool.handled(self._there, self._method, self._body))

    def _late(self) -> None:
        if not self.answer.called:
            self._pool._net.unanswered[self._method] += 1
            self.answer.errback(PeerTimeout("No answer in time."))

    def _answered(self, told: Any) -> None:
        if self.answer.called:
            return
        if isinstance(told, PeerStoreError):
            self.answer.errback(told)
        else:
            self.answer.callback(told)
