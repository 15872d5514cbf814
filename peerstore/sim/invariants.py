"""What must hold of a ring, seen all at once (Zave 2015 and 2017).

A snapshot is the state of all live members.  E(m) is m followed by its list,
best(m) the first live entry of the list, R the members that reach themselves
by following best: the ring proper.  A *principal* is a member that no list
passes over.  Lists that are on their way to a member count as lists.

Everything here is pure.  What is watched when, and what suspends it, is the
watcher's business (``sim.watcher``).
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from peerstore import ids

__all__ = [
    "Measure",
    "MemberState",
    "RING_INVARIANTS",
    "Violation",
    "best",
    "check_all",
    "check_ideal",
    "check_local",
    "check_owners",
    "check_ring",
    "measure",
    "nobody_passed_over",
    "principals",
    "ring_of",
]

#: Suspended while the failure assumption is broken.
RING_INVARIANTS = ("I1", "I2", "I3", "I4", "I5", "I6", "I9")


class MemberState(NamedTuple):
    """One live member: ring ids of its predecessor and its list.

    *predecessor* is the one that others are told of: None while the present
    one is suspected.
    """

    predecessor: int | None
    successors: tuple[int, ...]


class Violation(NamedTuple):
    """An invariant that does not hold, by its number, and where."""

    name: str
    where: str

    def __str__(self) -> str:
        return f"{self.name} does not hold: {self.where}"


class Measure(NamedTuple):
    """How far a ring is from ideal; smaller is better, compared in order.

    *near* is the error of first successors and predecessors: by how many
    members each is off; *wrong* the number of list places, counted from the
    front and over all members, after the last place that is right everywhere.
    """

    near: int
    wrong: int


Snapshot = Mapping[int, MemberState]
#: Extended lists, each with whoever told it in front, that a member may yet take over.
Lists = Iterable[Sequence[int]]


def best(snapshot: Snapshot, member: int) -> int | None:
    """The first live entry of a member's list."""
    for entry in snapshot[member].successors:
        if entry in snapshot:
            return entry
    return None


def principals(snapshot: Snapshot, on_their_way: Lists = ()) -> list[int]:
    """Members that no list passes over, in order: each adjacent pair (a, b)
    of an extended list passes over what lies between.

    O(n r log n), by a sum of differences over the sorted members.
    """
    order = sorted(snapshot)
    count = len(order)
    changes = [0] * (count + 1)
    extended = itertools.chain(((member, *state.successors) for member, state in snapshot.items()), on_their_way)
    for a, b in set(itertools.chain.from_iterable(map(itertools.pairwise, extended))):
        low, high = bisect_right(order, a), bisect_left(order, b)
        if a < b:
            if low < high:
                changes[low] += 1
                changes[high] -= 1
        else:
            changes[low] += 1
            changes[count] -= 1
            changes[0] += 1
            changes[high] -= 1
    passed_over = itertools.accumulate(changes)
    return [member for member, total in zip(order, passed_over, strict=False) if total == 0]


def ring_of(snapshot: Snapshot) -> list[list[int]]:
    """The cycles of best, each in the order of best from its smallest member
    on.  R is all of them together; there should be one."""
    follow = {member: best(snapshot, member) for member in snapshot}
    cycles: list[list[int]] = []
    seen: dict[int, int] = {}
    for number, start in enumerate(sorted(snapshot)):
        at: int | None = start
        while at is not None and at not in seen:
            seen[at] = number
            at = follow[at]
        if at is not None and seen[at] == number:
            cycle = [at]
            while (following := follow[cycle[-1]]) != at:
                assert following is not None, "a cycle goes round"
                cycle.append(following)
            smallest = cycle.index(min(cycle))
            cycles.append(cycle[smallest:] + cycle[:smallest])
    return cycles


def nobody_passed_over(snapshot: Snapshot, on_their_way: Lists = ()) -> bool:
    """Whether no list passes over anybody on the ring.

    It is what a small ring has for a base.  Of two that are just meeting, one
    may look for a moment like nothing but appendages of the other, while its
    lists still close a ring of their own.
    """
    chosen = set(principals(snapshot, on_their_way))
    return all(member in chosen for cycle in ring_of(snapshot) for member in cycle)


def check_local(me: int, successors: Sequence[int]) -> list[Violation]:
    """I7 and I8, which concern one member alone."""
    found = []
    extended = (me, *successors)
    if len(set(extended)) != len(extended):
        found.append(Violation("I7", f"{ids.short(me)} lists somebody twice, or itself"))
    steps = [ids.distance(me, entry) for entry in successors]
    if any(low > high for low, high in itertools.pairwise(steps)):
        found.append(Violation("I8", f"the list of {ids.short(me)} is out of order"))
    return found


def check_ring(snapshot: Snapshot, size: int, on_their_way: Lists = ()) -> list[Violation]:
    """I1 to I6 and I9, of members that can all reach each other.

    :param size: r, the length of full lists.  I2 and I9 are asked of rings
        with more members than that.
    """
    if len(snapshot) < 2:
        return []
    found = [
        Violation("I1", f"{ids.short(member)} lists nobody who lives")
        for member in sorted(snapshot)
        if best(snapshot, member) is None
    ]
    cycles = ring_of(snapshot)
    if not cycles:
        found.append(Violation("I3", "no member comes back to itself"))
    if len(cycles) > 1:
        found.append(Violation("I4", f"{len(cycles)} rings, of {', '.join(str(len(cycle)) for cycle in cycles)}"))
    members = {member for cycle in cycles for member in cycle}
    order = sorted(members)
    for place, member in enumerate(order):
        if best(snapshot, member) != order[(place + 1) % len(order)]:
            found.append(Violation("I5", f"the ring passes over the one after {ids.short(member)}"))
            break
    found += _appendages(snapshot, members)
    if len(snapshot) > size:
        chosen = principals(snapshot, on_their_way)
        if len(chosen) < size + 1:
            found.append(Violation("I2", f"{len(chosen)} principals of {len(snapshot)} members, with lists of {size}"))
        found += [
            Violation("I9", f"the principal {ids.short(member)} is not on the ring")
            for member in chosen
            if member not in members
        ]
    return found


def _appendages(snapshot: Snapshot, members: set[int]) -> list[Violation]:
    found = []
    reaches = set(members)
    for member in sorted(snapshot):
        path: dict[int, None] = {}
        at: int | None = member
        while at is not None and at not in path and at not in reaches:
            path[at] = None
            at = best(snapshot, at)
        if at is not None and at in reaches:
            reaches.update(path)
        else:
            found.append(Violation("I6", f"{ids.short(member)} does not reach the ring"))
    return found


def check_all(snapshot: Snapshot, size: int, on_their_way: Lists = ()) -> list[Violation]:
    """I1 to I9 of one moment."""
    local = [found for member in sorted(snapshot) for found in check_local(member, snapshot[member].successors)]
    return local + check_ring(snapshot, size, on_their_way)


def check_ideal(snapshot: Snapshot, size: int) -> list[Violation]:
    """I12: each member knows just those that follow it and the one before."""
    order = sorted(snapshot)
    found = []
    for place, member in enumerate(order):
        length = min(size, len(order) - 1)
        wanted = tuple(order[(place + step) % len(order)] for step in range(1, length + 1))
        before = order[place - 1] if len(order) > 1 else None
        if snapshot[member].successors != wanted:
            found.append(Violation("I12", f"the list of {ids.short(member)} is not those that follow it"))
        if snapshot[member].predecessor != before:
            found.append(Violation("I12", f"{ids.short(member)} has not the predecessor that it should have"))
    return found


def check_owners(claims: Mapping[int, Sequence[int]], members: Iterable[int]) -> list[Violation]:
    """I15: just one member claims each key, and it is the right one.

    :param claims: for each key, the members that claim it.
    """
    order = sorted(members)
    found: list[Violation] = []
    if not order:
        return found
    for key in sorted(claims):
        wanted = order[bisect_left(order, key) % len(order)]
        if list(claims[key]) != [wanted]:
            names = ", ".join(map(ids.short, claims[key])) or "nobody"
            found.append(Violation("I15", f"{names} claims {ids.short(key)}, which is {ids.short(wanted)}'s"))
    return found


def measure(snapshot: Snapshot, size: int, on_their_way: Lists = ()) -> Measure:
    """Zave's error: I13 says that it never grows while nobody comes or goes.

    Beyond the nearest neighbours a list can only be right once the lists
    after it are: so places are counted from the front.
    """
    order = sorted(snapshot)
    where = {member: place for place, member in enumerate(order)}
    count = len(order)
    if count < 2:
        return Measure(0, 0)
    near = 0
    for member, state in snapshot.items():
        first = state.successors[0] if state.successors else None
        for neighbour, step in ((first, 1), (state.predecessor, -1)):
            if neighbour is None:
                near += count
            elif neighbour not in where:
                near += count + 1
            else:
                near += (step * (where[neighbour] - where[member]) - 1) % count
    right = length = min(size, count - 1)
    for extended in itertools.chain(((member, *state.successors) for member, state in snapshot.items()), on_their_way):
        place = where.get(extended[0])
        for step in range(right if place is not None else 0):
            wanted = order[((place or 0) + step + 1) % count]
            if step + 1 >= len(extended) or extended[step + 1] != wanted:
                right = step
                break
    return Measure(near, length - right)
