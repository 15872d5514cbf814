"""Logs for tests of the transactions package: entries, names, histories."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from peerstore import ids
from peerstore.items import Item
from peerstore.transactions.chain import LoggedEntry
from peerstore.transactions.entry import (
    NO_ENTRY,
    Entry,
    NameRecord,
    Operation,
    OperationKind,
    entry_item,
    entry_of,
    pack_name,
)
from peerstore.vectors import EMPTY, Vector, advance, join
from tests.support.properties import DEVICES

__all__ = [
    "LOG_ID",
    "OWNER",
    "add_change",
    "delete",
    "entry",
    "histories",
    "logged",
    "logs",
    "update",
    "version_id",
]

OWNER = ids.key_id(b"an owner's key")
LOG_ID = ids.log_ring_id(b"an owner's key")


def version_id(number: int) -> bytes:
    """32 bytes, another for each number."""
    return number.to_bytes(32, "big")


def update(
    path: bytes,
    vector: Vector,
    version: bytes,
    clock: int = 1,
    folder: str = "home",
    kind: OperationKind = OperationKind.UPDATE,
    size: int = 3,
) -> Operation:
    """A version of a file."""
    name = NameRecord(folder, path, 1, size, 0, 0o644, bytes(32))
    return Operation(kind, ids.key_id(path), version, vector, clock, pack_name(name))


def delete(path: bytes, vector: Vector, version: bytes, clock: int = 1, folder: str = "home") -> Operation:
    """A tombstone."""
    name = NameRecord(folder, path, 0, 0, 0, 0, b"")
    return Operation(OperationKind.DELETE, ids.key_id(path), version, vector, clock, pack_name(name))


def entry(
    number: int,
    *operations: Operation,
    device: bytes = DEVICES[0],
    previous: bytes = b"",
    clock: int = 0,
    wall_ns: int = 0,
) -> LoggedEntry:
    """One entry; what it follows on is made up unless it is said."""
    before = previous or (NO_ENTRY if number == 1 else version_id(number - 1))
    return logged(entry_item(LOG_ID, Entry(OWNER, device, number, before, clock or number, wall_ns, (), operations)))


def logged(item: Item) -> LoggedEntry:
    """An item as the log holds it."""
    return LoggedEntry(item.key.element, entry_of(item))


@st.composite
def logs(draw: st.DrawFn, most: int = 12) -> list[LoggedEntry]:
    """Entries of up to three devices, with gaps and forks."""
    places = draw(st.lists(st.tuples(st.sampled_from(DEVICES), st.integers(1, 5), st.integers(1, 3)), max_size=most))
    return [entry(number, device=device, clock=clock) for device, number, clock in places]


def add_change(
    draw: st.DrawFn, device: bytes, counter: int, known: Sequence[Operation], paths: Sequence[bytes], version: int
) -> Operation:
    """One change that a device might make, having seen some of *known*."""
    path = draw(st.sampled_from(paths))
    here = [operation for operation in known if operation.resource == ids.key_id(path)]
    based_on = draw(st.lists(st.sampled_from(here), max_size=2)) if here else []
    vector = advance(join([operation.vector for operation in based_on] or [EMPTY]), device, counter)
    clock = draw(st.integers(1, 4))
    if draw(st.booleans()):
        return delete(path, vector, version_id(version), clock)
    return update(path, vector, version_id(version), clock, kind=draw(st.sampled_from(_STAYING)))


_STAYING = [OperationKind.UPDATE, OperationKind.MOVE]


@st.composite
def histories(draw: st.DrawFn, most: int = 10) -> list[LoggedEntry]:
    """Entries as three devices write them that now and then hear of each
    other: each change is derived from some of those before it."""
    entries: list[LoggedEntry] = []
    known: list[Operation] = []
    numbers = dict.fromkeys(DEVICES, 0)
    counters = dict.fromkeys(DEVICES, 0)
    for step in range(draw(st.integers(0, most))):
        device = draw(st.sampled_from(DEVICES))
        operations = []
        for at in range(draw(st.integers(1, 2))):
            counters[device] += 1
            operations.append(add_change(draw, device, counters[device], known, [b"a", b"b"], 100 * step + at))
        known.extend(operations)
        numbers[device] += 1
        entries.append(
            entry(
                numbers[device],
                *operations,
                device=device,
                clock=draw(st.integers(1, 20)),
                wall_ns=draw(st.integers(0, 5)),
            )
        )
    return entries
