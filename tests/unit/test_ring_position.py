"""Zave's steps, one by one, on a circle of eight."""

from __future__ import annotations

import itertools

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.ring import position as steps
from peerstore.ring.position import PositionState
from tests.support.ring import EIGHT, eight, fp_of, ideal_state, ids_of, member, members, state

NUMBERS = st.integers(0, EIGHT - 1)
LISTS = st.lists(NUMBERS, max_size=6)
quick = settings(deadline=None, derandomize=True, max_examples=300)

#: Every ring of two to five members that 0 belongs to.
RINGS = [(0, *rest) for count in range(1, 5) for rest in itertools.combinations(range(1, EIGHT), count)]


def is_sound(me: int, entries: tuple[int, ...]) -> bool:
    """Whether *entries* are met one after the other, going once round from *me*."""
    steps_from_me = [(entry - me) % EIGHT for entry in entries]
    return 0 not in steps_from_me and steps_from_me == sorted(set(steps_from_me))


class ListTests(SynchronousTestCase):
    """A list stops where it would stop to be one."""

    def test_all_short_sequences(self) -> None:
        """For every sequence of up to four of eight: the longest sound list
        that it begins with, cut at r."""
        for me in (0, 3, 7):
            for length in range(5):
                for entries in itertools.product(range(EIGHT), repeat=length):
                    made = ids_of(steps.make_list(eight(me), members(entries), 3))
                    self.assertEqual(tuple(made), entries[: len(made)])
                    self.assertTrue(is_sound(me, tuple(made)))
                    if len(made) < min(3, length):
                        self.assertFalse(is_sound(me, entries[: len(made) + 1]))

    @quick
    @given(NUMBERS, LISTS, st.integers(1, 4))
    def test_a_list_is_its_own_list(self, me: int, entries: list[int], size: int) -> None:
        """What was cut once is not cut again."""
        once = steps.make_list(eight(me), members(entries), size)
        self.assertEqual(steps.make_list(eight(me), once, size), once)
        self.assertLessEqual(len(once), size)

    def test_check_local_sees_each_fault(self) -> None:
        """Order, repeats, ourselves in the list, ourselves before us."""
        good = state(0, (2, 4), 6)
        steps.check_local(good)
        for entries in ((4, 2), (2, 2), (2, 0), (0,)):
            self.assertRaises(AssertionError, steps.check_local, good._replace(successors=members(entries)))
        self.assertRaises(AssertionError, steps.check_local, good._replace(predecessor=member(0)))
        self.assertRaises(AssertionError, steps.check_local, state(0)._replace(suspected=True))


class JoinTests(SynchronousTestCase):
    """Joining takes a whole list over, from just the member before."""

    def test_into_every_ring_at_every_place(self) -> None:
        """Between any two neighbours: the predecessor is right at once, and
        the list is full, or names everybody but the one before us."""
        for present in RINGS:
            for me in set(range(EIGHT)) - set(present):
                wanted = ideal_state(me, (*present, me))
                before = ids_of([wanted.predecessor])[0] if wanted.predecessor else 0
                theirs = ideal_state(before, present)
                new = steps.joined(state(me), member(before), theirs.predecessor, theirs.successors)
                others = tuple(entry for entry in wanted.successors if entry != wanted.predecessor)
                self.assertEqual((new.predecessor, new.successors), (wanted.predecessor, others or wanted.successors))

    def test_behind_a_wrong_member_is_refused(self) -> None:
        """Whoever is not just before us is not joined behind: look up again."""
        for present in RINGS:
            for me in set(range(EIGHT)) - set(present):
                right = ids_of([ideal_state(me, (*present, me)).predecessor])[0]
                for wrong in set(present) - {right}:
                    theirs = ideal_state(wrong, present)
                    joined = steps.joined(state(me), member(wrong), theirs.predecessor, theirs.successors)
                    self.assertIsNone(joined)

    def test_behind_a_lone_member(self) -> None:
        """The one is both before and after us."""
        new = steps.joined(state(3), member(6), None, ())
        self.assertEqual((new.predecessor, new.successors), (member(6), (member(6),)))

    def test_behind_ourselves_is_refused(self) -> None:
        """Our own old place is no neighbour."""
        self.assertIsNone(steps.joined(state(3), member(3), member(1), members([5])))

    def test_coming_back_to_a_list_that_names_us(self) -> None:
        """The member before us has not noticed that we were gone."""
        new = steps.joined(state(2), member(0), member(6), members([2, 4, 6]))
        self.assertEqual(new.predecessor, member(0))
        self.assertEqual(ids_of(new.successors), [4, 6])

    def test_coming_back_to_a_ring_of_two(self) -> None:
        """It thinks that we are before and after it."""
        new = steps.joined(state(2), member(0), member(2), members([2]))
        self.assertEqual((new.predecessor, new.successors), (member(0), (member(0),)))

    def test_a_short_list_of_a_long_ring_is_not_closed(self) -> None:
        """The member before us has lost part of its list: those that are
        missing there are not passed over by putting it after its last; not
        even where it believes that the last is just before it."""
        for its_predecessor in (7, 2):
            new = steps.joined(state(1), member(0), member(its_predecessor), members([2]))
            self.assertEqual(ids_of(new.successors), [2])

    def test_a_member_that_knows_nobody_after_us_is_not_ready_for_us(self) -> None:
        """Its list names only our old self, but somebody else is before it."""
        self.assertIsNone(steps.joined(state(2), member(0), member(6), members([2])))


class StabilizeTests(SynchronousTestCase):
    """Our first successor's list becomes ours."""

    def test_takes_the_list_over(self) -> None:
        """Itself, and what is after it, cut at r and at ourselves."""
        new, candidate = steps.stabilized(state(0, (2, 3, 4), 6), member(2), member(0), members([4, 6, 0]))
        self.assertEqual(ids_of(new.successors), [2, 4, 6])
        self.assertIsNone(candidate)

    def test_a_member_between_us_is_the_one_to_ask(self) -> None:
        """For every predecessor that it names: those between us, no others."""
        for named in range(EIGHT):
            _, candidate = steps.stabilized(state(0, (4,), 6), member(4), member(named), members([6]))
            self.assertEqual(candidate, member(named) if named in (1, 2, 3) else None)

    def test_no_predecessor_no_candidate(self) -> None:
        """It may not know who is before it."""
        self.assertIsNone(steps.stabilized(state(0, (4,), 6), member(4), None, ())[1])

    def test_an_answer_from_another_than_our_first_changes_nothing(self) -> None:
        """The basis has changed since it was asked."""
        before = state(0, (2, 4), 6)
        self.assertEqual(steps.stabilized(before, member(4), member(3), members([6])), (before, None))
        nobody = state(0)
        self.assertEqual(steps.stabilized(nobody, member(4), member(3), ()), (nobody, None))

    def test_leaves_the_predecessor_alone(self) -> None:
        """Only the list is taken over; a suspicion stands."""
        before = steps.drop_host(state(0, (2, 4), 6), fp_of(6))
        new, _ = steps.stabilized(before, member(2), member(0), members([4, 6]))
        self.assertEqual((new.predecessor, new.suspected), (member(6), True))

    def test_repeats_nothing(self) -> None:
        """Asked again, with the same answer, nothing changes, nor the epoch."""
        one, _ = steps.stabilized(state(0, (2,), 6), member(2), member(0), members([4, 6]))
        two, _ = steps.stabilized(one, member(2), member(0), members([4, 6]))
        self.assertEqual(one, two)

    @quick
    @given(NUMBERS, NUMBERS, NUMBERS, LISTS)
    def test_whatever_it_says_our_list_is_sound(self, me: int, first: int, named: int, told: list[int]) -> None:
        """No answer makes a list that is none."""
        if me != first:
            new, _ = steps.stabilized(state(me, (first,)), member(first), member(named), members(told))
            steps.check_local(new)
            self.assertEqual(new.first, member(first))


class AdoptTests(SynchronousTestCase):
    """A member between us and our first successor becomes the first."""

    def test_those_between_and_no_others(self) -> None:
        """For every candidate and every first successor of eight."""
        for first, candidate in itertools.product(range(1, EIGHT), range(EIGHT)):
            before = state(0, (first,), 7 if first != 7 else 6)
            after = steps.adopted(before, member(candidate), members([first]))
            if 0 < candidate < first:
                self.assertEqual(ids_of(after.successors), [candidate, first])
            else:
                self.assertEqual(after, before)

    def test_whoever_knows_nobody_costs_us_nobody(self) -> None:
        """It is put before those that we know."""
        after = steps.adopted(state(0, (4, 6), 6), member(2), ())
        self.assertEqual(ids_of(after.successors), [2, 4, 6])

    def test_with_nobody_after_us_anybody_will_do(self) -> None:
        """A member whose list is empty takes the first that answers."""
        self.assertEqual(ids_of(steps.adopted(state(0), member(5), members([7])).successors), [5, 7])

    def test_leaves_the_predecessor_alone(self) -> None:
        """Adopting a successor says nothing of who is before us."""
        before = steps.drop_host(state(0, (4,), 6), fp_of(6))
        self.assertTrue(steps.adopted(before, member(2), members([4])).suspected)


class RectifyTests(SynchronousTestCase):
    """Who may be our predecessor."""

    def test_all_pairs(self) -> None:
        """A better one is taken, a worse one only when the present is dead."""
        for present, notifier, alive in itertools.product(range(1, EIGHT), range(1, EIGHT), (True, False)):
            before = state(0, (1,) if present != 1 else (2,), present)
            after = steps.rectified(before, member(notifier), alive)
            better = notifier >= present
            self.assertEqual(after.predecessor, member(notifier if better or not alive else present))
            self.assertEqual(after.successors, before.successors)
            self.assertEqual(steps.is_better(before, member(notifier)), better)

    def test_a_dead_predecessor_gives_way_to_a_worse_one(self) -> None:
        """The Go program never cleared it, and refused everybody else for ever."""
        before = steps.drop_host(state(0, (2, 4), 6), fp_of(6))
        after = steps.rectified(before, member(4), True)
        self.assertEqual((after.predecessor, after.suspected), (member(4), False))

    def test_a_suspected_one_that_answers_again_is_no_longer_suspected(self) -> None:
        """It notified us itself."""
        before = steps.drop_host(state(0, (2, 4), 6), fp_of(6))
        after = steps.rectified(before, member(6), False)
        self.assertEqual((after.predecessor, after.suspected), (member(6), False))

    def test_a_lone_member_takes_the_first_notifier_on_both_sides(self) -> None:
        """A ring of one becomes a ring of two."""
        after = steps.rectified(state(0), member(5), False)
        self.assertEqual((after.predecessor, after.successors), (member(5), (member(5),)))

    def test_nobody_precedes_himself(self) -> None:
        """Our own notice, come round the ring, is none."""
        before = state(0, (2,), 6)
        self.assertEqual(steps.rectified(before, member(0), False), before)
        self.assertFalse(steps.is_better(before, member(0)))


class LossTests(SynchronousTestCase):
    """Hosts that do not answer."""

    def test_the_list_moves_up(self) -> None:
        """The next entry is the first now; the predecessor stays."""
        after = steps.drop_host(state(0, (2, 4, 5), 6), fp_of(2))
        self.assertEqual((ids_of(after.successors), after.predecessor, after.suspected), ([4, 5], member(6), False))

    def test_every_position_of_the_host_goes(self) -> None:
        """Liveness belongs to the host."""
        entries = (member(1, host=9), member(2), member(4, host=9))
        before = PositionState(eight(0), 3, member(6, host=9), entries)
        after = steps.drop_host(before, fp_of(9))
        self.assertEqual((ids_of(after.successors), after.suspected), ([2], True))

    def test_a_position_that_does_not_serve_goes_alone(self) -> None:
        """Its host serves others."""
        entries = (member(1, host=9), member(2), member(4, host=9))
        after = steps.drop_member(PositionState(eight(0), 3, member(6, host=9), entries), eight(1))
        self.assertEqual((ids_of(after.successors), after.suspected), ([2, 4], False))

    def test_a_lost_predecessor_is_suspected_and_its_range_still_claimed(self) -> None:
        """Others are told of none; but the keys behind it have no other owner."""
        for lost in (
            steps.drop_host(state(0, (2, 4), 6), fp_of(6)),
            steps.drop_member(state(0, (2, 4), 6), eight(6)),
        ):
            self.assertIsNone(lost.told_predecessor)
            self.assertTrue(steps.owns(lost, eight(7)))
            self.assertFalse(steps.owns(lost, eight(6)))
            self.assertEqual(lost.epoch, 1)

    def test_the_last_of_the_list_is_replaced_by_the_predecessor(self) -> None:
        """Whoever is before us knows more than nobody."""
        after = steps.drop_host(state(0, (2,), 6), fp_of(2))
        self.assertEqual((ids_of(after.successors), after.predecessor), ([6], member(6)))

    def test_with_everybody_gone_we_are_alone(self) -> None:
        """And own the whole circle."""
        for gone in (
            steps.drop_host(steps.drop_host(state(0, (2,), 6), fp_of(2)), fp_of(6)),
            steps.drop_host(steps.drop_host(state(0, (2,), 6), fp_of(6)), fp_of(2)),
            steps.drop_host(state(0, (2,), 2), fp_of(2)),
            steps.drop_host(state(0, (), 6), fp_of(6)),
        ):
            self.assertEqual((gone.predecessor, gone.successors, gone.suspected), (None, (), False))
            self.assertTrue(all(steps.owns(gone, eight(key)) for key in range(EIGHT)))

    def test_a_stranger_s_death_changes_nothing(self) -> None:
        """Nor does the epoch grow."""
        before = state(0, (2, 4), 6)
        self.assertEqual(steps.drop_host(before, fp_of(5)), before)
        self.assertEqual(steps.drop_member(before, eight(5)), before)


class OwnTests(SynchronousTestCase):
    """Whose keys are whose."""

    def test_one_owner_for_each_key_of_every_ring(self) -> None:
        """In ideal rings of one to five."""
        for present in [(0,), *RINGS]:
            states = [ideal_state(me, present) for me in present]
            for key in range(EIGHT):
                owners = [ids_of([member(place)])[0] for place in present if steps.owns(_of(states, place), eight(key))]
                expected = min(present, key=lambda number: (number - key) % EIGHT)
                self.assertEqual(owners, [expected])

    def test_without_a_predecessor_nothing_is_claimed(self) -> None:
        """Unless there is nobody else."""
        self.assertFalse(steps.owns(state(0, (2,)), eight(0)))
        self.assertTrue(steps.owns(state(0), eight(5)))


class RefreshTests(SynchronousTestCase):
    """A host that came back, with another incarnation or address."""

    def test_the_newer_replaces_the_older_everywhere(self) -> None:
        """In the list and as predecessor; never two entries, and no new epoch."""
        before = state(0, (2, 4), 2)
        newer = member(2, incarnation=7)
        after = steps.refreshed(before, newer)
        self.assertEqual((after.successors[0], after.predecessor), (newer, newer))
        self.assertEqual((len(after.successors), after.epoch), (2, before.epoch))

    def test_old_news_is_ignored(self) -> None:
        """A lower or equal incarnation changes nothing."""
        before = steps.refreshed(state(0, (2, 4), 6), member(2, incarnation=7))
        for old in (1, 6, 7):
            self.assertEqual(steps.refreshed(before, member(2, incarnation=old)), before)


class EpochTests(SynchronousTestCase):
    """The epoch grows with each change that others are told of, and only then."""

    @quick
    @given(NUMBERS, st.integers(1, 7), st.integers(1, 7), LISTS, st.booleans())
    def test_it_counts_changes(self, me: int, first: int, other: int, told: list[int], alive: bool) -> None:
        """For each of the steps."""
        one, two = (me + first) % EIGHT, (me + other) % EIGHT
        before = state(me, (one,), two)
        for after in (
            steps.stabilized(before, member(one), member(two), members(told))[0],
            steps.adopted(before, member(two), members(told)),
            steps.rectified(before, member(two), alive),
            steps.rectified(before, member(one), alive),
            steps.drop_host(before, fp_of(two)),
            steps.drop_host(before, fp_of(one)),
        ):
            same = _told(before) == _told(after)
            self.assertEqual(after.epoch, before.epoch + (not same))


class EndsTests(SynchronousTestCase):
    """Ids at the ends of the circle are ids like any other."""

    def test_zero_and_the_largest(self) -> None:
        """Going round, the largest id comes just before zero."""
        largest = msgspec.structs.replace(member(1), id=ids.RING_SIZE - 1)
        after = steps.rectified(state(0, (4,), 7), largest, True)
        self.assertEqual(after.predecessor, largest)
        self.assertEqual(steps.rectified(after, member(7), True), after)
        self.assertEqual(steps.make_list(largest.id, members([0, 3]), 3), members([0, 3]))
        self.assertTrue(steps.owns(after, 0))


def _of(states: list[PositionState], number: int) -> PositionState:
    return next(one for one in states if one.me == eight(number))


def _told(one: PositionState) -> tuple[object, ...]:
    return one.told_predecessor, one.predecessor, one.successors
