"""A setting that changes often, and must be on disk before it is acted upon."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from peerstore.interfaces import INodeStore

__all__ = ["Latest"]


class Latest:
    """Writes the newest version, one write at a time, for all who wait.

    :param pack: gives the bytes of the version of this moment.
    :param before: puts on disk what this refers to; done before each write.
    """

    def __init__(
        self,
        store: INodeStore,
        name: str,
        pack: Callable[[], bytes],
        before: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._store = store
        self._name = name
        self._pack = pack
        self._before = before
        self._on_disk = 0
        self._writing = False
        self._waiting: list[tuple[int, Deferred[None]]] = []
        #: Counts changes.
        self.version = 0

    def changed(self) -> None:
        """What is on disk is not the newest any more."""
        self.version += 1

    def kept(self) -> Deferred[None]:
        """Fires once the version of this moment, or a later one, is on disk;
        fails with a StorageError when it cannot be."""
        if self._on_disk == self.version:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._waiting.append((self.version, waiter))
        if not self._writing:
            self._write()
        return waiter

    def _write(self) -> None:
        self._writing = True
        version = self.version
        Deferred.fromCoroutine(self._put(self._pack())).addBoth(self._wrote, version)

    async def _put(self, packed: bytes) -> None:
        # Packed before: what it refers to is in what is kept now, or was.
        if self._before is not None:
            await self._before()
        await self._store.keep_setting(self._name, packed)

    def _wrote(self, result: object, version: int) -> None:
        self._writing = False
        failure = result if isinstance(result, Failure) else None
        if failure is None:
            self._on_disk = version
        done = [waiter for at, waiter in self._waiting if at <= version]
        self._waiting = [(at, waiter) for at, waiter in self._waiting if at > version]
        if self._waiting:
            self._write()
        for waiter in done:
            if failure is not None:
                waiter.errback(failure)
            else:
                waiter.callback(None)
