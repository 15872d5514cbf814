"""Computers of one user that keep a folder, on real disks and a ring in
memory, step by step and without a service."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peerstore.client.client import Client
from peerstore.client.source import Found
from peerstore.client.state import Agreed
from peerstore.sync.carry import Carrier, Done
from peerstore.sync.plan import Action, Do, plan
from peerstore.sync.tree import LocalTree
from peerstore.sync.working import Worker
from peerstore.transactions.view import PathVersion
from tests.support.memory_ring import ClientTestCase

__all__ = ["FOLDER", "Side", "SyncTestCase"]

FOLDER = "shared"


class Side:
    """One computer.

    :param place: its folder, made if missing.
    """

    def __init__(self, case: ClientTestCase, client: Client, place: Path) -> None:
        self.case = case
        self.client = client
        self.place = place
        place.mkdir(exist_ok=True)
        self.tree = LocalTree(os.fsencode(place))
        self.tree.open(b"n" * 16, True)
        case.addCleanup(self.tree.close)
        self.agreed: dict[bytes, Agreed] = client.state.agreed(FOLDER)
        self.learned: dict[bytes, Found | None] = {}
        self.carrier = Carrier(client, self.tree, FOLDER, self.agreed)
        self.worker = Worker(client, self.tree, FOLDER, self.agreed, self.learned.__setitem__)

    def plan(self) -> list[Action]:
        """What there is to do, having read the log and looked at all."""
        self.case.result(self.client.refresh())
        scan = self.tree.scan(b"", lambda _: None)
        view = self.client.view
        remote = {path: view.versions(FOLDER, path) for path in view.paths(FOLDER)}
        return plan(scan.found, self.agreed, remote, self.client.device, scan.unread)

    def step(self, do: Do, path: bytes) -> Action:
        """One step of the plan."""
        return next(action for action in self.plan() if (action.do, action.path) == (do, path))

    def carry(self, action: Action) -> Done:
        """Carry one step out, and nothing of what follows from it."""
        self.carrier.begin()
        done: Done = self.case.result(self.carrier.carry(action))
        return done

    def work(self, actions: Sequence[Action] | None = None) -> bool:
        """Carry a plan out."""
        done: bool = self.case.result(self.worker.work(self.plan() if actions is None else actions))
        return done

    def rest(self) -> None:
        """Work until nothing is left to do."""
        for _ in range(10):
            if not (actions := self.plan()):
                return
            self.work(actions)
        self.case.fail(f"no rest: {actions}")

    def versions(self, path: bytes) -> list[PathVersion]:
        """What stands in the log."""
        return self.client.view.versions(FOLDER, path)

    def write(self, path: str, content: bytes = b"x") -> None:
        """Save a file, with folders on the way."""
        (self.place / path).parent.mkdir(parents=True, exist_ok=True)
        (self.place / path).write_bytes(content)

    def read(self, path: str) -> bytes:
        """A file's content."""
        return (self.place / path).read_bytes()

    def names(self) -> list[str]:
        """All paths that are kept, sorted."""
        return sorted(os.fsdecode(path) for path in self.tree.scan(b"", lambda _: None).found)

    def hidden(self) -> list[str]:
        """What is left in the hidden folder."""
        return os.listdir(self.place / ".peerstore-sync")


class SyncTestCase(ClientTestCase):
    """One user's computers."""

    def side(self, name: str) -> Side:
        """One computer more, with a folder of its own."""
        return Side(self, self.client(self.device(f"{name}-home")), self.place / name)

    def two(self) -> tuple[Side, Side]:
        """Two, with nothing in their folders."""
        return self.side("here"), self.side("there")

    def shared(self, path: str, content: bytes = b"x") -> tuple[Side, Side]:
        """Two that have a file in common."""
        here, there = self.two()
        here.write(path, content)
        here.rest()
        there.rest()
        return here, there

    def log_length(self) -> int:
        """How many entries the ring has."""
        return sum(len(log) for log in self.gateway.logs.values())

    def fails(self, work: Any, *kinds: type[BaseException]) -> Any:
        """The error with which a coroutine ended."""
        return self.error(work, *kinds)
