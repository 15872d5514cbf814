"""Threads for work that must not block the reactor.

Twisted's own thread pool also resolves names; a backup that fills it with
hashing would stall every connection attempt.  So we have pools of our own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, execute, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

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

    def start(self) -> None:
        """Start the pool; threads do not survive a fork, so not before it."""
        self._pool.start()

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        """Call *function* in a thread; a Deferred of its result."""
        return deferToThreadPool(self._reactor, self._pool, function, *args, **kwargs)

    def stop(self) -> Deferred[None]:
        """Finish what was begun, then end the threads."""
        self._pool.stop()
        return succeed(None)


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
