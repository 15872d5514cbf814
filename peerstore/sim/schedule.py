"""What happens to a simulated ring: a list of events, made from a seed.

Each event names what it concerns and carries its own end (a cut says for how
long), so any of them can be taken out of the list and the rest still means
what it meant: that is how a failing run is shrunk.  Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from peerstore.sim.decisions import Decisions
from peerstore.sim.draft import Draft, Event
from peerstore.sim.network import Faults

__all__ = ["Event", "Setting", "make_schedule", "setting_for"]

#: Virtual seconds of one run, and how many of them at the end are quiet.
SECONDS = 600.0
LARGE_SECONDS = 3600.0
QUIET = 150.0
#: At most so many positions; large runs have more than that.
POSITIONS = 12
LARGE_POSITIONS = 40


class Setting(NamedTuple):
    """What a run is like throughout.

    *hosts* is how many there are at most, *virtual_nodes* positions each,
    *list_size* r; *knows_all* whether tables of all hosts are exchanged;
    *gap* the mean seconds between two failures.
    """

    hosts: int
    virtual_nodes: int
    list_size: int
    knows_all: bool
    longest_period: float
    gap: float
    faults: Faults
    seconds: float = SECONDS


def setting_for(seed: int, large: bool = False) -> Setting:
    """The setting of a seed: at most twelve positions, lists of two to four,
    half of the seeds without tables of all hosts.

    :param large: up to forty positions instead, lists of four to eight, and an
        hour.
    """
    chance = Decisions(seed)

    def one_of(kind: str, choices: Sequence[float]) -> float:
        return choices[chance.number("setting", kind) % len(choices)]

    virtual_nodes = int(one_of("virtual nodes", (1, 1, 1, 1, 2, 3)))
    most = (LARGE_POSITIONS if large else POSITIONS) // virtual_nodes
    fewest = most * 3 // 4 if large else min(most, 6)
    faults = Faults(
        loss=one_of("loss", (0.0, 0.005, 0.02)),
        duplication=one_of("duplication", (0.0, 0.0, 0.0005)),
        reordering=one_of("reordering", (0.0, 0.0, 0.0005)),
        tail=one_of("tail", (0.0, 0.002, 0.01)),
    )
    return Setting(
        hosts=fewest + chance.number("setting", "hosts") % (most - fewest + 1),
        virtual_nodes=virtual_nodes,
        # Lists must reach past one host's own positions.
        list_size=max(int(one_of("list size", (4, 6, 8) if large else (2, 3, 4))), virtual_nodes + 1),
        knows_all=seed % 2 == 0,
        longest_period=one_of("longest period", (5.0, 15.0, 30.0)),
        gap=one_of("gap", (8.0, 15.0, 30.0)),
        faults=faults,
        seconds=LARGE_SECONDS if large else SECONDS,
    )


#: How often each kind is drawn, of all of them together.
WEIGHTS = {
    "crash": 6,
    "power cut": 3,
    "burst": 2,
    "row": 2,
    "leave": 3,
    "join": 6,
    "restart": 8,
    "restart older": 2,
    "restart empty": 2,
    "copy": 2,
    "cut": 3,
    "one-way": 2,
    "pair": 2,
    "islands": 1,
    "flap": 1,
    "slow": 2,
    "stop": 2,
    "reset": 2,
    "clock": 2,
    "weather": 2,
    "blackout": 0.3,
}


def make_schedule(seed: int, setting: Setting) -> list[Event]:
    """All events of a seed, in order of time."""
    return _Maker(seed, setting).make()


class _Maker(Draft):
    """Draws events, with an idea of who runs at that time."""

    def __init__(self, seed: int, setting: Setting) -> None:
        super().__init__(seed, "schedule", setting.hosts)
        self._setting = setting

    def make(self) -> list[Event]:
        at = 0.0
        first = max(3, len(self._names) * 2 // 3)
        spread = (0.0, 1.0, 5.0)[self._number("spread") % 3]
        for name in self._names[:first]:
            self._start(at, name)
            at += spread * self._fraction("spread")
        at += 10.0 + 20.0 * self._fraction("formed")
        end = self._setting.seconds - QUIET
        while at < end:
            self._draw(at)
            at += self._setting.gap * 2 * self._fraction("gap")
        return sorted(self._events, key=lambda event: event.at)

    # -- drawing -----------------------------------------------------------------

    def _draw(self, at: float) -> None:
        kinds = list(WEIGHTS)
        point = self._fraction("kind") * sum(WEIGHTS.values())
        for kind in kinds:
            point -= WEIGHTS[kind]
            if point < 0:
                break
        if kind in ("crash", "power cut", "leave"):
            if len(self._up) > 2:
                self._stop(at, kind, self._pick(self._up))
        elif kind == "burst":
            for name in self._some(self._up, len(self._up) // 2):
                self._stop(at, "crash", name)
        elif kind == "row":
            # The next in ring order, which only the run knows, crash with it;
            # all that are down afterwards come back.
            if len(self._up) > 3:
                size = self._setting.list_size
                count = max(1, size - 1 + self._number("row") % 3)
                name = self._pick(self._up)
                self._add(at, kind, ((name,),), amount=float(min(count, len(self._up) - 2)))
                # Whoever did not crash is not started.
                for other in self._up[:]:
                    self._start(at + 2.0 + 20.0 * self._fraction("back"), other)
        elif kind == "copy":
            if self._up:
                name = self._pick(self._up)
                self._add(at, kind, ((f"copy-of-{name}", name), tuple(self._names[:1])))
        elif kind == "reset":
            if self._up:
                self._add(at, kind, ((self._pick(self._up),),))
        elif kind == "clock":
            if self._up:
                amount = (-30.0, -3.0, 0.5, 5.0, 60.0, 3600.0)[self._number("clock") % 6]
                self._add(at, kind, ((self._pick(self._up),),), amount=amount)
        elif kind == "blackout":
            for name in list(self._up):
                self._stop(at, "power cut", name)
            for name in self._some(self._down, len(self._down)):
                self._start(at + 5.0 + 10.0 * self._fraction("back"), name)
        elif kind == "join":
            if self._new:
                self._start(at, self._new[0])
        elif kind.startswith("restart"):
            if self._down:
                self._start(at, self._pick(self._down), kind)
            elif len(self._up) > 2:
                name = self._pick(self._up)
                self._stop(at, "crash", name)
                self._start(at + 0.05 + 8.0 * self._fraction("down"), name, kind)
        elif kind == "weather":
            self._add(at, kind, (), self._duration(20.0), 0.05 + 0.2 * self._fraction("weather"))
        elif kind in ("slow", "stop"):
            if not self._up:
                return
            amount = (50.0, 300.0, 1500.0)[self._number("slow") % 3] if kind == "slow" else 0.0
            self._add(at, kind, ((self._pick(self._up),),), self._duration(15.0), amount)
        else:
            self._split(at, kind)

    def _split(self, at: float, kind: str) -> None:
        """Something about who reaches whom, over all hosts, running or not."""
        names = self._some(self._names, len(self._names))
        if kind == "pair":
            groups: list[list[str]] = [names[:1], names[1:2]]
        elif kind == "islands":
            third = max(1, len(names) // 3)
            groups = [names[:third], names[third : 2 * third], names[2 * third :]]
        else:
            size = 1 + self._number("half") % max(1, len(names) // 2)
            groups = [names[:size], names[size:]]
        self._add(at, kind, tuple(tuple(sorted(group)) for group in groups), self._duration(30.0))

    def _start(self, at: float, name: str, kind: str = "start") -> None:
        # Who starts is told of some that may be up, and of the first host.
        others = [other for other in self._up if other != name]
        join = {self._names[0], self._pick(others)} if others else {self._names[0]}
        self._add(at, kind, ((name,), tuple(sorted(join - {name}))))
        self._is_up(name)
