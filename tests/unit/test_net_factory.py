"""What listens: bounded, counted, ended."""

from __future__ import annotations

from twisted.internet.defer import succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from peerstore.net.factory import PeerFactory
from peerstore.net.limits import Budget, Limits
from peerstore.net.protocol import PeerProtocol
from peerstore.util.lamport import LamportClock
from peerstore.wire import bodies
from peerstore.wire.framing import encode_frame
from peerstore.wire.messages import Status, encode_body
from peerstore.wire.session import Greeting
from tests.support.peers import RawPeer, Scripted
from tests.support.transports import Wire
from tests.support.wire import a_greeting


class FactoryTests(SynchronousTestCase):
    """A factory, and those who come."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.dispatcher = Scripted()
        self.dispatcher.reply = lambda: succeed(encode_body(bodies.Pong(1, "member")))
        self.greetings: list[Greeting] = []

    def factory(self, connections: int = 1000, budget: Budget | None = None) -> PeerFactory:
        """One that keeps what it greeted with."""
        limits = Limits()
        return PeerFactory(self.greet, self.dispatcher, self.clock, LamportClock(), limits, connections, budget)

    def greet(self) -> Greeting:
        """Another each time."""
        self.greetings.append(a_greeting(b"ours %d" % len(self.greetings)))
        return self.greetings[-1]

    def come(self, factory: PeerFactory, greet: bool = True) -> tuple[RawPeer, Wire]:
        """Somebody connects."""
        protocol, raw = factory.buildProtocol(None), RawPeer()
        assert protocol is not None
        wire = Wire(protocol, raw)
        if greet:
            raw.greet()
        wire.pump()
        return raw, wire

    def alive(self, raw: RawPeer, wire: Wire, number: int = 1) -> bool:
        """Whether a question is answered."""
        raw.ask(number)
        wire.pump()
        return number in raw.answers and raw.status(number) is Status.OK

    def test_each_connection_has_a_greeting_of_its_own(self) -> None:
        """Its nonce is fresh."""
        factory = self.factory()
        first, second = self.come(factory)[0], self.come(factory)[0]
        self.assertEqual([first.greeting, second.greeting], self.greetings)

    def test_who_knocks_again_and_again(self) -> None:
        """Strangers that speak something else are told of once in ten minutes, not each time."""
        factory = self.factory()
        lines: list[str] = []
        for _ in range(3):
            for _ in range(20):
                with capturedLogs() as captured:
                    raw, wire = self.come(factory, greet=False)
                    raw.send(b"GET / HTTP/1.0\r\n\r\n")
                    wire.pump()
                lines += [formatEvent(event) for event in captured]
            self.clock.advance(601)
        self.assertEqual(len(lines), 3)
        self.assertIn("ended the connection with a stranger", lines[0])
        self.assertEqual(len(factory.connections), 0)

    def test_connections_are_counted(self) -> None:
        """While they last."""
        factory = self.factory()
        wires = [self.come(factory)[1] for _ in range(3)]
        self.assertEqual(len(factory.connections), 3)
        wires[1].cut()
        self.assertEqual(len(factory.connections), 2)

    def test_the_connection_limit(self) -> None:
        """Beyond it none is made; the others go on; one that ends makes room."""
        factory = self.factory(connections=2)
        kept, going = self.come(factory), self.come(factory)
        self.assertIsNone(factory.buildProtocol(None))
        self.assertTrue(self.alive(*kept))
        going[1].cut()
        self.assertTrue(self.alive(*self.come(factory)))
        self.assertIsNone(factory.buildProtocol(None))

    def test_those_who_never_greet_make_room(self) -> None:
        """After ten seconds."""
        factory = self.factory(connections=2)
        wires = [self.come(factory, greet=False)[1] for _ in range(2)]
        self.assertIsNone(factory.buildProtocol(None))
        self.clock.advance(10)
        for wire in wires:
            wire.pump()
        self.assertEqual(len(factory.connections), 0)

    def test_those_who_went_away_without_a_word(self) -> None:
        """Are let go of when nothing was heard for ten minutes."""
        factory = self.factory()
        silent, wire = self.come(factory)
        self.clock.pump([60] * 9)
        self.assertTrue(self.alive(silent, wire))
        self.clock.pump([60] * 9)
        wire.pump()
        self.assertEqual(len(factory.connections), 1)
        self.clock.pump([60] * 2)
        wire.pump()
        self.assertEqual((len(factory.connections), self.clock.getDelayedCalls()), (0, []))

    def test_one_that_breaks_disturbs_nobody(self) -> None:
        """Rubbish, half a frame, a cut: the others do not notice."""
        factory = self.factory()
        peer = self.come(factory)
        for number, rubbish in enumerate((b"\xff" * 100, encode_frame(b"x"), b"\0\0\0\x10half"), 1):
            other, wire = self.come(factory)
            other.send(rubbish)
            wire.pump()
            wire.cut()
            self.assertTrue(self.alive(*peer, number))
        self.assertEqual(len(factory.connections), 1)

    def test_stop(self) -> None:
        """All connections end, greeted or not, and none is made any more."""
        factory = self.factory()
        peers = [self.come(factory), self.come(factory, greet=False)]
        factory.stop()
        for raw, wire in peers:
            wire.pump()
            self.assertIsNotNone(raw.lost)
        self.assertEqual((factory.connections, self.clock.getDelayedCalls()), ({}, []))
        self.assertIsNone(factory.buildProtocol(None))

    def test_one_budget_for_all(self) -> None:
        """The bytes of all connections count together, and with the pool's."""
        budget = Budget(1000)
        budget.take(900)
        factory = self.factory(budget=budget)
        raw, wire = self.come(factory)
        raw.ask(1, "get-chunks", bodies.GetChunks((bytes(500),)))
        wire.pump()
        self.assertEqual(raw.status(1), Status.BUSY)
        budget.give_back(900)
        self.assertTrue(self.alive(raw, wire, 2))

    def test_what_it_builds(self) -> None:
        """Protocols that know their factory, as Twisted expects."""
        factory = self.factory()
        protocol = factory.buildProtocol(None)
        assert isinstance(protocol, PeerProtocol)
        self.assertIs(protocol.factory, factory)
