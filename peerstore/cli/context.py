"""What all commands share: options, the home's config, an open client."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from peerstore.cli.output import say_note
from peerstore.client.assemble import OpenClient, open_client
from peerstore.errors import UsageError
from peerstore.net.network import parse_client_address
from peerstore.util.durable import write_durably

__all__ = ["Options", "peer_option", "with_client"]

Runner = Callable[[Callable[[Any], Coroutine[Any, Any, int]]], int]


class Options(NamedTuple):
    """Options that stand before the verb."""

    home: Path
    key: Path | None
    as_json: bool
    quiet: bool
    run: Runner

    @classmethod
    def make(cls, home: str | None, key: str | None, as_json: bool, quiet: bool, run: Runner) -> Options:
        """From what the command line gave."""
        place = Path(home).expanduser() if home else Path.home() / ".peerstore"
        return cls(place, Path(key).expanduser() if key else None, as_json, quiet, run)

    def peers(self, given: Sequence[str]) -> list[str]:
        """Addresses to start from: those given, else those remembered.

        :raises peerstore.errors.UsageError: when there are none.
        """
        if given:
            return [parse_client_address(text) for text in given]
        try:
            known = json.loads((self.home / "config.json").read_text()).get("peers", [])
        except FileNotFoundError:
            known = []
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{self.home / 'config.json'} cannot be read ({error}).", "Name a node with --peer."
            ) from error
        if not known:
            raise UsageError("No node is known yet.", "Name one with --peer HOST:PORT; it is remembered.")
        return [str(peer) for peer in known]

    def remember(self, peers: Sequence[str]) -> None:
        """Keep addresses for the next command."""
        text = json.dumps({"peers": list(peers)}, indent=2) + "\n"
        path = self.home / "config.json"
        if not path.exists() or path.read_text() != text:
            write_durably(path, text.encode())


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


def with_client(options: Options, peers: Sequence[str], work: Callable[[OpenClient], Coroutine[Any, Any, int]]) -> int:
    """Open the client, do *work*, close; the exit status."""
    addresses = options.peers(peers)
    key = options.key or options.home / "key.pem"
    is_new = not key.exists()

    async def session(reactor: Any) -> int:
        try:
            opened = await open_client(reactor, options.home, options.key, addresses)
        finally:
            if is_new and key.exists() and not options.quiet:
                say_note(f"Made a new key, {key}: it is who you are here, so keep a copy of it.")
        try:
            options.remember(addresses)
            return await work(opened)
        finally:
            await opened.close()

    return options.run(session)
