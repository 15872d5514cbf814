"""Looks for rot on our disk, slowly, all the time.

A pass over everything takes about so many days, never faster than at a rate:
a disk that is only ever read by those who want something back shows its rot
when the other copies may have rotted, too.  Where a pass has come to is kept,
so that a node that is restarted every day gets through all the same.
"""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from peerstore.errors import CorruptData, StorageError
from peerstore.interfaces import INodeStore
from peerstore.items import ItemKey
from peerstore.util.complaint import EVERY, Complaint
from peerstore.util.periodic import Periodic

__all__ = ["DAY", "SETTING", "Scrubber"]

#: The setting that says where the pass has come to.
SETTING = "scrub"
DAY = 86400.0
#: Bytes that are looked at without a pause.
SLICE = 1024 * 1024
#: Seconds after the start until the first look, the longest pause (so little
#: as a slice an hour is no burden to anybody), and the shortest between passes.
FIRST = 60.0
LONGEST = 3600.0
SHORTEST = 1.0
#: Seconds between two notes of where the pass has come to.
NOTE = 300.0


class _Pass(msgspec.Struct, array_like=True):
    """How far a pass has come, as it is kept: behind which key it goes on,
    and how much it has seen."""

    cursor: ItemKey | None = None
    items: int = 0
    bytes: int = 0
    rotten: int = 0


class Scrubber:
    """Walks over the store in slices.

    :param rate: bytes per second at most; 0: no scrub at all.
    :param days: how long a pass is to take; 0: as short as the rate allows.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, store: INodeStore, rate: int, days: float) -> None:
        self._clock = clock
        self._store = store
        self._rate = rate
        self._days = days
        self._walk = Periodic(clock, self.step, self._interval, "scrub")
        self._pass: _Pass | None = None
        self._pause = min(FIRST, days * DAY / 100)
        self._noted = clock.seconds()
        #: Whether there is a note on the disk; a small store needs none.
        self._is_noted = False
        self._complaint = Complaint(clock.seconds)

    def start(self) -> None:
        """Begin, if there is to be any scrub."""
        if self._rate > 0:
            self._walk.start(now=False)

    def stop(self) -> Deferred[None]:
        """End, and note where it has come to."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._walk.stop()
        if self._pass is not None and self._pass.cursor is not None:
            await self._note()

    def step(self) -> Deferred[None]:
        """Look at one slice; fires when done, whatever failed."""
        return Deferred.fromCoroutine(self._step())

    def _interval(self) -> float:
        return self._pause

    async def _step(self) -> None:
        try:
            if self._pass is None:
                self._pass = await self._begin()
            await self._slice(self._pass)
        except CorruptData as error:
            # The database itself; what can be read of it is still served.
            self._pause = EVERY
            if self._complaint.due():
                self._log.error("scrub: {why}", why=str(error))
        except StorageError as error:
            self._pause = LONGEST
            self._log.warn("scrub: {why}", why=str(error))

    async def _begin(self) -> _Pass:
        """Go on where the last process was, with the indexes looked at."""
        wrong: str = await self._store.check()
        if wrong:
            raise CorruptData(wrong)
        if self._complaint.over():
            self._log.info("scrub: the database is in order again")
        try:
            kept = await self._store.setting(SETTING)
            self._is_noted = bool(kept)
            return msgspec.msgpack.decode(kept, type=_Pass) if kept else _Pass()
        except (CorruptData, msgspec.DecodeError):
            # From the beginning, then.
            return _Pass()

    async def _slice(self, walk: _Pass) -> None:
        total: int = await self._store.total()
        part: Any = await self._store.scrub(walk.cursor, SLICE)
        walk.cursor = part.cursor
        walk.items += part.items
        walk.bytes += part.bytes
        walk.rotten += part.rotten
        self._pause = self._pause_after(part.bytes, total)
        if part.cursor is None:
            self._pause = max(SHORTEST, self._pause)
            self._log.info(
                "scrub: a pass over {items} things, {bytes} bytes: {rotten} had rotted",
                items=walk.items,
                bytes=walk.bytes,
                rotten=walk.rotten,
            )
            self._pass = None
            if self._is_noted:
                await self._store.keep_setting(SETTING, b"")
                self._is_noted = False
        elif self._clock.seconds() - self._noted >= NOTE:
            await self._note()

    def _pause_after(self, size: int, total: int) -> float:
        """Seconds until the next slice: the share of the pass's time that this
        one's share of all bytes is, but not faster than the rate."""
        share = self._days * DAY * size / total if total else self._days * DAY
        return max(size / self._rate, min(LONGEST, share))

    async def _note(self) -> None:
        self._noted = self._clock.seconds()
        try:
            await self._store.keep_setting(SETTING, msgspec.msgpack.encode(self._pass))
            self._is_noted = True
        except StorageError as error:
            self._log.debug("where scrub has come to could not be kept: {why}", why=error.what)
