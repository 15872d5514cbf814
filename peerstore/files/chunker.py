"""Cutting a stream where its content says so.

FastCDC (Xia et al., USENIX ATC 2016) with a secret seed: 256 KiB at least,
1 MiB on average, 4 MiB at most.  Bytes put in at the start of a file move
the cuts around them and leave all later chunks as they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from pyfastcdc import FastCDC

__all__ = ["AVERAGE", "Chunker", "MAXIMUM", "MINIMUM", "Readable"]

MINIMUM = 256 * 1024
AVERAGE = 1024 * 1024
MAXIMUM = 4 * 1024 * 1024


class Readable(Protocol):
    """A blocking stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """At most *size* bytes; none at the end."""
        ...


class Chunker:
    """Cuts streams; equal content is cut equally for equal seeds.

    :param seed: unsigned, 64 bits.
    """

    def __init__(self, seed: int) -> None:
        # The library takes 63 bits.
        self._cutter = FastCDC(avg_size=AVERAGE, min_size=MINIMUM, max_size=MAXIMUM, seed=seed >> 1)

    def split(self, stream: Readable) -> Iterator[bytes]:
        """Each chunk of the stream in turn; none for an empty one.

        Holds at most twice the largest chunk.  Blocks: each ``next`` belongs
        in a thread.
        """
        held = bytearray()
        ended = False
        while True:
            while not ended and len(held) < MAXIMUM:
                piece = stream.read(MAXIMUM - len(held))
                if not piece:
                    ended = True
                held += piece
            if not held:
                return
            first = next(iter(self._cutter.cut_buf(bytes(held))))
            length = int(first.length)
            chunk = bytes(memoryview(held)[:length])
            del held[:length]
            yield chunk
