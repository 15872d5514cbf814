"""Fingers: hints for long hops, which decide nothing."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.ring.fingers import FingerTable
from tests.support.ring import eight, fp_of, member, members
from tests.support.ring_net import RingNet


class TableTests(SynchronousTestCase):
    """Entry i is the owner of me + 2^i."""

    def setUp(self) -> None:
        self.table = FingerTable(eight(7))
        self.rng = random.Random(1)

    def test_what_is_picked(self) -> None:
        """A power of two away, round the end of the circle, too."""
        for _ in range(200):
            number, key = self.table.pick(self.rng, eight(0))
            self.assertEqual(key, (eight(7) + (1 << number)) % ids.RING_SIZE)
            self.assertIn(number, range(ids.ID_BITS))

    def test_none_nearer_than_the_first_successor(self) -> None:
        """Those are in the list anyway; the largest are picked, too."""
        reach = ids.distance(eight(7), eight(1))
        picked = {self.table.pick(self.rng, eight(1))[0] for _ in range(500)}
        self.assertGreaterEqual(2 << min(picked), reach)
        self.assertEqual(max(picked), ids.ID_BITS - 1)

    def test_without_a_successor_any_is_picked(self) -> None:
        """Nothing is known."""
        picked = {self.table.pick(self.rng, None)[0] for _ in range(3000)}
        self.assertLess(min(picked), 3)

    def test_distinct_entries(self) -> None:
        """Many fingers are one member."""
        for number in range(150, 160):
            self.table.put(number, member(number % 3))
        self.assertEqual(len(self.table), 3)
        self.assertEqual(self.table.members(), list(members([0, 1, 2])))

    def test_a_new_one_replaces_the_old(self) -> None:
        """One member for each distance."""
        self.table.put(159, member(1))
        self.table.put(159, member(2))
        self.assertEqual(self.table.members(), [member(2)])

    def test_a_dead_host_goes(self) -> None:
        """With all its entries."""
        self.table.put(158, member(1))
        self.table.put(157, member(1))
        self.table.put(159, member(2))
        self.table.drop_host(fp_of(1))
        self.assertEqual(self.table.members(), [member(2)])


class RefreshTests(SynchronousTestCase):
    """One a round, by a lookup."""

    def test_they_fill_in_a_ring_that_is_longer_than_the_lists(self) -> None:
        """And each is the owner of its place."""
        net = RingNet(knows_all=False)
        net.ring(16)
        net.run(600)
        for machine in net.running():
            place = machine.ring.positions[0]
            self.assertGreater(len(place.fingers), 1, machine.name)
            for number, finger in place.fingers._fingers.items():
                key = (place.id + (1 << number)) % ids.RING_SIZE
                self.assertEqual(finger.fp, net.machines[net.owner_of(key)].fp)

    def test_a_list_that_holds_the_whole_ring_needs_none(self) -> None:
        """Nothing is looked up for it."""
        net = RingNet(list_size=16)
        net.ring(5)
        net.run(300)
        self.assertEqual([len(machine.ring.positions[0].fingers) for machine in net.running()], [0] * 5)

    def test_the_dead_are_dropped(self) -> None:
        """From fingers as from lists, once they do not answer."""
        net = RingNet(knows_all=False)
        names = net.ring(12)
        net.run(300)
        gone = net.machines[names[5]]
        gone.crash()
        self.assertTrue(net.until(net.is_ideal, 60))
        net.run(1200)
        for machine in net.running():
            fingers = machine.ring.positions[0].fingers.members()
            self.assertFalse([finger for finger in fingers if finger.fp == gone.fp], machine.name)
