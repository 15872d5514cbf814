"""One simulated machine: its disk outlives the node that runs on it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from peerstore import ids
from peerstore.errors import KeyInUse
from peerstore.node.config import NodeConfig
from peerstore.node.service import NodeService
from peerstore.sim.disk import SimDisk
from peerstore.sim.process import Process
from peerstore.sim.witness import Witness, WitnessPool
from peerstore.storage.memory_store import MemoryNodeStore
from peerstore.util.blocking import InlineRunner

if TYPE_CHECKING:
    from peerstore.sim.world import World

__all__ = ["SimHost"]

#: Older states of a disk that are kept.
MOST_SNAPSHOTS = 16


class _RingNode(NodeService):
    """A node of which the ring is looked at, and nothing else: all of the
    shipped one but its care for copies, which would be most of the work."""

    def _build(self) -> None:
        super()._build()
        assert self.holding is not None
        # Ended before they begin: whatever wakes its rounds wakes nobody.
        self.holding.stop()


class SimHost:
    """A machine; it has an address for ever, and a key until its disk is wiped.

    :param copied: the machine whose data folder it was given, key and all.
    """

    def __init__(self, world: World, name: str, copied: SimHost | None = None) -> None:
        self.name = name
        self._world = world
        self._keys = 0
        self.disk = SimDisk(world.clock, lambda: 0.001 + 0.004 * world.decisions.fraction(name, "disk"))
        self.process: Process | None = None
        self._last: Process | None = None
        self.node: NodeService | None = None
        self.witness: Witness | None = None
        #: Another with its key was at work before it.
        self.shadow = False
        self._snapshots: list[Mapping[bytes, bytes]] = []
        if copied is None:
            self.spki = self._new_key()
        else:
            self.spki = copied.spki
            self.disk.restore(copied.disk.snapshot())

    @property
    def fp(self) -> bytes:
        """Of its key."""
        return ids.fingerprint(self.spki)

    def _new_key(self) -> bytes:
        # Not a key, but as good as one where nobody signs anything.
        text = f"{self._world.decisions.seed}/{self.name}" + f"/{self._keys}" * bool(self._keys)
        spki = hashlib.sha512(text.encode()).digest() * 2
        self._keys += 1
        board, fp, positions = self._world.board, ids.fingerprint(spki), range(self._world.virtual_nodes)
        board.names[fp] = self.name
        board.positions[fp] = tuple(ids.position_id(spki, index) for index in positions)
        return spki

    @property
    def running(self) -> bool:
        """Whether a node runs here."""
        return self.node is not None

    def start(self, join: str | Sequence[str] | None) -> None:
        """Start a node on what the disk holds; *join* names other machines."""
        world = self._world
        names = (join,) if isinstance(join, str) else tuple(join or ())
        config = NodeConfig(
            f"sim:{self.name}",
            tuple(f"sim:{name}" for name in names),
            copies=3,
            virtual_nodes=world.virtual_nodes,
            list_size=world.list_size,
            longest_period=world.longest_period,
            knows_all=world.knows_all,
            repair_rate=0,
            repair_grace=world.repair_grace,
        )
        if world.scrub_rate is not None:
            config = config._replace(scrub_rate=world.scrub_rate, scrub_days=0.0)
        if self._last is not None and self._last.alive:
            # It was still on its way out.
            self._last.kill()
            self.disk.crash()
            Witness(world.board, self.fp, self.name).end()
            world.network.crash(self._last)
        self.process = self._last = process = world.process(self.name)
        self.disk.run = process.call
        self.node = (NodeService if world.files else _RingNode)(
            config,
            self.spki,
            MemoryNodeStore(self.disk),
            world.network.host(process),
            process.clock,
            world.decisions.rng(self.name),
            lambda size: world.decisions.entropy(self.name, size),
            InlineRunner(),
            self._failed,
        )
        self.shadow = any(host.fp == self.fp for host in world.live.values())
        self.witness = Witness(world.board, self.fp, self.name)
        self.node.pool = WitnessPool(self.node.pool, self.witness)  # type: ignore[assignment]
        world.board.at[f"sim:{self.name}"] = self.fp
        world.live[self.name] = self
        world.troubled = world.clock.seconds()
        world.trace.event("start", self.name, *["with a key that is in use"] * self.shadow, quiet=False)
        if self.shadow:
            world.doubled[self.fp] = True
            world.failure(f"{self.name} came with a key that is in use")
        self.node.startService()

    def _failed(self, error: BaseException) -> None:
        """The node takes no part any more.  One of two with one key does so
        rightly, and its program ends."""
        doubled = self._world.doubled
        if not isinstance(error, KeyInUse) or not doubled.get(self.fp):
            self._world.problem(f"{self.name} could not go on: {error}")
            return
        doubled[self.fp] = False
        self._world.trace.event("gave up", self.name, quiet=False)
        self._world.clock.callLater(0, self._end, self.node)

    def _end(self, node: NodeService | None) -> None:
        if node is not None and self.node is node:
            self.leave().addErrback(lambda failure: self._world.problem(f"{self.name} could not end: {failure.value}"))

    def crash(self, silent: bool = False) -> None:
        """No goodbye, and what was not synced is lost: kill -9, or, *silent*,
        a power cut of which nobody is told."""
        process = self._stopped()
        self._world.trace.event("power cut" if silent else "crash", self.name, quiet=False)
        process.kill()
        self.disk.crash(self._world.decisions.number(self.name, "lucky") % 2)
        self._world.network.crash(process, silent)
        self._world.failure(f"{self.name} crashed")

    def leave(self) -> Deferred[None]:
        """Stop politely."""
        node, witness = self.node, self.witness
        process = self._stopped()
        self._world.trace.event("leave", self.name, quiet=False)
        assert node is not None

        def gone(result: Any) -> Any:
            process.kill()
            self._world.network.crash(process)
            if witness is not None:
                witness.end()
            return result

        leaving: Deferred[None] = node.stopService().addBoth(gone)
        self._world.failure(f"{self.name} left")
        return leaving

    def remember(self) -> None:
        """Make a backup of the disk, for :meth:`set_back`."""
        self._snapshots.append(self.disk.snapshot())
        del self._snapshots[:-MOST_SNAPSHOTS]

    def set_back(self) -> None:
        """Put the oldest backup that there is onto the disk of a machine that
        does not run: an older state of the same node."""
        if self._snapshots:
            self.disk.restore(self._snapshots[0])

    def wipe(self) -> None:
        """A new disk, and so another node at the same address."""
        self.disk.restore({})
        self._snapshots.clear()
        self.spki = self._new_key()

    def _stopped(self) -> Process:
        process = self.process
        assert process is not None, f"{self.name} does not run"
        self._world.live.pop(self.name, None)
        twins = [host for host in self._world.running() if host.fp == self.fp]
        if twins and not self.shadow:
            twins[0].shadow = False
        self.shadow = False
        self.process = self.node = None
        if self.witness is not None:
            self.witness.end()
            self.witness = None
        return process
