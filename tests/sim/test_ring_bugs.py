"""Bugs that are put into the ring are caught, each by the seed that shows it soonest."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.ring_bugs import BUGS, HUNT

#: The first seed to try; ``python -m tests.support.ring_bugs`` runs the whole list.
FIRST = {
    "0.5 a": 3,
    "0.5 d, predecessor": 1,
    "1.9 Rings 774": 2,
    "late answer applied": 17,
}


class RingBugTests(SynchronousTestCase):
    """One run for each, or some; most end within moments."""

    def check(self, part: int) -> None:
        """Every second bug."""
        missed = []
        for name in sorted(BUGS)[part::2]:
            seeds = (FIRST.get(name, 1), *range(1, 10))
            if not any(HUNT.caught_by(name, seed).violated for seed in seeds):
                missed.append(f"python -m tests.support.ring_bugs --bug {name!r}")
        self.assertEqual(missed, [])

    def test_each_is_caught(self) -> None:
        """By an invariant, or by what holds at rest."""
        self.check(0)

    def test_each_of_the_others_is_caught(self) -> None:
        """By an invariant, or by what holds at rest."""
        self.check(1)

    def test_whoever_is_in_the_list_of_exceptions_exists(self) -> None:
        """No bug is named that is gone."""
        self.assertEqual(set(FIRST) - set(BUGS), set())

    def test_without_a_bug_nothing_is_caught(self) -> None:
        """In those runs that are none of the usual ones."""
        for run in {bug.run for bug in BUGS.values() if bug.run is not None}:
            self.assertEqual(HUNT.shipped(run, 1).violated, (), run.__name__)
