"""Small, sound items of every kind, for tests of what stores and moves them."""

from __future__ import annotations

import random
from collections.abc import Sequence

from peerstore import ids
from peerstore.files.chunk import chunk_item, seal_chunk
from peerstore.files.head import head_item
from peerstore.items import Item
from peerstore.transactions.entry import NO_ENTRY, Entry, Operation, OperationKind, entry_item

__all__ = ["DEVICE", "OWNER", "a_chain", "a_chunk", "a_head", "a_large_entry", "an_entry", "log_id"]

OWNER = ids.key_id(b"an owner's key")
DEVICE = b"D" * 16


def a_chunk(number: int, size: int = 600, owner: bytes = OWNER) -> Item:
    """A chunk of *size* incompressible bytes, another for each number."""
    return chunk_item(owner, seal_chunk(random.Random(number).randbytes(size)), 1)


def a_head(
    number: int, counter: int = 1, data: bytes | None = b"a manifest", owner: bytes = OWNER, device: bytes = DEVICE
) -> Item:
    """Version *counter* of resource *number*; each replaces the one before."""
    resource = ids.key_id(b"resource %d" % number)
    return head_item(owner, resource, ((device, counter),), counter, device, 0, data)


def log_id(owner: bytes = OWNER) -> bytes:
    """Where that owner's log is, in these tests."""
    return ids.key_id(owner + b"-log")


def an_entry(number: int, previous: bytes = NO_ENTRY, device: bytes = DEVICE, wall: int = 0) -> Item:
    """Entry *number* of a device's chain, following on *previous*."""
    return entry_item(log_id(), Entry(OWNER, device, number, previous, number, wall, (), ()))


def a_chain(count: int, device: bytes = DEVICE, start: Sequence[Item] = ()) -> list[Item]:
    """*count* more entries that follow on each other."""
    chain = list(start)
    for _ in range(count):
        before = chain[-1].key.element if chain else NO_ENTRY
        chain.append(an_entry(len(chain) + 1, before, device))
    return chain[len(start) :]


def a_large_entry(number: int, previous: bytes = NO_ENTRY, size: int = 1_200_000, device: bytes = DEVICE) -> Item:
    """An entry of about *size* bytes, as those of many long names are."""
    count = size // 12_000 + 1
    operation = Operation(OperationKind.UPDATE, bytes(20), bytes(32), ((device, 1),), 1, bytes(size // count))
    return entry_item(log_id(), Entry(OWNER, device, number, previous, number, 0, (), (operation,) * count))
