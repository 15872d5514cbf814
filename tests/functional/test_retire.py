"""``peerstore node retire``: real nodes that go for good."""

from __future__ import annotations

import json
import random

from peerstore.storage.listing import list_keys
from tests.support.commands import CommandTestCase, Person, tree
from tests.support.processes import NodeProcess, until


class RetireTests(CommandTestCase):
    """Nodes, a backup, and one node fewer."""

    timeout = 240

    async def backed_up(self, nodes: int, *extra: str) -> Person:
        """A ring, and a folder in it."""
        await self.ring(nodes, *extra)
        person = self.person()
        source = self.folder / "mine"
        (source / "sub").mkdir(parents=True)
        for number in range(30):
            (source / "sub" / str(number)).write_bytes(random.Random(number).randbytes(number * 9000))
        person.does("backup", str(source), "--as", "mine")
        return person

    def check_back(self, person: Person) -> None:
        """Everything comes back."""
        target = self.folder / f"back-{random.random()}"
        person.does("restore", "mine", "--to", str(target))
        self.assertEqual(tree(target), tree(self.folder / "mine"))

    def held(self, node: NodeProcess) -> set[object]:
        """The keys on a node's disk."""
        return {(key.ring_id, key.element) for key in list_keys(node.data)}

    async def test_one_after_the_other(self) -> None:
        """Of four nodes two go, each when others have all that it held; what
        is left restores everything.  A retired node does not come back."""
        person = await self.backed_up(4)
        for gone in (self.nodes[1], self.nodes[3]):
            mine = self.held(gone)
            said = person.run("node", "retire", str(gone.data), peers=[])
            self.assertEqual(said.status, 0, said.err)
            self.assertIn("The node is retired", said.out)
            assert gone.process is not None
            self.assertEqual(gone.process.wait(20), 0)
            self.assertIn("it is retired", gone.text())
            left = [node for node in self.nodes if node.process is not None and node.process.poll() is None]
            kept = [self.held(node) for node in left]
            for key in mine:
                self.assertGreaterEqual(sum(key in theirs for theirs in kept), min(3, len(left)))
            person.peers = [f"127.0.0.1:{left[0].port}"]
            self.check_back(person)
        gone.start()
        assert gone.process is not None
        await until("its end", lambda: gone.process is None or gone.process.poll() is not None)
        self.assertEqual(gone.process.wait(), 1)
        self.assertIn("was retired from its ring", gone.text())

    async def test_the_last_one(self) -> None:
        """A node that is alone is not retired: what it holds would be lost."""
        person = await self.backed_up(1)
        said = person.run("node", "retire", str(self.nodes[0].data), peers=[])
        self.assertEqual(said.status, 2, said.out)
        self.assertIn("would be lost", said.err)
        self.check_back(person)

    async def test_a_lost_one(self) -> None:
        """Two of three nodes die for good: the newest is not known until they
        are declared lost; then what is left is all there is."""
        person = await self.backed_up(3)
        kept, *lost = self.nodes
        for node in lost:
            node.kill9()
        person.peers = [f"127.0.0.1:{kept.port}"]
        said = person.run("get", "mine/sub/7", "--to", "-")
        self.assertIn("may not be the newest", said.err)
        said = person.run("node", "retire", str(kept.data), "--lost", kept.key.fp.hex(), peers=[])
        self.assertEqual(said.status, 2)
        self.assertIn("is alive", said.err)
        for node in lost:
            said = person.run("--json", "node", "retire", str(kept.data), "--lost", node.key.fp.hex()[:12], peers=[])
            self.assertEqual((said.status, json.loads(said.out)), (0, {"done": True}), said.err)
        await until("certainty", lambda: not person.run("get", "mine/sub/7", "--to", "-").err, 30.0, 0.5)
        self.check_back(person)

    def test_nobody_to_ask(self) -> None:
        """A folder without a running node, and none at all."""
        person = self.person()
        node = self.node()
        said = person.run("node", "retire", str(node.data), peers=[])
        self.assertEqual(said.status, 3)
        self.assertIn("No node runs on", said.err)
        said = person.run("node", "retire", str(self.folder / "none"), peers=[])
        self.assertEqual(said.status, 2)
