"""A rate that background work keeps to."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

__all__ = ["Pace"]

#: What may be spent at once after a pause (s of the rate).
BURST = 0.25


class Pace:
    """So many bytes a second, over all who share it.

    :param clock: provides ``IReactorTime``.
    :param rate: bytes per second; 0 for no bound.
    """

    def __init__(self, clock: IReactorTime, rate: int) -> None:
        self._clock = clock
        self._rate = rate
        #: When all that was spent so far will have been within the rate.
        self._even = 0.0

    def spend(self, size: int) -> Deferred[None]:
        """Fires once the next bytes may follow on these.

        Work that is larger than a burst is never refused: it is paid for
        afterwards.
        """
        if self._rate <= 0:
            return succeed(None)
        now = self._clock.seconds()
        self._even = max(self._even, now - BURST) + size / self._rate
        if self._even <= now:
            return succeed(None)
        done: Deferred[None] = Deferred(lambda _: call.cancel())
        call = self._clock.callLater(self._even - now, done.callback, None)
        return done
