"""Two real ``twistd peerstore-sync`` daemons keep one folder on two computers."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

from tests.support.commands import CommandTestCase, tree
from tests.support.processes import twistd, until


class TwoComputersTests(CommandTestCase):
    """One user, two folders, three nodes."""

    timeout = 240

    def daemon(self, name: str) -> Path:
        """Start a daemon for one folder, with a home of its own and the same key."""
        folder, home = self.folder / name, self.folder / f"{name}-home"
        folder.mkdir(exist_ok=True)
        peers = [word for node in self.nodes for word in ("--peer", f"127.0.0.1:{node.port}")]
        options = [
            "--folder",
            str(folder),
            "--home",
            str(home),
            "--key",
            str(self.key),
            "--as",
            "shared",
            "--poll",
            "2",
        ]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                twistd("-n", "--pidfile=", "peerstore-sync", *options, *peers),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.daemons[name] = process
        self.addCleanup(self.end, process)
        return folder

    def end(self, process: subprocess.Popen[bytes], number: int = signal.SIGKILL) -> None:
        """End a daemon."""
        if process.poll() is None:
            process.send_signal(number)
        process.wait(30)

    async def test_what_one_does_arrives_at_the_other(self) -> None:
        """Created, changed, renamed, deleted; daemons killed; two edits at once leave both contents."""
        await self.small_ring(3)
        self.key = self.person("owner").home / "key.pem"
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        left, right = self.daemon("left"), self.daemon("right")

        async def equal() -> None:
            def same() -> bool:
                try:
                    return contents(left) == contents(right)
                except FileNotFoundError:
                    return False

            await until("equal folders", same, 60.0)

        (left / "note.txt").write_text("one\n")
        (left / "sub" / "empty").mkdir(parents=True)
        (left / "sub" / "large.bin").write_bytes(bytes(range(256)) * 20_000)
        await until("the note", lambda: (right / "note.txt").exists() and (right / "sub" / "large.bin").exists(), 60.0)
        await equal()
        (right / "note.txt").write_text("one\ntwo\n")
        (right / "sub" / "large.bin").rename(right / "moved.bin")
        await until("the change", lambda: (left / "note.txt").read_text() == "one\ntwo\n", 60.0)
        await until(
            "the move", lambda: (left / "moved.bin").exists() and not (left / "sub" / "large.bin").exists(), 60.0
        )
        shutil.rmtree(left / "sub")
        await until("the removal", lambda: not (right / "sub").exists(), 60.0)

        # One computer is off; both edit the same file.
        self.end(self.daemons["right"])
        (left / "note.txt").write_text("from the left\n")
        (right / "note.txt").write_text("from the right\n")
        self.daemon("right")
        await until("both contents", lambda: len(list(left.glob("note*"))) == 2 == len(list(right.glob("note*"))), 60.0)
        await equal()
        self.assertEqual({path.read_text() for path in left.glob("note*")}, {"from the left\n", "from the right\n"})
        for process in self.daemons.values():
            self.end(process, signal.SIGTERM)
        for name in self.daemons:
            self.assertNotIn("Traceback", (self.folder / f"{name}.log").read_text())


def contents(root: Path) -> dict[bytes, object]:
    """What is in a folder, without times of folders and our own hidden one."""
    return {
        path: (found[:2] if len(found) == 3 else found)
        for path, found in tree(root).items()
        if path and not path.startswith(b".peerstore")
    }
