"""Kept connections: one per peer, dialled once, backed off, let go of."""

from __future__ import annotations

import errno
import random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from peerstore import errors
from peerstore.interfaces import IPeerPool
from peerstore.net.factory import PeerFactory
from peerstore.net.limits import Limits
from peerstore.net.pool import BACKOFF_FIRST, BACKOFF_MOST, LINES, PeerPool
from peerstore.net.protocol import PeerProtocol
from peerstore.util.lamport import LamportClock
from peerstore.wire import bodies
from peerstore.wire.framing import encode_frame
from peerstore.wire.messages import encode_body
from tests.support.peers import RawPeer, Scripted
from tests.support.transports import MemoryNetwork, Wire
from tests.support.wire import a_greeting

HERE, THERE = "tcp:here:1", "tcp:there:1"
PING, PONG = bodies.Ping(), bodies.Pong(1, "member")


class Raw:
    """A listener whose connections are raw peers."""

    def __init__(self) -> None:
        self.made: list[RawPeer] = []

    def buildProtocol(self, addr: Any) -> RawPeer:
        self.made.append(RawPeer())
        return self.made[-1]


class PoolTestCase(SynchronousTestCase):
    """A pool, a network, and a node at HERE."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(500)
        self.network = MemoryNetwork(self.clock)
        self.dispatcher = Scripted()
        self.dispatcher.reply = lambda: succeed(encode_body(PONG))
        self.node = self.listen(HERE)
        self.losses: list[bytes] = []
        self.pool = self.make(random.Random(3))

    def make(self, rng: random.Random, dispatcher: Any = None) -> PeerPool:
        """A pool."""
        pool = PeerPool(
            self.network, self.clock, rng, lambda: a_greeting(b"client", "user"), dispatcher, LamportClock(), Limits()
        )
        pool.watch_losses(self.losses.append)
        return pool

    def listen(self, address: str) -> PeerFactory:
        """One more node, whose key is its address."""
        factory = PeerFactory(
            lambda: a_greeting(address.encode()), self.dispatcher, self.clock, LamportClock(), Limits()
        )
        self.network.listen(address, factory)
        return factory

    def call(self, address: str = HERE, fp: bytes | None = None, timeout: float | None = None) -> Deferred[Any]:
        """Ask, and let everything move."""
        answer = self.pool.call(address, "ping", PING, timeout, fp)
        self.network.pump()
        return answer

    def refused(self, answer: Deferred[Any], kind: type[Exception] = errors.PeerUnreachable) -> Any:
        """The error that a call failed with."""
        return self.failureResultOf(answer, kind).value


class KeptTests(PoolTestCase):
    """One connection per address."""

    def test_it_is_a_pool(self) -> None:
        """In every word of the interface."""
        verifyObject(IPeerPool, self.pool)

    def test_dialled_when_first_needed(self) -> None:
        """Not before, and kept for the next call."""
        self.assertEqual(self.network.dials, [])
        for _ in range(3):
            self.assertEqual(self.successResultOf(self.call()), PONG)
        self.assertEqual(self.network.dials, [HERE])

    def test_many_calls_share_one_dial(self) -> None:
        """Those that come while it is under way wait for the same."""
        self.network.silent.add(HERE)
        answers = [self.call() for _ in range(50)]
        self.assertEqual(self.network.dialling, [HERE])
        self.network.silent.clear()
        self.network.pump()
        self.assertEqual([self.successResultOf(answer) for answer in answers], [PONG] * 50)
        self.assertEqual((self.network.dials, len(self.node.connections)), ([HERE], 1))

    def test_many_calls_share_one_failure(self) -> None:
        """And none of them dials again."""
        answers = [self.pool.call(THERE, "ping", PING) for _ in range(20)]
        self.network.pump()
        for answer in answers:
            self.assertIn(THERE, self.refused(answer).what)
        self.assertEqual(self.network.dials, [THERE])

    def test_one_connection_for_each_address(self) -> None:
        """Peers do not get in each other's way."""
        self.listen(THERE)
        peers = [self.pool.peer(HERE), self.pool.peer(THERE)]
        self.network.pump()
        fps = [self.successResultOf(peer).fp for peer in peers]
        self.assertEqual(fps, [a_greeting(HERE.encode()).fp, a_greeting(THERE.encode()).fp])

    def test_a_caller_that_gives_up(self) -> None:
        """Cancelling one call leaves the others and the dial as they are."""
        self.network.silent.add(HERE)
        first, second = self.call(), self.call()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.network.silent.clear()
        self.network.pump()
        self.assertEqual(self.successResultOf(second), PONG)
        self.assertEqual(self.successResultOf(self.call()), PONG)
        self.assertEqual(self.network.dials, [HERE])

    def test_the_other_end_may_ask(self) -> None:
        """A pool with a dispatcher answers over the connections it dialled."""
        raw = Raw()
        self.network.listen(THERE, raw)
        pool = self.make(random.Random(1), self.dispatcher)
        pool.peer(THERE)
        self.network.pump()
        raw.made[0].greet()
        raw.made[0].ask(1)
        self.network.pump()
        self.assertEqual(len(self.dispatcher.asked), 1)
        self.assertIn(1, raw.made[0].answers)

    def test_addresses_that_are_made_up(self) -> None:
        """Are not remembered without end; what is in use is."""
        self.call()
        for number in range(3 * LINES):
            self.refused(self.call(f"tcp:nowhere:{number}"))
            self.clock.advance(0.05)
        self.assertLessEqual(self.pool.remembered, LINES)
        self.assertEqual(self.successResultOf(self.call()), PONG)
        self.assertEqual(self.network.dials.count(HERE), 1)


class WrongKeyTests(PoolTestCase):
    """The host that was meant, or none."""

    def test_the_right_key(self) -> None:
        """Answers."""
        self.assertEqual(self.successResultOf(self.call(fp=a_greeting(HERE.encode()).fp)), PONG)

    def test_another_key(self) -> None:
        """Is named, and nothing is asked of it, at first and later."""
        for _ in range(2):
            self.pool.forget_backoff(HERE)
            error = self.refused(self.call(fp=b"\xab" * 32), errors.PeerMismatch)
            self.assertIn("abababab", error.what)
            self.assertIn(HERE, error.what)
        self.assertEqual(self.dispatcher.asked, [])

    def test_others_may_still_use_it(self) -> None:
        """It is no failure of the address."""
        self.refused(self.call(fp=b"\xab" * 32), errors.PeerMismatch)
        self.assertEqual(self.successResultOf(self.call()), PONG)
        self.assertEqual(self.successResultOf(self.call(fp=a_greeting(HERE.encode()).fp)), PONG)
        self.assertEqual(self.network.dials, [HERE, HERE])

    def test_it_may_come_back(self) -> None:
        """Whoever holds the place of another now may be followed by the one
        that is looked for: it is dialled again, after a while."""
        self.refused(self.call(fp=b"\xab" * 32), errors.PeerMismatch)
        self.refused(self.call(fp=b"\xab" * 32))
        self.assertEqual(self.network.dials, [HERE])
        self.clock.advance(1)
        self.refused(self.call(fp=b"\xab" * 32), errors.PeerMismatch)
        self.assertEqual(self.network.dials, [HERE, HERE])

    def test_a_machine_that_was_set_up_anew(self) -> None:
        """It lost its power and its disk, so the connection to the node that
        was there before still seems to stand: it is not in the way of the new
        one, and ends as the loss that it is."""
        before, now = a_greeting(HERE.encode()).fp, a_greeting(b"set up anew").fp
        self.successResultOf(self.call(fp=before))
        dispatcher, clock = self.dispatcher, self.clock
        anew = PeerFactory(lambda: a_greeting(b"set up anew"), dispatcher, clock, LamportClock(), Limits())
        self.network.listen(HERE, anew)
        self.assertEqual(self.successResultOf(self.call(fp=now)), PONG)
        self.assertEqual((self.losses, len(anew.connections)), ([before], 1))
        self.refused(self.call(fp=before), errors.PeerMismatch)
        self.assertEqual(self.successResultOf(self.call(fp=now)), PONG)
        self.assertEqual(self.losses, [before])

    def test_one_connection_in_the_end(self) -> None:
        """Those who ask for whoever is there, and for a key, may dial at the
        same time; they share what comes of it."""
        key = a_greeting(HERE.encode()).fp
        answers = [self.pool.call(HERE, "ping", PING, None, fp) for fp in (None, key)]
        self.network.pump()
        self.assertEqual([self.successResultOf(answer) for answer in answers], [PONG, PONG])
        self.network.pump()
        self.assertEqual((len(self.node.connections), self.losses), (1, []))

    def test_each_waits_for_its_own(self) -> None:
        """Each call is judged by its own key."""
        right, wrong = (self.pool.call(HERE, "ping", PING, None, fp) for fp in (None, b"\xab" * 32))
        self.network.pump()
        self.assertEqual(self.successResultOf(right), PONG)
        self.refused(wrong, errors.PeerMismatch)


class BackOffTests(PoolTestCase):
    """A peer that does not answer is left alone for a while."""

    def test_calls_in_between_fail_at_once(self) -> None:
        """Without a dial, saying why and when it is dialled again."""
        self.refused(self.call(THERE))
        error = self.refused(self.pool.call(THERE, "ping", PING))
        self.assertEqual(self.network.dials, [THERE])
        self.assertIn("refused", error.what)
        self.assertIn("dialled again in", error.next_step)

    def test_doubling_up_to_a_bound(self) -> None:
        """Each pause is between half and all of 0.25, 0.5, 1 ... 30 s."""
        expected = BACKOFF_FIRST
        for failures in range(1, 12):
            self.refused(self.call(THERE))
            self.clock.advance(expected * 0.49)
            self.refused(self.call(THERE))
            self.assertEqual(len(self.network.dials), failures)
            self.clock.advance(expected * 0.52)
            expected = min(BACKOFF_MOST, 2 * expected)
        self.assertEqual(expected, 30.0)

    def test_it_stays_at_the_bound(self) -> None:
        """After a thousand failures it is still dialled every 30 s."""
        for failures in range(1, 1000):
            self.refused(self.call(THERE))
            self.assertEqual(len(self.network.dials), failures)
            self.clock.advance(BACKOFF_MOST)

    def test_jitter(self) -> None:
        """Pauses differ from node to node, as its randomness says."""
        pauses = set()
        for seed in range(20):
            self.pool = self.make(random.Random(seed))
            for _ in range(8):
                self.refused(self.call(THERE))
                self.clock.advance(30)
            self.refused(self.call(THERE))
            pauses.add(self.refused(self.call(THERE)).next_step)
        self.assertGreater(len(pauses), 10)

    def test_forget_backoff(self) -> None:
        """Somebody was heard of there: the next call dials at once, once."""
        for _ in range(8):
            self.refused(self.call(THERE))
            self.clock.advance(30)
        self.refused(self.call(THERE))
        dials = len(self.network.dials)
        self.listen(THERE)
        self.refused(self.call(THERE))
        self.pool.forget_backoff(THERE)
        self.assertEqual(self.successResultOf(self.call(THERE)), PONG)
        self.assertEqual(len(self.network.dials), dials + 1)

    def test_forgetting_what_was_never_known(self) -> None:
        """Does nothing."""
        self.pool.forget_backoff("tcp:new:1")
        self.pool.drop("tcp:new:1")
        self.assertEqual(self.network.dials, [])

    def test_success_forgets_failures(self) -> None:
        """After a connection the next failure is the first again."""
        for _ in range(6):
            self.refused(self.call(THERE))
            self.clock.advance(30)
        self.listen(THERE)
        self.successResultOf(self.call(THERE))
        self.network.unlisten(THERE)
        self.network.wires[-1].cut()
        self.refused(self.call(THERE))
        self.clock.advance(BACKOFF_FIRST)
        dials = len(self.network.dials)
        self.refused(self.call(THERE))
        self.assertEqual(len(self.network.dials), dials + 1)

    def test_a_lost_connection_is_no_failure(self) -> None:
        """The next call dials at once."""
        self.call()
        self.network.wires[0].cut()
        self.assertEqual(self.successResultOf(self.call()), PONG)
        self.assertEqual(self.network.dials, [HERE, HERE])

    def test_other_addresses_are_not_kept_waiting(self) -> None:
        """Each has its own."""
        self.refused(self.call(THERE))
        self.assertEqual(self.successResultOf(self.call()), PONG)


class FailingDialTests(PoolTestCase):
    """Dials that come to nothing, each with its words."""

    def test_nobody_listens(self) -> None:
        """The system's reason, in one line, and what to check."""
        error = self.refused(self.call(THERE))
        self.assertEqual(
            error.what, f"Nobody answers at {THERE} (An error occurred while connecting: Connection was refused)."
        )
        self.assertIn("Check the address", error.next_step)

    def test_the_systems_own_words(self) -> None:
        """They are said once, without the number."""

        def connect(address: str, factory: Any) -> Deferred[Any]:
            return fail(Refused(errno.ECONNREFUSED, "Connection refused"))

        self.patch(self.network, "connect", connect)
        error = self.refused(self.call(THERE))
        self.assertEqual(error.what, f"Nobody answers at {THERE} (connection refused).")

    def test_no_answer_to_a_dial(self) -> None:
        """Ten seconds; the dial is given up, not left behind."""
        self.network.silent.add(HERE)
        answer = self.call()
        self.network.advance(9.5)
        self.assertNoResult(answer)
        self.network.advance(0.5)
        self.assertEqual(self.refused(answer).what, f"Nobody answers at {HERE} (not within 10 s).")
        self.assertEqual(self.network.dialling, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_network_that_connects_too_late(self) -> None:
        """Even if the dial cannot be given up, the connection is not kept."""
        late: list[Any] = []

        def connect(address: str, factory: Any) -> Deferred[Any]:
            late.append(factory.buildProtocol(None))
            return Deferred(lambda done: None)

        self.patch(self.network, "connect", connect)
        answer = self.call()
        self.clock.advance(10)
        self.refused(answer)
        raw = RawPeer()
        self.network.wires.append(Wire(late[0], raw))
        self.network.pump()
        self.assertIsNotNone(raw.lost)
        self.assertEqual(raw.payloads, [])

    def test_no_greeting(self) -> None:
        """Somebody listens, and is no peer of ours: says so."""
        self.network.listen(THERE, Raw())
        answer = self.call(THERE)
        self.network.advance(10)
        self.assertIn("did not greet us", self.refused(answer).what)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_another_protocol(self) -> None:
        """An answer that is no greeting."""
        raw = Raw()
        self.network.listen(THERE, raw)
        answer = self.call(THERE)
        raw.made[0].send(encode_frame(b"220 mail.example ESMTP"))
        self.network.pump()
        self.assertIn("greeting is none", self.refused(answer, errors.BadMessage).what)
        self.assertIn("greeting is none", self.refused(self.call(THERE)).what)

    def test_a_peer_that_takes_no_more(self) -> None:
        """A connection that ends before the greeting."""
        full = PeerFactory(a_greeting, self.dispatcher, self.clock, LamportClock(), Limits(), connections=0)
        self.network.listen(THERE, full)
        answer = self.call(THERE)
        self.assertIn(THERE, self.refused(answer, errors.ConnectionLost).what)
        self.refused(self.call(THERE))
        self.assertEqual(self.network.dials, [THERE])

    def test_an_address_that_cannot_be_read(self) -> None:
        """Whatever the network raises or fails with, callers get a PeerError."""

        def raises(address: str, factory: Any) -> None:
            raise KeyError("secret\nsecond line")

        for connect in (raises, lambda address, factory: fail(errors.UsageError("'x' is no address of a node."))):
            self.patch(self.network, "connect", connect)
            self.pool = self.make(random.Random(1))
            error = self.refused(self.pool.call("x", "ping", PING))
            self.assertIsInstance(error, errors.PeerError)
            self.assertNotIn("\n", error.what)


class LossTests(PoolTestCase):
    """Connections that end."""

    def connected(self, address: str = HERE) -> PeerProtocol:
        """The connection to a peer."""
        peer = self.pool.peer(address)
        self.network.pump()
        protocol = self.successResultOf(peer)
        assert isinstance(protocol, PeerProtocol)
        return protocol

    def test_losses_are_told(self) -> None:
        """Once, to everybody, with the fingerprint."""
        more: list[bytes] = []
        self.pool.watch_losses(more.append)
        fp = self.connected().fp
        self.network.wires[0].cut()
        self.assertEqual((self.losses, more), ([fp], [fp]))

    def test_calls_in_flight_fail_at_once(self) -> None:
        """And the peer is dialled anew by the next."""
        self.dispatcher.reply = None
        answers = [self.call() for _ in range(3)]
        self.network.wires[0].cut()
        for answer in answers:
            self.refused(answer, errors.ConnectionLost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_violation_is_a_loss(self) -> None:
        """Also when it was we who ended it; and a call meanwhile dials anew."""
        self.connected()
        server = next(iter(self.node.connections.values()))
        assert server.transport is not None
        server.transport.write(encode_frame(b"rubbish"))
        while not self.losses:
            self.network.turn()
            if not self.network.wires[0].ends[0].connected or self.losses:
                break
        self.assertEqual(self.successResultOf(self.call()), PONG)
        self.assertEqual(len(self.losses), 1)
        self.assertEqual(self.network.dials, [HERE, HERE])

    def test_no_call_is_given_to_a_connection_that_closes(self) -> None:
        """It could not be answered: a new connection is dialled for it."""
        protocol = self.connected()
        protocol.close(errors.ProtocolViolation("rubbish"))
        self.assertEqual(self.successResultOf(self.call()), PONG)
        self.assertEqual(self.losses, [protocol.fp])
        self.assertEqual(self.network.dials, [HERE, HERE])

    def test_failed_dials_are_no_losses(self) -> None:
        """Nothing was there to lose."""
        self.refused(self.call(THERE))
        self.assertEqual(self.losses, [])

    def test_drop(self) -> None:
        """Closed, told to nobody; the next call dials anew and greets anew."""
        self.connected()
        self.pool.drop(HERE)
        self.network.pump()
        self.assertEqual((self.losses, len(self.node.connections)), ([], 0))
        self.assertEqual(self.successResultOf(self.call()), PONG)
        self.assertEqual(self.network.dials, [HERE, HERE])

    def test_drop_and_call_at_once(self) -> None:
        """The old connection's end is nothing to the new one: no back-off,
        and whoever waits for the new one gets it."""
        self.connected()
        self.pool.drop(HERE)
        answer = self.pool.call(HERE, "ping", PING)
        self.network.pump()
        self.assertEqual(self.successResultOf(answer), PONG)
        self.assertEqual(self.successResultOf(self.call()), PONG)
        self.assertEqual((self.losses, self.network.dials), ([], [HERE, HERE]))

    def test_drop_fails_calls_in_flight(self) -> None:
        """They are told that it was on purpose."""
        self.dispatcher.reply = None
        answer = self.call()
        self.pool.drop(HERE)
        self.network.pump()
        self.assertIn("on our side", self.refused(answer, errors.ConnectionLost).what)

    def test_drop_twice(self) -> None:
        """The second finds nothing."""
        self.connected()
        self.pool.drop(HERE)
        self.pool.drop(HERE)
        self.network.pump()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_idle_connections_are_closed(self) -> None:
        """After five minutes without a byte; that is no loss."""
        self.connected()
        self.network.advance(299, 1)
        self.assertEqual(len(self.node.connections), 1)
        self.network.advance(2, 1)
        self.assertEqual((len(self.node.connections), self.losses), (0, []))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.successResultOf(self.call()), PONG)

    def test_use_keeps_a_connection(self) -> None:
        """Each call starts the five minutes again."""
        for _ in range(10):
            self.successResultOf(self.call())
            self.network.advance(200, 5)
        self.assertEqual(self.network.dials, [HERE])

    def test_a_call_in_flight_keeps_a_connection(self) -> None:
        """However long its answer takes."""
        self.dispatcher.reply = None
        answer = self.call(timeout=5000)
        self.network.advance(2000, 10)
        self.dispatcher.waiting[0].callback(encode_body(PONG))
        self.network.pump()
        self.assertEqual(self.successResultOf(answer), PONG)

    def test_idle_close_and_call_at_once(self) -> None:
        """A call that comes while the idle connection closes gets a new one."""
        self.connected()
        self.network.pump()
        self.clock.advance(300)
        answer = self.pool.call(HERE, "ping", PING)
        self.network.pump()
        self.assertEqual(self.successResultOf(answer), PONG)
        self.assertEqual((self.losses, self.network.dials), ([], [HERE, HERE]))


class StopTests(PoolTestCase):
    """The end of the pool."""

    def test_everything_ends(self) -> None:
        """Connections and calls; it fires when the last has ended."""
        self.listen(THERE)
        self.dispatcher.reply = None
        answers = [self.call(HERE), self.call(THERE)]
        stopped = self.pool.stop()
        self.assertNoResult(stopped)
        self.network.pump()
        self.successResultOf(stopped)
        for answer in answers:
            self.assertIn("stopping", self.refused(answer, errors.ConnectionLost).what)
        self.assertEqual((self.losses, self.clock.getDelayedCalls()), ([], []))

    def test_nothing_to_end(self) -> None:
        """Fires at once; twice is once."""
        self.successResultOf(self.pool.stop())
        self.successResultOf(self.pool.stop())

    def test_calls_afterwards(self) -> None:
        """Fail, and dial nobody."""
        self.pool.stop()
        self.assertIn("stopping", self.refused(self.call()).what)
        self.assertEqual(self.network.dials, [])

    def test_while_dialling(self) -> None:
        """Whoever waits is told, and the dial is given up."""
        self.network.silent.add(HERE)
        answer = self.call()
        self.successResultOf(self.pool.stop())
        self.assertIn("stopping", self.refused(answer).what)
        self.assertEqual(self.network.dialling, [])
        self.network.silent.clear()
        self.network.pump()
        self.assertEqual((len(self.node.connections), self.clock.getDelayedCalls()), (0, []))

    def test_while_greeting(self) -> None:
        """A connection that was made, and not greeted yet, ends as well."""
        raw = Raw()
        self.network.listen(THERE, raw)
        answer = self.call(THERE)
        stopped = self.pool.stop()
        self.refused(answer)
        self.network.pump()
        self.successResultOf(stopped)
        self.assertIsNotNone(raw.made[0].lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_while_closing(self) -> None:
        """A connection that was dropped just before is waited for."""
        self.call()
        self.pool.drop(HERE)
        stopped = self.pool.stop()
        self.assertNoResult(stopped)
        self.network.pump()
        self.successResultOf(stopped)

    def test_all_who_stop_it_are_told(self) -> None:
        """Both wait for the same end."""
        self.call()
        stopped = [self.pool.stop(), self.pool.stop()]
        self.network.pump()
        for each in stopped:
            self.successResultOf(each)
