"""Rings of the shipped ``RingHost`` without connections: calls are delivered
by a virtual clock, and every fault between two hosts can be switched on."""

from __future__ import annotations

import hashlib
import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from peerstore import ids
from peerstore.errors import ConnectionLost, PeerMismatch, PeerStoreError, PeerTimeout, PeerUnreachable
from peerstore.interfaces import IPeerPool, IRemotePeer
from peerstore.net.pool import BACKOFF_FIRST, BACKOFF_MOST
from peerstore.ring.host import RingHost
from peerstore.ring.hosts import HostTable
from peerstore.ring.lookup import LookupClient
from peerstore.sim.clock import SimClock
from peerstore.wire import bodies
from peerstore.wire.framing import encode_frame
from peerstore.wire.messages import (
    METHODS,
    Request,
    Response,
    decode_body,
    encode_body,
    encode_message,
    error_for,
    status_for,
)
from peerstore.wire.session import SUITE_CLEAR, VERSION, Greeting

__all__ = ["Machine", "RingNet", "address_of", "record_of", "spki_of"]

COPIES = 3
LATENCY = 0.002
DIAL_TIMEOUT = 3.0
#: Bytes of a question and of an answer beside method and body, as framed.
QUESTION = len(encode_frame(encode_message(Request(1000, "", bytes(20), 100_000, 5000, b""))))
ANSWER = len(encode_frame(encode_message(Response(1000, 0, 100_000, b""))))


def spki_of(name: str) -> bytes:
    """What stands for a key where nobody signs."""
    return hashlib.sha512(name.encode()).digest() * 2


def address_of(name: str) -> str:
    """Where that host listens."""
    return f"tcp:{name}:1"


def record_of(name: str, incarnation: int = 1, virtual_nodes: int = 1, address: str = "") -> bodies.HostRecord:
    """A host's record."""
    return bodies.HostRecord(spki_of(name), (address or address_of(name),), incarnation, COPIES, virtual_nodes)


class Machine:
    """A place where a host runs: its address, and the key and incarnation
    that outlive the process."""

    def __init__(self, net: RingNet, name: str, key: str = "", at: str = "") -> None:
        self.net = net
        self.name = name
        self.spki = spki_of(key or name)
        self.fp = ids.fingerprint(self.spki)
        self.address = at or address_of(name)
        self.incarnation = 0
        self.saved = b""
        self.host: RingHost | None = None
        self.gave_up: list[PeerStoreError] = []
        self.copies = net.copies
        self.virtual_nodes = net.virtual_nodes

    @property
    def ring(self) -> RingHost:
        """The host that runs here."""
        assert self.host is not None, f"{self.name} does not run"
        return self.host

    def start(self, *bootstrap: str) -> RingHost:
        """Start on what is saved, joining through machines of these names."""
        host = self.build(*bootstrap)
        host.start()
        return host

    def build(self, *bootstrap: str) -> RingHost:
        """Make the host, and listen; it does nothing by itself yet."""
        net = self.net
        self.incarnation += 1
        hosts = HostTable(net.clock)
        if self.saved:
            hosts.unpack(self.saved)
        pool = MachinePool(net, self)
        rng = random.Random(f"{net.seed}/{self.name}/{self.incarnation}")
        addresses = [at if ":" in at else address_of(at) for at in bootstrap]
        self.host = RingHost(
            net.clock,
            rng,
            pool,
            hosts,
            self.spki,
            self.address,
            self.incarnation,
            self.copies,
            self.virtual_nodes,
            addresses,
            net.list_size,
            keep_incarnation=self._keep,
            gave_up=self.gave_up.append,
            knows_all=net.knows_all,
        )
        net.listening[self.address] = self
        return self.host

    def crash(self) -> None:
        """Gone without a word; what it knew is on its disk."""
        if self.host is None:
            return
        host, self.host = self.host, None
        self.saved = host.hosts.pack()
        if self.net.listening.get(self.address) is self:
            del self.net.listening[self.address]
        host.stop()
        for pool in self.net.pools:
            pool.lost(self)

    def leave(self, retired: bool = False) -> Deferred[None]:
        """Say goodbye, then end."""
        return self.ring.leave(retired).addCallback(lambda _: self.crash())

    def greeting(self) -> Greeting:
        """What it says of itself."""
        return Greeting(
            (VERSION,),
            (SUITE_CLEAR,),
            self.spki,
            "node",
            self.copies,
            self.virtual_nodes,
            self.address,
            self.incarnation,
            bytes(32),
        )

    def _keep(self, incarnation: int) -> Deferred[None]:
        self.incarnation = incarnation
        return succeed(None)


Answer = Callable[[Any], Any]


class RingNet:
    """All machines, and what is wrong between them.

    *blocked* holds (from, to) pairs of names between which no call gets
    through; *mute* names hosts that never answer; *lies* replaces a machine's
    answer to a method: ``lies[name, method](true answer)``.  *traffic* counts
    bytes by method, questions and answers as framed.
    """

    def __init__(
        self, seed: int = 1, virtual_nodes: int = 1, list_size: int | None = 4, knows_all: bool = True
    ) -> None:
        self.seed = seed
        self.clock = SimClock()
        self.copies = COPIES
        self.virtual_nodes = virtual_nodes
        self.list_size = list_size
        self.knows_all = knows_all
        self.machines: dict[str, Machine] = {}
        self.listening: dict[str, Machine] = {}
        self.pools: list[MachinePool] = []
        self.blocked: set[tuple[str, str]] = set()
        self.mute: set[str] = set()
        self.lies: dict[tuple[str, str], Answer] = {}
        self.errors: dict[tuple[str, str], Exception] = {}
        self.calls: list[tuple[str, str, str]] = []
        self.traffic: Counter[str] = Counter()

    # -- machines ------------------------------------------------------------------

    def machine(self, name: str, key: str = "", at: str = "") -> Machine:
        """A new machine, or the one of that name."""
        if name not in self.machines:
            self.machines[name] = Machine(self, name, key, at)
        return self.machines[name]

    def start(self, name: str, *bootstrap: str) -> RingHost:
        """Start the machine of that name."""
        return self.machine(name).start(*bootstrap)

    def ring(self, count: int, prefix: str = "m") -> list[str]:
        """Start *count* machines one after the other, and wait for their ring."""
        names = [f"{prefix}{number}" for number in range(count)]
        self.start(names[0])
        for name in names[1:]:
            self.run(0.3)
            self.start(name, names[0])
        assert self.until(lambda: self.is_ideal(names), 120), f"no ring: {self.missing(names)}"
        return names

    def frozen(self, count: int, fingers: bool = True, table: bool = False, prefix: str = "m") -> list[str]:
        """An ideal ring of *count* machines whose hosts do nothing but answer.

        :param fingers: whether each has a full set of them.
        :param table: whether each knows all.
        """
        names = [f"{prefix}{number}" for number in range(count)]
        for name in names:
            self.machine(name).build()
        places = sorted(
            ((place.id, place) for name in names for place in self.machines[name].ring.positions),
            key=lambda entry: entry[0],
        )
        points = [point for point, _ in places]
        members = [place.member for _, place in places]
        records = {self.machines[name].fp: record_of(name, 1, self.virtual_nodes) for name in names}
        for at, (_, place) in enumerate(places):
            hosts = place.host.hosts
            length = min(place.state.size, count * self.virtual_nodes - 1)
            behind = tuple(members[(at + step) % len(members)] for step in range(1, length + 1))
            known = [members[at - 1], *behind]
            if fingers:
                for number in range(ids.ID_BITS):
                    finger = members[bisect_left(points, (place.id + (1 << number)) % ids.RING_SIZE) % len(points)]
                    if finger.id != place.id:
                        place.fingers.put(number, finger)
                        known.append(finger)
            for fp in records if table else {member.fp for member in known}:
                hosts.learn(records[fp])
                if table:
                    hosts.alive(fp)
            place.is_member = True
            place.state = place.state._replace(predecessor=members[at - 1] if length else None, successors=behind)
            place.host.status = "MEMBER"
        return names

    def thaw(self, names: Iterable[str]) -> None:
        """Hosts made by :meth:`frozen` begin to keep their ring."""
        for name in names:
            host = self.machines[name].ring
            for fp in host.hosts.fps():
                host.hosts.alive(fp)
            host._upkeep.start()
            host._seeker.start()
            if host.knows_all:
                host.gossip.start()

    def owner_of(self, key: int) -> str:
        """Which of the machines that run should own a key."""
        places = [(place.id, machine.name) for machine in self.running() for place in machine.ring.positions]
        return min(places, key=lambda place: ids.distance(key, place[0]))[1]

    def client(self, *seeds: str) -> LookupClient:
        """Somebody who is no host, and knows these machines' addresses."""
        hosts = HostTable(self.clock)
        return LookupClient(self.pool(), hosts, self.clock, lambda: [address_of(name) for name in seeds])

    def running(self) -> list[Machine]:
        """All machines on which a host runs."""
        return [machine for machine in self.machines.values() if machine.host is not None]

    def cut(self, some: Iterable[str], others: Iterable[str], one_way: bool = False) -> None:
        """No call from any of *some* to any of *others*, nor back unless *one_way*."""
        far = list(others)
        for a in some:
            for b in far:
                if a != b:
                    self.blocked.add((a, b))
                    if not one_way:
                        self.blocked.add((b, a))

    def heal(self) -> None:
        """Every call gets through again."""
        self.blocked.clear()

    # -- time ----------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    def until(self, condition: Callable[[], bool], seconds: float, step: float = 0.25) -> bool:
        """Let time pass until something holds; whether it did in time."""
        end = self.clock.seconds() + seconds
        while not condition():
            if self.clock.seconds() >= end:
                return False
            self.clock.advance(step)
        return True

    # -- what is seen from outside ----------------------------------------------------

    def missing(self, names: Sequence[str] = ()) -> list[str]:
        """What keeps these machines (or all that run) from being one ideal ring."""
        machines = [self.machines[name] for name in names] if names else self.running()
        hosts = [(machine.name, machine.ring) for machine in machines]
        places = sorted(
            ((place.id, name, place) for name, host in hosts for place in host.positions), key=lambda entry: entry[0]
        )
        wrong = [name for _, name, place in places if not place.is_member]
        for at, (_, name, place) in enumerate(places):
            length = min(place.state.size, len(places) - 1)
            wanted = [places[(at + step) % len(places)][0] for step in range(1, length + 1)]
            before = places[at - 1][0] if len(places) > 1 else None
            told = place.state.told_predecessor
            if [entry.id for entry in place.successors] != wanted or (told.id if told else None) != before:
                wrong.append(f"{name}/{place.index}")
        return wrong

    def is_ideal(self, names: Sequence[str] = ()) -> bool:
        """Whether they are one ideal ring."""
        return not self.missing(names)

    def owners(self, key: int) -> list[str]:
        """Which of the machines that run claim a key."""
        return [machine.name for machine in self.running() if machine.ring.own_position(key) is not None]

    def result(self, deferred: Deferred[Any], seconds: float = 60.0) -> Any:
        """Let time pass until *deferred* fires; its result, or its error raised."""
        results: list[Any] = []
        deferred.addBoth(results.append)
        assert self.until(lambda: bool(results), seconds, 0.01), "nothing came of it"
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    def pool(self, name: str = "a client") -> MachinePool:
        """The pool of somebody who is no host."""
        return MachinePool(self, None, name)


@implementer(IRemotePeer)
class _Peer:
    def __init__(self, pool: MachinePool, machine: Machine, address: str) -> None:
        self.greeting = machine.greeting()
        self.fp = machine.fp
        self.address = address
        self._pool = pool

    def call(self, method: str, body: Any, timeout: float | None = None) -> Deferred[Any]:
        return self._pool.call(self.address, method, body, timeout, self.fp)


@implementer(IPeerPool)
class MachinePool:
    """One machine's way to the others: what it asks goes over the wire's
    encoding, errors included, and arrives a little later."""

    def __init__(self, net: RingNet, machine: Machine | None, name: str = "") -> None:
        self.net = net
        self.machine = machine
        self.name = machine.name if machine is not None else name
        self._watchers: list[Callable[[bytes], None]] = []
        self._spoke: dict[bytes, None] = {}
        self._in_flight: list[tuple[Machine, Deferred[Any]]] = []
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        net.pools.append(self)

    def call(
        self, address: str, method: str, body: Any, timeout: float | None = None, fp: bytes | None = None
    ) -> Deferred[Any]:
        """Ask whoever listens at *address*."""
        return self.peer(address, fp).addCallback(lambda peer: self._ask(peer, method, body, timeout or 15.0))

    def peer(self, address: str, fp: bytes | None = None) -> Deferred[Any]:
        """Dial: refused where nobody listens, a timeout where the way is blocked;
        and not at all for a while after that."""
        if self.net.clock.seconds() < self._not_before.get(address, 0.0):
            return fail(PeerUnreachable(f"Nobody answers at {address}, and it is dialled again later."))
        target = self.net.listening.get(address)
        if target is None:
            return self._failed(address, LATENCY, "Connection was refused")
        if (self.name, target.name) in self.net.blocked:
            return self._failed(address, DIAL_TIMEOUT, "timed out")
        self._failures.pop(address, None)
        if fp is not None and fp != target.fp:
            return self._later(LATENCY, PeerMismatch(f"{address} is another."))
        return self._later(LATENCY, _Peer(self, target, address))

    def drop(self, address: str) -> None:
        """Nothing is kept here."""

    def forget_backoff(self, address: str) -> None:
        """Dial it at once the next time."""
        self._not_before.pop(address, None)

    def watch_losses(self, callback: Callable[[bytes], None]) -> None:
        """Told by :meth:`lost`."""
        self._watchers.append(callback)

    def stop(self) -> Deferred[None]:
        """Nothing to close."""
        return succeed(None)

    def lost(self, machine: Machine) -> None:
        """A machine crashed: what was asked of it fails, and it is told."""
        waiting, self._in_flight = self._in_flight, []
        for target, deferred in waiting:
            if target is not machine:
                self._in_flight.append((target, deferred))
            elif not deferred.called:
                deferred.errback(ConnectionLost("It crashed."))
        if machine.fp in self._spoke:
            del self._spoke[machine.fp]
            for watcher in self._watchers:
                watcher(machine.fp)

    # -- inside ----------------------------------------------------------------

    def _failed(self, address: str, seconds: float, why: str) -> Deferred[Any]:
        """Dialling takes so long to fail, and for a while after that fails at once."""
        self._failures[address] = failures = self._failures.get(address, 0) + 1
        pause = seconds + min(BACKOFF_MOST, BACKOFF_FIRST * 2 ** (failures - 1))
        self._not_before[address] = self.net.clock.seconds() + pause
        return self._later(seconds, PeerUnreachable(f"Nobody answers at {address} ({why})."))

    def _later(self, seconds: float, result: Any) -> Deferred[Any]:
        waiting: Deferred[Any] = Deferred(lambda _: None)
        self.net.clock.callLater(seconds, _fire, waiting, result)
        return waiting

    def _ask(self, peer: _Peer, method: str, body: Any, timeout: float) -> Deferred[Any]:
        net, target = self.net, self.net.listening.get(peer.address)
        if target is None:
            return fail(ConnectionLost("It is gone."))
        net.calls.append((self.name, target.name, method))
        if target.name in net.mute or (self.name, target.name) in net.blocked:
            return self._later(timeout, PeerTimeout("No answer in time."))
        self._spoke[target.fp] = None
        caller = self.machine.greeting() if self.machine is not None else _a_user(self.name)
        answer: Deferred[Any] = Deferred(lambda _: None)
        self._in_flight.append((target, answer))
        raw = encode_body(body)
        net.traffic[method] += QUESTION + len(method) + len(raw)
        net.clock.callLater(LATENCY, self._arrived, target, method, raw, caller, answer)
        return answer

    def _arrived(self, target: Machine, method: str, raw: bytes, caller: Greeting, answer: Deferred[Any]) -> None:
        if target.host is None or answer.called:
            return
        handler = target.host.handlers()[method]
        working = maybeDeferred(self._handle, target, method, handler, caller, raw)
        working.addBoth(lambda result: self.net.clock.callLater(LATENCY, self._answered, method, result, answer))

    def _handle(self, target: Machine, method: str, handler: Any, caller: Greeting, raw: bytes) -> Any:
        error = self.net.errors.get((target.name, method))
        if error is not None:
            raise error
        told = handler(caller, decode_body(raw, METHODS[method].request))
        lie = self.net.lies.get((target.name, method))
        return encode_body(lie(told) if lie is not None else told)

    def _answered(self, method: str, result: Any, answer: Deferred[Any]) -> None:
        self._in_flight = [entry for entry in self._in_flight if entry[1] is not answer]
        if answer.called:
            return
        if isinstance(result, Failure):
            assert result.value is not None
            answer.errback(error_for(*status_for(result.value)))
        else:
            self.net.traffic[method] += ANSWER + len(result)
            answer.callback(decode_body(result, METHODS[method].response))


def _fire(waiting: Deferred[Any], result: Any) -> None:
    if not waiting.called:
        if isinstance(result, Exception):
            waiting.errback(result)
        else:
            waiting.callback(result)


def _a_user(name: str) -> Greeting:
    return Greeting((VERSION,), (SUITE_CLEAR,), spki_of(name), "user", 0, 0, "", 0, bytes(32))
