"""A network in virtual time, for the shipped protocols and factories.

Connections are streams, as TCP's are: what arrives, arrives in order.  So the
faults of a network show as what TCP makes of them:

- *latency* delays each write; *loss* delays it by a retransmission, and what
  was written after it waits behind it;
- a *partition* holds everything back; writes that wait longer than
  ``GIVE_UP`` end the connection, and new connections time out;
- a *crash* ends connections at once, or, silently, only when the other side
  next writes.

*Duplication* and *reordering* of whole writes (a write is a frame) are what no
stream does; they are a harder test of what stands above it, and can be
switched on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError, ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IConsumer, ITransport
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from peerstore.interfaces import INetwork
from peerstore.sim.clock import SimClock
from peerstore.sim.decisions import Decisions
from peerstore.sim.trace import Trace

__all__ = ["Faults", "HostView", "SimNetwork"]

GIVE_UP = 6.0
RETRANSMIT = 0.2
CONNECT_TIMEOUT = 3.0


class Faults(NamedTuple):
    """How bad the network is: seconds, and probabilities per write."""

    latency: float = 0.002
    jitter: float = 0.003
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0


class SimNetwork:
    """All hosts and the connections between them."""

    def __init__(self, clock: SimClock, decisions: Decisions, trace: Trace, faults: Faults | None = None) -> None:
        self.clock = clock
        self.decisions = decisions
        self.trace = trace
        self.faults = faults or Faults()
        self._listening: dict[str, Any] = {}
        self._links: list[_Link] = []
        self._cut: set[frozenset[str]] = set()

    def host(self, name: str) -> HostView:
        """The network as one host sees it."""
        return HostView(self, name)

    # -- faults ------------------------------------------------------------------

    def cut(self, some: Iterable[str], others: Iterable[str]) -> None:
        """No byte passes between the two groups from now on."""
        behind = list(others)
        self._cut.update(frozenset((a, b)) for a in some for b in behind if a != b)

    def heal(self) -> None:
        """Every byte passes again; those that were held back arrive."""
        self._cut.clear()
        for link in list(self._links):
            link.release()

    def crash(self, name: str) -> None:
        """A host is gone: its connections end, nobody listens there."""
        for address in [at for at in self._listening if at == name]:
            del self._listening[address]
        for link in list(self._links):
            if name in link.names:
                link.end(ConnectionLost("the host crashed"), silent_for=name)

    def passes(self, a: str, b: str) -> bool:
        """Whether bytes pass between two hosts."""
        return frozenset((a, b)) not in self._cut

    # -- what HostView asks ------------------------------------------------------------

    def listen(self, name: str, factory: Any) -> Deferred[Any]:
        """See ``INetwork.listen``."""
        if name in self._listening:
            return fail(CannotListenError(name, 0, OSError("address in use")))
        self._listening[name] = factory
        return succeed(_Port(self, name, factory))

    def stop_listening(self, name: str, factory: Any) -> None:
        """Only if it is still that factory's: the host may be back already."""
        if self._listening.get(name) is factory:
            del self._listening[name]

    def connect(self, name: str, target: str, factory: Any) -> Deferred[Any]:
        """See ``INetwork.connect``."""
        done: Deferred[Any] = Deferred(lambda _: None)
        self.clock.callLater(2 * self.delay(name, target), self._connected, name, target, factory, done)
        return done

    def delay(self, a: str, b: str) -> float:
        """The seconds that a write takes from a to b, retransmissions included."""
        place, faults = f"{a}>{b}", self.faults
        seconds = faults.latency + faults.jitter * self.decisions.fraction(place, "jitter")
        while self.decisions.chance(place, "loss", faults.loss):
            seconds += RETRANSMIT
        return seconds

    def _connected(self, name: str, target: str, factory: Any, done: Deferred[Any]) -> None:
        if done.called:
            return
        if not self.passes(name, target):
            self.clock.callLater(CONNECT_TIMEOUT, _refuse, done, ConnectTimeout())
            return
        listener = self._listening.get(target)
        accepted = listener.buildProtocol(None) if listener is not None else None
        if accepted is None:
            done.errback(ConnectError(string="Connection was refused"))
            return
        dialled = factory.buildProtocol(None)
        link = _Link(self, (name, target), (dialled, accepted))
        self._links.append(link)
        self.trace.event("connect", name, target)
        accepted.makeConnection(link.ends[1])
        dialled.makeConnection(link.ends[0])
        if not done.called:
            done.callback(dialled)

    def forget(self, link: _Link) -> None:
        """A connection has ended."""
        if link in self._links:
            self._links.remove(link)


def _refuse(done: Deferred[Any], error: Exception) -> None:
    if not done.called:
        done.errback(error)


@implementer(INetwork)
class HostView:
    """``INetwork`` for one host; its address is "sim:NAME"."""

    def __init__(self, network: SimNetwork, name: str) -> None:
        self._network = network
        self.name = name

    def listen(self, address: str, factory: Any) -> Deferred[Any]:
        """Listen at our own name."""
        return self._network.listen(self.name, factory)

    def connect(self, address: str, factory: Any) -> Deferred[Any]:
        """Connect to "sim:OTHER"."""
        return self._network.connect(self.name, address.partition(":")[2], factory)

    def client_address(self, listening_port: Any, listen_address: str) -> str:
        """ "sim:NAME"."""
        return f"sim:{self.name}"


class _Port:
    """What listening gives."""

    def __init__(self, network: SimNetwork, name: str, factory: Any) -> None:
        self._network = network
        self._name = name
        self._factory = factory

    def stopListening(self) -> Deferred[None]:
        self._network.stop_listening(self._name, self._factory)
        return succeed(None)

    def getHost(self) -> str:
        return self._name


class _Link:
    """One connection: two ends, and what is on its way."""

    def __init__(self, network: SimNetwork, names: tuple[str, str], protocols: tuple[Protocol, Protocol]) -> None:
        self.network = network
        self.names = names
        self.protocols = protocols
        self.ends = (_End(self, 0), _End(self, 1))
        self.held: list[tuple[int, bytes]] = []
        self._free_at = [0.0, 0.0]
        self.ended = False

    def write(self, side: int, data: bytes) -> None:
        """Bytes from one end, to arrive at the other in order."""
        network, (a, b) = self.network, self._direction(side)
        if not network.passes(a, b):
            self.held.append((side, data))
            if len(self.held) == 1:
                network.clock.callLater(GIVE_UP, self._give_up)
            return
        place, now = f"{a}>{b}", network.clock.seconds()
        at = now + network.delay(a, b)
        if not network.decisions.chance(place, "reorder", network.faults.reordering):
            at = max(at, self._free_at[side])
            self._free_at[side] = at
        network.clock.callLater(at - now, self._arrive, side, data)
        if network.decisions.chance(place, "duplicate", network.faults.duplication):
            network.clock.callLater(at - now + network.faults.jitter, self._arrive, side, data)

    def release(self) -> None:
        """What was held back goes on its way."""
        held, self.held = self.held, []
        for side, data in held:
            self.write(side, data)

    def close(self, side: int) -> None:
        """One end closes; the other learns of it after what was written."""
        if self.ended:
            return
        a, b = self._direction(side)
        now = self.network.clock.seconds()
        at = max(now + self.network.delay(a, b), *self._free_at)
        self.network.clock.callLater(at - now, self.end, ConnectionDone())

    def end(self, reason: Exception, silent_for: str = "") -> None:
        """Both ends are told that it is over, except a host that crashed."""
        if self.ended:
            return
        self.ended = True
        self.network.forget(self)
        for name, protocol in zip(self.names, self.protocols, strict=True):
            if name != silent_for:
                protocol.connectionLost(Failure(reason))

    def _arrive(self, side: int, data: bytes) -> None:
        if self.ended:
            return
        a, b = self._direction(side)
        self.network.trace.event("bytes", a, b, len(data))
        self.protocols[1 - side].dataReceived(data)

    def _give_up(self) -> None:
        if self.held:
            self.end(ConnectionLost("nothing was acknowledged"))

    def _direction(self, side: int) -> tuple[str, str]:
        return self.names[side], self.names[1 - side]


@implementer(ITransport, IConsumer)
class _End:
    """The transport of one end.  It never asks its producer to pause."""

    def __init__(self, link: _Link, side: int) -> None:
        self._link = link
        self._side = side
        self._closing = False

    def write(self, data: bytes) -> None:
        if not self._closing and not self._link.ended:
            self._link.write(self._side, data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if not self._closing:
            self._closing = True
            self._link.close(self._side)

    def abortConnection(self) -> None:
        self._closing = True
        self._link.network.clock.callLater(0, self._link.end, ConnectionLost("aborted"))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass

    def getPeer(self) -> Any:
        return self._link.names[1 - self._side]

    def getHost(self) -> Any:
        return self._link.names[self._side]
