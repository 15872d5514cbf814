"""kill -9 of a node in the middle of 2,000 puts over the wire."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import deque
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from peerstore.items import Item, ItemKey, Kind
from peerstore.wire.bodies import GetChunks, GetHeads, ReadSince
from tests.support.processes import NodeProcess, ProcessTestCase, RingClient
from tests.support.things import OWNER, a_chain, a_chunk, a_head, log_id

COUNT = 2000
WINDOW = 16
#: Chunks from 64 KiB on are files of their own.
LARGE = 80_000
CHAIN = a_chain(COUNT // 4)


def numbered(number: int) -> Item:
    """Of four items one is a large chunk, one a small, one a head, one an entry."""
    kind, count = number % 4, number // 4
    if kind < 2:
        return a_chunk(number, (LARGE, 700)[kind])
    return a_head(number, data=random.Random(number).randbytes(900)) if kind == 2 else CHAIN[count]


ITEMS = [numbered(number) for number in range(COUNT)]
BY_KEY = {item.key: item for item in ITEMS}


class Puts:
    """Puts that go on, some at a time, until all are done or the node is killed.

    :param kill_after: so many acknowledgements from now on; None: never.
    """

    def __init__(self, client: RingClient, node: NodeProcess, done: set[ItemKey], kill_after: int | None) -> None:
        self.client = client
        self.node = node
        self.done = done
        self.left = kill_after
        self.killed = False
        open_items = [item for item in ITEMS if item.key not in done]
        self.things = deque(item for item in open_items if item.key.kind is not Kind.LOG)
        self.entries = deque(item for item in open_items if item.key.kind is Kind.LOG)

    async def run(self) -> None:
        """Put until the end."""
        workers = [self._each(self.things, 1) for _ in range(WINDOW)] + [self._each(self.entries, 5)]
        await gatherResults([Deferred.fromCoroutine(worker) for worker in workers])

    async def _each(self, items: deque[Item], count: int) -> None:
        gateway = self.client.gateway
        while items and not self.killed:
            some = [items.popleft() for _ in range(min(count, len(items)))]
            put = {Kind.CHUNK: gateway.put_chunks, Kind.LOG: gateway.append}.get(some[0].key.kind)
            outcomes = await (put(some, 0.0) if put is not None else gateway.put_heads(some, (), 0.0))
            for item, outcome in zip(some, outcomes, strict=True):
                if outcome.certain:
                    self._acknowledged(item.key)

    def _acknowledged(self, key: ItemKey) -> None:
        self.done.add(key)
        if self.left is not None and not self.killed:
            self.left -= 1
            if self.left <= 0:
                self.killed = True
                self.node.kill9()


class KillTests(ProcessTestCase):
    """One node, killed again and again on one folder."""

    async def started(self, node: NodeProcess) -> RingClient:
        """The node, up again, and a client that has not met it before."""
        node.start()
        await node.ready()
        return self.client(node)

    def listed(self, node: NodeProcess) -> set[ItemKey]:
        """What ``peerstore node keys`` says."""
        command = [sys.executable, "-m", "peerstore.cli", "--json", "node", "keys", str(node.data)]
        result = subprocess.run(command, capture_output=True, check=False, timeout=60)
        self.assertEqual(result.returncode, 0, result.stderr)
        rows = json.loads(result.stdout)
        for row in rows:
            self.assertGreater(row["bytes"], 0)
        return {
            ItemKey(
                bytes.fromhex(row["ring_id"]),
                bytes.fromhex(row["owner"]),
                Kind[row["kind"].upper()],
                bytes.fromhex(row["element"]),
            )
            for row in rows
        }

    async def served(self, client: RingClient, node: NodeProcess) -> dict[ItemKey, Item]:
        """All that the node itself gives, past every check of a client."""
        found: dict[ItemKey, Item] = {}

        async def ask(method: str, body: Any) -> Any:
            answer = await client.pool.call(node.address, method, body, 30.0)
            items = answer.entries if method == "read-since" else answer.items
            found.update((item.key, item) for item in items)
            return answer

        hashes = [key.element for key in BY_KEY if key.kind is Kind.CHUNK]
        for at in range(0, len(hashes), 40):
            # 40 of them are below what one answer holds.
            await ask("get-chunks", GetChunks(tuple(hashes[at : at + 40])))
        heads = [key for key in BY_KEY if key.kind is Kind.HEAD]
        for at in range(0, len(heads), 16):
            asked = [GetHeads(key.ring_id, key.owner, (key.element,)) for key in heads[at : at + 16]]
            await gatherResults([Deferred.fromCoroutine(ask("get-heads", body)) for body in asked])
        await ask("read-since", ReadSince(log_id(), OWNER, (), 1024))
        return found

    async def check(self, client: RingClient, node: NodeProcess, done: set[ItemKey]) -> None:
        """All that was acknowledged is there, and whatever is there is whole."""
        found = await self.served(client, node)
        self.assertEqual([key for key in done if key not in found], [])
        self.assertEqual([key for key, item in found.items() if item != BY_KEY[key]], [])
        # The list of a node that runs, and of its disk, are what it serves.
        self.assertEqual(self.listed(node), set(found))
        chunks = [path for path in (node.data / "chunks").rglob("*") if path.is_file()]
        self.assertEqual(len(chunks), sum(len(item.data) >= LARGE for item in found.values()))
        self.assertEqual(os.listdir(node.data / "quarantine"), [])

    async def test_killed_three_times(self) -> None:
        """At seeded moments; each time everything that was acknowledged is
        there after a restart, and in the end all 2,000 are."""
        node = self.node()
        done: set[ItemKey] = set()
        rng = random.Random(20)
        for _ in range(3):
            client = await self.started(node)
            puts = Puts(client, node, done, rng.randrange(50, 500))
            await puts.run()
            self.assertTrue(puts.killed)
            self.assertGreater(len(puts.things), 0)
            # Killed: its list is read from the disk as it lies there.
            self.assertLessEqual(done, self.listed(node))
            client = await self.started(node)
            await self.check(client, node, done)
            await self.check_read(client, done)
            node.kill9()
        client = await self.started(node)
        await Puts(client, node, done, None).run()
        self.assertEqual(done, set(BY_KEY))
        await self.check(client, node, done)
        node.stop()
        self.assertEqual(self.listed(node), set(BY_KEY))

    async def check_read(self, client: RingClient, done: set[ItemKey]) -> None:
        """A client's own reads find it, too."""
        chunks = [key.element for key in done if key.kind is Kind.CHUNK]
        self.assertEqual(set(await client.gateway.get_chunks(chunks)), set(chunks))
        log = await client.gateway.read_log(log_id(), OWNER, {}, 1024)
        self.assertLessEqual({key for key in done if key.kind is Kind.LOG}, {item.key for item in log.items})
        self.assertTrue(log.complete)
        for key in [key for key in done if key.kind is Kind.HEAD][:20]:
            read = await client.gateway.get_heads(key.ring_id, OWNER)
            self.assertEqual([item.key for item in read.items], [key])

    def test_keys_of_what_is_no_data_folder(self) -> None:
        """One line, and a status that is not 0."""
        command = [sys.executable, "-m", "peerstore.cli", "node", "keys", str(self.folder / "nothing")]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        self.assertNotEqual(result.returncode, 0)
        self.assertNotIn("Traceback", result.stderr)
        self.assertIn("nothing", result.stderr)
