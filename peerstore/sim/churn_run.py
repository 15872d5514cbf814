"""One run of a ring: what a schedule says happens, and everything is looked at.

While it lasts, the watcher looks at the invariants after every event, and
lookups are sampled.  At the end all faults are taken back, and the ring must
become ideal, own each key once, find each key, and calm down.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer

from peerstore import ids
from peerstore.errors import LookupFailed
from peerstore.ring.lookup import ATTEMPTS, Located
from peerstore.ring.position import owns
from peerstore.sim.invariants import Violation, check_owners
from peerstore.sim.network import Cut
from peerstore.sim.schedule import QUIET, Event, Setting, make_schedule, setting_for
from peerstore.sim.world import World

__all__ = ["ChurnResult", "bound_for", "listening_to_errors", "run_churn"]

#: Rounds of upkeep within which all invariants hold again after a failure.
ROUNDS = 4
#: And seconds for the timeouts that go with them.
TIMEOUTS = 40.0
#: Seconds between two sampled lookups, and the longest that one takes.
SAMPLE = 6.0
LONGEST_LOOKUP = 45.0
#: Keys looked up from each host when all is at rest.
REST_LOOKUPS = 4
#: Writes per position and second that a ring at rest may cost.
REST_WRITES = 5.0
#: Calls that one node may have pending at rest.
REST_TIMERS = 150
#: So often a lookup may ask one position: twice an attempt (a connection may have ended).
ASKED = 2 * ATTEMPTS


def bound_for(setting: Setting) -> float:
    """Seconds within which all holds again after the last failure."""
    return ROUNDS * setting.longest_period + TIMEOUTS


class ChurnResult(NamedTuple):
    """How a run went.  *problems* is empty when everything held; *violated*
    names the invariants that did not, in order; *failed_at* is when the first
    problem was seen, in virtual seconds."""

    seed: int
    problems: list[str]
    violated: list[str]
    failed_at: float | None
    trace: str
    events: int
    virtual_seconds: float
    faults: Counter[str]
    checks: Counter[str]
    suspended: Counter[str]
    seconds: Counter[str]
    slowest: float
    lookups: Counter[str]


@contextlib.contextmanager
def listening_to_errors(world: World) -> Iterator[None]:
    """Whatever the nodes log as a failure of theirs is a problem."""

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_level") == LogLevel.critical:
            world.problem(f"a node logged: {formatEvent(event)}")

    globalLogPublisher.addObserver(observe)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observe)


def run_churn(
    seed: int,
    setting: Setting | None = None,
    events: Sequence[Event] | None = None,
    say: Callable[[str], None] | None = None,
    until: float = math.inf,
) -> ChurnResult:
    """Run one seed, by default with its own setting and schedule.

    :param until: virtual seconds; what has not failed by then is said to hold.
    """
    setting = setting or setting_for(seed)
    if events is None:
        events = make_schedule(seed, setting)
    run = _Run(seed, setting, say, until)
    with listening_to_errors(run.world):
        run.play(events)
    return run.result()


class _Run:
    """A world, and what is being done to it."""

    def __init__(self, seed: int, setting: Setting, say: Callable[[str], None] | None, until: float) -> None:
        self._seed = seed
        self._setting = setting
        self.world = World(
            seed,
            setting.virtual_nodes,
            setting.list_size,
            setting.faults,
            say,
            knows_all=setting.knows_all,
            longest_period=setting.longest_period,
            bound=bound_for(setting),
            files=False,
        )
        self._faults: Counter[str] = Counter()
        self._lookups: Counter[str] = Counter()
        self._failed_at: float | None = None
        self._over = False
        self._limit = until

    def play(self, events: Sequence[Event]) -> None:
        """From the first event to rest; ends at the first problem."""
        clock = self.world.clock
        for event in events:
            clock.callLater(event.at, self._apply, event)
        self._sample()
        if not self._until(self._setting.seconds - QUIET):
            return
        self._end_all_faults()
        if not self._settle():
            return
        self._over = True
        # Whatever is slow by design has its turn before it is called rest.
        if self._until(clock.seconds() + 2 * self._setting.longest_period + 10.0):
            self._rest()
        if self.world.problems and self._failed_at is None:
            self._failed_at = clock.seconds()

    def result(self) -> ChurnResult:
        """What came of it."""
        world = self.world
        watcher = world.watcher
        assert watcher is not None
        return ChurnResult(
            self._seed,
            world.problems,
            [violation.name for violation in world.violations],
            self._failed_at,
            world.trace.digest(),
            world.clock.events,
            world.clock.seconds(),
            self._faults,
            watcher.checks,
            watcher.suspended,
            Counter({what: round(spent / 1000) for what, spent in watcher.time.items()}),
            watcher.slowest,
            self._lookups,
        )

    def _until(self, moment: float) -> bool:
        """Let time pass; false at the first problem, or when it is enough."""
        world = self.world
        while not world.problems and world.step(min(moment, self._limit)):
            pass
        if world.problems and self._failed_at is None:
            self._failed_at = world.clock.seconds()
        return not world.problems and world.clock.seconds() < self._limit

    # -- what happens ------------------------------------------------------------------

    def _apply(self, event: Event) -> None:
        if self.world.problems:
            return
        for host in self.world.running():
            host.remember()
        self._faults[event.kind] += 1
        kind = event.kind
        if kind in ("start", "restart", "restart older", "restart empty"):
            self._start(event)
        elif kind == "copy":
            self._copy(event)
        elif kind in ("crash", "power cut", "leave"):
            self._stop(kind, event.hosts[0])
        elif kind == "row":
            self._crash_row(event.hosts[0], int(event.amount))
        elif kind == "reset":
            self.world.trace.event(kind, *event.hosts, quiet=False)
            self.world.network.reset(event.hosts[0])
            self.world.failure(f"{event.hosts[0]} lost its connections")
        elif kind == "clock":
            self._jump(event)
        elif kind == "weather":
            self._lasts(event, lambda: self.world.network.weather(event.amount), self.world.network.weather)
        elif kind == "slow":
            (name,), network = event.hosts, self.world.network
            self._lasts(event, lambda: network.slow(name, event.amount), lambda: network.slow(name, 1.0))
        elif kind == "stop":
            self._pause(event)
        else:
            self._split(event)

    def _start(self, event: Event) -> None:
        (name,), world = event.groups[0], self.world
        host = world.hosts.get(name)
        if host is not None and host.running:
            return
        if host is not None and event.kind == "restart older":
            host.set_back()
        if host is not None and event.kind == "restart empty":
            host.wipe()
        world.start(name, event.groups[1] if len(event.groups) > 1 else None)

    def _stop(self, kind: str, name: str) -> None:
        host = self.world.hosts.get(name)
        if host is None or not host.running:
            return
        if kind == "leave":
            host.leave().addErrback(lambda failure: self.world.problem(f"{name} could not leave: {failure.value}"))
        else:
            host.crash(silent=kind == "power cut")

    def _copy(self, event: Event) -> None:
        """A data folder is copied to another machine, and used there, too."""
        (name, original), join = event.groups
        host = self.world.hosts.get(name)
        if original in self.world.hosts and (host is None or not host.running):
            self.world.copy(name, original, join)

    def _crash_row(self, name: str, count: int) -> None:
        """A host, and those that follow its first position on the ring."""
        host = self.world.hosts.get(name)
        if host is None or not host.running:
            return
        start = ids.position_id(host.spki, 0)
        follow = sorted(self.world.snapshot(), key=lambda member: ids.distance(start, member))
        machines = {
            member: machine for machine in self.world.running() for member in self.world.board.positions[machine.fp]
        }
        row = list(dict.fromkeys([name, *(machines[member].name for member in follow)]))
        for other in row[:count]:
            self._stop("crash", other)

    def _jump(self, event: Event) -> None:
        host = self.world.hosts.get(event.hosts[0])
        if host is None or host.process is None:
            return
        process = host.process
        if event.amount > 0:
            self.world.trace.event("clock", host.name, event.amount, quiet=False)
            process.jump(event.amount)
            self.world.failure(f"the clock of {host.name} was set forward")
        else:
            # Until time has caught up, it does nothing by itself.
            self._lasts(event._replace(seconds=-event.amount), lambda: process.jump(event.amount), lambda: None)

    def _lasts(self, event: Event, begin: Callable[[], None], end: Callable[[], None]) -> None:
        world = self.world

        def over() -> None:
            world.lasting -= 1
            if not self._over:
                end()
                world.failure(f"{event.kind}, which is over")

        world.trace.event(event.kind, *event.hosts, f"{event.seconds:.2f} s", event.amount or "", quiet=False)
        begin()
        world.lasting += 1
        world.failure(event.kind)
        world.clock.callLater(event.seconds, over)

    def _pause(self, event: Event) -> None:
        host = self.world.hosts.get(event.hosts[0])
        if host is not None and host.process is not None:
            self._lasts(event, host.process.pause, host.process.resume)

    def _split(self, event: Event) -> None:
        pairs = [(a, b) for place, a in enumerate(event.groups) for b in event.groups[place + 1 :]]
        one_way = event.kind == "one-way"
        if event.kind == "flap":
            # Six times off and on.
            part = event.seconds / 12
            moments = [(2 * part * time, part) for time in range(6)]
        else:
            moments = [(0.0, event.seconds)]
        for after, length in moments:
            for a, b in pairs:
                self.world.clock.callLater(after, self._cut, a, b, one_way, length)

    def _cut(self, a: Sequence[str], b: Sequence[str], one_way: bool, seconds: float) -> None:
        if self._over:
            return
        cut = self.world.cut(a, b, one_way)
        self.world.clock.callLater(seconds, self._mend, cut)

    def _mend(self, cut: Cut) -> None:
        if not self._over:
            self.world.mend(cut)

    def _end_all_faults(self) -> None:
        """From now on nothing happens any more but upkeep."""
        world = self.world
        self._over = True
        world.network.heal()
        world.network.behave()
        for host in world.running():
            if host.process is not None:
                host.process.resume()
        first = world.hosts.get("host-0")
        if first is not None and not first.running:
            # Whoever was started anew may know nobody else.
            first.start([host.name for host in world.running()][:2])
        world.trace.event("quiet", quiet=False)
        world.failure("the last fault")

    # -- lookups meanwhile ---------------------------------------------------------------

    def _sample(self) -> None:
        world = self.world
        if self._over or world.problems:
            return
        world.clock.callLater(SAMPLE, self._sample)
        members = [host for host in world.running() if host.node is not None and host.node.ring is not None]
        if not members:
            return
        number = world.decisions.number("lookups", "key")
        host = members[number % len(members)]
        assert host.node is not None and host.node.ring is not None and host.process is not None
        key = ids.from_bytes((number.to_bytes(8, "big") * 3)[:20])
        process, waiting, jumps = host.process, [True], host.process.jumps

        def ended(result: Any) -> None:
            waiting.clear()
            self._lookups[self._kind(key, result)] += 1
            if host.witness is not None and (most := host.witness.most_asked(key)) > ASKED:
                world.violated(Violation("I14", f"a lookup at {process.name} asks somebody {most} times"))

        def late() -> None:
            fair = process.alive and not process.paused and process.jumps == jumps and not world.network.rough
            if waiting and fair:
                world.violated(Violation("I14", f"a lookup at {process.name} did not end in {LONGEST_LOOKUP:.0f} s"))

        host.node.ring.lookup(key).addBoth(ended)
        world.clock.callLater(LONGEST_LOOKUP, late)

    def _kind(self, key: int, result: Any) -> str:
        if not isinstance(result, Located):
            if result.check(LookupFailed) is None:
                self.world.problem(f"a lookup failed oddly: {result.value!r}")
            return "failed"
        order = sorted(self.world.snapshot())
        wanted = next((member for member in order if member >= key), order[0] if order else None)
        return "right" if result.owner.id == wanted else "other"

    # -- at rest -----------------------------------------------------------------------

    def _settle(self) -> bool:
        """Wait until the ring is ideal."""
        world = self.world
        began = world.clock.seconds()
        limit = began + bound_for(self._setting)
        while world.ideal():
            if world.clock.seconds() >= limit:
                for violation in world.ideal()[:3]:
                    world.violated(
                        violation._replace(where=f"{violation.where}, {limit - began:.0f} s after all faults")
                    )
                self._until(limit)
                return False
            if not self._until(world.clock.seconds() + 0.25):
                return False
        world.trace.event("ideal", f"{world.clock.seconds() - began:.2f} s after the last fault", quiet=False)
        return True

    def _rest(self) -> None:
        """Everything that holds only when nothing happens: I12, I14, I15,
        and that rest is rest."""
        world, clock = self.world, self.world.clock
        for violation in world.ideal():
            world.violated(violation)
        self._owners()
        began, sent, states = clock.seconds(), world.network.sent, world.snapshot()
        if not self._until(began + 60.0):
            return
        if world.snapshot() != states:
            world.problem("a ring at rest has changed")
        positions = max(1, len(world.snapshot()))
        rate = (world.network.sent - sent) / 60.0 / positions
        if rate > REST_WRITES:
            world.problem(f"a ring at rest writes {rate:.1f} times a second for each position")
        for host in world.running():
            pending = len(host.process.clock.getDelayedCalls()) if host.process is not None else 0
            if pending > REST_TIMERS:
                world.problem(f"{host.name} has {pending} calls pending at rest")
        for (dialler, dialled), count in sorted(world.network.connections().items()):
            if count > 1:
                world.problem(f"{dialler} keeps {count} connections to {dialled} at rest")
        self._find()

    def _owners(self) -> None:
        world = self.world
        members = sorted(world.snapshot())
        keys = [key for member in members for key in (member, (member + 1) % ids.RING_SIZE, member - 1)]
        keys += [ids.from_bytes(world.decisions.entropy("owners", 20)) for _ in range(20)]
        claims: dict[int, list[int]] = {key % ids.RING_SIZE: [] for key in keys}
        for host in world.running():
            ring = host.node.ring if host.node is not None else None
            for place in ring.positions if ring is not None else ():
                for key in claims:
                    if place.is_member and owns(place.state, key):
                        claims[key].append(place.id)
        for violation in check_owners(claims, members)[:3]:
            world.violated(violation)

    def _find(self) -> None:
        """I14: the right answer in few steps, from everywhere."""
        world = self.world
        order = sorted(world.snapshot())
        most = 2 * math.log2(max(2, len(order))) + world.list_size
        for host in world.running() if order else ():
            for _ in range(REST_LOOKUPS):
                key = ids.from_bytes(world.decisions.entropy("rest", 20))
                wanted = next((member for member in order if member >= key), order[0])
                assert host.node is not None and host.node.ring is not None and host.witness is not None
                found = self._waited(host.node.ring.lookup(key))
                hops = host.witness.steps_to[ids.to_bytes(key)]
                if not isinstance(found, Located) or found.owner.id != wanted:
                    world.violated(Violation("I14", f"{host.name} does not find {ids.short(key)} at rest: {found}"))
                elif hops > most:
                    world.violated(Violation("I14", f"{host.name} takes {hops} steps to {ids.short(key)}"))
                if world.problems:
                    return

    def _waited(self, deferred: Deferred[Any]) -> Any:
        results: list[Any] = []
        deferred.addBoth(results.append)
        end = self.world.clock.seconds() + LONGEST_LOOKUP
        while not results and self.world.step(end):
            pass
        return results[0] if results else None
