"""One ring member's state, and Zave's steps on it as pure functions.

After P. Zave, "How to Make Chord Correct" (2015, 2017): every step uses the
answer to at most one remote question and changes only the member's own
state.  None of the published forms of Chord by its authors keeps the ring;
these steps do, while every member has a live entry in its list.

Lists are in ring order from the member on, without repeats, never contain
the member itself (they *stop at self*: a short ring has short lists), and
are cut at ``size``.

A predecessor that does not answer is *suspected*, not forgotten: others are
told of none, and the first notifier takes its place.  Until then the member
goes on claiming the keys behind it, which nobody else does.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from peerstore import ids
from peerstore.ring.member import Member

__all__ = [
    "PositionState",
    "adopted",
    "behind",
    "check_local",
    "drop_host",
    "drop_member",
    "is_better",
    "joined",
    "make_list",
    "owns",
    "rectified",
    "refreshed",
    "stabilized",
]


class PositionState(NamedTuple):
    """*me* is the ring id; *predecessor* None means that there is none;
    *suspected*, that it did not answer; *epoch* grows with each change of the
    others."""

    me: int
    size: int
    predecessor: Member | None = None
    successors: tuple[Member, ...] = ()
    epoch: int = 0
    suspected: bool = False

    @property
    def first(self) -> Member | None:
        """The first successor, if any."""
        return self.successors[0] if self.successors else None

    @property
    def told_predecessor(self) -> Member | None:
        """The predecessor, unless it is suspected: nobody is sent there."""
        return None if self.suspected else self.predecessor


def make_list(me: int, entries: Iterable[Member], size: int) -> tuple[Member, ...]:
    """The longest sound list that *entries* begin with.

    Stops at *me*, at a repeat, and where the order would wrap: an answer that
    was put together from two moments must not make a list that goes round.
    """
    kept: list[Member] = []
    for entry in entries:
        if len(kept) >= size or entry.id == me:
            break
        if kept and not ids.between(kept[-1].id, entry.id, me):
            break
        kept.append(entry)
    return tuple(kept)


def check_local(state: PositionState) -> None:
    """Assert what must hold of one member alone (invariants I7 and I8).

    :raises AssertionError: our own code is wrong; nothing remote can be.
    """
    assert make_list(state.me, state.successors, state.size) == state.successors, "a successor list is out of order"
    assert state.predecessor is None or state.predecessor.id != state.me, "a member precedes itself"
    assert state.predecessor is not None or not state.suspected, "nobody is suspected"


def joined(
    state: PositionState, before: Member, its_predecessor: Member | None, its_list: Iterable[Member]
) -> PositionState | None:
    """Join behind *before*, taking over its whole list (Zave 2017).

    Lists are full from the first moment: one pointer, filled up later, is
    one of the original bugs.  None when *before* turns out not to be the
    member just before us: look it up again.
    """
    behind = tuple(its_list)
    if before.id == state.me:
        return None
    if behind and behind[0].id == state.me:
        # It lists us already: we were here, crashed, and are coming back.
        behind = behind[1:]
    elif behind and not ids.between(before.id, state.me, behind[0].id):
        return None
    if not behind and its_predecessor is not None and its_predecessor.id != state.me:
        # It has lost everybody after it.
        return None
    # Only in a ring of one the member before us is also the one after us.  To
    # close a short list with it would pass over whoever is missing there.
    entries = behind or (before,)
    return _changed(state, before, make_list(state.me, entries, state.size))


def stabilized(
    state: PositionState, asked: Member, its_predecessor: Member | None, its_list: Iterable[Member]
) -> tuple[PositionState, Member | None]:
    """StabilizeFromSuccessor: take the first successor's list over.

    :return: the new state, and the successor's predecessor if it lies between
        us and it: the member to ask next, with :func:`adopted`.
    """
    if state.first is None or state.first.id != asked.id:
        return state, None
    entries = make_list(state.me, (asked, *its_list), state.size)
    new = _changed(state, state.predecessor, entries, state.suspected)
    if its_predecessor is None or its_predecessor.id == state.me:
        return new, None
    return new, its_predecessor if ids.between(state.me, its_predecessor.id, asked.id) else None


def adopted(state: PositionState, candidate: Member, its_list: Iterable[Member]) -> PositionState:
    """StabilizeFromPredecessor: *candidate* answered, and if it still lies
    between us and our first successor, it is our first successor now."""
    if candidate.id == state.me:
        return state
    if state.first is not None and not ids.between(state.me, candidate.id, state.first.id):
        return state
    entries = make_list(state.me, (candidate, *its_list), state.size)
    if len(entries) == 1:
        # A candidate that knows nobody yet must not cost us those we know.
        entries = make_list(state.me, (candidate, *state.successors), state.size)
    return _changed(state, state.predecessor, entries, state.suspected)


def is_better(state: PositionState, notifier: Member) -> bool:
    """Whether *notifier* would be the better predecessor, if it lives."""
    present = state.predecessor
    if notifier.id == state.me:
        return False
    return present is None or present.id == notifier.id or ids.between(present.id, notifier.id, state.me)


def rectified(state: PositionState, notifier: Member, predecessor_alive: bool) -> PositionState:
    """Rectify: *notifier* says that it may be our predecessor, and answers.

    :param predecessor_alive: what was just learned of the present one; it is
        only asked when the notifier is not the better one anyway.
    """
    if notifier.id == state.me:
        return state
    if not is_better(state, notifier) and predecessor_alive and not state.suspected:
        return state
    successors = state.successors or make_list(state.me, (notifier,), state.size)
    return _changed(state, notifier, successors)


def drop_host(state: PositionState, fp: bytes) -> PositionState:
    """A host does not answer: none of its positions is kept.

    The rest of the list moves up; its tail is never taken for proof of life.
    A predecessor is suspected from then on.  With nobody after us, either, we
    are alone, and it is forgotten.
    """
    return _without(state, lambda entry: entry.fp == fp)


def drop_member(state: PositionState, member: int) -> PositionState:
    """One position does not serve (its host does): it is not kept."""
    return _without(state, lambda entry: entry.id == member)


def _without(state: PositionState, gone: Callable[[Member], bool]) -> PositionState:
    predecessor = state.predecessor
    suspected = predecessor is not None and (state.suspected or gone(predecessor))
    successors = tuple(entry for entry in state.successors if not gone(entry))
    if not successors:
        # All that we knew after us is gone.  Whoever is before us may know
        # more; and if it is gone, too, there is nobody else.
        if predecessor is None or suspected:
            return _changed(state, None, ())
        successors = (predecessor,)
    return _changed(state, predecessor, successors, suspected)


def refreshed(state: PositionState, current: Member) -> PositionState:
    """A host came back with a new incarnation or address: never two entries."""

    def renew(entry: Member) -> Member:
        if entry.fp != current.fp or entry.incarnation >= current.incarnation:
            return entry
        return msgspec.structs.replace(entry, incarnation=current.incarnation, address=current.address)

    predecessor = renew(state.predecessor) if state.predecessor is not None else None
    return state._replace(predecessor=predecessor, successors=tuple(renew(entry) for entry in state.successors))


def owns(state: PositionState, key: int) -> bool:
    """Whether *key* lies in (predecessor, me].

    Without a predecessor nothing is claimed, unless there is nobody else.
    """
    if state.predecessor is None:
        return not state.successors
    return ids.in_half_open(state.predecessor.id, key, state.me)


def behind(state: PositionState, key: int) -> tuple[Member, ...]:
    """That part of the list which comes after *key*, if it reaches so far:
    the first of it probably owns the key."""
    for place, (low, high) in enumerate(itertools.pairwise((state.me, *(entry.id for entry in state.successors)))):
        if ids.in_half_open(low, key, high):
            return state.successors[place:]
    return ()


def _changed(
    state: PositionState, predecessor: Member | None, successors: tuple[Member, ...], suspected: bool = False
) -> PositionState:
    new = state._replace(predecessor=predecessor, successors=successors, suspected=suspected)
    check_local(new)
    return new._replace(epoch=state.epoch + (_told(state) != _told(new)))


def _told(state: PositionState) -> tuple[object, ...]:
    """What others are told of a state: who, not where or since when."""
    before = state.predecessor.id if state.predecessor is not None else None
    return before, state.suspected, [entry.id for entry in state.successors]
