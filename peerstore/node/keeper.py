"""The way into this node's store: judged, written, and watchers woken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from peerstore import ids
from peerstore.errors import StorageError
from peerstore.interfaces import INodeStore
from peerstore.items import Item
from peerstore.node.admission import Admission
from peerstore.node.watchers import Watchers
from peerstore.wire.messages import Status

__all__ = ["Keeper", "Verdict"]


class Verdict(NamedTuple):
    """What became of one item here: OK or REJECTED, and why."""

    status: Status
    why: str

    @property
    def kept(self) -> bool:
        """Whether it is on our disk."""
        return self.status is Status.OK


KEPT = Verdict(Status.OK, "")


class Keeper:
    """Judges items, stores them durably, wakes whoever waits for them."""

    _log = Logger()

    def __init__(self, store: INodeStore, admission: Admission, watchers: Watchers) -> None:
        self.store = store
        self._admission = admission
        self._watchers = watchers
        self._writing = 0
        self._last: Deferred[None] | None = None
        self.closed = False

    def close(self) -> Deferred[None]:
        """Keep nothing more; fires once nothing is being written.

        Who goes for good looks after what it holds then: nobody is told any
        more that something was kept here."""
        self.closed = True
        if not self._writing:
            return succeed(None)
        if self._last is None:
            self._last = Deferred()
        ended: Deferred[None] = Deferred()
        self._last.addBoth(lambda _: ended.callback(None))
        return ended

    def reopen(self) -> None:
        """Keep things again."""
        self.closed = False

    async def judge(self, items: Sequence[Item]) -> list[Verdict]:
        """A verdict for each item; nothing is written."""
        verdicts = [Verdict(Status.REJECTED, why) if why else KEPT for why in await self._admission.judge(items)]
        refused = [pair for pair in zip(items, verdicts, strict=True) if not pair[1].kept]
        if refused:
            # One line however many there are: a request may have a thousand.
            item, verdict = refused[0]
            self._log.info(
                "refused {n} items, the first for {key}: {why}",
                n=len(refused),
                key=ids.short(item.key.ring_id),
                why=verdict.why,
            )
        return verdicts

    async def write(self, items: Sequence[Item]) -> int:
        """Store judged items; how many were new.

        :raises peerstore.errors.StorageError: and then none was stored, as
            when we are closed.
        """
        if not items:
            return 0
        if self.closed:
            raise StorageError("This node leaves the ring for good.", "The others of the ring keep it.")
        self._writing += 1
        try:
            new: list[bool] = await self.store.put(items)
        finally:
            self._writing -= 1
            if not self._writing and self._last is not None:
                last, self._last = self._last, None
                last.callback(None)
        self._watchers.stored(item.key for item, fresh in zip(items, new, strict=True) if fresh)
        return sum(new)

    async def keep(self, items: Sequence[Item]) -> list[Verdict]:
        """Judge and store; durable when it returns."""
        verdicts = await self.judge(items)
        await self.write([item for item, verdict in zip(items, verdicts, strict=True) if verdict.kept])
        return verdicts
