"""What happens to simulated data: phases of faults, with rest between them.

A phase is a list of events (``sim.draft.Event``), their times counted from
its beginning; at its end all faults are taken back, and it is waited until
everything is on its hosts again.  In one phase at most one disk is lost, which
is fewer than W, and none while a ring has fewer than three hosts.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from peerstore.sim.decisions import Decisions
from peerstore.sim.draft import Draft, Event
from peerstore.sim.network import Faults

__all__ = [
    "DEVICES",
    "DataSetting",
    "LOSSES",
    "Phase",
    "drawn",
    "make_phases",
    "numbered",
    "only_events",
    "setting_for",
]

_T = TypeVar("_T")

#: The machines of the people who use the ring; "a" and "b" are one person's.
DEVICES = ("user-a", "user-b", "user-c")
#: Virtual seconds of one phase, and how many phases a run has.
PHASE = 100.0
PHASES = 3
#: What costs a disk, or its newest part, or some things on it.  *At a promise*
#: it is the disk of one of those who have what was just promised, and the
#: others of them are away for a while: nobody there can know of it, and
#: nobody there may say that there is nothing.
LOSSES = ("lose", "lose for good", "lose newest", "rot", "lose at a promise")
#: The most things that rot at a time.
ROTTEN = 6
#: How many times longer disks take from when a blackout at a promise is due:
#: what is promised too soon is on none of them by then.
SLOWER = (1.0, 100.0, 400.0)
#: Seconds without anything before and after some retirements, so that all
#: that a node leaves behind has to be where it belongs.
CALM = 10.0
#: Hosts without which no disk is lost.
ENOUGH = 3


class Phase(NamedTuple):
    """Events, by time from the phase's beginning, and its length in seconds."""

    events: tuple[Event, ...]
    seconds: float


class DataSetting(NamedTuple):
    """What a run is like throughout.

    *hosts* is how many machines there are at most, *first* how many begin;
    *virtual_nodes* positions each, *list_size* r; *gap* the mean seconds
    between two failures, *pause* between two operations of one user.
    """

    hosts: int
    first: int
    virtual_nodes: int
    list_size: int
    knows_all: bool
    longest_period: float
    gap: float
    pause: float
    faults: Faults
    phases: int = PHASES
    seconds: float = PHASE


def setting_for(seed: int) -> DataSetting:
    """The setting of a seed: every fifth begins with one host or two."""
    chance = Decisions(seed)

    def one_of(kind: str, choices: Sequence[float]) -> float:
        return choices[chance.number("data setting", kind) % len(choices)]

    virtual_nodes = int(one_of("virtual nodes", (1, 1, 1, 2)))
    hosts = 4 + chance.number("data setting", "hosts") % 4
    grows = seed % 5 == 0
    first = 1 + chance.number("data setting", "first") % 2 if grows else max(4, hosts - 2)
    return DataSetting(
        hosts=hosts,
        first=first,
        virtual_nodes=virtual_nodes,
        # As long as the shipped lists are for rings of this size.
        list_size=max(int(one_of("list size", (4, 6, 16))), 3 * virtual_nodes),
        knows_all=True,
        longest_period=one_of("longest period", (5.0, 15.0, 30.0)),
        gap=one_of("gap", (6.0, 10.0, 16.0)),
        pause=one_of("pause", (2.0, 4.0)),
        faults=Faults(
            loss=one_of("loss", (0.0, 0.005, 0.02)),
            tail=one_of("tail", (0.0, 0.002, 0.01)),
        ),
    )


#: How often each kind is drawn, of all of them together.
WEIGHTS = {
    "crash": 5,
    "power cut": 4,
    "burst": 2,
    "blackout": 1,
    "blackout at a promise": 3,
    "leave": 3,
    "join": 5,
    "restart": 8,
    "retire": 3,
    "loss": 5,
    "cut": 3,
    "one-way": 2,
    "isolate": 4,
    "islands": 1,
    "flap": 1,
    "slow": 2,
    "slow disks": 2,
    "stop": 2,
    "weather": 2,
}


def drawn(fraction: float, weights: Mapping[_T, float]) -> _T:
    """One of several, as likely as it weighs, by a *fraction* of [0, 1)."""
    point = fraction * sum(weights.values())
    for one, weight in weights.items():
        point -= weight
        if point < 0:
            return one
    return list(weights)[-1]


def make_phases(seed: int, setting: DataSetting) -> list[Phase]:
    """All phases of a seed."""
    maker = _Maker(seed, setting)
    return [maker.phase(number) for number in range(setting.phases)]


def numbered(phases: Iterable[Phase]) -> list[tuple[int, Event]]:
    """All events in order, each with the place of its phase."""
    return [(place, event) for place, phase in enumerate(phases) for event in phase.events]


def only_events(phases: Iterable[Phase], numbers: Iterable[int]) -> list[Phase]:
    """The phases with only these of all events."""
    wanted, left, number = set(numbers), [], 0
    for phase in phases:
        kept = tuple(event for at, event in enumerate(phase.events, number) if at in wanted)
        number += len(phase.events)
        left.append(phase._replace(events=kept))
    return left


class _Maker(Draft):
    """Draws events, with an idea of who runs at that time."""

    def __init__(self, seed: int, setting: DataSetting) -> None:
        super().__init__(seed, "data", setting.hosts)
        self._setting = setting
        self._may_lose = False
        self._may_retire = False
        #: Nothing is drawn for a moment before this one.
        self._calm_until = 0.0

    def phase(self, number: int) -> Phase:
        """The next phase; before it everybody who may still come is up."""
        self._events = []
        at = 0.0
        if number == 0:
            spread = (0.0, 1.0, 5.0)[self._number("spread") % 3]
            for name in self._names[: self._setting.first]:
                self._start(at, name)
                at += spread * self._fraction("spread")
        for name in list(self._down):
            self._down.remove(name)
            self._up.append(name)
        self._up.sort()
        # In the first, all hosts are new, and one may be all that there is.
        self._may_lose = number > 0 and len(self._up) >= ENOUGH
        self._may_retire = len(self._up) >= ENOUGH
        self._calm_until = 0.0
        at += 10.0 + 10.0 * self._fraction("formed")
        while at < self._setting.seconds:
            self._draw(at)
            at = max(at, self._calm_until) + self._setting.gap * 2 * self._fraction("gap")
        return Phase(tuple(sorted(self._events, key=lambda event: event.at)), self._setting.seconds)

    # -- drawing -----------------------------------------------------------------

    def _draw(self, at: float) -> None:
        kind = drawn(self._fraction("kind"), WEIGHTS)
        if kind in ("crash", "power cut", "leave"):
            if len(self._up) > 2:
                self._stop(at, kind, self._pick(self._up))
        elif kind == "burst":
            for name in self._some(self._up, len(self._up) // 2):
                self._stop(at, "crash", name)
        elif kind.startswith("blackout"):
            self._blackout(at, kind)
        elif kind == "join":
            if self._new:
                self._start(at, self._new[0])
        elif kind == "restart":
            self._restart(at)
        elif kind == "retire":
            self._retire(at)
        elif kind == "loss":
            self._lose(at)
        elif kind == "weather":
            self._add(at, kind, (), self._duration(15.0), 0.05 + 0.2 * self._fraction("weather"))
        elif kind == "slow disks":
            some = self._some(self._up, 1 + self._number("disks") % max(1, len(self._up)))
            self._add(at, kind, (tuple(sorted(some)),), self._duration(20.0), self._amount((30.0, 100.0, 400.0)))
        elif kind in ("slow", "stop"):
            if self._up:
                amount = self._amount((50.0, 300.0, 1500.0)) if kind == "slow" else 0.0
                self._add(at, kind, ((self._pick(self._up),),), self._duration(12.0), amount)
        else:
            self._split(at, kind)

    def _blackout(self, at: float, kind: str) -> None:
        """The power fails for everybody: at once, or, *at a promise*, right
        when some user is next told that a write is certain."""
        back = 3.0 + 8.0 * self._fraction("back")
        amount = 0.0 if kind == "blackout" else self._amount(SLOWER)
        self._add(at, kind, (tuple(sorted(self._up)),), back, amount)

    def _restart(self, at: float) -> None:
        if self._down:
            self._start(at, self._pick(self._down))
        elif len(self._up) > 2:
            name = self._pick(self._up)
            self._stop(at, "crash", name)
            self._start(at + 0.05 + 8.0 * self._fraction("down"), name)

    def _retire(self, at: float) -> None:
        """One host at most goes for good in a phase, and leaves enough
        behind; every other time when all else has come to rest."""
        if self._may_retire and len(self._up) > ENOUGH:
            self._may_retire = False
            name = self._pick(self._up)
            calm = CALM + max([at, *(event.at + event.seconds for event in self._events)])
            if self._number("calm") % 2 and calm + CALM < self._setting.seconds:
                at, self._calm_until = calm, calm + CALM
            self._add(at, "retire", ((name,),))
            self._up.remove(name)

    def _lose(self, at: float) -> None:
        if not self._may_lose or len(self._up) < ENOUGH:
            return
        self._may_lose = False
        kind = LOSSES[self._number("loss") % len(LOSSES)]
        if kind == "rot":
            amount = 1.0 + self._number("rotten") % ROTTEN
            self._add(at, kind, ((self._pick(self._up),),), 0.0, amount)
            return
        if kind == "lose at a promise" and len(self._up) > ENOUGH:
            self._add(at, kind, (tuple(sorted(self._up)),), 10.0 + 10.0 * self._fraction("back"))
            return
        if kind == "lose at a promise" or (kind == "lose for good" and len(self._up) <= ENOUGH):
            kind = "lose"
        name = self._pick(self._up)
        back = 0.5 + 15.0 * self._fraction("back")
        self._add(at, kind, ((name,), self._join(name)), 0.0 if kind == "lose for good" else back)
        if kind == "lose for good":
            self._up.remove(name)

    def _split(self, at: float, kind: str) -> None:
        """Something about who reaches whom; a user is with one of the parts,
        or reaches all of them."""
        names = self._some(self._names, len(self._names))
        names = [name for name in names if name in self._up or name in self._down]
        if len(names) < 2:
            return
        if kind == "isolate":
            groups = [names[:1], names[1:]]
        elif kind == "islands":
            third = max(1, len(names) // 3)
            groups = [names[:third], names[third : 2 * third], names[2 * third :]]
        else:
            size = 1 + self._number("half") % max(1, len(names) // 2)
            groups = [names[:size], names[size:]]
        seconds = self._duration(25.0)
        users = list(DEVICES)
        if kind == "isolate" and self._number("apart") % 2:
            # What one of a person's devices writes, the other asks the one host for.
            groups[0].append(users.pop(1))
            groups[1].append(users.pop(0))
            seconds += 10.0
        for user in users:
            where = self._number("user") % (len(groups) + 1)
            if where < len(groups):
                groups[where].append(user)
        parts = tuple(tuple(sorted(group)) for group in groups if group)
        self._add(at, kind, parts, seconds)

    def _amount(self, choices: Sequence[float]) -> float:
        return choices[self._number("amount") % len(choices)]

    def _join(self, name: str) -> tuple[str, ...]:
        """Whom a host that starts is told of: some that may be up."""
        others = [other for other in self._up if other != name]
        known = [other for other in self._names if other not in self._new and other != name]
        return tuple(sorted({*self._some(others, 2), *known[:1]}))

    def _start(self, at: float, name: str) -> None:
        self._add(at, "start" if name in self._new else "restart", ((name,), self._join(name)))
        self._is_up(name)
