"""Bytes that may be in memory at a time, shared by all transfers."""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import CancelledError, Deferred, succeed

__all__ = ["ByteBudget"]


class ByteBudget:
    """Lets takers wait, in order, until there is room.

    :param limit: bytes; one taker above it is let through alone.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._waiting: deque[tuple[int, Deferred[None]]] = deque()

    def take(self, count: int) -> Deferred[None]:
        """A Deferred that fires when *count* bytes may be held; cancel it to
        wait no longer."""
        if not self._waiting and self._fits(count):
            self._used += count
            return succeed(None)
        turn: Deferred[None] = Deferred(self._leave)
        self._waiting.append((count, turn))
        return turn

    def give_back(self, count: int) -> None:
        """These bytes are no longer held."""
        self._used -= count
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            count, turn = self._waiting.popleft()
            self._used += count
            turn.callback(None)

    def _leave(self, turn: Deferred[None]) -> None:
        self._waiting = deque(entry for entry in self._waiting if entry[1] is not turn)
        turn.errback(CancelledError())
        # It may have stood before others for whom there is room.
        self._admit()

    def _fits(self, count: int) -> bool:
        return self._used == 0 or self._used + count <= self._limit
