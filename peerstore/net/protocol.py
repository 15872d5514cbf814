"""One connection between two peers.

Bytes become frames (``wire.framing``), frames become payloads of a session
(``wire.session``), payloads become typed messages (``wire.messages``).  This
class only carries them, and keeps the bounds: after the greeting either end
may ask, many requests are in flight at a time, and losing the connection
fails all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from peerstore import ids
from peerstore.errors import (
    BadMessage,
    Busy,
    ConnectionLost,
    PeerStoreError,
    PeerTimeout,
    ProtocolViolation,
)
from peerstore.interfaces import IDispatcher, IRemotePeer
from peerstore.net.limits import Budget, Limits
from peerstore.net.outbox import Outbox
from peerstore.net.requests import RequestTable
from peerstore.util.lamport import LamportClock
from peerstore.wire import bodies
from peerstore.wire.framing import FrameDecoder, frame_header
from peerstore.wire.messages import (
    METHODS,
    Cancel,
    Request,
    Response,
    Status,
    decode_body,
    decode_message,
    encode_body,
    encode_message,
    error_for,
    status_for,
)
from peerstore.wire.session import ClearSession, Greeted, Greeting

__all__ = ["PeerProtocol"]


@implementer(IRemotePeer, IPushProducer)
class PeerProtocol(Protocol):
    """The other end of one connection, and our answers to it.

    :param clock: provides ``IReactorTime``.
    :param greeting: what we say of ourselves.
    :param dispatcher: answers the other end's requests; None refuses them.
    :param budget: request bytes in work over all connections of this process.
    :param ready: called with self once the other end has greeted.
    :param lost: called with self and the reason when the connection ended.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        greeting: Greeting,
        dispatcher: IDispatcher | None,
        lamport: LamportClock,
        limits: Limits,
        budget: Budget,
        ready: Callable[[PeerProtocol], None],
        lost: Callable[[PeerProtocol, PeerStoreError], None],
        address: str = "",
    ) -> None:
        self._clock = clock
        self._own = greeting
        self._dispatcher = dispatcher
        self._lamport = lamport
        self._limits = limits
        self._budget = budget
        self._ready = ready
        self._lost = lost
        self.address = address
        self._session = ClearSession(greeting)
        self._decoder = FrameDecoder(self._session.frame_limit)
        self._requests = RequestTable(clock, address or "the peer")
        self._working: dict[int, Deferred[Any]] = {}
        self._working_bytes = 0
        self._peer: Greeting | None = None
        self._fp = b""
        self._farewell: PeerStoreError | None = None
        self._greeting_timer: IDelayedCall | None = None
        self._outbox: Outbox | None = None
        self.last_active = clock.seconds()
        self.ended = False

    # -- what others see --------------------------------------------------------

    @property
    def greeting(self) -> Greeting:
        """The other end's greeting; only after it has arrived."""
        assert self._peer is not None, "asked before the greeting"
        return self._peer

    @property
    def fp(self) -> bytes:
        """The other end's fingerprint: 32 bytes, empty before its greeting."""
        return self._fp

    @property
    def idle(self) -> bool:
        """Nothing is in flight in either direction."""
        return not self._requests and not self._working

    def call(self, method: str, body: Any, timeout: float | None = None) -> Deferred[Any]:
        """Ask the other end; a Deferred of the method's response body."""
        seconds = self._limits.call_timeout if timeout is None else timeout
        number, answer = self._requests.begin(method, seconds)
        if not self.ended:
            request = Request(
                number, method, self._own.id, self._lamport.tick(), int(seconds * 1000), encode_body(body)
            )
            self._send(encode_message(request))
        kind = METHODS[method].response

        def typed(response: Response) -> Any:
            if response.status != Status.OK:
                raise error_for(response.status, decode_body(response.body, bodies.Refusal))
            return decode_body(response.body, kind)

        def unwanted(failure: Failure) -> Failure:
            if failure.check(PeerTimeout, CancelledError) and not self.ended:
                self._send(encode_message(Cancel(number)))
            return failure

        answer.addErrback(unwanted)
        answer.addCallback(typed)
        return answer

    def close(self, reason: PeerStoreError | None = None) -> None:
        """End the connection; *reason* is what waiting callers are told."""
        if reason is not None and self._farewell is None:
            self._farewell = reason
        if self.transport is not None:
            self.transport.loseConnection()

    def abort(self, reason: PeerStoreError | None = None) -> None:
        """End the connection without waiting for anything to be written."""
        if reason is not None and self._farewell is None:
            self._farewell = reason
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]

    # -- Twisted's side -----------------------------------------------------------

    def connectionMade(self) -> None:
        """Greet at once, and wait a bounded time to be greeted."""
        assert self.transport is not None
        self._outbox = Outbox(self.transport)  # type: ignore[arg-type]
        self.transport.registerProducer(self, True)  # type: ignore[attr-defined]
        self._greeting_timer = self._clock.callLater(self._limits.greeting_timeout, self._not_greeted)
        payload = self._session.start()
        self._outbox.put(frame_header(len(payload)), payload)

    def dataReceived(self, data: bytes) -> None:
        """Take bytes in; end the connection where the frames are lost."""
        self.last_active = self._clock.seconds()
        self._requests.progress(len(data))
        try:
            for payload in self._decoder.feed(data):
                if self.ended or self._farewell is not None:
                    return
                self._payload(payload)
                self._decoder.limit = self._session.frame_limit
        except ProtocolViolation as violation:
            self._refuse(violation)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fail what waits, cancel what works, tell whoever keeps us."""
        self.ended = True
        if self._greeting_timer is not None and self._greeting_timer.active():
            self._greeting_timer.cancel()
        if self._outbox is not None:
            self._outbox.clear()
        why = self._farewell or ConnectionLost(
            f"The connection to {self.address or 'the peer'} ended before it answered.", "It will be tried again."
        )
        working, self._working = self._working, {}
        for deferred in list(working.values()):
            deferred.cancel()
        self._requests.lose(why)
        self._lost(self, why)

    def pauseProducing(self) -> None:
        """The reader at the other end is slow."""
        if self._outbox is not None:
            self._outbox.pause()

    def resumeProducing(self) -> None:
        """The reader has caught up."""
        self._requests.progress(1)
        if self._outbox is not None:
            self._outbox.resume()

    def stopProducing(self) -> None:
        """The transport is gone; connectionLost does the rest."""

    # -- inside ----------------------------------------------------------------

    def _send(self, payload: bytes) -> None:
        if self._outbox is not None and not self.ended:
            sealed = self._session.seal(payload)
            self.last_active = self._clock.seconds()
            self._outbox.put(frame_header(len(sealed)), sealed)

    def _payload(self, payload: bytes) -> None:
        event = self._session.receive(payload)
        if isinstance(event, Greeted):
            if self._greeting_timer is not None and self._greeting_timer.active():
                self._greeting_timer.cancel()
            self._peer = event.greeting
            self._fp = event.greeting.fp
            self._requests.peer = self.address or event.greeting.address or ids.short(self._fp)
            self._ready(self)
            return
        message = decode_message(event.payload)
        if isinstance(message, Request):
            self._lamport.witness(message.clock)
            self._asked(message, len(payload))
        elif isinstance(message, Response):
            self._lamport.witness(message.clock)
            if message.id == 0:
                refusal = decode_body(message.body, bodies.Refusal)
                self._farewell = ProtocolViolation(f"The peer ended the connection: {refusal.what}", refusal.next_step)
                self.close()
            elif not self._requests.answered(message.id, message):
                self._log.debug("an answer that nobody waits for was dropped, from {peer}", peer=ids.short(self._fp))
        else:
            working = self._working.get(message.id)
            if working is not None:
                working.cancel()

    def _asked(self, request: Request, size: int) -> None:
        if request.id in self._working or request.id == 0:
            raise BadMessage("a request's id is in use already.")
        if self._dispatcher is None:
            self._answer(request.id, *self._told(BadMessage("this peer answers no requests.")))
            return
        full = (
            len(self._working) >= self._limits.requests
            or (self._working_bytes and self._working_bytes + size > self._limits.bytes_per_connection)
            or (self._outbox is not None and self._outbox.unsent > self._limits.unsent)
        )
        if full or not self._budget.take(size):
            self._answer(request.id, *self._told(Busy("The peer has as much to do as it takes on.", retry_after=0.2)))
            return
        self._working_bytes += size
        work = maybeDeferred(self._dispatcher.dispatch, self.greeting, request.method, request.body)
        self._working[request.id] = work
        work.addBoth(self._worked, request, size)

    def _worked(self, result: Any, request: Request, size: int) -> None:
        self._working.pop(request.id, None)
        self._working_bytes -= size
        self._budget.give_back(size)
        if isinstance(result, Failure):
            if result.check(CancelledError):
                return
            if not isinstance(result.value, PeerStoreError):
                self._log.failure("{method} failed", failure=result, method=request.method)
            self._answer(request.id, *self._told(result.value))
            return
        self._answer(request.id, Status.OK, result)

    @staticmethod
    def _told(error: BaseException | None) -> tuple[Status, bytes]:
        status, refusal = status_for(error or PeerStoreError("failed"))
        return status, encode_body(refusal)

    def _answer(self, number: int, status: Status, body: bytes) -> None:
        self._send(encode_message(Response(number, int(status), self._lamport.tick(), body)))

    def _refuse(self, violation: ProtocolViolation) -> None:
        """Say why, once, and end: what follows in the stream means nothing."""
        self._log.info(
            "ended the connection with {peer}: {why}", peer=ids.short(self._fp) or self.address, why=violation.what
        )
        if self._session.established:
            self._answer(0, *self._told(violation))
        self.close(violation)

    def _not_greeted(self) -> None:
        self.abort(PeerTimeout(f"{self.address or 'The peer'} did not greet us.", "Is it a PeerStore node?"))
