"""A backup that is stopped, and nodes that die meanwhile: nothing breaks, the next run goes on."""

from __future__ import annotations

import os
import random
import signal
import socket
from pathlib import Path

from tests.support.commands import CommandTestCase
from tests.support.processes import pause


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
        (root / "large.bin").write_bytes(rng.randbytes(24 * 2**20))
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

    async def test_stopped_and_killed_and_begun_again(self) -> None:
        """SIGINT and kill -9 at several moments; a node lost in each direction; all comes back."""
        await self.small_ring(5)
        source = self.folder / "source"
        source.mkdir()
        self.make(source)
        me = self.person()
        for moment, number in ((0.6, signal.SIGINT), (1.2, signal.SIGKILL), (1.6, signal.SIGINT)):
            process = me.start("backup", str(source))
            await pause(moment)
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
            self.assertNotIn("Traceback", said)
        process = me.start("--json", "backup", str(source))
        await pause(0.5)
        self.nodes[3].kill9()
        out, said = process.communicate(timeout=100)
        self.assertEqual(process.returncode, 0, said)
        self.assertIn('"problems": []', out)
        self.assertIn("fifo: a named pipe; not kept", out)
        again = me.asks("backup", str(source))
        self.assertEqual((again["changed"], again["removed"], again["sent"]), (0, 0, 0))

        back = self.folder / "back"
        process = me.start("restore", "source", "--to", str(back))
        await pause(0.5)
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
