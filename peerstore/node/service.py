"""One storage node, put together: for twistd and for the simulator alike."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from peerstore import ids
from peerstore.errors import CorruptData, PeerStoreError, RingMismatch, StorageError
from peerstore.gateway.gateway import HOST_BYTES, HOST_REQUESTS, TOTAL_BYTES, TOTAL_REQUESTS, Gateway
from peerstore.gateway.lanes import Lanes
from peerstore.interfaces import IBlockingRunner, INetwork, INodeStore
from peerstore.net.dispatch import Dispatcher
from peerstore.net.factory import PeerFactory
from peerstore.net.limits import Budget, Limits
from peerstore.net.pool import PeerPool
from peerstore.node.admission import Admission
from peerstore.node.config import (
    DEFAULT_COPIES,
    DEFAULT_VIRTUAL_NODES,
    NodeConfig,
    agree,
    read_number,
    read_settings,
    why_not_listening,
)
from peerstore.node.copies import Copier
from peerstore.node.handlers.common import Reading
from peerstore.node.handlers.files import FilesHandlers
from peerstore.node.handlers.log import LogHandlers
from peerstore.node.handlers.replicas import ReplicaHandlers
from peerstore.node.handlers.ring import ring_handlers
from peerstore.node.holding import Holding
from peerstore.node.keeper import Keeper
from peerstore.node.loopback import LoopbackPool
from peerstore.node.ranges import Ranges
from peerstore.node.watchers import Watchers
from peerstore.ring.host import RingHost
from peerstore.ring.hosts import HostTable
from peerstore.ring.joining import discover_settings
from peerstore.util.lamport import LamportClock
from peerstore.util.periodic import Periodic
from peerstore.wire.session import SUITE_CLEAR, VERSION, Greeting

__all__ = ["NodeService"]

SAVE_HOSTS = 5.0
#: Seconds for which somebody is waited for who can say what the ring's
#: settings are, and between two looks.
SETTLE = 5.0
SETTLE_EVERY = 0.5
#: The longest that a polite leave takes.
LEAVE = 3.0


class NodeService(Service):
    """A node's life: open, join, serve, leave.

    :param spki: the node's public key, DER.
    :param store: what it keeps things in; opened and closed by us.
    :param entropy: gives random bytes, for nonces.
    :param runner: threads for large hashes.
    :param failed: called with the error when starting failed.
    """

    _log = Logger()

    def __init__(
        self,
        config: NodeConfig,
        spki: bytes,
        store: INodeStore,
        network: INetwork,
        clock: IReactorTime,
        rng: random.Random,
        entropy: Callable[[int], bytes],
        runner: IBlockingRunner,
        failed: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.config = config
        self.spki = spki
        self.fp = ids.fingerprint(spki)
        self.store = store
        self._network = network
        self._clock = clock
        self._rng = rng
        self._entropy = entropy
        self._runner = runner
        self._failed = failed
        self.address = ""
        self.incarnation = 0
        self.copies = 0
        self.virtual_nodes = 0
        self.lamport = LamportClock()
        self.hosts = HostTable(clock)
        self.dispatcher = Dispatcher({}, config.workers, config.queue)
        limits = Limits()
        budget = Budget(limits.bytes_per_node)
        greet, lamport = self._greeting, self.lamport
        self.factory = PeerFactory(greet, self.dispatcher, clock, lamport, limits, budget=budget)
        self.pool = PeerPool(network, clock, rng, greet, self.dispatcher, lamport, limits, budget)
        self.ring: RingHost | None = None
        self.watchers = Watchers(clock)
        self.holding: Holding | None = None
        self._saver = Periodic(clock, self._save_hosts, lambda: SAVE_HOSTS, "keeping the known hosts")
        self._saved_version = self._saved_changes = -1
        self._not_kept = ""
        self._port: Any = None
        self._opened = False
        self._starting: Deferred[None] | None = None
        self._running = False
        self._stopping = False
        self._settled = False

    def identify(self, spki: bytes) -> None:
        """Take the key over, for a node that loads it only when it starts."""
        self.spki = spki
        self.fp = ids.fingerprint(spki)

    @property
    def is_settled(self) -> bool:
        """Whether all that concerns us has its voters, and we are one where
        we should be."""
        return self.holding is not None and self.holding.electorate.at_rest

    # -- life --------------------------------------------------------------------

    def startService(self) -> None:
        """Begin; an error is told to *failed*."""
        super().startService()

        def unable(failure: Failure) -> None:
            if self._failed is None or failure.value is None:
                self._log.failure("the node could not start", failure=failure)
            else:
                self._failed(failure.value)

        self.start().addErrback(unable)

    def stopService(self) -> Deferred[None]:
        """Leave politely, close everything; takes seconds at most."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    def start(self) -> Deferred[None]:
        """Open the store, listen, join; fires when upkeep runs.

        Fails with a PeerStoreError that says what to do.
        """
        self._starting = Deferred.fromCoroutine(self._start())
        done: Deferred[None] = Deferred()
        self._starting.addBoth(_fork, done)
        return done

    async def _start(self) -> None:
        self._runner.start()
        await self.store.start()
        self._opened = True
        # On disk before anybody hears of it: whoever meets us must be able to
        # tell this life from the last one.
        last = await self.store.setting("incarnation")
        self.incarnation = 1 + (read_number(last) if last else 0)
        await self.store.keep_setting("incarnation", str(self.incarnation).encode())
        try:
            known = await self.store.setting("hosts")
        except CorruptData as error:
            # It only saves asking: whoever is met first tells it again.
            self._log.error("the known hosts are forgotten: {why}", why=error.what)
            known = None
        if known is not None:
            self._learn(known)
        await self._settle_settings()
        if self._stopping:
            return
        await self._listen()
        self._build()
        assert self.ring is not None and self.holding is not None
        # Our next life is on disk before anybody hears of it.
        await self.holding.start()
        if self._stopping:
            return
        self._running = True
        self.ring.start()
        self.holding.run()
        self._saver.start(now=False)

    async def _stop(self) -> None:
        self._stopping = True
        self.watchers.release()
        if not self._running:
            # Still starting: nobody is waited for any more, and whatever was
            # opened by then is closed below.
            await self.pool.stop()
            if self._starting is not None:
                await self._starting
        elif self.ring is not None and self.holding is not None:
            await self.holding.hand_over()
            leaving = self.ring.leave()
            leaving.addTimeout(LEAVE, self._clock)
            leaving.addErrback(self._not_polite)
            await leaving
        if self._port is not None:
            await _as_deferred(self._port.stopListening())
            self._port = None
        stopping = [self._saver.stop()]
        if self.holding is not None:
            stopping.append(self.holding.stop())
        if self.ring is not None:
            stopping.append(self.ring.stop())
        # Ends what the stopping parts still wait for.
        await self.pool.stop()
        self.factory.stop()
        for ending in stopping:
            await ending
        try:
            if self._opened:
                await self._save_hosts()
                await self.store.stop()
                self._opened = False
        finally:
            await self._runner.stop()

    def _not_polite(self, failure: Failure) -> None:
        self._log.info("not every neighbour could be told that we leave: {why}", why=failure.getErrorMessage())

    # -- starting -----------------------------------------------------------------

    async def _settle_settings(self) -> None:
        """k and v: those on disk, those asked for, those of the ring; they
        must agree, and are on disk once they are known for sure."""
        copies, positions = self.config.copies, self.config.virtual_nodes
        kept = read_settings(await self.store.setting("copies"), await self.store.setting("virtual-nodes"))
        agree(kept, copies, positions)
        theirs = await self._ask_settings(patient=kept is None and not (copies and positions))
        if kept is not None:
            copies, positions = kept
        if theirs is not None and (copies or theirs[0], positions or theirs[1]) != theirs:
            raise RingMismatch(
                f"That ring keeps {theirs[0]} copies, with {theirs[1]} positions a host; this node was told otherwise.",
                "Leave --copies and --virtual-nodes away, or use a data folder that belongs to no other ring.",
            )
        ours = theirs or (copies or DEFAULT_COPIES, positions or DEFAULT_VIRTUAL_NODES)
        self.copies, self.virtual_nodes = ours
        self._settled = kept is not None
        # Alone because nobody could be asked: that may still turn out wrong.
        if theirs is not None or not self.config.join:
            await self._keep_settings()

    async def _ask_settings(self, patient: bool) -> tuple[int, int] | None:
        """The settings of the ring that we are to join; None when nobody tells.

        Nodes that are started together come up in any order.  Who has no
        settings of his own waits a little for somebody who has, instead of
        beginning alone with settings that may not be those of the ring.
        """
        ends = self._clock.seconds() + (SETTLE if patient and self.config.join else 0.0)
        while True:
            theirs = await discover_settings(self.pool, self.config.join)
            if theirs is not None or self._stopping or self._clock.seconds() >= ends:
                return theirs
            await deferLater(self._clock, SETTLE_EVERY)

    async def _keep_settings(self) -> None:
        if not self._settled:
            await self.store.keep_setting("copies", str(self.copies).encode())
            await self.store.keep_setting("virtual-nodes", str(self.virtual_nodes).encode())
            self._settled = True

    def _keep_incarnation(self, incarnation: int) -> Deferred[None]:
        """A later start than ours is known of: ours counts on from there."""

        def kept(_: object) -> None:
            self.incarnation = incarnation

        keeping: Deferred[Any] = self.store.keep_setting("incarnation", str(incarnation).encode())
        return keeping.addCallback(kept)

    def _gave_up(self, error: PeerStoreError) -> None:
        """The ring can do without us: our key is in use, or retired."""
        if self._failed is not None:
            self._failed(error)

    async def _listen(self) -> None:
        try:
            self._port = await self._network.listen(self.config.listen, self.factory)
        except CannotListenError as error:
            raise why_not_listening(self.config.listen, error) from error
        where = self._network.client_address(self._port, self.config.listen)
        self.address = self.config.advertise or where
        self._log.info(
            "node {fp} listens at {address} (start {incarnation})",
            fp=ids.short(self.fp),
            address=self.address,
            incarnation=self.incarnation,
        )

    def _build(self) -> None:
        config = self.config
        self.ring = ring = RingHost(
            self._clock,
            self._rng,
            self.pool,
            self.hosts,
            self.spki,
            self.address,
            self.incarnation,
            self.copies,
            self.virtual_nodes,
            config.join,
            config.list_size,
            config.longest_period,
            self._keep_incarnation,
            self._gave_up,
            config.knows_all,
        )
        ranges = Ranges(ring, self.hosts, self.fp, self.address, self.incarnation, self.copies)
        keeper = Keeper(self.store, Admission(self._runner), self.watchers)
        lanes = Lanes(TOTAL_BYTES, TOTAL_REQUESTS, HOST_BYTES, HOST_REQUESTS)
        self.holding = holding = Holding(
            config,
            self.copies,
            self._clock,
            self.store,
            keeper,
            self.pool,
            ring,
            self.hosts,
            ranges,
            self._entropy,
            self._keep_hosts,
            # Our own address is named by who was told to name one.
            not set(config.join) - {self.address},
        )
        electorate = holding.electorate
        copier = Copier(
            keeper, ranges, electorate, holding.debts, self.hosts, self.pool, self.fp, lanes, self._clock, self._rng
        )
        everybody = LoopbackPool(self.pool, self.dispatcher, self.fp, self._greeting, self._clock)
        gateway = Gateway(everybody, self.hosts, ring, self._clock, self._rng, copies=self.copies, patience=10.0)
        passes = max(1, config.workers // 2)
        self.dispatcher.serve(ring_handlers(ring.handlers()))
        reading = Reading()
        files = FilesHandlers(self.store, copier, electorate, gateway, self._runner, passes, reading)
        self.dispatcher.serve(files.handlers())
        logs = LogHandlers(self.store, copier, electorate, self.watchers, self._clock, reading)
        self.dispatcher.serve(logs.handlers())
        replicas = ReplicaHandlers(
            self.store, keeper, electorate, self.hosts, holding.strays, holding.canvass.ring_changed, reading
        )
        self.dispatcher.serve(replicas.handlers())

    def _greeting(self) -> Greeting:
        return Greeting(
            (VERSION,),
            (SUITE_CLEAR,),
            self.spki,
            "node",
            self.copies,
            self.virtual_nodes,
            self.address,
            self.incarnation,
            self._entropy(32),
        )

    # -- known hosts -------------------------------------------------------------------

    def _learn(self, raw: bytes) -> None:
        try:
            self.hosts.unpack(raw)
        except ValueError as error:
            raise CorruptData("The list of known hosts in the data folder is damaged.") from error

    async def _keep_hosts(self) -> None:
        """:raises peerstore.errors.StorageError: when it cannot be done."""
        if self._saved_changes != self.hosts.changes:
            await self._write_hosts()

    async def _write_hosts(self) -> None:
        version, changes = self.hosts.version, self.hosts.changes
        await self.store.keep_setting("hosts", self.hosts.pack())
        self._saved_version, self._saved_changes = version, changes

    async def _save_hosts(self) -> None:
        if not self._opened:
            return
        try:
            if self.hosts.version != self._saved_version:
                await self._write_hosts()
            # Whoever votes may have written the hosts before.
            if self.ring is not None and not self.ring.alone:
                await self._keep_settings()
        except StorageError as error:
            # Known again from the first node that is met; said once.
            if str(error) != self._not_kept:
                self._log.error("the known hosts could not be kept: {why}", why=str(error))
            self._not_kept = str(error)
            return
        self._not_kept = ""


def _fork(result: Any, other: Deferred[Any]) -> None:
    """Tell *other* as well; the Deferred that was forked ends well for those
    who only wait for it to end."""
    other.callback(result)


def _as_deferred(value: Any) -> Deferred[Any]:
    return value if isinstance(value, Deferred) else succeed(value)
