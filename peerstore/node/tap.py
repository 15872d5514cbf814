"""``twistd peerstore-node``."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python import usage

from peerstore.crypto.keys import KeyPair
from peerstore.errors import HostRetired, KeyInUse, PeerStoreError, UsageError
from peerstore.net.network import EndpointNetwork, parse_client_address
from peerstore.node.config import (
    DEFAULT_REPAIR_GRACE,
    DEFAULT_REPAIR_RATE,
    DEFAULT_SCRUB_DAYS,
    DEFAULT_SCRUB_RATE,
    NodeConfig,
)
from peerstore.node.control import Control, Say
from peerstore.node.preflight import check_data, check_listen
from peerstore.node.service import NodeService
from peerstore.storage.sqlite_store import SqliteNodeStore
from peerstore.util.blocking import ThreadRunner
from peerstore.util.daemon import Daemon
from peerstore.util.ending import Ending
from peerstore.util.options import PlainOptions

__all__ = ["Options", "makeService"]

MAX_VIRTUAL_NODES = 8
MAX_COPIES = 16
_log = Logger()


def _count(name: str, least: int, most: int) -> Any:
    def coerce(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise ValueError(f"{name} is a number from {least} to {most}, not {text!r}")
        return int(text)

    return coerce


class Options(PlainOptions):
    """Options of a storage node."""

    program = "peerstore-node"
    synopsis = "--listen ENDPOINT --data DIR [--join ENDPOINT]..."
    longdesc = (
        "Keep a share of a ring's files. The first node of a ring is started without --join; every other one "
        "names any node of it. The data folder holds the node's key, so the node stays the same when it is moved."
    )
    optParameters = [
        ["listen", "l", None, "Where to listen, as a Twisted endpoint: tcp:3001:interface=127.0.0.1"],
        ["data", "d", None, "The data folder; made when missing."],
        [
            "advertise",
            "a",
            None,
            "The endpoint at which others reach this node, if --listen names no single address: tcp:HOST:PORT",
        ],
        [
            "copies",
            "k",
            None,
            "How many hosts keep each thing; a ring's first node decides. [3]",
            _count("--copies", 1, MAX_COPIES),
        ],
        [
            "virtual-nodes",
            "v",
            None,
            "Positions of each host on the ring; a ring's first node decides. [8]",
            _count("--virtual-nodes", 1, MAX_VIRTUAL_NODES),
        ],
        ["workers", "w", 32, "How many requests are worked on at a time, in each pool.", _count("--workers", 2, 1024)],
        ["queue", "q", 256, "How many requests may wait; more are told BUSY.", _count("--queue", 0, 65536)],
        [
            "repair-rate",
            None,
            DEFAULT_REPAIR_RATE,
            "Bytes a second that missing copies are made at; 0 for as fast as it goes.",
            _count("--repair-rate", 0, 10**12),
        ],
        [
            "repair-grace",
            None,
            int(DEFAULT_REPAIR_GRACE),
            "Seconds that another host may be away before its copies are made elsewhere.",
            _count("--repair-grace", 0, 10**7),
        ],
        [
            "scrub-rate",
            None,
            DEFAULT_SCRUB_RATE,
            "Bytes a second at most at which this node looks for rot on its disk; 0 for never.",
            _count("--scrub-rate", 0, 10**12),
        ],
        [
            "scrub-days",
            None,
            int(DEFAULT_SCRUB_DAYS),
            "Days that one look at everything takes; 0 for as few as --scrub-rate allows.",
            _count("--scrub-days", 0, 3650),
        ],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["join"] = []

    def opt_join(self, address: str) -> None:
        """A node of the ring to join, as HOST:PORT or as an endpoint; may be given more than once."""
        try:
            self["join"].append(parse_client_address(address))
        except UsageError as error:
            raise usage.UsageError(f"--join: {error}") from error

    opt_j = opt_join

    def postOptions(self) -> None:
        """Refuse what cannot be meant."""
        if not self["listen"]:
            raise usage.UsageError("--listen is missing; for example: --listen tcp:3001:interface=127.0.0.1")
        if not self["data"]:
            raise usage.UsageError("--data is missing; name a folder for this node")
        if self["advertise"]:
            try:
                self["advertise"] = parse_client_address(self["advertise"])
            except UsageError as error:
                raise usage.UsageError(f"--advertise: {error}") from error
        # twistd changes its directory when it becomes a daemon.
        self["data"] = os.path.abspath(os.path.expanduser(self["data"]))


class _Node(NodeService):
    """A node whose key is loaded when it starts, after the fork."""

    def __init__(self, options: Options, reactor: Any) -> None:
        self._reactor = reactor
        self._options = options
        self._folder = Path(options["data"])
        config = NodeConfig(
            options["listen"],
            tuple(options["join"]),
            options["advertise"],
            options["copies"],
            options["virtual-nodes"],
            options["workers"],
            options["queue"],
            options["repair-rate"],
            float(options["repair-grace"]),
            options["scrub-rate"],
            float(options["scrub-days"]),
        )
        commands = {"retire": self._retire, "retire-lost": self._retire_lost}
        self._control = Control(reactor, self._folder, commands)
        super().__init__(
            config,
            b"",
            SqliteNodeStore(self._folder, reactor),
            EndpointNetwork(reactor),
            reactor,
            random.Random(os.urandom(16)),
            os.urandom,
            ThreadRunner(reactor, 2, "peerstore-node"),
            self._give_up,
        )

    async def _start(self) -> None:
        self._runner.start()
        key: KeyPair = await self._runner.run(
            KeyPair.load_or_create, self._folder / "key.pem", self._folder / "publickey.pem"
        )
        self.identify(key.spki)
        await super()._start()
        self._control.start()

    async def _stop(self) -> None:
        await self._control.stop()
        await super()._stop()

    def _retire(self, asked: dict[str, Any], say: Say) -> Any:
        if self.holding is None:
            raise UsageError("This node is still starting.", "Try again in a moment.")
        farewell = self.holding.farewell

        def tell(left: int) -> None:
            say({"left": left, "trouble": farewell.trouble} if farewell.trouble else {"left": left})

        retiring = self.holding.retire(tell)
        return retiring.addCallback(lambda _: self._reactor.callLater(0.5, self._reactor.stop))

    def _retire_lost(self, asked: dict[str, Any], say: Say) -> Any:
        if self.holding is None:
            raise UsageError("This node is still starting.", "Try again in a moment.")
        return self.holding.retire_lost(str(asked.get("host")))

    def _give_up(self, error: BaseException) -> None:
        """Say why in one line, and end with an exit status that is not 0."""
        text = str(error) if isinstance(error, PeerStoreError) else f"{type(error).__name__}: {error}"
        what = "ends" if isinstance(error, KeyInUse | HostRetired) else "cannot start"
        _log.critical("peerstore-node {what}: {why}", what=what, why=text)
        _ending.fail()
        self._reactor.stop()


_ending = Ending()


def makeService(options: Options) -> IService:
    """The service.  Nothing stays open: twistd has not forked yet.

    :raises SystemExit: with one line, for what can be judged by now.
    """
    from twisted.internet import reactor

    try:
        check_data(Path(options["data"]), options["copies"], options["virtual-nodes"])
        check_listen(options["listen"], options["advertise"])
    except PeerStoreError as error:
        raise SystemExit(f"peerstore-node cannot start: {error}") from error
    _ending.prepare()
    return Daemon(options, _Node(options, reactor), reactor)
