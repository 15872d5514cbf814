"""A ring under random faults, for a fixed list of seeds."""

from __future__ import annotations

from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from peerstore.sim.churn_run import run_churn

#: What CI runs; ``tox -e seeds`` and ``tox -e soak`` run more.
SEEDS = range(1, 57)


class SeedTests(SynchronousTestCase):
    """In none of them does an invariant fail to hold, at any event, while
    the failure assumption holds; and at the end every ring is ideal."""

    def check_seeds(self, rest: int) -> None:
        """Every fourth seed."""
        checks: Counter[str] = Counter()
        failed = {}
        for seed in SEEDS:
            if seed % 4 == rest:
                result = run_churn(seed)
                checks.update(result.checks)
                if result.problems:
                    failed[f"peerstore-sim ring --seed {seed}"] = result.problems
        self.assertEqual(failed, {})
        # Whatever is never looked at holds.
        for name in ("I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I11", "I13"):
            self.assertGreater(checks[name], 500, name)

    def test_with_tables_of_all_hosts(self) -> None:
        """Seeds 4, 8, 12, ..."""
        self.check_seeds(0)

    def test_without_tables(self) -> None:
        """Seeds 1, 5, 9, ..."""
        self.check_seeds(1)

    def test_with_tables_again(self) -> None:
        """Seeds 2, 6, 10, ..."""
        self.check_seeds(2)

    def test_without_tables_again(self) -> None:
        """Seeds 3, 7, 11, ..."""
        self.check_seeds(3)
