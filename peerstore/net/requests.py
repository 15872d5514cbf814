"""Requests in flight on one connection."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from peerstore.errors import ConnectionLost, PeerStoreError, PeerTimeout

__all__ = ["RequestTable"]

#: A deadline starts again while bytes move, at most this many times.
PATIENCE = 10


class _Entry:
    __slots__ = ("deferred", "left", "method", "moved", "timeout", "timer")

    def __init__(self, deferred: Deferred[Any], method: str, timeout: float, moved: int) -> None:
        self.deferred = deferred
        self.method = method
        self.timeout = timeout
        self.moved = moved
        self.left = PATIENCE
        self.timer: IDelayedCall | None = None


class RequestTable:
    """Who waits for which answer, until when.

    An answer comes once: late, doubled and unasked ones are dropped, never
    raised, since a request that timed out here may still be answered there.

    :param clock: provides ``IReactorTime``.
    :param peer: what errors call the other end.
    """

    def __init__(self, clock: IReactorTime, peer: str) -> None:
        self._clock = clock
        self.peer = peer
        self._waiting: dict[int, _Entry] = {}
        self._next = 1
        self._moved = 0
        self._lost: PeerStoreError | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(self, method: str, timeout: float) -> tuple[int, Deferred[Any]]:
        """A new request: its id, and a Deferred of its answer.

        The Deferred fails with PeerTimeout after *timeout* seconds in which
        the connection stood still, or with the reason it was lost.
        """
        number = self._next
        self._next += 1
        deferred: Deferred[Any] = Deferred(lambda _: self._drop(number))
        if self._lost is not None:
            deferred.errback(self._lost)
            return number, deferred
        entry = _Entry(deferred, method, timeout, self._moved)
        entry.timer = self._clock.callLater(max(0.0, timeout), self._late, number)
        self._waiting[number] = entry
        return number, deferred

    def progress(self, count: int) -> None:
        """*count* bytes moved: nobody who waits for a large answer is late."""
        self._moved += count

    def answered(self, number: int, result: object) -> bool:
        """Give an answer to whoever waits for it; false when nobody does."""
        entry = self._forget(number)
        if entry is None:
            return False
        entry.deferred.callback(result)
        return True

    def lose(self, reason: PeerStoreError | None = None) -> None:
        """Fail everything in flight at once, and whatever is asked later."""
        self._lost = reason or ConnectionLost(f"The connection to {self.peer} ended before it answered.")
        waiting, self._waiting = self._waiting, {}
        for entry in waiting.values():
            self._cancel_timer(entry)
        for entry in waiting.values():
            # Whoever hears of one may give others up.
            if not entry.deferred.called:
                entry.deferred.errback(self._lost)

    def _forget(self, number: int) -> _Entry | None:
        entry = self._waiting.pop(number, None)
        if entry is not None:
            self._cancel_timer(entry)
        return entry

    def _drop(self, number: int) -> None:
        self._forget(number)

    @staticmethod
    def _cancel_timer(entry: _Entry) -> None:
        if entry.timer is not None and entry.timer.active():
            entry.timer.cancel()

    def _late(self, number: int) -> None:
        entry = self._waiting[number]
        if entry.moved != self._moved and entry.left > 0:
            entry.moved = self._moved
            entry.left -= 1
            entry.timer = self._clock.callLater(max(0.0, entry.timeout), self._late, number)
            return
        self._waiting.pop(number)
        entry.deferred.errback(
            PeerTimeout(f"{self.peer} did not answer {entry.method} within {entry.timeout:g} s.", "Try again later.")
        )
