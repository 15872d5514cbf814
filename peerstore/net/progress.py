"""Noticing that what should move stands still."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["ProgressWatch"]


class ProgressWatch:
    """Looks once in a window whether enough has moved.

    It costs at most one timer a window, however much moves.

    :param window: seconds.
    :param least: what has to move in each window.
    :param waiting: whether there is anything that should move.
    :param stuck: called once when less than that has moved.
    """

    def __init__(
        self,
        clock: IReactorTime,
        window: float,
        least: int,
        waiting: Callable[[], bool],
        stuck: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._window = window
        self._least = least
        self._waiting = waiting
        self._stuck = stuck
        self._moved = 0
        self._timer: IDelayedCall | None = None

    def watch(self) -> None:
        """Something should move from now on."""
        if self._timer is None:
            self._moved = 0
            self._timer = self._clock.callLater(self._window, self._look)

    def moved(self, count: int) -> None:
        """So much has moved."""
        self._moved += count

    def finished(self) -> None:
        """What was under way has arrived: that is enough for this window."""
        self._moved += self._least

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _look(self) -> None:
        self._timer = None
        if not self._waiting():
            return
        if self._moved < self._least:
            self._stuck()
        else:
            self.watch()
