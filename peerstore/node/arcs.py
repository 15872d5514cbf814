"""A value for every key of the circle, the same over whole arcs; pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

from peerstore import ids

__all__ = ["Arc", "ArcMap"]

_V = TypeVar("_V")


class Arc(NamedTuple, Generic[_V]):
    """(after, through] and its value; equal ends are the whole circle."""

    after: int
    through: int
    value: _V


class ArcMap(Generic[_V]):
    """Arcs that tile the circle.

    :param value: that of the whole circle, to begin with.  Values are
        immutable and comparable; neighbours that are equal become one arc.
    """

    def __init__(self, value: _V) -> None:
        # Arc number i ends at _ends[i] and begins where the one before ends.
        self._ends: list[int] = [0]
        self._values: list[_V] = [value]

    def __len__(self) -> int:
        return len(self._ends)

    def at(self, key: int) -> Arc[_V]:
        """The arc that *key* lies in."""
        return self._arc(bisect_left(self._ends, key) % len(self._ends))

    def arcs(self) -> list[Arc[_V]]:
        """All arcs, clockwise."""
        return [self._arc(place) for place in range(len(self._ends))]

    def between(self, after: int, through: int) -> list[Arc[_V]]:
        """The parts of arcs that lie in (after, through], clockwise from
        *after*; equal ends are the whole circle, cut there."""
        found: list[Arc[_V]] = []
        at = after
        while True:
            arc = self.at((at + 1) % ids.RING_SIZE)
            last = ids.distance(at, arc.through) >= (ids.distance(at, through) or ids.RING_SIZE) or len(self) == 1
            end = through if last else arc.through
            found.append(Arc(at, end, arc.value))
            if last:
                return found
            at = end

    def change(self, after: int, through: int, new: Callable[[_V], _V]) -> None:
        """Give every part of (after, through] the value that *new* makes of
        the one it has."""
        self._cut(after)
        self._cut(through)
        place = bisect_left(self._ends, (after + 1) % ids.RING_SIZE) % len(self._ends)
        while True:
            self._values[place] = new(self._values[place])
            if self._ends[place] == through:
                break
            place = (place + 1) % len(self._ends)
        self._join()

    def replace(self, arcs: Iterable[Arc[_V]]) -> None:
        """Give each of these arcs its value."""
        for arc in arcs:
            value = arc.value
            self.change(arc.after, arc.through, lambda _, value=value: value)  # type: ignore[misc]

    def _arc(self, place: int) -> Arc[_V]:
        return Arc(self._ends[place - 1], self._ends[place], self._values[place])

    def _cut(self, point: int) -> None:
        place = bisect_left(self._ends, point)
        if place == len(self._ends) or self._ends[place] != point:
            value = self._values[place % len(self._ends)]
            self._ends.insert(place, point)
            self._values.insert(place, value)

    def _join(self) -> None:
        # The last arc of equal neighbours is the one that stays: it has the end.
        count = len(self._ends)
        kept = [place for place in range(count) if self._values[place] != self._values[(place + 1) % count]]
        if not kept:
            kept = [count - 1]
        self._ends = [self._ends[place] for place in kept]
        self._values = [self._values[place] for place in kept]
