"""The ring's story, with files in it, for a fixed list of seeds."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from peerstore.sim.network import Faults
from peerstore.sim.ring_run import run_ring

#: At most 12 positions; lists of 2 to 4 are short enough to be used up.
SEEDS = range(1, 17)


class StoryTests(TestCase):
    """Hosts of the shipped code form a ring, lose one, take one in, are cut in two and mended, and give files back."""

    timeout = 600

    def test_fixed_seeds(self) -> None:
        """In none of them is anything lost, wrong, or left unsettled."""
        failed = {}
        for seed in SEEDS:
            hosts, list_size = 4 + seed % 7, 3 + seed % 2
            result = run_ring(seed, hosts, 1, list_size, Faults(loss=0.01))
            if result.problems:
                failed[f"--seed {seed} --hosts {hosts} --list-size {list_size}"] = result.problems
        self.assertEqual(failed, {})

    def test_several_positions_for_each_host(self) -> None:
        """Three positions of each of four hosts."""
        for seed in (1, 2, 3):
            self.assertEqual(run_ring(seed, 4, 3, 9, Faults(loss=0.01)).problems, [])

    def test_another_seed_is_another_run(self) -> None:
        """The trace tells them apart, and is the same for the same seed."""
        first, again, other = (run_ring(seed, 5).trace for seed in (7, 7, 8))
        self.assertEqual(first, again)
        self.assertNotEqual(first, other)
