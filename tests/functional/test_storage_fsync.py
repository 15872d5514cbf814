"""Seen from the kernel: a put is on the disk before it is answered."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent.parent
CALLS = "fsync,fdatasync,write,pwrite64,rename,renameat,renameat2"


class FsyncTests(SynchronousTestCase):
    """One put, traced by strace."""

    def setUp(self) -> None:
        if shutil.which("strace") is None:
            raise SkipTest("strace is not installed")
        if subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True).returncode != 0:
            raise SkipTest("strace may not trace processes here")
        self.folder = Path(self.mktemp()).absolute()

    def _trace(self, number: int) -> list[str]:
        """System calls of one put, up to its answer; file names without the folder."""
        trace = Path(self.mktemp())
        child = [sys.executable, "-m", "tests.support.storage_child", str(self.folder), str(number), "1", "1"]
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        subprocess.run(
            ["strace", "-f", "-y", "-o", str(trace), "-e", f"trace={CALLS}", *child],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": paths},
        )
        calls = [line.split(None, 1)[1] for line in trace.read_text(errors="replace").splitlines()]
        answers = [place for place, call in enumerate(calls) if re.match(rf'write\(1<.*>, "{number}\\n"', call)]
        self.assertEqual(len(answers), 1, "the answer was not seen")
        return [call.replace(f"{self.folder}/", "") for call in calls[: answers[0]]]

    def _first(self, calls: list[str], pattern: str, start: int = 0) -> int:
        for place in range(start, len(calls)):
            if re.match(pattern, calls[place]):
                return place
        raise self.failureException(f"no {pattern} after call {start} of\n" + "\n".join(calls))

    def _journal_is_synced(self, calls: list[str]) -> int:
        """The last write to the journal is followed by its sync; where it began."""
        writes = [n for n, call in enumerate(calls) if re.match(r"pwrite64\(\d+<node\.sqlite-wal>", call)]
        self.assertTrue(writes, "nothing was written to the journal")
        self._first(calls, r"f(data)?sync\(\d+<node\.sqlite-wal>\)", writes[-1])
        return writes[-1]

    def test_a_small_put(self) -> None:
        """The journal is synced before the answer."""
        calls = self._trace(1)
        self.assertGreater(self._journal_is_synced(calls), 0)

    def test_a_large_put(self) -> None:
        """File, name, folder, row: each is durable before the next."""
        calls = self._trace(0)
        written = self._first(calls, r"write\(\d+<incoming/")
        synced = self._first(calls, r"f(data)?sync\(\d+<incoming/", written)
        renamed = self._first(calls, r"rename\w*\(.*incoming/.*chunks/", synced)
        folder = self._first(calls, r"fsync\(\d+<chunks/[0-9a-f]{2}>\)", renamed)
        self.assertGreater(self._journal_is_synced(calls), folder)
