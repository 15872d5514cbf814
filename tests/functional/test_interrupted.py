"""A backup that is stopped, and nodes that die meanwhile: nothing breaks, the next run goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
from pathlib import Path

from tests.support.commands import CommandTestCase
from tests.support.processes import until

#: Large enough that sending it takes longer than noticing that it has begun.
LARGE = 96 * 2**20


class InterruptedTests(CommandTestCase):
    """Five real nodes, and a folder with everything that people's folders have."""

    timeout = 300

    def make(self, root: Path) -> None:
        """Recursion, empty folders and files, modes, links, odd names, a sparse file, what is not kept."""
        rng = random.Random(4)
        (root / "deep" / "er").mkdir(parents=True)
        (root / "nothing in it").mkdir(mode=0o750)
        for number in range(200):
            (root / "deep" / f"{number}.bin").write_bytes(rng.randbytes(rng.randrange(30_000)))
        (root / "large.bin").write_bytes(rng.randbytes(LARGE))
        (root / "empty").touch(mode=0o600)
        (root / "deep" / "er" / "link").symlink_to("../../large.bin")
        (root / "dangling").symlink_to("nowhere")
        Path(os.fsdecode(os.fsencode(root) + b"/no text \xff\xfe")).write_text("but a name")
        with (root / "sparse").open("wb") as file:
            file.seek(20_000_000)
            file.write(b"end")
        os.utime(root / "empty", ns=(1_234_567_890_123_456_789,) * 2)
        os.link(root / "empty", root / "same as empty")
        os.mkfifo(root / "fifo")

    def stored(self) -> int:
        """How many files of chunks the nodes have, all together."""
        return sum(1 for node in self.nodes for place in (node.data / "chunks").rglob("*") if place.is_file())

    async def in_the_middle(self, process: subprocess.Popen[str], more: int) -> None:
        """Wait until the nodes have got *more* files of chunks from a command
        that is still at work: only then does stopping it interrupt anything."""
        goal = self.stored() + more
        await until(
            f"{more} more chunk files", lambda: process.poll() is not None or self.stored() >= goal, 60.0, 0.005
        )
        self.assertIs(process.poll(), None, "the command was over before it could be interrupted")

    async def test_stopped_and_killed_and_begun_again(self) -> None:
        """SIGINT and kill -9 while chunks are sent; a node lost in each direction; all comes back."""
        await self.small_ring(5)
        source = self.folder / "source"
        source.mkdir()
        self.make(source)
        me = self.person()
        for more, number in ((3, signal.SIGINT), (20, signal.SIGKILL), (40, signal.SIGINT)):
            process = me.start("backup", str(source))
            await self.in_the_middle(process, more)
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
            self.assertNotIn("Traceback", said)
            self.assertEqual(process.returncode, 130 if number == signal.SIGINT else -number)
        process = me.start("--json", "backup", str(source))
        await self.in_the_middle(process, 10)
        self.nodes[3].kill9()
        out, said = process.communicate(timeout=100)
        self.assertEqual(process.returncode, 0, said)
        done = json.loads(out)
        self.assertEqual(done["problems"], [])
        self.assertIn("fifo: a named pipe; not kept", done["notes"])
        # What earlier runs made certain is not sent again.
        self.assertGreater(done["sent"], 0)
        self.assertLess(done["sent"], LARGE)
        again = me.asks("backup", str(source))
        self.assertEqual((again["changed"], again["removed"], again["sent"]), (0, 0, 0))

        back = self.folder / "back"
        process = me.start("restore", "source", "--to", str(back))
        await until("a restore at work", lambda: process.poll() is not None or any(back.rglob("*.bin")), 60.0, 0.005)
        self.assertIs(process.poll(), None, "the restore was over before a node could be lost")
        self.nodes[2].kill9()
        _, said = process.communicate(timeout=100)
        self.assertEqual(process.returncode, 0, said)
        (source / "fifo").unlink()
        # The time of a folder whose content was just changed is not to be compared.
        os.utime(source, ns=(back.stat().st_mtime_ns,) * 2)
        self.assert_same_tree(source, back)
        self.assertLess((back / "sparse").stat().st_blocks * 512, 2_000_000)

    async def test_a_peer_that_is_none(self) -> None:
        """Nobody there, or somebody else: two lines, and status 3."""
        me = self.person(nodes=())
        self.folder.joinpath("source").mkdir()
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{other.getsockname()[1]}"
            said = me.run("backup", str(self.folder / "source"), "--peer", address)
        self.assertEqual((said.status, len(said.errors)), (3, 2), said.err)
        self.assertIn("Nobody answers", said.errors[0])
