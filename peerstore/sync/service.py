"""A folder kept equal: look, plan, carry out, and again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from peerstore.client.client import Client
from peerstore.client.source import Found, show
from peerstore.client.state import Agreed
from peerstore.client.upload import ChangedWhileRead
from peerstore.errors import Incomplete, PeerError, PeerStoreError, RemoteError, UsageError
from peerstore.sync.carry import Carrier, Pending
from peerstore.sync.plan import Do, plan
from peerstore.sync.settle import Settler
from peerstore.sync.tree import LocalTree
from peerstore.util.periodic import Periodic

__all__ = ["Opened", "SyncService", "Watcher"]

#: Changes in one entry of the log.
BATCH = 128
#: A whole look at the folder at least this often (s): events may be missed.
RESCAN = 600.0
WATCH = 50.0


class Watcher(Protocol):
    """What ``watcher.FolderWatcher`` offers."""

    def start(self) -> None:
        """Begin to tell."""
        ...

    def stop(self) -> None:
        """Tell no more."""
        ...


class Opened(Protocol):
    """A client at work, as ``client.assemble`` makes it."""

    @property
    def client(self) -> Client:
        """The device."""
        ...

    def close(self) -> Deferred[Any]:
        """Let go of it."""
        ...


class SyncService(Service):
    """Keeps one folder equal to what the log says of it.

    :param folder: the NAME in the log.
    :param connect: opens the client; called again until it works.
    :param make_watcher: given what to call for a touched path, and for a
        rescan.
    :param poll: seconds between reads of the log.
    :param failed: called with an error after which no trying helps.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        tree: LocalTree,
        folder: str,
        connect: Callable[[], Awaitable[Opened]],
        make_watcher: Callable[[Callable[[bytes], None], Callable[[], None]], Watcher],
        poll: float,
        failed: Callable[[BaseException], None],
        settle: float = 0.1,
    ) -> None:
        self._clock = clock
        self._tree = tree
        self._folder = folder
        self._connect = connect
        self._failed = failed
        self._poll = poll
        self._settler = Settler(clock, settle, 20 * settle, self._settled)
        self._watcher = make_watcher(self._settler.touch, self._look_at_all)
        self._rounds = Periodic(clock, self._round, lambda: poll, "sync")
        self._opened: Opened | None = None
        self._carrier: Carrier | None = None
        self._local: dict[bytes, Found] = {}
        self._dirty: set[bytes] = set()
        self._all_dirty = True
        self._last_scan = 0.0
        self._noted: set[str] = set()
        self._trouble = ""
        self._watching: Deferred[Any] | None = None
        self._opening: Deferred[None] | None = None
        self._retry: IDelayedCall | None = None
        self.rounds = 0

    # -- life --------------------------------------------------------------------

    def startService(self) -> None:
        """Connect, then sync; goes on by itself until stopped."""
        super().startService()
        self._opening = Deferred.fromCoroutine(self._open())

    async def _open(self) -> None:
        self._retry = None
        try:
            opened = await self._connect()
            self._opened = opened
            client = opened.client
            agreed = await client.database.run(client.state.agreed, self._folder)
            await client.runner.run(self._tree.open, not agreed)
            self._carrier = Carrier(client, self._tree, self._folder)
            self._watcher.start()
        except (PeerError, RemoteError) as error:
            self._say_trouble(error)
            if self.running:
                self._retry = self._clock.callLater(min(5.0, self._poll), self.startService)
            return
        except (PeerStoreError, OSError) as error:
            self._failed(error)
            return
        self._log.info("syncing {folder} as {name!r}", folder=show(self._tree.root), name=self._folder)
        self._rounds.start()
        self._watch_log()

    def stopService(self) -> Deferred[None]:
        """Finish the step in hand, and let go of everything."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._settler.stop()
        self._watcher.stop()
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        if self._watching is not None:
            self._watching.cancel()
        await self._rounds.stop()
        if self._opened is not None:
            await self._opened.client.runner.run(self._tree.close)
            await self._opened.close()
            self._opened = None

    # -- what wakes us ------------------------------------------------------------------

    def _settled(self, paths: frozenset[bytes]) -> None:
        self._dirty.update(paths)
        self._rounds.hurry()

    def _look_at_all(self) -> None:
        self._all_dirty = True
        self._rounds.hurry()

    def _watch_log(self) -> None:
        """Ask the log's nodes to tell us at once; polling goes on anyway."""
        if self._opened is None or not self.running:
            return
        self._watching = self._opened.client.watch(WATCH)

        def told(entries: int) -> None:
            if entries:
                self._rounds.hurry()
            self._clock.callLater(0, self._watch_log)

        def unable(failure: Any) -> None:
            if not failure.check(CancelledError):
                self._clock.callLater(self._poll, self._watch_log)

        self._watching.addCallbacks(told, unable)

    # -- one round ------------------------------------------------------------------

    def _round(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._one_round())

    async def _one_round(self) -> None:
        assert self._opened is not None
        client = self._opened.client
        self.rounds += 1
        try:
            if not await client.refresh():
                # Absence in half a log is no deletion: wait for the rest.
                raise Incomplete("Too few nodes answer to know the newest state.", "Sync goes on when they do.")
            await self._look(client)
            await self._carry_all(client)
            self._trouble = ""
        except (PeerError, RemoteError, Incomplete, UsageError) as error:
            self._say_trouble(error)

    async def _look(self, client: Client) -> None:
        now = self._clock.seconds()
        dirty, self._dirty = self._dirty, set()
        if self._all_dirty or now - self._last_scan > RESCAN:
            self._all_dirty = False
            try:
                self._local = await client.runner.run(self._tree.scan, self._note)
            except BaseException:
                self._all_dirty = True
                raise
            self._last_scan = now
            return
        await client.runner.run(self._tree.check)
        for path in sorted(dirty - {b""}):
            below = await client.runner.run(self._tree.scan_below, path, self._note)
            for old in [name for name in self._local if name.startswith(path + b"/")]:
                del self._local[old]
            for name, found in below.items():
                if found is None:
                    self._local.pop(name, None)
                else:
                    self._local[name] = found

    async def _carry_all(self, client: Client) -> None:
        agreed: dict[bytes, Agreed] = await client.database.run(client.state.agreed, self._folder)
        remote = {path: client.view.versions(self._folder, path) for path in client.view.paths(self._folder)}
        actions = plan(self._local, agreed, remote, client.device)
        waiting: list[Pending] = []
        failed: set[bytes] = set()
        assert self._carrier is not None
        for action in actions:
            if action.path in failed:
                continue
            try:
                pending = await self._carrier.carry(action)
            except (PeerError, RemoteError, Incomplete):
                raise
            except PeerStoreError as error:
                failed.add(action.path)
                self._not_now(action.path, error)
                continue
            if pending is not None:
                waiting.append(pending)
            if action.do in (Do.STEP_ASIDE, Do.FETCH, Do.REMOVE):
                self._dirty.update({action.path, action.other} - {b""})
            if len(waiting) >= BATCH:
                await self._publish(client, waiting)
                waiting = []
        await self._publish(client, waiting)
        if self._dirty:
            self._rounds.hurry()

    async def _publish(self, client: Client, waiting: list[Pending]) -> None:
        if not waiting:
            return
        await client.publish([change for change, _ in waiting])
        changes = [(change.version.name.path, now) for change, now in waiting]
        await client.database.run(client.state.agree, self._folder, changes)

    # -- what people are told ------------------------------------------------------------

    def _not_now(self, path: bytes, error: PeerStoreError) -> None:
        """One path has to wait; everything else goes on."""
        self._dirty.add(path)
        level = "debug" if isinstance(error, ChangedWhileRead) else "warn"
        getattr(self._log, level)("one path has to wait: {why}", why=str(error))

    def _note(self, line: str) -> None:
        if line not in self._noted:
            self._noted.add(line)
            self._log.info("{line}", line=line)

    def _say_trouble(self, error: PeerStoreError) -> None:
        """Once, not every round, until all is well again."""
        text = str(error)
        if text != self._trouble:
            self._trouble = text
            self._log.warn("sync waits: {why}", why=text)
