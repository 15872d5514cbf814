"""Simulated data: users at work while hosts come, go and lose their disks.

One run is one seed: phases of faults (``sim.data_schedule``), after each of
which everything has to come to rest on its k hosts, and is read back.  The
promises are those of ``sim.data_oracle``.
"""

from __future__ import annotations

import contextlib
import gc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from peerstore import ids
from peerstore.errors import PeerStoreError
from peerstore.sim.churn_run import listening_to_errors
from peerstore.sim.data_havoc import Havoc
from peerstore.sim.data_oracle import Oracle
from peerstore.sim.data_places import Places, misplaced
from peerstore.sim.data_schedule import DEVICES, DataSetting, Phase, make_phases, setting_for
from peerstore.sim.data_user import ENDS, FILES, Device, log_of, read_log
from peerstore.sim.world import World

__all__ = ["COPIES", "DataResult", "run_data"]

COPIES = 3
#: Bytes per second at which disks are looked at for rot: all of one in some twenty seconds.
SCRUB_RATE = 20_000
#: Seconds within which everything is in its place again, once all faults are
#: over, and for how long it then has to stay there.
SETTLED = 300.0
STAYS = 45.0
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
    with _nothing_thrown_away(), listening_to_errors(run.world):
        run.play(phases)
    return run.result()


@contextlib.contextmanager
def _nothing_thrown_away() -> Iterator[None]:
    """What the dead leave behind, of this run or an earlier one, ends before
    or after it: in the midst of it, it would end in errors that nobody made."""
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


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
            scrub_rate=SCRUB_RATE,
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
        self.havoc = Havoc(self.world, self.places, self.devices)
        self.oracle.promised = self.havoc.promised
        self._failed_at: float | None = None
        self._slowest = 0.0

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
            self.havoc.faults,
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
            if not self._until(self.world.clock.seconds() + 1.0):
                return None
        return True

    # -- one phase ---------------------------------------------------------------

    def _phase(self, phase: Phase) -> bool:
        self.havoc.begin(phase)
        for device in self.devices:
            device.start()
        return self._until(self.world.clock.seconds() + phase.seconds)

    # -- at rest -------------------------------------------------------------------

    def _rest(self, last: bool) -> bool:
        """Take all faults back, wait, look, and read everything back."""
        world = self.world
        self.havoc.end()
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
        # While lists of voters from before are not settled, a further disk that
        # is lost counts together with those lost under them.
        settled = self._until_so(lambda: not self._misplaced() and self._votes_are_settled(), SETTLED)
        if settled is None:
            return False
        if not settled:
            self._look()
            return False
        self._slowest = max(self._slowest, world.clock.seconds() - began)
        world.trace.event("at rest", f"{len(held)} things after {world.clock.seconds() - began:.1f} s", quiet=False)
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

    def _votes_are_settled(self) -> bool:
        holdings = [host.node.holding for host in self.world.running() if host.node is not None]
        return all(holding is not None and holding.electorate.at_rest for holding in holdings)

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
        return all(self._finish(Deferred.fromCoroutine(self._read_all(device))) for device in self.devices)

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
