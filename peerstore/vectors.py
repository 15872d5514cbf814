"""Version vectors: which edits of which devices a version was derived from.

A vector is a tuple of ``(device, counter)`` pairs, sorted by device, with
16-byte devices and counters from 1 up; a device that is absent stands at 0.
A device uses one durable counter for everything it writes and never uses a
number twice, so two different edits never carry the same entry.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

__all__ = ["EMPTY", "MAX_DEVICES", "Vector", "advance", "compare", "covers", "join", "well_formed"]

Vector = tuple[tuple[bytes, int], ...]

EMPTY: Vector = ()
#: A vector that names more devices than this is no vector of ours.
MAX_DEVICES = 1024
DEVICE_BYTES = 16
MAX_COUNTER = (1 << 63) - 1


def well_formed(vector: Vector) -> bool:
    """Whether what came from elsewhere is a vector in its only form: 16-byte
    devices, sorted, each once, with counters from 1 to 2**63 - 1.

    The others here take that for granted: an unsorted twin of a vector would
    cover it and be covered by it, and yet not be equal.
    """
    devices = [device for device, _ in vector]
    return (
        len(devices) <= MAX_DEVICES
        and all(len(device) == DEVICE_BYTES and 0 < counter <= MAX_COUNTER for device, counter in vector)
        and all(before < after for before, after in pairwise(devices))
    )


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
