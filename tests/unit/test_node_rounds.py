"""Rounds: soon while something is behind, seldom when all is well."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import PeerStoreError
from peerstore.node.rounds import DEBOUNCE, QUIET, SOON, Rounds


class RoundsTests(SynchronousTestCase):
    """One round at a time, on a fake clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.longest = QUIET
        #: When each round began, and how each is to end.
        self.times: list[float] = []
        self.ends: list[Deferred[bool]] = []
        self.looks: list[float] = []
        self.done: bool | None = False
        self.rounds = Rounds(self.clock, self.work, "test", lambda: self.longest, self.look)
        self.addCleanup(self.rounds.stop)

    def look(self) -> None:
        """A change has been waited for."""
        self.looks.append(self.clock.seconds())

    def work(self) -> Deferred[bool]:
        """One round; it ends at once if the test says how."""
        self.times.append(self.clock.seconds())
        end: Deferred[bool] = Deferred()
        self.ends.append(end)
        if self.done is not None:
            end.callback(self.done)
        return end

    def passes(self, seconds: float) -> list[float]:
        """Let time pass; the waits before the rounds that came."""
        known = len(self.times)
        self.clock.pump([0.25] * round(seconds / 0.25))
        return [after - before for before, after in zip(self.times[known - 1 :], self.times[known:], strict=False)]

    def test_in_vain_it_waits_longer_and_longer(self) -> None:
        """Half as long again each time, up to the longest wait."""
        self.rounds.start()
        waits = self.passes(300.0)
        self.assertEqual(waits[:2], [SOON, 1.5])
        self.assertEqual(waits, sorted(waits))
        self.assertEqual(waits[-1], QUIET)

    def test_when_all_is_well(self) -> None:
        """It comes seldom; and soon again once something is behind."""
        self.done = True
        self.rounds.start()
        self.assertEqual(self.passes(70.0), [QUIET, QUIET])
        self.done = False
        self.assertEqual(self.passes(25.0)[1:3], [SOON, 1.5])

    def test_the_longest_wait_is_asked_for_each_time(self) -> None:
        """Something may be due before."""
        self.done = True
        self.longest = 3.0
        self.rounds.start()
        self.assertEqual(self.passes(6.5), [3.0, 3.0])

    def test_a_change(self) -> None:
        """A little later, once for many, and looked at first."""
        self.done = True
        self.rounds.start()
        self.clock.advance(1.0)
        self.rounds.changed()
        self.rounds.changed()
        self.clock.advance(DEBOUNCE)
        self.assertEqual((self.times, self.looks), ([0.0, 1.25], [1.25]))

    def test_a_change_begins_the_waits_anew(self) -> None:
        """Who was down may be up."""
        self.rounds.start()
        self.passes(200.0)
        self.rounds.changed()
        self.assertEqual(self.passes(4.0)[1:3], [SOON, 1.5])

    def test_hurry(self) -> None:
        """At once."""
        self.done = True
        self.rounds.start()
        self.clock.advance(1.0)
        self.rounds.hurry()
        self.clock.advance(0)
        self.assertEqual(self.times, [0.0, 1.0])

    def test_a_round_that_fails(self) -> None:
        """It is behind, and tried again soon."""
        self.done = None
        self.rounds.start()
        self.ends[0].errback(PeerStoreError("No."))
        self.assertEqual(len(self.flushLoggedErrors(PeerStoreError)), 1)
        self.clock.advance(SOON)
        self.assertEqual(self.times, [0.0, SOON])
        self.ends[1].callback(True)

    def test_the_end(self) -> None:
        """The round in flight is waited for, and no change begins another."""
        self.done = None
        self.rounds.start()
        self.rounds.changed()
        ended = self.rounds.stop()
        self.rounds.changed()
        self.assertNoResult(ended)
        self.ends[0].callback(False)
        self.successResultOf(ended)
        self.assertEqual(self.clock.getDelayedCalls(), [])
