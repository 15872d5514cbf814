"""Each invariant is broken by some snapshot that breaks just it."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore.sim.invariants import (
    Measure,
    MemberState,
    check_all,
    check_ideal,
    check_local,
    check_owners,
    check_ring,
    measure,
    nobody_passed_over,
    principals,
    ring_of,
)
from tests.support import ring_invariants as plain

Snapshot = Mapping[int, MemberState]


def ideal(members: list[int], size: int) -> dict[int, MemberState]:
    """A perfect ring."""
    order, count = sorted(members), len(members)
    return {
        member: MemberState(
            order[place - 1] if count > 1 else None,
            tuple(order[(place + step) % count] for step in range(1, min(size, count - 1) + 1)),
        )
        for place, member in enumerate(order)
    }


def names(snapshot: Snapshot, size: int) -> set[str]:
    """Which of I1 to I9 do not hold."""
    return {violation.name for violation in check_all(snapshot, size)}


def changed(snapshot: Snapshot, **lists: tuple[int, ...]) -> dict[int, MemberState]:
    """The snapshot with other lists: m10=(20, 30)."""
    return {**snapshot, **{int(name[1:]): snapshot[int(name[1:])]._replace(successors=s) for name, s in lists.items()}}


class OneBrokenTests(SynchronousTestCase):
    """A snapshot for each, in which all others hold, as far as they do not
    say the same of it in other words."""

    def setUp(self) -> None:
        """An ideal ring of six, and lists of two."""
        self.ring = ideal([10, 20, 30, 40, 50, 60], 2)

    def test_an_ideal_ring_breaks_none(self) -> None:
        """Whatever its size, even with one member or none."""
        for count in range(9):
            snapshot = ideal([10 * (place + 1) for place in range(count)], 3)
            self.assertEqual(check_all(snapshot, 3), [])
            self.assertEqual(check_ideal(snapshot, 3), [])
            if count:
                self.assertEqual(measure(snapshot, 3), Measure(0, 0))

    def test_i1_nobody_in_the_list_lives(self) -> None:
        """An appendage whose list is dead is off the ring for the same reason."""
        broken = {**self.ring, 15: MemberState(None, (16, 17))}
        self.assertEqual(names(broken, 2), {"I1", "I6"})

    def test_i2_too_many_are_passed_over(self) -> None:
        """Each list goes its own way round, and four of six are in none."""
        broken = changed(self.ring, m10=(20, 50), m50=(60, 30))
        self.assertEqual(names(broken, 2), {"I2"})
        self.assertEqual(len(check_all(broken, 2)), 1)

    def test_i2_lists_on_their_way_count(self) -> None:
        """What a member is about to take over passes over people, too."""
        self.assertEqual(len(principals(self.ring)), 6)
        self.assertEqual(principals(self.ring, [(10, 50)]), [10, 50, 60])
        found = check_all(self.ring, 2, [(10, 50), (60, 20)])
        self.assertEqual({violation.name for violation in found}, {"I2"})

    def test_i3_there_is_no_ring(self) -> None:
        """Two members, the lists of which end outside: nothing goes round."""
        broken = {10: MemberState(20, (20,)), 20: MemberState(10, (15,))}
        self.assertEqual(names(broken, 2), {"I1", "I3", "I6"})

    def test_i4_there_are_two_rings(self) -> None:
        """Each complete in itself, and each passing over the other."""
        broken = {**ideal([10, 30, 50], 2), **ideal([20, 40, 60], 2)}
        self.assertEqual(names(broken, 6), {"I4", "I5"})

    def test_i5_the_ring_goes_round_twice(self) -> None:
        """One cycle through all, which is not in ring order."""
        order = [10, 30, 50, 20, 40, 60]
        broken = {member: MemberState(None, (order[(place + 1) % 6],)) for place, member in enumerate(order)}
        self.assertEqual(names(broken, 6), {"I5"})

    def test_i6_somebody_does_not_reach_the_ring(self) -> None:
        """A chain that ends in a dead list; its first member has a live one."""
        broken = {**self.ring, 15: MemberState(None, (16,)), 12: MemberState(None, (15, 16))}
        off = [violation.where for violation in check_all(broken, 8) if violation.name == "I6"]
        self.assertEqual(len(off), 2)
        self.assertEqual(names(broken, 8), {"I1", "I6"})

    def test_i7_a_list_repeats(self) -> None:
        """An entry twice, or the member itself."""
        self.assertEqual({found.name for found in check_local(10, (20, 20))}, {"I7"})
        self.assertIn("I7", {found.name for found in check_local(10, (20, 10))})

    def test_i8_a_list_is_out_of_order(self) -> None:
        """Also where only the third entry shows that it went round."""
        self.assertEqual({found.name for found in check_local(10, (30, 20))}, {"I8"})
        self.assertEqual({found.name for found in check_local(10, (20, 60, 15))}, {"I8"})
        self.assertEqual(check_local(50, (60, 10, 40)), [])

    def test_i9_a_principal_is_not_on_the_ring(self) -> None:
        """Nobody passes over 15, and nobody reaches it: a joiner between two
        members whose lists do not meet there."""
        snapshot = ideal([10, 20, 30, 40], 1)
        broken = {**snapshot, 10: MemberState(40, ()), 15: MemberState(10, (20,))}
        self.assertIn(15, principals(broken))
        self.assertIn("I9", names(broken, 1))

    def test_the_messages_name_the_member(self) -> None:
        """By the eight digits that logs show."""
        (found,) = check_local(0xABCDEF01 << 128, (5, 5))
        self.assertIn("abcdef01", str(found))


class IdealTests(SynchronousTestCase):
    """I12, I13 and I15."""

    def setUp(self) -> None:
        """An ideal ring of six, and lists of three."""
        self.ring = ideal([10, 20, 30, 40, 50, 60], 3)

    def test_i12_every_place_of_every_list_counts(self) -> None:
        """And every predecessor."""
        for member in self.ring:
            state = self.ring[member]
            for broken in (
                state._replace(predecessor=None),
                state._replace(predecessor=state.successors[0]),
                state._replace(successors=state.successors[:2]),
                state._replace(successors=(state.successors[0], *state.successors[2:])),
            ):
                self.assertEqual(len(check_ideal({**self.ring, member: broken}, 3)), 1)

    def test_i13_nearest_neighbours_count_by_how_far_they_are_off(self) -> None:
        """One place too far is 1; nobody, as many as there are members; and
        somebody who is gone is worse than nobody."""
        state = self.ring[10]
        for broken, error in (
            (state._replace(successors=(30, 40, 50)), 1),
            (state._replace(successors=()), 6),
            (state._replace(successors=(15, 20, 30)), 7),
            (state._replace(predecessor=50), 1),
            (state._replace(predecessor=20), 4),
            (state._replace(predecessor=None), 6),
            (state._replace(predecessor=61), 7),
        ):
            self.assertEqual(measure({**self.ring, 10: broken}, 3).near, error, broken)

    def test_i13_later_places_count_from_the_front(self) -> None:
        """A wrong second place makes the third count as wrong, too."""
        state = self.ring[10]
        for successors, wrong in (((20, 30, 50), 1), ((20, 40, 50), 2), ((20,), 2), ((20, 30), 1)):
            broken = {**self.ring, 10: state._replace(successors=successors)}
            self.assertEqual(measure(broken, 3), Measure(0, wrong))

    def test_i13_near_errors_weigh_more(self) -> None:
        """However wrong the later places are."""
        self.assertLess(Measure(1, 9), Measure(2, 0))

    def test_i15_just_one_claims_each_key(self) -> None:
        """Not nobody, not two, not another."""
        good = {5: [10], 10: [10], 11: [20], 61: [10], 0: [10]}
        self.assertEqual(check_owners(good, self.ring), [])
        for key, claimed in ((5, []), (5, [10, 20]), (5, [20])):
            self.assertEqual(len(check_owners({**good, key: claimed}, self.ring)), 1)
        # Whether there should be members is not the question here.
        self.assertEqual(check_owners({5: []}, []), [])


class MeetingTests(SynchronousTestCase):
    """Two small rings at the moment in which they meet."""

    def test_one_looks_like_appendages_of_the_other(self) -> None:
        """1 and 7 are a ring; 5 has joined 3, which was alone and has just
        heard of 7.  No invariant is broken, and 3 will close a ring with 5."""
        meeting = {
            1: MemberState(7, (7,)),
            3: MemberState(7, (7,)),
            5: MemberState(3, (3,)),
            7: MemberState(1, (1,)),
        }
        self.assertEqual(check_ring(meeting, 4), [])
        self.assertFalse(nobody_passed_over(meeting))

    def test_a_ring_that_is_one(self) -> None:
        """Also with somebody who is about to come in; a list on its way that
        passes over a member is another matter."""
        whole = ideal([1, 5, 7], 4)
        self.assertTrue(nobody_passed_over(whole))
        self.assertTrue(nobody_passed_over({**whole, 3: MemberState(None, (5, 7, 1))}))
        self.assertFalse(nobody_passed_over(whole, [(1, 7)]))


SNAPSHOTS = st.integers(1, 7).flatmap(
    lambda count: st.lists(st.integers(0, 15), min_size=count, max_size=count, unique=True).flatmap(
        lambda members: st.fixed_dictionaries(
            {
                member: st.builds(
                    MemberState,
                    st.none() | st.integers(0, 15),
                    st.lists(st.integers(0, 15), max_size=3, unique=True).map(
                        lambda entries, me=member: tuple(
                            sorted((e for e in entries if e != me), key=lambda e: (e - me) % 16)
                        )
                    ),
                )
                for member in members
            }
        )
    )
)


class SecondOpinionTests(SynchronousTestCase):
    """The fast forms say what the plain ones say."""

    @settings(derandomize=True, deadline=None, max_examples=400)
    @given(SNAPSHOTS, st.lists(st.lists(st.integers(0, 15), min_size=2, max_size=4), max_size=2))
    def test_principals(self, snapshot: Snapshot, lists: list[list[int]]) -> None:
        """By a sum of differences, and by asking of each pair and member."""
        self.assertEqual(principals(snapshot, lists), sorted(plain.principals(snapshot, lists)))

    @settings(derandomize=True, deadline=None, max_examples=400)
    @given(SNAPSHOTS, st.integers(1, 6))
    def test_which_are_broken(self, snapshot: Snapshot, size: int) -> None:
        """The same of I1 to I6 and I9, each as it is stated."""
        expected = {name.split()[0] for name in plain.broken(snapshot, size)} - {"I7", "I8"}
        found = names(snapshot, size) - {"I7", "I8"}
        self.assertEqual(found, expected)

    @settings(derandomize=True, deadline=None, max_examples=400)
    @given(SNAPSHOTS)
    def test_the_ring(self, snapshot: Snapshot) -> None:
        """By cycles, and by going round from each member."""
        found = sorted(member for cycle in ring_of(snapshot) for member in cycle)
        self.assertEqual(found, sorted(plain.the_ring(snapshot)))
