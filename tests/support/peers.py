"""Peers for tests of the net package: a raw one, one that is scripted, a bench."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from peerstore.errors import PeerStoreError
from peerstore.interfaces import IDispatcher
from peerstore.net.limits import Budget, Limits
from peerstore.net.protocol import PeerProtocol
from peerstore.util.lamport import LamportClock
from peerstore.wire import bodies
from peerstore.wire.framing import FRAME_LIMIT, FrameDecoder, encode_frame
from peerstore.wire.messages import Message, Request, Response, Status, decode_body, decode_message, encode_body
from peerstore.wire.session import Greeting, decode_greeting
from tests.support.transports import CAPACITY, Wire
from tests.support.wire import a_greeting, frame_of, greeting_frame

__all__ = ["PeerTestCase", "RawPeer", "Scripted", "a_frame"]


class RawPeer(Protocol):
    """The other end, byte by byte: sends what it is told, notes what comes."""

    def __init__(self, greeting: Greeting | None = None) -> None:
        self.own = greeting or a_greeting(b"raw")
        self.payloads: list[bytes] = []
        self.lost: Failure | None = None
        self._decoder = FrameDecoder(FRAME_LIMIT)

    def dataReceived(self, data: bytes) -> None:
        self.payloads.extend(self._decoder.feed(data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason

    def send(self, data: bytes) -> None:
        """Any bytes."""
        assert self.transport is not None
        self.transport.write(data)

    def greet(self) -> None:
        """Our greeting."""
        self.send(greeting_frame(self.own))

    def say(self, message: Message) -> None:
        """One message."""
        self.send(frame_of(message))

    def asking(self, number: int, method: str = "ping", body: Any = None, **other: Any) -> bytes:
        """The frame of one request, sound unless *other* says otherwise."""
        packed = body if isinstance(body, bytes) else encode_body(body or bodies.Ping())
        request = Request(number, method, self.own.id, 1, 1000, packed)
        return frame_of(msgspec.structs.replace(request, **other))

    def ask(self, number: int, method: str = "ping", body: Any = None, **other: Any) -> None:
        """Send one request."""
        self.send(self.asking(number, method, body, **other))

    @property
    def greeting(self) -> Greeting:
        """What the other end greeted us with."""
        return decode_greeting(self.payloads[0])

    @property
    def messages(self) -> list[Message]:
        """All that came after the greeting."""
        return [decode_message(payload) for payload in self.payloads[1:]]

    @property
    def requests(self) -> list[Request]:
        """The requests among them."""
        return [message for message in self.messages if isinstance(message, Request)]

    @property
    def answers(self) -> dict[int, list[Response]]:
        """The responses among them, by id."""
        found: dict[int, list[Response]] = {}
        for message in self.messages:
            if isinstance(message, Response):
                found.setdefault(message.id, []).append(message)
        return found

    def status(self, number: int) -> Status:
        """How the one answer to a request ended."""
        (answer,) = self.answers[number]
        return Status(answer.status)

    def refusal(self, number: int) -> bodies.Refusal:
        """The words of an answer that is not OK."""
        (answer,) = self.answers[number]
        assert answer.status != Status.OK
        return decode_body(answer.body, bodies.Refusal)


@implementer(IDispatcher)
class Scripted:
    """Notes what is asked; each question waits until the test answers it."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, str, bytes]] = []
        self.waiting: list[Deferred[bytes]] = []
        self.cancelled = 0
        self.reply: Callable[[], Any] | None = None

    def dispatch(self, caller: Any, method: str, body: bytes) -> Any:
        """Wait, or do what *reply* does."""
        self.asked.append((caller, method, body))
        if self.reply is not None:
            return self.reply()
        answer: Deferred[bytes] = Deferred(self._cancel)
        self.waiting.append(answer)
        return answer

    def _cancel(self, _: Deferred[bytes]) -> None:
        self.cancelled += 1


class PeerTestCase(SynchronousTestCase):
    """A PeerProtocol, a raw peer, and the wire between them."""

    limits = Limits()

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.dispatcher = Scripted()
        self.budget = Budget(self.limits.bytes_per_node)
        self.ready: list[PeerProtocol] = []
        self.losses: list[tuple[PeerProtocol, PeerStoreError]] = []
        self.lamport = LamportClock()

    def protocol(self, greeting: Greeting | None = None, **other: Any) -> PeerProtocol:
        """One more protocol of the same node."""
        return PeerProtocol(
            other.get("clock", self.clock),
            greeting or a_greeting(b"ours"),
            other.get("dispatcher", self.dispatcher),
            other.get("lamport", self.lamport),
            other.get("limits", self.limits),
            other.get("budget", self.budget),
            self.ready.append,
            lambda protocol, reason: self.losses.append((protocol, reason)),
            other.get("address", ""),
        )

    def connect(
        self, greet: bool = True, capacity: int = CAPACITY, chunk: int = CAPACITY, **other: Any
    ) -> tuple[PeerProtocol, RawPeer, Wire]:
        """A protocol connected to a raw peer, and greeted by it."""
        protocol, raw = self.protocol(**other), RawPeer()
        wire = Wire(protocol, raw, capacity, chunk)
        if greet:
            raw.greet()
        wire.pump()
        return protocol, raw, wire

    def pair(self, **other: Any) -> tuple[PeerProtocol, PeerProtocol, Wire]:
        """Two protocols, connected, and greeted by each other."""
        left, right = self.protocol(a_greeting(b"left"), **other), self.protocol(a_greeting(b"right"), **other)
        wire = Wire(left, right)
        wire.pump()
        return left, right, wire

    def assert_intact(self, protocol: PeerProtocol, raw: RawPeer, wire: Wire, number: int = 1_000_000) -> None:
        """The connection lives: a question is asked and answered over it."""
        before, kept = len(self.dispatcher.asked), self.dispatcher.reply
        self.dispatcher.reply = lambda: encode_body(bodies.Pong(1, "member"))
        raw.ask(number)
        wire.pump()
        self.dispatcher.reply = kept
        self.assertEqual(len(self.dispatcher.asked), before + 1)
        self.assertEqual(raw.status(number), Status.OK)
        self.assertFalse(protocol.ended)


def a_frame(size: int) -> bytes:
    """A frame with a payload of that size that is no message."""
    return encode_frame(b"\xc1" * size)
