"""The replicas family: what holders of one range ask of each other."""

from __future__ import annotations

from peerstore.errors import BadMessage, StorageError
from peerstore.interfaces import INodeStore
from peerstore.items import Item
from peerstore.net.dispatch import Handler
from peerstore.node.handlers.common import Reading, check_length, check_limit, fill, started
from peerstore.node.keeper import Keeper
from peerstore.wire.bodies import Fetch, GetRangeDigest, Items, KeyPage, ListRange, Push, Pushed, RangeDigest
from peerstore.wire.messages import Status
from peerstore.wire.session import Greeting

__all__ = ["ReplicaHandlers"]

MAX_KEYS = 4096
MAX_FETCH = 1024
MAX_PUSH = 1024


class ReplicaHandlers:
    """range-digest, range-list, fetch, push.

    They answer at any time, also while this node is itself behind: two nodes
    that are both behind still give each other what they have.

    :param reading: bounds what is loaded at a time, over all handlers.
    """

    def __init__(self, store: INodeStore, keeper: Keeper, reading: Reading) -> None:
        self._store = store
        self._keeper = keeper
        self._reading = reading

    def handlers(self) -> dict[str, Handler]:
        """By method."""
        return {
            "range-digest": started(self.range_digest),
            "range-list": started(self.range_list),
            "fetch": started(self.fetch),
            "push": started(self.push),
        }

    async def range_digest(self, caller: Greeting, body: GetRangeDigest) -> RangeDigest:
        """Count and digest of all keys in a range."""
        _check_range(body.after, body.through)
        count, digest = await self._store.range_digest(body.after, body.through, body.kinds)
        return RangeDigest(count, digest)

    async def range_list(self, caller: Greeting, body: ListRange) -> KeyPage:
        """One page of the keys in a range."""
        _check_range(body.after, body.through)
        if not 1 <= body.limit <= MAX_KEYS:
            raise BadMessage(f"a page has 1 to {MAX_KEYS} keys.")
        if body.cursor is not None and not body.cursor.well_formed():
            raise BadMessage("a cursor is no key.")
        keys, cursor = await self._store.range_list(body.after, body.through, body.kinds, body.cursor, body.limit)
        return KeyPage(tuple(keys), cursor)

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
            return Pushed(tuple(int(Status.UNAVAILABLE) for _ in body.items))
        return Pushed(tuple(int(verdict.status) for verdict in verdicts))


def _check_range(after: bytes, through: bytes) -> None:
    check_length(after, 20, "a range's start")
    check_length(through, 20, "a range's end")
