"""Simulated data, for a fixed list of seeds: every promise is kept."""

from __future__ import annotations

import gc
from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from peerstore.sim.data_run import run_data

#: What CI runs; ``tox -e seeds`` and ``tox -e soak`` run more.
SEEDS = range(1, 10)


class DataTests(SynchronousTestCase):
    """Nothing certain is lost, nothing is said that is not so, and at rest
    everything is on its hosts."""

    def tearDown(self) -> None:
        """What the dead of a run left in the middle of is thrown away here: a
        coroutine that another wakes when it has ended itself is no error.
        What a node logs during a run is a problem of that run."""
        gc.collect()
        self.flushLoggedErrors(RuntimeError)

    def check_seeds(self, rest: int) -> None:
        """Every third seed."""
        checks: Counter[str] = Counter()
        failed = {}
        for seed in SEEDS:
            if seed % 3 == rest:
                result = run_data(seed)
                checks.update(result.checks)
                if result.problems:
                    failed[f"peerstore-sim data --seed {seed}"] = result.problems
        self.assertEqual(failed, {})
        # Whatever is never looked at holds.
        for promise, least in {"certain": 2000, "bytes": 2000, "refused": 500, "copies": 1000, "dropped": 50}.items():
            self.assertGreater(checks[promise], least, promise)

    def test_seeds(self) -> None:
        """Seeds 3, 6, 9."""
        self.check_seeds(0)

    def test_more_seeds(self) -> None:
        """Seeds 1, 4, 7."""
        self.check_seeds(1)

    def test_the_other_seeds(self) -> None:
        """Seeds 2, 5, 8."""
        self.check_seeds(2)

    def test_the_same_seed_gives_the_same_run(self) -> None:
        """Whatever ran in between: the trace, what happened, what was looked at."""
        first = run_data(5)
        run_data(10)
        self.assertEqual(run_data(5), first)
