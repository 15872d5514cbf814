"""Copies that follow the ring are sent once, and not by everybody who has them."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from peerstore.items import ALL_KINDS
from tests.support.rings import Ring
from tests.support.things import a_chunk

CHUNKS = [a_chunk(number, 40_000) for number in range(150)]
#: Bytes sent over bytes that some host lacked.
MOST = 1.1


class CostTests(SynchronousTestCase):
    """Chunks on a ring, and what went over the wire."""

    def setUp(self) -> None:
        self.ring = Ring("abcdef", virtual_nodes=3)
        self.world = self.ring.world
        gateway = self.world.client("somebody", ["a", "b", "c"])
        outcomes = self.world.wait(gateway.put_chunks(CHUNKS, 60.0), 120.0)
        self.assertTrue(all(outcome.certain for outcome in outcomes))
        self.settle()
        self.sent = 0
        arrived = self.world.network.arrived

        def counted(a: str, b: str, data: bytes) -> None:
            self.sent += len(data)
            arrived(a, b, data)

        self.world.network.arrived = counted  # type: ignore[method-assign]

    def held(self, name: str) -> int:
        """Bytes of chunks on a host."""
        store: Any = self.ring.node(name).store
        keys, _ = self.world.wait(store.range_list(bytes(20), bytes(20), ALL_KINDS, None, 4096), 10.0)
        items = self.world.wait(store.get(keys), 10.0)
        return sum(item.size for item in items)

    def settle(self) -> None:
        """Until everything is on exactly three hosts."""
        whole = 3 * sum(chunk.size for chunk in CHUNKS)
        for _ in range(120):
            self.world.run(1.0)
            if sum(self.held(name) for name in self.ring.names()) == whole:
                return
        self.fail("the copies did not come to rest")

    def test_a_loss(self) -> None:
        """What a host had that is gone for good is sent to others once."""
        lost = self.held("d")
        self.world.hosts["d"].crash()
        self.settle()
        self.assertLess(self.sent, MOST * lost)

    def test_a_new_host(self) -> None:
        """What a new host is to hold is sent to it once."""
        self.world.start("g", "a")
        self.settle()
        self.assertLess(self.sent, MOST * self.held("g"))

    def test_a_loss_is_seen_to_when_the_grace_is_over(self) -> None:
        """Others begin as soon as a host has been away for too long, and not
        when they next look."""
        self.world.hosts["d"].crash()
        began = self.world.clock.seconds()
        self.settle()
        self.assertLess(self.world.clock.seconds() - began, self.world.repair_grace + 10.0)
