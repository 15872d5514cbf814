"""Complete reads: what a majority of the voters say in one name, united."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from peerstore import ids
from peerstore.errors import BadMessage, LookupFailed, PeerStoreError
from peerstore.files.head import decode_head
from peerstore.gateway.ask import ask, moved
from peerstore.gateway.locate import Locator, Route
from peerstore.gateway.patience import Patience
from peerstore.gateway.results import LogRead, SetRead
from peerstore.gateway.settings import RingSettings
from peerstore.interfaces import IPeerPool
from peerstore.items import Item, Kind
from peerstore.ring.member import Member
from peerstore.ring.placement import replica_hosts
from peerstore.transactions.entry import Entry, entry_of
from peerstore.wire.bodies import DeviceHead, GetHeads, Items, LogPage, ReadSince, Vote, Watch

__all__ = ["SetReader"]

READ_TIMEOUT = 10.0
#: Once a majority has answered, the others get this long (s) to add theirs.
GRACE = 0.3
#: Seconds of waiting that a person notices.
NOTICED = 2.0
#: Patience (s) of reads while one that had all of its time was in vain.
IMPATIENT = 3.0
#: A majority of yesterday's voters proves nothing: routes older than this (s)
#: are asked for again, which costs one round trip.
FRESH = 2.0

_S = TypeVar("_S", bound=msgspec.Struct)
_Settles = Callable[[Any], bool]


class _Poll(NamedTuple):
    """The answers, and whether a majority of voters gave them in one name."""

    answers: list[Any]
    complete: bool


class _Count:
    """Answers to one question, by whose vote they carry.

    :param copies: the ring's k: no more than a majority of so many is ever needed.
    :param settles: told each answer; true once they are all that there can be
        to know, whoever gave them.
    """

    def __init__(self, copies: int, settles: _Settles = lambda _: False) -> None:
        self._most = copies // 2 + 1
        self._settles = settles
        self._settled = False
        self.answers: list[Any] = []
        self._names: dict[bytes, set[bytes]] = {}
        self._needed = 1
        self.voters: dict[bytes, None] = {}

    def add(self, fp: bytes, answer: Any) -> None:
        """One more."""
        self.answers.append(answer)
        self._settled = self._settles(answer) or self._settled
        vote: Vote | None = answer.vote
        if vote is None:
            return
        self._needed = max(self._needed, min(vote.needed, self._most))
        self.voters.update(dict.fromkeys(vote.voters))
        if vote.name and fp in vote.voters:
            self._names.setdefault(vote.name, set()).add(fp)

    @property
    def complete(self) -> bool:
        """Whether enough voters answered in one name."""
        return any(len(fps) >= self._needed for fps in self._names.values())

    @property
    def over(self) -> bool:
        """Whether nobody else need be asked."""
        return self._settled or self.complete


class SetReader:
    """Asks all voters of a key and unites what they say.

    Once a read was in vain, others have less patience until one is complete.

    :param on_wait: called when a read has to wait for more voters to answer;
        the first time only.
    """

    _log = Logger()

    def __init__(
        self,
        pool: IPeerPool,
        locator: Locator,
        settings: RingSettings,
        clock: IReactorTime,
        rng: random.Random,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_wait = on_wait
        self._has_waited = False
        # Nobody waits for each of ten thousand heads what was waited in vain for one.
        self._in_vain = False
        self._pool = pool
        self._locator = locator
        self._settings = settings
        self._clock = clock
        self._rng = rng

    async def heads(self, ring_id: bytes, owner: bytes, elements: tuple[bytes, ...], patience: float) -> SetRead:
        """All heads of one resource that the voters still hold for newest, or
        those that *elements* name.

        Not complete when there are more of the newest than an answer holds:
        those that come first have the name, but they are not all.  What was
        named and found is all there is to find: a head never changes, so it
        does not matter how many have it.
        """
        found: dict[bytes, Item] = {}
        wanted, complete = elements, True
        while True:
            named = partial(self._named, ring_id, owner, wanted)
            poll = await self._poll(ring_id, "get-heads", GetHeads(ring_id, owner, wanted), Items, patience, named)
            complete = complete and poll.complete
            before, more = len(found), False
            for answer in poll.answers:
                assert isinstance(answer, Items)
                more = more or answer.more
                for item in answer.items:
                    if self._ours(item, ring_id, owner, Kind.HEAD):
                        found.setdefault(item.key.element, item)
            wanted = tuple(element for element in wanted if element not in found)
            if not more or not wanted or len(found) == before:
                complete = (complete and not more) or bool(elements and not wanted)
                return SetRead(tuple(found[element] for element in sorted(found)), complete)

    def _named(self, ring_id: bytes, owner: bytes, wanted: tuple[bytes, ...]) -> _Settles:
        """Tells when all that is wanted by its name was in answers."""
        missing = set(wanted)

        def settles(answer: Items) -> bool:
            for item in answer.items:
                if item.key.element in missing and self._ours(item, ring_id, owner, Kind.HEAD):
                    missing.discard(item.key.element)
            return bool(wanted) and not missing

        return settles

    async def log(
        self, ring_id: bytes, owner: bytes, seen: Mapping[bytes, int], limit: int, patience: float
    ) -> LogRead:
        """Entries after *seen*, from all voters."""
        body = ReadSince(ring_id, owner, _device_heads(seen), limit)
        poll = await self._poll(ring_id, "read-since", body, LogPage, patience)
        return self._pages(poll, ring_id, owner)

    async def watch(
        self, ring_id: bytes, owner: bytes, seen: Mapping[bytes, int], limit: int, wait: float, patience: float
    ) -> LogRead:
        """Like :meth:`log`, but waits up to *wait* seconds for news: the first
        voter that has some ends the waiting of all.

        :raises peerstore.errors.LookupFailed: when no voter answered.
        """
        body = Watch(ring_id, owner, _device_heads(seen), limit, int(wait * 1000))
        route, voters, copies = await self._holders(ring_id, patience)
        count = _Count(copies)
        done: Deferred[None] = Deferred()
        waiting = len(voters)

        def told(page: LogPage | None, fp: bytes) -> None:
            nonlocal waiting
            waiting -= 1
            if page is not None:
                count.add(fp, page)
            if (waiting == 0 or (page is not None and page.entries)) and not done.called:
                done.callback(None)

        jobs = [
            Deferred.fromCoroutine(self._answer(member, route, "watch", body, LogPage, wait + READ_TIMEOUT))
            for member in voters
        ]
        for job, member in zip(jobs, voters, strict=True):
            job.addCallback(told, member.fp)
        await _until(done, jobs)
        if not count.answers:
            raise LookupFailed("None of the nodes that keep this log answered.", "They are asked again in a moment.")
        return self._pages(_Poll(count.answers, count.complete), ring_id, owner)

    async def _poll(
        self,
        ring_id: bytes,
        method: str,
        body: msgspec.Struct,
        kind: type[_S],
        patience: float,
        settling: Callable[[], _Settles] = lambda: lambda _: False,
    ) -> _Poll:
        """Ask until enough have answered, or *patience* is over.

        :param settling: makes, for each attempt, what tells that it is over
            before that.
        """
        if self._in_vain:
            patience = min(patience, IMPATIENT)
        waits = Patience(self._clock, self._rng, patience)
        # What was found once is told even if nobody can be asked again.
        most: list[msgspec.Struct] = []
        while True:
            try:
                route, holders, copies = await self._holders(ring_id, 0.0)
            except PeerStoreError:
                self._has_failed(patience, waits.left)
                if not await waits.pause():
                    return _Poll(most, False)
                continue
            count = _Count(copies, settling())
            await self._round(route, holders, method, body, kind, count)
            if not count.over:
                await self._round(route, self._further(route, holders, count), method, body, kind, count)
            if count.complete:
                self._in_vain = False
            if count.over:
                return _Poll(count.answers, count.complete)
            most = count.answers if len(count.answers) >= len(most) else most
            self._locator.forget(route)
            self._has_failed(patience, waits.left)
            if not await waits.pause():
                return _Poll(most, False)

    def _has_failed(self, patience: float, left: float) -> None:
        """One attempt more was in vain."""
        waited = patience - left
        if waited >= NOTICED and not self._has_waited:
            self._has_waited = True
            self._on_wait()
        if waited >= NOTICED and left <= 0:
            self._in_vain = True

    def _further(self, route: Route, asked: Sequence[Member], count: _Count) -> tuple[Member, ...]:
        """Voters that the ring does not put first, or no longer."""
        done = {member.fp for member in asked}
        others = {member.fp: member for member in reversed(route.members)}
        known = [others.get(fp) or self._settings.member(fp) for fp in count.voters if fp not in done]
        return tuple(member for member in known if member is not None)

    async def _holders(self, ring_id: bytes, patience: float) -> tuple[Route, tuple[Member, ...], int]:
        """The hosts to ask for a key first, those that the ring names, and k."""
        waits = Patience(self._clock, self._rng, patience)
        while True:
            try:
                route = await self._locator.locate(ids.from_bytes(ring_id), FRESH)
                copies = await self._settings.copies(route.owner)
                break
            except PeerStoreError:
                if not await waits.pause():
                    raise
        return route, replica_hosts(route.members, copies), copies

    async def _round(
        self,
        route: Route,
        holders: tuple[Member, ...],
        method: str,
        body: msgspec.Struct,
        kind: type[_S],
        count: _Count,
    ) -> None:
        """Ask all at once.  Ends when all have answered or failed, or a little
        after it is over: one that hangs delays nobody."""
        if not holders:
            return
        done: Deferred[None] = Deferred()
        waiting = len(holders)
        grace: IDelayedCall | None = None

        def finish() -> None:
            if not done.called:
                done.callback(None)

        def told(answer: _S | None, fp: bytes) -> None:
            nonlocal waiting, grace
            waiting -= 1
            if answer is not None:
                count.add(fp, answer)
            if waiting == 0:
                finish()
            elif count.over and grace is None:
                grace = self._clock.callLater(GRACE, finish)

        jobs = [
            Deferred.fromCoroutine(self._answer(member, route, method, body, kind, READ_TIMEOUT)) for member in holders
        ]
        for job, member in zip(jobs, holders, strict=True):
            job.addCallback(told, member.fp)
        try:
            await _until(done, jobs)
        finally:
            if grace is not None and grace.active():
                grace.cancel()

    async def _answer(
        self, member: Member, route: Route, method: str, body: msgspec.Struct, kind: type[_S], timeout: float
    ) -> _S | None:
        try:
            return await ask(self._pool, member, method, body, kind, timeout)
        except PeerStoreError as error:
            if moved(error):
                self._locator.forget(route)
            return None

    def _pages(self, poll: _Poll, ring_id: bytes, owner: bytes) -> LogRead:
        entries: dict[bytes, tuple[Entry, Item]] = {}
        heads: dict[bytes, int] = {}
        more = False
        for page in poll.answers:
            assert isinstance(page, LogPage)
            more = more or page.more
            for head in page.heads:
                heads[head.device] = max(head.number, heads.get(head.device, 0))
            for item in page.entries:
                entry = self._ours(item, ring_id, owner, Kind.LOG)
                if entry is not None:
                    entries[item.key.element] = (entry, item)
        order = sorted(entries.values(), key=lambda pair: (pair[0].device, pair[0].number, pair[1].key.element))
        return LogRead(tuple(item for _, item in order), dict(sorted(heads.items())), poll.complete, more)

    def _ours(self, item: Item, ring_id: bytes, owner: bytes, kind: Kind) -> Any:
        """What an item says if it is sound and what we asked for, or None."""
        if (item.key.ring_id, item.key.owner, item.key.kind) != (ring_id, owner, kind):
            return None
        try:
            return decode_head(item) if kind is Kind.HEAD else entry_of(item)
        except BadMessage as error:
            self._log.warn("a voter of {key} gave a bad item: {why}", key=ids.short(ring_id), why=error.what)
            return None


def _device_heads(seen: Mapping[bytes, int]) -> tuple[DeviceHead, ...]:
    return tuple(DeviceHead(device, number) for device, number in sorted(seen.items()))


async def _until(done: Deferred[None], jobs: Sequence[Deferred[Any]]) -> None:
    """Wait for *done*, then end what still works on it, also when cancelled."""
    try:
        await done
    except Exception:
        # Not when this is thrown away, as all of a dead node's work is: its
        # jobs are thrown away with it.
        _end(jobs)
        raise
    _end(jobs)


def _end(jobs: Sequence[Deferred[Any]]) -> None:
    """Give up what still waits, quietly.  Never from inside one of them: a
    coroutine that is cancelled while it runs ends in an error of its own."""
    for job in jobs:
        job.addErrback(lambda failure: failure.trap(CancelledError))
        job.cancel()
