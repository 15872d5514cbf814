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

from twisted.internet.defer import CancelledError, Deferred, fail
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
    RemoteError,
)
from peerstore.interfaces import IDispatcher, IRemotePeer
from peerstore.net.arriving import Arriving
from peerstore.net.limits import Budget, Limits
from peerstore.net.outbox import Outbox
from peerstore.net.progress import ProgressWatch
from peerstore.net.requests import RequestTable
from peerstore.net.serving import ENVELOPE, Serving, told
from peerstore.util.complaint import Seldom
from peerstore.util.lamport import LamportClock
from peerstore.wire import bodies
from peerstore.wire.framing import FRAME_LIMIT, FrameDecoder, frame_header
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
)
from peerstore.wire.session import ClearSession, Greeted, Greeting

__all__ = ["PeerProtocol"]

#: A peer's Lamport clock this far ahead of ours is not believed.
CLOCK_JUMP = 1 << 40


@implementer(IRemotePeer, IPushProducer)
class PeerProtocol(Protocol):
    """The other end of one connection, and our answers to it.

    :param clock: provides ``IReactorTime``.
    :param greeting: what we say of ourselves.
    :param dispatcher: answers the other end's requests; None refuses them.
    :param budget: request bytes in work over all connections of this process.
    :param ready: called with self once the other end has greeted.
    :param lost: called with self and the reason when the connection ended.
    :param arriving: counts unfinished frames; None where few connect to us.
    :param violations: which broken protocols are worth a line in the log.
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
        arriving: Arriving | None = None,
        violations: Seldom | None = None,
    ) -> None:
        self._clock = clock
        self._violations = violations or Seldom(clock.seconds)
        self._arriving = arriving
        self._own = greeting
        self._lamport = lamport
        self._limits = limits
        self._budget = budget
        self._ready = ready
        self._lost = lost
        self.address = address
        self._session = ClearSession(greeting)
        self._decoder = FrameDecoder(self._session.frame_limit)
        self._requests = RequestTable(clock, address or "the peer")
        self._serving = Serving(dispatcher, limits, budget, self._answer, self._slow)
        self._peer: Greeting | None = None
        self._fp = b""
        self._farewell: PeerStoreError | None = None
        self._outbox: Outbox | None = None
        self._timers: dict[str, IDelayedCall] = {}
        self._incoming = ProgressWatch(clock, limits.window, limits.progress, self._amid_frame, self._dripping)
        self._outgoing = ProgressWatch(clock, limits.stalled, 1, self._held_up, self._unread)
        self._paused = False
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
        return not self._requests and not self._serving

    @property
    def usable(self) -> bool:
        """Neither ended nor about to end: a call may be answered."""
        return not self.ended and self._farewell is None

    def call(self, method: str, body: Any, timeout: float | None = None) -> Deferred[Any]:
        """Ask the other end; a Deferred of the method's response body.

        Besides what the peer answers it fails with Busy when too much waits
        to be sent already, and with TOO_LARGE for what fits no frame.
        """
        kind, packed = METHODS[method].response, encode_body(body)
        seconds = self._limits.call_timeout if timeout is None else timeout
        refused = self._may_not_send(len(packed))
        if refused is not None:
            return fail(refused)
        number, answer = self._requests.begin(method, seconds)
        request = Request(number, method, self._own.id, self._lamport.tick(), max(0, int(seconds * 1000)), packed)
        self._send(encode_message(request), number)

        def typed(response: Response) -> Any:
            if response.status != Status.OK:
                raise error_for(response.status, decode_body(response.body, bodies.Refusal))
            return decode_body(response.body, kind)

        def unwanted(failure: Failure) -> Failure:
            if failure.check(PeerTimeout, CancelledError) and self.usable:
                self._take_back(number)
            return failure

        answer.addErrback(unwanted)
        answer.addCallback(typed)
        return answer

    def close(self, reason: PeerStoreError | None = None) -> None:
        """End the connection once what was written has gone out, or has not
        for a while; *reason* is what waiting callers are told."""
        if self._farewell is None:
            self._farewell = reason or ConnectionLost("The connection was closed on our side.")
        if self.transport is not None and not self.ended and "closing" not in self._timers:
            self._timers["closing"] = self._clock.callLater(self._limits.closing, self.abort)
            self._close_when_written()

    def abort(self, reason: PeerStoreError | None = None) -> None:
        """End the connection without waiting for anything to be written."""
        if self._farewell is None:
            self._farewell = reason or ConnectionLost("The connection was closed on our side.")
        if self.transport is not None and not self.ended:
            self.transport.abortConnection()  # type: ignore[attr-defined]

    def close_when_idle(self, seconds: float, closing: Callable[[], None] | None = None) -> None:
        """Close once nothing was in flight and no byte moved for *seconds*;
        *closing* is called just before."""

        def look() -> None:
            quiet = self._clock.seconds() - self.last_active
            if quiet >= seconds and self.idle:
                if closing is not None:
                    closing()
                self.close(ConnectionLost("The connection was idle."))
                return
            again = seconds - quiet if quiet < seconds else seconds
            self._timers["idle"] = self._clock.callLater(max(1.0, again), look)

        if not self.ended:
            self._timers["idle"] = self._clock.callLater(seconds, look)

    # -- Twisted's side -----------------------------------------------------------

    def connectionMade(self) -> None:
        """Greet at once, and wait a bounded time to be greeted."""
        assert self.transport is not None
        if self._farewell is not None:
            self.abort()
            return
        self._outbox = Outbox(self.transport, self._budget)  # type: ignore[arg-type]
        self.transport.registerProducer(self, True)  # type: ignore[attr-defined]
        self._timers["greeting"] = self._clock.callLater(self._limits.greeting_timeout, self._not_greeted)
        payload = self._session.start()
        self._outbox.put(frame_header(len(payload)), payload)

    def dataReceived(self, data: bytes) -> None:
        """Take bytes in; end the connection where the frames are lost."""
        if self._farewell is not None:
            return
        self.last_active = self._clock.seconds()
        self._requests.progress(len(data))
        self._incoming.moved(len(data))
        anew = False
        try:
            for payload in self._decoder.feed(data):
                anew = True
                self._incoming.finished()
                self._payload(payload)
                if self._farewell is not None:
                    return
                self._decoder.limit = self._session.frame_limit
        except ProtocolViolation as violation:
            self._refuse(violation)
            return
        if self._decoder.buffered:
            self._incoming.watch()
        if self._arriving is not None:
            self._arriving.hold(self, self._decoder.buffered, anew, self._crowded)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fail what waits, cancel what works, tell whoever keeps us."""
        self.ended = True
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        self._incoming.stop()
        self._outgoing.stop()
        if self._arriving is not None:
            self._arriving.hold(self, 0, False, self._crowded)
        if self._outbox is not None:
            self._outbox.clear()
        why = self._farewell or ConnectionLost(
            f"The connection to {self.address or 'the peer'} ended before it answered.", "It will be tried again."
        )
        self._serving.end()
        self._requests.lose(why)
        self._lost(self, why)

    def pauseProducing(self) -> None:
        """The reader at the other end is slow."""
        self._paused = True
        self._outgoing.watch()
        if self._outbox is not None:
            self._outbox.pause()

    def resumeProducing(self) -> None:
        """The reader has caught up."""
        self._paused = False
        self._outgoing.moved(1)
        self._requests.progress(1)
        if self._outbox is not None:
            self._outbox.resume()
        if self._farewell is not None:
            self._close_when_written()

    def stopProducing(self) -> None:
        """The transport is gone; connectionLost does the rest."""

    # -- inside ----------------------------------------------------------------

    def _may_not_send(self, size: int) -> PeerStoreError | None:
        """Why a request with a body of *size* bytes is not sent, if so."""
        if self._farewell is not None:
            return self._farewell
        if size > FRAME_LIMIT - ENVELOPE:
            return RemoteError(f"A request of {size} bytes is larger than any node takes.", status=Status.TOO_LARGE)
        if self._outbox is not None and self._outbox.unsent > self._limits.queued:
            what = f"{self._requests.peer} is slow to take what waits for it."
            return Busy(what, status=Status.BUSY, retry_after=0.5)
        return None

    def _send(self, payload: bytes, tag: object = None) -> None:
        if self._outbox is None or not self.usable:
            return
        if self._outbox.unsent > self._limits.unsent + self._limits.queued:
            # It asks on and on, and what it is told is never read.
            self._unread()
            return
        sealed = self._session.seal(payload)
        self.last_active = self._clock.seconds()
        self._outbox.put(frame_header(len(sealed)), sealed, tag)

    def _take_back(self, number: int) -> None:
        """Nobody waits any more for the answer to our request *number*."""
        if self._outbox is None or not self._outbox.withdraw(number):
            self._send(encode_message(Cancel(number)))

    def _close_when_written(self) -> None:
        # With a producer registered, a transport waits for it; and one that
        # has paused its producer resumes it instead of closing.
        if self._outbox is not None and self._outbox.empty and self.transport is not None:
            self.transport.unregisterProducer()  # type: ignore[attr-defined]
            self.transport.loseConnection()

    def _payload(self, payload: bytes) -> None:
        event = self._session.receive(payload)
        if isinstance(event, Greeted):
            self._timers.pop("greeting").cancel()
            self._peer = event.greeting
            self._fp = event.greeting.fp
            self._requests.peer = self.address or event.greeting.address or ids.short(self._fp)
            self._ready(self)
            return
        message = decode_message(event.payload)
        if isinstance(message, Request):
            self._heard(message.clock)
            self._serving.asked(self.greeting, message, len(payload))
        elif isinstance(message, Response):
            self._heard(message.clock)
            if message.id == 0:
                self._refused(message)
            elif not self._requests.answered(message.id, message):
                self._log.debug("an answer that nobody waits for was dropped, from {peer}", peer=ids.short(self._fp))
        else:
            self._serving.cancel(message.id)

    def _heard(self, clock: int) -> None:
        # A clock that is absurdly far ahead would use ours up.
        if clock - self._lamport.time <= CLOCK_JUMP:
            self._lamport.witness(clock)

    def _answer(self, number: int, status: Status, body: bytes) -> None:
        self._send(encode_message(Response(number, int(status), self._lamport.tick(), body)))

    def _refuse(self, violation: ProtocolViolation) -> None:
        """Say why, once, and end: what follows in the stream means nothing."""
        peer = ids.short(self._fp) or self.address or "a stranger"
        if self._violations.due(f"{peer} {type(violation).__name__}"):
            self._log.info("ended the connection with {peer}: {why}", peer=peer, why=violation.what)
        if self._session.established:
            self._answer(0, *told(violation))
        self.close(violation)

    def _refused(self, message: Response) -> None:
        """The other end says why it ends the connection."""
        told = error_for(message.status, decode_body(message.body, bodies.Refusal))
        self.close(ProtocolViolation(f"The peer ended the connection: {told.what}", told.next_step))

    def _not_greeted(self) -> None:
        self.abort(PeerTimeout(f"{self.address or 'The peer'} did not greet us.", "Is it a PeerStore node?"))

    # -- what should move -----------------------------------------------------------

    def _slow(self) -> bool:
        return self._outbox is not None and self._outbox.unsent > self._limits.unsent

    def _amid_frame(self) -> bool:
        return self.usable and self._decoder.buffered > 0

    def _crowded(self) -> None:
        self._decoder = FrameDecoder(self._session.frame_limit)
        self._refuse(ProtocolViolation("Too much comes in here at the same time.", "Try again in a moment."))

    def _dripping(self) -> None:
        self._refuse(BadMessage("A frame was begun and does not come in."))

    def _held_up(self) -> bool:
        return not self.ended and self._paused

    def _unread(self) -> None:
        self._log.info("{peer} takes nothing of what waits for it", peer=self._requests.peer)
        self.abort(ProtocolViolation("The peer takes nothing of what waits for it."))
