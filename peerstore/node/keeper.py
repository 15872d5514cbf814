"""The way into this node's store: judged, written, and watchers woken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from peerstore import ids
from peerstore.errors import StorageError
from peerstore.interfaces import INodeStore
from peerstore.items import Item
from peerstore.node.admission import Admission
from peerstore.node.watchers import Watchers
from peerstore.wire.messages import Status

__all__ = ["MOST_WAITING", "Keeper", "Verdict"]

#: Bytes that the disk may have still to write.  One that hangs takes what it is
#: given, and whoever brings it waits for a while only: it must not all be held
#: in memory.  More than a node has in work when all is well.
MOST_WAITING = 96 * 1024 * 1024


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
        #: What the disk has still to write.
        self._bytes = 0
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
            when we are closed, or the disk hangs.
        """
        if not items:
            return 0
        if self.closed:
            raise StorageError("This node leaves the ring for good.", "The others of the ring keep it.")
        size = sum(item.size for item in items)
        if self._bytes and self._bytes + size > MOST_WAITING:
            raise StorageError("The disk does not write what it was given before.", "Check the disk.")
        self._writing += 1
        self._bytes += size
        written: Deferred[int] = Deferred()
        # It goes on when nobody waits for it any more: what a disk was given,
        # it writes.
        maybeDeferred(self.store.put, items).addBoth(self._written, items, size, written)
        return await written

    def _written(self, result: Any, items: Sequence[Item], size: int, written: Deferred[int]) -> None:
        self._writing -= 1
        self._bytes -= size
        if not self._writing and self._last is not None:
            last, self._last = self._last, None
            last.callback(None)
        if not isinstance(result, Failure):
            self._watchers.stored(item.key for item, fresh in zip(items, result, strict=True) if fresh)
            result = sum(result)
        elif written.called and not result.check(StorageError):
            self._log.failure("what nobody waits for any more could not be written", failure=result)
        if not written.called:
            written.callback(result)

    async def keep(self, items: Sequence[Item]) -> list[Verdict]:
        """Judge and store; durable when it returns."""
        verdicts = await self.judge(items)
        await self.write([item for item, verdict in zip(items, verdicts, strict=True) if verdict.kept])
        return verdicts
