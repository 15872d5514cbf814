"""The log family: append, read-since, watch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime

from peerstore.errors import BadMessage
from peerstore.interfaces import INodeStore
from peerstore.items import Item, Kind
from peerstore.net.dispatch import Handler
from peerstore.node.copies import Copier
from peerstore.node.electorate import Electorate
from peerstore.node.handlers.common import STEP, Reading, check_length, check_limit, fill, started
from peerstore.node.watchers import Watchers
from peerstore.transactions.entry import NO_ENTRY, Entry, entry_of
from peerstore.wire.bodies import Append, DeviceHead, ItemOutcome, LogPage, Posted, ReadSince, Watch
from peerstore.wire.messages import Status
from peerstore.wire.session import Greeting

__all__ = ["LogHandlers"]

MAX_ITEMS = 1024
MAX_PAGE = 1024
MAX_DEVICES = 4096
#: The longest that a watch waits (s).
MAX_WAIT = 120.0


class LogHandlers:
    """Appends in chain order; reads; long polls.

    Entries of one log are appended one request at a time: whether an entry
    follows on another can only be judged when nobody else is writing.

    :param reading: bounds what is loaded at a time, over all handlers.
    """

    def __init__(
        self,
        store: INodeStore,
        copier: Copier,
        electorate: Electorate,
        watchers: Watchers,
        clock: IReactorTime,
        reading: Reading,
    ) -> None:
        self._store = store
        self._copier = copier
        self._electorate = electorate
        self._watchers = watchers
        self._clock = clock
        self._reading = reading
        self._locks: dict[tuple[bytes, bytes], DeferredLock] = {}

    def handlers(self) -> dict[str, Handler]:
        """By method."""
        return {
            "append": started(self.append),
            "read-since": started(self.read_since),
            "watch": started(self.watch),
        }

    async def append(self, caller: Greeting, body: Append) -> Posted:
        """Keep and copy entries; one outcome each.

        GAP: an earlier entry of the chain is missing here.  REJECTED: there
        is another entry at that number, or it does not follow on the one
        before.
        """
        check_limit(len(body.items), MAX_ITEMS, "items")
        statuses: dict[int, ItemOutcome] = {}
        logs: dict[tuple[bytes, bytes], list[int]] = {}
        for place, item in enumerate(body.items):
            if item.key.kind is Kind.LOG and item.key.well_formed():
                logs.setdefault((item.key.ring_id, item.key.owner), []).append(place)
            else:
                statuses[place] = _refused(Status.REJECTED)
        for name, places in logs.items():
            async with _Turn(self._locks, name):
                statuses.update(await self._append_to(name, {place: body.items[place] for place in places}))
        return Posted(tuple(statuses[place] for place in range(len(body.items))))

    async def read_since(self, caller: Greeting, body: ReadSince) -> LogPage:
        """Entries after what the caller has seen, with our vote on there
        being no others."""
        seen = _seen(body)
        return await self._page(body.ring_id, body.owner, seen, body.limit)

    async def watch(self, caller: Greeting, body: Watch) -> LogPage:
        """Like read-since, once there is something to say.

        A node that is still fetching waits, too: the news it fetches is news.
        """
        seen = _seen(body)
        ends = self._clock.seconds() + min(body.wait / 1000, MAX_WAIT)
        while True:
            # Registered before the look, so that nothing slips in between.
            waiting = self._watchers.wait(body.ring_id, body.owner, max(0.0, ends - self._clock.seconds()))
            try:
                page = await self._page(body.ring_id, body.owner, seen, body.limit)
            except BaseException:
                _drop(waiting)
                raise
            if page.entries or self._clock.seconds() >= ends:
                _drop(waiting)
                return page
            if not await waiting:
                return page

    # -- inside ---------------------------------------------------------------

    async def _page(self, ring_id: bytes, owner: bytes, seen: Mapping[bytes, int], limit: int) -> LogPage:
        # The vote first: what is in our name must be in what we read then.
        vote = self._electorate.vote(ring_id)
        entries: list[Item] = []
        after = dict(seen)
        more, used = limit > 0, 0
        # A few at a time: a thousand entries of full size are not for memory.
        async with self._reading:
            while more and used >= 0 and len(entries) < limit:
                found, more = await self._store.logs.read_since(ring_id, owner, after, min(STEP, limit - len(entries)))
                for item in found:
                    used = fill(entries, item, used)
                    if used < 0:
                        more = True
                        break
                    entry = entry_of(item)
                    after[entry.device] = max(entry.number, after.get(entry.device, 0))
        ends: Mapping[bytes, int] = await self._store.logs.chain_heads(ring_id, owner)
        heads = tuple(DeviceHead(device, ends[device]) for device in sorted(ends))
        return LogPage(tuple(entries), heads, more and limit > 0, await self._electorate.sure(vote, ring_id))

    async def _append_to(self, name: tuple[bytes, bytes], items: Mapping[int, Item]) -> dict[int, ItemOutcome]:
        """Judge each chain's entries in number order, then post the good ones."""
        outcomes: dict[int, ItemOutcome] = {}
        chains: dict[bytes, list[tuple[int, int]]] = {}
        entries: dict[int, Entry] = {}
        for place, item in items.items():
            try:
                entries[place] = entry = entry_of(item)
            except BadMessage:
                outcomes[place] = _refused(Status.REJECTED)
                continue
            chains.setdefault(entry.device, []).append((entry.number, place))
        good: list[int] = []
        strict = self._electorate.is_voter(self._electorate.at(name[0]))
        for device, members in chains.items():
            places = [place for _, place in sorted(members)]
            for place, status in (await self._judge_chain(name, device, places, entries, items, strict)).items():
                if status is Status.OK:
                    good.append(place)
                else:
                    outcomes[place] = _refused(status)
        for place, outcome in zip(good, await self._copier.post([items[place] for place in good]), strict=True):
            outcomes[place] = outcome
        return outcomes

    async def _judge_chain(
        self,
        name: tuple[bytes, bytes],
        device: bytes,
        places: Sequence[int],
        entries: Mapping[int, Entry],
        items: Mapping[int, Item],
        strict: bool,
    ) -> dict[int, Status]:
        """What each entry of one chain deserves, before it is stored.

        While we do not vote (*strict* false), gaps and unknown
        predecessors are taken: what they follow on is on its way.
        """
        numbers = {entries[place].number - before for place in places for before in (0, 1)}
        known = await self._leaves(name, device, numbers)
        known[0] = {NO_ENTRY}
        verdicts: dict[int, Status] = {}
        for place in places:
            entry, element = entries[place], items[place].key.element
            at_number, before = known.get(entry.number, set()), known.get(entry.number - 1, set())
            if element in at_number:
                verdicts[place] = Status.OK
            elif at_number:
                verdicts[place] = Status.REJECTED
            elif not before:
                verdicts[place] = Status.GAP if strict else Status.OK
            elif entry.previous not in before:
                verdicts[place] = Status.REJECTED
            else:
                verdicts[place] = Status.OK
            if verdicts[place] is Status.OK:
                known.setdefault(entry.number, set()).add(element)
        return verdicts

    async def _leaves(self, name: tuple[bytes, bytes], device: bytes, numbers: set[int]) -> dict[int, set[bytes]]:
        """The leaves that one chain has here at these numbers, those behind a
        gap included; the rest of the chain is not looked at."""
        leaves: dict[int, set[bytes]] = {}
        seen: dict[bytes, int] = dict(await self._store.logs.chain_heads(*name))
        for first, last in _runs(numbers):
            seen[device] = max(0, first - 1)
            more = True
            while more and seen[device] < last:
                async with self._reading:
                    page, more = await self._store.logs.read_since(*name, seen, STEP)
                more = more and bool(page)
                for item in page:
                    entry = entry_of(item)
                    seen[entry.device] = max(entry.number, seen.get(entry.device, 0))
                    if entry.device == device and entry.number in numbers:
                        leaves.setdefault(entry.number, set()).add(item.key.element)
        return leaves


class _Turn:
    """``async with``: one writer at a time for each log, and no lock is kept
    for a log that nobody writes to."""

    def __init__(self, locks: dict[tuple[bytes, bytes], DeferredLock], name: tuple[bytes, bytes]) -> None:
        self._locks = locks
        self._name = name
        self._lock = locks.setdefault(name, DeferredLock())

    async def __aenter__(self) -> None:
        await self._lock.acquire()

    async def __aexit__(self, *error: object) -> None:
        self._lock.release()
        # By now others may have come and gone, and left another one there.
        if not self._lock.locked and self._locks.get(self._name) is self._lock:
            del self._locks[self._name]


def _runs(numbers: set[int]) -> list[tuple[int, int]]:
    """Numbers as (first, last) of those that follow on each other."""
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def _refused(status: Status) -> ItemOutcome:
    return ItemOutcome(int(status), (), (), 1)


def _drop(waiting: object) -> None:
    """Stop waiting; nobody is interested in how it would have ended."""
    waiting.addErrback(lambda failure: None)  # type: ignore[attr-defined]
    waiting.cancel()  # type: ignore[attr-defined]


def _seen(body: ReadSince | Watch) -> dict[bytes, int]:
    check_length(body.ring_id, 20, "a ring id")
    check_length(body.owner, 20, "an owner")
    check_limit(len(body.seen), MAX_DEVICES, "devices")
    check_limit(body.limit, MAX_PAGE, "entries")
    for head in body.seen:
        check_length(head.device, 16, "a device")
        if head.number < 0:
            raise BadMessage("a chain's number is negative.")
    return {head.device: head.number for head in body.seen}
