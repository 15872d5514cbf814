"""Disks that rot under real nodes: never served, found, and mended.

Bits are flipped while a node is stopped: in a chunk's file, in a small chunk,
a head and a log entry inside SQLite.  Clients of the command line read all the
while.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from peerstore.items import ItemKey, Kind
from peerstore.storage.listing import list_keys, list_lost
from peerstore.wire.bodies import Fetch
from tests.support.commands import CommandTestCase, Person
from tests.support.processes import NodeProcess, RingClient, until

#: A pass over everything takes as long as reading it does.
FAST = ("--scrub-rate", "1000000000", "--scrub-days", "0")
#: The first look is a week away; only reading finds anything.
NEVER = ("--scrub-rate", "0")


def flipped(raw: bytes) -> bytes:
    """The same with one bit changed, in the middle."""
    changed = bytearray(raw)
    changed[len(raw) // 2] ^= 0x04
    return bytes(changed)


class ScrubCase(CommandTestCase):
    """A ring with a person's files in it."""

    timeout = 240

    async def filled(self, count: int, *extra: str) -> tuple[RingClient, Person, Path]:
        """A ring, a person, and the folder that they have stored."""
        client = await self.ring(count, "--virtual-nodes", "2", *extra)
        person = self.person()
        source = self.folder / "papers"
        source.mkdir()
        rng = random.Random(5)
        # Large files are chunks of their own; those up to 64 KiB are in the head.
        (source / "large.bin").write_bytes(rng.randbytes(1_500_000))
        (source / "middle.bin").write_bytes(b"the same again and again, so that it is packed small\n" * 2000)
        for number in range(5):
            (source / f"small-{number}.txt").write_bytes(b"a note, number %d\n" % number * 50)
        await self.does(person, "backup", str(source))
        await until("all copies", lambda: self.settled(count))
        return client, person, source

    def settled(self, count: int) -> bool:
        """Whether all nodes hold the same (rings of up to three)."""
        held = [sorted(self.keys(node)) for node in self.nodes]
        return bool(held[0]) and all(one == held[0] for one in held[:count])

    def keys(self, node: NodeProcess) -> list[ItemKey]:
        """What a node holds."""
        return [ItemKey(k.ring_id, k.owner, k.kind, k.element) for k in list_keys(node.data)]

    def does(self, person: Person, *words: str) -> Deferred[str]:
        """A command, beside the reactor."""
        result: Deferred[str] = deferToThread(person.does, *words)
        return result

    async def reads_right(self, person: Person, source: Path, name: str) -> None:
        """Everything comes back byte for byte."""
        target = self.folder / name
        await self.does(person, "restore", "papers", "--to", str(target))
        self.assert_same_tree(source, target)
        shutil.rmtree(target)

    # -- rot -------------------------------------------------------------------------

    def a_file(self, node: NodeProcess) -> ItemKey:
        """Flip a bit in a chunk's file."""
        path = max((node.data / "chunks").rglob("*"), key=lambda one: one.stat().st_size * one.is_file())
        digest, owner = path.name.split(".")
        path.write_bytes(flipped(path.read_bytes()))
        element = bytes.fromhex(digest)
        return ItemKey(element[:20], bytes.fromhex(owner), Kind.CHUNK, element)

    def a_row(self, node: NodeProcess, kind: Kind, column: str) -> ItemKey:
        """Flip a bit in what a row of that kind holds."""
        db = sqlite3.connect(node.data / "node.sqlite")
        try:
            ring_id, owner, element, number, raw = db.execute(
                f"SELECT ring_id, owner, element, content.id, {column} FROM item"
                f" JOIN content ON content.id = content WHERE kind = ? AND length({column}) > 0"
                " ORDER BY length(data) DESC LIMIT 1",
                (int(kind),),
            ).fetchone()
            db.execute(f"UPDATE content SET {column} = ? WHERE id = ?", (flipped(raw), number))
            db.commit()
        finally:
            db.close()
        return ItemKey(ring_id, owner, kind, element)

    def rot(self, node: NodeProcess) -> list[ItemKey]:
        """One bit in each kind of thing."""
        return [
            self.a_file(node),
            self.a_row(node, Kind.CHUNK, "data"),
            self.a_row(node, Kind.HEAD, "data"),
            self.a_row(node, Kind.LOG, "statement"),
        ]

    def begin(self, node: NodeProcess, *extra: str) -> None:
        """Start it with these options from now on."""
        node.extra = ["--virtual-nodes", "2", *extra]
        node.start()

    async def gives(self, client: RingClient, node: NodeProcess, keys: list[ItemKey]) -> dict[ItemKey, Any]:
        """What a node itself gives for these keys, past every check of a client."""
        answer = await client.pool.call(node.address, "fetch", Fetch(tuple(keys)), 30.0)
        return {item.key: item for item in answer.items}


class MendTests(ScrubCase):
    """Found, and fetched from the others."""

    async def test_each_kind_of_thing(self) -> None:
        """Four bits: all four are found by the scrub, named, kept aside and
        mended; what clients read meanwhile is right."""
        client, person, source = await self.filled(3, *NEVER)
        node = self.nodes[1]
        node.stop()
        good = self.keys(node)
        rotten = self.rot(node)
        self.begin(node, *FAST)
        await node.ready()
        for number in range(3):
            await self.reads_right(person, source, f"meanwhile-{number}")
        for key in rotten:
            await until("it is told", lambda key=key: f"{key.kind.name} {key.element.hex()[:8]}" in node.text())
        await until("all is mended", lambda: sorted(self.keys(node)) == sorted(good) and not list_lost(node.data), 60.0)
        self.assertEqual(node.text().count("not served and moved aside"), 4)
        self.assertEqual(len(os.listdir(node.data / "quarantine")), 4)
        whole = await self.gives(client, node, rotten)
        await self.whole_again(client, whole, rotten)
        said = Person(person.home).does("node", "keys", str(node.data))
        self.assertIn("4 rotten files", said)
        # From this one alone, too.
        self.nodes[0].kill9()
        self.nodes[2].kill9()
        self.assertEqual(set(await self.gives(client, node, rotten)), set(rotten))

    async def whole_again(self, client: RingClient, found: dict[ItemKey, Any], rotten: list[ItemKey]) -> None:
        """What one node gives is what another does."""
        theirs = await self.gives(client, self.nodes[0], rotten)
        self.assertEqual(set(theirs), set(rotten))
        self.assertEqual(found, theirs)

    async def test_who_reads_first_is_not_served_rot(self) -> None:
        """Without any scrub: a node that has it rotten gives nothing, and
        others are asked; it is mended by that alone."""
        client, person, source = await self.filled(2, *NEVER)
        node = self.nodes[1]
        node.stop()
        rotten = self.rot(node)
        self.begin(node, *NEVER)
        await node.ready()
        asked = [Deferred.fromCoroutine(self.gives(client, node, [key])) for key in rotten]
        wrong = [item for found in await gatherResults(asked) for item in found.values()]
        theirs = await self.gives(client, self.nodes[0], rotten)
        self.assertEqual([item for item in wrong if item != theirs[item.key]], [])
        await self.reads_right(person, source, "meanwhile")

        def mended() -> Deferred[bool]:
            return Deferred.fromCoroutine(self.gives(client, node, rotten)).addCallback(lambda found: found == theirs)

        await until("all is mended", mended, 60.0)
        self.assertEqual(list_lost(node.data), [])

    async def test_the_only_node(self) -> None:
        """Nobody has it: said out loud, never wrong bytes, and a new backup
        brings it back."""
        client, person, source = await self.filled(1, *NEVER)
        (node,) = self.nodes
        node.stop()
        rotten = self.a_file(node)
        self.begin(node, *FAST)
        await node.ready()
        await until("it is given up", lambda: "no other node has it" in node.text(), 60.0)
        target = self.folder / "target"
        said = await deferToThread(person.run, "restore", "papers", "--to", str(target))
        self.assertNotEqual(said.status, 0)
        self.assertIn("large.bin", said.err)
        self.assertFalse((target / "large.bin").exists())
        for name in ("middle.bin", "small-0.txt"):
            self.assertEqual((target / name).read_bytes(), (source / name).read_bytes())
        await self.does(person, "backup", str(source), "--anew")
        await self.reads_right(person, source, "again")
        self.assertIn(rotten, await self.gives(client, node, [rotten]))


class PageTests(ScrubCase):
    """Whole pages of the database."""

    def zero(self, node: NodeProcess, needle: bytes) -> None:
        """Fill the page that holds *needle* with zeros."""
        path = node.data / "node.sqlite"
        raw = bytearray(path.read_bytes())
        page = raw.index(needle) // 4096 * 4096
        raw[page : page + 4096] = bytes(4096)
        path.write_bytes(raw)

    async def test_a_page_of_keys(self) -> None:
        """Said with the safe next step, and said again; the node runs on,
        reads go on, and doing as it says makes it whole again."""
        _, person, source = await self.filled(3, *NEVER)
        node = self.nodes[1]
        node.stop()
        good = sorted(self.keys(node))
        # The root of the items, since there are so few of them.
        self.zero(node, good[len(good) // 2].ring_id + good[len(good) // 2].owner)
        self.begin(node, *FAST)
        await until("it is told", lambda: "node.sqlite is damaged" in node.text(), 60.0)
        (line, *_) = [line for line in node.text().splitlines() if "is damaged" in line]
        self.assertIn("Stop the node, move its folder aside", line)
        self.assertIn("key.pem", line)
        await self.reads_right(person, source, "meanwhile")
        assert node.process is not None
        self.assertIsNone(node.process.poll())
        # By the scrub, by whoever came upon it, and once to each who asked.
        self.assertEqual(node.text().count("scrub: "), 1)
        self.assertLess(node.text().count("is damaged"), 20)
        node.stop()
        aside = node.data.with_name("aside")
        node.data.rename(aside)
        node.data.mkdir()
        for name in ("key.pem", "publickey.pem"):
            shutil.copy2(aside / name, node.data / name)
        node.start()
        await node.ready()
        await until("it is filled", lambda: sorted(self.keys(node)) == good, 90.0)
        await self.reads_right(person, source, "after")

    async def test_the_first_page(self) -> None:
        """No start: one line with the safe next step, and a status."""
        await self.filled(1, *NEVER)
        (node,) = self.nodes
        node.stop()
        self.zero(node, b"SQLite format 3\x00")
        for _ in range(2):
            result = subprocess.run(node.command, capture_output=True, text=True, timeout=60, check=False)
            self.assertNotEqual(result.returncode, 0)
            lines = [line for line in (result.stdout + result.stderr).splitlines() if "cannot start" in line]
            self.assertEqual(len(lines), 1, result.stdout + result.stderr)
            self.assertIn("node.sqlite is damaged", lines[0])
            self.assertIn("Stop the node, move its folder aside", lines[0])
            self.assertNotIn("Traceback", result.stdout + result.stderr)


class ManyTests(ScrubCase):
    """Seeded rot, while somebody reads."""

    async def test_reads_are_right_whatever_rots(self) -> None:
        """Bits anywhere in two of three data folders, none of them twice in
        the same thing; every restore is right or says what is missing."""
        _, person, source = await self.filled(3, *NEVER)
        rng = random.Random(11)
        for seed in range(3):
            node = self.nodes[seed % 2]
            node.stop()
            self.bits(node, rng)
            self.begin(node, *FAST)
            await until("it is up, or says why not", lambda node=node: self.is_up_or_told(node))
            await self.reads_right(person, source, f"round-{seed}")
            await until("all is mended", lambda: self.all_mended(), 90.0)

    def bits(self, node: NodeProcess, rng: random.Random) -> None:
        """Flip one in each of three files of chunks, and in rows."""
        files = sorted(path for path in (node.data / "chunks").rglob("*") if path.is_file())
        for path in rng.sample(files, min(3, len(files))):
            raw = bytearray(path.read_bytes())
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
            path.write_bytes(raw)
        db = sqlite3.connect(node.data / "node.sqlite")
        rows = db.execute("SELECT id, statement, data FROM content ORDER BY id").fetchall()
        for number, statement, data in rng.sample(rows, 4):
            column, raw = ("data", data) if data and rng.random() < 0.5 else ("statement", statement)
            changed = bytearray(raw)
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
            db.execute(f"UPDATE content SET {column} = ? WHERE id = ?", (bytes(changed), number))
        db.commit()
        db.close()

    def is_up_or_told(self, node: NodeProcess) -> bool:
        """Whether it serves, or has said why it cannot."""
        assert node.process is not None
        return node.process.poll() is not None or "listens at" in node.text().split("starting up.")[-1]

    def all_mended(self) -> bool:
        """Whether all nodes hold the same, whole things."""
        return self.settled(3) and not any(list_lost(node.data) for node in self.nodes)
