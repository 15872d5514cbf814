"""What we took, and fewer than W others have: kept in mind until they do."""

from __future__ import annotations

from peerstore import ids
from peerstore.items import ItemKey
from peerstore.node.duty import Share

__all__ = ["Debts", "MOST"]

#: More than this, and the oldest are left to the rounds that compare everything.
MOST = 10_000


class Debts:
    """Keys of copies that are still owed to others.

    Only a hint, in memory: whoever sent such a thing was told that it is not
    certain, and sends it again.
    """

    def __init__(self) -> None:
        self._keys: dict[ItemKey, None] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def owe(self, key: ItemKey) -> None:
        """Too few have this."""
        self._keys[key] = None
        if len(self._keys) > MOST:
            del self._keys[next(iter(self._keys))]

    def paid(self, key: ItemKey) -> None:
        """Enough have it."""
        self._keys.pop(key, None)

    def paid_in(self, share: Share) -> None:
        """All holders of a share have all of it."""
        for key in [
            key for key in self._keys if ids.in_half_open(share.after, ids.from_bytes(key.ring_id), share.through)
        ]:
            del self._keys[key]

    def all(self) -> list[ItemKey]:
        """All, oldest first."""
        return list(self._keys)
