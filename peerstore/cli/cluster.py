"""Real node processes on free loopback ports, for the demo and benchmarks.

Nothing here knows a reactor: processes are started, watched and killed the
way a person would, with the commands that a person would type.
"""

from __future__ import annotations

import contextlib
import json
import random
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from peerstore.crypto.keys import KeyPair
from peerstore.errors import PeerStoreError

__all__ = ["STOPPING", "Cluster", "Process", "free_port", "peerstore", "twistd", "uninterrupted"]

START_TIMEOUT = 40.0
#: Below the ports of outgoing connections, as Linux has them by default.
PORTS = (20000, 32000)
TRIES = 100
#: Signals by which a person or a system ends a program.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def twistd(*arguments: str) -> list[str]:
    """The command line of a twistd in the foreground, as installed here."""
    return [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=", *arguments]


def peerstore(*arguments: str) -> list[str]:
    """The command line of ``peerstore``, as installed here."""
    return [sys.executable, "-m", "peerstore.cli", *arguments]


def free_port() -> int:
    """A TCP port on loopback that nobody uses just now.

    Not one of those that the system gives to connections: until somebody
    listens there, it could be in use by one that was made meanwhile.
    """
    chance = random.SystemRandom()
    for _ in range(TRIES):
        with socket.socket() as probe, contextlib.suppress(OSError):
            port = chance.randrange(*PORTS)
            probe.bind(("127.0.0.1", port))
            return port
    raise PeerStoreError("No free port was found on loopback.", "End programs that listen there, then try again.")


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Put off what would stop this program until the block is over: what is
    started in it is known by then, and can be ended.

    Nothing is put off outside of the main thread, where no signals arrive.
    """
    caught: list[tuple[int, FrameType | None]] = []
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (*STOPPING, signal.SIGALRM) if is_main}
    # What is ignored stays so, also for what is started.
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    for number in before:
        signal.signal(number, lambda got, frame: caught.append((got, frame)))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for got, frame in caught[:1]:
            handler = before[signal.Signals(got)]
            if callable(handler):
                handler(got, frame)
            else:
                signal.raise_signal(got)


class Process:
    """One program running in the background, its output in a log file.

    :param command: what to run; also how it is called in messages.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        self._stream = log.open("ab")
        self._asked = False
        self._process = subprocess.Popen(
            command, stdout=self._stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def memory(self) -> int:
        """The most resident memory it has had so far, in bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return 0

    def kill(self) -> None:
        """kill -9: it gets no chance to say goodbye."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and after ten seconds kill -9."""
        self._end(signal.SIGTERM)

    def ask_to_stop(self) -> None:
        """SIGTERM, without waiting."""
        if self.running and not self._asked:
            self._asked = True
            self._process.send_signal(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self.running:
            if number == signal.SIGTERM:
                self.ask_to_stop()
            else:
                self._process.send_signal(number)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._stream.close()

    def tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])


class Cluster:
    """Some nodes of one ring, each in a folder below *folder*.

    :param bits: make the nodes' keys of this size beforehand; 0: they make
        their own, which takes them seconds.
    """

    def __init__(self, folder: Path, bits: int = 2048) -> None:
        self._bits = bits
        self.folder = folder
        self.nodes: list[Process] = []
        self.ports: list[int] = []

    @property
    def peers(self) -> list[str]:
        """HOST:PORT of each node that runs."""
        return [f"127.0.0.1:{port}" for node, port in zip(self.nodes, self.ports, strict=True) if node.running]

    def start(self, count: int, *extra: str) -> None:
        """Start *count* more nodes; the first of all starts the ring."""
        for _ in range(count):
            number = len(self.nodes)
            port = free_port()
            data = self._data(number)
            join = ("--join", f"tcp:127.0.0.1:{self.ports[0]}") if self.ports else ()
            listen = f"tcp:{port}:interface=127.0.0.1"
            command = twistd("peerstore-node", "--listen", listen, "--data", str(data), *join, *extra)
            with uninterrupted():
                self.nodes.append(Process(f"node {number}", command, self.folder / f"node-{number}.log"))
                self.ports.append(port)

    def prepare(self, count: int) -> None:
        """Make the folders and keys of the first *count* nodes."""
        for number in range(count):
            self._data(number)

    def _data(self, number: int) -> Path:
        data = self.folder / f"node-{number}"
        data.mkdir(parents=True, exist_ok=True)
        if self._bits:
            KeyPair.load_or_create(data / "key.pem", data / "publickey.pem", self._bits)
        return data

    def restart(self, number: int, *extra: str) -> None:
        """Start a stopped node again, with the folder and port it had."""
        others = [port for place, port in enumerate(self.ports) if place != number and self.nodes[place].running]
        join = ("--join", f"tcp:127.0.0.1:{others[0]}") if others else ()
        listen = f"tcp:{self.ports[number]}:interface=127.0.0.1"
        data = self.folder / f"node-{number}"
        command = twistd("peerstore-node", "--listen", listen, "--data", str(data), *join, *extra)
        with uninterrupted():
            self.nodes[number] = Process(f"node {number}", command, self.folder / f"node-{number}.log")

    def wait_ideal(self, home: Path, timeout: float = START_TIMEOUT) -> dict[str, Any]:
        """Wait until all running nodes form one ideal ring; what it looks like.

        :raises peerstore.errors.PeerStoreError: when that takes too long.
        """
        end = time.monotonic() + timeout
        said = ""
        while time.monotonic() < end:
            self.check()
            command = peerstore("--home", str(home), "--json", "ring")
            for peer in self.peers[:2]:
                command += ["--peer", peer]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            said = result.stdout + result.stderr
            if result.returncode in (0, 1):
                ring: dict[str, Any] = json.loads(result.stdout)
                # Those that were killed are known, and do not answer.
                if ring["ideal"] and sum(host["answers"] for host in ring["hosts"]) == len(self.peers):
                    return ring
            time.sleep(0.2)
        raise PeerStoreError(f"The ring did not form within {timeout:.0f} s. {said}")

    def check(self) -> None:
        """Fail if a node that was not killed has ended by itself.

        :raises peerstore.errors.PeerStoreError: with the end of its log.
        """
        for node in self.nodes:
            if not node.running and not node._stream.closed:
                raise PeerStoreError(f"{node.name} ended by itself:\n{node.tail()}")

    def stop(self) -> None:
        """End all of them."""
        for node in self.nodes:
            node.ask_to_stop()
        for node in self.nodes:
            node.stop()


def shown(command: Sequence[str]) -> str:
    """A command line as a person would type it."""
    words = list(command)
    if words[1:2] == ["-m"]:
        words = ["peerstore", *words[3:]]
    elif words[1:2] == ["-c"]:
        words = ["twistd", *words[3:]]
    return shlex.join(words)
