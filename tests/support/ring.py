"""Small rings for tests: members with chosen ids, and the states between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from peerstore import ids
from peerstore.ring.member import Member
from peerstore.ring.position import PositionState

__all__ = ["eight", "fp_of", "ids_of", "ideal_state", "member", "members", "state"]

#: The circle of the exhaustive tests: 0 to 7 stand for ids spread evenly.
EIGHT = 8


def eight(number: int) -> int:
    """Id *number* of eight that lie evenly on the real circle."""
    return (number % EIGHT) * (ids.RING_SIZE // EIGHT)


def fp_of(number: int) -> bytes:
    """A fingerprint, another for each number."""
    return number.to_bytes(32, "big")


def member(number: int, host: int | None = None, incarnation: int = 1) -> Member:
    """The member at id *number* of the eight; of a host of its own, or of *host*."""
    fp = fp_of(number if host is None else host)
    return Member(eight(number), fp, 0, incarnation, f"tcp:127.0.0.1:{4000 + number}")


def members(numbers: Iterable[int]) -> tuple[Member, ...]:
    """Members at these numbers, in this order."""
    return tuple(member(number) for number in numbers)


def ids_of(entries: Iterable[Member]) -> list[int]:
    """Members as numbers of the eight."""
    return [entry.id // (ids.RING_SIZE // EIGHT) for entry in entries]


def state(me: int, successors: Sequence[int] = (), predecessor: int | None = None, size: int = 3) -> PositionState:
    """The state of the member at *me*, told in numbers."""
    before = member(predecessor) if predecessor is not None else None
    return PositionState(eight(me), size, before, members(successors))


def ideal_state(me: int, present: Iterable[int], size: int = 3) -> PositionState:
    """What the member at *me* should know in a ring of *present*."""
    others = sorted(present, key=lambda number: (number - me - 1) % EIGHT)
    others = [number for number in others if number != me]
    return state(me, others[:size], others[-1] if others else None, size)
