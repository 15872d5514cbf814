"""When invariants are asked for, when they are suspended, and for how long."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.ring import position as steps
from peerstore.ring.member import Member
from peerstore.ring.position import PositionState
from peerstore.sim.clock import SimClock
from peerstore.sim.decisions import Decisions
from peerstore.sim.invariants import Violation
from peerstore.sim.network import Cut, SimNetwork
from peerstore.sim.process import Process
from peerstore.sim.trace import Trace
from peerstore.sim.watcher import Watcher
from peerstore.sim.witness import Board, Question, Witness
from peerstore.wire.bodies import FindSuccessor, GetNeighbours, Neighbours

BOUND = 60.0
SIZE = 2
NAMES = "abcdef"


def spki_of(name: str) -> bytes:
    """What stands for a key."""
    return hashlib.sha512(name.encode()).digest() * 2


class Place:
    """One position, which does nothing by itself."""

    def __init__(self, member: Member) -> None:
        self.id = member.id
        self.member = member
        self.is_member = True
        self.state = PositionState(member.id, SIZE)


class Ring:
    """A host's share of the ring: one position."""

    serving = True

    def __init__(self, place: Place, hosts: set[bytes]) -> None:
        self.positions = [place]
        self.hosts = hosts
        self.watchers: list[Callable[[], None]] = []

    def watch_changes(self, callback: Callable[[], None]) -> None:
        """Told of each change."""
        self.watchers.append(callback)


class StillWorld:
    """Hosts a to f on an ideal ring, and nothing that runs.

    Letters name them in the order in which they lie on the circle.
    """

    twins = False
    someone_paused = False
    calm = False
    list_size = SIZE

    def __init__(self) -> None:
        self.clock = SimClock()
        self.network = SimNetwork(self.clock, Decisions(1), Trace(self.clock.seconds))
        self.board = Board(self.clock.seconds, lambda: self.clock.events)
        self.violations: list[Violation] = []
        self.problems: list[str] = []
        spkis = sorted(
            (spki_of(f"{number}") for number in range(len(NAMES))), key=lambda spki: ids.position_id(spki, 0)
        )
        self.members = {
            name: Member(ids.position_id(spki, 0), ids.fingerprint(spki), 0, 1, f"sim:{name}")
            for name, spki in zip(NAMES, spkis, strict=True)
        }
        known = {member.fp for member in self.members.values()}
        self.hosts: dict[str, Any] = {}
        for name, member in self.members.items():
            self.board.positions[member.fp] = (member.id,)
            self.board.names[member.fp] = name
            ring = Ring(Place(member), known)
            witness = Witness(self.board, member.fp, name)
            process = Process(self.clock, name)
            self.hosts[name] = SimpleNamespace(
                name=name, fp=member.fp, node=SimpleNamespace(ring=ring), witness=witness, process=process, shadow=False
            )
        self.live = dict(self.hosts)
        for place, name in enumerate(NAMES):
            behind = [self.members[NAMES[(place + step) % len(NAMES)]] for step in range(1, SIZE + 1)]
            self.place(name).state = self.place(name).state._replace(
                predecessor=self.members[NAMES[place - 1]], successors=tuple(behind)
            )
        self.watcher = Watcher(self, BOUND)  # type: ignore[arg-type]
        self.watcher.after_event()

    def violated(self, violation: Violation) -> None:
        """Something must not be."""
        self.violations.append(violation)

    def problem(self, what: str) -> None:
        """Something else must not be."""
        self.problems.append(what)

    # -- what a test does ------------------------------------------------------------

    def place(self, name: str) -> Place:
        """A host's position."""
        place: Place = self.hosts[name].node.ring.positions[0]
        return place

    def change(self, name: str, state: PositionState) -> None:
        """A host's position changes, in an event of its own."""
        self.place(name).state = state
        for watcher in self.hosts[name].node.ring.watchers:
            watcher()
        self.over()

    def relist(self, name: str, entries: str) -> None:
        """It gets another list."""
        members = tuple(self.members[at] for at in entries)
        self.change(name, self.place(name).state._replace(successors=members))

    def told(self, name: str, by: str) -> None:
        """A host asks another for its neighbours, and is told them."""
        witness, state = self.hosts[name].witness, self.place(by).state
        number = witness.began(f"sim:{by}", "get-neighbours", GetNeighbours(0), self.members[by].fp)
        before = state.told_predecessor
        answer = Neighbours(
            self.members[by].ref, 1, before.ref if before else None, tuple(at.ref for at in state.successors)
        )
        witness.answered(number, "get-neighbours", GetNeighbours(0), answer)

    def crash(self, *names: str) -> None:
        """They are gone, at one moment."""
        for name in names:
            self.live.pop(name).witness.end()
        self.watcher.failed(f"{', '.join(names)} crashed")

    def drop(self, name: str, *gone: str) -> None:
        """A host finds others dead, one after the other."""
        for other in gone:
            witness, fp = self.hosts[name].witness, self.members[other].fp
            witness._silent.append((self.clock.events, fp))
            self.change(name, steps.drop_host(self.place(name).state, fp))

    def over(self) -> None:
        """The event is over."""
        self.clock.callLater(0.001, lambda: None)
        self.clock.advance(0.001)
        self.watcher.after_event()

    def wait(self, seconds: float) -> None:
        """Time passes, and nothing happens."""
        for _ in range(int(seconds)):
            self.clock.advance(1.0)
            self.watcher.due()

    @property
    def broken(self) -> set[str]:
        """The names of what did not hold."""
        return {violation.name for violation in self.violations}


class WatcherTestCase(SynchronousTestCase):
    """A ring of six, with lists of two."""

    def setUp(self) -> None:
        """It is ideal."""
        self.world = StillWorld()

    def mend(self, *names: str) -> None:
        """Everybody asks whoever is first on his list, twice round."""
        for _ in range(3):
            for name in names:
                state = self.world.place(name).state
                first = state.first
                assert first is not None
                by = self.world.board.names[first.fp]
                self.world.told(name, by)
                its = self.world.place(by).state
                self.world.change(name, steps.stabilized(state, first, its.told_predecessor, its.successors)[0])


class HeldTests(WatcherTestCase):
    """While the failure assumption is kept."""

    def test_an_ideal_ring_is_looked_at_and_breaks_nothing(self) -> None:
        """A change that says the same, too."""
        self.mend(*NAMES)
        self.world.watcher.failed("nothing")
        self.assertEqual(self.world.violations, [])
        for name in ("I1", "I2", "I3", "I4", "I5", "I6", "I9"):
            self.assertGreater(self.world.watcher.checks[name], 0)

    def test_a_crash_that_all_survive_breaks_nothing(self) -> None:
        """Everybody has an entry left, and r + 1 principals there are."""
        self.world.crash("c")
        self.world.drop("a", "c")
        self.world.drop("b", "c")
        self.mend("f", "a", "b")
        self.world.wait(2 * BOUND)
        self.assertEqual(self.world.violations, [])
        self.assertEqual(self.world.watcher.suspended, {})

    def test_a_list_out_of_nothing_breaks_i11(self) -> None:
        """Nobody told it."""
        self.world.relist("a", "cd")
        self.assertIn("I11", self.world.broken)

    def test_whom_a_list_passes_over_all_of_a_sudden_breaks_i10(self) -> None:
        """b was a principal, and lives."""
        self.world.relist("a", "cd")
        self.assertIn("I10", self.world.broken)
        (found,) = [violation for violation in self.world.violations if violation.name == "I10"]
        self.assertIn("b is passed over", found.where)

    def test_an_error_that_grows_breaks_i13(self) -> None:
        """Its second entry was right."""
        self.world.relist("a", "bd")
        self.assertIn("I13", self.world.broken)

    def test_a_ring_that_falls_apart_by_itself_breaks_the_rest(self) -> None:
        """No failure came before it."""
        for name, entries in ("a", "ce"), ("c", "ea"), ("e", "ac"), ("b", "df"), ("d", "fb"), ("f", "bd"):
            self.world.relist(name, entries)
        self.assertLessEqual({"I2", "I4", "I5"}, self.world.broken)

    def test_what_concerns_one_member_is_never_suspended(self) -> None:
        """A list out of order."""
        self.world.crash("b", "c", "d")
        self.world.relist("a", "fe")
        self.assertIn("I8", self.world.broken)


class SuspendedTests(WatcherTestCase):
    """After a failure that broke the assumption."""

    def test_a_member_without_a_live_entry_is_counted(self) -> None:
        """And not a violation yet."""
        self.world.crash("b", "c")
        self.world.drop("a", "b", "c")
        self.assertEqual(self.world.violations, [])
        self.assertGreater(self.world.watcher.suspended["I1"], 0)

    def test_it_is_one_if_it_lasts(self) -> None:
        """Past the bound; the message says since what."""
        self.world.crash("b", "c")
        self.world.wait(BOUND - 2)
        self.assertEqual(self.world.violations, [])
        self.world.wait(4)
        self.assertEqual(self.world.violations[0].name, "I1")
        self.assertIn("not again within 60 s of b, c crashed", self.world.violations[0].where)

    def test_not_while_the_network_is_at_fault(self) -> None:
        """The time counts from when all reach all."""
        cut = self.world.network.cut("a", "f", one_way=True)
        self.world.watcher.failed("a cut")
        self.world.crash("b", "c")
        self.world.wait(2 * BOUND)
        self.assertEqual(self.world.violations, [])
        self.world.network.mend(cut)
        self.world.watcher.failed("a cut that was mended")
        self.world.wait(BOUND + 2)
        self.assertEqual(self.world.violations[0].name, "I1")

    def test_a_list_on_its_way_counts_as_one(self) -> None:
        """Whoever may yet take over a list of nothing but the dead has no
        live entry for sure."""
        witness = self.world.hosts["a"].witness
        witness.began("sim:b", "get-neighbours", GetNeighbours(0), self.world.members["b"].fp)
        (question,) = self.world.board.questions.values()
        self.assertEqual([len(extended) for extended in question.lists], [3])
        self.world.crash("b", "c", "d")
        self.assertEqual(self.world.watcher._standings[frozenset("aef")].held, False)

    def test_of_a_list_on_its_way_only_what_is_taken_over_counts(self) -> None:
        """It has one entry more than that; as long as it is on its way nothing holds again, either."""
        self.world.relist("a", "bd")
        witness = self.world.hosts["a"].witness
        witness.began("sim:b", "get-neighbours", GetNeighbours(0), self.world.members["b"].fp)
        (question,) = self.world.board.questions.values()
        self.assertEqual(question.lists, [tuple(self.world.members[name].id for name in "bcd")])
        self.world.crash("b", "c")
        self.assertEqual(self.world.watcher._standings[frozenset("adef")].held, False)
        self.world.watcher._look("")
        self.assertEqual(self.world.watcher._standings[frozenset("adef")].held, False)

    def test_once_all_hold_again_they_have_to(self) -> None:
        """A second break is a violation."""
        self.world.crash("b", "c")
        self.world.drop("a", "b", "c")
        self.assertEqual(self.world.violations, [])
        self.world.change("a", self.world.place("a").state._replace(successors=()))
        self.world.told("a", "d")
        self.world.relist("a", "de")
        self.world.drop("f", "b")
        self.mend("f", "a", "f")
        self.world.violations.clear()
        self.world.relist("a", "")
        self.assertIn("I1", self.world.broken)


class PartsTests(WatcherTestCase):
    """A network that is cut is looked at in parts."""

    def halves(self) -> Cut:
        """a, b, c on one side, d, e, f on the other."""
        cut = self.world.network.cut("abc", "def")
        self.world.watcher.failed("a cut")
        return cut

    def test_each_part_has_its_own_ring(self) -> None:
        """Whoever is on the other side is no member here."""
        self.halves()
        self.assertEqual(set(self.world.watcher._standings), {frozenset("abc"), frozenset("def")})
        self.world.drop("a", "d")
        self.world.drop("b", "d")
        self.assertEqual(self.world.violations, [])

    def test_two_rings_that_meet_are_no_violation_at_once(self) -> None:
        """But if they stay apart."""
        for name, entries in ("a", "bc"), ("b", "ca"), ("c", "ab"), ("d", "ef"), ("e", "fd"), ("f", "de"):
            members = tuple(self.world.members[at] for at in entries)
            self.world.place(name).state = self.world.place(name).state._replace(successors=members)
        cut = self.halves()
        self.world.over()
        self.world.violations.clear()
        self.world.network.mend(cut)
        self.world.watcher.failed("a cut that was mended")
        self.assertNotIn("I4", self.world.broken)
        self.world.violations.clear()
        self.world.wait(BOUND + 2)
        self.assertEqual(self.world.broken, {"I4"})

    def test_what_was_asked_across_a_cut_brings_nothing(self) -> None:
        """What was on its way before may arrive."""
        before = self.world.hosts["a"].witness
        before.began("sim:d", "get-neighbours", GetNeighbours(0), self.world.members["d"].fp)
        self.halves()
        before.began("sim:e", "get-neighbours", GetNeighbours(0), self.world.members["e"].fp)
        lists: list[Question] = list(self.world.board.questions.values())
        self.assertEqual([len(question.lists) for question in lists], [1, 0])

    def test_the_answer_of_one_that_is_alone_passes_over_who_comes_between(self) -> None:
        """To whoever takes it for his predecessor, and his whole list."""
        self.world.place("a").state = self.world.place("a").state._replace(predecessor=None, successors=())
        self.world.place("d").is_member = False
        self.world.over()
        question = FindSuccessor(bytes(20), 0)
        self.world.hosts["d"].witness.began("sim:a", "find-successor", question, self.world.members["a"].fp)
        a, d = self.world.members["a"].id, self.world.members["d"].id
        self.assertEqual(self.world.watcher._on_their_way(frozenset(NAMES)), [(a,), (d, a)])


class SuspicionTests(WatcherTestCase):
    """Whoever takes a living one for dead."""

    def test_it_is_a_failure_of_its_own(self) -> None:
        """After which I1 and I2 decide anew."""
        self.world.drop("a", "b")
        self.assertEqual(self.world.watcher.members.steps["false suspicion"], 1)
        self.assertEqual((self.world.violations, self.world.problems), ([], []))

    def test_without_any_reason_it_is_a_problem(self) -> None:
        """The network was sound, and everybody well."""
        self.world.calm = True
        self.world.drop("a", "b")
        self.assertEqual(self.world.problems, ["a took b for dead, though nothing was wrong"])

    def test_the_dead_may_be_taken_for_dead(self) -> None:
        """At any time."""
        self.world.crash("b")
        self.world.calm = True
        self.world.drop("a", "b")
        self.assertEqual(self.world.problems, [])
