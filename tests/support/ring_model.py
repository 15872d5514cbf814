"""All members of a small circle at once, moved by the shipped steps.

A *local* is one member's state with all places told as distances from it, so
that it looks the same wherever on the circle the member is; a *world* is a
tuple with one local's number for each place, 0 for none.  Turning the circle
turns the tuple, so worlds that differ by a turn are one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from peerstore import ids
from peerstore.ring import position as steps
from peerstore.ring.member import Member
from peerstore.ring.position import PositionState
from tests.support.ring_invariants import Seen

__all__ = ["Explorer", "Local", "Locals", "Move", "World", "canonical", "snapshot"]

World = tuple[int, ...]


class Local(NamedTuple):
    """Distances from the member: to its predecessor, and to its successors."""

    predecessor: int | None
    suspected: bool
    successors: tuple[int, ...]


class Locals:
    """Numbers the locals of a circle of *circle* places with lists of *size*,
    and makes each step once for all worlds in which it occurs."""

    def __init__(self, circle: int, size: int) -> None:
        self.circle = circle
        self.size = size
        self._members = [
            Member(place * ids.RING_SIZE // circle, bytes(31) + bytes((place,)), 0, 1, "") for place in range(circle)
        ]
        self._places = {member.id: place for place, member in enumerate(self._members)}
        self._numbers: dict[Local, int] = {}
        self.known: list[Local] = [Local(None, False, ())]
        self._made: dict[tuple[object, ...], object] = {}

    def number(self, local: Local) -> int:
        """Its number, from 1."""
        if local not in self._numbers:
            self._numbers[local] = len(self.known)
            self.known.append(local)
        return self._numbers[local]

    # -- steps: each returns the number of the new local ------------------------------

    def join(self, distance: int, before: int) -> int | None:
        """Join behind the member *distance* places on, whose local that is."""
        return self._once("join", self._join, distance, before)

    def stabilize(self, me: int, distance: int, asked: int) -> tuple[int, int | None]:
        """Ask the first successor: the new local, and how far on the candidate is."""
        return self._once("stabilize", self._stabilize, me, distance, asked)

    def adopt(self, me: int, distance: int, candidate: int) -> int:
        """Ask a candidate."""
        return self._once("adopt", self._adopt, me, distance, candidate)

    def rectify(self, me: int, distance: int, alive: bool) -> int:
        """Look at a notifier, *distance* places on."""
        return self._once("rectify", self._rectify, me, distance, alive)

    def drop(self, me: int, distance: int) -> int:
        """The host *distance* places on is dead."""
        return self._once("drop", self._drop, me, distance)

    # -- inside ----------------------------------------------------------------

    def _once(self, name, function, *arguments):  # type: ignore[no-untyped-def]
        key = (name, *arguments)
        if key not in self._made:
            self._made[key] = function(*arguments)
        return self._made[key]

    def state(self, local: int, at: int = 0) -> PositionState:
        """The shipped state of a member at place *at*."""
        told = self.known[local]
        before = self._member(at + told.predecessor) if told.predecessor is not None else None
        behind = tuple(self._member(at + distance) for distance in told.successors)
        return PositionState(self._member(at).id, self.size, before, behind, 0, told.suspected)

    def _member(self, place: int) -> Member:
        return self._members[place % self.circle]

    def _number_of(self, state: PositionState) -> int:
        """The local of a state of the member at place 0."""
        steps.check_local(state)
        before = self._places[state.predecessor.id] if state.predecessor is not None else None
        return self.number(Local(before, state.suspected, tuple(self._places[entry.id] for entry in state.successors)))

    def _join(self, distance: int, before: int) -> int | None:
        theirs = self.state(before, distance)
        fresh = PositionState(self._member(0).id, self.size)
        new = steps.joined(fresh, self._member(distance), theirs.told_predecessor, theirs.successors)
        return self._number_of(new) if new is not None else None

    def _stabilize(self, me: int, distance: int, asked: int) -> tuple[int, int | None]:
        theirs = self.state(asked, distance)
        mine, first = self.state(me), self._member(distance)
        new, candidate = steps.stabilized(mine, first, theirs.told_predecessor, theirs.successors)
        return self._number_of(new), self._places[candidate.id] if candidate is not None else None

    def _adopt(self, me: int, distance: int, candidate: int) -> int:
        theirs = self.state(candidate, distance)
        return self._number_of(steps.adopted(self.state(me), self._member(distance), theirs.successors))

    def _rectify(self, me: int, distance: int, alive: bool) -> int:
        return self._number_of(steps.rectified(self.state(me), self._member(distance), alive))

    def _drop(self, me: int, distance: int) -> int:
        return self._number_of(steps.drop_host(self.state(me), self._member(distance).fp))


class Move(NamedTuple):
    """One transition: what happened to whom, the world after it, and who
    crashed in it, if anybody."""

    what: str
    place: int
    after: World
    crashed: int | None = None


class Explorer:
    """All worlds that can be reached, breadth first, and what is wrong there.

    Crashes are those that F* allows.  Members learn of a crash by asking; a
    notice may arrive at any time from whoever has its receiver for its first
    successor.

    :param circle: places on the circle.
    :param size: r.
    :param guard: whether the last r + 1 principals are spared, too; where a
        ring begins with one member there are none.
    """

    def __init__(self, circle: int, size: int, guard: bool = True) -> None:
        self.locals = Locals(circle, size)
        self.guard = guard
        self.circle = circle
        self.size = size
        #: Each world that was reached: its principals as a mask, and from
        #: which world it came by which move.
        self.reached: dict[World, tuple[int, World | None, str]] = {}
        self.moves = 0
        self.depth = 0
        self.wrong: list[tuple[str, World]] = []
        self._passed: list[tuple[int, ...]] = []

    def ideal(self, present: Sequence[int]) -> World:
        """The world of an ideal ring of these members."""
        world = [0] * self.circle
        for place in present:
            others = sorted((other - place) % self.circle for other in present if other != place)
            local = Local(others[-1] if others else None, False, tuple(others[: self.size]))
            world[place] = self.locals.number(local)
        return tuple(world)

    def explore(self, present: Sequence[int], depth: int | None = None, until_wrong: bool = False) -> None:
        """Begin with an ideal ring, and go *depth* moves far, or everywhere;
        no farther than the first thing that is wrong, if so wanted."""
        start, _ = canonical(self.ideal(present))
        self.reached = {start: (self.principals(start), None, "start")}
        frontier = [start]
        while frontier and (depth is None or self.depth < depth):
            frontier = [world for before in frontier for world in self._beyond(before)]
            self.depth += bool(frontier)
            if until_wrong and self.wrong:
                return

    def _beyond(self, before: World) -> list[World]:
        fresh = []
        members = sum(1 for number in before if number)
        principals = self.reached[before][0]
        for move in self.moves_from(before, principals):
            self.moves += 1
            after, turn = canonical(move.after)
            if after not in self.reached:
                self.reached[after] = (self.principals(after), before, f"{move.what} {move.place}")
                fresh.append(after)
                self.wrong += [(name, after) for name in self.broken(after)]
            # I10: principals are lost by their own crash only.
            kept = self._turned(self.reached[after][0], turn)
            gone = 1 << move.crashed if move.crashed is not None else 0
            if members > self.size and principals & ~kept & ~gone:
                self.wrong.append(("I10 PrincipalLoss", after))
        return fresh

    def _turned(self, mask: int, turn: int) -> int:
        """A mask of places of a turned world, as places before the turn."""
        return ((mask << turn) | (mask >> (self.circle - turn))) & ((1 << self.circle) - 1)

    def history(self, world: World | None) -> list[str]:
        """How a world was reached, for people."""
        told: list[str] = []
        while world is not None:
            _, before, how = self.reached[world]
            told.append(f"{how}: {snapshot(self.locals, world)}")
            world = before
        return told[::-1]

    # -- moves -------------------------------------------------------------------

    def moves_from(self, world: World, principals: int | None = None) -> Iterator[Move]:
        """Everything that can happen next and changes anything."""
        if principals is None:
            principals = self.principals(world)
        for place, number in enumerate(world):
            if number:
                yield from self.upkeep(world, place)
                if self._may_crash(world, place, principals):
                    yield Move("crash", place, _put(world, place, 0), place)
            else:
                for before in range(self.circle):
                    joined = self.locals.join((before - place) % self.circle, world[before]) if world[before] else None
                    if joined is not None:
                        yield Move("join", place, _put(world, place, joined))

    def upkeep(self, world: World, place: int) -> Iterator[Move]:
        """The steps that the member at *place* can make, and its notice."""
        circle, number = self.circle, world[place]
        local = self.locals.known[number]
        if local.predecessor is not None and not local.suspected and not world[(place + local.predecessor) % circle]:
            yield Move("lose predecessor", place, _put(world, place, self.locals.drop(number, local.predecessor)))
        if not local.successors:
            return
        distance = local.successors[0]
        first = (place + distance) % circle
        if not world[first]:
            yield Move("drop", place, _put(world, place, self.locals.drop(number, distance)))
            return
        new, candidate = self.locals.stabilize(number, distance, world[first])
        if new != number:
            yield Move("stabilize", place, _put(world, place, new))
        if candidate is not None and world[(place + candidate) % circle]:
            adopted = self.locals.adopt(new, candidate, world[(place + candidate) % circle])
            yield Move("adopt", place, _put(world, place, adopted))
        theirs = self.locals.known[world[first]]
        alive = theirs.predecessor is not None and bool(world[(first + theirs.predecessor) % circle])
        rectified = self.locals.rectify(world[first], (place - first) % circle, alive)
        if rectified != world[first]:
            yield Move("rectify", first, _put(world, first, rectified))

    def _may_crash(self, world: World, place: int, principals: int) -> bool:
        """F*.  A founder that knows of nobody yet loses nobody."""
        last_ones = self.guard and principals.bit_count() <= self.size + 1
        if last_ones and principals >> place & 1:
            return False
        for other, number in enumerate(world):
            if number and other != place and self.locals.known[number].successors:
                behind = ((other + distance) % self.circle for distance in self.locals.known[number].successors)
                if not any(world[entry] for entry in behind if entry != place):
                    return False
        return True

    # -- predicates, on masks: fast, and compared with the plain ones ------------------

    def principals(self, world: World) -> int:
        """Members that no extended list passes over, as a mask."""
        while len(self._passed) < len(self.locals.known):
            self._passed.append(self._passes(self.locals.known[len(self._passed)]))
        passed = alive = 0
        for place, number in enumerate(world):
            if number:
                alive |= 1 << place
                passed |= self._passed[number][place]
        return alive & ~passed

    def _passes(self, local: Local) -> tuple[int, ...]:
        """Whom a local passes over, for each place where it may be."""
        extended = (0, *local.successors)
        over = [d for low, high in itertools.pairwise(extended) for d in range(low + 1, high)]
        return tuple(
            sum(1 << ((place + distance) % self.circle) for distance in set(over)) for place in range(self.circle)
        )

    def broken(self, world: World) -> list[str]:
        """Which of I1 to I6 and I9 do not hold.  I7 and I8 are asserted of
        every local that is made."""
        following: dict[int, int] = {}
        for place, number in enumerate(world):
            if number:
                behind = ((place + distance) % self.circle for distance in self.locals.known[number].successors)
                following[place] = next((entry for entry in behind if world[entry]), -1)
        if len(following) < 2:
            return []
        if -1 in following.values():
            return ["I1 LiveSuccessor"]
        ring = set(following)
        for _ in following:
            ring = {following[place] for place in ring}
        start = min(ring)
        walked, at, length = 0, start, 0
        while True:
            walked += (following[at] - at) % self.circle or self.circle
            at, length = following[at], length + 1
            if at == start:
                break
        found = []
        if length != len(ring):
            found.append("I4 AtMostOneRing")
        elif walked != self.circle:
            found.append("I5 OrderedRing")
        principals = self.principals(world)
        if len(following) > self.size:
            if principals.bit_count() < self.size + 1:
                found.append("I2 Principals")
            if principals & ~sum(1 << place for place in ring):
                found.append("I9 PrincipalsInRing")
        return found

    # -- coming to rest ------------------------------------------------------------

    def rounds_to_ideal(self, world: World, most: int, table: bool = False) -> int | None:
        """Rounds of upkeep, each member in turn, until the ring is ideal.

        :param table: whether members know who lives, and ask whoever sits
            between them and their first successor.
        """
        ideal = self.ideal([place for place, number in enumerate(world) if number])
        for rounds in range(most + 1):
            if world == ideal:
                return rounds
            for place in range(self.circle):
                if world[place]:
                    world = self._consult(world, place) if table else world
                    world = self._whole_round(world, place)
        return None

    def _consult(self, world: World, place: int) -> World:
        distance = next(step for step in range(1, self.circle + 1) if world[(place + step) % self.circle])
        if distance == self.circle:
            return world
        near = world[(place + distance) % self.circle]
        return _put(world, place, self.locals.adopt(world[place], distance, near))

    def _whole_round(self, world: World, place: int) -> World:
        for what in ("lose predecessor", "drop", "stabilize", "adopt", "rectify"):
            again = True
            while again:
                moves = [move for move in self.upkeep(world, place) if move.what == what]
                after = moves[0].after if moves else world
                again = what == "drop" and after != world
                world = after
        return world


def _put(world: World, place: int, number: int) -> World:
    return (*world[:place], number, *world[place + 1 :])


def canonical(world: World) -> tuple[World, int]:
    """The least of all turns of a world, and by how many places it was turned."""
    turns = [world[turn:] + world[:turn] for turn in range(len(world))]
    least = min(turns)
    return least, turns.index(least)


def snapshot(locals_: Locals, world: World) -> dict[int, Seen]:
    """What a world looks like from outside."""
    found: dict[int, Seen] = {}
    for place, number in enumerate(world):
        if number:
            local = locals_.known[number]
            before = (place + local.predecessor) % len(world) if local.predecessor is not None else None
            found[place] = (before, tuple((place + distance) % len(world) for distance in local.successors))
    return found
