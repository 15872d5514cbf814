"""Real ``twistd peerstore-sync`` daemons, on the computers of one user."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from peerstore import ids
from peerstore.client.assemble import state_file
from peerstore.client.state import ClientState
from peerstore.crypto.keys import KeyPair
from tests.support.processes import NodeProcess, ProcessTestCase, RingClient, pause, twistd, until

__all__ = ["Computer", "SyncProcessTestCase", "contents", "run_twistd"]

#: A sync daemon has to arrive at the same folder within this time (s); the
#: tests wait for it and do not measure it.
PATIENCE = 60.0


def run_twistd(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run twistd to its end."""
    return subprocess.run(
        twistd(*arguments),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
        cwd=folder,
    )


def contents(root: Path) -> dict[bytes, tuple[Any, ...]]:
    """{path: kind, mode, and content or link text} of all that sync keeps."""
    top = os.fsencode(root)
    found: dict[bytes, tuple[Any, ...]] = {}
    for place, folders, files in os.walk(top):
        if place == top:
            folders[:] = [name for name in folders if not name.startswith(b".peerstore-")]
            files = [name for name in files if not name.startswith(b".peerstore-")]
        for name in (*folders, *files):
            path = os.path.join(place, name)
            status = os.lstat(path)
            more: object = None
            if stat.S_ISLNK(status.st_mode):
                more = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    more = file.read()
            mode = 0 if stat.S_ISLNK(status.st_mode) else stat.S_IMODE(status.st_mode)
            found[os.path.relpath(path, top)] = (stat.S_IFMT(status.st_mode), mode, more)
    return found


class Computer:
    """A folder, a home, and the daemon between them.

    :param peers: HOST:PORT of nodes.
    :param key: the user's key file.
    """

    def __init__(self, place: Path, key: Path, peers: Sequence[str], extra: Sequence[str] = ()) -> None:
        self.folder = place / "folder"
        self.home = place / "home"
        self.log = place / "sync.log"
        self.key = key
        self.peers = list(peers)
        self.extra = list(extra)
        self.process: subprocess.Popen[bytes] | None = None
        self.folder.mkdir(parents=True)

    @property
    def options(self) -> list[str]:
        """What the daemon is told."""
        peers = [word for peer in self.peers for word in ("--peer", peer)]
        where = ["--folder", str(self.folder), "--home", str(self.home), "--key", str(self.key), "--as", "shared"]
        return ["peerstore-sync", *where, "--poll", "1", *peers, *self.extra]

    def start(self) -> None:
        """Start the daemon; its output is added to its log."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                twistd("-n", "--pidfile=", *self.options),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def text(self) -> str:
        """Its log."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    async def says(self, words: str) -> None:
        """Wait until its log has these words."""
        await until(f"{words!r} in the log:\n{self.text()[-2000:]}", lambda: words in self.text(), PATIENCE)

    def kill9(self) -> None:
        """kill -9: it gets no chance to do anything."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        process, self.process = self.process, None
        assert process is not None
        if process.poll() is None:
            process.send_signal(number)
        return process.wait(30)

    def write(self, path: str, content: bytes) -> None:
        """Save a file, with folders on the way."""
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_bytes(content)

    def save(self, path: str, content: bytes) -> None:
        """Save a file as editors do: a new one, renamed."""
        new = self.folder / f"{path}~"
        new.write_bytes(content)
        new.rename(self.folder / path)

    def read(self, path: str) -> bytes | None:
        """A file's content, or None."""
        try:
            return (self.folder / path).read_bytes()
        except OSError:
            return None

    def agreed(self) -> int:
        """On how many paths the daemon and the log agreed."""
        state = ClientState(state_file(self.home, KeyPair.load(self.key)))
        state.open()
        try:
            return len(state.agreed("shared"))
        finally:
            state.close()

    def names(self) -> list[str]:
        """What is in the folder, sorted."""
        return sorted(os.fsdecode(path) for path in contents(self.folder))


class SyncProcessTestCase(ProcessTestCase):
    """A ring of three, and computers of one user."""

    timeout = 240

    def setUp(self) -> None:
        super().setUp()
        self.computers: list[Computer] = []
        self.addCleanup(self._end_computers)
        self.key = self.folder / "key.pem"
        self.pair = KeyPair.load_or_create(self.key, None, 2048)

    def _end_computers(self) -> None:
        for computer in self.computers:
            if computer.process is not None:
                computer.kill9()

    async def small_ring(self, count: int = 3) -> RingClient:
        """A ring of few positions, which forms quickly."""
        return await self.ring(count, "--virtual-nodes", "2")

    def computer(self, *extra: str, nodes: Sequence[NodeProcess] | None = None) -> Computer:
        """One computer more; its daemon is not started."""
        peers = [f"127.0.0.1:{node.port}" for node in (self.nodes if nodes is None else nodes)]
        computer = Computer(self.folder / f"computer-{len(self.computers)}", self.key, peers, extra)
        self.computers.append(computer)
        return computer

    async def two(self, nodes: int = 3) -> tuple[Computer, Computer]:
        """Two, in step with each other, by way of so many nodes."""
        await self.small_ring(nodes)
        one, other = self.computer(), self.computer()
        for computer in (one, other):
            computer.start()
            await computer.says("syncing")
        return one, other

    async def equal(self, is_so: Callable[[], object] = lambda: True) -> None:
        """Wait until all folders hold the same, and *is_so*."""

        def alike() -> bool:
            self._all_run()
            try:
                first, *rest = (contents(computer.folder) for computer in self.computers)
            except FileNotFoundError:
                return False
            return bool(is_so()) and all(other == first for other in rest)

        await until("equal folders", alike, PATIENCE)

    async def there(self, computer: Computer, path: str, content: bytes | None) -> None:
        """Wait until a file has a content, or is gone (None)."""

        def arrived() -> bool:
            self._all_run()
            return computer.read(path) == content

        await until(path, arrived, PATIENCE)

    def _all_run(self) -> None:
        for computer in self.computers:
            if computer.process is not None and computer.process.poll() is not None:
                raise AssertionError(f"a daemon ended by itself:\n{computer.text()[-3000:]}")

    async def log_length(self, client: RingClient) -> int:
        """How many entries the user's log has."""
        owner, log_id = ids.key_id(self.pair.spki), ids.log_ring_id(self.pair.spki)
        read = await client.gateway.read_log(log_id, owner, {}, 1024)
        self.assertTrue(read.complete)
        self.assertFalse(read.more)
        return len(read.items)

    async def at_rest(self, client: RingClient, seconds: float = 3.0) -> None:
        """Wait until the log has not grown for a while; with a poll each
        second, an answer to an answer would have come by then."""

        async def still() -> bool:
            before = await self.log_length(client)
            await pause(seconds)
            return before == await self.log_length(client)

        await until("a log at rest", lambda: Deferred.fromCoroutine(still()), PATIENCE)

    def assert_no_trace(self) -> None:
        """No daemon said more than words."""
        for computer in self.computers:
            self.assertNotIn("Traceback", computer.text())
