"""Cutting a stream where its content says so.

FastCDC (Xia et al., USENIX ATC 2016) with a secret seed: 256 KiB at least,
1 MiB more or less, 4 MiB at most.  Bytes put in at the start of a file move
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
#: Bytes asked of the stream at a time.
PIECE = 1024 * 1024


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
        self._seed = seed >> 1

    def split(self, stream: Readable) -> Iterator[bytes]:
        """Each chunk of the stream in turn; none for an empty one.

        Holds less than three times the largest chunk, the one that it gives
        included.  Blocks: each ``next`` belongs in a thread.  Several streams
        may be split at a time.
        """
        # One for each stream: the library's objects are not made for sharing.
        cutter = FastCDC(avg_size=AVERAGE, min_size=MINIMUM, max_size=MAXIMUM, seed=self._seed)
        held = bytearray()
        ended = False
        while True:
            while not ended and len(held) < MAXIMUM:
                piece = stream.read(min(PIECE, MAXIMUM - len(held)))
                if not piece:
                    ended = True
                held += piece
            if not held:
                return
            # Where a chunk ends depends on at most MAXIMUM bytes from its start.
            length = int(next(iter(cutter.cut_buf(held))).length)
            with memoryview(held) as view:
                chunk = bytes(view[:length])
            del held[:length]
            yield chunk
