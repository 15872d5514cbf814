"""Writes: to the owner of each key, in bounded batches, until certain."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from peerstore import ids
from peerstore.errors import Busy, PeerStoreError
from peerstore.gateway.ask import BULK_TIMEOUT, PASSING, ask, moved, status_of
from peerstore.gateway.lanes import Lanes
from peerstore.gateway.locate import Locator, Route
from peerstore.gateway.patience import Patience
from peerstore.gateway.results import UNSENT, Outcome
from peerstore.interfaces import IPeerPool
from peerstore.items import Item
from peerstore.util.together import all_of
from peerstore.wire.bodies import ItemOutcome, Posted
from peerstore.wire.messages import Status

__all__ = ["BATCH_BYTES", "BATCH_ITEMS", "Batch", "Writer", "batches", "outcome_from"]

#: One request's items: small enough that receiving, storing and copying
#: overlap, large enough that a disk flush is shared by many small items.
BATCH_BYTES = 2 * 1024 * 1024
BATCH_ITEMS = 256
#: Beside data and statement, an item costs about this much in a frame.
ITEM_OVERHEAD = 128

BodyOf = Callable[[tuple[Item, ...]], msgspec.Struct]


class Batch(NamedTuple):
    """Items of one request: their places in the caller's list, and bytes."""

    places: tuple[int, ...]
    size: int


def batches(places: Iterable[int], items: Sequence[Item]) -> list[Batch]:
    """Cut a list of places into requests of at most ``BATCH_BYTES`` (or one
    larger item) and ``BATCH_ITEMS``."""
    found: list[Batch] = []
    current: list[int] = []
    size = 0
    for place in places:
        cost = items[place].size + ITEM_OVERHEAD
        if current and (size + cost > BATCH_BYTES or len(current) >= BATCH_ITEMS):
            found.append(Batch(tuple(current), size))
            current, size = [], 0
        current.append(place)
        size += cost
    if current:
        found.append(Batch(tuple(current), size))
    return found


def outcome_from(told: ItemOutcome) -> Outcome:
    """An owner's answer about one item, in the gateway's terms."""
    status = Status(told.status) if told.status in Status._value2member_map_ else Status.INTERNAL
    certain = status is Status.OK and len(set(told.holders)) >= max(1, told.needed)
    return Outcome(status, told.holders, told.needed, certain, "" if certain else _why(status, told))


def _why(status: Status, told: ItemOutcome) -> str:
    if status is Status.OK:
        return f"Stored on {len(told.holders)} hosts so far; {told.needed} make it certain."
    return {
        Status.REJECTED: "The node judged it malformed or contradicted.",
        Status.GAP: "Earlier entries of this chain are missing there.",
        Status.QUOTA: "The owner's quota on that node is used up.",
        Status.NOT_RESPONSIBLE: "The ring is being rearranged.",
        Status.UNAVAILABLE: "None of the nodes that should keep it has room for it, or can write.",
        Status.NOT_READY: "The node is still fetching what it became responsible for.",
    }.get(status, f"The node answered {status.name}.")


class _Job(NamedTuple):
    """One call of :meth:`Writer.put`, with the outcomes so far."""

    method: str
    items: Sequence[Item]
    body_of: BodyOf
    outcomes: list[Outcome]
    extra: list[Outcome]
    in_order: bool


class Writer:
    """Sends items to the owners of their keys.

    :param pool: kept connections.
    :param locator: finds owners.
    :param lanes: bounds on what is in flight, shared by all writes.
    """

    def __init__(
        self, pool: IPeerPool, locator: Locator, lanes: Lanes, clock: IReactorTime, rng: random.Random
    ) -> None:
        self._pool = pool
        self._locator = locator
        self._lanes = lanes
        self._clock = clock
        self._rng = rng

    async def put(
        self,
        method: str,
        items: Sequence[Item],
        body_of: BodyOf,
        patience: float,
        extra: list[Outcome] | None = None,
        in_order: bool = False,
    ) -> list[Outcome]:
        """Store *items* by *method*; one outcome each, in order.

        Whatever is not certain is sent again, after a fresh lookup, until
        *patience* seconds are over: all writes are idempotent.  *extra* is
        filled with outcomes that an answer has beyond the items sent.  With
        *in_order*, a later item is never sent before an earlier one of the
        same host is certain: a chain's entries would seem to have gaps.
        """
        outcomes = [UNSENT] * len(items)
        waits = Patience(self._clock, self._rng, patience)
        pending = list(range(len(items)))
        job = _Job(method, items, body_of, outcomes, [] if extra is None else extra, in_order)
        while pending:
            hints = await self._send(job, pending)
            pending = [place for place in pending if not _settled(outcomes[place])]
            if pending and not await waits.pause(hints):
                break
        return outcomes

    async def _send(self, job: _Job, pending: Sequence[int]) -> float:
        """One pass over what is pending; the longest wait that a peer asked for."""
        routes = await self._routes(job, pending)
        by_host: dict[bytes, list[int]] = {}
        for place in pending:
            if place in routes:
                by_host.setdefault(routes[place].owner.fp, []).append(place)
        parcels = [batches(places, job.items) for places in by_host.values()]
        if job.in_order:
            sending = [Deferred.fromCoroutine(self._one_by_one(job, parcel, routes)) for parcel in parcels]
        else:
            sending = [
                Deferred.fromCoroutine(self._batch(job, batch, routes)) for parcel in parcels for batch in parcel
            ]
        return max(await all_of(sending), default=0.0)

    async def _one_by_one(self, job: _Job, parcel: Sequence[Batch], routes: dict[int, Route]) -> float:
        for batch in parcel:
            hint = await self._batch(job, batch, routes)
            if not all(job.outcomes[place].certain for place in batch.places):
                return hint
        return 0.0

    async def _routes(self, job: _Job, pending: Sequence[int]) -> dict[int, Route]:
        """Where each item goes: all of one key the same way, or a chain would
        be torn apart by a ring that changes in between."""
        found: dict[bytes, Route | PeerStoreError] = {}

        async def find(ring_id: bytes) -> None:
            try:
                found[ring_id] = await self._locator.locate(ids.from_bytes(ring_id))
            except PeerStoreError as error:
                found[ring_id] = error

        keys = dict.fromkeys(job.items[place].key.ring_id for place in pending)
        await all_of([Deferred.fromCoroutine(find(ring_id)) for ring_id in keys])
        routes: dict[int, Route] = {}
        for place in pending:
            told = found[job.items[place].key.ring_id]
            if isinstance(told, Route):
                routes[place] = told
            elif job.outcomes[place].status is not Status.OK:
                job.outcomes[place] = UNSENT._replace(why=str(told))
        return routes

    async def _batch(self, job: _Job, batch: Batch, routes: dict[int, Route]) -> float:
        owner = routes[batch.places[0]].owner
        try:
            async with self._lanes.room(owner.fp, batch.size):
                body = job.body_of(tuple(job.items[place] for place in batch.places))
                posted = await ask(self._pool, owner, job.method, body, Posted, BULK_TIMEOUT)
        except PeerStoreError as error:
            for place in batch.places:
                if job.outcomes[place].status is not Status.OK:
                    job.outcomes[place] = Outcome(status_of(error), (), 1, False, str(error))
                if moved(error):
                    self._locator.forget(routes[place])
            return error.retry_after if isinstance(error, Busy) else 0.0
        for place, told in zip(batch.places, posted.outcomes, strict=False):
            job.outcomes[place] = outcome_from(told)
            if not job.outcomes[place].certain:
                self._locator.forget(routes[place])
        job.extra[:] = [outcome_from(told) for told in posted.outcomes[len(batch.places) :]]
        return 0.0


def _settled(outcome: Outcome) -> bool:
    """Whether sending again could not help."""
    return outcome.certain or not (outcome.status is Status.OK or outcome.status in PASSING)
