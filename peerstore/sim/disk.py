"""A disk that loses what was not synced when its machine crashes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime

from peerstore.errors import DiskFull

__all__ = ["SimDisk"]


class SimDisk:
    """Provides ``storage.memory_store.Disk``.

    :param latency: asked for the seconds that each sync takes.
    """

    def __init__(self, clock: IReactorTime, latency: Callable[[], float]) -> None:
        self._clock = clock
        self._latency = latency
        self._durable: dict[bytes, bytes] = {}
        self._pending: list[tuple[bytes, bytes | None]] = []
        self._life = 0
        self.full = False
        self.syncs = 0

    def load(self) -> Mapping[bytes, bytes]:
        """What is on the disk."""
        return dict(self._durable)

    def write(self, key: bytes, value: bytes) -> None:
        """Set a key; on the disk after the next sync."""
        self._pending.append((key, value))

    def delete(self, key: bytes) -> None:
        """Remove a key; gone after the next sync."""
        self._pending.append((key, None))

    def sync(self) -> Deferred[None]:
        """What was written by now is durable when this fires."""
        if self.full:
            self._pending.clear()
            return fail(DiskFull("The simulated disk is full."))
        writes, self._pending = self._pending, []
        done: Deferred[None] = Deferred(lambda _: None)
        self._clock.callLater(self._latency(), self._synced, self._life, writes, done)
        return done

    def crash(self) -> None:
        """The machine stops: what was on its way never arrives."""
        self._life += 1
        self._pending.clear()

    def _synced(self, life: int, writes: list[tuple[bytes, bytes | None]], done: Deferred[None]) -> None:
        if life != self._life:
            return
        self.syncs += 1
        for key, value in writes:
            if value is None:
                self._durable.pop(key, None)
            else:
                self._durable[key] = value
        if not done.called:
            done.callback(None)
