"""``twistd peerstore-sync``."""

from __future__ import annotations

import hashlib
import os
import random
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
from peerstore.sync.preflight import check_folder_and_home
from peerstore.sync.service import SyncService
from peerstore.sync.tree import LocalTree
from peerstore.sync.watcher import FolderWatcher
from peerstore.util.daemon import Daemon
from peerstore.util.ending import Ending
from peerstore.util.options import PlainOptions

__all__ = ["Options", "makeService"]

#: Seconds that the ring has for each thing we ask; then we say that we wait,
#: and ask again.
PATIENCE = 10.0
_log = Logger()


def _seconds(name: str, least: float, most: float) -> Any:
    def coerce(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not least <= value <= most:
            raise ValueError(f"{name} is a number of seconds, from {least:g} to {most:g}")
        return value

    return coerce


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
        ["poll", "p", 30.0, "Seconds between reads of the log, besides being told.", _seconds("--poll", 0.1, 86400)],
        [
            "settle",
            "s",
            0.05,
            "Seconds for which a file must be quiet before it is stored.",
            _seconds("--settle", 0.01, 60),
        ],
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
        named = os.path.abspath(os.path.expanduser(self["folder"]))
        # The folder itself, also where its name is a link that may change.
        self["folder"] = os.path.realpath(named)
        base = Path.home() / ".peerstore"
        own = base / f"sync-{hashlib.sha256(os.fsencode(self['folder'])).hexdigest()[:12]}"
        self["home"] = Path(self["home"] or own).expanduser().absolute()
        self["key"] = Path(self["key"] or base / "key.pem").expanduser().absolute()
        try:
            self["as"] = check_folder(self["as"] or name_of(named))
        except UsageError as error:
            raise usage.UsageError(f"--as: {error}") from error


_ending = Ending()


def makeService(options: Options) -> IService:
    """The service.  Nothing stays open: twistd has not forked yet.

    :raises SystemExit: with one line, for what can be judged by now.
    """
    from twisted.internet import reactor

    loop: Any = reactor
    root, home, key = os.fsencode(options["folder"]), options["home"], options["key"]
    try:
        check_folder_and_home(options["folder"], home, key, options["as"])
    except PeerStoreError as error:
        raise SystemExit(f"peerstore-sync cannot start: {error}") from error
    _ending.prepare()
    is_new = not key.exists()

    async def connect() -> OpenClient:
        nonlocal is_new
        opened = await open_client(loop, home, key, options["peer"], patience=PATIENCE)
        if is_new:
            is_new = False
            _log.warn("made a new key, {key}: who has it is this user", key=str(key))
        return opened

    def give_up(error: BaseException) -> None:
        text = str(error) if isinstance(error, PeerStoreError) else f"{type(error).__name__}: {error}"
        _log.critical("peerstore-sync cannot go on: {why}", why=text)
        _ending.fail()
        # Some mistakes show before the reactor runs, and it cannot be stopped then.
        loop.callWhenRunning(loop.stop)

    own = [os.fsencode(place) for place in (home, key, Path.home() / ".peerstore")]
    sync = SyncService(
        loop,
        random.Random(os.urandom(16)),
        LocalTree(root, own),
        options["as"],
        connect,
        lambda touched, rescan: FolderWatcher(loop, root, touched, rescan),
        options["poll"],
        give_up,
        options["settle"],
    )
    return Daemon(options, sync, loop)
