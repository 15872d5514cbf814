"""Kept connections: one per peer, dialled when first needed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from peerstore import ids
from peerstore.errors import ConnectionLost, PeerError, PeerMismatch, PeerStoreError, PeerTimeout, PeerUnreachable
from peerstore.interfaces import IDispatcher, INetwork, IPeerPool
from peerstore.net.limits import Budget, Limits
from peerstore.net.protocol import PeerProtocol
from peerstore.util.complaint import Seldom
from peerstore.util.lamport import LamportClock
from peerstore.wire.session import Greeting

__all__ = ["PeerPool"]

BACKOFF_FIRST = 0.25
BACKOFF_MOST = 30.0
#: Beyond so many addresses those that are not in use are forgotten.
LINES = 1024


class _Line:
    """What the pool knows of one host at one address.

    *protocol* is greeted and in use; *dialled* is not yet connected, or not
    yet greeted, and *attempt* is the dial while it lasts.
    """

    def __init__(self) -> None:
        self.protocol: PeerProtocol | None = None
        self.dialled: PeerProtocol | None = None
        self.attempt: Deferred[Any] | None = None
        self.waiting: list[Deferred[PeerProtocol]] = []
        self.failures = 0
        self.not_before = 0.0
        self.last_error = ""

    def forgettable(self, now: float) -> bool:
        """Whether nothing is lost when the line is dropped."""
        return self.protocol is None and self.dialled is None and self.not_before <= now


@implementer(IPeerPool)
class PeerPool:
    """Dials each host once, keeps the connection, and closes it when idle.

    A host is a key at an address.  Machines are set up anew, and whoever was
    there before may still be asked for, and still seem to be connected: one
    must not stand in the way of the other.  A failed dial is not tried again before a back-off has passed, each twice
    as long as the last up to 30 s; calls in between fail at once.

    :param network: provides ``INetwork``.
    :param rng: spreads the back-off, so that nodes do not dial in step.
    :param make_greeting: called for each connection.
    :param dispatcher: answers what the other ends ask; may be None.
    :param budget: counts bytes in work; the node's listener may share it.
    """

    def __init__(
        self,
        network: INetwork,
        clock: IReactorTime,
        rng: random.Random,
        make_greeting: Callable[[], Greeting],
        dispatcher: IDispatcher | None,
        lamport: LamportClock,
        limits: Limits | None = None,
        budget: Budget | None = None,
    ) -> None:
        self._network = network
        self._clock = clock
        self._rng = rng
        self._make_greeting = make_greeting
        self._dispatcher = dispatcher
        self._lamport = lamport
        self._limits = limits or Limits()
        self._budget = budget or Budget(self._limits.bytes_per_node)
        self._violations = Seldom(clock.seconds)
        #: By address and fingerprint; None: whoever answers there.
        self._lines: dict[str, dict[bytes | None, _Line]] = {}
        self._watchers: list[Callable[[bytes], None]] = []
        #: Connections whose end is a loss; and all that are open at all, in
        #: the order in which they were made, so that each run ends the same.
        self._kept: set[PeerProtocol] = set()
        self._open: dict[PeerProtocol, None] = {}
        self._stopping: list[Deferred[None]] = []
        self._stopped = False

    @property
    def remembered(self) -> int:
        """How many lines are in use, or were of late."""
        return sum(map(len, self._lines.values()))

    def call(
        self, address: str, method: str, body: Any, timeout: float | None = None, fp: bytes | None = None
    ) -> Deferred[Any]:
        """Ask the peer at *address*, and with *fp* only the host of that key."""
        return self.peer(address, fp).addCallback(lambda peer: peer.call(method, body, timeout))

    def peer(self, address: str, fp: bytes | None = None) -> Deferred[Any]:
        """A Deferred of the connected peer; fails with a PeerError."""
        if self._stopped:
            return fail(PeerUnreachable("This program is stopping."))
        for at in self._lines.get(address, {}).values():
            if at.protocol is not None and at.protocol.usable and fp in (None, at.protocol.fp):
                return succeed(at.protocol)
        line = self._line(address, fp)
        now = self._clock.seconds()
        if line.dialled is None and now < line.not_before:
            return fail(PeerUnreachable(line.last_error, f"It is dialled again in {line.not_before - now:.1f} s."))
        waiter: Deferred[PeerProtocol] = Deferred()
        line.waiting.append(waiter)
        if line.dialled is None:
            self._dial(address, fp, line)
        return waiter

    def drop(self, address: str) -> None:
        """Close the connections to *address*: the next call dials anew, and
        greets anew."""
        for line in list(self._lines.get(address, {}).values()):
            if line.protocol is not None:
                protocol = line.protocol
                self._let_go(line, protocol)
                protocol.close(ConnectionLost("The connection was closed on our side."))

    def forget_backoff(self, address: str) -> None:
        """Somebody was heard of at *address*: let the next call dial at once."""
        for line in self._lines.get(address, {}).values():
            line.not_before = 0.0

    def watch_losses(self, callback: Callable[[bytes], None]) -> None:
        """*callback(fp)* when an established connection to a peer has ended."""
        self._watchers.append(callback)

    def stop(self) -> Deferred[None]:
        """Close everything; calls in flight and dials under way fail.  Fires
        when the last connection has ended."""
        self._stopped = True
        self._kept.clear()
        reason = PeerUnreachable("This program is stopping.")
        for line in [line for lines in self._lines.values() for line in lines.values()]:
            dialled, line.dialled = line.dialled, None
            if dialled is not None:
                dialled.abort(reason)
            attempt, line.attempt = line.attempt, None
            if attempt is not None:
                attempt.cancel()
            self._fail_waiting(line, reason)
        for protocol in list(self._open):
            protocol.abort(ConnectionLost("This program is stopping."))
        if not self._open:
            return succeed(None)
        stopped: Deferred[None] = Deferred()
        self._stopping.append(stopped)
        return stopped

    # -- inside ----------------------------------------------------------------

    def _line(self, address: str, fp: bytes | None) -> _Line:
        line = self._lines.get(address, {}).get(fp)
        if line is None:
            if self.remembered >= LINES:
                # Peers tell us addresses, and may make them up.
                self._forget()
            line = self._lines.setdefault(address, {})[fp] = _Line()
        return line

    def _forget(self) -> None:
        now = self._clock.seconds()
        kept = {
            address: {fp: line for fp, line in lines.items() if not line.forgettable(now)}
            for address, lines in self._lines.items()
        }
        self._lines = {address: lines for address, lines in kept.items() if lines}

    def _let_go(self, line: _Line, protocol: PeerProtocol) -> None:
        """Its end will be no loss."""
        self._kept.discard(protocol)
        if line.protocol is protocol:
            line.protocol = None

    def _dial(self, address: str, fp: bytes | None, line: _Line) -> None:
        def ready(protocol: PeerProtocol) -> None:
            if line.dialled is not protocol:
                return
            if fp in (None, protocol.fp):
                self._ready(address, line, protocol)
                return
            what = f"{address} is now the node {ids.short(protocol.fp)}, not {ids.short(fp)}."
            protocol.abort(PeerMismatch(what, "If the machine was set up anew, this is expected."))

        def lost(protocol: PeerProtocol, reason: PeerStoreError) -> None:
            if line.dialled is protocol:
                self._failed(Failure(reason), address, line)
            self._lost(line, protocol)

        protocol = line.dialled = PeerProtocol(
            self._clock,
            self._make_greeting(),
            self._dispatcher,
            self._lamport,
            self._limits,
            self._budget,
            ready,
            lost,
            address,
            violations=self._violations,
        )

        def connected(_: Any) -> None:
            line.attempt = None
            if not protocol.ended:
                self._open[protocol] = None

        def failed(failure: Failure) -> None:
            # Should it connect after all, it is too late.
            protocol.abort()
            if line.dialled is protocol:
                self._failed(failure, address, line)

        attempt = line.attempt = maybeDeferred(self._network.connect, address, _OneProtocol(protocol))
        attempt.addTimeout(self._limits.connect_timeout, self._clock)
        attempt.addCallbacks(connected, failed)

    def _ready(self, address: str, line: _Line, protocol: PeerProtocol) -> None:
        line.dialled = None
        line.failures = 0
        line.not_before = 0.0
        there = self._met(address, protocol)
        if there is protocol:
            line.protocol = protocol
            self._kept.add(protocol)
            protocol.close_when_idle(self._limits.idle, lambda: self._let_go(line, protocol))
        else:
            protocol.close(ConnectionLost("There is another connection to that host."))
        waiting, line.waiting = line.waiting, []
        for waiter in waiting:
            waiter.callback(there)

    def _met(self, address: str, protocol: PeerProtocol) -> PeerProtocol:
        """The connection to use for the host that was just met there; those
        who were there before it are gone, even if they did not say so."""
        there = protocol
        for other in [line.protocol for line in self._lines.get(address, {}).values()]:
            if other is None or not other.usable:
                continue
            if other.fp == protocol.fp:
                there = other
            else:
                other.abort(ConnectionLost(f"Another node answers at {address} now.", "It will be tried again."))
        return there

    def _lost(self, line: _Line, protocol: PeerProtocol) -> None:
        kept = protocol in self._kept
        self._let_go(line, protocol)
        self._open.pop(protocol, None)
        if kept:
            for watcher in list(self._watchers):
                watcher(protocol.fp)
        if not self._open:
            stopping, self._stopping = self._stopping, []
            for stopped in stopping:
                stopped.callback(None)

    def _failed(self, failure: Failure, address: str, line: _Line) -> None:
        line.dialled = None
        line.attempt = None
        line.failures += 1
        pause = min(BACKOFF_MOST, BACKOFF_FIRST * 2 ** min(line.failures - 1, 10))
        line.not_before = self._clock.seconds() + pause * self._rng.uniform(0.5, 1.0)
        error = failure.value
        if isinstance(error, PeerError) and not isinstance(error, PeerTimeout):
            line.last_error = error.what
        else:
            line.last_error = f"Nobody answers at {address} ({self._why(failure)})."
            error = PeerUnreachable(line.last_error, "Check the address, and that the node runs.")
        self._fail_waiting(line, error)

    def _why(self, failure: Failure) -> str:
        if failure.check(DeferredTimeout):
            return f"not within {self._limits.connect_timeout:g} s"
        number = getattr(failure.value, "osError", None)
        if isinstance(number, int):
            # Twisted's words say the same twice.
            return os.strerror(number).lower()
        text = failure.getErrorMessage() or type(failure.value).__name__
        return text.rstrip(".").split("\n")[0]

    @staticmethod
    def _fail_waiting(line: _Line, error: PeerStoreError) -> None:
        waiting, line.waiting = line.waiting, []
        for waiter in waiting:
            waiter.errback(error)


class _OneProtocol(Factory):
    """A client factory for a protocol that exists already."""

    noisy = False

    def __init__(self, protocol: PeerProtocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: Any) -> PeerProtocol:
        return self._protocol
