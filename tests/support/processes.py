"""Real node processes on loopback, and a client of their ring in this one.

Every process is in a group of its own and is ended when the test is over,
however the test ends.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from peerstore import ids
from peerstore.cli.cluster import free_port
from peerstore.crypto.keys import KeyPair
from peerstore.errors import PeerStoreError
from peerstore.gateway.gateway import Gateway
from peerstore.net.network import EndpointNetwork
from peerstore.net.pool import PeerPool
from peerstore.ring.hosts import HostTable
from peerstore.ring.lookup import LookupClient
from peerstore.util.lamport import LamportClock
from peerstore.wire.session import SUITE_CLEAR, VERSION, Greeting

__all__ = ["SOAK", "NodeProcess", "ProcessTestCase", "RingClient", "free_port", "pause", "twistd", "until"]

#: How many times longer than in CI the long tests are to be, for a night's run.
SOAK = int(os.environ.get("PEERSTORE_SOAK", "1"))

# What a shell runs in the background ignores SIGINT, and so would all that is
# started here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Processes find each other's compiled modules, and nothing is written into the
# tree: compiling all of them is a third of what a short command costs.
_COMPILED = tempfile.TemporaryDirectory(prefix="peerstore-tests-")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# They write as they do for people, who do not set this.
os.environ.pop("PYTHONUNBUFFERED", None)
os.environ["PYTHONPYCACHEPREFIX"] = _COMPILED.name

#: Making a key takes a second or more, and no test is about that.
_KEYS = [KeyPair.generate(2048) for _ in range(1)]


def twistd(*arguments: str) -> list[str]:
    """The command line of twistd under the Python that runs the tests."""
    return [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", *arguments]


def pause(seconds: float) -> Deferred[None]:
    """A Deferred that fires later."""
    later: Deferred[None] = deferLater(reactor, seconds)  # type: ignore[arg-type]
    return later


async def until(what: str, is_so: Callable[[], Any], seconds: float = 30.0, every: float = 0.05) -> Any:
    """Wait for *is_so* to return, or fire with, something true; return that."""
    ends = reactor.seconds() + seconds  # type: ignore[attr-defined]
    while True:
        result = is_so()
        if isinstance(result, Awaitable):
            result = await result
        if result:
            return result
        if reactor.seconds() > ends:  # type: ignore[attr-defined]
            raise AssertionError(f"waited {seconds:.0f} s in vain for: {what}")
        await pause(every)


class NodeProcess:
    """One ``twistd peerstore-node`` with its own data folder.

    :param data: the data folder; its key is made beforehand.
    :param join: ports of other nodes.
    """

    def __init__(self, data: Path, port: int = 0, join: Sequence[int] = (), extra: Sequence[str] = ()) -> None:
        self.data = data
        self.port = port or free_port()
        self.join = list(join)
        self.extra = list(extra)
        self.log = data.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        data.mkdir(parents=True, exist_ok=True)
        self.key = KeyPair.load_or_create(data / "key.pem", data / "publickey.pem", 2048)

    @property
    def address(self) -> str:
        """Where it can be dialled."""
        return f"tcp:127.0.0.1:{self.port}"

    @property
    def command(self) -> list[str]:
        """What is run."""
        joins = [word for port in self.join for word in ("--join", f"tcp:127.0.0.1:{port}")]
        listen = f"tcp:{self.port}:interface=127.0.0.1"
        node = ["peerstore-node", "--listen", listen, "--data", str(self.data), *joins, *self.extra]
        return twistd("-n", "--pidfile=", *node)

    def start(self) -> None:
        """Start it; its output is added to its log."""
        self.starts = self.text().count("starting up.")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    async def ready(self) -> None:
        """Wait until this start of it is a member of a ring."""

        def member() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"the node ended by itself:\n{self.text()[-3000:]}")
            own = self.text().split("starting up.")[self.starts + 1 :]
            return any("has joined the ring" in part or "starts alone" in part for part in own)

        await until("a node that is ready", member)

    def text(self) -> str:
        """Its log."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def kill9(self) -> None:
        """kill -9: it gets no chance to do anything."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(number)
        try:
            return process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise AssertionError(f"a node did not end within 20 s:\n{self.text()[-3000:]}") from None


class RingClient:
    """A client of real nodes, living in the reactor of the tests."""

    def __init__(self, addresses: Sequence[str], patience: float = 30.0) -> None:
        self.key = _KEYS[0]
        self.rng = random.Random(7)
        clock: Any = reactor
        self.pool = PeerPool(EndpointNetwork(reactor), clock, self.rng, self._greeting, None, LamportClock())
        self.hosts = HostTable(clock)
        lookup = LookupClient(self.pool, self.hosts, clock, lambda: list(addresses))
        self.lookup = lookup
        self.gateway = Gateway(self.pool, self.hosts, lookup, clock, self.rng, patience=patience)

    @property
    def owner(self) -> bytes:
        """The 20-byte id under which things are stored."""
        return ids.key_id(self.key.spki)

    def _greeting(self) -> Greeting:
        return Greeting((VERSION,), (SUITE_CLEAR,), self.key.spki, "user", 0, 0, "", 0, os.urandom(32))

    async def hosts_seen(self, address: str) -> set[bytes]:
        """Fingerprints in the list of position 0 of the node at *address*."""
        from peerstore.wire.bodies import GetNeighbours, Neighbours

        try:
            answer: Neighbours = await self.pool.call(address, "get-neighbours", GetNeighbours(0), 3.0)
        except PeerStoreError:
            return set()
        return {answer.position.fp, *(ref.fp for ref in answer.successors)}


class ProcessTestCase(TestCase):
    """Starts nodes and ends them all."""

    timeout = 150

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        self.nodes: list[NodeProcess] = []
        self.addCleanup(self._end_all)

    def node(self, port: int = 0, join: Sequence[int] = (), extra: Sequence[str] = ()) -> NodeProcess:
        """One more node, not yet started."""
        node = NodeProcess(self.folder / f"node-{len(self.nodes)}", port, join, extra)
        self.nodes.append(node)
        return node

    def client(self, *nodes: NodeProcess, patience: float = 30.0) -> RingClient:
        """A client that begins with these nodes, or all."""
        client = RingClient([node.address for node in nodes or self.nodes], patience)
        self.addCleanup(client.pool.stop)
        return client

    async def ring(self, count: int, *extra: str) -> RingClient:
        """Start *count* nodes, and wait until each of them sees all."""
        first = self.node(extra=extra)
        first.start()
        for _ in range(count - 1):
            self.node(join=[first.port], extra=extra).start()
        for node in self.nodes:
            await node.ready()
        client = self.client()
        await self.whole(client)
        return client

    async def whole(self, client: RingClient, nodes: Sequence[NodeProcess] = ()) -> None:
        """Wait until each of the nodes has exactly these hosts in its list."""
        expected = {node.key.fp for node in nodes or self.nodes}

        async def all_agree() -> bool:
            for node in nodes or self.nodes:
                if await client.hosts_seen(node.address) != expected:
                    return False
            return True

        await until("a ring of all nodes", lambda: Deferred.fromCoroutine(all_agree()), 60.0, 0.2)

    async def _end_all(self) -> None:
        for node in self.nodes:
            if node.process is not None and node.process.poll() is None:
                node.process.send_signal(signal.SIGKILL)
        for node in self.nodes:
            if node.process is not None:
                node.process.wait()
        # The pools' sockets notice on the next turns of the reactor.
        await pause(0.05)
