"""Zave's invariants, spelled out as they are stated, over small snapshots.

Slow and plain on purpose: a second opinion beside ``peerstore.sim.invariants``.
A snapshot maps each live member's id to (predecessor or None, list of ids);
ids are numbers of a circle of *circle*.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

__all__ = ["Seen", "best", "broken", "inside", "principals", "safe_to_crash", "the_ring"]

#: Predecessor, and successors in order.
Seen = tuple[int | None, tuple[int, ...]]
Snapshot = Mapping[int, Seen]


def inside(low: int, x: int, high: int) -> bool:
    """Whether x is met strictly between low and high, going round."""
    return low < x < high if low < high else x > low or x < high


def best(snapshot: Snapshot, member: int) -> int | None:
    """The first live entry of its list."""
    for entry in snapshot[member][1]:
        if entry in snapshot:
            return entry
    return None


def principals(snapshot: Snapshot, in_flight: Sequence[Sequence[int]] = ()) -> set[int]:
    """Members that no extended list passes over, those on their way included.

    :param in_flight: extended lists that some live member is about to take over.
    """
    pairs = {
        pair
        for extended in [*((member, *seen[1]) for member, seen in snapshot.items()), *in_flight]
        for pair in itertools.pairwise(extended)
    }
    return {member for member in snapshot if not any(inside(a, member, b) for a, b in pairs)}


def the_ring(snapshot: Snapshot) -> set[int]:
    """R: members that come back to themselves by following best."""
    found = set()
    for member in snapshot:
        at = best(snapshot, member)
        for _ in snapshot:
            if at is None or at == member:
                break
            at = best(snapshot, at)
        if at == member:
            found.add(member)
    return found


def _reached(snapshot: Snapshot, start: int) -> set[int]:
    found: set[int] = set()
    at: int | None = start
    while at is not None and at not in found:
        found.add(at)
        at = best(snapshot, at)
    return found


def broken(snapshot: Snapshot, size: int, in_flight: Sequence[Sequence[int]] = ()) -> list[str]:
    """Which of I1 to I9 do not hold; with *size* or fewer members, I2 and I9
    are not asked for, and a lone member is a ring."""
    found = []
    for member, (_, successors) in snapshot.items():
        extended = (member, *successors)
        if len(set(extended)) != len(extended):
            found.append("I7 NoDuplicates")
        triples = zip(extended, extended[1:], extended[2:], strict=False)
        if not all(inside(x, y, z) for x, y, z in triples):
            found.append("I8 OrderedLists")
    if len(snapshot) < 2:
        return found
    if any(best(snapshot, member) is None for member in snapshot):
        found.append("I1 LiveSuccessor")
    ring = the_ring(snapshot)
    if not ring:
        found.append("I3 AtLeastOneRing")
    for x in ring:
        if not ring <= _reached(snapshot, x):
            found.append("I4 AtMostOneRing")
        y = best(snapshot, x)
        if y is not None and any(inside(x, z, y) for z in ring):
            found.append("I5 OrderedRing")
    if not all(ring & _reached(snapshot, member) for member in snapshot):
        found.append("I6 ConnectedAppendages")
    if len(snapshot) > size:
        chosen = principals(snapshot, in_flight)
        if len(chosen) < size + 1:
            found.append("I2 Principals")
        if not chosen <= ring:
            found.append("I9 PrincipalsInRing")
    return found


def safe_to_crash(
    snapshot: Snapshot, member: int, size: int, in_flight: Sequence[tuple[int, Sequence[int]]] = ()
) -> bool:
    """F*: whether this crash leaves every other member a live entry, lists on
    their way to it counted, and does not take one of the last r + 1 principals.

    :param in_flight: (who is about to take it over, the list).
    """
    rest = {other: seen for other, seen in snapshot.items() if other != member}
    for other in rest:
        lists = [rest[other][1], *(entries for whose, entries in in_flight if whose == other)]
        if any(not any(entry in rest for entry in entries) for entries in lists):
            return False
    chosen = principals(snapshot, [(whose, *entries) for whose, entries in in_flight if whose in snapshot])
    return member not in chosen or len(chosen) > size + 1
