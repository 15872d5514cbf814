"""A seed is a whole run: replayed, it is the same to the last byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

import peerstore
from peerstore.sim.churn_run import run_churn
from peerstore.sim.ring_run import run_ring

COMMAND = [sys.executable, "-c", "from peerstore.sim.main import main; main()"]


def printed(arguments: list[str], hash_seed: str) -> dict[str, Any]:
    """What another process prints as JSON."""
    root = str(Path(peerstore.__file__).parent.parent)
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": root}
    run = subprocess.run(
        [*COMMAND, *arguments, "--json"], capture_output=True, text=True, check=True, timeout=120, env=environment
    )
    told: dict[str, Any] = json.loads(run.stdout)
    return told


class ReplayTests(SynchronousTestCase):
    """Traces, within one process and across processes."""

    def test_the_same_seed_gives_the_same_run(self) -> None:
        """Twice in one process, whatever ran there in between: the trace,
        what happened, and what was looked at how often."""
        first = run_churn(11)
        run_churn(12)
        self.assertEqual(run_churn(11), first)

    def test_another_seed_gives_another_trace(self) -> None:
        """The trace is not the same for everybody."""
        self.assertEqual(len({run_churn(seed).trace for seed in (17, 21, 25)}), 3)

    def test_the_interpreters_hash_seed_does_not_matter(self) -> None:
        """Nothing depends on the order of sets, or on being another process."""
        told = [printed(["ring", "--seed", "17"], hash_seed) for hash_seed in ("0", "1", "4294967295")]
        here = run_churn(17)
        for other in told:
            self.assertTrue(other["held"])
            self.assertEqual(other["trace"], here.trace)
            self.assertEqual(other["checks"], dict(here.checks))

    def test_a_story_is_replayed_as_well(self) -> None:
        """With files in it."""
        traces = {printed(["story", "--seed", "11", "--hosts", "6"], hash_seed)["trace"] for hash_seed in ("2", "3")}
        self.assertEqual(traces, {run_ring(11, 6).trace})
