"""I11: every change of a member is one of the protocol's steps, applied to
an answer that it was given.

The steps are written down a second time here, from the rules
(Zave 2015, 2017, and DESIGN.md 5) and not from the code that is checked, over
plain ring ids.  Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from peerstore.ids import RING_SIZE

__all__ = ["Answer", "Evidence", "Step", "View", "cut", "explain", "explain_join"]


class View(NamedTuple):
    """One position as it stands: ring ids."""

    is_member: bool = False
    predecessor: int | None = None
    suspected: bool = False
    successors: tuple[int, ...] = ()


class Answer(NamedTuple):
    """A member's neighbours, as it told them to the host that asked."""

    member: int
    predecessor: int | None
    successors: tuple[int, ...]


class Step(NamedTuple):
    """One step of a lookup, as it was told."""

    member: int
    predecessor: int | None
    owns: bool
    final: bool
    successors: tuple[int, ...]


class Evidence(NamedTuple):
    """All that a position may act upon at one moment.

    *answers* and *steps*: what its host was told lately, and what its
    siblings would say; *notifiers*: who has said to be its predecessor;
    *gone*: for each host that just failed to answer, or leaves, its
    positions; *not_serving*: single positions whose host said that they do
    not serve; *siblings*: all positions of its own host.
    """

    answers: Sequence[Answer] = ()
    steps: Sequence[Step] = ()
    notifiers: Collection[int] = ()
    gone: Sequence[Collection[int]] = ()
    not_serving: Collection[int] = ()
    siblings: Sequence[int] = ()


def cut(me: int, entries: Iterable[int], size: int) -> tuple[int, ...]:
    """The front of *entries* that goes on and on from *me*, never round."""
    kept: list[int] = []
    reach = 0
    for entry in entries:
        step = (entry - me) % RING_SIZE
        if step <= reach or len(kept) == size:
            break
        kept.append(entry)
        reach = step
    return tuple(kept)


def explain(me: int, size: int, before: View, after: View, evidence: Evidence) -> str | None:
    """Which step leads from *before* to *after*; None when none does."""
    if before == after:
        return "nothing"
    if before.is_member and after.is_member:
        # A drop has its reason in the same event; asked for first, since an
        # older answer may say the same by chance.
        if _dropped(me, size, before, after, evidence):
            return "drop"
        if (before.predecessor, before.suspected) == (after.predecessor, after.suspected) and _took_a_list(
            me, size, before, after, evidence.answers
        ):
            return "list"
        if _rectified(me, size, before, after, evidence):
            return "rectify"
    return None


def _took_a_list(me: int, size: int, before: View, after: View, answers: Sequence[Answer]) -> bool:
    first = before.successors[0] if before.successors else None
    for answer in answers:
        member = answer.member
        new = cut(me, (member, *answer.successors), size)
        if member == first and after.successors == new:
            return True
        nearer = member != me and (first is None or 0 < (member - me) % RING_SIZE < (first - me) % RING_SIZE)
        if nearer and len(new) == 1:
            # It knows nobody behind it: those whom we know are kept.
            new = cut(me, (member, *before.successors), size)
        if nearer and after.successors == new:
            return True
    return False


def _dropped(me: int, size: int, before: View, after: View, evidence: Evidence) -> bool:
    siblings = [answer for answer in evidence.answers if answer.member in evidence.siblings]
    nearest = min(siblings, key=lambda sibling: (sibling.member - me) % RING_SIZE, default=None)
    for gone in (*evidence.gone, *([member] for member in evidence.not_serving)):
        left = tuple(entry for entry in before.successors if entry not in gone)
        predecessor, suspected = before.predecessor, before.suspected
        if predecessor is not None and predecessor in gone:
            suspected = True
        if not left:
            # The last resort is whoever is before us; without it we are alone.
            if predecessor is None or suspected:
                predecessor, suspected = None, False
                if nearest is not None:
                    # Not while a position of its own host stands.
                    left = cut(me, (nearest.member, *nearest.successors), size)
            else:
                left = (predecessor,)
        if after == View(True, predecessor, suspected, left):
            return True
    return False


def _rectified(me: int, size: int, before: View, after: View, evidence: Evidence) -> bool:
    new = after.predecessor
    if new is None or new == me or after.suspected or new not in evidence.notifiers:
        return False
    if not any(answer.member == new for answer in evidence.answers):
        return False
    present = before.predecessor
    free = present is None or before.suspected or present == new
    if not free and not 0 < (new - (present or 0)) % RING_SIZE < (me - (present or 0)) % RING_SIZE:
        return False
    return after.successors == (before.successors or (new,))


def explain_join(me: int, size: int, after: View, evidence: Evidence) -> str | None:
    """How a position that was no member came to stand as in *after*."""
    others = sorted((sibling for sibling in evidence.siblings if sibling != me), key=lambda at: (at - me) % RING_SIZE)
    if after == View(True, others[-1] if others else None, False, tuple(others)[:size]):
        return "alone"
    for step in evidence.steps:
        behind = step.successors
        alone = step.owns and step.predecessor is None and not behind
        if not (step.final or alone) or step.member == me:
            continue
        if behind and behind[0] == me:
            behind = behind[1:]
        elif behind and not 0 < (me - step.member) % RING_SIZE < (behind[0] - step.member) % RING_SIZE:
            continue
        if after == View(True, step.member, False, cut(me, behind or (step.member,), size)):
            return "join"
    return None
