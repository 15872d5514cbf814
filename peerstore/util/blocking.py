"""Threads for work that must not block the reactor.

Twisted's own thread pool also resolves names; a backup that fills it with
hashing would stall every connection attempt.  So we have pools of our own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from peerstore.errors import PeerStoreError
from peerstore.interfaces import IBlockingRunner

__all__ = ["InlineRunner", "ThreadRunner"]


@implementer(IBlockingRunner)
class ThreadRunner:
    """A bounded pool of real threads.

    :param reactor: provides ``IReactorFromThreads``.
    :param size: how many threads at most.
    :param name: what debuggers call them.
    """

    def __init__(self, reactor: IReactorFromThreads, size: int, name: str) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(minthreads=0, maxthreads=size, name=name)
        self._name = name
        self._taking = False
        self._stopping = False
        self._waiting: list[Deferred[None]] = []

    def start(self) -> None:
        """Start the pool; threads do not survive a fork, so not before it."""
        self._pool.start()
        self._taking = True

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        """Call *function* in a thread; a Deferred of its result.

        It fails before the start and after the stop, when no thread would
        ever do it.
        """
        if not self._taking:
            return fail(PeerStoreError(f"The threads of {self._name} do not run."))
        return deferToThreadPool(self._reactor, self._pool, function, *args, **kwargs)

    def stop(self) -> Deferred[None]:
        """Finish what was given, then end the threads.

        :return: a Deferred that fires once they have ended and all results
            have been handed over; the reactor goes on meanwhile.
        """
        if not self._taking and not self._stopping:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        self._waiting.append(ended)
        if self._taking:
            self._taking, self._stopping = False, True
            threading.Thread(target=self._join, name=f"{self._name}-stop").start()
        return ended

    def _join(self) -> None:
        self._pool.stop()
        self._reactor.callFromThread(self._ended)

    def _ended(self) -> None:
        self._stopping = False
        waiting, self._waiting = self._waiting, []
        for ended in waiting:
            ended.callback(None)


@implementer(IBlockingRunner)
class InlineRunner:
    """No threads: runs at once.  For the simulator and for unit tests."""

    def start(self) -> None:
        """Nothing to start."""

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        """Call *function* here and now; a Deferred of its result."""
        return execute(function, *args, **kwargs)

    def stop(self) -> Deferred[None]:
        """Nothing to stop."""
        return succeed(None)
