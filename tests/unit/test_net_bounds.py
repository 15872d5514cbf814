"""What one connection, and one node, takes on: BUSY inwards, back-pressure
outwards, and an end to whoever reads or writes next to nothing."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, succeed

from peerstore import errors
from peerstore.net.limits import Budget, Limits
from peerstore.net.protocol import PeerProtocol
from peerstore.wire import bodies
from peerstore.wire.framing import FRAME_LIMIT, encode_frame, frame_header
from peerstore.wire.messages import Cancel, Status, encode_body
from tests.support.peers import PeerTestCase, RawPeer
from tests.support.transports import CAPACITY, Wire

PONG = encode_body(bodies.Pong(1, "member"))
MIB = 1024 * 1024


def of_size(size: int) -> bytes:
    """A body of about that many bytes."""
    return encode_body(bodies.GetChunks((bytes(size),)))


class BudgetTests(PeerTestCase):
    """Bytes over all connections."""

    def test_the_bounds_of_the_design(self) -> None:
        """32 requests and 8 MiB per connection, 64 MiB per node."""
        limits = Limits()
        self.assertEqual((limits.requests, limits.bytes_per_connection, limits.bytes_per_node), (32, 8 * MIB, 64 * MIB))

    def test_take(self) -> None:
        """Up to the limit, and what was given back can be taken again."""
        budget = Budget(100)
        self.assertTrue(budget.take(60))
        self.assertTrue(budget.take(40))
        self.assertTrue(budget.full)
        self.assertFalse(budget.take(1))
        budget.give_back(40)
        self.assertFalse(budget.full)
        self.assertTrue(budget.take(1))
        self.assertEqual(budget.used, 61)

    def test_one_always_fits(self) -> None:
        """Nothing is too large for ever."""
        budget = Budget(100)
        self.assertTrue(budget.take(500))
        self.assertFalse(budget.take(1))

    def test_what_is_there_anyway_counts(self) -> None:
        """hold does not ask."""
        budget = Budget(100)
        budget.hold(150)
        self.assertFalse(budget.take(1))


class BusyTests(PeerTestCase):
    """More than is taken on is answered at once; reading goes on."""

    def asked(self) -> int:
        """How many requests are in work."""
        return len([work for work in self.dispatcher.waiting if not work.called])

    def test_32_requests(self) -> None:
        """The 33rd is BUSY at once, and told when to come again."""
        protocol, raw, wire = self.connect()
        for number in range(1, 35):
            raw.ask(number)
        wire.pump()
        self.assertEqual(self.asked(), 32)
        self.assertEqual({number: raw.status(number) for number in raw.answers}, {33: Status.BUSY, 34: Status.BUSY})
        self.assertGreater(raw.refusal(33).retry_after, 0)
        self.dispatcher.waiting[0].callback(PONG)
        raw.ask(35)
        wire.pump()
        self.assertEqual(self.asked(), 32)
        self.assertNotIn(35, raw.answers)
        self.assertFalse(protocol.ended)

    def test_8_mib(self) -> None:
        """Bytes of requests in work; what would pass the bound is BUSY."""
        _, raw, wire = self.connect()
        for number in (1, 2, 3):
            raw.ask(number, "get-chunks", of_size(3 * MIB))
            wire.pump()
        self.assertEqual((self.asked(), raw.status(3)), (2, Status.BUSY))
        raw.ask(4, "get-chunks", of_size(MIB))
        wire.pump()
        self.assertEqual(self.asked(), 3)
        self.dispatcher.waiting[0].callback(PONG)
        raw.ask(5, "get-chunks", of_size(3 * MIB))
        wire.pump()
        self.assertEqual(self.asked(), 3)
        self.assertNotIn(5, raw.answers)

    def test_one_large_request_always_fits(self) -> None:
        """Even when the bound is smaller."""
        limits = Limits(bytes_per_connection=1000)
        _, raw, wire = self.connect(limits=limits)
        raw.ask(1, "get-chunks", of_size(5000))
        wire.pump()
        self.assertEqual(self.asked(), 1)

    def test_64_mib_over_all_connections(self) -> None:
        """The node's bound, shared by all; others are BUSY until it shrinks."""
        peers = [self.connect() for _ in range(9)]
        for _, raw, wire in peers:
            raw.ask(1, "get-chunks", of_size(4 * MIB - 1000))
            raw.ask(2, "get-chunks", of_size(4 * MIB - 1000))
            wire.pump()
        self.assertEqual(self.asked(), 16)
        self.assertLessEqual(self.budget.used, 64 * MIB)
        _, last, wire = peers[-1]
        self.assertEqual((last.status(1), last.status(2)), (Status.BUSY, Status.BUSY))
        peers[0][2].cut()
        last.ask(3, "get-chunks", of_size(4 * MIB - 1000))
        wire.pump()
        self.assertEqual(self.asked(), 15)
        self.assertNotIn(3, last.answers)

    def test_everything_is_given_back(self) -> None:
        """Answered, failed, cancelled, lost: the budget is empty again."""
        _, raw, wire = self.connect()
        for number in range(1, 5):
            raw.ask(number, "get-chunks", of_size(1000))
        wire.pump()
        self.assertGreater(self.budget.used, 4000)
        self.dispatcher.waiting[0].callback(PONG)
        self.dispatcher.waiting[1].errback(errors.NotReady("Not yet."))
        raw.say(Cancel(3))
        wire.pump()
        self.assertLess(self.budget.used, 1200)
        wire.cut()
        self.assertEqual(self.budget.used, 0)

    def test_reading_goes_on_while_busy(self) -> None:
        """The answer that others wait for may be next."""
        left, right, wire = self.pair(limits=Limits(requests=1))
        first = left.call("ping", bodies.Ping())
        wire.pump()
        second, ours = left.call("ping", bodies.Ping()), right.call("ping", bodies.Ping())
        wire.pump()
        self.failureResultOf(second, errors.Busy)
        self.dispatcher.waiting[1].callback(PONG)
        wire.pump()
        self.assertEqual(self.successResultOf(ours), bodies.Pong(1, "member"))
        self.assertNoResult(first)
        wire.cut()
        self.failureResultOf(first, errors.ConnectionLost)


class SlowReaderTests(PeerTestCase):
    """Whoever does not read what is written to them."""

    limits = Limits(unsent=100_000, queued=400_000, stalled=60)

    def slow(self, **other: Any) -> tuple[PeerProtocol, RawPeer, Wire]:
        """A connection to a peer that has stopped reading."""
        protocol, raw, wire = self.connect(**other)
        wire.ends[1].deaf = True
        return protocol, raw, wire

    def fill(self, raw: RawPeer, wire: Wire, answers: int = 3, size: int = 90_000) -> None:
        """The peer asks, is answered, and does not read it."""
        self.dispatcher.reply = lambda: succeed(bytes(size))
        for number in range(1, answers + 1):
            raw.ask(number)
        wire.pump()

    def test_memory_is_bounded(self) -> None:
        """Beyond the bound large answers become BUSY, and so do requests."""
        _, raw, wire = self.slow()
        self.fill(raw, wire, 20)
        self.assertLess(len(self.dispatcher.asked), 6)
        held = wire.ends[0].waiting + len(wire.ends[1].inbox) + self.budget.used
        self.assertLess(held, 100_000 + 90_000 + 2 * CAPACITY + 40_000)
        wire.ends[1].deaf = False
        wire.pump()
        statuses = [raw.status(number) for number in range(1, 21)]
        self.assertEqual(len(statuses), 20)
        self.assertEqual(set(statuses), {Status.OK, Status.BUSY})

    def test_answers_of_requests_in_work(self) -> None:
        """Thirty-two questions at once, answered at once: one answer beyond
        the bound is kept, the other large ones become BUSY."""
        _, raw, wire = self.slow()
        for number in range(1, 33):
            raw.ask(number)
        wire.pump()
        for work in self.dispatcher.waiting:
            work.callback(bytes(90_000))
        wire.pump()
        self.assertLess(self.budget.used, 300_000)
        wire.ends[1].deaf = False
        wire.pump()
        self.assertEqual({raw.status(number) for number in range(1, 33)}, {Status.OK, Status.BUSY})

    def test_small_answers_always_go(self) -> None:
        """What a post did is told, however much waits before it."""
        _, raw, wire = self.slow()
        for number in range(1, 6):
            raw.ask(number)
        wire.pump()
        for work in self.dispatcher.waiting[:4]:
            work.callback(bytes(90_000))
        self.dispatcher.waiting[4].callback(PONG)
        wire.ends[1].deaf = False
        wire.pump()
        self.assertEqual(raw.status(5), Status.OK)

    def test_small_frames_overtake(self) -> None:
        """A ping does not wait behind megabytes of somebody's file."""
        _, raw, wire = self.slow()
        for number in range(1, 4):
            raw.ask(number)
        wire.pump()
        self.dispatcher.waiting[0].callback(bytes(300_000))
        wire.turn()
        self.dispatcher.waiting[1].callback(bytes(90_000))
        self.dispatcher.waiting[2].callback(PONG)
        wire.ends[1].deaf = False
        wire.pump()
        self.assertEqual(list(raw.answers), [1, 3, 2])

    def test_other_connections_do_not_notice(self) -> None:
        """One slow reader, and one that reads."""
        _, raw, wire = self.slow()
        self.fill(raw, wire)
        other = self.connect()
        self.assert_intact(*other)

    def test_over_all_connections(self) -> None:
        """What slow readers have not read counts for the whole node."""
        budget = Budget(500_000)
        for _ in range(12):
            _, raw, wire = self.slow(budget=budget)
            self.fill(raw, wire)
        self.assertLess(budget.used, 500_000 + 100_000)

    def test_asking_without_ever_reading(self) -> None:
        """Even refusals are not kept without end: such a peer is cut off."""
        protocol, raw, wire = self.slow()
        self.fill(raw, wire)
        for number in range(100, 3000):
            raw.ask(number)
            wire.pump()
            if protocol.ended:
                break
        self.assertTrue(protocol.ended)
        self.assertIn("takes nothing", self.losses[0][1].what)
        self.assertEqual(self.budget.used, 0)

    def test_stalled(self) -> None:
        """A minute without taking a single piece is the end."""
        protocol, raw, wire = self.slow()
        self.fill(raw, wire)
        self.clock.advance(59)
        wire.pump()
        self.assertFalse(protocol.ended)
        self.clock.advance(1)
        wire.pump()
        self.assertTrue(protocol.ended)
        self.assertEqual((self.budget.used, self.clock.getDelayedCalls()), (0, []))

    def test_slow_is_not_stalled(self) -> None:
        """Whoever takes a piece now and then is waited for."""
        protocol, raw, wire = self.slow()
        self.dispatcher.reply = lambda: succeed(bytes(3 * MIB))
        raw.ask(1)
        wire.pump()
        for _ in range(40):
            self.clock.advance(50)
            for _ in range(6):
                wire.ends[1].deaf = False
                wire.turn()
                wire.ends[1].deaf = True
            wire.pump()
            self.assertFalse(protocol.ended)
        wire.ends[1].deaf = False
        wire.pump()
        self.assertEqual(raw.status(1), Status.OK)

    def test_a_fast_reader_costs_no_timer(self) -> None:
        """Once it has caught up, nothing is watched any more."""
        protocol, raw, wire = self.connect()
        self.fill(raw, wire)
        self.clock.advance(60)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assert_intact(protocol, raw, wire)

    def test_our_own_requests(self) -> None:
        """We ask no more while too much waits, and the caller knows when."""
        protocol, raw, wire = self.slow()
        calls = []
        for _ in range(12):
            calls.append(protocol.call("get-chunks", bodies.GetChunks((bytes(90_000),))))
            wire.pump()
        busy = [call for call in calls if call.called]
        self.assertIn(len(busy), range(4, 9))
        for call in busy:
            self.assertGreater(self.failureResultOf(call, errors.Busy).value.retry_after, 0)
        self.assertFalse(protocol.ended)
        wire.ends[1].deaf = False
        wire.pump()
        self.assertEqual(len(raw.requests), 12 - len(busy))
        wire.cut()
        for call in calls:
            if call not in busy:
                self.failureResultOf(call, errors.ConnectionLost)

    def test_a_cancelled_request_that_still_waits_is_not_sent(self) -> None:
        """Nor is its Cancel: the other end never hears of it."""
        protocol, raw, wire = self.slow()
        first = protocol.call("get-chunks", bodies.GetChunks((bytes(300_000),)))
        second = protocol.call("get-chunks", bodies.GetChunks((bytes(90_000),)))
        wire.pump()
        second.cancel()
        self.failureResultOf(second, CancelledError)
        wire.ends[1].deaf = False
        wire.pump()
        self.assertEqual(len(raw.messages), 1)
        wire.cut()
        self.failureResultOf(first, errors.ConnectionLost)

    def test_a_large_request_on_a_slow_line(self) -> None:
        """Is not late as long as pieces of it go out."""
        protocol, _, wire = self.slow()
        call = protocol.call("get-chunks", bodies.GetChunks((bytes(4 * MIB),)), 5.0)
        wire.pump()
        for _ in range(7):
            for _ in range(8):
                wire.ends[1].deaf = False
                wire.turn()
                wire.ends[1].deaf = True
            wire.pump()
            self.clock.advance(5)
            self.assertNoResult(call)
        self.clock.advance(5)
        self.failureResultOf(call, errors.PeerTimeout)
        self.assertFalse(protocol.ended)

    def test_close_with_a_slow_reader(self) -> None:
        """It gets what was written, if it reads it in time."""
        protocol, raw, wire = self.slow()
        self.fill(raw, wire, 2)
        protocol.close()
        wire.pump()
        self.assertFalse(protocol.ended)
        wire.ends[1].deaf = False
        wire.pump()
        self.assertTrue(protocol.ended)
        self.assertEqual((raw.status(1), raw.status(2)), (Status.OK, Status.OK))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close_when_the_transport_alone_is_full(self) -> None:
        """Also when nothing waits but in the transport, which then resumes
        its producer instead of closing."""
        protocol, raw, wire = self.slow()
        self.dispatcher.reply = lambda: succeed(bytes(2 * CAPACITY + 5000))
        raw.ask(1)
        wire.pump()
        self.assertGreater(wire.ends[0].waiting, 0)
        protocol.close()
        wire.ends[1].deaf = False
        wire.pump()
        self.assertTrue(protocol.ended)
        self.assertIsNotNone(raw.lost)

    def test_close_with_a_reader_that_never_reads(self) -> None:
        """Ten seconds, and the connection is ended without it."""
        protocol, raw, wire = self.slow()
        self.fill(raw, wire)
        protocol.close()
        wire.pump()
        self.clock.advance(10)
        wire.pump()
        self.assertTrue(protocol.ended)
        self.assertEqual((self.budget.used, self.clock.getDelayedCalls()), (0, []))

    def test_rubbish_from_a_reader_that_never_reads(self) -> None:
        """Is ended as well, and nothing more of it is looked at meanwhile."""
        protocol, raw, wire = self.slow()
        self.fill(raw, wire)
        raw.send(encode_frame(b"rubbish"))
        wire.pump()
        asked = len(self.dispatcher.asked)
        raw.ask(99)
        wire.pump()
        self.clock.advance(10)
        wire.pump()
        self.assertTrue(protocol.ended)
        self.assertEqual(len(self.dispatcher.asked), asked)


class SlowWriterTests(PeerTestCase):
    """Whoever begins a frame and does not end it."""

    def test_half_a_frame(self) -> None:
        """Thirty seconds without the rest: told, and ended."""
        protocol, raw, wire = self.connect()
        raw.send(frame_header(1000) + b"half")
        wire.pump()
        self.clock.advance(29)
        wire.pump()
        self.assertFalse(protocol.ended)
        self.clock.advance(1)
        wire.pump()
        self.assertTrue(protocol.ended)
        self.assertEqual(raw.status(0), Status.BAD_REQUEST)
        self.assertIn("does not come in", raw.refusal(0).what)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_half_a_header(self) -> None:
        """Two bytes are a frame that has begun."""
        protocol, raw, wire = self.connect()
        raw.send(b"\0\0")
        wire.pump()
        self.clock.advance(30)
        wire.pump()
        self.assertTrue(protocol.ended)

    def test_dripping(self) -> None:
        """A byte a second is too little for four megabytes."""
        protocol, raw, wire = self.connect()
        raw.send(frame_header(FRAME_LIMIT))
        for _ in range(30):
            raw.send(b"x")
            wire.pump()
            self.clock.advance(1)
        wire.pump()
        self.assertTrue(protocol.ended)

    def test_slow_is_not_dripping(self) -> None:
        """A kilobyte a second comes in whole, however long it takes."""
        protocol, raw, wire = self.connect()
        self.dispatcher.reply = lambda: succeed(PONG)
        frame = raw.asking(1, "get-chunks", of_size(100_000))
        for place in range(0, len(frame), 1100):
            raw.send(frame[place : place + 1100])
            wire.pump()
            self.clock.advance(1)
            wire.pump()
        self.assertEqual(raw.status(1), Status.OK)
        self.assertFalse(protocol.ended)

    def test_small_frames_that_come_in_halves(self) -> None:
        """Each that arrives whole shows that all is well."""
        protocol, raw, wire = self.connect()
        self.dispatcher.reply = lambda: succeed(PONG)
        rest = b""
        for number in range(1, 100):
            frame = raw.asking(number)
            raw.send(rest + frame[:20])
            rest = frame[20:]
            wire.pump()
            self.clock.advance(7)
            wire.pump()
        self.assertFalse(protocol.ended)
        self.assertEqual(len(raw.answers), 98)

    def test_a_quick_writer_costs_one_timer(self) -> None:
        """And none once nothing is under way."""
        protocol, raw, wire = self.connect(chunk=10)
        self.dispatcher.reply = lambda: succeed(PONG)
        for number in range(1, 20):
            raw.ask(number)
        wire.pump()
        self.assertLessEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(30)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assert_intact(protocol, raw, wire)

    def test_what_it_holds(self) -> None:
        """Four megabytes that are only announced count for nothing."""
        protocol, raw, wire = self.connect()
        raw.send(frame_header(FRAME_LIMIT) + b"x" * 100)
        wire.pump()
        self.assertEqual((self.budget.used, protocol.idle), (0, True))
