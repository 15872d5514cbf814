"""Frames that have begun to come in, over all connections of a node.

Nothing of a frame can be refused before it is whole, and so its bytes are in
no budget yet.  A thousand connections could each hold most of one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple

__all__ = ["Arriving"]

#: What less than this has come in of is never the trouble.
SMALL = 64 * 1024


class _Frame(NamedTuple):
    size: int
    end: Callable[[], None]


class Arriving:
    """Counts the bytes of unfinished frames, and ends whoever is the trouble.

    Where there are too many, those that have been coming in for the longest
    time go first: an honest frame is whole within seconds.

    :param limit: bytes over all connections.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        #: By connection, the frame that began first at the front.
        self._frames: dict[Hashable, _Frame] = {}

    def hold(self, connection: Hashable, size: int, anew: bool, end: Callable[[], None]) -> None:
        """*connection* has *size* bytes of an unfinished frame, which began
        just now if *anew*; *end* is called to end that connection."""
        before = self._frames.get(connection)
        if before is not None and (anew or not size):
            del self._frames[connection]
        self.used += size - (before.size if before is not None else 0)
        if size:
            self._frames[connection] = _Frame(size, end)
        while self.used > self.limit:
            oldest = next((name for name, frame in self._frames.items() if frame.size > SMALL), None)
            if oldest is None:
                return
            gone = self._frames.pop(oldest)
            self.used -= gone.size
            gone.end()
