"""A ring of real nodes that begins as one machine and gets more, one after the other."""

from __future__ import annotations

import random
from pathlib import Path

from tests.support.churn import copies
from tests.support.commands import CommandTestCase
from tests.support.processes import until

COPIES = 3
NODES = 5
SETTINGS = ("--virtual-nodes", "2")


class GrowingTests(CommandTestCase):
    """What was backed up to one machine ends on three."""

    timeout = 300

    def written(self, number: int) -> Path:
        """A folder of small and larger files."""
        source = self.folder / f"source-{number}"
        source.mkdir()
        rng = random.Random(number)
        for at in range(12):
            (source / f"{at}.bin").write_bytes(rng.randbytes(rng.choice((0, 300, 50_000, 700_000))))
        return source

    async def copied(self) -> None:
        """Wait until everything is on k disks, or on all, and on no more."""
        wanted = min(COPIES, len(self.nodes))

        def at_rest() -> bool:
            return set(copies(self.nodes).values()) == {wanted}

        await until(f"exactly {wanted} copies of everything", at_rest, 60.0, 0.2)

    async def test_from_one_to_five(self) -> None:
        """At each size every file that was ever backed up is on exactly three
        disks, or on all there are, and comes back through the newest node."""
        client = await self.ring(1, *SETTINGS)
        person = self.person()
        sources = []
        for number in range(NODES):
            if number:
                node = self.node(join=[self.nodes[0].port], extra=SETTINGS)
                node.start()
                await node.ready()
                await self.whole(client)
            person.peers = [f"127.0.0.1:{self.nodes[-1].port}"]
            sources.append(self.written(number))
            person.does("backup", str(sources[-1]))
            await self.copied()
            for source in sources:
                target = self.folder / f"back-{number}" / source.name
                target.parent.mkdir(exist_ok=True)
                person.does("restore", source.name, "--to", str(target))
                self.assert_same_tree(source, target)
