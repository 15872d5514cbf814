"""Several coroutines at work, a few at a time, that end together."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.python.failure import Failure

from peerstore.interfaces import IBlockingRunner

__all__ = ["Crew", "in_thread"]

_T = TypeVar("_T")


class Crew:
    """An asynchronous context that does not end before all it started has.

    When its body fails or is cancelled, everybody is cancelled; when one of
    the coroutines fails, the others are, and the context fails with its error.

    :param turns: how many may be taken at a time.
    """

    def __init__(self, turns: int) -> None:
        self._turns = DeferredSemaphore(turns)
        self._working: dict[Deferred[None], None] = {}
        self._failure: Failure | None = None
        self._cancelled = False
        self._idle: Deferred[None] | None = None

    async def start(self, turns: int, job: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Wait for *turns* turns, then begin ``job(*args)``."""
        self._raise()
        taken = 0
        try:
            while taken < turns:
                await self._turns.acquire()
                taken += 1
            self._raise()
        except BaseException:
            self._give_back(taken)
            raise
        working: Deferred[Any] = Deferred.fromCoroutine(job(*args))
        self._working[working] = None

        def ended(result: Any) -> None:
            del self._working[working]
            if isinstance(result, Failure) and not (self._cancelled and result.check(CancelledError)):
                self._failure = self._failure or result
                self._cancel()
            self._give_back(turns)
            if not self._working and self._idle is not None and not self._idle.called:
                self._idle.callback(None)

        working.addBoth(ended)

    async def __aenter__(self) -> Crew:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._cancel()
        try:
            await self._all_ended()
        except CancelledError:
            self._cancel()
            await self._all_ended()
            raise
        if error is None:
            self._raise()

    # -- inside ----------------------------------------------------------------

    async def _all_ended(self) -> None:
        while self._working:
            self._idle = Deferred()
            await self._idle

    def _cancel(self) -> None:
        self._cancelled = True
        for working in list(self._working):
            working.cancel()

    def _give_back(self, turns: int) -> None:
        for _ in range(turns):
            self._turns.release()

    def _raise(self) -> None:
        if self._failure is not None:
            self._failure.raiseException()


async def in_thread(
    runner: IBlockingRunner, function: Callable[..., _T], *args: Any, give_up: Callable[[], None] | None = None
) -> _T:
    """Call *function* in a thread of *runner*; cancelled, wait for its end.

    A thread cannot be cancelled.  Whoever closes a file after this was
    cancelled must know that nobody writes to its number any more.

    :param give_up: called when cancelled; makes a function that waits for
        something return.
    """
    ended: Deferred[None] = Deferred()
    running: Deferred[_T] = runner.run(function, *args)
    result: Deferred[_T] = Deferred()

    def relay(value: Any) -> None:
        if not result.called:
            result.callback(value)
        ended.callback(None)

    running.addBoth(relay)
    try:
        return await result
    except CancelledError:
        if give_up is not None:
            give_up()
        await ended
        raise
