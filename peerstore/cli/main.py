"""``peerstore``: the command line's entry.

The only place here that knows the global reactor.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["main", "run_in_reactor"]

INTERRUPTED = 130
FAULT = 70
OUTPUT_LOST = 7


def run_in_reactor(work: Callable[[Any], Coroutine[Any, Any, int]]) -> int:
    """Run one coroutine in the reactor; its result is the exit status.

    Ctrl-C and SIGTERM cancel it, and are waited for: it closes what it holds.

    :raises BaseException: what the coroutine failed with.
    """
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    loop: Any = reactor
    results: list[Any] = []

    def finished(result: Any) -> None:
        results.append(result)
        if loop.running:
            loop.stop()

    def begin() -> None:
        running = Deferred.fromCoroutine(work(reactor))
        running.addBoth(finished)

        def interrupt(*_: Any) -> None:
            loop.callFromThread(running.cancel)

        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, interrupt)

    loop.callWhenRunning(begin)
    loop.run(installSignalHandlers=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    result = results[0]
    if isinstance(result, Failure):
        result.raiseException()
    status: int = result
    return status


def main() -> None:
    """The console script."""
    try:
        # Names that are no text are shown, not stumbled over.
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        # Loading everything takes a moment, in which Ctrl-C is pressed, too.
        from peerstore.cli.commands import run

        status = run(run_in_reactor)
        status = _flushed(status)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:
        status = 1
        # Whoever read our output has gone; nobody is left to complain to.
        _forget_output()
    sys.exit(status)


def _flushed(status: int) -> int:
    """The status once all output is out, or cannot get out."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _forget_output()
        if status != OUTPUT_LOST:
            sys.stderr.write(f"peerstore: Output could not be written ({error.strerror or error}).\n")
        return status or OUTPUT_LOST
    return status


def _forget_output() -> None:
    """Else the interpreter would try once more, and end with a status of its own."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
