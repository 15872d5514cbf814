"""The way into this node's store: judged, written, and watchers woken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from twisted.logger import Logger

from peerstore import ids
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

        :raises peerstore.errors.StorageError: and then none was stored.
        """
        if not items:
            return 0
        new: list[bool] = await self.store.put(items)
        self._watchers.stored(item.key for item, fresh in zip(items, new, strict=True) if fresh)
        return sum(new)

    async def keep(self, items: Sequence[Item]) -> list[Verdict]:
        """Judge and store; durable when it returns."""
        verdicts = await self.judge(items)
        await self.write([item for item, verdict in zip(items, verdicts, strict=True) if verdict.kept])
        return verdicts
