"""Long polls that wait for news of a log."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IReactorTime

from peerstore.errors import Busy
from peerstore.items import ItemKey, Kind

__all__ = ["Watchers"]

LogName = tuple[bytes, bytes]


class Watchers:
    """Who waits for which log.  Nobody holds a worker while waiting.

    :param limit: how many may wait at a time; the next is told BUSY.
    """

    def __init__(self, clock: IReactorTime, limit: int = 1024) -> None:
        self._clock = clock
        self._limit = limit
        self._waiting: dict[LogName, list[Deferred[bool]]] = {}
        self.count = 0

    def wait(self, ring_id: bytes, owner: bytes, seconds: float) -> Deferred[bool]:
        """True when something was stored in that log, false after *seconds*."""
        if self.count >= self._limit:
            return fail(Busy("Too many are watching logs here.", retry_after=5.0))
        name = (ring_id, owner)

        def left(waiter: Deferred[bool]) -> None:
            self._drop(name, waiter)
            waiter.errback(CancelledError())

        waiter: Deferred[bool] = Deferred(left)
        self._waiting.setdefault(name, []).append(waiter)
        self.count += 1
        timer = self._clock.callLater(seconds, self._answer, name, waiter, False)

        def no_timer(result: object) -> object:
            if timer.active():
                timer.cancel()
            return result

        waiter.addBoth(no_timer)
        return waiter

    def stored(self, keys: Iterable[ItemKey]) -> None:
        """These items are new here: wake whoever waits for their logs."""
        names = dict.fromkeys((key.ring_id, key.owner) for key in keys if key.kind is Kind.LOG)
        for name in names:
            for waiter in list(self._waiting.get(name, ())):
                self._answer(name, waiter, True)

    def release(self) -> None:
        """Answer everybody that there is no news: this node stops."""
        for name in list(self._waiting):
            for waiter in list(self._waiting.get(name, ())):
                self._answer(name, waiter, False)

    def _answer(self, name: LogName, waiter: Deferred[bool], news: bool) -> None:
        self._drop(name, waiter)
        if not waiter.called:
            waiter.callback(news)

    def _drop(self, name: LogName, waiter: Deferred[bool]) -> None:
        waiting = self._waiting.get(name, [])
        if waiter in waiting:
            waiting.remove(waiter)
            self.count -= 1
        if not waiting:
            self._waiting.pop(name, None)
