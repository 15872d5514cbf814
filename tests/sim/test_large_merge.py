"""Two large rings become one: the ring's own code, in virtual time."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.ring_net import RingNet


class LargeMergeTests(SynchronousTestCase):
    """A hundred and fifty hosts on each side, which never heard of each other."""

    def check(self, knows_all: bool) -> None:
        """One newcomer that is told of both is enough."""
        net = RingNet(list_size=8, knows_all=knows_all)
        for prefix in "ab":
            names = net.frozen(150, prefix=prefix)
            net.thaw(names)
            net.run(30)
            self.assertTrue(net.is_ideal(names))
        net.start("new", "a0", "b0")
        self.assertTrue(net.until(net.is_ideal, 120, 1.0), net.missing())
        self.assertEqual(len(net.running()), 301)

    def test_with_the_table_of_all_hosts(self) -> None:
        """Which tells everybody at once where they belong."""
        self.check(True)

    def test_by_lists_and_probes_alone(self) -> None:
        """By Zave's steps, and looking for others."""
        self.check(False)
