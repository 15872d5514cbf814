"""What all commands share: options, the home's config, an open client."""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
from twisted.internet.defer import CancelledError

from peerstore.cli.output import say_error, say_note
from peerstore.client.assemble import OpenClient, open_client
from peerstore.errors import PeerStoreError, StorageError, UsageError
from peerstore.net.network import parse_client_address
from peerstore.util.durable import write_durably

__all__ = ["Options", "Runner", "Verb", "common_options", "given", "peer_option", "with_client"]

Runner = Callable[[Callable[[Any], Coroutine[Any, Any, int]]], int]

WAITING = "Too few nodes have answered so far; the others get half a minute. Ctrl-C ends it."
#: Addresses of nodes that are remembered beside those that were given.
LEARNED = 16


class Options(NamedTuple):
    """Options that every command has."""

    home: Path
    key: Path | None
    as_json: bool
    quiet: bool
    run: Runner

    @classmethod
    def default(cls, run: Runner) -> Options:
        """What holds when nothing is said."""
        return cls(Path.home() / ".peerstore", None, False, False, run)

    @property
    def key_path(self) -> Path:
        """Where the private key is."""
        return self.key or self.home / "key.pem"

    def peers(self, given: Sequence[str]) -> list[str]:
        """Addresses to start from: those given, else those remembered.

        :raises peerstore.errors.UsageError: when there are none.
        """
        if given:
            return [parse_client_address(text) for text in given]
        path = self.home / "config.json"
        try:
            config = json.loads(path.read_text())
            known = [str(peer) for name in ("peers", "nodes") for peer in config.get(name, [])]
        except FileNotFoundError:
            known = []
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise UsageError(f"{path} cannot be read ({error}).", "Name a node with --peer.") from error
        if not known:
            raise UsageError("No node is known yet.", "Name one with --peer HOST:PORT; it is remembered.")
        return list(dict.fromkeys(known))

    def remember(self, given: Sequence[str], nodes: Sequence[str]) -> None:
        """Keep the addresses that were *given*, if any, and those of *nodes*
        that were met, for the next command."""
        path = self.home / "config.json"
        config: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            before = json.loads(path.read_text())
            config = before if isinstance(before, dict) else {}
        now = {**config, "nodes": sorted(set(nodes))[:LEARNED]}
        if given:
            now["peers"] = [parse_client_address(text) for text in given]
        if now != config:
            # Next time --peer is needed, that is all.
            with contextlib.suppress(StorageError):
                write_durably(path, (json.dumps(now, indent=2) + "\n").encode())


def given(text: str) -> str:
    """Words that are no empty ones: ``restore papers --to "$THERE"`` must not
    write into the current folder where THERE is not set.

    :raises click.BadParameter: when they are.
    """
    if not text:
        raise click.BadParameter("it is empty. Is a variable of your shell not set?")
    return text


class Verb(click.Command):
    """A command with the common options, whose errors are told in words."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(common_options())

    def invoke(self, context: click.Context) -> Any:
        """Run it; errors of ours end with their own exit status."""
        options: Options = context.obj
        try:
            return super().invoke(context)
        except (CancelledError, KeyboardInterrupt):
            _say(options, "Stopped.", "What is done stays done; run the same command again to go on.", 130)
            raise SystemExit(130) from None
        except PeerStoreError as error:
            _say(options, error.what, error.next_step, error.exit_status)
            raise SystemExit(error.exit_status) from None
        except (click.ClickException, click.exceptions.Exit, click.Abort, SystemExit, BrokenPipeError):
            raise
        except OSError as error:
            # Of ours are all about files; this is standard output or the terminal.
            _say(options, f"Output could not be written ({error.strerror or error}).", "", 7)
            raise SystemExit(7) from None
        except Exception:  # noqa: BLE001 - the last of all handlers; it tells all
            traceback.print_exc()
            _say(options, "That was a fault in peerstore itself.", "Please report it with the lines above.", 70)
            raise SystemExit(70) from None


def _say(options: Options, what: str, next_step: str, status: int) -> None:
    if options.as_json:
        error = {"error": what, "next_step": next_step, "exit_status": status}
        sys.stderr.write(json.dumps(error) + "\n")
    else:
        say_error(what, next_step)


def common_options(top: bool = False) -> list[click.Parameter]:
    """The options that may stand before and after the verb.

    :param top: for those before it, which the environment may also give.
    """

    def keep(field: str, change: Callable[[Any], Any]) -> Callable[[click.Context, click.Parameter, Any], None]:
        def callback(context: click.Context, parameter: click.Parameter, value: Any) -> None:
            if value:
                context.obj = context.obj._replace(**{field: change(value)})

        return callback

    def path(text: str) -> Path:
        return Path(text).expanduser().absolute()

    def option(*names: str, field: str, change: Callable[[Any], Any] = lambda value: value, **kwargs: Any) -> Any:
        return click.Option(names, expose_value=False, callback=keep(field, change), **kwargs)

    home = {"envvar": "PEERSTORE_HOME"} if top else {}
    return [
        option("--home", field="home", change=path, metavar="DIR", help="Key and state [~/.peerstore].", **home),
        option("--key", field="key", change=path, metavar="FILE", help="Your private key in PEM [HOME/key.pem]."),
        option("--json", field="as_json", is_flag=True, help="Print results as JSON."),
        option("--quiet", "-q", field="quiet", is_flag=True, help="Only errors, warnings, and what was asked for."),
    ]


def peer_option(function: Any) -> Any:
    """``--peer``, on every command that talks to the ring."""
    return click.option(
        "--peer",
        "peers",
        multiple=True,
        envvar="PEERSTORE_PEER",
        metavar="HOST:PORT",
        help="A node to start from; may be given more than once, and is remembered.",
    )(function)


def with_client(
    options: Options,
    peers: Sequence[str],
    work: Callable[[OpenClient], Coroutine[Any, Any, int]],
    *,
    writing: bool = True,
    new_key: bool = False,
) -> int:
    """Open the client, do *work*, close; the exit status.

    :param writing: whether the work writes to the ring.
    :param new_key: make a key where there is none.
    """
    addresses = options.peers(peers)
    if not (new_key or options.key_path.exists()):
        raise UsageError(
            f"There is no key at {options.key_path}.",
            "Name yours with --key FILE. If you have none yet: peerstore backup DIR makes one.",
        )

    is_new = not options.key_path.exists()

    def say_waiting() -> None:
        if not (options.quiet or options.as_json):
            say_note(WAITING)

    async def session(reactor: Any) -> int:
        try:
            opened = await open_client(
                reactor, options.home, options.key, addresses, writing=writing, on_wait=say_waiting
            )
        finally:
            if is_new and options.key_path.exists() and not (options.quiet or options.as_json):
                say_note(f"Made a new key, {options.key_path}: it is who you are here, so keep a copy of it.")
        try:
            status = await work(opened)
            if opened.client.known_there:
                # Else it may be another ring, and this command the last to ask it.
                options.remember(peers, [member.address for member in opened.hosts.ring()])
            return status
        finally:
            await opened.close()

    return options.run(session)
