"""Every state that small rings can get into, and what holds in each of them.

The worlds are moved by the shipped steps of ``peerstore.ring.position``, one
step at a time and in every order, with joins and crashes in between as the
failure assumption allows.  Worlds that differ by a turn of the circle are one.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from peerstore.ring import position as steps
from tests.support import ring_invariants as plain
from tests.support.ring_model import Explorer, World, snapshot

#: Rounds, each member in turn, within which every world comes to rest.
MOST_ROUNDS = 8


class ExhaustiveTestCase(SynchronousTestCase):
    """Explores, and tells how a broken world came about."""

    def explored(
        self, circle: int, size: int, present: tuple[int, ...], depth: int | None, guard: bool = True
    ) -> Explorer:
        """All worlds up to that depth."""
        explorer = Explorer(circle, size, guard)
        explorer.explore(present, depth)
        return explorer

    def check_invariants(self, explorer: Explorer) -> None:
        """None of I1 to I10 is broken anywhere."""
        for name, world in explorer.wrong[:1]:
            self.fail("\n".join([f"{name} does not hold:", *explorer.history(world)]))

    def check_rest(self, explorer: Explorer, every: int = 1) -> None:
        """Each world, or each so-manieth, becomes ideal in a few rounds."""
        for world in list(explorer.reached)[::every]:
            if explorer.rounds_to_ideal(world, MOST_ROUNDS) is None:
                self.fail("\n".join(["it does not come to rest:", *explorer.history(world)]))

    def check_predicates(self, explorer: Explorer, every: int) -> None:
        """The fast predicates say what the plain ones say."""
        for world in list(explorer.reached)[::every]:
            seen = snapshot(explorer.locals, world)
            self.assertEqual(set(explorer.broken(world)), set(plain.broken(seen, explorer.size)))
            chosen = {place for place in seen if explorer.principals(world) >> place & 1}
            self.assertEqual(chosen, plain.principals(seen))


class ReachableTests(ExhaustiveTestCase):
    """I1 to I10 in every reachable state."""

    def test_all_of_five_places(self) -> None:
        """r = 2, five ids, from a ring of three: all 162,811 states, to the
        end; none is more than 46 moves away."""
        explorer = self.explored(5, 2, (0, 1, 3), None)
        self.check_invariants(explorer)
        self.assertEqual((len(explorer.reached), explorer.depth), (162_811, 46))
        self.check_predicates(explorer, 97)
        self.check_rest(explorer, 29)

    def test_nine_moves_on_eight_places(self) -> None:
        """r = 2, eight ids, from a ring of three: all states that nine moves
        lead to."""
        explorer = self.explored(8, 2, (0, 1, 3), 9)
        self.check_invariants(explorer)
        self.assertEqual(len(explorer.reached), 104_920)
        self.check_predicates(explorer, 211)
        self.check_rest(explorer, 101)

    def test_from_a_full_circle(self) -> None:
        """r = 2, all eight places taken: crashes first, seven moves deep."""
        explorer = self.explored(8, 2, tuple(range(8)), 7)
        self.check_invariants(explorer)
        self.assertEqual(len(explorer.reached), 3_981)
        self.check_rest(explorer, 31)

    def test_all_of_five_places_with_longer_lists(self) -> None:
        """r = 3, five ids, from a ring of four: all 14,369 states, to the end."""
        explorer = self.explored(5, 3, (0, 1, 2, 3), None)
        self.check_invariants(explorer)
        self.assertEqual((len(explorer.reached), explorer.depth), (14_369, 33))
        self.check_predicates(explorer, 31)
        self.check_rest(explorer, 7)

    def test_longer_lists(self) -> None:
        """r = 3, six ids, from a ring of four: twelve moves deep."""
        explorer = self.explored(6, 3, (0, 1, 2, 4), 12)
        self.check_invariants(explorer)
        self.assertEqual(len(explorer.reached), 7_728)
        self.check_predicates(explorer, 31)
        self.check_rest(explorer, 7)


class FounderTests(ExhaustiveTestCase):
    """A ring that begins with one member, which Zave's proof does not cover."""

    def test_every_beginning_comes_to_rest(self) -> None:
        """Joins and crashes in any order, while everybody keeps a live entry:
        from each state that six moves lead to the ring becomes ideal."""
        explorer = self.explored(6, 2, (0,), 6, guard=False)
        self.assertEqual(len(explorer.reached), 10_364)
        self.check_rest(explorer)

    def test_the_steps_alone_are_not_enough_for_ever(self) -> None:
        """Thirteen moves from one member on there are states in which three
        members go round twice, each content with what it knows."""
        explorer = self.explored(4, 2, (0,), 13, guard=False)
        stuck = [world for world in explorer.reached if explorer.rounds_to_ideal(world, MOST_ROUNDS) is None]
        self.assertEqual(len(stuck), 2)
        self.assertTrue(all(explorer.rounds_to_ideal(world, MOST_ROUNDS, table=True) for world in stuck))

    def test_with_the_table_they_are(self) -> None:
        """Four places, r = 2, from one member: all 55,607 states, to the end;
        where members know who lives, each becomes ideal."""
        explorer = self.explored(4, 2, (0,), None, guard=False)
        self.assertEqual((len(explorer.reached), explorer.depth), (55_607, 49))
        for world in list(explorer.reached)[::3]:
            if explorer.rounds_to_ideal(world, MOST_ROUNDS, table=True) is None:
                self.fail("\n".join(["it does not come to rest:", *explorer.history(world)]))


class MutantTests(ExhaustiveTestCase):
    """The search finds what it is there to find: one bug at a time."""

    def found(self, name: str, bug: Any, depth: int | None = 12) -> set[str]:
        """What is broken with *bug* in a step's place."""
        self.patch(steps, name, bug)
        explorer = Explorer(5, 2)
        explorer.explore((0, 1, 3), depth, until_wrong=True)
        broken = {what.split()[0] for what, _ in explorer.wrong}
        worlds = list(explorer.reached)[-2000::20]
        if not broken and any(self.stuck(explorer, world) for world in worlds):
            broken.add("rest")
        return broken

    def stuck(self, explorer: Explorer, world: World) -> bool:
        """Whether it does not become ideal."""
        return explorer.rounds_to_ideal(world, 3 * MOST_ROUNDS) is None

    def test_no_bug_nothing_found(self) -> None:
        """The steps as they are."""
        self.assertEqual(self.found("joined", steps.joined), set())

    def test_joining_with_one_pointer(self) -> None:
        """Lists are filled up later: as in Chord's papers."""
        joined = steps.joined

        def bug(state: Any, before: Any, its_predecessor: Any, its_list: Any) -> Any:
            new = joined(state, before, its_predecessor, its_list)
            return new._replace(successors=new.successors[:1]) if new is not None else None

        self.assertTrue(self.found("joined", bug))

    def test_closing_a_short_list(self) -> None:
        """The member before us is put at the end of a list that is not full:
        ours did, where it was thought to go all round."""
        joined = steps.joined

        def bug(state: Any, before: Any, its_predecessor: Any, its_list: Any) -> Any:
            new = joined(state, before, its_predecessor, its_list)
            if new is None:
                return None
            return new._replace(successors=steps.make_list(state.me, (*new.successors, before), state.size))

        self.assertTrue(self.found("joined", bug, 14))

    def test_joining_behind_anybody(self) -> None:
        """Whether the joiner lies between is not checked again."""

        def bug(state: Any, before: Any, its_predecessor: Any, its_list: Any) -> Any:
            entries = steps.make_list(state.me, its_list, state.size) or (before,)
            return state._replace(predecessor=before, successors=entries)

        self.assertTrue(self.found("joined", bug))

    def test_keeping_the_tail(self) -> None:
        """The list of the successor is not taken over."""

        def bug(state: Any, asked: Any, its_predecessor: Any, its_list: Any) -> Any:
            new, candidate = stabilized(state, asked, its_predecessor, its_list)
            return state if state.successors else new, candidate

        stabilized = steps.stabilized
        self.assertTrue(self.found("stabilized", bug))

    def test_never_adopting(self) -> None:
        """Newcomers are never pointed at."""
        self.assertTrue(self.found("adopted", lambda state, candidate, its_list: state))

    def test_a_dead_predecessor_is_never_cleared(self) -> None:
        """Whoever is farther away is refused for ever."""
        rectified = steps.rectified

        def bug(state: Any, notifier: Any, predecessor_alive: bool) -> Any:
            return rectified(state._replace(suspected=False), notifier, True)

        self.assertTrue(self.found("rectified", bug, 9))

    def test_a_dead_successor_is_never_dropped(self) -> None:
        """It is waited for."""
        self.assertTrue(self.found("drop_host", lambda state, fp: state, 9))

    def test_a_lost_successor_costs_the_whole_list(self) -> None:
        """Begin anew with the predecessor: what follows is forgotten."""

        def bug(state: Any, fp: bytes) -> Any:
            new = drop_host(state, fp)
            before = new.predecessor
            first = state.first
            if before is None or first is None or first.fp != fp:
                return new
            return new._replace(successors=(before,))

        drop_host = steps.drop_host
        self.assertTrue(self.found("drop_host", bug))
