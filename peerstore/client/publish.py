"""Heads, then the entry that names them, in our device's chain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from twisted.internet.defer import DeferredLock

from peerstore.client.upload import check_outcomes
from peerstore.errors import Conflict
from peerstore.items import Item, ItemKey, Kind
from peerstore.transactions.chain import LoggedEntry
from peerstore.transactions.entry import MAX_OPERATIONS, Entry, Seen, entry_item, entry_of
from peerstore.wire.messages import Status

if TYPE_CHECKING:
    from peerstore.client.client import Change, Client
    from peerstore.client.state import Agreement

__all__ = ["Publisher"]

#: Bytes of names and vectors in one entry.
ENTRY_BYTES = 1024 * 1024


class Publisher:
    """Appends to this device's chain, one entry at a time.

    An entry is on our disk before it is on its way, so that its number is
    never given to another; it is certain before it counts as done.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._turn = DeferredLock()

    async def publish(self, changes: Sequence[Change], agreed: Sequence[Agreement] = (), root: bytes = b"") -> None:
        """Make *changes* certain, and log them, after what still waits; see
        ``Client.publish``.

        :raises peerstore.errors.Incomplete: when the ring took only part of
            it; what was logged stays pending and is sent again.
        """
        agreements = {(folder, path): now for folder, path, now in agreed}
        async with self._turn:
            await self._flush()
            for batch in _batches(changes):
                places = [(change.version.name.folder, change.version.name.path) for change in batch]
                made = [(*place, agreements[place]) for place in places if place in agreements]
                await self._publish(batch, made, root)

    async def flush(self) -> None:
        """Send again what earlier runs could not make certain."""
        async with self._turn:
            await self._flush()

    async def _flush(self) -> None:
        client = self._client
        for number, leaf, statement, head in await client.database.run(client.state.pending):
            item = Item(ItemKey(client.log_id, client.owner, Kind.LOG, leaf), statement, b"")
            try:
                last = msgspec.msgpack.decode(head, type=Item)
            except msgspec.DecodeError as error:
                raise client.state.damaged() from error
            check_outcomes((await client.gateway.put_heads([last]))[:1])
            await self._append(number, item)

    async def _publish(self, batch: Sequence[Change], agreed: Sequence[Agreement], root: bytes) -> None:
        client = self._client
        heads = [change.head for change in batch]
        if len(heads) > 1:
            check_outcomes(await client.gateway.put_heads(heads[:-1]))
        # The entry goes with the last head, whose node passes it on.
        entry = self._entry(batch)
        item = entry_item(client.log_id, entry)
        last = msgspec.msgpack.encode(heads[-1])
        await client.database.run(
            client.state.add_pending, entry.number, item.key.element, item.statement, last, agreed, root
        )
        logged = LoggedEntry(item.key.element, entry)
        client.log.add(logged)
        client.view.add(logged)
        outcomes = await client.gateway.put_heads(heads[-1:], [item])
        check_outcomes(outcomes[:1])
        if not outcomes[-1].certain:
            await self._append(entry.number, item)
        await client.database.run(client.state.settle, entry.number)

    async def _append(self, number: int, item: Item) -> None:
        client = self._client
        outcomes = await client.gateway.append([item])
        if outcomes[0].status == Status.GAP:
            outcomes = await client.gateway.append([*await self._chain_before(number), item])
            outcomes = outcomes[-1:]
        if outcomes[0].status == Status.REJECTED:
            raise Conflict(
                "Another computer has written as this one: its state was copied.",
                "Give this one a fresh home (--home), which makes it a device of its own.",
            )
        check_outcomes(outcomes)
        await client.database.run(client.state.settle, number)

    async def _chain_before(self, number: int) -> list[Item]:
        """Our own entries before *number*, for a node that lacks some."""
        client = self._client
        stored = await client.database.run(client.state.entries)
        items = [Item(ItemKey(client.log_id, client.owner, Kind.LOG, leaf), text, b"") for leaf, text in stored]
        ours = [(entry_of(item), item) for item in items]
        chain = [
            (entry.number, item) for entry, item in ours if entry.device == client.device and entry.number < number
        ]
        return [item for _, item in sorted(chain, key=lambda pair: pair[0])]

    def _entry(self, batch: Sequence[Change]) -> Entry:
        client = self._client
        heads = client.log.heads()
        seen = tuple(
            Seen(device, number, client.log.head_leaf(device))
            for device, number in heads.items()
            if device != client.device and number
        )
        return Entry(
            client.owner,
            client.device,
            heads.get(client.device, 0) + 1,
            client.log.head_leaf(client.device),
            max(client.lamport.tick(), max(change.version.clock for change in batch)),
            client.wall_ns(),
            seen,
            tuple(change.operation for change in batch),
        )


def _batches(changes: Sequence[Change]) -> list[list[Change]]:
    batches: list[list[Change]] = []
    size = ENTRY_BYTES
    for change in changes:
        cost = len(change.operation.sealed) + 200 + 32 * len(change.operation.vector)
        if size + cost > ENTRY_BYTES or len(batches[-1]) >= MAX_OPERATIONS:
            batches.append([])
            size = 0
        batches[-1].append(change)
        size += cost
    return batches
