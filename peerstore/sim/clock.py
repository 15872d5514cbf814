"""Virtual time: an ``IReactorTime`` on a heap.

Twisted's own ``task.Clock`` sorts all pending calls at every step, which is
fine for unit tests and hopeless for a ring of hundreds of timers.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

__all__ = ["SimClock"]


@implementer(IDelayedCall)
class SimCall:
    """One pending call."""

    __slots__ = ("_clock", "_number", "_time", "args", "called", "cancelled", "function", "kwargs")

    def __init__(self, clock: SimClock, time: float, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self._clock = clock
        self._time = time
        self._number = 0
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.called = False
        self.cancelled = False

    def getTime(self) -> float:
        """When it will be made, in virtual seconds."""
        return self._time

    def cancel(self) -> None:
        """Do not make it."""
        self._check()
        self.cancelled = True
        self.function, self.args, self.kwargs = _nothing, (), {}

    def delay(self, secondsLater: float) -> None:
        """Make it later by so much."""
        self._check()
        self._time += secondsLater
        self._clock._push(self)

    def reset(self, secondsFromNow: float) -> None:
        """Make it so long from now."""
        self._check()
        self._time = self._clock.seconds() + secondsFromNow
        self._clock._push(self)

    def active(self) -> bool:
        """Whether it is still to come."""
        return not (self.called or self.cancelled)

    def _check(self) -> None:
        if self.called:
            raise AlreadyCalled
        if self.cancelled:
            raise AlreadyCancelled


@implementer(IReactorTime)
class SimClock:
    """Time passes only when :meth:`step` is called; calls that are due at
    the same moment are made in the order in which they were asked for."""

    def __init__(self) -> None:
        self._now = 0.0
        self._heap: list[tuple[float, int, SimCall]] = []
        self._count = 0
        self.events = 0

    def seconds(self) -> float:
        """Virtual seconds since the start."""
        return self._now

    def callLater(
        self,
        delay: float,
        callable: Callable[..., Any],  # noqa: A002 - the name is Twisted's
        *args: Any,
        **kwargs: Any,
    ) -> IDelayedCall:
        """Make a call after *delay* seconds, at the earliest in the next step."""
        assert delay >= 0, f"{delay} s is in the past"
        call = SimCall(self, self._now + delay, callable, args, kwargs)
        self._push(call)
        return call

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """All pending calls, soonest first."""
        entries = sorted(self._heap, key=lambda entry: entry[:2])
        return [call for time, number, call in entries if call.active() and call._number == number]

    def step(self, until: float) -> bool:
        """Make the next call that is due by *until*; false when there is none,
        and then it is *until*."""
        while self._heap and self._heap[0][0] <= until:
            time, number, call = heapq.heappop(self._heap)
            if call.cancelled or call._number != number:
                continue
            self._now = time
            call.called = True
            self.events += 1
            call.function(*call.args, **call.kwargs)
            return True
        self._now = max(self._now, until)
        return False

    def advance(self, seconds: float) -> None:
        """Let so much time pass, with everything that happens in it."""
        end = self._now + seconds
        while self.step(end):
            pass

    def _push(self, call: SimCall) -> None:
        self._count += 1
        call._number = self._count
        heapq.heappush(self._heap, (call._time, self._count, call))


def _nothing() -> None:
    """In place of what was cancelled, so that it can be forgotten."""
