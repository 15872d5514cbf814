"""Where a key lives: verified lookups, and the ranges they taught us."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from typing import Any, NamedTuple, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from peerstore import ids
from peerstore.ring.lookup import Located
from peerstore.ring.member import Member

__all__ = ["ILookup", "Locator", "Route"]

#: Cached ranges; the ring of a few hundred hosts has fewer.
CACHE_LIMIT = 8192
#: A range is believed this long (s) without being asked for again.
LIFETIME = 60.0
#: Lookups in flight; the others wait, and mostly find their answer cached.
PARALLEL = 8


class ILookup(Protocol):
    """What both ``LookupClient`` and ``RingHost`` offer."""

    def lookup(self, key: int) -> Deferred[Located]:
        """The verified owner of *key*."""
        ...


class Route(NamedTuple):
    """One range (after, through] and the members that keep it, owner first."""

    after: int | None
    through: int
    members: tuple[Member, ...]
    learned: float

    @property
    def owner(self) -> Member:
        """The member that the ring makes responsible."""
        return self.members[0]


class Locator:
    """Finds owners, remembering (predecessor, owner] ranges.

    :param lookup: asks the ring itself.
    :param clock: provides ``IReactorTime``.
    """

    def __init__(self, lookup: ILookup, clock: IReactorTime) -> None:
        self._lookup = lookup
        self._clock = clock
        self._ends: list[int] = []
        self._routes: dict[int, Route] = {}
        self._looking = 0
        self._waiting: deque[tuple[int, float, Deferred[Route | None]]] = deque()
        self._waking = False

    def cached(self, key: int, max_age: float = LIFETIME) -> Route | None:
        """The range that *key* was known to lie in, *max_age* (s) ago at most."""
        if not self._ends:
            return None
        where = bisect_left(self._ends, key) % len(self._ends)
        route = self._routes[self._ends[where]]
        if route.after is None or not ids.in_half_open(route.after, key, route.through):
            return None
        return route if self._clock.seconds() - route.learned <= max_age else None

    async def locate(self, key: int, max_age: float = LIFETIME) -> Route:
        """The range that *key* lies in, as it was *max_age* (s) ago or later.

        :raises peerstore.errors.LookupFailed: when the ring does not tell.
        """
        route = self.cached(key, max_age)
        if route is not None:
            return route
        if self._looking < PARALLEL and not self._waiting:
            self._looking += 1
        else:
            turn: Deferred[Route | None] = Deferred(self._leave)
            self._waiting.append((key, max_age, turn))
            route = await turn
            if route is not None:
                return route
        try:
            return self._learn(await self._lookup.lookup(key))
        finally:
            self._looking -= 1
            self._wake()

    def _wake(self) -> None:
        """Let those who wait go on: with a range that was learned meanwhile,
        or with a lookup of their own.

        One after the other, never one inside the other: hundreds that wait
        for one key would be as many calls deep.
        """
        if self._waking:
            return
        self._waking = True
        while self._waiting:
            key, max_age, turn = self._waiting[0]
            route = self.cached(key, max_age)
            if route is None and self._looking >= PARALLEL:
                break
            self._waiting.popleft()
            self._looking += route is None
            turn.callback(route)
        self._waking = False

    def _leave(self, turn: Deferred[Route | None]) -> None:
        self._waiting = deque(entry for entry in self._waiting if entry[2] is not turn)

    def forget(self, route: Route) -> None:
        """This range turned out to be wrong; ask anew next time."""
        if self._routes.get(route.through) is route:
            del self._routes[route.through]
            self._ends.pop(bisect_left(self._ends, route.through))

    def forget_host(self, fp: bytes) -> None:
        """A host went away: ask anew for all that it owned."""
        for route in [route for route in self._routes.values() if route.owner.fp == fp]:
            self.forget(route)

    def _learn(self, located: Located) -> Route:
        members: tuple[Any, ...] = located.members or (located.owner,)
        route = Route(located.predecessor_id, located.owner.id, members, self._clock.seconds())
        if route.after is None:
            return route
        if len(self._ends) >= CACHE_LIMIT:
            self._ends.clear()
            self._routes.clear()
        self._overtake(route.after, route.through)
        if route.through not in self._routes:
            insort(self._ends, route.through)
        self._routes[route.through] = route
        return route

    def _overtake(self, after: int, through: int) -> None:
        """Drop ranges that end inside a new one: their owners are gone, and
        each would stand before it for good."""
        low, high = bisect_right(self._ends, after), bisect_left(self._ends, through)
        if after < through:
            inside = self._ends[low:high]
            del self._ends[low:high]
        else:
            inside = self._ends[low:] + self._ends[:high]
            self._ends = self._ends[high:low]
        for end in inside:
            del self._routes[end]
