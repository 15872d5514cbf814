"""Real nodes: any one is killed, one joins, one starts alone; and what each
option of a node does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from peerstore.errors import Busy, PeerStoreError, RemoteError
from peerstore.items import Item, Kind
from peerstore.wire.bodies import GetChunks, GetNeighbours, Neighbours, Ping
from tests.support.processes import NodeProcess, ProcessTestCase, RingClient, until
from tests.support.rings import items_named
from tests.support.things import OWNER, a_chain, a_chunk, a_head, log_id

#: Enough for a share on each host, few enough that rings form quickly.
FEW = ("--virtual-nodes", "3")


class Work:
    """A client that puts and gets without a pause until it is told to stop."""

    def __init__(self, client: RingClient) -> None:
        self.gateway = client.gateway
        self.certain: list[Item] = []
        self.entries = a_chain(0)
        self.number = 0
        self.stopping = False
        self.missed: list[str] = []

    async def run(self) -> None:
        """Put, and get back what was put a while ago."""
        while not self.stopping:
            self.number += 1
            chunks = [a_chunk(10 * self.number + place, 5000) for place in range(5)]
            heads = [a_head(10 * self.number + place) for place in range(3)]
            entry = a_chain(1, start=self.entries)
            outcomes = await self.gateway.put_chunks(chunks)
            outcomes += await self.gateway.put_heads(heads, entry)
            if not all(outcome.certain for outcome in outcomes):
                self.missed.append(f"put {self.number}: {[outcome.why for outcome in outcomes if outcome.why]}")
                return
            self.entries += entry
            self.certain += [*chunks, *heads]
            await self.check(self.certain[-80:-40])

    async def check(self, items: Sequence[Item]) -> None:
        """These come back as they were put."""
        chunks = [item for item in items if item.key.kind is Kind.CHUNK]
        found = await self.gateway.get_chunks([item.key.element for item in chunks])
        self.missed += [f"chunk {item.key.element.hex()[:8]}" for item in chunks if found.get(item.key.element) != item]
        for head in [item for item in items if item.key.kind is Kind.HEAD]:
            read = await self.gateway.get_heads(head.key.ring_id, OWNER)
            if read.items != (head,) or not read.complete:
                self.missed.append(f"head {head.key.element.hex()[:8]}: {len(read.items)}, {read.complete}")

    async def check_all(self) -> None:
        """Everything that was ever certain, and the whole log."""
        await self.check(self.certain)
        read = await self.gateway.read_log(log_id(), OWNER, {}, 1024)
        if list(read.items) != self.entries or not read.complete:
            self.missed.append(f"log: {len(read.items)} of {len(self.entries)}, {read.complete}")


class FiveNodesTests(ProcessTestCase):
    """A ring of five, under way."""

    timeout = 240

    async def test_any_one_is_killed_and_one_joins(self) -> None:
        """Each in turn, while a client puts and gets: nothing certain is missed;
        a sixth has its share; each comes back with its folder."""
        client = await self.ring(5, *FEW)
        for victim in list(self.nodes):
            work = Work(client)
            work.number = 1000 * self.nodes.index(victim)
            work.entries = list(self.log_so_far)
            running = Deferred.fromCoroutine(work.run())
            await until("some work", lambda work=work: len(work.certain) >= 40 or work.missed)
            victim.kill9()
            done = len(work.certain)
            await until("more work", lambda work=work, done=done: len(work.certain) >= done + 60 or work.missed)
            work.stopping = True
            await running
            await work.check_all()
            self.assertEqual(work.missed, [], f"node {self.nodes.index(victim)} was killed")
            self.log_so_far = work.entries
            self.everything += work.certain
            victim.start()
            await victim.ready()
            await self.whole(client)
        await self.sixth(client)

    def setUp(self) -> None:
        super().setUp()
        self.log_so_far: list[Item] = []
        self.everything: list[Item] = []

    async def sixth(self, client: RingClient) -> None:
        """It joins, gets what is its own, and answers for it."""
        node = self.node(join=[self.nodes[0].port], extra=FEW)
        node.start()
        await node.ready()
        await self.whole(client)
        chunks = [item for item in self.everything if item.key.kind is Kind.CHUNK]
        # Of six hosts three have each thing.
        await until("its share", lambda: Deferred.fromCoroutine(self.share(client, node, chunks)), 60.0, 0.3)
        work = Work(self.client(node))
        work.certain, work.entries = self.everything[::7], self.log_so_far
        await work.check_all()
        self.assertEqual(work.missed, [])

    async def share(self, client: RingClient, node: NodeProcess, chunks: Sequence[Item]) -> bool:
        """Whether a node has all those chunks of which it is one of three holders."""
        mine = []
        for item in chunks:
            located = await client.lookup.lookup(int.from_bytes(item.key.ring_id, "big"))
            holders = list(dict.fromkeys(member.fp for member in located.members))[:3]
            if node.key.fp in holders:
                mine.append(item.key.element)
        if not mine:
            return False
        answer = await client.pool.call(node.address, "get-chunks", GetChunks(tuple(mine[:1000])), 10.0)
        return len(answer.items) == len(mine)


class AloneTests(ProcessTestCase):
    """A node whose bootstrap peer is down."""

    async def test_starts_alone_and_joins_later(self) -> None:
        """It says so, takes things meanwhile, and brings them along."""
        first = self.node(extra=FEW)
        second = self.node(join=[first.port], extra=FEW)
        second.start()
        await second.ready()
        self.assertIn(f"nobody answers at tcp:127.0.0.1:{first.port}; this node starts alone", second.text())
        chunk = a_chunk(1)
        self.assertTrue((await self.client(second).gateway.put_chunks([chunk]))[0].certain)
        first.start()
        await first.ready()
        client = self.client()
        await self.whole(client)
        found = await self.client(first).gateway.get_chunks([chunk.key.element])
        self.assertEqual(found, items_named([chunk]))


class OptionTests(ProcessTestCase):
    """What an option says is what happens."""

    async def neighbours(self, node: NodeProcess, index: int) -> Neighbours:
        """One position's neighbours."""
        found: Neighbours = await self.client(node).pool.call(node.address, "get-neighbours", GetNeighbours(index), 5.0)
        return found

    async def test_copies_and_virtual_nodes(self) -> None:
        """Two copies on three hosts of two positions; a joiner that says nothing follows."""
        first = self.node(extra=("--copies", "2", "--virtual-nodes", "2"))
        first.start()
        await first.ready()
        for _ in range(2):
            self.node(join=[first.port]).start()
        for node in self.nodes:
            await node.ready()
        client = self.client()
        await self.whole(client)
        outcomes = await client.gateway.put_chunks([a_chunk(number) for number in range(20)])
        self.assertEqual({len(outcome.holders) for outcome in outcomes}, {2})
        self.assertEqual({outcome.needed for outcome in outcomes}, {2})
        for node in self.nodes:
            await self.neighbours(node, 1)
            with self.assertRaises(RemoteError):
                await self.neighbours(node, 2)

    async def test_workers_and_queue(self) -> None:
        """Two at a time and three that wait; the others are told BUSY, and a
        patient client gets everything."""
        node = self.node(extra=("--workers", "2", "--queue", "3"))
        node.start()
        await node.ready()
        client = self.client(node)
        chunks = [a_chunk(number, 100_000) for number in range(20)]
        self.assertTrue(all(out.certain for out in await client.gateway.put_chunks(chunks)))
        body = GetChunks(tuple(chunk.key.element for chunk in chunks))
        asked = [client.pool.call(node.address, "get-chunks", body, 20.0) for _ in range(30)]
        told = await gatherResults([call.addCallbacks(lambda _: "answered", _why) for call in asked])
        self.assertEqual(set(told), {"answered", "busy"})
        self.assertGreaterEqual(told.count("answered"), 5)
        self.assertLess(told.count("answered"), 30)
        found = await client.gateway.get_chunks([chunk.key.element for chunk in chunks])
        self.assertEqual(found, items_named(chunks))

    async def test_advertise(self) -> None:
        """Others are told that address, and reach the node there."""
        first = self.node(extra=FEW)
        first.extra += ["--advertise", f"tcp:localhost:{first.port}"]
        first.start()
        await first.ready()
        second = self.node(join=[first.port], extra=FEW)
        second.start()
        await second.ready()
        client = self.client(second)
        await self.whole(client)
        found = await self.neighbours(second, 0)
        told = {ref.address for ref in found.successors if ref.fp == first.key.fp}
        self.assertEqual(told, {f"tcp:localhost:{first.port}"})
        peer = await client.pool.peer(f"tcp:localhost:{first.port}", first.key.fp)
        await peer.call("ping", Ping())


def _why(failure: Any) -> str:
    failure.trap(PeerStoreError)
    return "busy" if failure.check(Busy) else str(failure.value)
