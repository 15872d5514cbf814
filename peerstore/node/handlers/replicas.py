"""The replicas family: what holders of one range ask of each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from peerstore import ids
from peerstore.errors import BadMessage, NotReady, StorageError
from peerstore.interfaces import INodeStore
from peerstore.items import Item, ItemKey, Kind
from peerstore.net.dispatch import Handler
from peerstore.node.electorate import Electorate
from peerstore.node.handlers.common import Reading, check_length, check_limit, fill, started
from peerstore.node.keeper import Keeper
from peerstore.node.strays import Strays
from peerstore.ring.hosts import HostTable
from peerstore.wire.bodies import (
    Confirm,
    Confirmed,
    Fetch,
    GetRangeDigest,
    Items,
    KeyPage,
    ListRange,
    Push,
    Pushed,
    RangeDigest,
)
from peerstore.wire.messages import Status
from peerstore.wire.session import Greeting
from peerstore.wire.voting import MAX_ARCS, MAX_VIEW, Attach, Attached, check_told

__all__ = ["ReplicaHandlers"]

MAX_KEYS = 4096
MAX_FETCH = 1024
MAX_PUSH = 1024
MAX_CONFIRM = 64


class ReplicaHandlers:
    """range-digest, range-list, fetch, push, confirm, attach.

    They answer at any time, also while this node is itself behind: two nodes
    that are both behind still give each other what they have.

    :param strays: knows what we are about to drop.
    :param news: called when somebody told us more of who votes.
    :param reading: bounds what is loaded at a time, over all handlers.
    """

    def __init__(
        self,
        store: INodeStore,
        keeper: Keeper,
        electorate: Electorate,
        hosts: HostTable,
        strays: Strays,
        news: Callable[[], None],
        reading: Reading,
    ) -> None:
        self._store = store
        self._keeper = keeper
        self._electorate = electorate
        self._hosts = hosts
        self._strays = strays
        self._news = news
        self._reading = reading

    def handlers(self) -> dict[str, Handler]:
        """By method."""
        return {
            "range-digest": started(self.range_digest),
            "range-list": started(self.range_list),
            "fetch": started(self.fetch),
            "push": started(self.push),
            "confirm": started(self.confirm),
            "attach": started(self.attach),
        }

    async def range_digest(self, caller: Greeting, body: GetRangeDigest) -> RangeDigest:
        """Count and digest of all keys in a range."""
        _check_range(body.after, body.through)
        count, digest = await self._store.range_digest(body.after, body.through, body.kinds)
        self._check_all_there(body.after, body.through, body.kinds)
        return RangeDigest(count, digest)

    async def range_list(self, caller: Greeting, body: ListRange) -> KeyPage:
        """One page of the keys in a range."""
        _check_range(body.after, body.through)
        if not 1 <= body.limit <= MAX_KEYS:
            raise BadMessage(f"a page has 1 to {MAX_KEYS} keys.")
        if body.cursor is not None and not body.cursor.well_formed():
            raise BadMessage("a cursor is no key.")
        keys, cursor = await self._store.range_list(body.after, body.through, body.kinds, body.cursor, body.limit)
        self._check_all_there(body.after, body.through, body.kinds)
        return KeyPage(tuple(keys), cursor)

    def _check_all_there(self, after: bytes, through: bytes, kinds: Sequence[Kind]) -> None:
        """Whoever compares only what is voted on is about to vote, and takes
        what we list for all that we were told of.  Of what changed since it
        was told that all is well, this is the last moment to say so: after
        the look, for a doubt comes before the thing goes."""
        if kinds and Kind.CHUNK not in kinds and not self._electorate.can_list(after, through):
            raise NotReady("What is here is not all that this node was told of.", status=Status.NOT_READY)

    async def fetch(self, caller: Greeting, body: Fetch) -> Items:
        """Items by key, as many as fit; what is not here is left out."""
        check_limit(len(body.keys), MAX_FETCH, "keys")
        if not all(key.well_formed() for key in body.keys):
            raise BadMessage("an item's key is malformed.")
        answer: list[Item] = []
        used = 0
        async with self._reading:
            for key in body.keys:
                (item,) = await self._store.get([key])
                if item is None:
                    continue
                used = fill(answer, item, used)
                if used < 0:
                    return Items(tuple(answer), True)
        return Items(tuple(answer), False)

    async def push(self, caller: Greeting, body: Push) -> Pushed:
        """Keep copies: judged for what they are, never for whose they are."""
        if caller.role != "node":
            raise BadMessage("push is for members of the ring.")
        check_limit(len(body.items), MAX_PUSH, "items")
        try:
            verdicts = await self._keeper.keep(body.items)
        except StorageError:
            none = tuple(b"" for _ in body.items)
            return Pushed(tuple(int(Status.UNAVAILABLE) for _ in body.items), none, self._electorate.needed)
        # Only now: what is told in a name must have been on the disk before
        # anybody could have been told that we speak in another.
        names = tuple(
            self._electorate.vote(item.key.ring_id).name if verdict.kept and item.key.kind is not Kind.CHUNK else b""
            for item, verdict in zip(body.items, verdicts, strict=True)
        )
        if not await self._electorate.may_vote():
            names = tuple(b"" for _ in names)
        return Pushed(tuple(int(verdict.status) for verdict in verdicts), names, self._electorate.needed)

    async def confirm(self, caller: Greeting, body: Confirm) -> Confirmed:
        """Whether our copies of these are whole, and here to stay."""
        if caller.role != "node":
            raise BadMessage("confirm is for members of the ring.")
        check_limit(len(body.keys), MAX_CONFIRM, "keys")
        if not all(key.well_formed() for key in body.keys):
            raise BadMessage("an item's key is malformed.")
        whole: set[ItemKey] = set()
        async with self._reading:
            for key in body.keys:
                if self._strays.may_confirm(key):
                    found = [item for item in await self._store.get([key]) if item is not None]
                    whole.update(key for verdict in await self._keeper.judge(found) if verdict.kept)
        # We may have begun to drop some of it meanwhile.
        return Confirmed(tuple(key in whole and self._strays.may_confirm(key) for key in body.keys))

    async def attach(self, caller: Greeting, body: Attach) -> Attached:
        """Take a view over, and lists that may have been in force; then tell
        ours.  From then on we never again answer in an older list's name."""
        if caller.role != "node":
            raise BadMessage("attach is for members of the ring.")
        check_told(body.view, body.arcs, MAX_ARCS)
        check_limit(len(body.records), MAX_VIEW, "records")
        if not self._electorate.is_open:
            raise NotReady("This node is still starting.")
        for record in body.records:
            self._hosts.learn(record)
        unknown = tuple(one.fp for one in body.view if one.fp not in self._hosts and not self._hosts.is_retired(one.fp))
        electorate = self._electorate
        if unknown and not body.records:
            return Attached(unknown, electorate.born, (), ())
        before = electorate.version
        electorate.hear_view(body.view)
        electorate.hear(body.arcs)
        if electorate.version != before:
            self._news()
        view = electorate.tell_view()
        arcs = electorate.vouch((ids.from_bytes(told.after), ids.from_bytes(told.through)) for told in body.arcs)
        await electorate.kept()
        return Attached((), electorate.born, view, arcs)


def _check_range(after: bytes, through: bytes) -> None:
    check_length(after, 20, "a range's start")
    check_length(through, 20, "a range's end")
