"""A small world: hosts that run the shipped node, and a client, in virtual time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from peerstore import ids
from peerstore.errors import PeerStoreError
from peerstore.files.chunk import chunk_item, seal_chunk
from peerstore.gateway.gateway import Gateway
from peerstore.net.pool import PeerPool
from peerstore.ring.hosts import HostTable
from peerstore.ring.lookup import LookupClient
from peerstore.sim.clock import SimClock
from peerstore.sim.decisions import Decisions
from peerstore.sim.host import SimHost
from peerstore.sim.invariants import MemberState, Violation, check_all, check_ideal
from peerstore.sim.network import Cut, Faults, SimNetwork
from peerstore.sim.process import Process
from peerstore.sim.trace import Trace
from peerstore.sim.watcher import Watcher
from peerstore.sim.witness import Board
from peerstore.util.lamport import LamportClock
from peerstore.wire.session import SUITE_CLEAR, VERSION, Greeting

__all__ = ["SimHost", "World"]

LIST_SIZE = 4
LONGEST_PERIOD = 30.0
#: Short, so that runs need not wait for what takes its time.
REPAIR_GRACE = 20.0
#: Seconds after the last trouble, whatever of it was still on its way.
CALM_AFTER = 20.0


class World:
    """Everything that one simulated run consists of.

    :param seed: decides everything.
    :param virtual_nodes: positions of each host.
    :param list_size: r.
    :param say: told what happens, for people.
    :param knows_all: whether hosts exchange tables of all hosts.
    :param longest_period: of the nodes' upkeep, when all is quiet.
    :param repair_grace: for how long a host may be away.
    :param bound: given, the invariants are looked at after every event, and
        hold again within so many virtual seconds of any failure.
    :param files: whether nodes care for copies of what they hold.
    :param scrub_rate: given, disks are looked at for rot all the time, at so
        many bytes per second.
    """

    def __init__(
        self,
        seed: int,
        virtual_nodes: int = 1,
        list_size: int = LIST_SIZE,
        faults: Faults | None = None,
        say: Callable[[str], None] | None = None,
        knows_all: bool = True,
        longest_period: float = LONGEST_PERIOD,
        repair_grace: float = REPAIR_GRACE,
        bound: float | None = None,
        files: bool = True,
        scrub_rate: int | None = None,
    ) -> None:
        self.clock = SimClock()
        self.decisions = Decisions(seed)
        self.trace = Trace(self.clock.seconds, say)
        self.network = SimNetwork(self.clock, self.decisions, self.trace, faults)
        self.virtual_nodes = virtual_nodes
        self.list_size = list_size
        self.knows_all = knows_all
        self.longest_period = longest_period
        self.files = files
        self.repair_grace = repair_grace
        self.scrub_rate = scrub_rate
        self.board = Board(self.clock.seconds, lambda: self.clock.events)
        self.hosts: dict[str, SimHost] = {}
        #: Those on which a node runs.
        self.live: dict[str, SimHost] = {}
        #: Keys that two nodes had; false once one of the two has given up.
        self.doubled: dict[bytes, bool] = {}
        self.problems: list[str] = []
        self.violations: list[Violation] = []
        self.checks = 0
        self.watcher = Watcher(self, bound) if bound is not None else None
        #: When something last happened to a machine or the network; and how
        #: much of that lasts.
        self.troubled = 0.0
        self.lasting = 0
        self._next_due = 0.0

    # -- hosts -------------------------------------------------------------------

    def start(self, name: str, join: str | Sequence[str] | None = None) -> SimHost:
        """Start a node on a new machine, or on one that was here before."""
        host = self.hosts.get(name)
        if host is None:
            host = self.hosts[name] = SimHost(self, name)
        host.start(join)
        return host

    def copy(self, name: str, original: str, join: str | Sequence[str] | None = None) -> SimHost:
        """Start a node on a new machine, on a copy of another's data folder."""
        if name not in self.hosts:
            self.hosts[name] = SimHost(self, name, self.hosts[original])
        return self.start(name, join)

    @property
    def twins(self) -> bool:
        """Whether two nodes with one key are at work."""
        return any(host.shadow for host in self.live.values())

    def process(self, name: str) -> Process:
        """A new program on a machine, whose clock is as wrong as clocks are."""
        return Process(self.clock, name, float(self.decisions.number(name, "clock") % 100_000))

    def running(self) -> list[SimHost]:
        """All machines on which a node runs, by name."""
        return [self.live[name] for name in sorted(self.live)]

    @property
    def someone_paused(self) -> bool:
        """Whether any node is stopped just now."""
        return any(host.process is not None and host.process.paused for host in self.live.values())

    def problem(self, what: str) -> None:
        """Something that must not be."""
        self.trace.event("PROBLEM", what, quiet=False)
        self.problems.append(f"{self.clock.seconds():.3f} s: {what}")

    def violated(self, violation: Violation) -> None:
        """An invariant does not hold, and should.  Members are named by the
        machines that they are on."""
        where = violation.where
        for fp, positions in self.board.positions.items():
            for short in map(ids.short, positions):
                where = where.replace(short, f"{short} ({self.board.names[fp]})")
        violation = violation._replace(where=where)
        self.violations.append(violation)
        self.problem(str(violation))

    def cut(self, some: Sequence[str], others: Sequence[str], one_way: bool = False) -> Cut:
        """Cut the network between two groups of machines."""
        arrow = "->" if one_way else "|"
        self.trace.event("cut", *some, arrow, *others, quiet=False)
        cut = self.network.cut(some, others, one_way)
        self.failure("a cut")
        return cut

    def mend(self, cut: Cut) -> None:
        """Take a cut back."""
        self.trace.event("mended", quiet=False)
        self.network.mend(cut)
        self.failure("a cut that was mended")

    def failure(self, what: str) -> None:
        """A failure was put in, or taken back, between two events."""
        self.troubled = self.clock.seconds()
        if self.watcher is not None:
            self.watcher.failed(what)

    @property
    def calm(self) -> bool:
        """Whether there is no reason for anybody to take another for dead."""
        network = self.network
        quiet = not (self.lasting or self.twins or self.someone_paused or network.faulty or network.rough)
        sound = not (network.faults.duplication or network.faults.reordering)
        return quiet and sound and self.clock.seconds() - self.troubled > CALM_AFTER

    # -- time ----------------------------------------------------------------------

    def step(self, until: float) -> bool:
        """Let the next event happen, if it is due by *until*, and look."""
        happened = self.clock.step(until)
        if self.watcher is not None:
            self.watcher.after_event()
            if self.clock.now >= self._next_due:
                self._next_due = self.clock.now + 1.0
                self.watcher.due()
        return happened

    def run(self, seconds: float, check: bool = False) -> None:
        """Let time pass; with *check* the invariants are looked at often."""
        end = self.clock.seconds() + seconds
        next_check = self.clock.seconds()
        while self.step(end):
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
            ring = host.node.ring if host.node is not None and not host.shadow else None
            for place in ring.positions if ring is not None else ():
                if place.is_member:
                    before = place.state.told_predecessor.id if place.state.told_predecessor is not None else None
                    found[place.id] = MemberState(before, tuple(entry.id for entry in place.successors))
        return found

    def check(self) -> list[Violation]:
        """Look at the invariants that must hold at all times."""
        self.checks += 1
        found = check_all(self.snapshot(), self.list_size)
        for violation in found:
            self.problem(str(violation))
        return found

    def ideal(self) -> list[Violation]:
        """What is missing to an ideal ring of all hosts that run."""
        snapshot = self.snapshot()
        missing = len(self.running()) * self.virtual_nodes - len(snapshot)
        found = check_ideal(snapshot, self.list_size)
        return found + [Violation("I12 Ideal", "not joined yet")] * missing

    # -- a client -------------------------------------------------------------------

    def client(self, name: str, peers: list[str], on_wait: Callable[[], None] = lambda: None) -> Gateway:
        """A user's gateway to the ring; *on_wait* is told when a read waits."""
        spki = hashlib.sha512(f"{self.decisions.seed}/user/{name}".encode()).digest() * 2
        rng = self.decisions.rng(name)

        def greet() -> Greeting:
            return Greeting((VERSION,), (SUITE_CLEAR,), spki, "user", 0, 0, "", 0, self.decisions.entropy(name, 32))

        process = self.process(name)
        clock = process.clock
        pool = PeerPool(self.network.host(process), clock, rng, greet, None, LamportClock())
        hosts = HostTable(clock)
        lookup = LookupClient(pool, hosts, clock, lambda: [f"sim:{peer}" for peer in peers])
        return Gateway(pool, hosts, lookup, clock, rng, patience=30.0, on_wait=on_wait)

    def wait(self, deferred: Deferred[Any], timeout: float) -> Any:
        """Let time pass until *deferred* fires; its result.

        :raises peerstore.errors.PeerStoreError: what it failed with, or that
            it did not fire in time.
        """
        results: list[Any] = []
        deferred.addBoth(results.append)
        end = self.clock.seconds() + timeout
        while not results and self.step(end):
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
