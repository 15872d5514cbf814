"""Who holds what, all round the circle; pure.

The keys of an arc belong to the first k hosts, walking the circle from it on.
A host that has only just gone still counts among them: most come back, and to
copy all that it held would be for nothing.  Meanwhile the others of the k are
enough, unless they are fewer than W: then those that follow stand in at once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from peerstore import ids

__all__ = ["Place", "Share", "in_order", "share_of", "shares"]

Place = tuple[int, bytes]
"""A position on the circle and the fingerprint of its host."""


class Share(NamedTuple):
    """(after, through] and its holders; equal ends are the whole circle.

    *holders* are the first k hosts, those that are away for a moment
    included; *now* are the live ones that are to have everything at present,
    in order from the arc on; *next* is the first live host behind them, empty
    when there is none.
    """

    after: int
    through: int
    holders: tuple[bytes, ...]
    now: tuple[bytes, ...]
    next: bytes

    def concerns(self, fp: bytes) -> bool:
        """Whether that host holds these keys, or is to."""
        return fp in self.now or fp in self.holders


def shares(places: Sequence[Place], away: frozenset[bytes], copies: int, needed: int) -> list[Share]:
    """The circle in arcs, clockwise.

    :param places: all positions of hosts that live or are away, sorted.
    :param away: hosts that have gone, and may come back.
    :param needed: W.
    """
    found = []
    # Apart, or where nearly all are away each place would be a walk past them.
    present = [place for place in places if place[1] not in away]
    for number, (through, _) in enumerate(places):
        holders = _first(places, number, copies)
        live = _first(present, bisect_left(present, places[number]), copies + 1)
        now = [fp for fp in holders if fp not in away]
        if len(now) < needed:
            now = live[:copies]
        behind = next((fp for fp in live if fp not in now), b"")
        found.append(Share(places[number - 1][0], through, tuple(holders), tuple(now), behind))
    return found


def _first(places: Sequence[Place], start: int, count: int) -> list[bytes]:
    """The first *count* hosts, walking from one of *places* on."""
    found: dict[bytes, None] = {}
    for step in range(len(places)):
        found[places[(start + step) % len(places)][1]] = None
        if len(found) >= count:
            break
    return list(found)


def share_of(found: Sequence[Share], key: int) -> Share | None:
    """The one that *key* lies in; None where there is nobody at all."""
    if not found:
        return None
    return found[bisect_left(found, key, key=lambda share: share.through) % len(found)]


def in_order(found: Sequence[Share]) -> list[tuple[int, int]]:
    """Arcs that follow on each other, made one: fewer questions to ask."""
    joined: list[tuple[int, int]] = []
    for share in found:
        if joined and joined[-1][1] == share.after and not ids.in_half_open(share.after, joined[-1][0], share.through):
            joined[-1] = (joined[-1][0], share.through)
        else:
            joined.append((share.after, share.through))
    return joined
