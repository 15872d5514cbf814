"""Looks at a world after every event, and says what must not be.

I7, I8 and I11 are looked at for every member that changed, at every change
(``sim.members``).  All others are looked at for each part of the network whose
hosts can reach each other, whenever a member of it changed.  I10 and I13 hold
always; I1 to I6 and I9 while the failure assumption F* does: no failure leaves
a member without a live entry in its list, lists on their way included, and
none takes a principal while there are only r + 1.

A failure here is a crash, a leave, a cut, a mended cut (two rings meet), a
host that found nobody and stood alone, and also that a member gives up
another that lives: failure detectors of real networks are wrong at times.
Right after each failure, and at no other moment, I1 and I2 decide whether F*
was kept.  If not, all of these invariants are suspended, and counted, until
they hold again; and they have to within ``bound`` seconds of the last failure.

A ring of no more than r members, and one that has just grown beyond, has no
r + 1 principals to lose.  I1 and I3 to I6 are asked of it all the same, from
the moment at which they hold until a failure breaks one of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from peerstore.sim.invariants import (
    RING_INVARIANTS,
    MemberState,
    Violation,
    check_ring,
    measure,
    nobody_passed_over,
    principals,
)
from peerstore.sim.members import Members
from peerstore.sim.refinement import View
from peerstore.sim.standing import Standing, parts_of
from peerstore.sim.witness import Question

if TYPE_CHECKING:
    from peerstore.sim.world import World

__all__ = ["Watcher"]

Snapshot = Mapping[int, MemberState]
Lists = list[tuple[int, ...]]


class Watcher:
    """The invariants of one world.

    :param bound: within so many virtual seconds of the last failure all
        invariants hold again, in each part that is whole.
    """

    def __init__(self, world: World, bound: float) -> None:
        self._world = world
        self._bound = bound
        self.members = Members(world, world.violated, self._note_list, self._same_part)
        world.board.watch_questions(self._note_lists_for)
        self._snapshot: Snapshot = {}
        self._parts: list[frozenset[str]] = []
        self._standings: dict[frozenset[str], Standing] = {}
        #: How often each invariant was looked at; how often it did not hold
        #: while it was suspended; milliseconds in which it was, and was not.
        self.checks = self.members.checks
        self.suspended: Counter[str] = Counter()
        self.time: Counter[str] = Counter()
        #: The longest that it took until all held again.
        self.slowest = 0.0
        self._last_time = 0.0

    # -- what the world tells --------------------------------------------------------

    def failed(self, what: str) -> None:
        """A failure was just put in, or taken back."""
        self.members.attach()
        self._parts = []
        self._look(what)

    def after_event(self) -> None:
        """One event is over."""
        self.members.after_event()
        if self.members.changed:
            self._look(self.members.failure)
        for host in self._world.live.values():
            if host.witness is not None:
                host.witness.event_over()

    def due(self) -> None:
        """Now and then: whether anything is suspended for too long."""
        now, network = self._world.clock.seconds(), self._world.network
        if not all(standing.held and standing.fine for standing in self._standings.values()):
            # A list that was on its way may have got lost.
            self._look("")
        tangled = network.faulty or network.rough or self._world.someone_paused or self._world.twins
        for standing in self._standings.values():
            self.time[standing.time] += int(1000 * (now - self._last_time))
            if tangled and not standing.whole:
                standing.since = now
            if not standing.fine and now - standing.since > self._bound:
                found = standing.violations[0] if standing.violations else Violation("F*", "not all have joined")
                late = f"{found.where}, and not again within {self._bound:.0f} s of {standing.why}"
                self._world.violated(Violation(found.name, late))
                standing.since = now
        self._last_time = now

    # -- looking -----------------------------------------------------------------------

    def _look(self, why: str) -> None:
        """Members have changed; *why* is the failure that did it, if one did."""
        members = self.members
        members.seen()
        for question in self._world.board.questions.values():
            self._note_lists_for(question)
        before, self._snapshot = self._snapshot, members.live()
        churn = bool(why) or before.keys() != self._snapshot.keys()
        standings = {}
        for part in self._network_parts():
            standing = self._standings.get(part)
            cause = why
            if standing is None:
                origins = [other for names, other in self._standings.items() if names & part]
                standing = Standing.after(origins, self._world.clock.seconds())
                if len(origins) > 1:
                    cause = why or "two parts that met"
            here = {member: state for member, state in self._snapshot.items() if members.machine(member) in part}
            self._look_at(part, standing, here, cause, churn or bool(cause))
            standings[part] = standing
        self._standings = standings

    def _look_at(self, part: frozenset[str], standing: Standing, members: Snapshot, why: str, churn: bool) -> None:
        size, now = self._world.list_size, self._world.clock.seconds()
        lists = self._on_their_way(part)
        found = check_ring(members, size, lists)
        names = {violation.name for violation in found}
        standing.violations = found
        standing.whole = self._whole(part)
        if churn:
            standing.since, standing.why = now, why or standing.why
            standing.fine = not found
        # Of those whom a list on its way names only the first r are taken over.
        arriving = all(any(entry in members for entry in extended[:size]) for extended in lists)
        if why and standing.held:
            # Where there are r + 1 principals, I1 and I2 are all that matters; a
            # small ring has no such base, and two of them may have met.
            based = standing.grown and len(members) > size
            broken = names & {"I1", "I2"} if based else names - {"I2", "I9"}
            standing.held = arriving and not broken
        if len(members) < 2 or self._world.twins:
            # Whoever is alone has an empty list, and still has it when the next
            # one joins.  Two with one key are one member with two minds.
            standing.held = False
        if len(members) <= size:
            standing.grown = False
        elif not names & {"I2", "I9"}:
            standing.grown = True
        if standing.held:
            asked = [name for name in RING_INVARIANTS if standing.grown or name not in ("I2", "I9")]
            self.checks.update(asked)
            for violation in found:
                if violation.name in asked:
                    self._world.violated(violation)
        else:
            self.suspended.update(violation.name for violation in found)
        if not found:
            if not standing.fine:
                standing.fine = True
                self.slowest = max(self.slowest, now - standing.since)
            based = standing.grown or nobody_passed_over(members, lists)
            standing.held = standing.held or (standing.whole and arriving and based and len(members) > 1)
        if self._world.twins:
            standing.principals = standing.error = None
            return
        self._look_at_principals(standing, members, lists, why)
        self._look_at_measure(standing, members, lists, churn)

    def _look_at_principals(self, standing: Standing, members: Snapshot, lists: Lists, why: str) -> None:
        """I10: they only cease to be by their own crash.

        Wherever all lists are full, also while F* is broken: a list that is
        not may yet pass over anybody, when its end is found.
        """
        size, chosen = self._world.list_size, principals(members, lists)
        full = len(members) > size and all(len(state.successors) == size for state in members.values())
        if full and standing.principals is not None and not why:
            self.checks["I10"] += 1
            for member in standing.principals:
                if member not in chosen and member in members:
                    where = f"{self.members.machine(member)} is passed over, and was not"
                    self._world.violated(Violation("I10", where))
        standing.principals = chosen if full else None

    def _look_at_measure(self, standing: Standing, members: Snapshot, lists: Lists, churn: bool) -> None:
        """I13: between comings and goings it only gets better, F* or not.

        Of first entries and predecessors that holds once no answer of those
        who are gone is on its way; of lists as a whole once nobody who is gone
        is named in any: he may be brought back to somebody who knew already.
        """
        named = {entry for state in members.values() for entry in (*state.successors, state.predecessor)}
        named.update(entry for extended in lists for entry in extended)
        named.discard(None)
        error, before = measure(members, self._world.list_size, lists), standing.error
        haunted, ghosts = standing.haunted, standing.ghosts
        standing.error, standing.haunted = error, not members.keys() >= named
        standing.ghosts = any(extended[0] not in members for extended in lists)
        if before is None or churn or ghosts:
            return
        self.checks["I13"] += 1
        if error.near > before.near or (error > before and not haunted):
            self._world.violated(Violation("I13", f"the error grew from {tuple(before)} to {tuple(error)}"))

    # -- lists on their way ---------------------------------------------------------------

    def _note_list(self, member: int, view: View) -> None:
        """Whoever asked a member may be told what it holds now."""
        board = self._world.board
        for question in board.questions.values():
            if member in board.asked_members(question):
                self._may_bring(question, member, view)

    def _note_lists_for(self, question: Question) -> None:
        """Whoever asks this may be told what those whom it asks hold now."""
        for member in self._world.board.asked_members(question):
            if member in self.members.watched:
                self._may_bring(question, member, self.members.watched[member].view)

    def _may_bring(self, question: Question, member: int, view: View) -> None:
        extended = (member, *view.successors)
        if not view.is_member or extended in question.lists:
            return
        # While the way is cut nothing gets onto it; what is on it may arrive.
        if self._world.network.joined(question.machine, self._world.board.names.get(question.fp or b"", "")):
            question.lists.append(extended)

    def _on_their_way(self, part: frozenset[str]) -> Lists:
        """All lists that hosts here may yet take over."""
        board = self._world.board
        found: dict[tuple[int, ...], None] = {}
        for question in board.questions.values():
            positions = board.positions[question.asker]
            askers = [self.members.watched[at] for at in positions if at in self.members.watched]
            if not askers or question.machine not in part:
                continue
            # Who is a member already takes no list over from a lookup.
            joining = [asker.place.id for asker in askers if not asker.view.is_member]
            if question.method == "get-neighbours" or joining:
                found.update(dict.fromkeys(question.lists))
            if question.method == "find-successor":
                # Whoever joins one that is alone lists just that one, and so
                # passes over all who come between before he hears of it.
                alone = [extended for extended in question.lists if len(extended) == 1]
                found.update(dict.fromkeys((at, *extended) for at in joining for extended in alone))
        return list(found)

    # -- parts of the network -----------------------------------------------------------

    def _network_parts(self) -> list[frozenset[str]]:
        """Hosts that reach each other, at least through others."""
        if {name for part in self._parts for name in part} != self._world.live.keys():
            self._parts = parts_of(self._world.network.joined, sorted(self._world.live))
        return self._parts

    def _same_part(self, one: str, other: str) -> bool:
        return any(one in part and other in part for part in self._network_parts())

    def _whole(self, part: frozenset[str]) -> bool:
        """Whether everybody in it reaches everybody, in good time."""
        network = self._world.network
        if self._world.someone_paused or network.rough or self._world.twins:
            return False
        names = sorted(part)
        return not network.faulty or all(network.joined(a, b) for a in names for b in names if a < b)
