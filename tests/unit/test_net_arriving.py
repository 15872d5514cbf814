"""Unfinished frames over all connections: bounded, the slowest goes first."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerstore.net.arriving import SMALL, Arriving
from peerstore.net.factory import PeerFactory
from peerstore.net.limits import Limits
from peerstore.util.lamport import LamportClock
from peerstore.wire import bodies
from peerstore.wire.messages import Status, encode_body
from tests.support.peers import RawPeer, Scripted
from tests.support.transports import Wire
from tests.support.wire import a_greeting

LIMIT = 10 * SMALL


class ArrivingTests(SynchronousTestCase):
    """The count."""

    def setUp(self) -> None:
        self.arriving = Arriving(LIMIT)
        self.ended: list[str] = []

    def hold(self, name: str, size: int, anew: bool = False) -> None:
        """A connection has so much."""
        self.arriving.hold(name, size, anew, lambda: self.ended.append(name))

    def test_below_the_limit(self) -> None:
        """Nobody is ended."""
        for name in "abcde":
            self.hold(name, 2 * SMALL)
        self.assertEqual((self.arriving.used, self.ended), (LIMIT, []))

    def test_the_oldest_goes(self) -> None:
        """Not the one whose bytes were too many."""
        for size in (SMALL, 5 * SMALL):
            self.hold("a", size)
            self.hold("b", size)
        self.hold("c", 1)
        self.assertEqual(self.ended, ["a"])
        self.assertEqual(self.arriving.used, 5 * SMALL + 1)

    def test_a_new_frame_is_young(self) -> None:
        """One that has finished a frame and begun another is not the oldest."""
        self.hold("a", 5 * SMALL)
        self.hold("b", 5 * SMALL)
        self.hold("a", 5 * SMALL, anew=True)
        self.hold("c", SMALL)
        self.assertEqual(self.ended, ["b"])

    def test_small_ones_are_left_alone(self) -> None:
        """However old, and however many."""
        for number in range(20):
            self.hold(str(number), SMALL)
        self.assertEqual(self.ended, [])
        self.hold("large", SMALL + 1)
        self.assertEqual(self.ended, ["large"])

    def test_what_is_finished_does_not_count(self) -> None:
        """Nothing is held of it."""
        self.hold("a", 9 * SMALL)
        self.hold("a", 0)
        self.hold("b", 9 * SMALL)
        self.assertEqual((self.arriving.used, self.ended), (9 * SMALL, []))

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 4 * SMALL), st.booleans()), max_size=60))
    def test_the_sum_is_right(self, steps: list[tuple[str, int, bool]]) -> None:
        """It is what the connections have that were not ended, within the limit."""
        arriving = Arriving(LIMIT)
        held: dict[str, int] = {}
        for name, size, anew in steps:
            held[name] = size
            arriving.hold(name, size, anew, lambda name=name: held.pop(name))
            self.assertEqual(arriving.used, sum(held.values()))
            self.assertTrue(arriving.used <= LIMIT or max(held.values()) <= SMALL)


class ConnectionTests(SynchronousTestCase):
    """Many connections to one node, each with most of a frame."""

    def setUp(self) -> None:
        dispatcher = Scripted()
        dispatcher.reply = lambda: succeed(encode_body(bodies.Pong(1, "member")))
        limits = Limits(arriving=LIMIT)
        self.factory = PeerFactory(lambda: a_greeting(b"ours"), dispatcher, Clock(), LamportClock(), limits)

    def come(self) -> tuple[RawPeer, Wire]:
        """Somebody connects and greets."""
        protocol, raw = self.factory.buildProtocol(None), RawPeer()
        assert protocol is not None
        wire = Wire(protocol, raw)
        raw.greet()
        wire.pump()
        return raw, wire

    def test_the_first_of_those_that_do_not_finish_is_ended(self) -> None:
        """It is told why; the others go on, and their frames are answered."""
        body = bytes(4 * SMALL)
        peers = [self.come() for _ in range(4)]
        frames = [raw.asking(1, "ping", body) for raw, _ in peers]
        for (raw, wire), frame in zip(peers, frames, strict=True):
            raw.send(frame[: 3 * SMALL])
            wire.pump()
        peers[0][1].pump()
        self.assertEqual([0 in raw.answers for raw, _ in peers], [True, False, False, False])
        self.assertIn("Too much comes in", peers[0][0].refusal(0).what)
        self.assertLessEqual(self.factory.arriving.used, LIMIT)
        for (raw, wire), frame in list(zip(peers, frames, strict=True))[1:]:
            raw.send(frame[3 * SMALL :])
            wire.pump()
            self.assertEqual(raw.status(1), Status.OK)
        self.assertEqual(self.factory.arriving.used, 0)

    def test_a_connection_that_is_lost(self) -> None:
        """Its bytes count no more."""
        raw, wire = self.come()
        raw.send(raw.asking(1, "ping", bytes(4 * SMALL))[: 3 * SMALL])
        wire.pump()
        self.assertEqual(self.factory.arriving.used, 3 * SMALL)
        assert raw.transport is not None
        raw.transport.loseConnection()
        wire.pump()
        self.assertEqual(self.factory.arriving.used, 0)
