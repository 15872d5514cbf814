"""Rings of shipped nodes in virtual time, and ways to watch and to break one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail

from peerstore import ids
from peerstore.gateway.gateway import Gateway
from peerstore.gateway.results import Outcome
from peerstore.items import ALL_KINDS, Item, ItemKey, Kind
from peerstore.net.pool import PeerPool
from peerstore.node.service import NodeService
from peerstore.ring.hosts import HostTable
from peerstore.ring.lookup import resolve_all
from peerstore.sim.world import World
from peerstore.util.lamport import LamportClock
from peerstore.wire.messages import METHODS, Status, decode_body, encode_body, status_for
from peerstore.wire.session import SUITE_CLEAR, VERSION, Greeting

__all__ = ["Ring", "Wire", "greeting", "items_named"]


def greeting(role: str = "user", name: str = "somebody", address: str = "") -> Greeting:
    """Who asks, for requests that come without a connection."""
    spki = hashlib.sha512(name.encode()).digest() * 2
    numbers = (3, 1) if role == "node" else (0, 0)
    return Greeting((VERSION,), (SUITE_CLEAR,), spki, role, *numbers, address, 1, bytes(32))


class Wire:
    """What comes in at one node: seen, counted, and changed where a test says.

    It stands in the place of the dispatcher's one public method, so whatever
    the node answers is what it would answer over a connection.
    """

    def __init__(self, node: NodeService) -> None:
        self.seen: list[tuple[str, Any]] = []
        self._real = node.dispatcher.dispatch
        self._instead: dict[str, Callable[[Any], Any]] = {}
        self._after: dict[str, Callable[[Any, Any], Any]] = {}
        node.dispatcher.dispatch = self._dispatch  # type: ignore[method-assign]

    def instead(self, method: str, answer: Callable[[Any], Any]) -> None:
        """*answer(body)* gives, or raises, what is answered; it may return
        a Deferred, and None lets the node answer itself."""
        self._instead[method] = answer

    def after(self, method: str, change: Callable[[Any, Any], Any]) -> None:
        """*change(body, answer)* gives what is sent in place of an answer."""
        self._after[method] = change

    def heal(self) -> None:
        """Answer like any node again."""
        self._instead.clear()
        self._after.clear()

    def count(self, *methods: str) -> int:
        """How often these methods were asked."""
        return sum(method in methods for method, _ in self.seen)

    def _dispatch(self, caller: Any, method: str, body: bytes) -> Deferred[Any]:
        spec = METHODS.get(method)
        typed = decode_body(body, spec.request) if spec is not None else None
        self.seen.append((method, typed))
        if method in self._instead:
            try:
                answer = self._instead[method](typed)
            except Exception:  # noqa: BLE001 - the test's own error becomes the node's answer
                return fail()
            if isinstance(answer, Deferred):
                return answer.addCallback(encode_body)
            if answer is not None:
                done: Deferred[Any] = Deferred()
                done.callback(encode_body(answer))
                return done
        result = self._real(caller, method, body)
        if method in self._after:
            assert spec is not None
            kind = spec.response
            result.addCallback(lambda raw: encode_body(self._after[method](typed, decode_body(raw, kind))))
        return result


class Ring:
    """Hosts of the shipped node on a simulated network.

    :param names: one letter each; the first one is joined by the others.
    """

    def __init__(self, names: str = "abcde", seed: int = 1, ideal: bool = True, **world: Any) -> None:
        self.world = World(seed, **world)
        self.first = names[0]
        self.world.start(names[0])
        for name in names[1:]:
            self.world.start(name, names[0])
        if ideal:
            self.settle()

    # -- hosts ----------------------------------------------------------------------

    def node(self, name: str) -> NodeService:
        """The node that runs on a host."""
        node = self.world.hosts[name].node
        assert node is not None, f"no node runs on {name}"
        return node

    def names(self) -> list[str]:
        """Hosts on which a node runs."""
        return [host.name for host in self.world.running()]

    def fp(self, name: str) -> bytes:
        """A host's fingerprint."""
        return self.world.hosts[name].fp

    def named(self, fps: Iterable[bytes]) -> str:
        """Fingerprints as the letters of their hosts, sorted."""
        return "".join(sorted(host.name for host in self.world.hosts.values() if host.fp in set(fps)))

    def around(self, ring_id: bytes) -> list[str]:
        """All running hosts, walking from a key on: the owner first, then
        those that keep copies."""
        key = ids.from_bytes(ring_id)
        spots = [
            (ids.distance(key, ids.position_id(host.spki, index)), host.name)
            for host in self.world.running()
            for index in range(self.world.virtual_nodes)
        ]
        return list(dict.fromkeys(name for _, name in sorted(spots)))

    def settle(self, seconds: float = 120.0, voters: bool = True) -> None:
        """Let time pass until the ring is ideal and, if asked, all agree on
        who votes."""
        assert self.world.until_ideal(seconds) is not None, "the ring did not come to rest"
        if voters:
            self.until("voters everywhere", lambda: all(self.node(name).is_settled for name in self.names()), seconds)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.world.run(seconds)

    def until(self, what: str, is_so: Callable[[], Any], seconds: float = 120.0) -> None:
        """Let time pass until *is_so* returns something true."""
        end = self.world.clock.seconds() + seconds
        while not is_so():
            assert self.world.clock.seconds() < end, f"in vain for {seconds} virtual seconds: {what}"
            self.world.run(0.05)

    # -- asking ---------------------------------------------------------------------

    def client(self, peers: str = "", name: str = "user", on_wait: Callable[[], None] = lambda: None) -> Gateway:
        """A user's gateway that begins with these hosts, or all."""
        return self.world.client(name, list(peers or "".join(self.names())), on_wait)

    def stranger(self, knows: str = "a", name: str = "looker") -> tuple[PeerPool, HostTable, Any]:
        """A program of a user's that has met one host: its pool, its table,
        and its clock."""
        process = self.world.process(name)
        network, rng = self.world.network.host(process), self.world.decisions.rng(name)
        pool = PeerPool(network, process.clock, rng, lambda: greeting(name=name), None, LamportClock())
        hosts = HostTable(process.clock)
        if knows:
            self.wait(Deferred.fromCoroutine(resolve_all(pool, hosts, f"sim:{knows}")))
        return pool, hosts, process.clock

    def wait(self, deferred: Deferred[Any], seconds: float = 120.0) -> Any:
        """The result of a Deferred, or its error raised."""
        return self.world.wait(deferred, seconds)

    def ask(self, name: str, method: str, body: Any, role: str = "user") -> Any:
        """One request to one host, as if from a connection; its typed answer."""
        raw = self.wait(self.node(name).dispatcher.dispatch(greeting(role), method, encode_body(body)))
        return decode_body(raw, METHODS[method].response)

    def refused(self, name: str, method: str, body: Any, role: str = "user") -> Status:
        """One request that must be refused; with which status."""
        return self.refused_raw(name, method, encode_body(body), role)

    def refused_raw(self, name: str, method: str, body: bytes, role: str = "user") -> Status:
        """The same for packed bytes."""
        results: list[Any] = []
        self.node(name).dispatcher.dispatch(greeting(role), method, body).addBoth(results.append)
        self.until("an answer", lambda: results)
        assert hasattr(results[0], "value"), f"{method} was answered: {results[0]!r:.200}"
        return status_for(results[0].value)[0]

    def put(self, items: Sequence[Item], gateway: Gateway | None = None, patience: float = 30.0) -> list[Outcome]:
        """Store items of any kinds through the ring, each kind its own way."""
        gateway = gateway or self.client()
        outcomes: dict[ItemKey, Outcome] = {}
        for kind, send in (
            (Kind.CHUNK, gateway.put_chunks),
            (Kind.HEAD, lambda some, patience: gateway.put_heads(some, (), patience)),
            (Kind.LOG, gateway.append),
        ):
            some = [item for item in items if item.key.kind is kind]
            if some:
                told = self.wait(send(some, patience))
                outcomes.update(zip([item.key for item in some], told, strict=True))
        return [outcomes[item.key] for item in items]

    # -- what they hold --------------------------------------------------------------

    def holders(self, key: ItemKey) -> str:
        """The letters of those that have an item, in memory and on disk."""
        return "".join(name for name in self.names() if self.wait(self.node(name).store.have([key]))[0])

    def held(self, name: str) -> set[ItemKey]:
        """All that one host holds."""
        store = self.node(name).store
        return set(self.wait(store.range_list(bytes(20), bytes(20), ALL_KINDS, None, 1_000_000))[0])


def items_named(items: Iterable[Item]) -> dict[bytes, Item]:
    """Items by their elements."""
    return {item.key.element: item for item in items}
