"""Waiting for many Deferreds: results in order, the first error as itself."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import PeerTimeout
from peerstore.util.together import all_of


class AllOfTests(SynchronousTestCase):
    """None, one, several."""

    def begin(self, jobs: list[Deferred[Any]]) -> Deferred[list[Any]]:
        """Wait for them."""
        return Deferred.fromCoroutine(all_of(jobs))

    def test_results_are_in_the_order_of_the_jobs(self) -> None:
        """Whatever ends first."""
        for count in range(4):
            jobs: list[Deferred[Any]] = [Deferred() for _ in range(count)]
            waiting = self.begin(jobs)
            for number in reversed(range(count)):
                self.assertNoResult(waiting)
                jobs[number].callback(number)
            self.assertEqual(self.successResultOf(waiting), list(range(count)))

    def test_an_error_is_raised_as_itself(self) -> None:
        """At once, and those that go on are not waited for."""
        for count in (1, 3):
            jobs: list[Deferred[Any]] = [Deferred() for _ in range(count)]
            waiting = self.begin(jobs)
            jobs[-1].errback(PeerTimeout("No answer in time."))
            self.assertEqual(self.failureResultOf(waiting, PeerTimeout).value.what, "No answer in time.")
            for job in jobs[:-1]:
                job.errback(PeerTimeout("Nor from this one."))

    def test_whoever_stops_waiting_stops_the_jobs(self) -> None:
        """All of them are cancelled."""
        for count in (1, 3):
            stopped: list[Deferred[Any]] = []
            jobs: list[Deferred[Any]] = [Deferred(stopped.append) for _ in range(count)]
            waiting = self.begin(jobs)
            waiting.cancel()
            self.failureResultOf(waiting, CancelledError)
            self.assertEqual(len(stopped), count)
