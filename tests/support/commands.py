"""``peerstore`` as a person types it, in processes of their own."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from peerstore.crypto.keys import KeyPair
from tests.support.processes import SOAK, NodeProcess, ProcessTestCase, RingClient

__all__ = ["CommandTestCase", "Person", "Said", "tree"]


class Said(NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines on standard error that are not empty."""
        return [line for line in self.err.splitlines() if line.strip()]


class Person:
    """One home, and the commands of whoever it belongs to.

    :param home: where key and state are; its key is made beforehand, and small.
    :param peers: HOST:PORT of nodes, given with each command.
    """

    def __init__(self, home: Path, peers: Sequence[str] = ()) -> None:
        self.home = home
        self.peers = list(peers)
        home.mkdir(parents=True, exist_ok=True)
        KeyPair.load_or_create(home / "key.pem", home / "publickey.pem", 2048)

    def command(self, *arguments: str, peers: Sequence[str] | None = None) -> list[str]:
        """The command line; *arguments* begin with options or the verb."""
        line = [sys.executable, "-m", "peerstore.cli", "--home", str(self.home), *arguments]
        for peer in self.peers if peers is None else peers:
            line += ["--peer", peer]
        return line

    def start(self, *arguments: str, peers: Sequence[str] | None = None) -> subprocess.Popen[str]:
        """Begin a command in a process group of its own."""
        return subprocess.Popen(
            self.command(*arguments, peers=peers),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            start_new_session=True,
        )

    def run(
        self, *arguments: str, stdin: bytes = b"", peers: Sequence[str] | None = None, timeout: float = 100.0 * SOAK
    ) -> Said:
        """Run a command to its end, which must not be a traceback."""
        result = subprocess.run(
            self.command(*arguments, peers=peers), input=stdin, capture_output=True, check=False, timeout=timeout
        )
        said = Said(result.returncode, result.stdout.decode(errors="backslashreplace"), result.stderr.decode())
        if "Traceback" in said.err:
            raise AssertionError(f"{arguments} ended with a traceback:\n{said.err}")
        return said

    def does(self, *arguments: str, stdin: bytes = b"") -> str:
        """Run a command that must succeed; its standard output."""
        said = self.run(*arguments, stdin=stdin)
        if said.status != 0:
            raise AssertionError(f"{arguments} ended with status {said.status}:\n{said.out}{said.err}")
        return said.out

    def asks(self, *arguments: str) -> Any:
        """What a command that must succeed prints with ``--json``."""
        return json.loads(self.does("--json", *arguments))


def tree(root: Path) -> dict[bytes, tuple[Any, ...]]:
    """{path: kind, mode, mtime in ns, and content} of everything below *root*,
    itself included (as the empty path)."""
    top = os.fsencode(root)
    found: dict[bytes, tuple[Any, ...]] = {}

    def add(path: bytes) -> None:
        place = os.path.join(top, path) if path else top
        status = os.lstat(place)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFLNK:
            found[path] = (kind, os.readlink(place), status.st_mtime_ns)
        elif kind == stat.S_IFREG:
            with open(place, "rb") as file:
                found[path] = (kind, stat.S_IMODE(status.st_mode), status.st_mtime_ns, file.read())
        else:
            found[path] = (kind, stat.S_IMODE(status.st_mode), status.st_mtime_ns)
        if kind == stat.S_IFDIR:
            for name in os.listdir(place):
                add(os.path.join(path, name) if path else name)

    add(b"")
    return found


class CommandTestCase(ProcessTestCase):
    """Nodes, and people who type commands."""

    def person(self, name: str = "home", nodes: Sequence[NodeProcess] | None = None) -> Person:
        """Somebody who knows these nodes, or all that were started."""
        known = self.nodes if nodes is None else nodes
        return Person(self.folder / name, [f"127.0.0.1:{node.port}" for node in known])

    async def small_ring(self, count: int) -> RingClient:
        """A ring of few positions, which forms quickly."""
        return await self.ring(count, "--virtual-nodes", "2")

    def assert_same_tree(self, one: Path, other: Path) -> None:
        """Both folders hold the same, in every respect that is kept."""
        first, second = tree(one), tree(other)
        self.assertEqual(sorted(first), sorted(second))
        for path in first:
            # Contents may be large: say which path differs, not how.
            self.assertEqual(first[path][:-1], second[path][:-1], path)
            self.assertTrue(first[path][-1] == second[path][-1], path)
