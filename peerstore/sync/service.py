"""A folder kept equal: look, plan, carry out, and again."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from peerstore.client.client import Client
from peerstore.client.source import show
from peerstore.client.state import Agreed
from peerstore.errors import Incomplete, PeerStoreError
from peerstore.sync.looking import Looker
from peerstore.sync.mark import MARK_BYTES, RootLost, mark_name
from peerstore.sync.plan import Action, plan
from peerstore.sync.settle import Settler
from peerstore.sync.tree import LocalTree
from peerstore.sync.working import Worker, is_ring_trouble
from peerstore.util.periodic import Periodic

__all__ = ["Opened", "SyncService", "Watcher"]

#: Seconds for which the log's nodes are asked to wait for news.
WATCH = 50.0
#: A file is handed on after so many settle times, quiet or not.
LONGEST = 40
#: Seconds until what failed is tried again; doubles up to the poll interval.
RETRY = 0.5
#: Plans made one after the other before we wait: each is to leave less.
MOST_PLANS = 16
#: Seconds for which a step in hand may go on when we stop.
STOP_PATIENCE = 5.0
#: Different lines on what is not kept that are told in one run.
MOST_NOTES = 1000


class Watcher(Protocol):
    """What ``watcher.FolderWatcher`` offers."""

    blind: str

    def open(self) -> None:
        """Watch; blocks."""
        ...

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
    :param settle: seconds for which a file must be quiet.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        rng: random.Random,
        tree: LocalTree,
        folder: str,
        connect: Callable[[], Awaitable[Opened]],
        make_watcher: Callable[[Callable[[bytes], None], Callable[[], None]], Watcher],
        poll: float,
        failed: Callable[[BaseException], None],
        settle: float = 0.05,
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._tree = tree
        self._folder = folder
        self._connect = connect
        self._failed = failed
        self._poll = poll
        self._settle = settle
        self._settler = Settler(clock, settle, LONGEST * settle, self._settled, self._look_at_all)
        self._watcher = make_watcher(self._settler.touch, self._look_at_all)
        self._rounds = Periodic(clock, self._round, self._until_next, "sync")
        self._opened: Opened | None = None
        self._looker: Looker | None = None
        self._worker: Worker | None = None
        self._agreed: dict[bytes, Agreed] = {}
        self._noted: set[str] = set()
        self._trouble = ""
        self._lost = False
        self._unfinished = True
        self._retries = 0
        self._next_poll = 0.0
        self._planned = -1
        self._opening: Deferred[None] | None = None
        self._watching: Deferred[None] | None = None
        self._working: Deferred[None] | None = None

    # -- life --------------------------------------------------------------------

    def startService(self) -> None:
        """Connect, then sync; goes on by itself until stopped."""
        super().startService()
        self._opening = Deferred.fromCoroutine(self._open())
        self._opening.addErrback(self._cannot_open)

    async def _open(self) -> None:
        while self._opened is None:
            try:
                self._opened = await self._connect()
            except PeerStoreError as error:
                if not is_ring_trouble(error):
                    raise
                self._say_trouble(error)
                await self._pause(min(5.0, self._poll))
        client = self._opened.client
        await self._hold(client)
        await client.runner.run(self._watcher.open)
        self._watcher.start()
        self._looker = Looker(
            self._tree,
            client.runner,
            self._agreed,
            self._clock.seconds,
            client.wall_ns,
            self._rng,
            self._settle,
            self._settler.touch,
            self._note,
        )
        self._worker = Worker(client, self._tree, self._folder, self._agreed, self._looker.learn)
        self._log.info("syncing {folder} as {name!r}", folder=show(self._tree.root), name=self._folder)
        self._rounds.start()
        self._watching = Deferred.fromCoroutine(self._watch_log(client))
        self._watching.addErrback(self._watch_ended)

    async def _hold(self, client: Client) -> None:
        """Take hold of the folder, which must be the one we mean."""
        state, run = client.state, client.database.run
        self._agreed.update(await run(state.agreed, self._folder))
        name = mark_name(self._folder)
        number: bytes | None = await run(state.meta, name)
        fresh = not self._agreed
        if fresh or number is None:
            number = self._rng.randbytes(MARK_BYTES)
        await client.runner.run(self._tree.open, number, fresh)
        if fresh:
            await run(state.keep_meta, name, number)

    def _cannot_open(self, failure: Failure) -> None:
        if failure.check(CancelledError) and not self.running:
            return
        if not failure.check(PeerStoreError, OSError):
            self._log.failure("sync cannot begin", failure=failure)
        assert failure.value is not None
        self._failed(failure.value)

    def stopService(self) -> Deferred[None]:
        """Finish the step in hand, and let go of everything."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._settler.stop()
        self._watcher.stop()
        for deferred in (self._opening, self._watching):
            if deferred is not None:
                deferred.cancel()
        if self._worker is not None:
            self._worker.stop()
        ended = self._rounds.stop()
        impatient = self._clock.callLater(STOP_PATIENCE, self._hurry_up)
        await ended
        if impatient.active():
            impatient.cancel()
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.client.runner.run(self._tree.close)
            await opened.close()

    def _hurry_up(self) -> None:
        if self._working is not None:
            self._working.cancel()

    def _pause(self, seconds: float) -> Deferred[None]:
        return deferLater(self._clock, seconds)

    # -- what wakes us ------------------------------------------------------------------

    def _settled(self, paths: frozenset[bytes]) -> None:
        if self._looker is not None:
            self._looker.add(paths)
            self._rounds.hurry()

    def _look_at_all(self) -> None:
        if self._looker is not None:
            self._looker.add_all()
            self._rounds.hurry()

    async def _watch_log(self, client: Client) -> None:
        """Ask the log's nodes to tell us at once; polling goes on anyway."""
        idle = 0
        while True:
            began, length = self._clock.seconds(), len(client.log)
            try:
                entries = await client.watch(WATCH)
            except PeerStoreError as error:
                self._log.debug("the log is not watched for now: {why}", why=str(error))
                await self._pause(self._poll)
                continue
            if entries:
                self._rounds.hurry()
            if len(client.log) > length or self._clock.seconds() - began >= 1.0:
                idle = 0
                continue
            # Whoever answers at once that there is nothing new is not asked
            # as fast as that.
            idle += 1
            await self._pause(min(self._poll, 0.01 * 2.0 ** min(idle, 20)))

    def _watch_ended(self, failure: Failure) -> None:
        if failure.check(CancelledError) is None or self.running:
            self._log.failure("the log is watched no more; it is polled", failure=failure)

    def _until_next(self) -> float:
        """Seconds until the next round, if nothing wakes us before."""
        if self._unfinished:
            return min(self._poll, RETRY * 2.0 ** min(self._retries, 20))
        return max(0.0, self._next_poll - self._clock.seconds())

    # -- one round ------------------------------------------------------------------

    def _round(self) -> Deferred[None]:
        self._working = Deferred.fromCoroutine(self._one_round())
        self._working.addErrback(self._broken_off)
        return self._working

    def _broken_off(self, failure: Failure) -> None:
        failure.trap(CancelledError)
        if self.running:
            failure.raiseException()

    async def _one_round(self) -> None:
        assert self._opened is not None and self._looker is not None
        client, due = self._opened.client, self._clock.seconds() >= self._next_poll
        # Whatever happens below, the next round comes, and not at once.
        unfinished, self._unfinished, self._retries = self._unfinished, True, self._retries + 1
        try:
            changed = await self._look(client, self._looker)
            if due or changed or unfinished or self._is_news(client):
                self._next_poll = self._clock.seconds() + self._poll
                if not await client.refresh():
                    # Absence in half a log is no deletion: wait for the rest.
                    raise Incomplete("Too few nodes answer to know the newest state.", "Sync goes on when they do.")
            if not (changed or unfinished or self._is_news(client)):
                done = True
            else:
                done = await self._carry_out(client, self._looker)
        except PeerStoreError as error:
            self._say_trouble(error)
            return
        self._trouble_is_over()
        if done:
            self._unfinished, self._retries = False, 0

    def _is_news(self, client: Client) -> bool:
        return len(client.log) != self._planned

    async def _look(self, client: Client, looker: Looker) -> bool:
        try:
            held = await client.runner.run(self._tree.check)
            if self._lost or not held:
                # It was away, and what watched it watches nothing.
                self._watcher.stop()
                await client.runner.run(self._watcher.open)
                self._watcher.start()
                looker.add_all()
                self._lost = False
        except RootLost:
            self._lost = True
            raise
        return await looker.look(bool(self._watcher.blind))

    async def _carry_out(self, client: Client, looker: Looker) -> bool:
        """Plan, and carry out, until nothing is left; false when something has
        to wait."""
        assert self._worker is not None
        for _ in range(MOST_PLANS):
            self._planned = len(client.log)
            view, folder = client.view, self._folder
            remote = {path: view.versions(folder, path) for path in view.paths(folder)}
            actions: list[Action] = await client.runner.run(
                plan, looker.local, self._agreed, remote, client.device, looker.unread
            )
            if not actions:
                return True
            if not await self._worker.work(actions):
                return False
        return False

    # -- what people are told ------------------------------------------------------------

    def _note(self, line: str) -> None:
        if line not in self._noted and len(self._noted) < MOST_NOTES:
            self._noted.add(line)
            self._log.info("{line}", line=line)

    def _say_trouble(self, error: PeerStoreError) -> None:
        """Once, not every round, until all is well again."""
        text = str(error)
        if text != self._trouble:
            self._trouble = text
            self._log.warn("sync waits: {why}", why=text)

    def _trouble_is_over(self) -> None:
        if self._trouble:
            self._trouble = ""
            self._log.info("sync goes on")
