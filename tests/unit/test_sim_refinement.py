"""I11: what is a step of the protocol, and what only looks like one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore.ring import position as steps
from peerstore.ring.position import PositionState
from peerstore.sim.refinement import Answer, Evidence, Step, View, cut, explain, explain_join
from tests.support.ring import members as members_at

ME, SIZE = 10, 3
BEFORE = View(True, 5, False, (20, 30, 40))
NOTHING = Evidence()


class TestCase(SynchronousTestCase):
    """One change at a time."""

    def assertStep(self, step: str | None, after: View, evidence: Evidence, before: View = BEFORE) -> None:
        """That just this leads from the one to the other."""
        self.assertEqual(explain(ME, SIZE, before, after, evidence), step)


class ListTests(TestCase):
    """A list is taken over from somebody who told it just now."""

    def test_from_the_first_successor(self) -> None:
        """Itself and its list, cut at r."""
        told = Evidence([Answer(20, 10, (25, 35, 45))])
        self.assertStep("list", BEFORE._replace(successors=(20, 25, 35)), told)

    def test_from_one_that_lies_nearer(self) -> None:
        """Its list, too."""
        told = Evidence([Answer(15, 10, (20, 30, 40))])
        self.assertStep("list", BEFORE._replace(successors=(15, 20, 30)), told)

    def test_a_nearer_one_that_knows_nobody_costs_nothing(self) -> None:
        """Those whom we know are kept behind it."""
        told = Evidence([Answer(15, None, ())])
        self.assertStep("list", BEFORE._replace(successors=(15, 20, 30)), told)

    def test_nobody_told_it(self) -> None:
        """A change out of nothing."""
        self.assertStep(None, BEFORE._replace(successors=(20, 25, 35)), NOTHING)

    def test_from_one_that_is_not_the_first(self) -> None:
        """Whoever lies farther away is not believed."""
        told = Evidence([Answer(30, 20, (35, 45, 55))])
        self.assertStep(None, BEFORE._replace(successors=(30, 35, 45)), told)

    def test_a_part_of_it(self) -> None:
        """One pointer where there was a list; or its tail alone."""
        told = Evidence([Answer(15, 10, (20, 30, 40))])
        for successors in ((15,), (15, 20), (20, 30), (15, 30, 40)):
            self.assertStep(None, BEFORE._replace(successors=successors), told)

    def test_past_itself(self) -> None:
        """A list stops where it comes round to its owner."""
        told = Evidence([Answer(20, 10, (30, 10, 20))])
        self.assertStep("list", BEFORE._replace(successors=(20, 30)), told)
        self.assertStep(None, BEFORE._replace(successors=(20, 30, 10)), told)

    def test_and_a_predecessor_on_the_way(self) -> None:
        """Each step changes one thing."""
        told = Evidence([Answer(20, 7, (25, 35))], notifiers=[7])
        self.assertStep(None, View(True, 7, False, (20, 25, 35)), told)


class RectifyTests(TestCase):
    """A predecessor is one that notified, and was asked."""

    def test_a_nearer_one(self) -> None:
        """It notified us, and answers."""
        evidence = Evidence([Answer(7, None, (10,))], notifiers=[7])
        self.assertStep("rectify", BEFORE._replace(predecessor=7), evidence)

    def test_any_one_after_a_suspected_one(self) -> None:
        """And where there was none."""
        evidence = Evidence([Answer(2, None, (10,))], notifiers=[2])
        after = BEFORE._replace(predecessor=2)
        for before in (BEFORE._replace(suspected=True), BEFORE._replace(predecessor=None)):
            self.assertStep("rectify", after, evidence, before)
        self.assertStep(None, after, evidence)

    def test_a_notice_alone_changes_nothing(self) -> None:
        """It is a hint, whoever sends it."""
        self.assertStep(None, BEFORE._replace(predecessor=7), Evidence(notifiers=[7]))

    def test_nobody_notified(self) -> None:
        """An answer alone does not make a predecessor, either."""
        self.assertStep(None, BEFORE._replace(predecessor=7), Evidence([Answer(7, None, (10,))]))

    def test_a_lone_member_takes_its_first_notifier_for_both(self) -> None:
        """Whoever comes to a ring of one is before it, and after it."""
        evidence = Evidence([Answer(7, None, (10,))], notifiers=[7])
        self.assertStep("rectify", View(True, 7, False, (7,)), evidence, View(True))
        self.assertStep(None, View(True, 7, False, ()), evidence, View(True))


class DropTests(TestCase):
    """Who does not answer goes, and only he."""

    def test_the_list_moves_up(self) -> None:
        """All positions of a silent host are dropped."""
        self.assertStep("drop", BEFORE._replace(successors=(30,)), Evidence(gone=[(20, 40)]))

    def test_a_single_position_that_does_not_serve(self) -> None:
        """While its host does."""
        self.assertStep("drop", BEFORE._replace(successors=(20, 40)), Evidence(not_serving=[30]))

    def test_a_predecessor_is_suspected_and_not_forgotten(self) -> None:
        """Others are told of none."""
        self.assertStep("drop", BEFORE._replace(suspected=True), Evidence(gone=[(5,)]))
        self.assertStep(None, BEFORE._replace(predecessor=None), Evidence(gone=[(5,)]))

    def test_the_predecessor_is_the_last_resort(self) -> None:
        """And if it is gone as well, we are alone."""
        before = BEFORE._replace(successors=(20,))
        self.assertStep("drop", View(True, 5, False, (5,)), Evidence(gone=[(20,)]), before)
        suspected = before._replace(suspected=True)
        self.assertStep("drop", View(True), Evidence(gone=[(20,)]), suspected)

    def test_or_the_nearest_sibling(self) -> None:
        """Nobody is alone while a position of his own host stands."""
        before = View(True, 20, False, (20,))
        evidence = Evidence(
            [Answer(50, 40, (60, 70, 80)), Answer(30, 20, (40, 50))], gone=[(20,)], siblings=[ME, 30, 50]
        )
        self.assertStep("drop", View(True, None, False, (30, 40, 50)), evidence, before)
        self.assertStep(None, View(True), evidence, before)
        self.assertStep(None, View(True, None, False, (50, 60, 70)), evidence, before)

    def test_nobody_was_silent(self) -> None:
        """Nobody is dropped on hearsay."""
        told = Evidence([Answer(20, 10, (40, 50))])
        self.assertStep(None, BEFORE._replace(successors=(30, 40)), told)

    def test_more_than_who_was_silent(self) -> None:
        """Nor with another."""
        self.assertStep(None, BEFORE._replace(successors=(40,)), Evidence(gone=[(20,)]))


class JoinTests(TestCase):
    """How a member begins."""

    def assertJoin(self, step: str | None, after: View, evidence: Evidence) -> None:
        """That just this explains it."""
        self.assertEqual(explain_join(ME, SIZE, after, evidence), step)

    def test_with_the_whole_list_of_its_predecessor(self) -> None:
        """Which is its predecessor from then on."""
        evidence = Evidence(steps=[Step(5, 1, False, True, (20, 30, 40))])
        self.assertJoin("join", View(True, 5, False, (20, 30, 40)), evidence)

    def test_not_with_one_pointer(self) -> None:
        """Nor without a predecessor, nor with another's."""
        evidence = Evidence(steps=[Step(5, 1, False, True, (20, 30, 40))])
        self.assertJoin(None, View(True, 5, False, (20,)), evidence)
        self.assertJoin(None, View(True, None, False, (20, 30, 40)), evidence)
        self.assertJoin(None, View(True, 1, False, (20, 30, 40)), evidence)

    def test_not_behind_one_that_is_not_the_last_before_it(self) -> None:
        """Another joined between them meanwhile."""
        self.assertJoin(None, View(True, 5, False, (7, 20, 30)), Evidence(steps=[Step(5, 1, False, True, (7, 20, 30))]))
        self.assertJoin(
            None, View(True, 5, False, (20, 30, 40)), Evidence(steps=[Step(5, 1, False, False, (20, 30, 40))])
        )

    def test_behind_one_that_still_lists_it(self) -> None:
        """It was here before, and is coming back."""
        evidence = Evidence(steps=[Step(5, 1, False, True, (10, 20, 30))])
        self.assertJoin("join", View(True, 5, False, (20, 30)), evidence)

    def test_to_a_ring_of_one(self) -> None:
        """Which is before and after it."""
        self.assertJoin("join", View(True, 5, False, (5,)), Evidence(steps=[Step(5, None, True, False, ())]))

    def test_alone(self) -> None:
        """With its own siblings, in their order."""
        evidence = Evidence(siblings=[ME, 4, 50])
        self.assertJoin("alone", View(True, 4, False, (50, 4)), evidence)
        self.assertJoin(None, View(True, 50, False, (50, 4)), evidence)


SMALL = st.integers(0, 7)
LISTS = st.lists(SMALL, max_size=4).map(tuple)


class SecondOpinionTests(SynchronousTestCase):
    """The shipped steps are steps, as written down here a second time."""

    @settings(derandomize=True, deadline=None, max_examples=300)
    @given(SMALL, LISTS, st.none() | SMALL, SMALL, st.none() | SMALL, LISTS, st.integers(1, 3))
    def test_a_list_that_the_ring_takes_over(
        self,
        me: int,
        own: tuple[int, ...],
        before: int | None,
        told: int,
        its_before: int | None,
        its_list: tuple[int, ...],
        size: int,
    ) -> None:
        """Of whomever it was told, on a ring of eight."""
        members = members_at(range(8))
        state = PositionState(
            members[me].id,
            size,
            members[before] if before is not None and before != me else None,
            steps.make_list(members[me].id, [members[at] for at in own], size),
        )
        answer = [members[at] for at in its_list]
        theirs = members[its_before] if its_before is not None else None
        after = [steps.stabilized(state, members[told], theirs, answer)[0], steps.adopted(state, members[told], answer)]
        evidence = Evidence([Answer(members[told].id, None, tuple(at.id for at in answer))])
        for new in after:
            step = explain(state.me, size, _view(state), _view(new), evidence)
            self.assertIn(step, ("nothing", "list"))

    @settings(derandomize=True, deadline=None, max_examples=200)
    @given(SMALL, LISTS, st.integers(1, 4))
    def test_lists_are_cut_alike(self, me: int, entries: tuple[int, ...], size: int) -> None:
        """At the member, at a repeat, where they would go round, and at r."""
        members = members_at(range(8))
        expected = steps.make_list(members[me].id, [members[at] for at in entries], size)
        found = cut(members[me].id, [members[at].id for at in entries], size)
        self.assertEqual(found, tuple(member.id for member in expected))


def _view(state: PositionState) -> View:
    before = state.predecessor
    return View(True, before.id if before else None, state.suspected, tuple(at.id for at in state.successors))
