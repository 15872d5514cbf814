"""Reading chunks: from any host that has them, checked, failing over."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from peerstore import ids
from peerstore.errors import BadMessage, PeerStoreError
from peerstore.files.chunk import verify_chunk
from peerstore.gateway.ask import BULK_TIMEOUT, ask, moved
from peerstore.gateway.lanes import Lanes
from peerstore.gateway.locate import Locator, Route
from peerstore.gateway.patience import Patience
from peerstore.gateway.settings import RingSettings
from peerstore.interfaces import IBlockingRunner, IPeerPool
from peerstore.items import Item
from peerstore.ring.member import Member
from peerstore.ring.placement import needed, replica_hosts
from peerstore.util.together import all_of
from peerstore.wire.bodies import GetChunks, Had, HaveChunks, Items

__all__ = ["ChunkReader"]

#: Hashes in one request: about what one answer (4 MiB) has room for.
PER_REQUEST = 4
#: What one answer may weigh, for the bound on what is in flight.
ANSWER_BYTES = 4 * 1024 * 1024
#: Hashes in one have-chunks request.
PER_QUESTION = 4096


class _Search:
    """One chunk that is looked for: which hosts are still to be asked."""

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
        self.route: Route | None = None
        self.hosts: list[Member] = []
        self.unsure = False
        self.rounds = 0

    def begin(self, route: Route, hosts: Sequence[Member]) -> None:
        """Start a round over the hosts that may have it."""
        self.route, self.hosts, self.unsure = route, list(hosts), False
        self.rounds += 1


class ChunkReader:
    """Fetches chunks by hash; any one copy will do.

    :param lanes: bounds on the answers in flight.
    :param runner: hashes what is large.
    """

    _log = Logger()

    def __init__(
        self,
        pool: IPeerPool,
        locator: Locator,
        lanes: Lanes,
        settings: RingSettings,
        clock: IReactorTime,
        rng: random.Random,
        runner: IBlockingRunner,
    ) -> None:
        self._pool = pool
        self._locator = locator
        self._lanes = lanes
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._runner = runner

    async def get(self, hashes: Iterable[bytes], patience: float) -> dict[bytes, Item]:
        """Verified items by hash.  What no host has is left out; what could
        not be asked for is tried again until *patience* is over."""
        found: dict[bytes, Item] = {}
        open_searches = [_Search(digest) for digest in dict.fromkeys(hashes)]
        waits = Patience(self._clock, self._rng, patience)
        while open_searches:
            await self._route(open_searches)
            while any(search.hosts for search in open_searches):
                await self._ask_next(open_searches, found)
                open_searches = [search for search in open_searches if search.digest not in found]
            # Everybody who may have it said no, twice, with a fresh lookup in
            # between: then waiting any longer cannot help.
            open_searches = [search for search in open_searches if search.unsure or search.rounds < 2]
            for search in open_searches:
                if search.route is not None:
                    self._locator.forget(search.route)
            if open_searches and not await waits.pause():
                break
        return found

    async def have(self, owner: bytes, hashes: Sequence[bytes]) -> frozenset[bytes]:
        """Those of *owner*'s chunks that enough hosts have to be certain.

        The first k hosts are asked, and, of what too few of those have, the
        next k, where chunks spill to.
        """
        searches = [_Search(digest) for digest in dict.fromkeys(hashes)]
        await self._route(searches)
        copies = await self._settings.copies()
        votes: dict[bytes, int] = {}
        enough = {
            search.digest: needed(copies, max(len(search.hosts), self._settings.known_hosts())) for search in searches
        }
        for first in (0, copies):
            short = [search for search in searches if votes.get(search.digest, 0) < enough[search.digest]]
            asked: dict[bytes, tuple[Member, list[bytes]]] = {}
            for search in short:
                for member in search.hosts[first : first + copies]:
                    asked.setdefault(member.fp, (member, []))[1].append(search.digest)
            await all_of(
                [
                    Deferred.fromCoroutine(self._have_there(member, owner, digests[at : at + PER_QUESTION], votes))
                    for member, digests in asked.values()
                    for at in range(0, len(digests), PER_QUESTION)
                ]
            )
        return frozenset(digest for digest, count in votes.items() if count >= enough[digest])

    async def _have_there(
        self, member: Member, owner: bytes, digests: Sequence[bytes], votes: dict[bytes, int]
    ) -> None:
        body = HaveChunks(owner, tuple(digests), 0)
        try:
            had = await ask(self._pool, member, "have-chunks", body, Had, BULK_TIMEOUT)
        except PeerStoreError:
            self._locator.forget_host(member.fp)
            return
        for digest, present in zip(digests, had.present, strict=False):
            votes[digest] = votes.get(digest, 0) + present

    async def _route(self, searches: Iterable[_Search]) -> None:
        async def begin(search: _Search) -> None:
            try:
                route = await self._locator.locate(ids.from_bytes(ids.chunk_ring_id(search.digest)))
                count = 2 * await self._settings.copies(route.owner)
            except PeerStoreError:
                search.unsure = True
                return
            if search.rounds:
                # Hosts that came since may stand before one that took it when
                # the first were full.
                count = len(route.members)
            search.begin(route, replica_hosts(route.members, count))

        await all_of([Deferred.fromCoroutine(begin(search)) for search in searches])

    async def _ask_next(self, searches: Sequence[_Search], found: dict[bytes, Item]) -> None:
        """Ask, for each chunk, the next host that may have it."""
        by_host: dict[bytes, tuple[Member, list[_Search]]] = {}
        for search in searches:
            if search.hosts:
                member = search.hosts.pop(0)
                by_host.setdefault(member.fp, (member, []))[1].append(search)
        await all_of(
            [
                Deferred.fromCoroutine(self._from_host(member, group[at : at + PER_REQUEST], found))
                for member, group in by_host.values()
                for at in range(0, len(group), PER_REQUEST)
            ]
        )

    async def _from_host(self, member: Member, searches: Sequence[_Search], found: dict[bytes, Item]) -> None:
        waiting = {search.digest: search for search in searches}
        while waiting:
            body = GetChunks(tuple(waiting))
            try:
                async with self._lanes.room(member.fp, ANSWER_BYTES):
                    answer = await ask(self._pool, member, "get-chunks", body, Items, BULK_TIMEOUT)
            except PeerStoreError as error:
                for search in waiting.values():
                    search.unsure = True
                    if moved(error) and search.route is not None:
                        self._locator.forget(search.route)
                return
            fresh = 0
            for item in answer.items:
                if waiting.pop(item.key.element, None) is None:
                    continue
                fresh += 1
                if await self._sound(item, member):
                    found[item.key.element] = item
            if not answer.more or not fresh:
                return

    async def _sound(self, item: Item, member: Member) -> bool:
        try:
            if len(item.data) > 64 * 1024:
                await self._runner.run(verify_chunk, item)
            else:
                verify_chunk(item)
        except BadMessage as error:
            self._log.warn(
                "{host} gave a bad copy of chunk {chunk}: {why}",
                host=ids.short(member.fp),
                chunk=ids.short(item.key.element),
                why=error.what,
            )
            return False
        return True
