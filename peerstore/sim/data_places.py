"""Which disk has what, as it is at each moment: watched from outside.

Told of every change of a disk's durable state (``SimDisk.watch``).  A copy
that a node removes must be on k other disks, or on all that there are: that
is looked at as it happens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from peerstore import ids
from peerstore.items import ItemKey, Kind

__all__ = ["Places", "key_on_disk"]

#: How the memory store names an item on its disk: "i" and 73 bytes.
_ITEM = 74


def key_on_disk(raw: bytes) -> ItemKey | None:
    """The item that a key of a disk names, or None for a setting."""
    if not raw.startswith(b"i") or len(raw) != _ITEM:
        return None
    return ItemKey(raw[1:21], raw[21:41], Kind(raw[41]), raw[42:])


class Places:
    """Disks by machine, and what they hold.

    :param violated: told the promise, and what was seen.
    :param copies: k.
    """

    def __init__(self, violated: Callable[[str, str], None], copies: int) -> None:
        self._violated = violated
        self._copies = copies
        self.holders: dict[ItemKey, set[str]] = {}
        #: Machines whose disk still counts; a retired one's does not.
        self.disks: set[str] = set()
        #: Disks lost since all was last on k hosts.
        self.lost = 0
        self.checks: Counter[str] = Counter()
        self._changing_disks = False

    def watcher(self, name: str) -> Callable[[bytes, bytes | None], None]:
        """For the disk of one machine: told of each durable change."""

        def changed(raw: bytes, value: bytes | None) -> None:
            key = key_on_disk(raw)
            if key is None:
                return
            holders = self.holders.setdefault(key, set())
            if value is not None:
                holders.add(name)
            elif name in holders:
                holders.discard(name)
                if not self._changing_disks:
                    self._removed(name, key)

        self.disks.add(name)
        return changed

    def lose(self, change: Callable[[], None]) -> None:
        """Disks change from outside: nobody removes anything, it is lost."""
        self._changing_disks = True
        change()
        self._changing_disks = False
        self.lost += 1

    def gone(self, name: str) -> None:
        """A machine, and its disk with it, is there no more."""
        self.disks.discard(name)

    def retired(self, name: str, others: int) -> None:
        """A machine is gone, since its node said that it may go.

        :param others: hosts that it could give everything to.
        """
        enough = max(1, min(self._copies, others) - self.lost)
        for key in self.held():
            if name in self.holders[key]:
                self.checks["retired"] += 1
                left = self.there(key) - {name}
                if len(left) < enough:
                    what = f"{key.kind.name} {key.element.hex()[:8]}"
                    self._violated("retired", f"{name} went with {what}, which {len(left)} of {others} others have")
        self.gone(name)

    def there(self, key: ItemKey) -> set[str]:
        """The machines that have an item."""
        return self.holders.get(key, set()) & self.disks

    def held(self) -> list[ItemKey]:
        """Everything that some disk has."""
        return [key for key in sorted(self.holders) if self.there(key)]

    def _removed(self, name: str, key: ItemKey) -> None:
        """By the node itself: who else has it?"""
        self.checks["dropped"] += 1
        others = self.there(key) - {name}
        # Whoever confirmed it may have lost its disk since.
        enough = min(self._copies, len(self.disks) - 1) - self.lost
        if len(others) < max(1, enough):
            what = f"{key.kind.name} {key.element.hex()[:8]}"
            self._violated("dropped", f"{name} removed its copy of {what}, which {len(others)} others have")


def wanted_at(key: ItemKey, positions: Iterable[tuple[int, str]], copies: int) -> list[str]:
    """The first *copies* machines, walking from a key.

    :param positions: ring id and machine of every position there is.
    """
    at = ids.from_bytes(key.ring_id)
    walk = sorted((ids.distance(at, position), name) for position, name in positions)
    return list(dict.fromkeys(name for _, name in walk))[:copies]


def misplaced(
    held: Mapping[ItemKey, set[str]], positions: Iterable[tuple[int, str]], copies: int
) -> tuple[list[tuple[ItemKey, str]], list[tuple[ItemKey, str]]]:
    """Copies that are missing, and copies that are left over: (key, machine) each."""
    missing, over = [], []
    places = list(positions)
    for key, machines in held.items():
        wanted = wanted_at(key, places, copies)
        missing += [(key, name) for name in wanted if name not in machines]
        over += [(key, name) for name in sorted(machines) if name not in wanted]
    return missing, over
