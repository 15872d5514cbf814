"""Lamport's logical clock (Lamport 1978, "Time, Clocks, and the Ordering of
Events in a Distributed System")."""

from __future__ import annotations

__all__ = ["JUMP", "LAST", "LamportClock"]

#: The largest value that there is: what fits a message and a database.
LAST = (1 << 63) - 1
#: How far one message may move a clock.
JUMP = 1 << 32


class LamportClock:
    """Counts events so that whatever was caused by another counts higher.

    What is heard moves it by ``JUMP`` at most: a peer with an absurd clock
    does not use up the numbers of everybody, and a newcomer to an old ring
    has caught up after a few messages.  It stands still at ``LAST``, which no
    honest clock ever reaches.

    :param start: the last value known, for a clock that is kept on disk.
    """

    def __init__(self, start: int = 0) -> None:
        self._time = start

    @property
    def time(self) -> int:
        """The value of the last event."""
        return self._time

    def tick(self) -> int:
        """Count an event of our own and return its value."""
        self._time = min(self._time + 1, LAST)
        return self._time

    def witness(self, heard: int) -> int:
        """Count the arrival of a message stamped *heard*: max of both, + 1."""
        believed = min(heard, self._time + JUMP)
        self._time = min(max(self._time, believed) + 1, LAST)
        return self._time
