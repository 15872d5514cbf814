"""``peerstore ring`` and ``peerstore trace`` on a ring of five real nodes, some
of them ill."""

from __future__ import annotations

import json
import os
import random
import signal
from typing import Any

from tests.support.commands import CommandTestCase, Person, Said
from tests.support.processes import NodeProcess, free_port, until

WIDE = 80


class LookTests(CommandTestCase):
    """What a person sees, and what a program does."""

    timeout = 240

    def text(self, said: Said, status: int) -> list[str]:
        """The lines of a command that ended with a status; each fits."""
        self.assertEqual(said.status, status, said.out + said.err)
        for line in said.out.splitlines():
            self.assertLessEqual(len(line), WIDE, line)
        return said.out.splitlines()

    def json(self, me: Person, status: int, *arguments: str) -> Any:
        """The document of a command that ended with a status."""
        said = me.run("--json", *arguments)
        self.assertEqual(said.status, status, said.out + said.err)
        return json.loads(said.out)

    def row(self, lines: list[str], node: NodeProcess) -> str:
        """The row of one node."""
        (row,) = [line for line in lines if node.key.fp.hex()[:8] in line]
        return row

    async def left_out(self, me: Person, node: NodeProcess) -> None:
        """Wait until the others have taken notice that a node is gone."""

        def gone() -> bool:
            document = self.json(me, 1, "ring")
            (host,) = [host for host in document["hosts"] if host["fingerprint"] == node.key.fp.hex()]
            return document["ideal"] and not host["listed_by"]

        await until("a ring without it", gone, 60)

    async def synced(self, me: Person) -> None:
        """Wait until all nodes know all that they are to hold."""

        def settled() -> bool:
            said = me.run("--json", "ring")
            document = json.loads(said.out)
            return said.status == 0 and document["ideal"] and not any(host["syncing"] for host in document["hosts"])

        await until("a ring in which all are synced", settled, 60)

    async def test_a_ring_in_health_and_sickness(self) -> None:
        """Whole; with one node killed; and with one more that is stopped."""
        await self.small_ring(5)
        me = self.person(nodes=self.nodes[:1])
        await self.synced(me)
        lines = self.text(me.run("ring", "--ranges"), 0)
        self.assertEqual(lines[0], "5 hosts with 2 positions each; 3 of them keep each thing.")
        for node in self.nodes:
            self.assertTrue(self.row(lines, node).endswith("  synced"), lines)
        self.assertIn("10 positions, in perfect order.", lines[-1])
        document = self.json(me, 0, "ring")
        self.assertTrue(document["complete"])
        self.assertEqual({host["address"] for host in document["hosts"]}, {node.address for node in self.nodes})
        self.assertEqual({len(set(one["keepers"])) for one in document["ranges"]}, {3})
        self.assertAlmostEqual(sum(one["share"] for one in document["ranges"]), 1.0, 4)

        killed, stopped = self.nodes[3], self.nodes[1]
        killed.kill9()
        await self.left_out(me, killed)
        lines = self.text(me.run("ring"), 1)
        self.assertTrue(self.row(lines, killed).endswith("  does not answer"), lines)
        self.assertTrue(any("the others have left it out" in line for line in lines), lines)
        self.assertIn("8 positions, in perfect order.", lines[-1])

        assert stopped.process is not None
        os.kill(stopped.process.pid, signal.SIGSTOP)
        try:
            lines = self.text(me.run("ring", peers=[f"127.0.0.1:{stopped.port}", f"127.0.0.1:{self.nodes[0].port}"]), 1)
        finally:
            os.kill(stopped.process.pid, signal.SIGCONT)
        for node in (killed, stopped):
            self.assertTrue(self.row(lines, node).endswith("  does not answer"), lines)

    async def test_the_way_to_a_file(self) -> None:
        """Step by step, with who has it; as a path, as an id, and with a
        keeper that is gone."""
        await self.small_ring(5)
        me = self.person(nodes=self.nodes[:1])
        await self.synced(me)
        papers = self.folder / "papers"
        (papers / "sub").mkdir(parents=True)
        # Where it is cut depends on the key; over 4 MiB it is cut with any.
        (papers / "sub" / "film").write_bytes(random.Random(1).randbytes(9_000_000))
        (papers / "note").write_text("text\n")
        me.does("backup", str(papers))

        def whole() -> bool:
            # The last copies of chunks may still be on their way.
            return me.run("trace", "papers/sub/film").status == 0

        await until("all copies", whole, 60)
        lines = self.text(me.run("trace", "papers/sub/film"), 0)
        self.assertEqual(lines[0], "papers/sub/film")
        self.assertIn(self.nodes[0].key.fp.hex()[:8], lines[4])
        self.assertTrue(any("claims" in line for line in lines), lines)
        self.assertEqual(sum(line.endswith("  has it") for line in lines), 3)
        self.assertIn("Each of them has all of it.", lines)
        self.assertRegex(lines[-1], r"^Its content: 8\.6 MiB in \d+ chunks, each on all of its keepers\.$")
        local = self.json(me, 0, "trace", str(papers / "sub" / "film"))
        document = self.json(me, 0, "trace", "papers/sub/film")
        self.assertEqual((local["key"], local["version"]), (document["key"], document["version"]))
        self.assertEqual(document["hops"][-1]["fingerprint"], document["owner"]["fingerprint"])
        self.assertIn("kept in the version itself", me.does("trace", "papers/note"))
        self.text(me.run("trace", "papers"), 0)

        somebody = Person(self.folder / "somebody", [f"127.0.0.1:{self.nodes[4].port}"])
        by_id = self.json(somebody, 0, "trace", document["key"])
        self.assertEqual(by_id["owner"], document["owner"])
        chunk = document["chunks"][0]["hash"]
        lines = self.text(somebody.run("trace", chunk), 0)
        self.assertEqual(sum(line.endswith("  has 1 chunk") for line in lines), 3)
        self.assertEqual(self.json(somebody, 4, "trace", "0" * 40)["copies"], 3)
        self.assertEqual(me.run("trace", "papers/none").status, 4)
        self.assertEqual(me.run("trace", "0" * 40 + "/").status, 4)

        holders = [one["fingerprint"] for one in document["holders"][:3]]
        keeper = next(node for node in self.nodes[1:] if node.key.fp.hex() in holders[1:])
        assert keeper.process is not None
        os.kill(keeper.process.pid, signal.SIGSTOP)
        try:
            said = me.run("trace", document["key"])
        finally:
            os.kill(keeper.process.pid, signal.SIGCONT)
        lines = self.text(said, 1)
        self.assertTrue(self.row(lines[6:], keeper).endswith("  does not answer"), lines)

    async def test_nobody_there(self) -> None:
        """Status 3, in two lines."""
        me = Person(self.folder / "home", [f"127.0.0.1:{free_port()}"])
        for command in (("ring",), ("trace", "0" * 40)):
            said = me.run(*command)
            self.assertEqual((said.status, len(said.errors), said.out), (3, 2, ""), said)
