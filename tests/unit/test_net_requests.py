"""Requests in flight: answered once, late when nothing moves, lost together."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import ConnectionLost, PeerMismatch, PeerTimeout
from peerstore.net.requests import PATIENCE, RequestTable


class RequestTableTests(SynchronousTestCase):
    """A table and a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.table = RequestTable(self.clock, "tcp:h:1")

    def timers(self) -> int:
        """How many timers run."""
        return len(self.clock.getDelayedCalls())

    def test_each_request_gets_its_own_answer(self) -> None:
        """Out of order, as they come."""
        (one, first), (two, second) = self.table.begin("ping", 5), self.table.begin("ping", 5)
        self.assertNotEqual(one, two)
        self.assertEqual(len(self.table), 2)
        self.assertTrue(self.table.answered(two, "b"))
        self.assertNoResult(first)
        self.assertTrue(self.table.answered(one, "a"))
        self.assertEqual((self.successResultOf(first), self.successResultOf(second)), ("a", "b"))
        self.assertEqual((len(self.table), self.timers()), (0, 0))

    def test_ids_are_positive_and_never_used_again(self) -> None:
        """0 is kept for the end of the connection."""
        numbers = []
        for _ in range(50):
            number, _answer = self.table.begin("ping", 5)
            self.table.answered(number, None)
            numbers.append(number)
        self.assertEqual(len(set(numbers)), 50)
        self.assertGreater(min(numbers), 0)

    def test_doubled_answers_are_dropped(self) -> None:
        """The first one counts."""
        number, answer = self.table.begin("ping", 5)
        self.assertTrue(self.table.answered(number, "first"))
        self.assertFalse(self.table.answered(number, "second"))
        self.assertEqual(self.successResultOf(answer), "first")

    def test_unasked_answers_are_dropped(self) -> None:
        """An id that was never given out."""
        number, answer = self.table.begin("ping", 5)
        for wrong in (0, number + 1, -number, 1 << 62):
            self.assertFalse(self.table.answered(wrong, "x"))
        self.assertNoResult(answer)
        answer.addErrback(lambda _: None).cancel()

    def test_timeout(self) -> None:
        """When nothing moved for the whole time, and no earlier."""
        _, answer = self.table.begin("get-heads", 5)
        self.clock.advance(4.9)
        self.assertNoResult(answer)
        self.clock.advance(0.2)
        error = self.failureResultOf(answer, PeerTimeout).value
        self.assertEqual(error.what, "tcp:h:1 did not answer get-heads within 5 s.")
        self.assertEqual((len(self.table), self.timers()), (0, 0))

    def test_late_answers_are_dropped(self) -> None:
        """The request was given up; its answer is nobody's."""
        number, answer = self.table.begin("ping", 5)
        self.clock.advance(6)
        self.failureResultOf(answer, PeerTimeout)
        self.assertFalse(self.table.answered(number, "late"))

    def test_a_timeout_waits_while_bytes_move(self) -> None:
        """Each period in which something moved is followed by another."""
        number, answer = self.table.begin("get-chunks", 5)
        for _ in range(PATIENCE):
            self.table.progress(1)
            self.clock.advance(5)
            self.assertNoResult(answer)
        self.table.answered(number, "large")
        self.assertEqual(self.successResultOf(answer), "large")

    def test_a_timeout_once_bytes_stop(self) -> None:
        """One period without any movement is enough."""
        _, answer = self.table.begin("get-chunks", 5)
        self.table.progress(1)
        self.clock.advance(5)
        self.assertNoResult(answer)
        self.clock.advance(5)
        self.failureResultOf(answer, PeerTimeout)

    def test_patience_ends(self) -> None:
        """A peer that keeps sending other things is not waited for for ever."""
        _, answer = self.table.begin("get-chunks", 5)
        for _ in range(PATIENCE + 1):
            self.assertNoResult(answer)
            self.table.progress(100)
            self.clock.advance(5)
        self.failureResultOf(answer, PeerTimeout)

    def test_only_movement_after_it_began_counts(self) -> None:
        """What moved before the request was made is no progress of it."""
        self.table.progress(1000)
        _, answer = self.table.begin("ping", 5)
        self.clock.advance(5)
        self.failureResultOf(answer, PeerTimeout)

    def test_no_time_at_all(self) -> None:
        """A deadline that has passed is a timeout on the next turn, no fault."""
        for seconds in (0.0, -3.0):
            _, answer = self.table.begin("ping", seconds)
            # A real reactor refuses a call in the past.
            self.assertGreaterEqual(self.clock.getDelayedCalls()[0].getTime(), self.clock.seconds())
            self.assertNoResult(answer)
            self.clock.advance(0)
            self.failureResultOf(answer, PeerTimeout)

    def test_cancel(self) -> None:
        """Its answer is not waited for any more, and no timer runs on."""
        number, answer = self.table.begin("ping", 5)
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.assertEqual((len(self.table), self.timers()), (0, 0))
        self.assertFalse(self.table.answered(number, "late"))

    def test_loss_fails_all_at_once(self) -> None:
        """With the reason that was given, and the timers gone."""
        answers = [self.table.begin("ping", seconds)[1] for seconds in (1, 5, 50)]
        self.table.lose(PeerMismatch("another key"))
        for answer in answers:
            self.assertEqual(self.failureResultOf(answer, PeerMismatch).value.what, "another key")
        self.assertEqual((len(self.table), self.timers()), (0, 0))

    def test_loss_without_a_reason(self) -> None:
        """Says which peer was lost."""
        _, answer = self.table.begin("ping", 5)
        self.table.lose()
        self.assertIn("tcp:h:1", self.failureResultOf(answer, ConnectionLost).value.what)

    def test_giving_up_the_others_at_the_loss(self) -> None:
        """Whoever needs no further answer then cancels: all others still fail."""
        first, second, third = (self.table.begin("ping", 5)[1] for _ in range(3))
        first.addErrback(lambda failure: second.cancel())
        self.table.lose()
        self.failureResultOf(second, CancelledError)
        self.failureResultOf(third, ConnectionLost)

    def test_asking_after_the_loss(self) -> None:
        """Fails at once, for the same reason, also from within a failure."""
        again: list[Deferred[object]] = []

        def ask_again(failure: object) -> None:
            again.append(self.table.begin("ping", 5)[1])

        self.table.begin("ping", 5)[1].addErrback(ask_again)
        self.table.lose(PeerMismatch("another key"))
        again.append(self.table.begin("ping", 5)[1])
        self.assertEqual(len(again), 2)
        for answer in again:
            self.failureResultOf(answer, PeerMismatch)
        self.assertEqual((len(self.table), self.timers()), (0, 0))
