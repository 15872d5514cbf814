"""How long to try again, and how long to wait in between."""

from __future__ import annotations

import random

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

__all__ = ["Patience"]


class Patience:
    """One operation's time, spent on growing, jittered pauses.

    A ring that lost a member answers wrongly for a second or two; whoever
    asks again a few times never notices.

    :param seconds: the whole time that pauses may reach into.
    :param first: the first pause; each is 1.6 times longer, up to *longest*.
    """

    def __init__(
        self, clock: IReactorTime, rng: random.Random, seconds: float, first: float = 0.15, longest: float = 3.0
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._ends = clock.seconds() + seconds
        self._next = first
        self._longest = longest

    @property
    def left(self) -> float:
        """Seconds that remain, never below 0."""
        return max(0.0, self._ends - self._clock.seconds())

    async def pause(self, at_least: float = 0.0) -> bool:
        """Wait a little; false, at once, when the time is up."""
        left = self.left
        if left <= 0:
            return False
        wait = max(self._next * self._rng.uniform(0.5, 1.0), at_least)
        self._next = min(self._next * 1.6, self._longest)
        pause: Deferred[None] = deferLater(self._clock, min(wait, left))
        await pause
        return True
