"""One run of a program on a machine.

All code of the program runs through its process: when the process is dead,
none runs any more, whatever timers or connections it left behind; while it is
stopped (SIGSTOP, a swapping machine), everything waits for it in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from peerstore.sim.clock import ClockView, SimClock

__all__ = ["Process"]


class Process:
    """A program from its start to its end.

    :param name: the machine it runs on; its address is "sim:NAME".
    :param offset: how far its machine's clock is ahead of virtual time.
    """

    def __init__(self, clock: SimClock, name: str, offset: float = 0.0) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.clock: ClockView = clock.view(offset, self.call)
        self._time = clock
        self.jumps = 0
        self._waiting: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Run something in the process: now, when it goes on, or never."""
        if not self.alive:
            return
        if self.paused or self._waiting:
            self._waiting.append((function, args))
            return
        function(*args)

    def pause(self) -> None:
        """It does nothing until :meth:`resume`; its connections stay open."""
        self.paused = True

    def resume(self) -> None:
        """It goes on with all that has piled up, in order."""
        if self.paused:
            self.paused = False
            self._time.callLater(0, self._go_on)

    def jump(self, seconds: float) -> None:
        """Its machine's clock is set forward, or back: what was due at a time
        of day is due then, sooner or later than it was."""
        self.jumps += 1
        self.clock.jump(seconds)

    def kill(self) -> None:
        """It ends, and runs no more code."""
        self.alive = False
        self._waiting.clear()

    def _go_on(self) -> None:
        # One piece at a time: each is an event of its own, between which
        # others run and the world is looked at.
        if self.alive and not self.paused and self._waiting:
            function, args = self._waiting.popleft()
            self._time.callLater(0, self._go_on)
            function(*args)
