"""Which hosts keep what, and how many make it certain."""

from __future__ import annotations

import random
from statistics import mean

from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.ring.placement import needed, replica_hosts
from tests.support.ring import member, members


class ReplicaTests(SynchronousTestCase):
    """The first k distinct hosts from the owner on."""

    def test_one_position_each(self) -> None:
        """The owner and those after it."""
        self.assertEqual(replica_hosts(members([3, 4, 5, 6]), 3), members([3, 4, 5]))

    def test_further_positions_of_a_host_are_passed_by(self) -> None:
        """Two copies on one disk are one copy."""
        walk = [member(0, host=1), member(1, host=1), member(2, host=2), member(3, host=1), member(4, host=3)]
        self.assertEqual(replica_hosts(walk, 3), (walk[0], walk[2], walk[4]))

    def test_short_rings(self) -> None:
        """As many as there are."""
        self.assertEqual(replica_hosts(members([3]), 3), members([3]))
        self.assertEqual(replica_hosts([], 3), ())
        self.assertEqual(replica_hosts(members([3, 4]), 0), ())


class NeededTests(SynchronousTestCase):
    """W = floor(min(k, n) / 2) + 1."""

    def test_all_small_numbers(self) -> None:
        """A majority of the copies that there can be."""
        table = {(3, 1): 1, (3, 2): 2, (3, 3): 2, (3, 99): 2, (1, 9): 1, (5, 4): 3, (5, 9): 3, (2, 9): 2}
        for (copies, hosts), expected in table.items():
            self.assertEqual(needed(copies, hosts), expected, (copies, hosts))

    def test_two_majorities_share_a_host(self) -> None:
        """Whoever wrote and whoever reads meet in one."""
        for copies in range(1, 17):
            for hosts in range(1, 20):
                self.assertGreater(2 * needed(copies, hosts), min(copies, hosts))

    def test_nobody_known_counts_as_one(self) -> None:
        """W is never 0."""
        self.assertEqual(needed(3, 0), 1)


class BalanceTests(SynchronousTestCase):
    """Why a host has eight positions."""

    def largest(self, hosts: int, positions: int) -> float:
        """The largest host's share of the circle, over the mean share."""
        rng = random.Random(5)
        places = sorted((rng.randrange(ids.RING_SIZE), host) for host in range(hosts) for _ in range(positions))
        shares = [0] * hosts
        for at, (place, host) in enumerate(places):
            shares[host] += ids.distance(places[at - 1][0], place)
        return max(shares) / mean(shares)

    def test_eight_positions_even_out_what_one_does_not(self) -> None:
        """With fifty hosts."""
        self.assertLess(self.largest(50, 8), 2.2)
        self.assertGreater(self.largest(50, 1), 3.0)
