"""What listens: a PeerProtocol for each connection that comes in."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from peerstore.errors import ConnectionLost, PeerStoreError
from peerstore.interfaces import IDispatcher
from peerstore.net.arriving import Arriving
from peerstore.net.limits import Budget, Limits
from peerstore.net.protocol import PeerProtocol
from peerstore.util.complaint import Seldom
from peerstore.util.lamport import LamportClock
from peerstore.wire.session import Greeting

__all__ = ["PeerFactory"]


class PeerFactory(Factory):
    """Accepts connections, keeps count of them, and ends them when stopped.

    :param make_greeting: called for each connection (its nonce is fresh).
    :param dispatcher: answers requests that come in.
    :param connections: how many at most; the next is refused by closing it.
    :param budget: counts bytes in work; the node's pool may share it.
    """

    noisy = False
    _log = Logger()

    def __init__(
        self,
        make_greeting: Callable[[], Greeting],
        dispatcher: IDispatcher,
        clock: IReactorTime,
        lamport: LamportClock,
        limits: Limits | None = None,
        connections: int = 1000,
        budget: Budget | None = None,
    ) -> None:
        self._make_greeting = make_greeting
        self._dispatcher = dispatcher
        self._clock = clock
        self._lamport = lamport
        self._limits = limits or Limits()
        self._most = connections
        self.budget = budget or Budget(self._limits.bytes_per_node)
        self.arriving = Arriving(self._limits.arriving)
        self.connections: dict[int, PeerProtocol] = {}
        self._count = 0
        self._stopped = False
        self._violations = Seldom(clock.seconds)

    def buildProtocol(self, addr: IAddress | None) -> PeerProtocol | None:
        """A protocol for one more connection, or None when there are enough."""
        if self._stopped or len(self.connections) >= self._most:
            self._log.warn("refused a connection: {n} are open", n=len(self.connections))
            return None
        self._count += 1
        number = self._count

        def ready(protocol: PeerProtocol) -> None:
            # Whoever dialled closes first; this is for those who went away
            # without a word, and would be counted for ever.
            protocol.close_when_idle(2 * self._limits.idle)

        def lost(protocol: PeerProtocol, reason: PeerStoreError) -> None:
            self.connections.pop(number, None)

        protocol = PeerProtocol(
            self._clock,
            self._make_greeting(),
            self._dispatcher,
            self._lamport,
            self._limits,
            self.budget,
            ready,
            lost,
            arriving=self.arriving,
            violations=self._violations,
        )
        protocol.factory = self
        self.connections[number] = protocol
        return protocol

    def stop(self) -> None:
        """Refuse new connections and end those there are."""
        self._stopped = True
        for protocol in list(self.connections.values()):
            protocol.abort(ConnectionLost("This node is stopping."))
