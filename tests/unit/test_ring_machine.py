"""The ring at the level of messages, driven by Hypothesis and at random.

Zave's proof takes each step to be one moment.  Here an answer is captured at
one moment and applied at another, and questions, answers and notices come in
any order, late, twice or never.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from peerstore.ring import position as steps
from tests.support.ring import EIGHT
from tests.support.ring_messages import MessageRing, random_walk

#: Rounds in which a ring comes to rest, each member making its steps in turn.
MOST_ROUNDS = 24

PLACES = st.integers(0, EIGHT - 1)
STEPS = st.sampled_from(["stabilize", "stabilize", "rectify", "rectify", "check"])
NUMBERS = st.integers(0, 63)


class RingMachine(RuleBasedStateMachine):
    """Joins, crashes, restarts, goodbyes, timers, and messages of every fate;
    crashes only as the failure assumption allows."""

    ring: MessageRing

    @initialize(size=st.sampled_from([2, 2, 3]), present=st.sets(PLACES, min_size=4, max_size=6))
    def begin(self, size: int, present: set[int]) -> None:
        """An ideal ring of some."""
        self.ring = MessageRing(size, sorted(present))

    @rule(place=PLACES, before=PLACES)
    def join(self, place: int, before: int) -> None:
        """A newcomer, or one that was here before and restarts."""
        self.ring.join(place, before)

    @rule(place=PLACES)
    def crash(self, place: int) -> None:
        """Allowed, as long as everybody keeps a live entry, and r + 1
        principals remain."""
        if self.ring.nodes[place].is_member and self.ring.may_crash(place):
            self.ring.crash(place)

    @rule(place=PLACES)
    def leave(self, place: int) -> None:
        """The same with a goodbye."""
        if self.ring.nodes[place].is_member and self.ring.may_crash(place):
            self.ring.leave(place)

    @rule(place=PLACES, what=STEPS)
    def fire(self, place: int, what: str) -> None:
        """A timer."""
        self.ring.fire(place, what)

    @rule(number=NUMBERS, count=st.integers(1, 4))
    def deliver(self, number: int, count: int) -> None:
        """Some messages arrive."""
        for _ in range(count):
            if self.ring.messages:
                self.ring.deliver(number)

    @precondition(lambda self: bool(self.ring.messages))
    @rule(number=NUMBERS)
    def drop(self, number: int) -> None:
        """A message is lost."""
        self.ring.drop(number)

    @precondition(lambda self: bool(self.ring.messages))
    @rule(number=NUMBERS)
    def duplicate(self, number: int) -> None:
        """A message comes twice."""
        self.ring.duplicate(number)

    @rule(place=PLACES)
    def expire(self, place: int) -> None:
        """An answer does not come in time; it may come later."""
        self.ring.expire(place)

    @invariant()
    def holds(self) -> None:
        """I1 to I9, while the failure assumption holds."""
        if hasattr(self, "ring") and self.ring.sound:
            assert self.ring.broken() == [], (self.ring.broken(), self.ring.snapshot())

    @invariant()
    def predecessors_get_nearer(self) -> None:
        """Whatever else happens: only one that is suspected gives way to one
        that is farther away."""
        if hasattr(self, "ring"):
            assert self.ring.wrong_moves() == [], self.ring.snapshot()

    def teardown(self) -> None:
        """In the end it is one ideal ring."""
        if hasattr(self, "ring"):
            rounds = self.ring.settle(MOST_ROUNDS, probing=not self.ring.sound)
            assert rounds is not None, self.ring.snapshot()


class StormyMachine(RingMachine):
    """All that, and what breaks the assumption: partitions, false suspicion,
    crashes of anybody.  Invariants are suspended from then on until the ring
    is ideal again; and it always becomes ideal again in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.suspended = 0

    @rule(some=st.sets(PLACES, min_size=1, max_size=4))
    def partition(self, some: set[int]) -> None:
        """The network is cut."""
        self.ring.partition(sorted(some))

    @rule()
    def heal(self) -> None:
        """And mended."""
        self.ring.heal()

    @rule(place=PLACES)
    def suspect(self, place: int) -> None:
        """A slow one is taken for dead."""
        self.ring.suspect(place)

    @rule(place=PLACES)
    def crash_anyway(self, place: int) -> None:
        """Whoever may be hurt by it; but somebody is left."""
        if len(self.ring.members()) > 2:
            self.ring.crash(place)

    @rule(place=PLACES, other=PLACES)
    def probe(self, place: int, other: int) -> None:
        """Looking for other rings."""
        if other in self.ring.nodes[place].met:
            self.ring.probe(place, other)

    @invariant()
    def assumption(self) -> None:
        """A ring that is ideal, with nothing on its way, is as good as new."""
        if hasattr(self, "ring") and not self.ring.sound:
            self.suspended += 1
            if self.ring.is_ideal() and not self.ring.messages and not self.ring.side:
                self.ring.sound = True


def run(machine: type[RingMachine], examples: int, length: int) -> None:
    """The same examples each time."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=length,
            deadline=None,
            derandomize=True,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


class MachineTests(SynchronousTestCase):
    """Both machines, within seconds."""

    def test_while_the_assumption_holds(self) -> None:
        """I1 to I9 after every event; ideal at the end by Zave's steps alone."""
        run(RingMachine, 120, 200)

    def test_in_a_storm(self) -> None:
        """With partitions and mistakes: one ideal ring at the end."""
        run(StormyMachine, 120, 200)


class WalkTests(SynchronousTestCase):
    """Random walks are longer than Hypothesis likes them."""

    def test_walks(self) -> None:
        """Two hundred of them, r = 2 and 3."""
        for seed in range(200):
            self.assertEqual(random_walk(seed, 2 + seed % 2, 300), [], seed)


class MutantTests(SynchronousTestCase):
    """The walks find what they are there to find: one bug at a time."""

    def caught(self, seeds: int = 60) -> bool:
        """Whether one of so many walks ends badly, or in an assertion."""
        for seed in range(seeds):
            try:
                if random_walk(seed, 2, 300):
                    return True
            except AssertionError:
                return True
        return False

    def test_no_bug_nothing_caught(self) -> None:
        """The steps as they are."""
        self.assertFalse(self.caught(30))

    def test_a_notice_that_changes_the_state_by_itself(self) -> None:
        """The receiver believes it."""

        def bug(ring: Any, node: Any, candidate: Any) -> None:
            if candidate.id != node.state.me:
                node.state = steps.rectified(node.state, candidate, False)
                node.state = node.state._replace(successors=node.state.successors or (candidate,))

        self.patch(MessageRing, "_notified", bug)
        self.assertTrue(self.caught(200))

    def test_a_late_answer_that_is_applied(self) -> None:
        """Whatever is being asked by now."""
        deliver = MessageRing.deliver

        def bug(ring: MessageRing, number: int) -> None:
            message = ring.messages[number % len(ring.messages)]
            node = ring.nodes[message.target]
            if message.kind == "told" and node.question is not None:
                node.question = node.question._replace(nonce=message.nonce)
            deliver(ring, number)

        self.patch(MessageRing, "deliver", bug)
        self.assertTrue(self.caught(200))

    def test_a_list_that_is_not_cut_at_self(self) -> None:
        """In a ring that is shorter than its lists it goes round and round."""
        self.assertIsNotNone(MessageRing(3, [0, 3]).settle(3, probing=False))
        self.patch(steps, "make_list", lambda me, entries, size: tuple(entries)[:size])
        ring = MessageRing(3, [0, 3])
        for place in (0, 3):
            ring.fire(place, "stabilize")
            ring.deliver(0)
            ring.deliver(0)
        self.assertIn("I7 NoDuplicates", ring.broken())

    def test_an_answer_from_one_that_has_not_joined(self) -> None:
        """Its state is none yet."""
        deliver = MessageRing.deliver

        def bug(ring: MessageRing, number: int) -> None:
            message = ring.messages[number % len(ring.messages)]
            node = ring.nodes[message.target]
            ready, node.is_member = node.is_member, node.is_member or (message.kind == "ask" and node.alive)
            deliver(ring, number)
            node.is_member = node.is_member and (ready or message.kind != "ask")

        self.patch(MessageRing, "deliver", bug)
        self.assertTrue(self.caught(200))

    def test_a_dead_predecessor_that_is_never_cleared(self) -> None:
        """Whoever is farther away is refused."""
        rectified = steps.rectified

        def bug(state: Any, notifier: Any, predecessor_alive: bool) -> Any:
            return rectified(state._replace(suspected=False), notifier, True)

        self.patch(steps, "rectified", bug)
        self.assertTrue(self.caught())
