"""One log: the chains of all devices, merged by union.

Merging never chooses: what two replicas hold is what both hold afterwards.
Where a device's chain forks (two entries at one number), both branches stay,
as proof and as content.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from peerstore.items import Item
from peerstore.transactions.entry import NO_ENTRY, Entry, entry_of

__all__ = ["Fork", "Log", "LoggedEntry", "order"]


class LoggedEntry(NamedTuple):
    """An entry with its 32-byte leaf."""

    leaf: bytes
    entry: Entry


class Fork(NamedTuple):
    """Two entries of one device at one number: the device was copied."""

    device: bytes
    number: int
    leaves: tuple[bytes, ...]


def order(logged: LoggedEntry) -> tuple[int, bytes, int, bytes]:
    """The total order of all entries: (clock, device, number, leaf)."""
    return (logged.entry.clock, logged.entry.device, logged.entry.number, logged.leaf)


class Log:
    """A set of entries of one owner's log.

    Feeding it the same entries in any order, any number of times, gives the
    same log: union is commutative, associative and idempotent.
    """

    def __init__(self, entries: Iterable[LoggedEntry] = ()) -> None:
        self._entries: dict[bytes, LoggedEntry] = {}
        self._chains: dict[bytes, dict[int, list[bytes]]] = {}
        #: device -> the number up to which its chain has no gap.
        self._ends: dict[bytes, int] = {}
        for logged in entries:
            self.add(logged)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, leaf: bytes) -> bool:
        return leaf in self._entries

    def add(self, logged: LoggedEntry) -> bool:
        """Take an entry in; false when it was there."""
        if logged.leaf in self._entries:
            return False
        self._entries[logged.leaf] = logged
        device = logged.entry.device
        numbers = self._chains.setdefault(device, {})
        insort(numbers.setdefault(logged.entry.number, []), logged.leaf)
        end = self._ends.get(device, 0)
        while end + 1 in numbers:
            end += 1
        self._ends[device] = end
        return True

    def add_items(self, items: Iterable[Item]) -> list[LoggedEntry]:
        """Check and take in entries as they are stored; those that were new.

        :raises peerstore.errors.BadMessage: for one that does not fit, and
            then none of them was taken in.
        """
        checked = [LoggedEntry(item.key.element, entry_of(item)) for item in items]
        return [logged for logged in checked if self.add(logged)]

    def heads(self) -> Mapping[bytes, int]:
        """{device: the number up to which its chain has no gap}."""
        return {device: self._ends[device] for device in sorted(self._ends)}

    def head_leaf(self, device: bytes) -> bytes:
        """The leaf that the device's next entry must name as its previous."""
        last = self._ends.get(device, 0)
        return self._chains[device][last][0] if last else NO_ENTRY

    def forks(self) -> list[Fork]:
        """Every number at which a device has more than one entry."""
        return [
            Fork(device, number, tuple(leaves))
            for device, numbers in sorted(self._chains.items())
            for number, leaves in sorted(numbers.items())
            if len(leaves) > 1
        ]

    def ordered(self) -> list[LoggedEntry]:
        """All entries in the total order, the same everywhere."""
        return sorted(self._entries.values(), key=order)
