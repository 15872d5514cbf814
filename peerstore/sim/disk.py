"""A disk that loses what was not synced when its machine crashes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime

from peerstore.errors import DiskFull

__all__ = ["SimDisk"]

_Writes = list[tuple[bytes, bytes | None]]


class SimDisk:
    """Provides ``storage.memory_store.Disk``.

    A sync is one transaction: after a crash all of it is there or nothing,
    and it is there for certain once its Deferred has fired.

    :param latency: asked for the seconds that each sync takes.
    """

    def __init__(self, clock: IReactorTime, latency: Callable[[], float]) -> None:
        self._clock = clock
        self._latency = latency
        self._durable: dict[bytes, bytes] = {}
        self._pending: _Writes = []
        self._syncing: list[_Writes] = []
        self._free_at = 0.0
        self._life = 0
        #: Tells the program that a sync is done: its process's ``call``.
        self.run: Callable[..., None] = _at_once
        self.full = False
        #: Every sync takes so many times longer.
        self.slowness = 1.0
        #: Told of each change of what is durable: the key, and its value or None.
        self.watch: Callable[[bytes, bytes | None], object] | None = None
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
        """What was written by now is durable when this fires; syncs end in
        the order in which they were asked for."""
        if self.full:
            self._pending.clear()
            return fail(DiskFull("The simulated disk is full."))
        writes, self._pending = self._pending, []
        done: Deferred[None] = Deferred(lambda _: None)
        self._syncing.append(writes)
        now = self._clock.seconds()
        self._free_at = max(self._free_at, now + self.slowness * self._latency())
        self._clock.callLater(self._free_at - now, self._synced, self._life, done)
        return done

    def crash(self, lucky: int = 0) -> None:
        """The machine stops: what was on its way never arrives.

        :param lucky: so many syncs under way did arrive, though nobody was
            told of it.
        """
        self._life += 1
        for writes in self._syncing[:lucky]:
            self._apply(writes)
        self._syncing.clear()
        self._pending.clear()

    def rot(self, key: bytes, bit: int) -> None:
        """One bit of a durable value turns over, and nobody is told of it.

        :param bit: any number; counted round the value.
        """
        value = bytearray(self._durable[key])
        at = bit % (8 * len(value))
        value[at // 8] ^= 1 << at % 8
        self._durable[key] = bytes(value)
        if self.watch is not None:
            self.watch(key, None)

    def snapshot(self) -> Mapping[bytes, bytes]:
        """A backup of the disk, for :meth:`restore`."""
        return dict(self._durable)

    def restore(self, snapshot: Mapping[bytes, bytes]) -> None:
        """Put an older state back, on a machine that does not run; an empty
        one is a new disk."""
        self.crash()
        for key in [key for key in self._durable if key not in snapshot]:
            self._set(key, None)
        for key, value in snapshot.items():
            self._set(key, value)

    def _synced(self, life: int, done: Deferred[None]) -> None:
        if life != self._life:
            return
        self._apply(self._syncing.pop(0))
        self.syncs += 1
        self.run(self._tell, done)

    @staticmethod
    def _tell(done: Deferred[None]) -> None:
        if not done.called:
            done.callback(None)

    def _apply(self, writes: _Writes) -> None:
        for key, value in writes:
            self._set(key, value)

    def _set(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            self._durable.pop(key, None)
        else:
            self._durable[key] = value
        if self.watch is not None:
            self.watch(key, value)


def _at_once(function: Callable[..., None], *args: object) -> None:
    function(*args)
