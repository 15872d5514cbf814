"""Real nodes on disks that are full, or take no writes: what cannot be
written is refused in words, and what is there is read by a real client.

Each node mounts its data folder in a mount namespace of its own, which is gone
when it ends.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest

from peerstore.util.complaint import CALM
from tests.support.commands import CommandTestCase, Person, Said
from tests.support.processes import NodeProcess, pause, until

MIB = 1024 * 1024


class MountedNode(NodeProcess):
    """A node whose data folder is a file system of its own.

    :param mount: a shell command that mounts it at ``$DATA``; what the folder
        held before is in ``$BEFORE``.
    """

    def __init__(self, data: Path, mount: str, join: Sequence[int] = (), extra: Sequence[str] = ()) -> None:
        super().__init__(data, 0, join, extra)
        self.mount = mount
        self.before = data.with_suffix(".before")
        shutil.copytree(data, self.before)

    @property
    def command(self) -> list[str]:
        """Mount, then be the node."""
        script = f'DATA={self.data} BEFORE={self.before}; {self.mount} && exec "$@"'
        return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh", *super().command]

    def inside(self, *command: str) -> str:
        """Run a command where the node sees its disk."""
        assert self.process is not None
        enter = ["nsenter", f"--target={self.process.pid}", "--mount", *command]
        result = subprocess.run(enter, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise AssertionError(f"{command}: {result.stderr}")
        return result.stdout


class DiskCase(CommandTestCase):
    """People, and nodes on disks of their own."""

    timeout = 240

    def setUp(self) -> None:
        if os.geteuid() != 0:
            raise SkipTest("only root can mount a small file system")
        if subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "x", "/mnt"], capture_output=True).returncode:
            raise SkipTest("no file system can be mounted here")
        super().setUp()

    def mounted(self, mount: str, join: Sequence[int] = (), extra: Sequence[str] = ()) -> MountedNode:
        """One more node, not yet started."""
        node = MountedNode(self.folder / f"node-{len(self.nodes)}", mount, join, extra)
        self.nodes.append(node)
        return node

    def papers(self, name: str, size: int) -> Path:
        """A folder with a file that cannot be packed smaller, and a note."""
        folder = self.folder / name
        folder.mkdir()
        (folder / "large.bin").write_bytes(random.Random(size).randbytes(size))
        (folder / "note.txt").write_bytes(b"a note in " + name.encode())
        return folder

    def runs(self, person: Person, *words: str) -> Deferred[Said]:
        """A command, beside the reactor."""
        result: Deferred[Said] = deferToThread(person.run, *words)
        return result

    async def gets(self, person: Person, source: Path) -> None:
        """``peerstore get`` gives both files back, byte for byte."""
        for path in source.iterdir():
            target = self.folder / "got"
            said = await self.runs(person, "get", f"{source.name}/{path.name}", "--to", str(target))
            self.assertEqual(said.status, 0, said.err)
            self.assertEqual(target.read_bytes(), path.read_bytes())
            target.unlink()

    def lines(self, node: NodeProcess, text: str) -> int:
        """How many lines of its log have this."""
        return sum(text in line for line in node.text().splitlines())


class FullTests(DiskCase):
    """A small file system."""

    SMALL = f'mount -t tmpfs -o size={10 * MIB},mode=700 tmpfs "$DATA"; cp -a "$BEFORE"/. "$DATA"'

    async def test_the_only_node(self) -> None:
        """What does not fit is refused, in words, to the client and in the
        log, once; what is there is read; with more room it all goes on."""
        node = self.mounted(self.SMALL, extra=["--virtual-nodes", "2"])
        node.start()
        await node.ready()
        person = self.person()
        first, second = self.papers("first", 2 * MIB), self.papers("second", 20 * MIB)
        self.assertEqual((await self.runs(person, "backup", str(first))).status, 0)
        said = await self.runs(person, "backup", str(second))
        self.assertEqual(said.status, 5, said.out + said.err)
        self.assertIn("room", said.err)
        await self.gets(person, first)
        self.assertEqual(self.lines(node, "what is posted cannot be stored: No room left"), 1)
        self.assertEqual(self.lines(node, "can be stored again"), 0)
        assert node.process is not None and node.process.poll() is None
        node.inside("mount", "-o", f"remount,size={64 * MIB}", str(node.data))
        said = await self.runs(person, "backup", str(second))
        self.assertEqual(said.status, 0, said.out + said.err)
        await self.gets(person, second)
        # It is over once things have gone well for a while.
        await pause(CALM + 1)
        third = self.papers("third", MIB)
        self.assertEqual((await self.runs(person, "backup", str(third))).status, 0)
        await until("it says so", lambda: self.lines(node, "can be stored again"))
        await self.gets(person, first)

    async def test_one_of_three(self) -> None:
        """The other two take everything; the full one says so once, and goes
        on giving what it has."""
        first = self.node(extra=["--virtual-nodes", "2"])
        first.start()
        await first.ready()
        full = self.mounted(self.SMALL, [first.port], ["--virtual-nodes", "2"])
        full.start()
        self.node(join=[first.port], extra=["--virtual-nodes", "2"]).start()
        for node in self.nodes:
            await node.ready()
        await self.whole(self.client())
        person = self.person()
        small, large = self.papers("small", 2 * MIB), self.papers("large", 20 * MIB)
        for folder in (small, large):
            said = await self.runs(person, "backup", str(folder))
            self.assertEqual(said.status, 0, said.out + said.err)
        await until("it says so", lambda: self.lines(full, "No room left"))
        for folder in (small, large):
            await self.gets(person, folder)
        only = Person(person.home, [f"127.0.0.1:{full.port}"])
        await self.gets(only, small)
        for words in ("what is posted cannot be stored", "replication: No room left"):
            self.assertLessEqual(self.lines(full, words), 1)


class ReadOnlyTests(DiskCase):
    """A disk that takes no writes any more."""

    async def test_while_it_runs(self) -> None:
        """As a kernel does it after an error: writes are refused, in words,
        reads go on, and the next start is refused with the reason."""
        if shutil.which("mkfs.ext4") is None:
            raise SkipTest("no file system can be mounted here: there is no mkfs.ext4")
        image = self.folder / "image"
        mount = f'mount -o loop {image} "$DATA"'
        node = self.mounted(mount, extra=["--virtual-nodes", "2"])
        with image.open("wb") as file:
            file.truncate(64 * MIB)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-d", str(node.before), str(image)], check=True)
        if subprocess.run(["unshare", "--mount", "mount", "-o", "loop", str(image), "/mnt"]).returncode:
            raise SkipTest("no file system can be mounted here: there is no loop device")
        node.start()
        await node.ready()
        person = self.person()
        first, second = self.papers("first", 2 * MIB), self.papers("second", 2 * MIB + 1)
        self.assertEqual((await self.runs(person, "backup", str(first))).status, 0)
        node.inside("mount", "-o", "remount,abort", str(node.data))
        said = await self.runs(person, "backup", str(second))
        self.assertEqual(said.status, 5, said.out + said.err)
        await self.gets(person, first)
        self.assertEqual(self.lines(node, "what is posted cannot be stored"), 1)
        (line,) = [line for line in node.text().splitlines() if "what is posted cannot be stored" in line]
        self.assertIn("cannot be", line)
        self.assertIn(str(node.data), line)
        self.assertIn("mount options", line)
        self.assertNotIn("Traceback", node.text())
        node.stop()
        self.assertNotIn("Traceback", node.text())
        node.mount = f'mount -o loop,ro,noload {image} "$DATA"'
        await self.is_refused(node)
        # Repaired, nothing that was acknowledged is missing.
        node.mount = mount
        node.start()
        await node.ready()
        await self.gets(person, first)
        self.assertEqual((await self.runs(person, "backup", str(second))).status, 0)

    async def is_refused(self, node: MountedNode) -> None:
        """A start that is: one line, with the folder, and a status."""
        result = await deferToThread(
            subprocess.run, node.command, capture_output=True, text=True, timeout=60, check=False
        )
        self.assertNotEqual(result.returncode, 0)
        text = result.stdout + result.stderr
        (line,) = [line for line in text.splitlines() if "cannot start" in line]
        self.assertIn(str(node.data), line)
        self.assertIn("mount options", line)
        self.assertNotIn("Traceback", text)

    async def test_at_a_start(self) -> None:
        """A mount without writes: refused with the reason, and untouched."""
        node = self.mounted("true", extra=["--virtual-nodes", "2"])
        node.start()
        await node.ready()
        node.stop()
        held = sorted((path.name, path.stat().st_mtime_ns) for path in node.data.rglob("*"))
        node.mount = 'mount --bind "$DATA" "$DATA" && mount -o remount,bind,ro "$DATA"'
        await self.is_refused(node)
        self.assertEqual(sorted((path.name, path.stat().st_mtime_ns) for path in node.data.rglob("*")), held)
