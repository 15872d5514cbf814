"""A small ring in which every question, answer and notice is a message.

Members move by the shipped steps of ``peerstore.ring.position``, in the way
``peerstore.ring.upkeep`` applies them: one question at a time, an answer
applied only if it is the one that is waited for.  Messages arrive in any
order, late, twice or never.  Who asks finds out that somebody is dead when he
is, as the proof assumes; :meth:`MessageRing.suspect` and partitions take that
away, and ``sound`` says whether the failure assumption still holds.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from peerstore.ring import position as steps
from peerstore.ring.member import Member
from peerstore.ring.position import PositionState
from tests.support.ring import EIGHT, fp_of, ideal_state, ids_of, member
from tests.support.ring_invariants import Seen, broken, safe_to_crash

__all__ = ["Message", "MessageRing", "random_walk"]


class Captured(NamedTuple):
    """A member's state at the moment when it was asked."""

    predecessor: Member | None
    successors: tuple[Member, ...]


class Message(NamedTuple):
    """*kind* is "ask", "told", "not ready", "notify" or "leaving"."""

    kind: str
    source: int
    target: int
    nonce: int = 0
    body: Captured | None = None


class Question(NamedTuple):
    """What a member waits for: at most one thing at a time."""

    kind: str
    target: int
    nonce: int
    candidate: Member | None = None


class Node:
    """One place of the circle, whoever sits there."""

    def __init__(self, place: int, size: int) -> None:
        self.place = place
        self.state = PositionState(member(place).id, size)
        self.alive = False
        self.is_member = False
        self.question: Question | None = None
        self.notifier: Member | None = None
        #: Members met in this life: whom a probe can begin with.
        self.met: set[int] = set()


class MessageRing:
    """Eight places, and what is on its way between them.

    :param size: r.
    :param present: who makes the first ring, an ideal one.
    """

    def __init__(self, size: int, present: Sequence[int]) -> None:
        self.size = size
        self.nodes = [Node(place, size) for place in range(EIGHT)]
        self.messages: list[Message] = []
        self.side: dict[int, int] = {}
        self.sound = True
        self._nonce = 0
        for place in present:
            node = self.nodes[place]
            node.state = ideal_state(place, present, size)
            node.alive = node.is_member = True
            node.met.update(set(present) - {place})
        self._last = [node.state for node in self.nodes]

    # -- what happens ------------------------------------------------------------------

    def join(self, place: int, before: int) -> None:
        """An empty place begins to join behind a member; or one that was here
        before comes back: nothing but its id is the same."""
        node = self.nodes[place]
        if node.alive or not self._works(before):
            return
        node.state = self._last[place] = PositionState(node.state.me, self.size)
        node.alive, node.notifier, node.met = True, None, {before}
        self._ask(node, "join", before)

    def crash(self, place: int) -> None:
        """A machine is gone.  One that breaks the assumption is counted."""
        node = self.nodes[place]
        if node.is_member and not self.may_crash(place):
            self.sound = False
        node.alive = node.is_member = False
        node.question = None

    def leave(self, place: int) -> None:
        """A member says goodbye to whom it knows, and is gone."""
        if self.nodes[place].is_member:
            state = self.nodes[place].state
            for neighbour in {*ids_of(state.successors), *ids_of([state.predecessor] if state.predecessor else [])}:
                self.messages.append(Message("leaving", place, neighbour))
            self.crash(place)

    def fire(self, place: int, what: str) -> None:
        """A timer: begin a step, unless one is under way."""
        node = self.nodes[place]
        if not node.is_member or node.question is not None:
            return
        present = node.state.told_predecessor
        if what == "stabilize" and node.state.first is not None:
            self._ask(node, "stabilize", _place(node.state.first))
        elif what == "check" and present is not None:
            self._ask(node, "check", _place(present))
        elif what == "rectify" and node.notifier is not None:
            candidate, node.notifier = node.notifier, None
            if present is None or steps.is_better(node.state, candidate):
                self._ask(node, "rectify", _place(candidate), candidate)
            else:
                self._ask(node, "compare", _place(present), candidate)

    def deliver(self, number: int) -> None:
        """One of the messages arrives, whichever."""
        message = self.messages.pop(number % len(self.messages))
        node = self.nodes[message.target]
        if not node.alive or not self._connected(message.source, message.target):
            return
        if message.kind == "ask":
            state = node.state
            kind, body = (
                ("told", Captured(state.told_predecessor, state.successors)) if node.is_member else ("not ready", None)
            )
            self.messages.append(Message(kind, message.target, message.source, message.nonce, body))
        elif message.kind == "notify" and node.is_member:
            self._notified(node, member(message.source))
        elif message.kind == "leaving" and node.is_member and not self.nodes[message.source].alive:
            node.state = steps.drop_host(node.state, fp_of(message.source))
        elif node.question is not None and node.question.nonce == message.nonce:
            question, node.question = node.question, None
            if message.kind == "told" and message.body is not None:
                self._answered(node, question, message.body)
            elif message.kind == "not ready":
                self._gone(node, question, steps.drop_member(node.state, member(question.target).id))

    def drop(self, number: int) -> None:
        """One of the messages is lost."""
        self.messages.pop(number % len(self.messages))

    def duplicate(self, number: int) -> None:
        """One of the messages will arrive twice."""
        self.messages.append(self.messages[number % len(self.messages)])

    def expire(self, place: int) -> None:
        """What was asked was not answered in time.  Who is dead is known to be
        from now on; who is not, is asked again another time."""
        node = self.nodes[place]
        if node.question is None:
            return
        question, node.question = node.question, None
        target = self.nodes[question.target]
        if question.kind == "join":
            node.alive = False
        elif not target.alive or not self._connected(place, question.target):
            if target.is_member:
                self.sound = False
            self._gone(node, question, steps.drop_host(node.state, fp_of(question.target)))

    def suspect(self, place: int) -> None:
        """What was asked was not answered in time, and the asked is taken for
        dead, though it may only be slow."""
        node = self.nodes[place]
        if node.question is not None and node.question.kind != "join":
            question, node.question = node.question, None
            if self.nodes[question.target].is_member:
                self.sound = False
            self._gone(node, question, steps.drop_host(node.state, fp_of(question.target)))

    def partition(self, some: Sequence[int]) -> None:
        """Nothing passes between these and the others."""
        self.side = {place: int(place in some) for place in range(EIGHT)}

    def heal(self) -> None:
        """Everything passes."""
        self.side = {}

    def probe(self, place: int, other: int) -> None:
        """Look our place up on somebody's ring, and ask who is after it there."""
        node = self.nodes[place]
        if not node.is_member or node.question is not None or not self._works(other) or place == other:
            return
        if not self._connected(place, other):
            return
        before = self._before(other, node)
        theirs = self.nodes[before].state
        if theirs.first is not None and _place(theirs.first) == place:
            return
        entries = [*ids_of(theirs.successors), before]
        after = next(entry for entry in entries if entry != place)
        knows_others = any(entry != place for entry in ids_of(theirs.successors))
        first = node.state.first
        if knows_others and (first is None or steps.make_list(node.state.me, (member(after), first), 2)[1:]):
            self._ask(node, "adopt", after)
        self.messages.append(Message("notify", place, after))

    # -- one step after the other ------------------------------------------------------------

    def _ask(self, node: Node, kind: str, target: int, candidate: Member | None = None) -> None:
        self._nonce += 1
        node.question = Question(kind, target, self._nonce, candidate)
        self.messages.append(Message("ask", node.place, target, self._nonce))

    def _notified(self, node: Node, candidate: Member) -> None:
        present = node.notifier
        state = node.state._replace(predecessor=present, suspected=False)
        if candidate.id != node.state.me and steps.is_better(state, candidate):
            node.notifier = candidate

    def _answered(self, node: Node, question: Question, told: Captured) -> None:
        node.met.add(question.target)
        asked = member(question.target)
        if question.kind == "join":
            joined = steps.joined(node.state, asked, told.predecessor, told.successors)
            if joined is None:
                node.alive = False
                return
            node.state, node.is_member = joined, True
            self._notify_first(node)
        elif question.kind == "stabilize":
            node.state, candidate = steps.stabilized(node.state, asked, told.predecessor, told.successors)
            if candidate is not None:
                self._ask(node, "adopt", _place(candidate))
            else:
                self._notify_first(node)
        elif question.kind == "adopt":
            node.state = steps.adopted(node.state, asked, told.successors)
            self._notify_first(node)
        elif question.kind == "rectify":
            assert question.candidate is not None
            node.state = steps.rectified(node.state, question.candidate, not node.state.suspected)

    def _gone(self, node: Node, question: Question, state: PositionState) -> None:
        node.state = state
        if question.kind == "compare" and question.candidate is not None:
            self._ask(node, "rectify", _place(question.candidate), question.candidate)

    def _notify_first(self, node: Node) -> None:
        if node.state.first is not None:
            self.messages.append(Message("notify", node.place, _place(node.state.first)))

    def _before(self, start: int, node: Node) -> int:
        """Who is before a place on the ring of *start*, by best pointers."""
        at, seen = start, {start}
        while True:
            entries = [entry for entry in ids_of(self.nodes[at].state.successors) if self._works(entry)]
            following = next((entry for entry in entries if self._connected(start, entry)), None)
            if following is None or (node.place - at) % EIGHT <= (following - at) % EIGHT or following in seen:
                return at
            seen.add(following)
            at = following

    def _works(self, place: int) -> bool:
        return self.nodes[place].alive and self.nodes[place].is_member

    def _connected(self, a: int, b: int) -> bool:
        return self.side.get(a) == self.side.get(b)

    # -- what is seen ------------------------------------------------------------------------

    def members(self) -> list[int]:
        """Places of all members."""
        return [node.place for node in self.nodes if node.is_member]

    def snapshot(self) -> dict[int, Seen]:
        """All members at once."""
        return {place: self._seen(self.nodes[place].state) for place in self.members()}

    @staticmethod
    def _seen(state: PositionState) -> Seen:
        before = ids_of([state.predecessor])[0] if state.predecessor is not None else None
        return before, tuple(ids_of(state.successors))

    def in_flight(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """(who, list): lists on their way to somebody who waits for them."""
        for message in self.messages:
            node = self.nodes[message.target]
            question = node.question
            if message.body is None or question is None or question.nonce != message.nonce or not node.alive:
                continue
            entries = tuple(ids_of(message.body.successors))
            if question.kind == "join":
                yield node.place, tuple(entry for entry in entries if entry != node.place) or (message.source,)
            elif question.kind in ("stabilize", "adopt"):
                behind = steps.make_list(node.state.me, (member(message.source), *message.body.successors), self.size)
                yield node.place, tuple(ids_of(behind))

    def may_crash(self, place: int) -> bool:
        """F*, lists on their way counted."""
        return safe_to_crash(self.snapshot(), place, self.size, list(self.in_flight()))

    def broken(self) -> list[str]:
        """Which invariants do not hold; I7 and I8 are asserted by each step."""
        lists = [(place, *entries) for place, entries in self.in_flight() if self.nodes[place].is_member]
        return broken(self.snapshot(), self.size, lists)

    def wrong_moves(self) -> list[str]:
        """Since this was asked last: predecessors that gave way to worse ones
        though nothing was wrong with them (a part of I11)."""
        found = []
        for node in self.nodes:
            before, now = self._last[node.place], node.state
            self._last[node.place] = now
            if before.predecessor is None or before.suspected or now.predecessor is None or not node.is_member:
                continue
            if not steps.is_better(before, now.predecessor):
                found.append("I11 Refinement")
        return found

    def is_ideal(self) -> bool:
        """Whether all members know just what they should."""
        present = self.members()
        return all(
            self._seen(self.nodes[place].state) == self._seen(ideal_state(place, present, self.size))
            and not self.nodes[place].state.suspected
            for place in present
        )

    # -- coming to rest ------------------------------------------------------------------------

    def settle(self, most: int, probing: bool) -> int | None:
        """Rounds without faults until the ring is ideal: each member makes its
        steps in turn, and every message arrives at once."""
        self.heal()
        self._arrive()
        for rounds in range(most + 1):
            if self.is_ideal():
                return rounds
            for place in self.members():
                for what in ("rectify", "stabilize", "check"):
                    self.fire(place, what)
                    self._arrive()
                if probing:
                    for other in sorted(self.nodes[place].met):
                        self.probe(place, other)
                        self._arrive()
        return None

    def _arrive(self) -> None:
        while self.messages or any(node.question is not None for node in self.nodes):
            while self.messages:
                self.deliver(0)
            for node in self.nodes:
                self.expire(node.place)


def _place(of: Member) -> int:
    return ids_of([of])[0]


#: What a random walk does, and how often.
RULES = {
    "join": 6,
    "crash": 2,
    "leave": 1,
    "stabilize": 20,
    "rectify": 16,
    "check": 5,
    "deliver": 60,
    "drop": 3,
    "duplicate": 3,
    "expire": 10,
}


def random_walk(seed: int, size: int, length: int) -> list[str]:
    """Walk at random while the failure assumption holds: what broke first, or
    "rest" when the ring did not become ideal afterwards, or nothing."""
    rng = random.Random(seed)
    ring = MessageRing(size, rng.sample(range(EIGHT), size + 1))
    names, weights = list(RULES), list(RULES.values())
    for _ in range(length):
        what, place = rng.choices(names, weights)[0], rng.randrange(EIGHT)
        if what in ("crash", "leave"):
            if ring.nodes[place].is_member and ring.may_crash(place):
                ring.crash(place) if what == "crash" else ring.leave(place)
        elif what == "join":
            ring.join(place, rng.randrange(EIGHT))
        elif what in ("stabilize", "rectify", "check"):
            ring.fire(place, what)
        elif what == "expire":
            ring.expire(place)
        elif ring.messages:
            getattr(ring, what)(rng.randrange(len(ring.messages)))
        found = ring.broken() + ring.wrong_moves()
        if found:
            return found
    return [] if ring.settle(24, probing=False) is not None else ["rest"]
