"""Saying what is wrong once, and not every second.

A full disk fails every write, and each of them would be logged.  What people
need is the first line, a reminder now and then while it lasts, and a line
when it is over.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["CALM", "EVERY", "Complaint", "Seldom"]

#: Seconds between two lines about the same thing.
EVERY = 600.0
#: Seconds without trouble until it is over: on a disk that is nearly full a
#: small write succeeds between two large ones that do not.
CALM = 5.0


class Complaint:
    """One thing that may be wrong for a while.

    :param seconds: a clock.
    """

    def __init__(self, seconds: Callable[[], float], every: float = EVERY) -> None:
        self._seconds = seconds
        self._every = every
        self._said: float | None = None
        self._wrong = 0.0

    def due(self) -> bool:
        """It is wrong (again, or still); whether to say so now."""
        now = self._wrong = self._seconds()
        if self._said is not None and now - self._said < self._every:
            return False
        self._said = now
        return True

    def over(self) -> bool:
        """It is well; whether it was wrong before, and that is to be said."""
        if self._said is None or self._seconds() - self._wrong < CALM:
            return False
        self._said = None
        return True


class Seldom:
    """Events of many kinds, each worth a line now and then only: whoever
    knocks at our door each second does not fill our log.

    :param seconds: a clock.
    :param most: kinds that are remembered; of more, the oldest is forgotten.
    """

    def __init__(self, seconds: Callable[[], float], every: float = EVERY, most: int = 256) -> None:
        self._seconds = seconds
        self._every = every
        self._most = most
        self._said: dict[str, float] = {}

    def due(self, kind: str) -> bool:
        """It happened; whether to say so now."""
        now = self._seconds()
        if kind in self._said and now - self._said[kind] < self._every:
            return False
        self._said.pop(kind, None)
        while len(self._said) >= self._most:
            del self._said[next(iter(self._said))]
        self._said[kind] = now
        return True
