"""Lamport's clock: what was caused counts higher, and nobody can spoil it."""

from __future__ import annotations

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore.util.lamport import JUMP, LAST, LamportClock
from tests.support.properties import check


class ClockTests(SynchronousTestCase):
    """Counting."""

    def test_events_of_our_own(self) -> None:
        """Each is one higher than the one before."""
        clock = LamportClock()
        self.assertEqual((clock.time, clock.tick(), clock.tick(), clock.time), (0, 1, 2, 2))

    def test_what_is_heard(self) -> None:
        """The higher of both, and one more."""
        clock = LamportClock(5)
        self.assertEqual((clock.witness(9), clock.witness(3), clock.time), (10, 11, 11))

    def test_it_goes_on_from_where_it_was(self) -> None:
        """The last value known is never given again."""
        self.assertEqual(LamportClock(41).tick(), 42)

    @check(st.lists(st.one_of(st.none(), st.integers(0, 1000)), max_size=20))
    def test_it_never_stands_still_or_goes_back(self, events: list[int | None]) -> None:
        """Every event counts higher than all before it and what it heard."""
        clock, before = LamportClock(), 0
        for heard in events:
            now = clock.tick() if heard is None else clock.witness(heard)
            self.assertGreater(now, max(before, heard or 0))
            before = now


class HostileTests(SynchronousTestCase):
    """One message must not use up all numbers there are."""

    def test_an_absurd_value_moves_it_only_so_far(self) -> None:
        """A far future that is heard once is not believed at once."""
        clock = LamportClock(7)
        self.assertEqual(clock.witness(LAST), 7 + JUMP + 1)

    def test_a_newcomer_catches_up_with_an_old_ring(self) -> None:
        """It takes a few messages, not a refusal."""
        clock, theirs = LamportClock(), 5 * JUMP
        for _ in range(6):
            clock.witness(theirs)
        self.assertGreater(clock.time, theirs)

    def test_it_never_leaves_what_can_be_stored(self) -> None:
        """At the very end it stands still."""
        clock = LamportClock(LAST - 1)
        self.assertEqual([clock.tick(), clock.tick(), clock.witness(LAST), clock.witness(1 << 70)], [LAST] * 4)
