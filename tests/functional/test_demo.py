"""``peerstore demo``: with folders of all sorts, stopped, and when it does not
hold."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.support.commands import Said, tree
from tests.support.processes import until

#: The demo, where one byte of what was restored is another when it is compared.
ONE_WRONG_BYTE = """
import os
from peerstore.cli import demo
from peerstore.cli.main import main

real = demo.compare

def compare(source, copy, *more):
    wrong = copy / "film.bin"
    times = wrong.stat()
    with wrong.open("r+b") as file:
        file.seek(1234567)
        byte = file.read(1)
        file.seek(1234567)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(wrong, ns=(times.st_atime_ns, times.st_mtime_ns))
    return real(source, copy, *more)

demo.compare = compare
main()
"""


def parent_of(pid: int) -> int:
    """Whose child a process is; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


class DemoTests(TestCase):
    """The whole demo, its temporary folder in one of ours."""

    timeout = 150

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir(parents=True)
        self.addCleanup(self.end_all)

    def start(self, *arguments: str, program: tuple[str, ...] = ("-m", "peerstore.cli")) -> subprocess.Popen[str]:
        demo = subprocess.Popen(
            [sys.executable, *program, "demo", *arguments],
            env={**os.environ, "TMPDIR": str(self.temporary)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            start_new_session=True,
        )
        self.addCleanup(demo.kill)
        return demo

    def end(self, demo: subprocess.Popen[str]) -> Said:
        out, err = demo.communicate(timeout=120)
        self.assertNotIn("Traceback", out + err)
        return Said(demo.returncode, out, err)

    def processes(self, *words: str) -> list[int]:
        """Programs that were started for this demo and still run."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if all(word in line for word in (str(self.temporary), *words)):
                found.append(int(entry.name))
        return found

    def nodes_of(self, demo: subprocess.Popen[str]) -> list[int]:
        """The nodes themselves, without what one may fork for a moment."""
        return [pid for pid in self.processes("peerstore-node") if parent_of(pid) == demo.pid]

    def end_all(self) -> None:
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def assert_clean(self) -> None:
        """No process runs, and no folder is left."""
        self.assertEqual(self.processes(), [])
        self.assertEqual(os.listdir(self.temporary), [])

    def odd_folder(self) -> Path:
        """A folder as people have them."""
        top = self.folder / "mine"
        (top / "sub" / "deep").mkdir(parents=True)
        (top / "sub" / "read only").write_text("r\n")
        (top / "sub" / "read only").chmod(0o400)
        (top / "large").write_bytes(random.Random(1).randbytes(3 * 2**20))
        (top / "link").symlink_to("nowhere")
        os.link(top / "large", top / "hard")
        os.mkfifo(top / "pipe")
        with open(os.path.join(os.fsencode(top), b"\xff\n"), "wb") as file:
            file.write(b"odd")
        (top / "sub").chmod(0o555)
        return top

    def test_a_folder_of_ones_own(self) -> None:
        """Odd names, read-only files and folders, links, a pipe: all that is
        kept comes back, the folder is only read, and nothing is left."""
        top = self.odd_folder()
        before = tree(top)
        said = self.end(self.start(str(top)))
        self.assertEqual(said.status, 0, said.out + said.err)
        self.assertIn("pipe: a named pipe; not kept", said.out)
        self.assertRegex(said.out, r"Compared byte for byte: 7 paths, 6\.0 MiB, all equal")
        self.assertIn("nothing was lost", said.out)
        self.assertEqual(tree(top), before)
        self.assert_clean()

    def test_keep_and_json(self) -> None:
        """With --keep nodes' folders and logs stay, and no process; with
        --json there is one document."""
        said = self.end(self.start("--keep", "--json"))
        self.assertEqual(said.status, 0, said.err)
        report = json.loads(said.out)
        self.assertEqual((report["held"], report["paths"], report["not_compared"]), (True, 48, []))
        self.assertIn("Everything is left in", said.err)
        (place,) = self.temporary.iterdir()
        self.assertTrue((place / "node-0" / "node.sqlite").exists())
        self.assertIn("has joined the ring", (place / "node-1.log").read_text())
        self.assertEqual((place / "restored" / "empty").read_bytes(), b"")
        self.assertEqual(self.processes(), [])

    async def test_stopped(self) -> None:
        """Ctrl-C and SIGTERM at several moments: status 130, and neither a
        process nor a folder is left."""

        def begun() -> bool:
            return len(self.processes("peerstore-node")) > 1

        def stored() -> bool:
            return any(self.temporary.glob("*/home/state-*"))

        def synced() -> bool:
            # Their logs are there before they are: so there is time enough left.
            return any(self.temporary.glob("*/sync-desktop.log"))

        for number, moment in ((signal.SIGINT, begun), (signal.SIGTERM, stored), (signal.SIGINT, synced)):
            demo = self.start()
            await until("the moment", moment, 60, 0.01)
            # As a terminal does it: to everything in the foreground.
            os.killpg(demo.pid, number)
            said = self.end(demo)
            self.assertEqual(said.status, 130, said.out + said.err)
            self.assertIn("Stopped.", said.err)
            self.assert_clean()

    async def test_it_does_not_hold(self) -> None:
        """Nodes that die by themselves: status 1, said in words, cleaned up."""
        demo = self.start()
        await until("nodes", lambda: demo.poll() is not None or len(self.nodes_of(demo)) == 5, 60)
        os.kill(self.nodes_of(demo)[-1], signal.SIGKILL)
        said = self.end(demo)
        self.assertEqual(said.status, 1, said.out + said.err)
        self.assertIn("ended by itself", said.err)
        self.assert_clean()

    def test_a_byte_that_came_back_wrong(self) -> None:
        """Is named, with status 1; it is never said that nothing was lost,
        and all is cleaned up."""
        said = self.end(self.start(program=("-c", ONE_WRONG_BYTE)))
        self.assertEqual(said.status, 1, said.out + said.err)
        self.assertIn("film.bin has other bytes", said.err)
        self.assertNotIn("nothing was lost", said.out + said.err)
        self.assertNotIn("all equal", said.out)
        self.assert_clean()

    def test_a_folder_that_is_none(self) -> None:
        """Nothing is started for it."""
        said = self.end(self.start(str(self.folder / "no")))
        self.assertEqual(said.status, 2)
        self.assert_clean()
