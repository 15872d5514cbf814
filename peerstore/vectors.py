"""Version vectors: which edits of which devices a version was derived from.

A vector is a tuple of ``(device, counter)`` pairs, sorted by device, with
16-byte devices and counters from 1 up; a device that is absent stands at 0.
A device uses one durable counter for everything it writes and never uses a
number twice, so two different edits never carry the same entry.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["EMPTY", "Vector", "advance", "compare", "covers", "join"]

Vector = tuple[tuple[bytes, int], ...]

EMPTY: Vector = ()


def covers(a: Vector, b: Vector) -> bool:
    """Whether *a* has seen everything that *b* has: entry by entry ``>=``."""
    seen = dict(a)
    return all(seen.get(device, 0) >= counter for device, counter in b)


def join(vectors: Iterable[Vector]) -> Vector:
    """The entry-wise maximum, sorted: the least vector covering all of them."""
    merged: dict[bytes, int] = {}
    for vector in vectors:
        for device, counter in vector:
            if counter > merged.get(device, 0):
                merged[device] = counter
    return tuple(sorted(merged.items()))


def advance(vector: Vector, device: bytes, counter: int) -> Vector:
    """*vector* with the entry of *device* set to its next number.

    :raises ValueError: when *counter* is not above what the vector holds:
        a number used twice would make two different edits look equal.
    """
    entries = dict(vector)
    if counter <= entries.get(device, 0):
        raise ValueError("a device's counter never repeats and never goes back")
    entries[device] = counter
    return tuple(sorted(entries.items()))


def compare(a: Vector, b: Vector) -> str:
    """``"equal"``, ``"after"``, ``"before"`` or ``"concurrent"``: a against b."""
    forwards, backwards = covers(a, b), covers(b, a)
    if forwards and backwards:
        return "equal"
    if forwards:
        return "after"
    return "before" if backwards else "concurrent"
