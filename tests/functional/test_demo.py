"""``peerstore demo``: what a newcomer runs first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.processes import ProcessTestCase, pause, until


class DemoTests(ProcessTestCase):
    """Five real nodes, one killed, and nothing left behind."""

    timeout = 240

    def start(self, *arguments: str, program: tuple[str, ...] = ("-m", "peerstore.cli")) -> subprocess.Popen[str]:
        """Begin it, with its temporary folder inside ours."""
        (self.folder / "tmp").mkdir(exist_ok=True)
        return subprocess.Popen(
            [sys.executable, *program, "demo", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TMPDIR": str(self.folder / "tmp")},
        )

    def left_behind(self) -> list[str]:
        """Files, and processes that still work in our folder."""
        mine = os.fsencode(self.folder)
        working = []
        for place in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = place.read_bytes()
            except OSError:
                continue
            if mine in words:
                working.append(place.parent.name)
        return [*os.listdir(self.folder / "tmp"), *working]

    async def test_a_folder_of_ones_own(self) -> None:
        """It is only read; everything comes back; the status says so; all is cleaned up."""
        source = self.folder / "mine"
        (source / "sub").mkdir(parents=True)
        (source / "sub" / "read only").write_text("x" * 70_000)
        (source / "sub" / "read only").chmod(0o400)
        (source / "link").symlink_to("sub")
        demo = self.start(str(source))
        out, _ = demo.communicate(timeout=120)
        self.assertEqual(demo.returncode, 0, out)
        for word in ("kill -9", "all equal", "0 [", "nothing was lost"):
            self.assertIn(word, out)
        await until("a clean place", lambda: not self.left_behind())

    async def test_what_does_not_hold_is_no_success(self) -> None:
        """A byte that came back wrong: said, status 1, and cleaned up all the same."""
        broken = (
            "import pathlib, peerstore.cli.demo as demo\n"
            "real = demo.compare\n"
            "def compare(source, copy):\n"
            "    wrong = next(place for place in sorted(copy.rglob('*')) if place.is_file() and place.stat().st_size)\n"
            "    wrong.chmod(0o600)\n"
            "    wrong.write_bytes(b'x' + wrong.read_bytes()[1:] + b'y')\n"
            "    return real(source, copy)\n"
            "demo.compare = compare\n"
            "from peerstore.cli.main import main\n"
            "main()\n"
        )
        demo = self.start(program=("-c", broken))
        out, _ = demo.communicate(timeout=120)
        self.assertEqual(demo.returncode, 1, out)
        self.assertNotIn("nothing was lost", out)
        self.assertNotIn("Traceback", out)
        await until("a clean place", lambda: not self.left_behind())

    async def test_stopped_in_the_middle(self) -> None:
        """Ctrl-C leaves no process and no folder, and is no success."""
        demo = self.start()
        await until("a folder", lambda: os.listdir(self.folder / "tmp"))
        await pause(2.0)
        demo.send_signal(signal.SIGINT)
        out, _ = demo.communicate(timeout=60)
        self.assertNotEqual(demo.returncode, 0, out)
        self.assertNotIn("Traceback", out)
        await until("a clean place", lambda: not self.left_behind())
