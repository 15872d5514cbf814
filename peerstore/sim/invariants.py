"""What must hold of a ring, seen all at once (Zave 2015 and 2017).

A snapshot is the state of all live members.  E(m) is m followed by its list,
best(m) the first live entry of the list, R the members that reach themselves
by following best: the ring proper.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import NamedTuple

from peerstore import ids

__all__ = ["MemberState", "Violation", "check_always", "check_ideal", "principals"]


class MemberState(NamedTuple):
    """One live member: ring ids of its predecessor and its list."""

    predecessor: int | None
    successors: tuple[int, ...]


class Violation(NamedTuple):
    """An invariant that does not hold, by its name, and where."""

    name: str
    where: str


Snapshot = Mapping[int, MemberState]


def best(snapshot: Snapshot, member: int) -> int | None:
    """The first live entry of a member's list."""
    return next((entry for entry in snapshot[member].successors if entry in snapshot), None)


def principals(snapshot: Snapshot) -> list[int]:
    """Members that no list skips: each adjacent pair (a, b) of an E(m) skips
    what lies between.  O(n r log n), by a sum of differences."""
    order = sorted(snapshot)
    where = {member: place for place, member in enumerate(order)}
    changes = [0] * (len(order) + 1)

    def skip(low: int, high: int) -> None:
        changes[low] += 1
        changes[high] -= 1

    def first_after(point: int) -> int:
        low, high = 0, len(order)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if order[middle] <= point else (low, middle)
        return low

    def first_from(point: int) -> int:
        return where[point] if point in where else first_after(point)

    for member, state in snapshot.items():
        extended = (member, *state.successors)
        for a, b in itertools.pairwise(extended):
            low, high = first_after(a), first_from(b)
            if a < b:
                skip(low, max(low, high))
            else:
                skip(low, len(order))
                skip(0, high)
    total, found = 0, []
    for place, member in enumerate(order):
        total += changes[place]
        if total == 0:
            found.append(member)
    return found


def ring_of(snapshot: Snapshot) -> list[int]:
    """R, in ring order by best from its smallest member; empty if there is none."""
    follow = {member: best(snapshot, member) for member in snapshot}
    for start in sorted(snapshot):
        seen: dict[int, None] = {}
        at: int | None = start
        while at is not None and at not in seen:
            seen[at] = None
            at = follow[at]
        if at is not None:
            path = list(seen)
            return path[path.index(at) :]
    return []


def check_always(snapshot: Snapshot, size: int) -> list[Violation]:
    """I1 to I9, as far as they concern one connected part.

    :param size: r, the length of full lists.
    """
    found: list[Violation] = []
    for member, state in sorted(snapshot.items()):
        extended = (member, *state.successors)
        if len(set(extended)) != len(extended):
            found.append(Violation("I7 NoDuplicates", ids.short(member)))
        for x, y, z in zip(extended, extended[1:], extended[2:], strict=False):
            if not ids.between(x, y, z):
                found.append(Violation("I8 OrderedLists", ids.short(member)))
                break
    if len(snapshot) < 2:
        return found
    found += [Violation("I1 LiveSuccessor", ids.short(m)) for m in sorted(snapshot) if best(snapshot, m) is None]
    ring = ring_of(snapshot)
    if not ring:
        return [*found, Violation("I3 AtLeastOneRing", "no member reaches itself")]
    members = set(ring)
    for member in sorted(snapshot):
        seen: set[int] = set()
        at: int | None = member
        while at is not None and at not in seen and at not in members:
            seen.add(at)
            at = best(snapshot, at)
        if at is None:
            found.append(Violation("I6 ConnectedAppendages", ids.short(member)))
        elif at in seen:
            found.append(Violation("I4 AtMostOneRing", ids.short(member)))
    smallest = ring.index(min(ring))
    if ring[smallest:] + ring[:smallest] != sorted(ring):
        found.append(Violation("I5 OrderedRing", ids.short(ring[0])))
    chosen = principals(snapshot)
    if len(snapshot) > size and len(chosen) < size + 1:
        found.append(Violation("I2 Principals", f"{len(chosen)} of {len(snapshot)}"))
    found += [Violation("I9 PrincipalsInRing", ids.short(member)) for member in chosen if member not in members]
    return found


def check_ideal(snapshot: Snapshot, size: int) -> list[Violation]:
    """I12: each member knows just those that follow it and the one before.

    With it I15 holds: (predecessor, member] of all members tile the circle,
    so that just one claims each key.
    """
    order = sorted(snapshot)
    found = []
    for place, member in enumerate(order):
        length = min(size, len(order) - 1)
        wanted = tuple(order[(place + step) % len(order)] for step in range(1, length + 1))
        before = order[place - 1] if len(order) > 1 else None
        if snapshot[member].successors != wanted or snapshot[member].predecessor != before:
            found.append(Violation("I12 Ideal", ids.short(member)))
    return found
