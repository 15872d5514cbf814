"""Every step, in every state that a member of a circle of eight can be in.

What must come out is written down a second time here: over plain distances
from the member, and from the rules rather than from the code.  Lists have up
to two entries (r = 2); the circle looks the same from everywhere, so the
member sits at 3, where ids wrap in the middle of its lists.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from twisted.trial.unittest import SynchronousTestCase

from peerstore.ring import position as steps
from peerstore.ring.member import Member
from peerstore.ring.position import PositionState
from tests.support.ring import EIGHT, eight, fp_of, member

ME = 3
SIZE = 2
OTHERS = range(1, EIGHT)
#: All sound lists, as distances from whoever has them.
LISTS = [entries for count in range(SIZE + 1) for entries in itertools.combinations(OTHERS, count)]
#: All that can be told of a predecessor: a distance, or nobody.
BEFORE = [None, *OTHERS]
#: Enough of them where the step has nothing to do with it.
ANY_BEFORE = [None, 6]

#: Distances: predecessor, whether it is suspected, list.
Local = tuple[int | None, bool, tuple[int, ...]]


MEMBERS = [member((ME + distance) % EIGHT) for distance in range(EIGHT)]


def at(distance: int) -> Member:
    """The member so far on from ME."""
    return MEMBERS[distance % EIGHT]


def states(predecessors: Sequence[int | None] = BEFORE) -> Iterator[tuple[Local, PositionState]]:
    """All states that a member can be in, 435 of them, or those with these
    predecessors."""
    for before, suspected, entries in itertools.product(predecessors, (False, True), LISTS):
        if before is None and suspected:
            continue
        predecessor = at(before) if before is not None else None
        successors = tuple(at(entry) for entry in entries)
        yield (before, suspected, entries), PositionState(eight(ME), SIZE, predecessor, successors, 0, suspected)


def seen(state: PositionState) -> Local:
    """A state as distances."""

    def distance(entry: Member) -> int:
        return (entry.id // eight(1) - ME) % EIGHT

    before = distance(state.predecessor) if state.predecessor is not None else None
    return before, state.suspected, tuple(distance(entry) for entry in state.successors)


def told(whose: int, entries: tuple[int, ...]) -> tuple[int, ...]:
    """A list of the member *whose* distance that is, as distances from ME."""
    return tuple((whose + entry) % EIGHT for entry in entries)


def cut(entries: tuple[int, ...]) -> tuple[int, ...]:
    """What of it ME can keep: up to itself, never back, two at most."""
    kept: list[int] = []
    for entry in entries:
        if entry <= (kept[-1] if kept else 0):
            break
        kept.append(entry)
    return tuple(kept[:SIZE])


class StepTests(SynchronousTestCase):
    """One test for each step."""

    def check(self, after: PositionState, expected: Local, before: PositionState, *what: object) -> None:
        """It is as expected; and the epoch says whether others see a change."""
        self.assertEqual(seen(after), expected, (seen(before), *what))
        self.assertEqual(after.epoch, before.epoch + (seen(after) != seen(before)), (seen(before), *what))

    def test_all_states(self) -> None:
        """As many as there should be, each sound."""
        count = 0
        for _, state in states():
            steps.check_local(state)
            count += 1
        self.assertEqual(count, (1 + 7 * 2) * (1 + 7 + 21))

    def test_join(self) -> None:
        """Behind each member, whatever it tells: its whole list, if we lie
        between it and its first; ourselves in it are an old life of ours."""
        fresh = PositionState(eight(ME), SIZE)
        for distance, its_predecessor, its_list in itertools.product(OTHERS, BEFORE, LISTS):
            before = at(its_predecessor) if its_predecessor is not None else None
            theirs = told(distance, its_list)
            new = steps.joined(fresh, at(distance), before, [at(entry) for entry in theirs])
            behind = theirs[1:] if theirs[:1] == (0,) else theirs
            # How far it is from that member to us, and to its first.
            ours, first = EIGHT - distance, its_list[0] if its_list else EIGHT
            knows_nobody = not behind and its_predecessor is not None
            if first < ours or knows_nobody:
                self.assertIsNone(new, (distance, its_predecessor, its_list))
            else:
                assert new is not None, (distance, its_predecessor, its_list)
                self.check(new, (distance, False, cut(behind or (distance,))), fresh, distance, its_list)

    def test_joining_behind_ourselves(self) -> None:
        """Never."""
        fresh = PositionState(eight(ME), SIZE)
        for its_list in LISTS:
            self.assertIsNone(steps.joined(fresh, at(0), None, [at(entry) for entry in its_list]))

    def test_stabilize(self) -> None:
        """The first successor and its list; the member between, if it names
        one.  An answer of anybody else changes nothing."""
        for (before, suspected, entries), state in states(ANY_BEFORE):
            for asked, its_list in itertools.product(OTHERS, LISTS):
                theirs = told(asked, its_list)
                for its_predecessor in (None, 0, asked - 1, 7):
                    named = at(its_predecessor) if its_predecessor is not None else None
                    new, candidate = steps.stabilized(state, at(asked), named, [at(entry) for entry in theirs])
                    if entries[:1] != (asked,):
                        self.assertEqual((new, candidate), (state, None))
                        continue
                    self.check(new, (before, suspected, cut((asked, *theirs))), state, asked, its_list)
                    lies_between = its_predecessor is not None and 0 < its_predecessor < asked
                    self.assertEqual(candidate, named if lies_between else None)

    def test_adopt(self) -> None:
        """A candidate nearer than the first successor, and its list; one that
        knows nobody after it is put before those that we know."""
        for (before, suspected, entries), state in states(ANY_BEFORE):
            for candidate, its_list in itertools.product(range(EIGHT), LISTS):
                theirs = told(candidate, its_list)
                new = steps.adopted(state, at(candidate), [at(entry) for entry in theirs])
                wanted = entries
                if 0 < candidate < (entries[0] if entries else EIGHT):
                    wanted = cut((candidate, *theirs))
                    if wanted == (candidate,):
                        wanted = cut((candidate, *entries))
                self.check(new, (before, suspected, wanted), state, candidate, its_list)

    def test_rectify(self) -> None:
        """A nearer notifier, or one that is as near; any at all in place of
        one that is gone.  Who has nobody after it takes it there, too."""
        for (before, suspected, entries), state in states():
            for notifier, alive in itertools.product(range(EIGHT), (True, False)):
                new = steps.rectified(state, at(notifier), alive)
                better = notifier != 0 and (before is None or notifier >= before)
                self.assertEqual(steps.is_better(state, at(notifier)), better)
                if notifier and (better or suspected or not alive):
                    self.check(new, (notifier, False, entries or (notifier,)), state, notifier, alive)
                else:
                    self.check(new, (before, suspected, entries), state, notifier, alive)

    def test_drop(self) -> None:
        """It is out of the list; a predecessor is suspected.  With nobody
        left after us the predecessor is, unless it is suspected itself."""
        for (before, suspected, entries), state in states():
            for gone in range(EIGHT):
                rest = tuple(entry for entry in entries if entry != gone)
                doubtful = suspected or (before is not None and before == gone)
                if rest:
                    wanted: Local = (before, doubtful, rest)
                elif before is None or doubtful:
                    wanted = (None, False, ())
                else:
                    wanted = (before, False, (before,))
                for new in (
                    steps.drop_host(state, fp_of((ME + gone) % EIGHT)),
                    steps.drop_member(state, at(gone).id),
                ):
                    self.check(new, wanted, state, gone)

    def test_own(self) -> None:
        """From the predecessor on, suspected or not; all, when there is
        nobody; nothing, when there is and we do not know whom."""
        for (before, _, entries), state in states():
            for key in range(EIGHT):
                claimed = not entries if before is None else key == 0 or key > before
                self.assertEqual(steps.owns(state, at(key).id), claimed, (seen(state), key))

    def test_behind(self) -> None:
        """That part of the list which begins at or after the key."""
        for (_, _, entries), state in states():
            for key in range(EIGHT):
                rest = tuple(at(entry) for entry in entries if entry >= key) if key else ()
                self.assertEqual(steps.behind(state, at(key).id), rest, (seen(state), key))
