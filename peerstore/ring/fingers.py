"""Fingers: hints for long hops.  They never decide anything."""

from __future__ import annotations

import random

from peerstore import ids
from peerstore.ring.member import Member

__all__ = ["FingerTable"]


class FingerTable:
    """Members met at growing distances from one position.

    Entry i is the owner of ``me + 2**i``, refreshed one at a time; neighbours
    fill the small distances anyway, so a few dozen distinct entries remain.
    """

    def __init__(self, me: int) -> None:
        self._me = me
        self._fingers: dict[int, Member] = {}

    def __len__(self) -> int:
        return len(set(self._fingers.values()))

    def pick(self, rng: random.Random, first_successor: int | None) -> tuple[int, int]:
        """(number, key) of a finger to refresh; one beyond our successor."""
        reach = ids.distance(self._me, first_successor) if first_successor is not None else 1
        low = min(ids.ID_BITS - 1, max(0, reach.bit_length() - 1))
        number = rng.randrange(low, ids.ID_BITS)
        return number, (self._me + (1 << number)) % ids.RING_SIZE

    def put(self, number: int, member: Member) -> None:
        """What a lookup of that finger's key found."""
        self._fingers[number] = member

    def drop_host(self, fp: bytes) -> None:
        """A host does not answer any more."""
        self._fingers = {number: member for number, member in self._fingers.items() if member.fp != fp}

    def members(self) -> list[Member]:
        """All distinct entries, sorted by id."""
        return sorted(set(self._fingers.values()))
