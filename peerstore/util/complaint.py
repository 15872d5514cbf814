"""Saying what is wrong once, and not every second.

A full disk fails every write, and each of them would be logged.  What people
need is the first line, a reminder now and then while it lasts, and a line
when it is over.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["EVERY", "Complaint"]

#: Seconds between two lines about the same thing.
EVERY = 600.0


class Complaint:
    """One thing that may be wrong for a while.

    :param seconds: a clock.
    """

    def __init__(self, seconds: Callable[[], float], every: float = EVERY) -> None:
        self._seconds = seconds
        self._every = every
        self._last: float | None = None

    def due(self) -> bool:
        """It is wrong (again, or still); whether to say so now."""
        now = self._seconds()
        if self._last is not None and now - self._last < self._every:
            return False
        self._last = now
        return True

    def over(self) -> bool:
        """It is well; whether it was wrong before, and that is to be said."""
        was, self._last = self._last is not None, None
        return was
