"""Kept connections: one per peer, dialled when first needed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from peerstore import ids
from peerstore.errors import ConnectionLost, PeerMismatch, PeerStoreError, PeerTimeout, PeerUnreachable
from peerstore.interfaces import IDispatcher, INetwork, IPeerPool
from peerstore.net.limits import Budget, Limits
from peerstore.net.protocol import PeerProtocol
from peerstore.util.lamport import LamportClock
from peerstore.wire.session import Greeting

__all__ = ["PeerPool"]

BACKOFF_FIRST = 0.25
BACKOFF_MOST = 30.0


class _Line:
    """What the pool knows of one address."""

    def __init__(self) -> None:
        self.protocol: PeerProtocol | None = None
        self.waiting: list[Deferred[PeerProtocol]] = []
        self.dialling = False
        self.failures = 0
        self.not_before = 0.0
        self.last_error = ""
        self.idle_timer: IDelayedCall | None = None


@implementer(IPeerPool)
class PeerPool:
    """Dials each address once, keeps the connection, and closes it when idle.

    A failed dial is not tried again before a back-off has passed, each twice
    as long as the last up to 30 s; calls in between fail at once.

    :param network: provides ``INetwork``.
    :param rng: spreads the back-off, so that nodes do not dial in step.
    :param make_greeting: called for each connection.
    :param dispatcher: answers what the other ends ask; may be None.
    """

    _log = Logger()

    def __init__(
        self,
        network: INetwork,
        clock: IReactorTime,
        rng: random.Random,
        make_greeting: Callable[[], Greeting],
        dispatcher: IDispatcher | None,
        lamport: LamportClock,
        limits: Limits | None = None,
    ) -> None:
        self._network = network
        self._clock = clock
        self._rng = rng
        self._make_greeting = make_greeting
        self._dispatcher = dispatcher
        self._lamport = lamport
        self._limits = limits or Limits()
        self._budget = Budget(self._limits.bytes_per_node)
        self._lines: dict[str, _Line] = {}
        self._watchers: list[Callable[[bytes], None]] = []
        self._stopped = False

    def call(
        self, address: str, method: str, body: Any, timeout: float | None = None, fp: bytes | None = None
    ) -> Deferred[Any]:
        """Ask the peer at *address*, and with *fp* only the host of that key."""
        return self.peer(address, fp).addCallback(lambda peer: peer.call(method, body, timeout))

    def peer(self, address: str, fp: bytes | None = None) -> Deferred[Any]:
        """A Deferred of the connected peer; fails with a PeerError."""
        if self._stopped:
            return fail(PeerUnreachable("This program is stopping."))
        line = self._lines.setdefault(address, _Line())
        if line.protocol is not None and not line.protocol.ended:
            return self._checked(line.protocol, fp)
        now = self._clock.seconds()
        if not line.dialling and now < line.not_before:
            return fail(PeerUnreachable(line.last_error, f"It is dialled again in {line.not_before - now:.1f} s."))
        waiter: Deferred[PeerProtocol] = Deferred()
        line.waiting.append(waiter)
        if not line.dialling:
            self._dial(address, line)
        return waiter.addCallback(self._checked, fp)

    def drop(self, address: str) -> None:
        """Close the connection to *address*, if there is one: the next call
        dials anew and greets anew."""
        line = self._lines.get(address)
        if line is not None and line.protocol is not None:
            protocol, line.protocol = line.protocol, None
            if line.idle_timer is not None and line.idle_timer.active():
                line.idle_timer.cancel()
            protocol.close(ConnectionLost("The connection was closed on our side."))

    def forget_backoff(self, address: str) -> None:
        """Somebody was heard of at *address*: let the next call dial at once."""
        line = self._lines.get(address)
        if line is not None:
            line.not_before = 0.0

    def watch_losses(self, callback: Callable[[bytes], None]) -> None:
        """*callback(fp)* when an established connection to a peer has ended."""
        self._watchers.append(callback)

    def stop(self) -> Deferred[None]:
        """Close everything; calls in flight fail."""
        self._stopped = True
        for line in list(self._lines.values()):
            if line.idle_timer is not None and line.idle_timer.active():
                line.idle_timer.cancel()
            if line.protocol is not None:
                line.protocol.abort(ConnectionLost("This program is stopping."))
            self._fail_waiting(line, PeerUnreachable("This program is stopping."))
        return succeed(None)

    # -- inside ----------------------------------------------------------------

    def _checked(self, protocol: PeerProtocol, fp: bytes | None) -> Deferred[PeerProtocol]:
        if fp is not None and protocol.fp != fp:
            return fail(
                PeerMismatch(
                    f"{protocol.address} is now the node {ids.short(protocol.fp)}, not {ids.short(fp)}.",
                    "If the machine was set up anew, this is expected.",
                )
            )
        return succeed(protocol)

    def _dial(self, address: str, line: _Line) -> None:
        line.dialling = True

        def ready(protocol: PeerProtocol) -> None:
            line.dialling = False
            line.failures = 0
            line.not_before = 0.0
            line.protocol = protocol
            line.idle_timer = self._clock.callLater(self._limits.idle, self._maybe_idle, line)
            waiting, line.waiting = line.waiting, []
            for waiter in waiting:
                waiter.callback(protocol)

        def lost(protocol: PeerProtocol, reason: PeerStoreError) -> None:
            if line.protocol is protocol:
                line.protocol = None
                if line.idle_timer is not None and line.idle_timer.active():
                    line.idle_timer.cancel()
                for watcher in list(self._watchers):
                    watcher(protocol.fp)
            elif line.dialling:
                self._failed(Failure(reason), address, line)

        protocol = PeerProtocol(
            self._clock,
            self._make_greeting(),
            self._dispatcher,
            self._lamport,
            self._limits,
            self._budget,
            ready,
            lost,
            address,
        )
        attempt = maybeDeferred(self._network.connect, address, _OneProtocol(protocol))
        attempt.addTimeout(self._limits.connect_timeout, self._clock)
        attempt.addErrback(self._failed, address, line)

    def _failed(self, failure: Failure, address: str, line: _Line) -> None:
        if not line.dialling:
            return
        line.dialling = False
        line.failures += 1
        pause = min(BACKOFF_MOST, BACKOFF_FIRST * 2 ** min(line.failures - 1, 10))
        line.not_before = self._clock.seconds() + pause * self._rng.uniform(0.5, 1.0)
        line.last_error = f"Nobody answers at {address} ({_why(failure)})."
        error = failure.value
        if not isinstance(error, PeerStoreError) or isinstance(error, PeerTimeout):
            error = PeerUnreachable(line.last_error, "Check the address, and that the node runs.")
        self._fail_waiting(line, error)

    @staticmethod
    def _fail_waiting(line: _Line, error: PeerStoreError) -> None:
        waiting, line.waiting = line.waiting, []
        for waiter in waiting:
            waiter.errback(error)

    def _maybe_idle(self, line: _Line) -> None:
        protocol = line.protocol
        if protocol is None:
            return
        quiet = self._clock.seconds() - protocol.last_active
        if quiet >= self._limits.idle and protocol.idle:
            line.protocol = None
            protocol.close(ConnectionLost("The connection was idle."))
            return
        again = max(1.0, self._limits.idle - quiet) if quiet < self._limits.idle else self._limits.idle
        line.idle_timer = self._clock.callLater(again, self._maybe_idle, line)


class _OneProtocol(Factory):
    """A client factory for a protocol that exists already."""

    noisy = False

    def __init__(self, protocol: PeerProtocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: Any) -> PeerProtocol:
        return self._protocol


def _why(failure: Failure) -> str:
    text = failure.getErrorMessage() or type(failure.value).__name__
    return text.rstrip(".").split("\n")[0]
