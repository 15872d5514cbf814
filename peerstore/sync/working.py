"""A plan carried out, in batches, a few steps at a time."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from twisted.logger import Logger

from peerstore.client.client import Client
from peerstore.client.crew import Crew
from peerstore.client.source import ChangedMeanwhile, Found
from peerstore.client.state import Agreed, Agreement
from peerstore.errors import BadMessage, Incomplete, LookupFailed, PeerError, PeerStoreError, RemoteError
from peerstore.files.manifest import NodeKind
from peerstore.sync.carry import Carrier, Done
from peerstore.sync.plan import Action, Do
from peerstore.sync.tree import LocalTree

__all__ = ["Worker", "is_ring_trouble"]

#: Steps that share an entry of the log, a transaction and a sync of the disk.
BATCH = 128
#: Steps that read, write or wait for the ring at a time.
PARALLEL = 8
#: So many steps in a row that the ring failed: then it fails all.
HOPELESS = 3
#: A path that failed in so many plans is worth a word, one that changed under
#: our hands in so many more.
SOME_TIMES = 3
MANY_TIMES = 10


def is_ring_trouble(error: BaseException) -> bool:
    """Whether an error is the ring's, and likely to meet every other step."""
    return isinstance(error, (PeerError, RemoteError, LookupFailed, Incomplete)) and not isinstance(error, BadMessage)


class Worker:
    """Carries out plans.

    :param folder: the NAME under which the folder is kept.
    :param agreed: {path: what is agreed}; kept up to date here.
    :param learn: told what lies at a path after a step.
    """

    _log = Logger()

    def __init__(
        self,
        client: Client,
        tree: LocalTree,
        folder: str,
        agreed: dict[bytes, Agreed],
        learn: Callable[[bytes, Found | None], None],
    ) -> None:
        self._client = client
        self._tree = tree
        self._folder = folder
        self._agreed = agreed
        self._learn = learn
        self._carrier = Carrier(client, tree, folder, agreed)
        self._failed: dict[bytes, PeerStoreError] = {}
        self._said: dict[bytes, str] = {}
        self._count: Counter[bytes] = Counter()
        self._in_a_row = 0
        self._stopped = False

    def stop(self) -> None:
        """Begin no further step."""
        self._stopped = True

    async def work(self, actions: Sequence[Action]) -> bool:
        """Carry a plan out.

        :return: whether all of it could be done; what could not be is in the
            next plan.
        :raises peerstore.errors.PeerStoreError: when the ring takes nothing.
        """
        self._failed = {}
        self._in_a_row = 0
        self._carrier.begin()
        try:
            for batch in _batches(actions):
                if self._stopped:
                    break
                await self._batch(batch)
        finally:
            if not self._stopped:
                await self._finish()
        self._said = {path: text for path, text in self._said.items() if path in self._failed}
        self._count = Counter({path: count for path, count in self._count.items() if path in self._failed})
        return not self._failed and not self._stopped

    # -- inside ----------------------------------------------------------------

    async def _batch(self, batch: Sequence[Action]) -> None:
        results: dict[int, Done] = {}

        async def one(index: int, action: Action) -> None:
            done = await self._one(action)
            if done is not None:
                results[index] = done

        for index, action in enumerate(batch):
            if _is_quick(action):
                await one(index, action)
        async with Crew(PARALLEL) as crew:
            for index, action in enumerate(batch):
                if not _is_quick(action):
                    await crew.start(1, one, index, action)
        await self._keep([(batch[index].path, results[index]) for index in sorted(results)])
        if self._in_a_row >= HOPELESS:
            raise next(error for error in reversed(self._failed.values()) if is_ring_trouble(error))

    async def _one(self, action: Action) -> Done | None:
        """One step; None when it has to wait."""
        if self._stopped or action.path in self._failed or self._in_a_row >= HOPELESS:
            return None
        try:
            done = await self._carrier.carry(action)
        except PeerStoreError as error:
            self._failed[action.path] = error
            self._in_a_row = self._in_a_row + 1 if is_ring_trouble(error) else self._in_a_row
            self._not_now(action.path, error)
            return None
        self._in_a_row = 0
        return done

    async def _finish(self) -> None:
        try:
            await self._keep(await self._carrier.finish())
        except OSError as error:
            self._log.warn("a folder's mode could not be set: {why}", why=error.strerror)

    async def _keep(self, results: Iterable[tuple[bytes, Done]]) -> None:
        """Publish what was gathered, and keep what is agreed now.

        What the disk has is made durable first: were it agreed on before that,
        and lost, it would look as if somebody had deleted it.
        """
        results = list(results)
        for path, found in itertools.chain.from_iterable(done.local for _, done in results):
            self._learn(path, found)
        touched = [path for _, done in results if not done.changes for path, _ in done.local]
        if touched:
            await self._client.runner.run(self._tree.sync, touched)
        settled = [(path, done.agreed) for path, done in results if done.agrees and not done.changes]
        if settled:
            await self._client.database.run(self._client.state.agree, self._folder, settled)
            self._agree(settled)
        changes = [change for _, done in results for change in done.changes]
        if changes:
            await self._publish(results)

    async def _publish(self, results: Sequence[tuple[bytes, Done]]) -> None:
        client = self._client
        logged = [(path, done) for path, done in results if done.changes]
        agreements: list[Agreement] = [(self._folder, path, done.agreed) for path, done in logged if done.agrees]
        try:
            await client.publish([change for _, done in logged for change in done.changes], agreements)
        except BaseException:
            # Part of it may be in our log by now, with what that agrees on.
            kept = await client.database.run(client.state.agreed, self._folder)
            self._agreed.clear()
            self._agreed.update(kept)
            raise
        self._agree((path, now) for _, path, now in agreements)

    def _agree(self, changes: Iterable[tuple[bytes, Agreed | None]]) -> None:
        for path, now in changes:
            if now is None:
                self._agreed.pop(path, None)
            else:
                self._agreed[path] = now

    def _not_now(self, path: bytes, error: PeerStoreError) -> None:
        """One path has to wait; everything else goes on.  Said once, when it
        was no matter of a moment: files are written, and folders go, while we
        are at it."""
        self._count[path] += 1
        often = MANY_TIMES if isinstance(error, ChangedMeanwhile) else SOME_TIMES
        text = str(error)
        if self._count[path] < often or self._said.get(path) == text:
            return
        self._said[path] = text
        self._log.warn("one path has to wait: {why}", why=text)


def _is_quick(action: Action) -> bool:
    """Steps that wait for nobody; their order matters."""
    if action.do == Do.FETCH:
        return action.version is not None and action.version.name.kind == NodeKind.FOLDER
    return action.do in (Do.REMOVE, Do.DELETE, Do.FORGET)


def _batches(actions: Sequence[Action]) -> Iterable[list[Action]]:
    """Neighbours of one kind, a limited number at a time."""
    for _, group in itertools.groupby(actions, key=lambda action: action.do):
        steps = list(group)
        for start in range(0, len(steps), BATCH):
            yield steps[start : start + BATCH]
