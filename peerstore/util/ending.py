"""The exit status of a daemon.

twistd has none but 0 and a signal's.  It takes its pid file away after the
reactor, so the very last moment is the right one to end with another.
"""

from __future__ import annotations

import atexit
import os
import sys

__all__ = ["Ending"]


class Ending:
    """Ends this process with a status that is not 0, if that was asked for."""

    def __init__(self) -> None:
        self._status = 0

    def prepare(self) -> None:
        """To be called once, before the reactor runs."""
        atexit.register(self.apply)

    def fail(self, status: int = 1) -> None:
        """The process is to end with this status."""
        self._status = status

    def apply(self) -> None:
        """At exit, with nothing left open: end, with the status, if any."""
        if self._status:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(self._status)
