"""One log: the chains of all devices, merged by union.

Merging never chooses: what two replicas hold is what both hold afterwards.
Where a device's chain forks (two entries at one number), both branches stay,
as proof and as content.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from peerstore.errors import BadMessage
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
        numbers = self._chains.setdefault(logged.entry.device, {})
        numbers.setdefault(logged.entry.number, []).append(logged.leaf)
        numbers[logged.entry.number].sort()
        return True

    def add_items(self, items: Iterable[Item]) -> list[LoggedEntry]:
        """Check and take in entries as they are stored; those that were new.

        :raises peerstore.errors.BadMessage: for one that does not fit.
        """
        new = []
        for item in items:
            logged = LoggedEntry(item.key.element, entry_of(item))
            if self.add(logged):
                new.append(logged)
        return new

    def heads(self) -> Mapping[bytes, int]:
        """{device: the number up to which its chain has no gap}."""
        return {device: self._whole(numbers) for device, numbers in sorted(self._chains.items())}

    def head_leaf(self, device: bytes) -> bytes:
        """The leaf that the device's next entry must name as its previous."""
        numbers = self._chains.get(device, {})
        last = self._whole(numbers)
        return numbers[last][0] if last else NO_ENTRY

    def forks(self) -> list[Fork]:
        """Every number at which a device has more than one entry."""
        return [
            Fork(device, number, tuple(leaves))
            for device, numbers in sorted(self._chains.items())
            for number, leaves in sorted(numbers.items())
            if len(leaves) > 1
        ]

    def check_links(self, logged: LoggedEntry) -> None:
        """Refuse an entry whose predecessor is here and is another.

        :raises peerstore.errors.BadMessage: when the chain does not hold.
        """
        before = self._chains.get(logged.entry.device, {}).get(logged.entry.number - 1)
        if before and logged.entry.previous not in before:
            raise BadMessage("a log entry names another entry as the one before it.")

    def ordered(self) -> list[LoggedEntry]:
        """All entries in the total order, the same everywhere."""
        return sorted(self._entries.values(), key=order)

    @staticmethod
    def _whole(numbers: Mapping[int, list[bytes]]) -> int:
        last = 0
        while last + 1 in numbers:
            last += 1
        return last
