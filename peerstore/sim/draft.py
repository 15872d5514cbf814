"""Events that happen to simulated hosts, and what those who draw them share.  Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from peerstore.sim.decisions import Decisions

__all__ = ["Draft", "Event"]


class Event(NamedTuple):
    """One thing that happens at *at* virtual seconds.

    *hosts* it happens to, in *groups* where it is about who reaches whom;
    *seconds* how long it lasts, *amount* how much of it there is.
    """

    at: float
    kind: str
    groups: tuple[tuple[str, ...], ...]
    seconds: float = 0.0
    amount: float = 0.0

    @property
    def hosts(self) -> tuple[str, ...]:
        """All that it concerns, in order."""
        return tuple(itertools.chain.from_iterable(self.groups))

    def __str__(self) -> str:
        words = [f"{self.at:.2f} s", self.kind, " | ".join(" ".join(group) for group in self.groups)]
        if self.seconds:
            words.append(f"for {self.seconds:.2f} s")
        if self.amount:
            words.append(f"({self.amount:g})")
        return " ".join(word for word in words if word)


class Draft:
    """A list of events in the making, with an idea of who runs by then.

    :param label: keeps the draws of one kind of schedule apart from others'.
    :param hosts: how many there are at most.
    """

    def __init__(self, seed: int, label: str, hosts: int) -> None:
        self._chance = Decisions(seed)
        self._label = label
        self._names = [f"host-{number}" for number in range(hosts)]
        self._up: list[str] = []
        self._down: list[str] = []
        self._new = list(self._names)
        self._events: list[Event] = []

    def _is_up(self, name: str) -> None:
        for group in (self._new, self._down):
            if name in group:
                group.remove(name)
        if name not in self._up:
            self._up.append(name)

    def _stop(self, at: float, kind: str, name: str) -> None:
        self._add(at, kind, ((name,),))
        self._up.remove(name)
        self._down.append(name)

    def _add(
        self, at: float, kind: str, groups: Iterable[tuple[str, ...]], seconds: float = 0.0, amount: float = 0.0
    ) -> None:
        self._events.append(Event(round(at, 3), kind, tuple(groups), round(seconds, 3), round(amount, 3)))

    # -- drawing -----------------------------------------------------------------

    def _number(self, kind: str) -> int:
        return self._chance.number(self._label, kind)

    def _fraction(self, kind: str) -> float:
        return self._chance.fraction(self._label, kind)

    def _duration(self, mean: float) -> float:
        return 0.5 + mean * 2 * self._fraction("duration") ** 2

    def _pick(self, names: Sequence[str]) -> str:
        return names[self._number("pick") % len(names)]

    def _some(self, names: Iterable[str], count: int) -> list[str]:
        left = list(names)
        return [left.pop(self._number("some") % len(left)) for _ in range(min(count, len(left)))]
