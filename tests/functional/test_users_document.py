"""The running notes of the user's document, as docs/from-the-design-document.md
writes them for this program; the commands are read from that page."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import tests
from tests.support.processes import ProcessTestCase, free_port, until

PAGE = Path(tests.__file__).parent.parent / "docs" / "from-the-design-document.md"
ENTRIES = {
    "twistd": "from twisted.scripts.twistd import run; run()",
    "peerstore": "from peerstore.cli.main import main; main()",
}


def running_notes(milestone: int) -> list[str]:
    """The command lines under the heading of a milestone's running notes."""
    section = PAGE.read_text().split(f"## Running notes, milestone {milestone}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```", section, re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


class RunningNotesTests(ProcessTestCase):
    """The commands, typed into a shell in the user's home, on free ports."""

    def setUp(self) -> None:
        super().setUp()
        self.home = self.folder / "user"
        self.home.mkdir()
        commands = self.folder / "bin"
        commands.mkdir()
        for name, code in ENTRIES.items():
            (commands / name).write_text(f"#!{sys.executable}\nimport sys\nsys.argv[0] = {name!r}\n{code}\n")
            (commands / name).chmod(0o755)
        self.environment = {**os.environ, "HOME": str(self.home), "PATH": f"{commands}:{os.environ['PATH']}"}
        self.servers: list[subprocess.Popen[bytes]] = []
        self.addCleanup(self._stop_servers)

    def _stop_servers(self) -> None:
        for server in self.servers:
            if server.poll() is None:
                server.send_signal(signal.SIGKILL)
            server.wait()

    async def serve(self, line: str) -> None:
        """Type a server's command line, and wait until it is a member."""
        log = self.folder / f"server-{len(self.servers)}.log"
        with log.open("wb") as out:
            server = subprocess.Popen(
                ["bash", "-c", f"exec {line}"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.home,
                env=self.environment,
                start_new_session=True,
            )
        self.servers.append(server)

        def member() -> bool:
            self.assertIs(server.poll(), None, log.read_text())
            return any(word in log.read_text() for word in ("starts alone", "has joined the ring"))

        await until("a server that is ready", member, 60)

    def type(self, line: str) -> str:
        """Type a command, which must succeed; what it printed."""
        done = subprocess.run(
            ["bash", "-c", line],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
        )
        self.assertEqual(done.returncode, 0, f"{line}\n{done.stdout}{done.stderr}")
        return done.stdout

    async def test_milestone_1(self) -> None:
        """Two servers, a backup, and getfile with another destination."""
        folder = self.home / "peerstore"
        (folder / "below").mkdir(parents=True)
        (folder / "test.txt").write_text("what the user had written\n")
        (folder / "below" / "other.txt").write_text("and what was below it\n")
        ports = {"3000": str(free_port()), "3001": str(free_port())}
        lines = [re.sub(r"(?<=:)300[01]\b", lambda found: ports[found[0]], line) for line in running_notes(1)]
        servers = [line for line in lines if line.startswith("twistd")]
        commands = [line for line in lines if line.startswith("peerstore")]
        self.assertEqual((len(servers), len(commands)), (2, 2), lines)

        for line in servers:
            await self.serve(line)
        said = self.type(commands[0])
        self.assertIn("2 files", said)
        (folder / "test.txt").unlink()
        self.type(commands[1])

        restored = self.home / "test.txt.restored"
        self.assertEqual(restored.read_text(), "what the user had written\n")
        self.assertFalse((folder / "test.txt").exists())

    async def test_the_keys_that_a_server_holds(self) -> None:
        """-dataPath showed the keys loaded into a server; so does node keys."""
        port = free_port()
        await self.serve(
            f"twistd -n --pidfile= peerstore-node --listen tcp:{port}:interface=127.0.0.1 --data .peerstore/a"
        )
        (self.home / "peerstore").mkdir()
        (self.home / "peerstore" / "test.txt").write_bytes(os.urandom(100_000))
        self.type(f"peerstore backup ~/peerstore/ --peer 127.0.0.1:{port}")
        listed = self.type("peerstore node keys .peerstore/a")
        for kind in ("chunk", "head", "log"):
            self.assertRegex(listed, rf"(?m)^[0-9a-f]{{40}}  {kind} ")
