"""Blocking streams for tests, and bytes that are the same everywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

__all__ = ["ByteStream", "noise"]


def noise(name: str, size: int) -> bytes:
    """*size* incompressible bytes, another stream for each *name*: SHAKE-128,
    so that frozen vectors can be made again by any program."""
    return hashlib.shake_128(name.encode()).digest(size)


class ByteStream:
    """Gives *data* out; *most* says how much of what is asked it gives."""

    def __init__(self, data: bytes, most: Callable[[int], int] = lambda asked: asked) -> None:
        self._data = memoryview(data)
        self._most = most
        self._at = 0
        #: The largest read that was asked for.
        self.largest = 0

    def read(self, size: int, /) -> bytes:
        """At least one byte until the end."""
        self.largest = max(self.largest, size)
        end = self._at + max(1, min(size, self._most(size)))
        piece = bytes(self._data[self._at : end])
        self._at += len(piece)
        return piece
