"""Bounds on what is in flight: bytes and requests, first come, first served."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from twisted.internet.defer import CancelledError, Deferred, succeed

__all__ = ["Lane", "Lanes"]


class Lane:
    """A counting gate over bytes and requests.

    :param limit: bytes that may be in flight; one larger request passes alone.
    :param slots: requests that may be in flight.
    """

    def __init__(self, limit: int, slots: int) -> None:
        self.limit = limit
        self.slots = slots
        self.used = 0
        self.busy = 0
        self._waiting: deque[tuple[Deferred[None], int]] = deque()
        self._admitting = False

    def acquire(self, size: int) -> Deferred[None]:
        """Fires when *size* bytes may go; cancel it to leave the queue."""
        size = min(size, self.limit)
        if not self._waiting and self._fits(size):
            self._take(size)
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._leave)
        self._waiting.append((waiter, size))
        return waiter

    def release(self, size: int) -> None:
        """Give back what *acquire* took, and let the next ones go."""
        self.used -= min(size, self.limit)
        self.busy -= 1
        self._admit()

    def _fits(self, size: int) -> bool:
        return self.busy < self.slots and self.used + size <= self.limit

    def _take(self, size: int) -> None:
        self.used += size
        self.busy += 1

    def _admit(self) -> None:
        # Never one inside the other: where each is done at once (a host that
        # is known to be down), all that wait would be as many calls deep.
        if self._admitting:
            return
        self._admitting = True
        while self._waiting and self._fits(self._waiting[0][1]):
            waiter, size = self._waiting.popleft()
            self._take(size)
            waiter.callback(None)
        self._admitting = False

    def _leave(self, waiter: Deferred[None]) -> None:
        self._waiting = deque(entry for entry in self._waiting if entry[0] is not waiter)
        waiter.errback(CancelledError())
        self._admit()


class Lanes:
    """One lane for everything, and one for each host.

    A node answers BUSY beyond 32 requests or 8 MiB on one connection, so we
    stay below that for each host; and the whole stays bounded, so that memory
    does, however many hosts there are.
    """

    def __init__(self, total: int, total_slots: int, per_host: int, host_slots: int) -> None:
        self._all = Lane(total, total_slots)
        self._per_host = per_host
        self._host_slots = host_slots
        self._hosts: dict[bytes, Lane] = {}

    @asynccontextmanager
    async def room(self, fp: bytes, size: int) -> AsyncIterator[None]:
        """Hold room for one request of *size* bytes to the host *fp*."""
        lane = self._hosts.get(fp)
        if lane is None:
            if len(self._hosts) > 1024:
                self._hosts = {key: kept for key, kept in self._hosts.items() if kept.busy}
            lane = self._hosts[fp] = Lane(self._per_host, self._host_slots)
        await lane.acquire(size)
        try:
            await self._all.acquire(size)
            try:
                yield
            finally:
                self._all.release(size)
        finally:
            lane.release(size)
