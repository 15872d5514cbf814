"""Seven real nodes that are killed, stopped, wiped, joined and retired while somebody works.

All that is done to them comes from one seed, which is printed.  What it meets
is up to the machine, so two runs of a seed are alike, and not the same.

    PEERSTORE_SEED=7 python -m twisted.trial tests.functional.test_churn
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from tests.support.churn import Archive, Stored, copies, resume, suspend, wipe
from tests.support.commands import CommandTestCase, Person, Said
from tests.support.processes import SOAK, NodeProcess, pause, until

SEED = int(os.environ.get("PEERSTORE_SEED", "1"))
SECONDS = 90 if SOAK == 1 else 600
NODES = 7
COPIES = 3
#: Fewer would leave no room for three copies and two hosts that are away.
FEWEST = 6
#: Seconds that all may take to come to rest, on a machine that does much else.
REST = 240.0
SETTINGS = ("--virtual-nodes", "2", "--repair-grace", "4")
#: Statuses of a command that the ring could not serve: no node answers, too few copies.
UNSERVED = (3, 5)
NOT_FOUND = 4


def now() -> float:
    """Seconds of the reactor's clock."""
    return reactor.seconds()  # type: ignore[attr-defined, no-any-return]


def begin(work: Awaitable[Any]) -> Deferred[Any]:
    """Let a coroutine run beside this one."""
    return Deferred.fromCoroutine(work)  # type: ignore[arg-type]


class ChurnTests(CommandTestCase):
    """One person who backs up and reads, and much that goes wrong meanwhile."""

    timeout = SECONDS + 900

    def setUp(self) -> None:
        super().setUp()
        self.rng = random.Random(SEED)
        self.began = now()
        self.ends = 0.0
        self.events: list[str] = []
        self.counts: dict[str, int] = {}
        #: Nodes that are up, or down for a moment; not those that were retired.
        self.members: list[NodeProcess] = []
        #: What something is being done to: nothing else is, meanwhile.
        self.busy: set[NodeProcess] = set()
        self.background: list[Deferred[None]] = []
        #: What was on the disks when the last one was lost.
        self.before: set[Stored] = set()

    # -- telling --------------------------------------------------------------------

    def note(self, what: str) -> None:
        """Remember an event, for whoever reads why this failed."""
        self.events.append(f"{now() - self.began:7.1f} s  {what}")

    def count(self, what: str) -> None:
        """One more of these."""
        self.counts[what] = self.counts.get(what, 0) + 1

    def name(self, node: NodeProcess) -> str:
        """A node, for people."""
        return f"{node.data.name} ({node.key.fp.hex()[:6]})"

    # -- the person -----------------------------------------------------------------

    async def says(self, who: Person, *arguments: str) -> Said:
        """A command that takes its time."""
        peers = [f"127.0.0.1:{node.port}" for node in self.rng.sample(self.members, 3)]
        said: Said = await deferToThread(who.run, *arguments, peers=peers, timeout=300.0)
        self.note(f"{arguments[0]} {arguments[1]}: {said.status} {' '.join(said.errors)[:150]}")
        self.count(f"{arguments[0]}, status {said.status}")
        return said

    async def work(self) -> None:
        """Change, back up, and read, until time is over."""
        while now() < self.ends:
            self.archive.change(self.rng.randrange(1, 8))
            said = await self.says(self.writer, "backup", str(self.archive.root), "--as", "mine")
            if said.status == 0:
                self.archive.acknowledge()
            else:
                self.assertIn(said.status, UNSERVED, said.err)
            for path in self.rng.sample(self.archive.files(), min(2, len(self.archive.files()))):
                await self.read(path)

    async def read(self, path: str) -> None:
        """One file, on another computer of the same person: never wrong bytes,
        never older than what was certain unless that is said, and never "not
        found" of what is certain."""
        target = self.folder / "read"
        said = await self.says(self.reader, "get", f"mine/{path}", "--force", "--to", str(target))
        if said.status in UNSERVED:
            return
        self.assertIn(said.status, (0, NOT_FOUND), said.err)
        complete = "may not be the newest" not in said.err
        content = target.read_bytes() if said.status == 0 else None
        if not self.archive.is_right(path, content, complete):
            self.fail(f"{path} was given as it never was, or as it was before: {said}")

    # -- what goes wrong ----------------------------------------------------------------

    def some(self, least: int, most: int) -> list[NodeProcess]:
        """Nodes to which nothing is being done, some of them."""
        free = [node for node in self.members if node not in self.busy]
        count = min(self.rng.randrange(least, most + 1), len(free))
        return self.rng.sample(free, count)

    async def hold(self, nodes: list[NodeProcess], work: Callable[[NodeProcess], Awaitable[None]]) -> None:
        """Do something to these nodes, and nothing else meanwhile."""
        self.busy.update(nodes)
        try:
            await gatherResults([begin(work(node)) for node in nodes], consumeErrors=True)
        finally:
            self.busy.difference_update(nodes)

    async def up(self, node: NodeProcess) -> None:
        """Start a node, which finds the ring through others, and wait for it."""
        others = [other.port for other in self.members if other is not node]
        node.join = self.rng.sample(others, min(3, len(others)))
        node.start()
        await node.ready()

    async def kill(self) -> None:
        """kill -9 of up to three at once, for a moment or for longer than the grace."""
        seconds = self.rng.choice((0.0, 2.0, 8.0))

        async def one(node: NodeProcess) -> None:
            self.note(f"kill -9 of {self.name(node)}, for {seconds} s")
            node.kill9()
            await pause(seconds)
            await self.up(node)
            self.note(f"{self.name(node)} is up again")

        await self.hold(self.some(1, 3), one)

    async def suspend(self) -> None:
        """SIGSTOP of up to three at once, and SIGCONT."""
        seconds = self.rng.choice((1.0, 6.0, 12.0))

        async def one(node: NodeProcess) -> None:
            self.note(f"{self.name(node)} is stopped for {seconds} s")
            suspend(node)
            await pause(seconds)
            resume(node)

        await self.hold(self.some(1, 3), one)

    async def restart(self) -> None:
        """SIGTERM, and a new start."""

        async def one(node: NodeProcess) -> None:
            self.note(f"{self.name(node)} is restarted")
            await self.ended(node)
            await self.up(node)

        await self.hold(self.some(1, 2), one)

    async def ended(self, node: NodeProcess) -> None:
        """A node ends when it is asked to."""
        process = node.process
        assert process is not None
        process.terminate()
        await until(f"the end of {self.name(node)}", lambda: process.poll() is not None, 90.0)
        self.assertIn(process.wait(), (0, -signal.SIGTERM), node.text()[-3000:])
        node.process = None

    async def wipe(self) -> None:
        """A disk is lost, once all that was there when the last one was lost
        is on k disks again."""
        await self.copied_again()
        nodes = self.some(1, 1)

        async def one(node: NodeProcess) -> None:
            self.note(f"{self.name(node)} loses its disk")
            node.kill9()
            wipe(node)
            self.before = set(self.on_disks())
            await self.up(node)
            self.note(f"{self.name(node)} begins anew in its place")

        await self.hold(nodes, one)

    async def join(self) -> None:
        """One more node."""
        node = self.node(extra=SETTINGS)
        self.note(f"{self.name(node)} joins")
        await self.hold([node], self.up)
        self.members.append(node)

    async def retire(self) -> None:
        """One node goes for good, while other things happen."""
        if len(self.members) <= FEWEST:
            return
        (node,) = self.some(1, 1) or (None,)
        if node is None:
            return
        self.members.remove(node)
        self.note(f"{self.name(node)} is to retire")
        self.background.append(begin(self.retired(node)))

    async def retired(self, node: NodeProcess) -> None:
        """It has handed over all it had."""
        said = await deferToThread(self.writer.run, "node", "retire", str(node.data), peers=[], timeout=REST)
        self.assertEqual(said.status, 0, said.out + said.err)
        process = node.process
        assert process is not None
        await until("the end of a retired node", lambda: process.poll() is not None)
        self.assertEqual(process.wait(), 0, node.text()[-3000:])
        self.note(f"{self.name(node)} is retired")

    async def disturb(self) -> None:
        """One thing after another: each kind once at least, then as it comes."""
        kinds = [self.kill, self.suspend, self.restart, self.wipe, self.join, self.retire]
        todo = [*kinds, self.kill, self.suspend]
        self.rng.shuffle(todo)
        # There must be one more before there can be one fewer.
        todo.sort(key=lambda kind: kind == self.retire)
        while todo or now() < self.ends:
            if not todo:
                todo = self.rng.choices(kinds, (6, 6, 3, 2, 1, 1))
            kind = todo.pop(0)
            self.count(kind.__name__)
            await kind()
            await pause(self.rng.uniform(0.0, 3.0))
        await gatherResults(self.background, consumeErrors=True)

    # -- looking at the disks -------------------------------------------------------------

    def on_disks(self) -> dict[Stored, int]:
        """How many of the members have each thing, whether they run or not."""
        return copies(self.members)

    async def copied_again(self) -> None:
        """Wait until what was there at the last loss is on k disks."""

        def all_there() -> bool:
            found = self.on_disks()
            return all(found.get(key, 0) >= COPIES for key in self.before)

        await until("k copies of everything after a loss", all_there, REST, 0.5)
        self.note("all that was there at the last loss is on k disks")

    async def exactly(self) -> None:
        """Wait until everything is on exactly k disks."""
        wrong: list[int] = []

        def at_rest() -> bool:
            wrong[:] = [count for count in self.on_disks().values() if count != COPIES]
            return not wrong

        try:
            await until("exactly k copies of everything", at_rest, REST, 0.5)
        except AssertionError:
            few = sum(count < COPIES for count in wrong)
            self.fail(f"{few} things are on too few disks, and {len(wrong) - few} on too many")

    # -- the test ----------------------------------------------------------------------------

    async def test_churn(self) -> None:
        """Whatever was acknowledged is there, byte for byte, and all of it on
        exactly k hosts."""
        print(f"\nchurn: seed {SEED}, {SECONDS} s")
        client = await self.ring(NODES, *SETTINGS)
        self.members = list(self.nodes)
        self.writer = self.person()
        shutil.copytree(self.writer.home, self.folder / "elsewhere")
        self.reader = self.person("elsewhere")
        self.archive = Archive(self.folder / "mine", random.Random(SEED))
        self.ends = now() + SECONDS
        try:
            await gatherResults([begin(self.work()), begin(self.disturb())], consumeErrors=True)
            self.note("the disturbance is over")
            await self.whole(client, self.members)
            await self.all_is_there("what was certain", self.reader)
            said = await self.says(self.writer, "backup", str(self.archive.root), "--as", "mine")
            self.assertEqual(said.status, 0, said.err)
            self.archive.acknowledge()
            await self.exactly()
            await self.all_is_there("everything", self.reader)
        except BaseException:
            print("\n".join(self.events))
            raise
        finally:
            print(f"churn: {dict(sorted(self.counts.items()))}; {len(self.archive.certain)} files")

    async def all_is_there(self, name: str, who: Person) -> None:
        """A restored folder has every acknowledged file as it was then, or as
        it was made later."""
        target = self.folder / name
        said = await self.says(who, "restore", "mine", "--to", str(target))
        self.assertEqual((said.status, said.err), (0, ""))
        self.assertEqual(self.differences(target), [])

    def differences(self, target: Path) -> list[str]:
        """Paths of which a restored folder has something else."""
        wrong = []
        for path in self.archive.versions:
            place = target / path
            content = place.read_bytes() if place.exists() else None
            if not self.archive.is_right(path, content, True):
                wrong.append(path)
        return wrong
