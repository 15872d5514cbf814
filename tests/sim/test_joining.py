"""How a newcomer gets onto a ring that stands."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from peerstore.sim.network import Faults
from peerstore.sim.world import World


class JoiningTests(SynchronousTestCase):
    """One more host, whoever it asks."""

    def test_the_first_list_is_the_right_one(self) -> None:
        """A newcomer stands in its place, with a full list, from its first
        moment as a member, through whomever it joins."""
        for seed in range(8):
            world = World(seed, faults=Faults())
            world.start("host-0")
            for number in range(1, 8):
                world.run(0.5)
                world.start(f"host-{number}", "host-0")
            self.assertIsNotNone(world.until_ideal(60.0))
            before = set(world.snapshot())
            world.start("newcomer", f"host-{seed}")
            while len(world.snapshot()) == len(before) and world.clock.step(world.clock.seconds() + 60.0):
                pass
            (me,) = set(world.snapshot()) - before
            follow = sorted(before, key=lambda other: (other - me) % (1 << 160))
            self.assertEqual(world.snapshot()[me].successors, tuple(follow[:4]), f"seed {seed}")
            self.assertEqual(world.snapshot()[me].predecessor, follow[-1], f"seed {seed}")
