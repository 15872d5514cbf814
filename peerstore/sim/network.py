"""A network in virtual time, for the shipped protocols and factories.

Connections are streams, as TCP's are: what arrives, arrives in order.  So the
faults of a network show as what TCP makes of them:

- *latency* delays each write; *loss* delays it by a retransmission, and what
  was written after it waits behind it;
- a *cut*, which may be one-way, holds bytes back; who gets no acknowledgement
  for ``GIVE_UP`` seconds ends his end of the connection, and the other end
  learns of it when it writes next; new connections time out;
- a program that ends has its connections ended for it, a machine that loses
  power says nothing.

*Duplication* and *reordering* of whole writes (a write is a frame) are what no
stream does; they are a harder test of what stands above it, and can be
switched on.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError, ConnectError, ConnectionLost
from twisted.internet.error import TimeoutError as ConnectTimeout
from zope.interface import implementer

from peerstore.interfaces import INetwork
from peerstore.sim.clock import SimClock
from peerstore.sim.decisions import Decisions
from peerstore.sim.link import Link
from peerstore.sim.process import Process
from peerstore.sim.trace import Trace

__all__ = ["Cut", "Faults", "HostView", "SimNetwork"]

RETRANSMIT = 0.2
CONNECT_TIMEOUT = 3.0


class Faults(NamedTuple):
    """How bad the network is: seconds, and probabilities per write.

    *tail* is how often a write takes up to ``TAIL`` seconds more.
    """

    latency: float = 0.002
    jitter: float = 0.003
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    tail: float = 0.0


TAIL = 1.0


class Cut(NamedTuple):
    """Directions in which no byte passes, until it is mended."""

    pairs: frozenset[tuple[str, str]]


class SimNetwork:
    """All hosts and the connections between them."""

    def __init__(self, clock: SimClock, decisions: Decisions, trace: Trace, faults: Faults | None = None) -> None:
        self.clock = clock
        self.decisions = decisions
        self.trace = trace
        self.faults = self._usual = faults or Faults()
        self.sent = 0
        self._listening: dict[str, tuple[Process, Any]] = {}
        self._links: dict[Link, None] = {}
        self._cut: Counter[tuple[str, str]] = Counter()
        self._dark: set[str] = set()
        self._slow: dict[str, float] = {}

    def host(self, process: Process) -> HostView:
        """The network as a program sees it."""
        if process.name in self._dark:
            self._dark.discard(process.name)
            self._release()
        return HostView(self, process)

    # -- faults ------------------------------------------------------------------

    def cut(self, some: Iterable[str], others: Iterable[str], one_way: bool = False) -> Cut:
        """No byte passes between the two groups from now on; *one_way*, none
        from the first to the second.  Cuts may overlap."""
        first, second = list(some), list(others)
        pairs = {(a, b) for a in first for b in second if a != b}
        if not one_way:
            pairs |= {(b, a) for a, b in pairs}
        cut = Cut(frozenset(pairs))
        self._cut.update(sorted(pairs))
        return cut

    def mend(self, cut: Cut) -> None:
        """Take one cut back; bytes that were held back arrive."""
        self._cut.subtract(sorted(cut.pairs))
        self._cut = +self._cut
        self._release()

    def heal(self) -> None:
        """Take all cuts back, let nobody be slow, and the weather be as usual."""
        self.faults = self._usual
        self._cut.clear()
        self._slow.clear()
        self._release()

    def behave(self) -> None:
        """From now on writes are neither repeated nor reordered, as on any
        stream; late and lost they may be."""
        self._usual = self._usual._replace(duplication=0.0, reordering=0.0)
        self.faults = self.faults._replace(duplication=0.0, reordering=0.0)

    def slow(self, name: str, factor: float) -> None:
        """All that a host sends and is sent takes so many times longer."""
        if factor > 1.0:
            self._slow[name] = factor
        else:
            self._slow.pop(name, None)

    def weather(self, loss: float = 0.0) -> None:
        """Lose so many writes more than usual; with 0, as usual again."""
        self.faults = self._usual._replace(loss=self._usual.loss + loss, tail=self._usual.tail + loss / 4)

    def reset(self, name: str) -> None:
        """All connections of a machine are lost, at both ends, and nothing else."""
        for link in list(self._links):
            if name in link.names:
                for side in (0, 1):
                    link.finish(side, ConnectionLost("reset on its way"))

    def crash(self, process: Process, silent: bool = False) -> None:
        """A program has ended.  Its system ends its connections; *silent*,
        the machine lost its power: nobody is told, and nobody refuses."""
        held = self._listening.get(process.name)
        if held is not None and held[0] is process:
            del self._listening[process.name]
        if silent:
            self._dark.add(process.name)
        for link in list(self._links):
            link.died(process, silent)

    def passes(self, a: str, b: str) -> bool:
        """Whether bytes pass from one host to another."""
        return not self._cut.get((a, b)) and a not in self._dark and b not in self._dark

    def joined(self, a: str, b: str) -> bool:
        """Whether two hosts can talk: bytes pass both ways."""
        return self.passes(a, b) and self.passes(b, a)

    @property
    def faulty(self) -> bool:
        """Whether anything is cut or slow."""
        return bool(self._cut or self._slow)

    @property
    def rough(self) -> bool:
        """Whether anybody is slow, or the weather is worse than usual."""
        return bool(self._slow) or self.faults != self._usual

    def connections(self) -> Counter[tuple[str, str]]:
        """How many are open at both ends, by who dialled whom."""
        return Counter(link.names for link in self._links if not any(link.over))

    # -- what HostView asks ------------------------------------------------------------

    def listen(self, process: Process, factory: Any) -> Deferred[Any]:
        """See ``INetwork.listen``."""
        if process.name in self._listening:
            return fail(CannotListenError(process.name, 0, OSError("address in use")))
        self._listening[process.name] = (process, factory)
        return succeed(_Port(self, process))

    def stop_listening(self, process: Process) -> None:
        """Only what this program opened: another may listen there by now."""
        held = self._listening.get(process.name)
        if held is not None and held[0] is process:
            del self._listening[process.name]

    def connect(self, process: Process, target: str, factory: Any) -> Deferred[Any]:
        """See ``INetwork.connect``."""
        done: Deferred[Any] = Deferred(lambda _: None)
        trip = self.delay(process.name, target) + self.delay(target, process.name)
        self.clock.callLater(trip, process.call, self._connected, process, target, factory, done)
        return done

    def delay(self, a: str, b: str) -> float:
        """The seconds that a write takes from a to b, retransmissions included."""
        place, faults = f"{a}>{b}", self.faults
        seconds = faults.latency + faults.jitter * self.decisions.fraction(place, "jitter")
        if self._slow:
            seconds *= max(self._slow.get(a, 1.0), self._slow.get(b, 1.0))
        while self.decisions.chance(place, "loss", faults.loss):
            seconds += RETRANSMIT
        if self.decisions.chance(place, "tail", faults.tail):
            seconds += TAIL * self.decisions.fraction(place, "tail length")
        return seconds

    def forget(self, link: Link) -> None:
        """A connection has ended at both ends."""
        self._links.pop(link, None)

    # -- inside ----------------------------------------------------------------

    def _connected(self, process: Process, target: str, factory: Any, done: Deferred[Any]) -> None:
        if done.called:
            return
        if not self.joined(process.name, target):
            self.clock.callLater(CONNECT_TIMEOUT, process.call, _refuse, done, ConnectTimeout())
            return
        listener = self._listening.get(target)
        if listener is None:
            done.errback(ConnectError(string="Connection was refused"))
            return
        other, listening = listener
        link = Link(self, (process, other))
        self._links[link] = None
        self.trace.event("connect", process.name, target)
        # A stopped program's system takes connections for it.
        other.call(link.accept, listening)
        link.dialled(factory)
        if not done.called:
            done.callback(link.protocols[0])

    def _release(self) -> None:
        for link in list(self._links):
            link.release()

    def arrived(self, a: str, b: str, data: bytes) -> None:
        """Told of each write as it arrives."""
        self.sent += 1
        self.trace.event("bytes", a, b, len(data), zlib.crc32(data))


def _refuse(done: Deferred[Any], error: Exception) -> None:
    if not done.called:
        done.errback(error)


@implementer(INetwork)
class HostView:
    """``INetwork`` for one program; its address is "sim:NAME"."""

    def __init__(self, network: SimNetwork, process: Process) -> None:
        self._network = network
        self._process = process
        self.name = process.name

    def listen(self, address: str, factory: Any) -> Deferred[Any]:
        """Listen at our own name."""
        return self._network.listen(self._process, factory)

    def connect(self, address: str, factory: Any) -> Deferred[Any]:
        """Connect to "sim:OTHER"."""
        return self._network.connect(self._process, address.partition(":")[2], factory)

    def client_address(self, listening_port: Any, listen_address: str) -> str:
        """ "sim:NAME"."""
        return f"sim:{self.name}"


class _Port:
    """What listening gives."""

    def __init__(self, network: SimNetwork, process: Process) -> None:
        self._network = network
        self._process = process

    def stopListening(self) -> Deferred[None]:
        self._network.stop_listening(self._process)
        return succeed(None)

    def getHost(self) -> str:
        return self._process.name
