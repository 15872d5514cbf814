"""Waiting until a path is quiet, but not for ever."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Settler"]

#: Paths that may wait at a time; beyond that a look at everything is cheaper.
MOST = 10_000


class Settler:
    """Gathers touched paths, and hands each on once it is quiet.

    Paths do not wait for each other, so that a file which is written to all
    day long delays nobody else.

    :param quiet: seconds without a new touch.
    :param longest: seconds after which a path is handed on all the same.
    :param deliver: called with the paths that are quiet by now.
    :param flooded: called instead, at once, when more than *most* wait: all
        of them are forgotten.
    """

    def __init__(
        self,
        clock: IReactorTime,
        quiet: float,
        longest: float,
        deliver: Callable[[frozenset[bytes]], None],
        flooded: Callable[[], None],
        most: int = MOST,
    ) -> None:
        self._clock = clock
        self._quiet = quiet
        self._longest = longest
        self._deliver = deliver
        self._flooded = flooded
        self._most = most
        # When each was touched first and last, each in that order.
        self._first: OrderedDict[bytes, float] = OrderedDict()
        self._last: OrderedDict[bytes, float] = OrderedDict()
        self._timer: IDelayedCall | None = None

    def touch(self, path: bytes) -> None:
        """A path may have changed."""
        now = self._clock.seconds()
        self._first.setdefault(path, now)
        self._last[path] = now
        self._last.move_to_end(path)
        if len(self._last) > self._most:
            self.stop()
            self._flooded()
        elif self._timer is None:
            self._wait(now)

    def stop(self) -> None:
        """Forget all; nothing is handed on until the next touch."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._first.clear()
        self._last.clear()

    def _wait(self, now: float) -> None:
        first, last = next(iter(self._first.values())), next(iter(self._last.values()))
        due = min(first + self._longest, last + self._quiet)
        self._timer = self._clock.callLater(max(0.0, due - now), self._look)

    def _look(self) -> None:
        """Hand on what is due; the timer may have come early for others."""
        self._timer = None
        now = self._clock.seconds()
        due = []
        for waiting, most in ((self._last, self._quiet), (self._first, self._longest)):
            while waiting:
                path, since = next(iter(waiting.items()))
                if since + most > now:
                    break
                due.append(path)
                del self._first[path], self._last[path]
        if self._last:
            self._wait(now)
        if due:
            self._deliver(frozenset(due))
