"""A ring at rest is quiet, and wakes up at once."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from peerstore.sim.world import World


class RestTests(SynchronousTestCase):
    """What upkeep costs when nothing happens."""

    def setUp(self) -> None:
        """Eight hosts that have been a ring for two minutes."""
        self.world = World(5)
        self.world.start("host-0")
        for number in range(1, 8):
            self.world.run(0.5)
            self.world.start(f"host-{number}", "host-0")
        self.assertIsNotNone(self.world.until_ideal(60.0))
        self.world.run(120.0)

    def test_a_quiet_ring_backs_off(self) -> None:
        """Where nothing changes, hosts write less than twice a second each."""
        before = self.world.trace.events
        self.world.run(100.0)
        self.assertLess(self.world.trace.events - before, 8 * 100 * 2)

    def test_a_loss_wakes_it_up(self) -> None:
        """After any quiet time a crash is mended within seconds."""
        self.world.hosts["host-3"].crash()
        seconds = self.world.until_ideal(60.0)
        self.assertIsNotNone(seconds)

    def test_a_host_that_was_gone_for_long_is_taken_back_at_once(self) -> None:
        """Nobody waits out a back-off with which he dialled the dead: the
        host that greets us is there."""
        self.world.hosts["host-3"].crash()
        self.world.run(100.0)
        self.world.start("host-3", "host-0")
        seconds = self.world.until_ideal(60.0)
        assert seconds is not None
        self.assertLess(seconds, 10.0)
