"""A small world: hosts that run the shipped node, and a client, in virtual time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from peerstore import ids
from peerstore.errors import PeerStoreError
from peerstore.files.chunk import chunk_item, seal_chunk
from peerstore.gateway.gateway import Gateway
from peerstore.net.pool import PeerPool
from peerstore.node.config import NodeConfig
from peerstore.node.service import NodeService
from peerstore.ring.hosts import HostTable
from peerstore.ring.lookup import LookupClient
from peerstore.sim.clock import SimClock
from peerstore.sim.decisions import Decisions
from peerstore.sim.disk import SimDisk
from peerstore.sim.invariants import MemberState, Violation, check_always, check_ideal
from peerstore.sim.network import Faults, SimNetwork
from peerstore.sim.process import Process
from peerstore.sim.trace import Trace
from peerstore.storage.memory_store import MemoryNodeStore
from peerstore.util.blocking import InlineRunner
from peerstore.util.lamport import LamportClock
from peerstore.wire.session import SUITE_CLEAR, VERSION, Greeting

__all__ = ["SimHost", "World"]

LIST_SIZE = 4


class SimHost:
    """One machine: its key and disk outlive the node that runs on it."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self._world = world
        # Not a key, but as good as one where nobody signs anything.
        self.spki = hashlib.sha512(f"{world.decisions.seed}/{name}".encode()).digest() * 2
        self.fp = ids.fingerprint(self.spki)
        self.disk = SimDisk(world.clock, lambda: 0.001 + 0.004 * world.decisions.fraction(name, "disk"))
        self.process: Process | None = None
        self.node: NodeService | None = None

    @property
    def running(self) -> bool:
        """Whether a node runs here."""
        return self.node is not None

    def start(self, join: str | None) -> None:
        """Start a node on what the disk holds."""
        world = self._world
        config = NodeConfig(
            f"sim:{self.name}",
            (f"sim:{join}",) if join else (),
            copies=3,
            virtual_nodes=world.virtual_nodes,
            list_size=world.list_size,
        )
        self.process = process = world.process(self.name)
        self.disk.run = process.call
        self.node = NodeService(
            config,
            self.spki,
            MemoryNodeStore(self.disk),
            world.network.host(process),
            process.clock,
            world.decisions.rng(self.name),
            lambda size: world.decisions.entropy(self.name, size),
            InlineRunner(),
            lambda error: world.problem(f"{self.name} could not start: {error}"),
        )
        world.trace.event("start", self.name, quiet=False)
        self.node.startService()

    def crash(self, silent: bool = False) -> None:
        """No goodbye, and what was not synced is lost: kill -9, or, *silent*,
        a power cut of which nobody is told."""
        process, self.process, self.node = self.process, None, None
        assert process is not None
        self._world.trace.event("power cut" if silent else "crash", self.name, quiet=False)
        process.kill()
        self.disk.crash(self._world.decisions.number(self.name, "lucky") % 2)
        self._world.network.crash(process, silent)

    def leave(self) -> Deferred[None]:
        """Stop politely."""
        node, process = self.node, self.process
        self.node = self.process = None
        self._world.trace.event("leave", self.name, quiet=False)
        assert node is not None and process is not None

        def gone(result: Any) -> Any:
            process.kill()
            self._world.network.crash(process)
            return result

        return node.stopService().addBoth(gone)


class World:
    """Everything that one simulated run consists of.

    :param seed: decides everything.
    :param virtual_nodes: positions of each host.
    :param list_size: r.
    :param say: told what happens, for people.
    """

    def __init__(
        self,
        seed: int,
        virtual_nodes: int = 1,
        list_size: int = LIST_SIZE,
        faults: Faults | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.clock = SimClock()
        self.decisions = Decisions(seed)
        self.trace = Trace(self.clock.seconds, say)
        self.network = SimNetwork(self.clock, self.decisions, self.trace, faults)
        self.virtual_nodes = virtual_nodes
        self.list_size = list_size
        self.hosts: dict[str, SimHost] = {}
        self.problems: list[str] = []
        self.checks = 0

    # -- hosts -------------------------------------------------------------------

    def start(self, name: str, join: str | None = None) -> SimHost:
        """Start a node on a new machine, or on one that was here before."""
        host = self.hosts.setdefault(name, SimHost(self, name))
        host.start(join)
        return host

    def process(self, name: str) -> Process:
        """A new program on a machine, whose clock is as wrong as clocks are."""
        return Process(self.clock, name, float(self.decisions.number(name, "clock") % 100_000))

    def running(self) -> list[SimHost]:
        """All machines on which a node runs, by name."""
        return [self.hosts[name] for name in sorted(self.hosts) if self.hosts[name].running]

    def problem(self, what: str) -> None:
        """Something that must not be."""
        self.trace.event("PROBLEM", what, quiet=False)
        self.problems.append(f"{self.clock.seconds():.3f} s: {what}")

    # -- time ----------------------------------------------------------------------

    def run(self, seconds: float, check: bool = False) -> None:
        """Let time pass; with *check* the invariants are looked at often."""
        end = self.clock.seconds() + seconds
        next_check = self.clock.seconds()
        while self.clock.step(end):
            if check and self.clock.seconds() >= next_check:
                next_check = self.clock.seconds() + 0.05
                self.check()

    def until_ideal(self, timeout: float) -> float | None:
        """Virtual seconds until the ring is ideal, or None."""
        began = self.clock.seconds()
        while self.clock.seconds() - began < timeout:
            self.run(0.25)
            if not self.ideal():
                return self.clock.seconds() - began
        return None

    # -- invariants -----------------------------------------------------------------

    def snapshot(self) -> dict[int, MemberState]:
        """The state of every position of every node that is a member."""
        found = {}
        for host in self.running():
            ring = host.node.ring if host.node is not None else None
            for place in ring.positions if ring is not None else ():
                if place.is_member:
                    before = place.predecessor.id if place.predecessor is not None else None
                    found[place.id] = MemberState(before, tuple(entry.id for entry in place.successors))
        return found

    def check(self) -> list[Violation]:
        """Look at the invariants that must hold at all times."""
        self.checks += 1
        found = check_always(self.snapshot(), self.list_size)
        for violation in found:
            self.problem(f"{violation.name} does not hold at {violation.where}")
        return found

    def ideal(self) -> list[Violation]:
        """What is missing to an ideal ring of all hosts that run."""
        snapshot = self.snapshot()
        missing = len(self.running()) * self.virtual_nodes - len(snapshot)
        found = check_ideal(snapshot, self.list_size)
        return found + [Violation("I12 Ideal", "not joined yet")] * missing

    # -- a client -------------------------------------------------------------------

    def client(self, name: str, peers: list[str]) -> Gateway:
        """A user's gateway to the ring."""
        spki = hashlib.sha512(f"{self.decisions.seed}/user/{name}".encode()).digest() * 2
        rng = self.decisions.rng(name)

        def greet() -> Greeting:
            return Greeting((VERSION,), (SUITE_CLEAR,), spki, "user", 0, 0, "", 0, self.decisions.entropy(name, 32))

        process = self.process(name)
        clock = process.clock
        pool = PeerPool(self.network.host(process), clock, rng, greet, None, LamportClock())
        hosts = HostTable(clock)
        lookup = LookupClient(pool, hosts, clock, lambda: [f"sim:{peer}" for peer in peers])
        return Gateway(pool, hosts, lookup, clock, rng, patience=30.0)

    def wait(self, deferred: Deferred[Any], timeout: float) -> Any:
        """Let time pass until *deferred* fires; its result.

        :raises peerstore.errors.PeerStoreError: what it failed with, or that
            it did not fire in time.
        """
        results: list[Any] = []
        deferred.addBoth(results.append)
        end = self.clock.seconds() + timeout
        while not results and self.clock.step(end):
            pass
        if not results:
            raise PeerStoreError(f"Nothing came of it within {timeout} virtual seconds.")
        result = results[0]
        if hasattr(result, "raiseException"):
            result.raiseException()
        return result

    def put(self, gateway: Gateway, contents: list[bytes]) -> list[tuple[bytes, bytes]]:
        """Store contents as chunks; (hash, content) of those that are certain."""
        owner = hashlib.sha1(b"the simulated user", usedforsecurity=False).digest()
        sealed = [seal_chunk(content) for content in contents]
        items = [chunk_item(owner, piece, 1) for piece in sealed]
        outcomes = self.wait(gateway.put_chunks(items), 120.0)
        certain = [
            (piece.hash, content)
            for piece, content, outcome in zip(sealed, contents, outcomes, strict=True)
            if outcome.certain
        ]
        self.trace.event("put", len(certain), "of", len(contents), "are certain", quiet=False)
        return certain

    def get(self, gateway: Gateway, stored: list[tuple[bytes, bytes]]) -> int:
        """Read what was stored; how many came back, each checked."""
        found = self.wait(gateway.get_chunks([digest for digest, _ in stored]), 120.0)
        good = 0
        for digest, content in stored:
            item = found.get(digest)
            if item is None:
                self.problem(f"chunk {digest.hex()[:8]} was certain and is not found")
            elif item.data != seal_chunk(content).data:
                self.problem(f"chunk {digest.hex()[:8]} came back with other bytes")
            else:
                good += 1
        self.trace.event("get", good, "of", len(stored), "came back", quiet=False)
        return good
