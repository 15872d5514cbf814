"""Seen from the kernel: a put is on the disk before it is answered."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import FailTest, SkipTest, SynchronousTestCase

from peerstore.items import Item
from tests.support.processes import NodeProcess, ProcessTestCase
from tests.support.things import a_chain, a_chunk, a_head

ROOT = Path(__file__).resolve().parent.parent.parent
CALLS = "fsync,fdatasync,write,pwrite64,rename,renameat,renameat2"
SENDING = "sendto,sendmsg,writev"
SENT = r"(sendto|sendmsg|writev|write)\(\d+<(TCP|socket):"


def needs_strace() -> None:
    """Skip a test where nothing can be traced."""
    if shutil.which("strace") is None:
        raise SkipTest("strace is not installed")
    if subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True).returncode != 0:
        raise SkipTest("strace may not trace processes here")


class Trace:
    """System calls in order, without process ids, the data folder left out
    of names.  Failures are those of a test."""

    def __init__(self, path: Path, folder: Path) -> None:
        lines = path.read_text(errors="replace").splitlines()
        self.calls = [line.split(None, 1)[1].replace(f"{folder}/", "") for line in lines if " " in line]

    def first(self, pattern: str, start: int = 0, end: int | None = None) -> int:
        """Where the first such call after *start* is.

        :raises FailTest: when there is none before *end*.
        """
        stop = len(self.calls) if end is None else end
        for place in range(start, stop):
            if re.match(pattern, self.calls[place]):
                return place
        raise FailTest(f"no {pattern} in calls {start} to {stop} of\n" + "\n".join(self.calls))

    def small(self, start: int, answer: int) -> None:
        """The last write to the journal before the answer is synced by then."""
        writes = [n for n in range(start, answer) if re.match(r"pwrite64\(\d+<node\.sqlite-wal>", self.calls[n])]
        if not writes:
            raise FailTest("nothing was written to the journal:\n" + "\n".join(self.calls[start:answer]))
        self.first(r"f(data)?sync\(\d+<node\.sqlite-wal>\)", writes[-1], answer)

    def large(self, start: int, answer: int) -> None:
        """File, name, folder, row: each is durable before the next."""
        written = self.first(r"write\(\d+<incoming/", start, answer)
        synced = self.first(r"f(data)?sync\(\d+<incoming/", written, answer)
        renamed = self.first(r"rename\w*\(.*incoming/.*chunks/", synced, answer)
        folder = self.first(r"fsync\(\d+<chunks/[0-9a-f]{2}>\)", renamed, answer)
        self.small(folder, answer)


class FsyncTests(SynchronousTestCase):
    """One put, traced by strace."""

    def setUp(self) -> None:
        needs_strace()
        self.folder = Path(self.mktemp()).absolute()

    def _trace(self, number: int, without: str = "") -> tuple[Trace, int]:
        """System calls of one put, and where its answer is."""
        trace = Path(self.mktemp())
        child = [sys.executable, "-m", "tests.support.storage_child", str(self.folder), str(number), "1", "1", without]
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        subprocess.run(
            ["strace", "-f", "-y", "-o", str(trace), "-e", f"trace={CALLS}", *child],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": paths},
        )
        seen = Trace(trace, self.folder)
        return seen, seen.first(rf'write\(1<.*>, "{number}\\n"')

    def test_a_small_put(self) -> None:
        """The journal is synced before the answer."""
        seen, answer = self._trace(1)
        seen.small(0, answer)

    def test_a_large_put(self) -> None:
        """File, name, folder, row: each is durable before the next."""
        seen, answer = self._trace(0)
        seen.large(0, answer)

    def test_each_sync_is_needed(self) -> None:
        """With one of them taken out, the tests above fail."""
        for number, without in ((0, "file"), (0, "folder"), (0, "journal"), (1, "journal")):
            shutil.rmtree(self.folder, ignore_errors=True)
            seen, answer = self._trace(number, without)
            with self.assertRaises(FailTest, msg=f"{without} is not noticed"):
                (seen.small if number else seen.large)(0, answer)


class TracedNode(NodeProcess):
    """A node under strace."""

    @property
    def trace(self) -> Path:
        """Where its system calls are written down."""
        return self.data.with_suffix(".trace")

    @property
    def command(self) -> list[str]:
        """strace ends when the node does, and hands signals on."""
        traced = ["strace", "-f", "-y", "-I", "2", "-o", str(self.trace), "-e", f"trace={CALLS},{SENDING}"]
        return [*traced, *super().command]


class ReplyTests(ProcessTestCase):
    """A real node's answer over the wire."""

    async def traced(self, item: Item) -> tuple[Trace, int, int]:
        """A node that takes one item: its calls, and where the answers before
        it and to it are sent."""
        needs_strace()
        node = TracedNode(self.folder / "node")
        self.nodes.append(node)
        node.start()
        await node.ready()
        client = self.client(node)
        gateway = client.gateway
        put = {1: gateway.put_chunks, 3: gateway.append}.get(int(item.key.kind))
        (told,) = await (put([item]) if put is not None else gateway.put_heads([item]))
        self.assertTrue(told.certain)
        assert node.process is not None
        node.stop()
        seen = Trace(node.trace, node.data)
        # Nobody else is there to be told anything: what was sent last is the
        # answer, and what was sent before that answered an earlier question.
        sent = [place for place, call in enumerate(seen.calls) if re.match(SENT, call)]
        return seen, sent[-2], sent[-1]

    async def test_a_large_chunk(self) -> None:
        """File, folder and journal are synced before the reply is sent."""
        seen, begun, reply = await self.traced(a_chunk(1, 200_000))
        seen.large(begun, reply)

    async def test_a_head(self) -> None:
        """The journal is synced before the reply is sent."""
        seen, begun, reply = await self.traced(a_head(1))
        seen.small(begun, reply)

    async def test_an_entry(self) -> None:
        """The journal is synced before the reply is sent."""
        seen, begun, reply = await self.traced(a_chain(1)[0])
        seen.small(begun, reply)
