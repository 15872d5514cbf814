"""What has rotted here is fetched again from another host.

The store notes what it lost (``storage.doubts``).  Each of these is asked for
at the hosts that should have it, one after the other, judged like anything
that comes in, and kept.  Only when everybody who could have it has said that
they do not, nothing is waited for any more, and that is said out loud.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from peerstore import ids
from peerstore.errors import PeerError, PeerStoreError, StorageError
from peerstore.gateway.ask import BULK_TIMEOUT, ask
from peerstore.interfaces import INodeStore, IPeerPool
from peerstore.items import Item, ItemKey, Kind
from peerstore.node.duties import Duties
from peerstore.node.duty import share_of
from peerstore.node.electorate import Electorate
from peerstore.node.keeper import Keeper
from peerstore.node.rounds import Rounds
from peerstore.ring.hosts import HostTable
from peerstore.ring.member import Member
from peerstore.util.pace import Pace
from peerstore.wire.bodies import Fetch, Items

__all__ = ["Holders", "Mender", "fetch_from", "holders_of"]

#: Things that are listed at a time, and keys in one question.
BATCH = 256
PER_QUESTION = 16
#: The longest that something lost waits for the next attempt (s).
LAST = 600.0


class Holders(NamedTuple):
    """Who may have a thing: *hosts* to ask, in this order, and the
    fingerprints of those of whom *all* must say that they have it not before
    nobody has."""

    hosts: tuple[Member, ...]
    all: frozenset[bytes]


def holders_of(key: ItemKey, electorate: Electorate, duties: Duties, hosts: HostTable) -> Holders | None:
    """By our view; None while it is not known well enough who that is.

    What is voted on may be with any voter of any list that may have been in
    force; until that is settled, nobody can say that there is none.  Whoever
    held a thing before keeps it until all whose it is now have it, and a chunk
    may be with hosts far behind the first, which had no room: so the others
    that live are asked last, and all of them.
    """
    share = share_of(duties.shares(), ids.from_bytes(key.ring_id))
    if share is None:
        return None
    arc = electorate.at(key.ring_id)
    voters = [fp for one in (arc.named, *arc.history) for fp in one.hosts]
    live = [fp for fp, known in sorted(electorate.view.items()) if not known.dead]
    asked = [fp for fp in dict.fromkeys((*share.now, *voters, *share.holders, share.next, *live)) if fp in hosts]
    wanted = {*share.holders, *voters, *live}
    if key.kind is not Kind.CHUNK and (arc.history or not arc.named.epoch):
        # Somebody who is not known by name yet.
        wanted.add(b"")
    others = frozenset(fp for fp in wanted if fp != electorate.fp and not hosts.is_retired(fp))
    return Holders(tuple(hosts.position(fp, 0) for fp in asked if fp != electorate.fp), others)


async def fetch_from(pool: IPeerPool, pace: Pace, member: Member, keys: Sequence[ItemKey]) -> list[Item]:
    """Those of a few items that a host has.

    :raises peerstore.errors.PeerStoreError: when it does not tell.
    """
    found: dict[ItemKey, Item] = {}
    waiting = set(keys)
    while waiting:
        answer = await ask(pool, member, "fetch", Fetch(tuple(sorted(waiting))), Items, BULK_TIMEOUT)
        given = {item.key: item for item in answer.items if item.key in waiting}
        found.update(given)
        waiting.difference_update(given)
        await pace.spend(sum(item.size for item in given.values() if item.key.kind is Kind.CHUNK))
        if not answer.more or not given:
            break
    return list(found.values())


class Mender:
    """Sees to what the store has lost.

    :param where: who may have a thing.
    :param fetch: gets what a host has of some keys.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        store: INodeStore,
        keeper: Keeper,
        where: Callable[[ItemKey], Holders | None],
        fetch: Callable[[Member, Sequence[ItemKey]], Awaitable[Sequence[Item]]],
    ) -> None:
        self._store = store
        self._keeper = keeper
        self._where = where
        self._fetch = fetch
        #: Hosts that did not answer in this round: once is enough.
        self._silent: set[bytes] = set()
        self._rounds = Rounds(clock, self._begin, "mending what has rotted", lambda: LAST)

    def start(self) -> None:
        """Begin, with what was lost before this start."""
        self._store.doubts.watch(self.hurry)
        self._rounds.start(now=False)

    def stop(self) -> Deferred[None]:
        """End; fires when the round in flight is over."""
        return self._rounds.stop()

    def hurry(self) -> None:
        """Something was lost a moment ago."""
        self._rounds.hurry()

    def round(self) -> Deferred[None]:
        """See to what is lost; fires when done, whatever failed."""
        return self._rounds.run()

    def _begin(self) -> Deferred[bool]:
        return Deferred.fromCoroutine(self._round())

    async def _round(self) -> bool:
        self._silent.clear()
        left = 0
        try:
            # Behind those that have to wait: there may be many of them.
            while lost := await self._store.lost(BATCH, left):
                left += await self._see_to_each(lost)
        except StorageError as error:
            left = max(1, left)
            self._log.debug("mending: {why}", why=str(error))
        return not left

    async def _see_to_each(self, lost: Sequence[ItemKey]) -> int:
        """How many of them have to wait."""
        left = len(lost)
        groups: dict[Holders, list[ItemKey]] = {}
        for key in lost:
            holders = self._where(key)
            if holders is not None:
                groups.setdefault(holders, []).append(key)
        for holders, keys in groups.items():
            for at in range(0, len(keys), PER_QUESTION):
                left -= await self._see_to(holders, keys[at : at + PER_QUESTION])
        return left

    async def _see_to(self, holders: Holders, keys: Sequence[ItemKey]) -> int:
        """Ask one host after the other; how many are waited for no more."""
        waiting = set(keys)
        said: set[bytes] = set()
        for member in holders.hosts:
            if not waiting:
                break
            if member.fp in self._silent:
                continue
            try:
                items = await self._fetch(member, sorted(waiting))
            except StorageError:
                raise
            except PeerStoreError as error:
                self._log.debug("{host} cannot help to mend: {why}", host=ids.short(member.fp), why=error.what)
                if isinstance(error, PeerError):
                    self._silent.add(member.fp)
                continue
            verdicts = await self._keeper.keep(items)
            waiting.difference_update(item.key for item, verdict in zip(items, verdicts, strict=True) if verdict.kept)
            said.add(member.fp)
        mended = len(keys) - len(waiting)
        if mended:
            self._log.info("mended {n} things that had rotted here", n=mended)
        if waiting and holders.all <= said:
            await self._give_up(waiting)
            return len(keys)
        return mended

    async def _give_up(self, keys: set[ItemKey]) -> None:
        await self._store.give_up(sorted(keys))
        for key in sorted(keys):
            self._log.error(
                "{kind} {element} of {owner} has rotted, and no other node has it. Look into the folder quarantine;"
                " whoever still has the file can store it again with: peerstore backup --anew",
                kind=key.kind.name,
                element=ids.short(key.element),
                owner=ids.short(key.owner),
            )
