"""Waiting until a path is quiet, but not for ever."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Settler"]


class Settler:
    """Gathers touched paths, and hands them on together once all is quiet.

    :param quiet: seconds without a new touch.
    :param longest: seconds after which they are handed on all the same: a
        file that is written to all day long is stored now and then.
    :param deliver: called with the paths.
    """

    def __init__(
        self, clock: IReactorTime, quiet: float, longest: float, deliver: Callable[[frozenset[bytes]], None]
    ) -> None:
        self._clock = clock
        self._quiet = quiet
        self._longest = longest
        self._deliver = deliver
        self._paths: set[bytes] = set()
        self._first = 0.0
        self._timer: IDelayedCall | None = None

    def touch(self, path: bytes) -> None:
        """A path may have changed."""
        now = self._clock.seconds()
        if not self._paths:
            self._first = now
        self._paths.add(path)
        if self._timer is not None:
            self._timer.cancel()
        wait = max(0.0, min(self._quiet, self._first + self._longest - now))
        self._timer = self._clock.callLater(wait, self._settled)

    def stop(self) -> None:
        """Hand nothing on any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._paths.clear()

    def _settled(self) -> None:
        self._timer = None
        paths, self._paths = frozenset(self._paths), set()
        self._deliver(paths)
