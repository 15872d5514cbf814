"""Simulated data: users at work while hosts come, go and lose their disks.

One run is one seed: phases of faults (``sim.data_schedule``), after each of
which everything has to come to rest on its k hosts, and is read back.  The
promises are those of ``sim.data_oracle``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from peerstore import ids
from peerstore.errors import PeerStoreError
from peerstore.sim.churn_run import listening_to_errors
from peerstore.sim.data_oracle import Oracle
from peerstore.sim.data_places import Places, misplaced
from peerstore.sim.data_schedule import DEVICES, DataSetting, Phase, make_phases, setting_for
from peerstore.sim.data_user import ENDS, FILES, Device, log_of, read_log
from peerstore.sim.host import SimHost
from peerstore.sim.schedule import Event
from peerstore.sim.world import World

__all__ = ["COPIES", "DataResult", "run_data"]

COPIES = 3
#: Seconds within which everything is in its place again, once all faults are
#: over, and for how long it then has to stay there.
SETTLED = 300.0
STAYS = 45.0
#: Seconds that a host has to retire, before it is simply switched off.
RETIRES = 120.0
#: Of several problems of a kind, so many are told.
TOLD = 3


class DataResult(NamedTuple):
    """How a run went.  *problems* is empty when everything held; *violated*
    names the promises that were not kept, in order; *failed_at* is when the
    first problem was seen, in virtual seconds; *things* counts what there was
    in the end, *slowest* is the longest that coming to rest took."""

    seed: int
    problems: list[str]
    violated: list[str]
    failed_at: float | None
    trace: str
    events: int
    virtual_seconds: float
    faults: Counter[str]
    operations: Counter[str]
    checks: Counter[str]
    things: Counter[str]
    slowest: float


def run_data(
    seed: int,
    setting: DataSetting | None = None,
    phases: Sequence[Phase] | None = None,
    say: Callable[[str], None] | None = None,
) -> DataResult:
    """Run one seed, by default with its own setting and phases; ends at the
    first problem."""
    setting = setting or setting_for(seed)
    if phases is None:
        phases = make_phases(seed, setting)
    run = _Run(seed, setting, say)
    with listening_to_errors(run.world):
        run.play(phases)
    return run.result()


class _Run:
    """A world, its users, and what is being done to it."""

    def __init__(self, seed: int, setting: DataSetting, say: Callable[[str], None] | None) -> None:
        self._seed = seed
        self._setting = setting
        self.world = World(
            seed,
            setting.virtual_nodes,
            setting.list_size,
            setting.faults,
            say,
            setting.knows_all,
            setting.longest_period,
        )
        self._violated: list[str] = []
        self.oracle = Oracle(self._breach)
        self.places = Places(self._breach, COPIES)
        names = [f"host-{number}" for number in range(setting.hosts)]
        people = ("anna", "anna", "berta")
        self.devices = [
            Device(self.world, self.oracle, machine, person, names, setting.pause)
            for machine, person in zip(DEVICES, people, strict=True)
        ]
        self._faults: Counter[str] = Counter()
        self._failed_at: float | None = None
        self._slowest = 0.0
        #: Counts phases: what belongs to an earlier one is over.
        self._now = 0
        self._gone: set[str] = set()
        self._promise: Event | None = None
        self.oracle.promised = self._promised

    def play(self, phases: Sequence[Phase]) -> None:
        """One phase after the other; ends at the first problem."""
        for number, phase in enumerate(phases):
            if not self._phase(phase) or not self._rest(last=number == len(phases) - 1):
                return

    def result(self) -> DataResult:
        """What came of it."""
        world = self.world
        operations: Counter[str] = Counter()
        for device in self.devices:
            operations.update(device.operations)
        return DataResult(
            self._seed,
            world.problems,
            self._violated,
            self._failed_at,
            world.trace.digest(),
            world.clock.events,
            world.clock.seconds(),
            self._faults,
            operations,
            self.oracle.checks + self.places.checks,
            self.oracle.counts(),
            self._slowest,
        )

    def _breach(self, promise: str, what: str) -> None:
        self._violated.append(promise)
        if self._violated.count(promise) <= TOLD:
            self.world.problem(f"{promise}: {what}")

    def _until(self, moment: float) -> bool:
        """Let time pass; false at the first problem."""
        world = self.world
        while not world.problems and world.step(moment):
            pass
        if world.problems and self._failed_at is None:
            self._failed_at = world.clock.seconds()
        return not world.problems

    def _until_so(self, is_so: Callable[[], bool], seconds: float) -> bool | None:
        """Let time pass until something is so; None at a problem."""
        end = self.world.clock.seconds() + seconds
        while not is_so():
            if self.world.clock.seconds() >= end:
                return False
            if not self._until(self.world.clock.seconds() + 0.5):
                return None
        return True

    # -- a phase of faults -------------------------------------------------------

    def _phase(self, phase: Phase) -> bool:
        world = self.world
        self._now += 1
        for event in phase.events:
            world.clock.callLater(event.at, self._if_still, self._now, self._apply, event)
        for device in self.devices:
            device.start()
        return self._until(world.clock.seconds() + phase.seconds)

    def _if_still(self, phase: int, function: Callable[..., None], *args: Any) -> None:
        if self._now == phase and not self.world.problems:
            function(*args)

    def _after(self, seconds: float, function: Callable[..., None], *args: Any) -> None:
        """Later, unless the phase is over by then."""
        self.world.clock.callLater(seconds, self._if_still, self._now, function, *args)

    def _apply(self, event: Event) -> None:
        kind, world = event.kind, self.world
        network = world.network
        self._faults[kind] += 1
        name = event.hosts[0] if event.hosts else ""
        if kind in ("start", "restart"):
            self._start(name, event.groups[1])
        elif kind in ("crash", "power cut"):
            self._stop(name, silent=kind == "power cut")
        elif kind == "leave":
            self._leave(name)
        elif kind == "retire":
            self._retire(name)
        elif kind.startswith("lose"):
            self._lose(event)
        elif kind == "blackout":
            self._blackout(event)
        elif kind == "blackout at a promise":
            self._promise = event
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

    # -- machines ----------------------------------------------------------------

    def _start(self, name: str, join: Sequence[str]) -> None:
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
        retire = getattr(host.node, "retire", None) if host is not None else None
        if host is None or retire is None:
            return
        process = host.process
        self.world.trace.event("retire", name, quiet=False)

        def done(_: Any) -> None:
            # A process that died meanwhile, or was stopped, has said nothing.
            if host.process is process and process is not None and process.alive:
                self.world.trace.event("retired", name, quiet=False)
                self._faults["retired"] += 1
                self._gone.add(name)
                host.crash()
                self.places.gone(name)

        def failed(failure: Any) -> None:
            self.world.trace.event("did not retire", name, failure.getErrorMessage(), quiet=False)

        retire().addCallbacks(done, failed)

    def _lose(self, event: Event) -> None:
        """A disk breaks; the machine comes back with a new one, as another
        node, or with an older backup, or not at all."""
        name, host = event.groups[0][0], self.world.hosts.get(event.groups[0][0])
        if host is None or name in self._gone:
            return
        if host.running:
            host.crash(silent=True)
        self.world.trace.event(event.kind, name, quiet=False)
        if event.kind == "lose newest":
            self.places.lose(host.set_back)
        else:
            self.places.lose(host.wipe)
        if event.kind == "lose for good":
            self._gone.add(name)
            self.places.gone(name)
        else:
            self._after(event.seconds, self._start, name, event.groups[1])

    def _blackout(self, event: Event) -> None:
        self.world.trace.event(event.kind, quiet=False)
        for name in event.hosts:
            self._stop(name, silent=True)
        for place, name in enumerate(event.hosts):
            others = [other for other in event.hosts if other != name][:2]
            self._after(event.seconds + 0.3 * place, self._start, name, others)

    def _promised(self) -> None:
        """A user was just told that something new is certain."""
        event, self._promise = self._promise, None
        if event is not None:
            self._after(0.0, self._blackout, event)

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
        self._after(seconds, self.world.mend, cut)

    # -- at rest -------------------------------------------------------------------

    def _rest(self, last: bool) -> bool:
        """Take all faults back, wait, look, and read everything back."""
        world = self.world
        self._now += 1
        self._promise = None
        world.network.heal()
        self._quick_disks()
        for host in world.running():
            if host.process is not None:
                host.process.resume()
        running = [host.name for host in world.running()]
        for name in sorted(world.hosts):
            others = [other for other in running or sorted(world.hosts) if other != name][:2]
            self._start(name, others)
        world.trace.event("quiet", quiet=False)
        for device in self.devices:
            device.stop()
        if not self._until_so(lambda: all(device.idle for device in self.devices), 4 * ENDS):
            if not world.problems:
                self._breach("answer", "a user waits for ever")
            return False
        if not self._settle():
            return False
        if last and not self._until(world.clock.seconds() + STAYS):
            return False
        return self._look() and self._read_back()

    def _settle(self) -> bool:
        """Wait until everything is where it belongs."""
        world = self.world
        held = self.places.held()
        began = world.clock.seconds()
        settled = self._until_so(lambda: not self._misplaced(), SETTLED)
        if settled is None:
            return False
        if not settled:
            self._look()
            return False
        self._slowest = max(self._slowest, world.clock.seconds() - began)
        world.trace.event(
            "at rest", f"{len(held)} things after {world.clock.seconds() - began:.1f} s", quiet=False
        )
        self.places.lost = 0
        for host in world.running():
            host.remember()
        return True

    def _positions(self) -> list[tuple[int, str]]:
        world = self.world
        return [
            (ids.position_id(host.spki, index), host.name)
            for host in world.running()
            for index in range(world.virtual_nodes)
        ]

    def _misplaced(self) -> bool:
        missing, over = misplaced(self._held(), self._positions(), COPIES)
        return bool(missing or over)

    def _held(self) -> dict[Any, set[str]]:
        return {key: self.places.there(key) for key in self.places.held()}

    def _look(self) -> bool:
        """Everything that anybody has, or that was certain, is on exactly its k hosts."""
        held = self._held()
        missing, over = misplaced(held, self._positions(), COPIES)
        self.oracle.checks["copies"] += len(held)
        for key, name in missing:
            self._breach("copies", f"{self._told(key)} is missing on {name}; {' '.join(sorted(held[key]))} have it")
        for key, name in over:
            self._breach("left over", f"{self._told(key)} is still on {name}, which is not to keep it")
        for key, known in self.oracle.known.items():
            if known.certain and key not in held:
                self._breach("copies", f"{known.name} was certain, and is on no disk any more")
        return self._until(self.world.clock.seconds())

    def _told(self, key: Any) -> str:
        known = self.oracle.known.get(key)
        if known is None:
            return f"something that nobody wrote ({key.kind.name} {key.element.hex()[:8]})"
        return f"{known.name} ({'certain' if known.certain else 'kept'})"

    def _read_back(self) -> bool:
        """A client that knows nothing reads everything that there is."""
        for device in self.devices:
            if not self._finish(Deferred.fromCoroutine(self._read_all(device))):
                return False
        return True

    async def _read_all(self, device: Device) -> None:
        gateway = self.world.client(f"reader-{device.machine}", [host.name for host in self.world.running()])
        unknown = []
        for path in range(FILES):
            if not await device.read_path(gateway, path, 30.0, rest=True):
                unknown.append(f"path {path}")
        mark = self.oracle.mark()
        log = await read_log(gateway, device.owner, 30.0)
        self.oracle.log_read(mark, log_of(device.owner), device.owner, log.items, log.complete)
        if not log.complete:
            unknown.append("the log")
        if unknown:
            self._breach("answer", f"all is well, and what is there of {', '.join(unknown)} is unknown")

    def _finish(self, reading: Deferred[Any]) -> bool:
        ended: list[Any] = []

        def failed(failure: Any) -> None:
            ended.append(False)
            failure.trap(PeerStoreError)
            self._breach("answer", f"all is well, and a read fails: {failure.getErrorMessage()}")

        reading.addCallbacks(lambda _: ended.append(True), failed)
        reading.addErrback(lambda failure: self.world.problem(failure.getTraceback()))
        if self._until_so(lambda: bool(ended), 4 * ENDS) is False:
            self._breach("answer", "all is well, and a read has no end")
        return self._until(self.world.clock.seconds())
