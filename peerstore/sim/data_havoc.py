"""What is done to the machines and the network of a run of simulated data."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from peerstore import ids
from peerstore.errors import PeerStoreError, StorageError, UsageError
from peerstore.items import ItemKey, Kind
from peerstore.sim.data_places import Places, key_on_disk
from peerstore.sim.data_schedule import Phase
from peerstore.sim.data_user import Device
from peerstore.sim.host import SimHost
from peerstore.sim.network import Cut
from peerstore.sim.schedule import Event
from peerstore.sim.world import World

__all__ = ["Havoc"]

#: Seconds after which somebody tells the ring that a disk is lost, about.
TOLD_LATE = 10.0
#: Seconds after which everybody has met everybody.
CALM = 8.0
#: Kinds of which a read can say that there is nothing.
VOTED = (Kind.HEAD, Kind.LOG)
#: Seconds between two questions that are asked behind a cut.
SPARING = 1.0


class Havoc:
    """Applies the events of phases, and takes all of them back.

    :param places: told of disks that are lost, and of machines that are gone.
    :param devices: those that may ask.
    """

    def __init__(self, world: World, places: Places, devices: Sequence[Device]) -> None:
        self.world = world
        self.places = places
        self.devices = devices
        #: Cuts in force: whom each keeps from whom.
        self._cuts: list[tuple[Cut, Sequence[str], Sequence[str]]] = []
        #: When each device was last made to ask.
        self._asked: dict[str, float] = {}
        self.faults: Counter[str] = Counter()
        #: Counts phases: what belongs to an earlier one is over.
        self._now = 0
        self._gone: set[str] = set()
        #: Nodes whose disk is lost, of which the ring is still to be told.
        self._lost: list[bytes] = []
        self._promise: Event | None = None
        #: When something last happened.
        self._troubled = 0.0

    def begin(self, phase: Phase) -> None:
        """From now on the events of this phase happen."""
        self._now += 1
        for event in phase.events:
            self._after(event.at, self._apply, event)
        self._after(TOLD_LATE, self._retire_lost)

    def end(self) -> None:
        """Nothing happens any more, whoever may still come is there, and
        everybody reaches everybody."""
        world = self.world
        self._now += 1
        self._promise = None
        self._troubled = world.clock.seconds()
        world.network.heal()
        self._cuts.clear()
        self._quick_disks()
        for host in world.running():
            if host.process is not None:
                host.process.resume()
        running = [host.name for host in world.running()]
        for name in sorted(world.hosts):
            others = [other for other in running or sorted(world.hosts) if other != name][:2]
            self.start(name, others)
        world.trace.event("quiet", quiet=False)
        self._after(TOLD_LATE, self._retire_lost)

    def promised(self, key: ItemKey) -> None:
        """A user was just told that something new is certain."""
        if key.kind in VOTED:
            self._ask_behind(key)
        event = self._promise
        if event is None:
            return
        if event.kind == "blackout at a promise":
            self._promise = None
            self._after(0.0, self._blackout, event)
        elif key.kind in VOTED and len(self._having(key)) > 1:
            self._promise = None
            self._after(0.0, self._corner, event, key)

    def _ask_behind(self, key: ItemKey) -> None:
        """Who is cut off from all that have it asks for it at once, if it has
        a right to: whoever is asked there knows nothing of it, and must not
        say so as if it were for all."""
        having, now = self._having(key), self.world.clock.seconds()
        for device in self.devices:
            recent = now - self._asked.get(device.machine, -math.inf) < SPARING
            if device.owner != key.owner or recent or not having:
                continue
            if all(self._is_cut(device.machine, name) for name in having):
                self._asked[device.machine] = now
                self.faults["asked behind"] += 1
                self._after(0.0, device.look_for, key)

    def _is_cut(self, one: str, other: str) -> bool:
        return any((one in a and other in b) or (one in b and other in a) for _, a, b in self._cuts)

    def _if_still(self, phase: int, function: Callable[..., None], *args: Any) -> None:
        if self._now == phase and not self.world.problems:
            function(*args)

    def _after(self, seconds: float, function: Callable[..., None], *args: Any) -> None:
        """Later, unless the phase is over by then."""
        self.world.clock.callLater(seconds, self._if_still, self._now, function, *args)

    def _apply(self, event: Event) -> None:
        kind, world = event.kind, self.world
        if kind != "retire":
            self._trouble(event.seconds)
        network = world.network
        self.faults[kind] += 1
        name = event.hosts[0] if event.hosts else ""
        if kind in ("start", "restart"):
            self.start(name, event.groups[1])
        elif kind in ("crash", "power cut"):
            self._stop(name, silent=kind == "power cut")
        elif kind == "leave":
            self._leave(name)
        elif kind == "retire":
            self._retire(name)
        elif kind == "lose at a promise":
            self._promise = event
        elif kind.startswith("lose"):
            self._lose(event)
        elif kind == "rot":
            self._rot(event)
        elif kind == "blackout":
            self._blackout(event)
        elif kind == "blackout at a promise":
            self._promise = event
            self._slow_disks(event.hosts, event.amount)
        elif kind == "weather":
            self._lasts(event, lambda: network.weather(event.amount), network.weather)
        elif kind == "slow":
            self._lasts(event, lambda: network.slow(name, event.amount), lambda: network.slow(name, 1.0))
        elif kind == "slow disks":
            self._lasts(event, lambda: self._slow_disks(event.hosts, event.amount), self._quick_disks)
        elif kind == "stop":
            self._pause(event)
        else:
            self._split(event)

    def _trouble(self, seconds: float) -> None:
        """Something happens, and lasts so long."""
        self._troubled = max(self._troubled, self.world.clock.seconds() + seconds)

    # -- machines ----------------------------------------------------------------

    def start(self, name: str, join: Sequence[str]) -> None:
        """Start a node, unless one runs there or the machine is gone."""
        host = self.world.hosts.get(name)
        if name in self._gone or (host is not None and host.running):
            return
        self.world.start(name, tuple(join))
        host = self.world.hosts[name]
        host.disk.watch = self.places.watcher(name)

    def _running(self, name: str) -> SimHost | None:
        host = self.world.hosts.get(name)
        return host if host is not None and host.running else None

    def _stop(self, name: str, silent: bool) -> None:
        host = self._running(name)
        if host is not None:
            host.crash(silent)

    def _leave(self, name: str) -> None:
        host = self._running(name)
        if host is not None:
            host.leave().addErrback(lambda failure: self.world.problem(f"{name} could not leave: {failure.value}"))

    def _retire(self, name: str) -> None:
        """It goes for good, once it says that it may; then its disk is no
        more.  One that cannot in time is stopped, and keeps its disk."""
        host = self._running(name)
        holding = host.node.holding if host is not None and host.node is not None else None
        if host is None or holding is None:
            return
        process = host.process
        self.world.trace.event("retire", name, quiet=False)

        def done(_: Any) -> None:
            # Who died meanwhile has said nothing.
            if host.process is process and process is not None and process.alive:
                self.world.trace.event("retired", name, quiet=False)
                self.faults["retired"] += 1
                self._gone.add(name)
                host.crash()
                # Who has only just come, or come back, it may not have met.
                calm = self.world.clock.seconds() - self._troubled >= CALM
                self.places.retired(name, len(self.world.running()) if calm else 1)

        def failed(failure: Any) -> None:
            self.world.trace.event("did not retire", name, failure.getErrorMessage(), quiet=False)
            failure.trap(PeerStoreError, CancelledError)

        retiring = holding.retire(lambda left: None)
        retiring.addCallbacks(done, failed)
        retiring.addErrback(lambda failure: self.world.problem(failure.getTraceback()))

    def _lose(self, event: Event) -> None:
        """A disk breaks; the machine comes back with a new one, as another
        node, or with an older backup, or not at all."""
        world, name = self.world, event.groups[0][0]
        host = world.hosts.get(name)
        if host is None or name in self._gone:
            return
        if host.running:
            host.crash(silent=True)
        world.trace.event(event.kind, name, quiet=False)
        if event.kind == "lose newest":
            self.places.lose(host.set_back)
        else:
            self._lost.append(host.fp)
            self.places.lose(host.wipe)
            self._after(2 * TOLD_LATE * world.decisions.fraction("data", "told"), self._retire_lost)
        if event.kind == "lose for good":
            self._gone.add(name)
            self.places.gone(name)
        else:
            self._after(event.seconds, self.start, name, event.groups[1])

    def _having(self, key: ItemKey) -> list[str]:
        return sorted(name for name in self.places.there(key) if self._running(name) is not None)

    def _corner(self, event: Event, key: ItemKey) -> None:
        """Of those who have something one loses it, and is back at once; the
        others are away for a while, with all that they have."""
        having, number = self._having(key), self.world.decisions.number
        if len(having) < 2:
            return
        self.faults["cornered"] += 1
        loser = having.pop(number("data", "cornered") % len(having))
        others = [name for name in event.hosts if name not in having][:2]
        for name in having:
            self._stop(name, silent=True)
            self._after(event.seconds, self.start, name, [loser, *others])
        self._trouble(event.seconds)
        self._lose(Event(event.at, "lose newest", ((loser,), tuple(others)), 0.5))

    def _rot(self, event: Event) -> None:
        """Some of what is on a disk is not what was written any more."""
        world, name = self.world, event.hosts[0]
        host = world.hosts.get(name)
        if host is None or name in self._gone:
            return
        disk, number = host.disk, world.decisions.number
        there = sorted(key for key in disk.load() if key_on_disk(key) is not None)
        some = {there[number("data", "rot") % len(there)] for _ in range(int(event.amount)) if there}
        world.trace.event("rot", name, f"{len(some)} things", quiet=False)
        self.faults["things rotten"] += len(some)

        def turn_over() -> None:
            for key in sorted(some):
                disk.rot(key, number("data", "bit"))

        self.places.lose(turn_over)

    def _retire_lost(self) -> None:
        """Somebody tells the ring of what is lost for good ("peerstore node
        retire --lost FP"), and does it again where it does not work yet."""
        holdings = [host.node.holding for host in self.world.running() if host.node and host.node.holding]
        for fp in list(self._lost) if holdings else ():
            try:
                telling = holdings[-1].retire_lost(fp.hex())
            except UsageError as error:
                self.world.trace.event("not retired yet", str(error))
            else:
                telling.addCallbacks(self._retired_lost, self._not_retired, callbackArgs=(fp,))
        if self._lost:
            self._after(TOLD_LATE, self._retire_lost)

    def _not_retired(self, failure: Failure) -> None:
        failure.trap(StorageError, CancelledError)
        self.world.trace.event("not retired yet", failure.getErrorMessage())

    def _retired_lost(self, _: object, fp: bytes) -> None:
        if fp in self._lost:
            self._lost.remove(fp)
            self.world.trace.event("retired as lost", ids.short(fp), quiet=False)

    def _blackout(self, event: Event) -> None:
        self.world.trace.event(event.kind, quiet=False)
        self._trouble(event.seconds + 0.3 * len(event.hosts))
        self._quick_disks()
        for name in event.hosts:
            self._stop(name, silent=True)
        for place, name in enumerate(event.hosts):
            others = [other for other in event.hosts if other != name][:2]
            self._after(event.seconds + 0.3 * place, self.start, name, others)

    def _slow_disks(self, names: Sequence[str], factor: float) -> None:
        for name in names:
            host = self.world.hosts.get(name)
            if host is not None:
                host.disk.slowness = factor

    def _quick_disks(self) -> None:
        for host in self.world.hosts.values():
            host.disk.slowness = 1.0

    # -- faults that last ----------------------------------------------------------

    def _lasts(self, event: Event, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self.world.trace.event(event.kind, *event.hosts, f"{event.seconds:.2f} s", event.amount or "", quiet=False)
        begin()
        self._after(event.seconds, end)

    def _pause(self, event: Event) -> None:
        host = self._running(event.hosts[0])
        if host is not None and host.process is not None:
            self._lasts(event, host.process.pause, host.process.resume)

    def _split(self, event: Event) -> None:
        pairs = [(a, b) for place, a in enumerate(event.groups) for b in event.groups[place + 1 :]]
        if event.kind == "flap":
            part = event.seconds / 12
            moments = [(2 * part * time, part) for time in range(6)]
        else:
            moments = [(0.0, event.seconds)]
        for after, length in moments:
            for a, b in pairs:
                self._after(after, self._cut, a, b, event.kind == "one-way", length)

    def _cut(self, a: Sequence[str], b: Sequence[str], one_way: bool, seconds: float) -> None:
        cut = self.world.cut(a, b, one_way)
        self._cuts.append((cut, a, b))
        self._after(seconds, self._mend, cut)

    def _mend(self, cut: Cut) -> None:
        self._cuts = [one for one in self._cuts if one[0] is not cut]
        self.world.mend(cut)
