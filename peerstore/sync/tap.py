"""``twistd peerstore-sync``."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python import usage

from peerstore.client.assemble import OpenClient, open_client
from peerstore.client.names import name_of
from peerstore.errors import PeerStoreError, UsageError
from peerstore.files.names import check_folder
from peerstore.net.network import parse_client_address
from peerstore.sync.service import SyncService
from peerstore.sync.tree import LocalTree
from peerstore.sync.watcher import FolderWatcher
from peerstore.util.options import PlainOptions

__all__ = ["Options", "makeService"]

_log = Logger()


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.05 <= value <= 86400:
        raise ValueError("seconds are from 0.05 to 86400")
    return value


class Options(PlainOptions):
    """Options of a sync client."""

    program = "peerstore-sync"
    synopsis = "--folder DIR --peer HOST:PORT [--peer HOST:PORT]... [--key FILE]"
    longdesc = (
        "Keep a folder equal on all of a user's computers. Start it on each of them with the same key and the same "
        "--as; what one changes arrives at the others, and two edits at once leave both."
    )
    optParameters = [
        ["folder", "f", None, "The folder to keep equal; it must exist."],
        ["key", "k", None, "PEM file with your private key. [~/.peerstore/key.pem]"],
        ["as", "n", None, "The name of the folder in the ring. [the folder's own name]"],
        ["home", "H", None, "Where this computer keeps its state. [~/.peerstore/sync-…, one for each folder]"],
        ["poll", "p", 30.0, "Seconds between reads of the log, besides being told.", _seconds],
        ["settle", "s", 0.1, "Seconds for which a file must be quiet before it is stored.", _seconds],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["peer"] = []

    def opt_peer(self, address: str) -> None:
        """A node to start from, as HOST:PORT or as an endpoint; may be given more than once."""
        try:
            self["peer"].append(parse_client_address(address))
        except UsageError as error:
            raise usage.UsageError(f"--peer: {error}") from error

    def postOptions(self) -> None:
        """Refuse what can be judged before anything is opened."""
        if not self["folder"]:
            raise usage.UsageError("--folder is missing; name the folder to keep equal")
        if not self["peer"]:
            raise usage.UsageError("--peer is missing; name a node of the ring, as HOST:PORT")
        # twistd changes its directory when it becomes a daemon.
        self["folder"] = os.path.abspath(os.path.expanduser(self["folder"]))
        if not os.path.isdir(self["folder"]):
            raise usage.UsageError(f"--folder {self['folder']} is no folder; make it first")
        base = Path.home() / ".peerstore"
        own = base / f"sync-{hashlib.sha256(os.fsencode(self['folder'])).hexdigest()[:12]}"
        self["home"] = Path(self["home"] or own).expanduser().absolute()
        self["key"] = Path(self["key"] or base / "key.pem").expanduser().absolute()
        try:
            self["as"] = check_folder(self["as"] or name_of(self["folder"]))
        except UsageError as error:
            raise usage.UsageError(f"--as: {error}") from error


def makeService(options: Options) -> IService:
    """The service; nothing is opened yet, since twistd has not forked."""
    from twisted.internet import reactor

    loop: Any = reactor
    root = os.fsencode(options["folder"])

    async def connect() -> OpenClient:
        is_new = not options["key"].exists()
        opened = await open_client(loop, options["home"], options["key"], options["peer"])
        if is_new:
            _log.warn("made a new key, {key}: who has it is this user", key=str(options["key"]))
        return opened

    def give_up(error: BaseException) -> None:
        text = str(error) if isinstance(error, PeerStoreError) else f"{type(error).__name__}: {error}"
        _log.critical("peerstore-sync cannot go on: {why}", why=text)
        loop.addSystemEventTrigger("after", "shutdown", _exit_with_failure)
        # Some mistakes show before the reactor runs, and it cannot be stopped then.
        loop.callWhenRunning(loop.stop)

    return SyncService(
        loop,
        LocalTree(root),
        options["as"],
        connect,
        lambda touched, rescan: FolderWatcher(loop, root, touched, rescan),
        options["poll"],
        give_up,
        options["settle"],
    )


def _exit_with_failure() -> None:
    """After everything is closed: twistd has no other way to a status."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(1)
