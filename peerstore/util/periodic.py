"""A call that comes again and again, and survives its own failures.

``LoopingCall`` stops for good at the first exception, with an interval that
is fixed when it starts.  Upkeep must do neither: an error is logged and the
next round comes, and each interval is asked for anew, so that a round may
come sooner while things change and later when all is quiet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

__all__ = ["Periodic"]

#: Seconds between runs when an interval was never told.
FALLBACK = 30.0


class Periodic:
    """Run *function* over and over, one run at a time.

    :param clock: provides ``IReactorTime``.
    :param function: called without arguments; may return a Deferred.
    :param interval: asked after each run for the seconds until the next; what
        it said last counts on when it fails.
    :param name: what the log calls it.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, function: Callable[[], Any], interval: Callable[[], float], name: str
    ) -> None:
        self._clock = clock
        self._function = function
        self._interval = interval
        self._name = name
        self._busy = False
        self._started = False
        self._again: float | None = None
        self._gap = FALLBACK
        self._ended: list[Deferred[None]] = []
        self._waiting: IDelayedCall | None = None

    @property
    def running(self) -> bool:
        """Whether a run is in flight right now."""
        return self._busy

    def start(self, now: bool = True) -> None:
        """Begin; the first run comes at once, or after one interval."""
        if self._started:
            return
        self._started = True
        if self._busy:
            # Stopped a moment ago, with a run still in flight.
            self._again = 0.0 if now else None
        elif now:
            self._run()
        else:
            self._wait(self._next())

    def hurry(self, within: float = 0.0) -> None:
        """Let the next run come within so many seconds, by default now; many
        calls ask for one run only."""
        if not self._started:
            return
        if self._busy:
            self._again = within if self._again is None else min(within, self._again)
            return
        self._wait(within)

    def stop(self) -> Deferred[None]:
        """No run begins after this; fires when the one in flight has ended."""
        self._started = False
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if not self._busy:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        self._ended.append(ended)
        return ended

    def _next(self) -> float:
        try:
            self._gap = self._interval()
        except Exception:  # noqa: BLE001 - whatever it was, upkeep goes on
            self._failed(Failure())
        return self._gap

    def _wait(self, seconds: float) -> None:
        if self._waiting is not None:
            if self._waiting.getTime() <= self._clock.seconds() + seconds:
                return
            self._waiting.cancel()
        self._waiting = self._clock.callLater(seconds, self._run)

    def _run(self) -> None:
        self._waiting = None
        self._again = None
        self._busy = True
        maybeDeferred(self._function).addErrback(self._failed).addBoth(self._finished)

    def _failed(self, failure: Failure) -> None:
        self._log.failure("{name} failed and will be tried again", failure=failure, name=self._name)

    def _finished(self, _result: object) -> None:
        self._busy = False
        ended, self._ended = self._ended, []
        if self._started:
            self._wait(self._next() if self._again is None else self._again)
        for waiter in ended:
            waiter.callback(None)
