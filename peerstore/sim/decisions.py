"""Chance that can be replayed: every decision is a hash.

Decision n of a kind at a place is SHA-256(seed, place, kind, n).  So a
decision at one place does not change because there was one more at another,
and nothing depends on the interpreter's own hash seed.
"""

from __future__ import annotations

import hashlib
import random

__all__ = ["Decisions"]


class Decisions:
    """All chance of one run.

    :param seed: any integer.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._counts: dict[tuple[str, str], int] = {}

    def number(self, place: str, kind: str) -> int:
        """64 bits: the next decision of a kind at a place."""
        count = self._counts.get((place, kind), 0)
        self._counts[place, kind] = count + 1
        text = f"{self.seed}/{place}/{kind}/{count}".encode()
        return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")

    def fraction(self, place: str, kind: str) -> float:
        """In [0, 1)."""
        return self.number(place, kind) / 2**64

    def chance(self, place: str, kind: str, probability: float) -> bool:
        """Whether something of this probability happens."""
        return probability > 0 and self.fraction(place, kind) < probability

    def rng(self, place: str, kind: str = "rng") -> random.Random:
        """A generator of its own."""
        return random.Random(self.number(place, kind))

    def entropy(self, place: str, size: int) -> bytes:
        """Bytes that stand in for the system's."""
        raw = b""
        while len(raw) < size:
            raw += self.number(place, "entropy").to_bytes(8, "big")
        return raw[:size]
