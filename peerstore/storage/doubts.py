"""What a store cannot vouch for: things that were here, and are not.

A node that has lost something to rot must not say "there is none" of it
before it has it back, or knows that nobody has it.  Until then every answer
about that place on the ring is in doubt.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable

from peerstore.items import ItemKey, Kind
from peerstore.storage.digests import arcs

__all__ = ["Doubts"]


class Doubts:
    """Kept in memory; the store notes on its disk what they are about."""

    def __init__(self) -> None:
        self._keys: dict[bytes, set[ItemKey]] = {}
        #: Their ring ids, sorted: a disk may have lost very many things, and
        #: each of many arcs is asked about.
        self._places: list[bytes] = []
        self._watching: list[Callable[[], None]] = []
        #: What is wrong with all of the store; empty when nothing is.
        self.broken = ""

    def add(self, keys: Iterable[ItemKey]) -> None:
        """These are rotten, or may be.  Chunks are nobody's doubt: whoever
        does not find one asks the next node."""
        for key in keys:
            if key.kind is not Kind.CHUNK:
                self._keys.setdefault(key.ring_id, set()).add(key)
        if len(self._keys) > len(self._places):
            self._places = sorted(self._keys)

    def clear(self, keys: Iterable[ItemKey]) -> None:
        """These are here, or nowhere."""
        for key in keys:
            at = self._keys.get(key.ring_id)
            if at is not None:
                at.discard(key)
                if not at:
                    del self._keys[key.ring_id]
                    del self._places[bisect_left(self._places, key.ring_id)]

    def at(self, ring_id: bytes) -> bool:
        """Whether something of this place is missing, or may be."""
        return bool(self.broken) or ring_id in self._keys

    def between(self, after: bytes, through: bytes) -> bool:
        """Whether something of a place in (after, through] is missing, or may
        be; equal ends are the whole circle."""
        places = self._places
        return bool(self.broken) or any(
            (bisect_left if inclusive else bisect_right)(places, low) < bisect_right(places, high)
            for low, inclusive, high in arcs(after, through)
        )

    def watch(self, callback: Callable[[], None]) -> None:
        """*callback* whenever something was found to be rotten."""
        self._watching.append(callback)

    def tell(self) -> None:
        """Call those who watch."""
        for callback in self._watching:
            callback()
