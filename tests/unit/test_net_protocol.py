"""One connection: greetings, questions both ways, refusals, endings."""

from __future__ import annotations

import random
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.logger import LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from peerstore import errors
from peerstore.interfaces import IRemotePeer
from peerstore.util.lamport import LAST, LamportClock
from peerstore.wire import bodies
from peerstore.wire.framing import FRAME_LIMIT, GREETING_LIMIT, encode_frame, frame_header
from peerstore.wire.messages import Cancel, Response, Status, encode_body, encode_message
from tests.support.log_lines import LogLines
from tests.support.peers import PeerTestCase, RawPeer, a_frame
from tests.support.transports import Wire
from tests.support.wire import a_greeting, frame_of, greeting_frame

PONG = bodies.Pong(1, "member")


class GreetingTests(PeerTestCase):
    """The first frame of each end."""

    def test_both_greet_at_once(self) -> None:
        """Neither waits for the other."""
        protocol, raw, _ = self.connect(greet=False)
        self.assertEqual(raw.greeting, a_greeting(b"ours"))
        self.assertEqual((self.ready, protocol.fp), ([], b""))

    def test_ready_once_greeted(self) -> None:
        """Whoever keeps the connection is told, once, and knows whom it meets."""
        protocol, raw, wire = self.connect()
        self.assertEqual(self.ready, [protocol])
        self.assertEqual((protocol.greeting, protocol.fp), (raw.own, raw.own.fp))
        self.assert_intact(protocol, raw, wire)
        self.assertEqual(self.ready, [protocol])

    def test_it_is_a_remote_peer(self) -> None:
        """In every word of the interface."""
        verifyObject(IRemotePeer, self.connect()[0])

    def test_in_any_chunking(self) -> None:
        """Byte by byte, or at random, greetings and questions arrive the same."""
        rng = random.Random(5)
        for chunk in (1, 3, lambda: rng.randint(1, 40)):
            protocol, raw, wire = self.connect(chunk=chunk)  # type: ignore[arg-type]
            self.assert_intact(protocol, raw, wire)

    def test_everything_in_one_chunk(self) -> None:
        """A question right behind the greeting is judged after it."""
        _protocol, raw, wire = self.connect(greet=False)
        self.dispatcher.reply = lambda: succeed(encode_body(PONG))
        large = encode_body(bodies.GetChunks((b"h" * GREETING_LIMIT,)))
        raw.greet()
        raw.ask(1, "get-chunks", large)
        wire.pump()
        self.assertEqual(raw.status(1), Status.OK)

    def test_greeting_timeout(self) -> None:
        """Ten seconds, in all, from the start, however many bytes drip in."""
        protocol, raw, wire = self.connect(greet=False)
        for byte in greeting_frame(raw.own)[:9]:
            raw.send(bytes([byte]))
            wire.pump()
            self.clock.advance(1)
        self.assertFalse(protocol.ended)
        self.clock.advance(1)
        wire.pump()
        self.assertTrue(protocol.ended)
        self.assertIsInstance(self.losses[0][1], errors.PeerTimeout)
        self.assertIn("did not greet", self.losses[0][1].what)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_timer_after_the_greeting(self) -> None:
        """A greeted connection may be silent."""
        protocol, raw, wire = self.connect()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(10_000)
        self.assert_intact(protocol, raw, wire)

    def test_rubbish_instead(self) -> None:
        """The connection is closed; nobody was ready, no handler ran."""
        for rubbish in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(8), a_frame(50), encode_frame(b""), b"\xff" * 5):
            self.ready.clear()
            protocol, raw, wire = self.connect(greet=False)
            raw.send(rubbish)
            wire.pump()
            self.assertTrue(protocol.ended, rubbish)
            self.assertIsNotNone(raw.lost)
            self.assertIsInstance(self.losses.pop()[1], errors.ProtocolViolation)
            self.assertEqual((self.ready, self.dispatcher.asked), ([], []))
            self.assertEqual(len(raw.payloads), 1, "it got more than our greeting")

    def test_oversize_greeting(self) -> None:
        """A first frame over 8 KiB is refused on its length alone."""
        protocol, raw, wire = self.connect(greet=False)
        raw.send(frame_header(GREETING_LIMIT + 1))
        wire.pump()
        self.assertTrue(protocol.ended)
        self.assertIsInstance(self.losses[0][1], errors.FrameTooLarge)

    def test_a_request_before_the_greeting(self) -> None:
        """Is no greeting; no handler sees it."""
        protocol, raw, wire = self.connect(greet=False)
        raw.ask(1)
        raw.greet()
        wire.pump()
        self.assertTrue(protocol.ended)
        self.assertEqual((self.ready, self.dispatcher.asked, raw.answers), ([], [], {}))

    def test_another_version(self) -> None:
        """Says which end should be updated."""
        protocol, raw, wire = self.connect(greet=False)
        raw.send(greeting_frame(msgspec.structs.replace(raw.own, versions=(2,))))
        wire.pump()
        self.assertTrue(protocol.ended)
        self.assertIn("version", self.losses[0][1].what)

    def test_a_second_greeting(self) -> None:
        """Ends the connection, with a word of why."""
        protocol, raw, wire = self.connect()
        raw.greet()
        wire.pump()
        self.assertTrue(protocol.ended)
        self.assertEqual(raw.status(0), Status.BAD_REQUEST)


class AnsweringTests(PeerTestCase):
    """What the other end asks."""

    def test_a_question_and_its_answer(self) -> None:
        """The dispatcher gets caller, method and packed body."""
        protocol, raw, wire = self.connect()
        raw.ask(7, "ping")
        wire.pump()
        self.assertEqual(self.dispatcher.asked, [(raw.own, "ping", encode_body(bodies.Ping()))])
        self.assertFalse(protocol.idle)
        self.dispatcher.waiting[0].callback(encode_body(PONG))
        wire.pump()
        self.assertEqual(raw.status(7), Status.OK)
        self.assertEqual(raw.answers[7][0].body, encode_body(PONG))
        self.assertTrue(protocol.idle)

    def test_out_of_order(self) -> None:
        """Each answer goes when it is there."""
        _, raw, wire = self.connect()
        for number in (1, 2, 3):
            raw.ask(number)
        wire.pump()
        for place in (2, 0, 1):
            self.dispatcher.waiting[place].callback(b"%d" % place)
        wire.pump()
        self.assertEqual(list(raw.answers), [3, 1, 2])
        self.assertEqual(raw.answers[2][0].body, b"1")

    def test_errors_are_told(self) -> None:
        """As a status, in the error's own words."""
        protocol, raw, wire = self.connect()
        self.dispatcher.reply = lambda: fail(errors.NotReady("Not a member yet.", "Ask another."))
        raw.ask(1)
        wire.pump()
        self.assertEqual(raw.status(1), Status.NOT_READY)
        self.assertEqual(raw.refusal(1), bodies.Refusal("Not a member yet.", "Ask another.", 0.0))
        self.assert_intact(protocol, raw, wire)

    def test_faults_are_logged_and_internal(self) -> None:
        """Also when dispatch itself raises: no traceback and no text leaves."""

        def raises() -> None:
            raise ZeroDivisionError("secret of the handler")

        for reply in (raises, lambda: fail(ZeroDivisionError("secret of the handler"))):
            protocol, raw, wire = self.connect()
            self.dispatcher.reply = reply
            raw.ask(1)
            wire.pump()
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
            self.assertEqual(raw.status(1), Status.INTERNAL)
            for payload in raw.payloads:
                for word in (b"secret", b"Traceback", b"ZeroDivision", b".py"):
                    self.assertNotIn(word, payload)
            self.assert_intact(protocol, raw, wire)

    def test_errors_whose_words_stay_here_are_logged(self) -> None:
        """The asker is told that the log says why, so it does."""
        _protocol, raw, wire = self.connect()
        self.dispatcher.reply = lambda: fail(errors.Conflict("Another writer was first."))
        raw.ask(1)
        wire.pump()
        self.assertEqual(raw.status(1), Status.INTERNAL)
        self.assertEqual(len(self.flushLoggedErrors(errors.Conflict)), 1)

    def test_a_disk_that_fails_is_told_once(self) -> None:
        """And not with each request that it fails; another trouble is told, too."""
        lines = LogLines(self)
        _protocol, raw, wire = self.connect()
        for number, error in enumerate([errors.DiskFull("No room.")] * 3 + [errors.CorruptData("It rots.")], 1):
            self.dispatcher.reply = lambda error=error: fail(error)
            raw.ask(number)
            wire.pump()
            self.assertEqual(raw.status(number), Status.UNAVAILABLE)
        self.assertEqual((len(lines.having("No room.")), len(lines.having("It rots."))), (1, 1))

    def test_a_handler_that_was_cancelled_by_us(self) -> None:
        """Whoever asked did not, so they are told, and need not wait."""
        _protocol, raw, wire = self.connect()
        self.dispatcher.reply = lambda: fail(CancelledError())
        raw.ask(1)
        wire.pump()
        self.assertEqual(raw.status(1), Status.INTERNAL)
        self.assertEqual(len(self.flushLoggedErrors(CancelledError)), 1)

    def test_an_answer_that_fits_no_frame(self) -> None:
        """Is refused here, instead of ending the connection there."""
        protocol, raw, wire = self.connect()
        self.dispatcher.reply = lambda: succeed(bytes(FRAME_LIMIT))
        raw.ask(1)
        wire.pump()
        self.assertEqual(raw.status(1), Status.TOO_LARGE)
        self.assert_intact(protocol, raw, wire)

    def test_no_dispatcher(self) -> None:
        """A client answers nothing, and says so."""
        protocol, raw, wire = self.connect(dispatcher=None)
        raw.ask(1)
        wire.pump()
        self.assertEqual(raw.status(1), Status.BAD_REQUEST)
        self.assertIn("answers no requests", raw.refusal(1).what)
        self.assertFalse(protocol.ended)

    def test_cancel(self) -> None:
        """The work is cancelled and not answered; the connection lives on."""
        protocol, raw, wire = self.connect()
        raw.ask(1)
        raw.ask(2)
        wire.pump()
        raw.say(Cancel(1))
        wire.pump()
        self.assertEqual(self.dispatcher.cancelled, 1)
        self.dispatcher.waiting[1].callback(b"")
        wire.pump()
        self.assertEqual(list(raw.answers), [2])
        self.assertTrue(protocol.idle)
        self.assert_intact(protocol, raw, wire)

    def test_cancel_of_nothing(self) -> None:
        """Too late, doubled, never asked: no harm."""
        protocol, raw, wire = self.connect()
        for number in (0, 1, 99, LAST):
            raw.say(Cancel(number))
        self.assert_intact(protocol, raw, wire, 1)
        raw.say(Cancel(1))
        self.assert_intact(protocol, raw, wire, 2)

    def test_an_id_may_be_used_again(self) -> None:
        """Once answered, and only then."""
        protocol, raw, wire = self.connect()
        raw.ask(1)
        wire.pump()
        self.dispatcher.waiting[0].callback(b"first")
        wire.pump()
        raw.ask(1)
        wire.pump()
        self.dispatcher.waiting[1].callback(b"second")
        wire.pump()
        self.assertEqual([answer.body for answer in raw.answers[1]], [b"first", b"second"])
        self.assertFalse(protocol.ended)

    def test_clocks(self) -> None:
        """A node answers with max(its own, the message's) + 1, or more."""
        _, raw, wire = self.connect()
        self.dispatcher.reply = lambda: succeed(b"")
        raw.ask(1, clock=5000)
        raw.ask(2, clock=10)
        wire.pump()
        self.assertGreater(raw.answers[1][0].clock, 5000)
        self.assertGreater(raw.answers[2][0].clock, raw.answers[1][0].clock)

    def test_a_clock_at_its_end(self) -> None:
        """A stranger's absurd clock does not use ours up: our next messages
        are still ones that every peer takes."""
        _protocol, raw, wire = self.connect()
        self.dispatcher.reply = lambda: succeed(b"")
        for number in range(1, 4):
            raw.ask(number, clock=LAST)
        raw.say(Response(77, 0, LAST, b""))
        wire.pump()
        self.assertLess(raw.answers[3][0].clock, 1000)

    def test_a_clock_that_stands_still(self) -> None:
        """If ever one reached the end, it stays there and is sound."""
        clock = LamportClock(LAST - 1)
        self.assertEqual([clock.tick(), clock.tick(), clock.witness(5), clock.witness(LAST)], [LAST] * 4)


class RefusalTests(PeerTestCase):
    """What no peer may send: told, and ended; nobody else notices."""

    def ended(self, *frames: bytes, status: Status = Status.BAD_REQUEST) -> str:
        """These frames end the connection; the words of the refusal."""
        other, other_raw, other_wire = self.connect()
        protocol, raw, wire = self.connect()
        self.losses.clear()
        for frame in frames:
            raw.send(frame)
        raw.ask(99)
        asked = len(self.dispatcher.asked)
        wire.pump()
        self.assertTrue(protocol.ended)
        self.assertEqual(len(self.dispatcher.asked), asked, "a request behind the violation was worked on")
        self.assertEqual(raw.status(0), status)
        self.assertIsInstance(self.losses[0][1], errors.ProtocolViolation)
        self.assertIsNotNone(raw.lost)
        self.assert_intact(other, other_raw, other_wire)
        other_wire.cut()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return raw.refusal(0).what

    def test_oversize(self) -> None:
        """Refused on the four length bytes."""
        self.assertIn(str(FRAME_LIMIT + 1), self.ended(frame_header(FRAME_LIMIT + 1), status=Status.TOO_LARGE))
        self.ended(frame_header((1 << 32) - 1) + b"x" * 1000, status=Status.TOO_LARGE)

    def test_frames_that_are_no_messages(self) -> None:
        """Rubbish, nothing, brackets."""
        for payload in (b"", b"\xc1" * 100, b"\x91" * 100_000, b"hello", bytes(1000), b"\x97\x01\x01\xa2\xff\xfe"):
            self.ended(encode_frame(payload))

    def test_a_message_and_a_half(self) -> None:
        """Bytes behind a message within its frame."""
        self.ended(encode_frame(encode_message(Cancel(1)) + b"\0"))

    def test_another_sender(self) -> None:
        """A request names whom the greeting named."""
        self.assertIn("sender", self.ended(RawPeer().asking(1, sender=b"S" * 20)))

    def test_an_id_in_use(self) -> None:
        """Two questions under one id: their answers could not be told apart."""
        protocol, raw, wire = self.connect()
        raw.ask(5)
        raw.ask(5)
        wire.pump()
        self.assertTrue(protocol.ended)
        self.assertEqual(self.dispatcher.cancelled, 1)
        self.assertEqual(raw.status(0), Status.BAD_REQUEST)

    def test_id_0(self) -> None:
        """Is kept for the end of the connection."""
        self.assertIn("id", self.ended(RawPeer().asking(0)))

    def test_numbers_out_of_range(self) -> None:
        """Of a message's own fields."""
        for fields in ((3, -1), (3, 1 << 63), (2, 1, 99, 1, b""), (1, 1, "ping", b"", 1, 1, b"")):
            self.ended(encode_frame(msgspec.msgpack.encode(fields)))

    def test_wrong_bodies_cost_only_their_request(self) -> None:
        """The frame was whole: the dispatcher answers, the connection lives."""
        protocol, raw, wire = self.connect()
        self.dispatcher.reply = lambda: fail(errors.BadMessage("There is no method 'x' here."))
        raw.ask(1, "x", b"\xc1\xc1")
        wire.pump()
        self.assertEqual(raw.status(1), Status.BAD_REQUEST)
        self.assert_intact(protocol, raw, wire)

    def test_answers_that_nobody_waits_for(self) -> None:
        """Are dropped, without a word."""
        protocol, raw, wire = self.connect()
        for number in (1, 2, LAST):
            raw.say(Response(number, 0, 1, b""))
        self.assert_intact(protocol, raw, wire)
        self.assertEqual(len(raw.messages), 1)

    def test_no_refusal_of_a_refusal(self) -> None:
        """Two ends never go on telling each other that they are ending."""
        left, right, wire = self.pair()
        left.transport.write(a_frame(10))  # type: ignore[union-attr]
        wire.pump()
        self.assertEqual((left.ended, right.ended), (True, True))
        reasons = dict(self.losses)
        self.assertIn("ended the connection", reasons[left].what)
        self.assertIsInstance(reasons[right], errors.BadMessage)

    def test_nothing_is_logged_as_a_fault(self) -> None:
        """A stranger's rubbish is news, not a traceback."""
        seen: list[LogLevel] = []
        observer = lambda event: seen.append(event["log_level"])  # noqa: E731
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        _protocol, raw, wire = self.connect()
        raw.send(a_frame(10))
        wire.pump()
        self.assertEqual(seen, [LogLevel.info])


class AskingTests(PeerTestCase):
    """What we ask."""

    def test_either_end_may_ask(self) -> None:
        """At the same time, over one connection, in any chunking."""
        left, right, wire = self.pair()
        wire.chunk = lambda: 7
        self.dispatcher.reply = lambda: succeed(encode_body(PONG))
        answers = [protocol.call("ping", bodies.Ping()) for protocol in (left, right) for _ in range(5)]
        wire.pump()
        self.assertEqual([self.successResultOf(answer) for answer in answers], [PONG] * 10)
        self.assertEqual({caller for caller, _, _ in self.dispatcher.asked}, {left.greeting, right.greeting})

    def test_a_request_as_it_is_sent(self) -> None:
        """With our id, the clock, and the milliseconds that we wait."""
        protocol, raw, wire = self.connect()
        answer = protocol.call("get-neighbours", bodies.GetNeighbours(3), 2.5)
        wire.pump()
        (request,) = raw.requests
        self.assertEqual(
            (request.method, request.sender, request.deadline), ("get-neighbours", a_greeting(b"ours").id, 2500)
        )
        self.assertEqual(request.body, encode_body(bodies.GetNeighbours(3)))
        self.assertGreater(request.clock, 0)
        wire.cut()
        self.failureResultOf(answer, errors.ConnectionLost)

    def test_refusals_become_errors(self) -> None:
        """Of the class that the status stands for."""
        protocol, raw, wire = self.connect()
        answer = protocol.call("ping", bodies.Ping())
        wire.pump()
        raw.say(Response(raw.requests[0].id, Status.BUSY, 1, encode_body(bodies.Refusal("Full.", "", 3.0))))
        wire.pump()
        self.assertEqual(self.failureResultOf(answer, errors.Busy).value.retry_after, 3.0)

    def test_an_answer_of_the_wrong_type(self) -> None:
        """Fails that one call; the connection lives on."""
        protocol, raw, wire = self.connect()
        answers = [protocol.call("ping", bodies.Ping()) for _ in range(2)]
        wire.pump()
        for request, status in zip(raw.requests, (Status.OK, Status.BUSY), strict=True):
            raw.say(Response(request.id, status, 1, encode_body(bodies.Had((True,)))))
        wire.pump()
        for answer in answers:
            self.failureResultOf(answer, errors.BadMessage)
        self.assert_intact(protocol, raw, wire)

    def test_timeout_tells_the_other_end(self) -> None:
        """Nobody waits for the answer any more, so the work may stop."""
        protocol, raw, wire = self.connect()
        answer = protocol.call("ping", bodies.Ping(), 3.0)
        wire.pump()
        self.clock.advance(3)
        self.failureResultOf(answer, errors.PeerTimeout)
        wire.pump()
        self.assertEqual(raw.messages[-1], Cancel(raw.requests[0].id))
        raw.say(Response(raw.requests[0].id, 0, 1, encode_body(PONG)))
        self.assert_intact(protocol, raw, wire)

    def test_cancelling_tells_the_other_end(self) -> None:
        """From one end's Deferred to the other end's handler."""
        left, _, wire = self.pair()
        answer = left.call("ping", bodies.Ping())
        wire.pump()
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        wire.pump()
        self.assertEqual(self.dispatcher.cancelled, 1)
        wire.cut()

    def test_a_body_that_cannot_be_packed(self) -> None:
        """Is the caller's fault, and leaves nothing behind."""
        protocol, _, _ = self.connect()
        self.assertRaises(TypeError, protocol.call, "ping", object())
        self.assertRaises(KeyError, protocol.call, "no-such-method", bodies.Ping())
        self.assertTrue(protocol.idle)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_request_that_fits_no_frame(self) -> None:
        """Fails here, instead of ending the connection there."""
        protocol, raw, wire = self.connect()
        answer = protocol.call("get-chunks", bodies.GetChunks((bytes(FRAME_LIMIT),)))
        self.assertEqual(self.failureResultOf(answer, errors.RemoteError).value.status, Status.TOO_LARGE)
        self.assert_intact(protocol, raw, wire)
        self.assertEqual(raw.requests, [])

    def test_the_largest_request(self) -> None:
        """What is just below the bound arrives at a real peer."""
        left, _, wire = self.pair()
        self.dispatcher.reply = lambda: succeed(encode_body(bodies.Items((), False)))
        answer = left.call("get-chunks", bodies.GetChunks((bytes(FRAME_LIMIT - 300),)))
        wire.pump()
        self.assertEqual(self.successResultOf(answer), bodies.Items((), False))

    def test_a_deadline_that_has_passed(self) -> None:
        """Is a timeout here, never a message that the other end refuses."""
        protocol, raw, wire = self.connect()
        answer = protocol.call("ping", bodies.Ping(), -2.0)
        self.clock.advance(0)
        self.failureResultOf(answer, errors.PeerTimeout)
        wire.pump()
        self.assertEqual([request.deadline for request in raw.requests], [0])
        self.assert_intact(protocol, raw, wire)


class EndingTests(PeerTestCase):
    """How connections end, and what becomes of what was in flight."""

    def test_loss_fails_everything_at_once(self) -> None:
        """Calls fail, work is cancelled, and the budget is given back."""
        protocol, raw, wire = self.connect()
        answers = [protocol.call("ping", bodies.Ping(), seconds) for seconds in (1, 10, 100)]
        raw.ask(1)
        raw.ask(2)
        wire.pump()
        self.assertGreater(self.budget.used, 0)
        wire.cut()
        for answer in answers:
            self.failureResultOf(answer, errors.ConnectionLost)
        self.assertEqual((self.dispatcher.cancelled, self.budget.used), (2, 0))
        self.assertEqual(len(self.losses), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_work_that_ends_after_the_loss(self) -> None:
        """Is nobody's when it ends well; a fault is still logged."""
        _, raw, wire = self.connect()
        ends: list[Any] = [b"done all the same", Failure(ZeroDivisionError())]
        self.dispatcher.reply = lambda: Deferred(lambda work: work.callback(ends.pop()))
        raw.ask(1)
        raw.ask(2)
        wire.pump()
        wire.cut()
        self.assertEqual((ends, self.budget.used, raw.answers), ([], 0, {}))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_calls_after_the_end(self) -> None:
        """Fail at once, for the same reason."""
        protocol, _, wire = self.connect()
        wire.cut()
        self.failureResultOf(protocol.call("ping", bodies.Ping()), errors.ConnectionLost)
        self.assertFalse(protocol.usable)

    def test_close(self) -> None:
        """What was written goes out; callers are told the reason."""
        protocol, raw, wire = self.connect()
        answer = protocol.call("ping", bodies.Ping())
        protocol.close(errors.ConnectionLost("The connection was idle."))
        self.assertFalse(protocol.usable)
        self.failureResultOf(protocol.call("ping", bodies.Ping()), errors.ConnectionLost)
        wire.pump()
        self.assertTrue(protocol.ended)
        self.assertEqual(len(raw.requests), 1)
        self.assertEqual(self.failureResultOf(answer).value.what, "The connection was idle.")
        self.assertEqual(self.losses[0][1].what, "The connection was idle.")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close_and_abort_more_than_once(self) -> None:
        """The first reason counts, and the end is told once."""
        protocol, _, wire = self.connect()
        protocol.close(errors.ConnectionLost("first"))
        protocol.close(errors.ConnectionLost("second"))
        protocol.abort(errors.ConnectionLost("third"))
        wire.pump()
        protocol.close()
        protocol.abort()
        self.assertEqual([reason.what for _, reason in self.losses], ["first"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nothing_is_heard_after_close(self) -> None:
        """What still arrives is not worked on."""
        protocol, raw, wire = self.connect()
        wire.ends[0].deaf = True
        raw.ask(1)
        wire.pump()
        protocol.close()
        wire.ends[0].deaf = False
        wire.pump()
        self.assertEqual(self.dispatcher.asked, [])

    def test_nothing_is_heard_behind_a_goodbye(self) -> None:
        """Also when both came in one piece."""
        protocol, raw, wire = self.connect()
        goodbye = Response(0, Status.BUSY, 1, encode_body(bodies.Refusal("I stop.", "", 0.0)))
        raw.send(frame_of(goodbye) + raw.asking(1))
        wire.pump()
        self.assertTrue(protocol.ended)
        self.assertEqual(self.dispatcher.asked, [])

    def test_abort_before_there_is_a_connection(self) -> None:
        """A connection that is made too late is ended at once."""
        protocol = self.protocol()
        protocol.abort(errors.ConnectionLost("stopping"))
        raw = RawPeer()
        wire = Wire(protocol, raw)
        wire.pump()
        self.assertTrue(protocol.ended)
        self.assertEqual(raw.payloads, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_other_end_says_why(self) -> None:
        """Its words, made harmless, are what callers are told."""
        protocol, raw, wire = self.connect()
        answer = protocol.call("ping", bodies.Ping())
        words = bodies.Refusal("I do not\x1bunderstand.", "Update.", 0.0)
        raw.say(Response(0, Status.BAD_REQUEST, 1, encode_body(words)))
        wire.pump()
        error = self.failureResultOf(answer, errors.ProtocolViolation).value
        self.assertEqual(error.what, "The peer ended the connection: I do not understand.")
        self.assertEqual(error.next_step, "Update.")

    def test_a_goodbye_that_cannot_be_read(self) -> None:
        """Ends the connection all the same."""
        protocol, raw, wire = self.connect()
        raw.send(frame_of(Response(0, Status.BAD_REQUEST, 1, b"\xc1")))
        wire.pump()
        self.assertTrue(protocol.ended)

    def test_close_when_idle(self) -> None:
        """Once nothing has moved and nothing is in flight for that long."""
        protocol, raw, wire = self.connect()
        told: list[str] = []
        protocol.close_when_idle(100, lambda: told.append("closing"))
        self.clock.pump([10] * 9)
        self.assert_intact(protocol, raw, wire)
        self.clock.pump([10] * 9)
        wire.pump()
        self.assertFalse(protocol.ended)
        self.clock.pump([10] * 2)
        wire.pump()
        self.assertTrue(protocol.ended)
        self.assertEqual((told, self.losses[0][1].what), (["closing"], "The connection was idle."))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_not_idle_while_something_is_in_flight(self) -> None:
        """In either direction, however long it takes."""
        for asks_us in (True, False):
            protocol, raw, wire = self.connect()
            protocol.close_when_idle(100)
            if asks_us:
                raw.ask(1, "watch")
            else:
                answer = protocol.call("watch", bodies.Watch(bytes(20), bytes(20), (), 1, 1), 100_000)
                self.addCleanup(self.failureResultOf, answer, errors.ConnectionLost)
            wire.pump()
            self.clock.pump([100] * 10)
            wire.pump()
            self.assertFalse(protocol.ended)
            wire.cut()


class FuzzTests(PeerTestCase):
    """Whatever arrives: an answer or an end, never a fault."""

    def test_random_frames(self) -> None:
        """Rubbish in frames, in one connection after the other."""
        rng = random.Random(11)
        self.dispatcher.reply = lambda: succeed(b"")
        for _ in range(300):
            protocol, raw, wire = self.connect(chunk=rng.randint(1, 50))
            for _ in range(rng.randint(1, 4)):
                raw.send(encode_frame(rng.randbytes(rng.randint(0, 30))))
            wire.pump()
            wire.cut()
            self.assertTrue(protocol.ended)
        self.assertEqual((self.budget.used, self.clock.getDelayedCalls()), (0, []))

    def test_damaged_requests(self) -> None:
        """One bit flipped in a greeting and a request, at every place."""
        peer = RawPeer()
        stream = greeting_frame(peer.own) + peer.asking(3, "get-neighbours", bodies.GetNeighbours(1))
        self.dispatcher.reply = lambda: succeed(b"")
        for place in range(len(stream)):
            for bit in (1, 16, 128):
                protocol, raw, wire = self.connect(greet=False)
                raw.send(stream[:place] + bytes([stream[place] ^ bit]) + stream[place + 1 :])
                wire.pump()
                self.clock.advance(10)
                wire.cut()
                self.assertTrue(protocol.ended)
        self.assertEqual((self.budget.used, self.clock.getDelayedCalls()), (0, []))
