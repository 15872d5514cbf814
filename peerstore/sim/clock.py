"""Virtual time: an ``IReactorTime`` on a heap, and one view of it per process.

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

__all__ = ["ClockView", "SimCall", "SimClock"]


@implementer(IDelayedCall)
class SimCall:
    """One pending call, in the time of the view that it was asked of."""

    __slots__ = ("_number", "_time", "_view", "args", "called", "cancelled", "function", "kwargs")

    def __init__(self, view: ClockView, time: float, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self._view = view
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
        self._view.push(self)

    def reset(self, secondsFromNow: float) -> None:
        """Make it so long from now."""
        self._check()
        self._time = self._view.seconds() + secondsFromNow
        self._view.push(self)

    def active(self) -> bool:
        """Whether it is still to come."""
        return not (self.called or self.cancelled)

    def make(self) -> None:
        """Make it, unless it was cancelled meanwhile."""
        if not self.cancelled:
            self.called = True
            self.function(*self.args, **self.kwargs)

    def _check(self) -> None:
        if self.called:
            raise AlreadyCalled
        if self.cancelled:
            raise AlreadyCancelled


@implementer(IReactorTime)
class ClockView:
    """What one process sees of the clock.

    :param offset: how far its seconds are ahead; machines do not agree on
        what time it is, and nothing may depend on it.
    :param run: makes a call that is due, by default at once; a process that
        is stopped or dead does otherwise.
    """

    def __init__(
        self, clock: SimClock, offset: float = 0.0, run: Callable[[Callable[[], None]], None] | None = None
    ) -> None:
        self._clock = clock
        self._offset = offset
        self.run = run

    def seconds(self) -> float:
        """Virtual seconds since the start of time here."""
        return self._clock.now + self._offset

    def callLater(
        self,
        delay: float,
        callable: Callable[..., Any],  # noqa: A002 - the name is Twisted's
        *args: Any,
        **kwargs: Any,
    ) -> IDelayedCall:
        """Make a call after *delay* seconds, at the earliest in the next step."""
        assert delay >= 0, f"{delay} s is in the past"
        call = SimCall(self, self._clock.now + self._offset + delay, callable, args, kwargs)
        self.push(call)
        return call

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """All calls that are pending here, soonest first."""
        return [call for call in self._clock.pending() if call._view is self]

    def jump(self, seconds: float) -> None:
        """Be so much further ahead from now on, with everything that waits."""
        pending = self.getDelayedCalls()
        self._offset += seconds
        for call in pending:
            assert isinstance(call, SimCall)
            self.push(call)

    def push(self, call: SimCall) -> None:
        """Queue a call for its present time."""
        self._clock.enqueue(call._time - self._offset, call)


class SimClock(ClockView):
    """Time itself; passes only when :meth:`step` is called.

    Calls that are due at the same moment are made in the order in which they
    were asked for.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, SimCall]] = []
        self._count = 0
        self.events = 0
        super().__init__(self)

    def view(self, offset: float, run: Callable[[Callable[[], None]], None]) -> ClockView:
        """The clock as a process sees it."""
        return ClockView(self, offset, run)

    def pending(self) -> list[SimCall]:
        """All calls that will be made, whosever they are, soonest first."""
        entries = sorted(self._heap, key=lambda entry: entry[:2])
        return [call for _, number, call in entries if call.active() and call._number == number]

    def step(self, until: float) -> bool:
        """Make the next call that is due by *until*; false when there is none,
        and then it is *until*."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            time, number, call = heapq.heappop(heap)
            if call.cancelled or call._number != number:
                continue
            self.now = max(self.now, time)
            self.events += 1
            run = call._view.run
            if run is None:
                call.make()
            else:
                run(call.make)
            return True
        self.now = max(self.now, until)
        return False

    def advance(self, seconds: float) -> None:
        """Let so much time pass, with everything that happens in it."""
        end = self.now + seconds
        while self.step(end):
            pass

    def enqueue(self, time: float, call: SimCall) -> None:
        """Make a call at *time*, on no other occasion than this one."""
        self._count += 1
        call._number = self._count
        heapq.heappush(self._heap, (time, self._count, call))


def _nothing() -> None:
    """In place of what was cancelled, so that it can be forgotten."""
