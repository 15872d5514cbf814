"""What a host was told is kept just as long as it may act upon it."""

from __future__ import annotations

import hashlib
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from peerstore import ids
from peerstore.errors import NotReady, PeerTimeout, PeerUnreachable
from peerstore.interfaces import IPeerPool
from peerstore.sim.refinement import Answer, Step
from peerstore.sim.witness import Board, Question, Witness, WitnessPool
from peerstore.wire.bodies import (
    FindSuccessor,
    Found,
    GetNeighbours,
    GetNodeRecords,
    Leaving,
    Neighbours,
    NodeRecords,
    Notify,
    PositionRef,
)


def fp_of(name: str) -> bytes:
    """A host's fingerprint."""
    return hashlib.sha256(name.encode()).digest()


def ref(name: str, index: int = 0) -> PositionRef:
    """A position, as the wire names it."""
    return PositionRef(fp_of(name), index, 1, f"sim:{name}")


def at(name: str, index: int = 0) -> int:
    """Its ring id; here any numbers do."""
    return 100 * ord(name) + index


@implementer(IPeerPool)
class Asked:
    """A pool whose answers the test gives."""

    def __init__(self) -> None:
        self.answers: list[Deferred[Any]] = []
        self.unreachable: Exception | None = None

    def call(self, *question: Any) -> Deferred[Any]:
        """Answered by the test."""
        if self.unreachable is not None:
            return fail(self.unreachable)
        self.answers.append(Deferred())
        return self.answers[-1]

    def peer(self, address: str, fp: bytes | None = None) -> Deferred[Any]:
        """Nobody there, unless a test says so."""
        return fail(self.unreachable or PeerUnreachable("nobody"))

    def drop(self, address: str) -> None:
        """Nothing."""

    def forget_backoff(self, address: str) -> None:
        """Nothing."""

    def watch_losses(self, callback: Any) -> None:
        """Nothing."""

    def stop(self) -> Any:
        """Nothing."""


class WitnessTestCase(SynchronousTestCase):
    """Host a asks b, and others are talked of."""

    def setUp(self) -> None:
        """Two positions for each host."""
        self.now, self.event = 0.0, 0
        self.board = Board(lambda: self.now, lambda: self.event)
        for name in "abc":
            self.board.positions[fp_of(name)] = (at(name), at(name, 1))
            self.board.names[fp_of(name)] = name
        self.witness = Witness(self.board, fp_of("a"), "a")
        self.asked = Asked()
        self.pool = WitnessPool(self.asked, self.witness)

    def ask(self, method: str, body: Any, fp: bytes | None = fp_of("b")) -> Deferred[Any]:
        """A question of a's."""
        asking = self.pool.call("sim:b", method, body, 2.0, fp)
        asking.addErrback(lambda failure: None)
        return asking

    def neighbours(self) -> None:
        """b tells of its neighbours: a before it, c behind it."""
        self.ask("get-neighbours", GetNeighbours(0))
        self.asked.answers[-1].callback(Neighbours(ref("b"), 1, ref("a"), (ref("c"), ref("a", 1))))

    def next_event(self) -> None:
        """The present one is over."""
        self.witness.event_over()
        self.event += 1

    def answers(self, *unknown: str) -> list[Answer]:
        """What a may act upon, if it lacks the keys of some hosts."""
        return self.witness.answers(lambda fp: fp not in [fp_of(name) for name in unknown])


class AnswerTests(WitnessTestCase):
    """What was told."""

    def test_the_pool_is_one(self) -> None:
        """It stands where the shipped one stands."""
        verifyObject(IPeerPool, self.pool)

    def test_an_answer_is_good_in_its_event(self) -> None:
        """And in no other."""
        self.neighbours()
        self.assertEqual(self.answers(), [Answer(at("b"), at("a"), (at("c"), at("a", 1)))])
        self.next_event()
        self.assertEqual(self.answers(), [])

    def test_it_waits_for_the_keys_of_whom_it_names(self) -> None:
        """As long as any are asked for."""
        self.neighbours()
        self.ask("get-node-records", GetNodeRecords((fp_of("c"),)))
        self.next_event()
        self.assertEqual(len(self.answers()), 1)
        self.asked.answers[-1].callback(NodeRecords(()))
        self.assertEqual(len(self.answers()), 1)
        self.next_event()
        self.assertEqual(self.answers(), [])

    def test_whose_key_did_not_come_is_not_in_it(self) -> None:
        """Nobody can make anything of a reference to him."""
        self.neighbours()
        self.assertEqual(self.answers("c"), [Answer(at("b"), at("a"), (at("a", 1),))])

    def test_steps_of_lookups_are_apart(self) -> None:
        """And counted by their key."""
        key = bytes(20)
        for _ in range(2):
            self.ask("find-successor", FindSuccessor(key, -1), None)
            self.asked.answers[-1].callback(Found(ref("b"), 1, ref("a"), False, True, (ref("c"),), ()))
        self.assertEqual(self.answers(), [])
        self.assertEqual(self.witness.steps(lambda fp: True)[0], Step(at("b"), at("a"), False, True, (at("c"),)))
        self.assertEqual(self.witness.steps_to[ids.to_bytes(0)], 2)
        self.ask("find-successor", FindSuccessor(key, 0))
        self.assertEqual((self.witness.most_asked(0), self.witness.most_asked(1)), (2, 0))
        self.next_event()
        self.assertEqual(self.witness.steps(lambda fp: True), [])


class SilenceTests(WitnessTestCase):
    """Who did not answer."""

    def test_a_silent_host_is_silent_in_that_event(self) -> None:
        """With all its positions, whether it was asked or dialled."""
        for error in (PeerTimeout("late"), PeerUnreachable("nobody")):
            self.ask("get-neighbours", GetNeighbours(1))
            self.asked.answers[-1].errback(error)
            self.assertEqual(self.witness.silent(), [(at("b"), at("b", 1))])
            self.next_event()
            self.assertEqual(self.witness.silent(), [])
        self.pool.peer("sim:b", fp_of("b")).addErrback(lambda failure: None)
        self.assertEqual(self.witness.silent(), [(at("b"), at("b", 1))])

    def test_a_position_that_does_not_serve_is_one_position(self) -> None:
        """Its host lives."""
        self.ask("get-neighbours", GetNeighbours(1))
        self.asked.answers[-1].errback(NotReady("joining"))
        self.assertEqual((self.witness.silent(), self.witness.not_serving()), ([], [at("b", 1)]))
        self.next_event()
        self.assertEqual(self.witness.not_serving(), [])

    def test_notices_and_leaves_are_on_the_board(self) -> None:
        """For those whom they concern, for a while."""
        self.ask("notify", Notify(1, ref("a"), False))
        self.ask("notify", Notify(0, ref("a", 1), True))
        self.ask("leaving", Leaving(1, False))
        self.assertEqual(self.board.notifiers(at("b", 1)), [at("a")])
        self.assertEqual(self.board.notifiers(at("b")), [])
        self.assertEqual(self.board.leavers(lambda fp: 1), [(at("a"), at("a", 1))])
        self.assertEqual(self.board.leavers(lambda fp: 2), [], "a later life is known of")
        self.now = 1000.0
        self.assertEqual((self.board.notifiers(at("b", 1)), self.board.leavers(lambda fp: 1)), ([], []))


class QuestionTests(WitnessTestCase):
    """What is on its way."""

    def test_a_question_is_on_the_board_until_it_was_acted_upon(self) -> None:
        """Also one that waits for keys."""
        seen: list[Question] = []
        self.board.watch_questions(seen.append)
        self.neighbours()
        (question,) = self.board.questions.values()
        self.assertEqual(seen, [question])
        self.assertEqual(self.board.asked_members(question), (at("b"),))
        self.next_event()
        self.assertEqual(self.board.questions, {})

    def test_one_that_failed_is_gone(self) -> None:
        """At once."""
        self.ask("get-neighbours", GetNeighbours(0))
        self.asked.answers[-1].errback(PeerTimeout("late"))
        self.assertEqual(self.board.questions, {})

    def test_any_position_may_answer_a_lookup(self) -> None:
        """Where none is named."""
        self.ask("find-successor", FindSuccessor(bytes(20), -1))
        (question,) = self.board.questions.values()
        self.assertEqual(self.board.asked_members(question), (at("b"), at("b", 1)))

    def test_a_host_that_ends_takes_its_own_with_it(self) -> None:
        """And not those of another machine that has its key."""
        self.ask("get-neighbours", GetNeighbours(0))
        twin = WitnessPool(self.asked, Witness(self.board, fp_of("a"), "copy-of-a"))
        twin.call("sim:b", "get-neighbours", GetNeighbours(0), 2.0, fp_of("b"))
        self.witness.end()
        self.assertEqual([question.machine for question in self.board.questions.values()], ["copy-of-a"])
