"""``peerstore``: the command line's entry.

The only place here that knows the global reactor.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import click
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

import peerstore
from peerstore.cli import backup, demo, files, node, restore, ring
from peerstore.cli.context import Options
from peerstore.cli.output import say_error
from peerstore.errors import PeerStoreError

__all__ = ["cli", "main", "run_in_reactor"]

INTERRUPTED = 130


class Interrupted(PeerStoreError):
    """Ctrl-C."""

    exit_status = INTERRUPTED


def run_in_reactor(work: Callable[[Any], Coroutine[Any, Any, int]]) -> int:
    """Run one coroutine in the reactor; its result is the exit status.

    An error of ours is printed in its own words; Ctrl-C ends cleanly.
    """
    from twisted.internet import reactor

    status = [1]

    def finished(result: Any) -> None:
        if isinstance(result, Failure):
            status[0] = _report(result)
        else:
            status[0] = result
        if reactor.running:  # type: ignore[attr-defined]
            reactor.stop()  # type: ignore[attr-defined]

    def begin() -> None:
        running = Deferred.fromCoroutine(work(reactor))
        running.addBoth(finished)

        def interrupt(*_: Any) -> None:
            reactor.callFromThread(running.cancel)  # type: ignore[attr-defined]

        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, interrupt)

    reactor.callWhenRunning(begin)  # type: ignore[attr-defined]
    reactor.run(installSignalHandlers=False)  # type: ignore[attr-defined,call-arg]
    return status[0]


def _report(failure: Failure) -> int:
    from twisted.internet.defer import CancelledError, FirstError

    error = failure.value
    if isinstance(error, FirstError):
        error = error.subFailure.value
    if isinstance(error, SystemExit):
        # The reader of our output went away (a pipe into "head").
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, CancelledError | KeyboardInterrupt):
        say_error("Stopped.", "What was stored stays stored; run the same command again to go on from there.")
        return INTERRUPTED
    if isinstance(error, PeerStoreError):
        say_error(error.what, error.next_step)
        return error.exit_status
    failure.printTraceback(file=sys.stderr)
    say_error("That was a fault in peerstore itself.", "Please report it with the lines above.")
    return 70


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(peerstore.__version__, prog_name="peerstore")
@click.option("--home", type=click.Path(), envvar="PEERSTORE_HOME", help="Folder with key and state [~/.peerstore].")
@click.option("--key", type=click.Path(), help="PEM file with your private key [HOME/key.pem].")
@click.option("--json", "as_json", is_flag=True, help="Print results as JSON.")
@click.option("--quiet", "-q", is_flag=True, help="No progress, no notes; errors only.")
@click.pass_context
def cli(context: click.Context, home: str | None, key: str | None, as_json: bool, quiet: bool) -> None:
    """Your files on several machines, with no central server.

    Exit status: 0 done, 1 done in part, 2 wrong usage, 3 no node answers, 4 not found, 5 too few copies, 6 somebody
    else's folder, 7 disk trouble, 130 interrupted.
    """
    context.obj = Options.make(home, key, as_json, quiet, run_in_reactor)


for command in (
    backup.backup,
    restore.restore,
    restore.get,
    files.ls,
    files.rm,
    files.put,
    node.node,
    ring.ring,
    demo.demo,
):
    cli.add_command(command)


def main() -> None:
    """The console script."""
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.Abort:
        sys.exit(INTERRUPTED)
    except PeerStoreError as error:
        say_error(error.what, error.next_step)
        sys.exit(error.exit_status)
