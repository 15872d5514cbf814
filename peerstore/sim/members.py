"""Every position of every host that runs, and each change of one of them.

Looked at whenever a position changes: I7 and I8, of its list, and I11, that
the change is one of the protocol's steps (``sim.refinement``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from peerstore import ids
from peerstore.sim.invariants import MemberState, Violation, check_local
from peerstore.sim.refinement import Answer, Evidence, Step, View, explain, explain_join

if TYPE_CHECKING:
    from peerstore.sim.host import SimHost
    from peerstore.sim.world import World

__all__ = ["Members", "Watched", "view_of"]


def view_of(place: Any) -> View:
    """One of a host's positions, as ring ids."""
    state = place.state
    before = state.predecessor
    return View(
        place.is_member,
        before.id if before is not None else None,
        state.suspected,
        tuple(entry.id for entry in state.successors),
    )


class Watched:
    """One position that is looked at, as it was when last seen."""

    __slots__ = ("host", "place", "ring", "state", "view")

    def __init__(self, host: SimHost, ring: Any, place: Any) -> None:
        self.host = host
        self.ring = ring
        self.place = place
        self.state = place.state
        self.view = view_of(place)


class Members:
    """All positions of a world.

    :param violated: told what must not be.
    :param changing: told of a member and what it was, before it is that no more.
    :param same_part: whether two machines reach each other, at least through
        others.
    """

    def __init__(
        self,
        world: World,
        violated: Callable[[Violation], None],
        changing: Callable[[int, View], None],
        same_part: Callable[[str, str], bool],
    ) -> None:
        self._world = world
        self._violated = violated
        self._changing = changing
        self._same_part = same_part
        self._rings: dict[str, Any] = {}
        self.watched: dict[int, Watched] = {}
        #: Something changed since :meth:`seen`.
        self.changed = False
        #: And this failure did it, or "".
        self.failure = ""
        self.checks: Counter[str] = Counter()
        self.steps: Counter[str] = Counter()

    def after_event(self) -> None:
        """One event is over."""
        world = self._world
        for host in world.live.values():
            ring = host.node.ring if host.node is not None else None
            if host.name not in self._rings and ring is not None and not host.shadow:
                self.attach()
                break
        for watched in self.watched.values():
            if watched.place.state is not watched.state or watched.place.is_member != watched.view.is_member:
                self._transition(watched)

    def seen(self) -> str:
        """Forget that something changed; the failure that did it, or ""."""
        failure, self.failure, self.changed = self.failure, "", False
        return failure

    def live(self) -> Mapping[int, MemberState]:
        """The members, as it is at this moment."""
        found = {}
        for key, watched in self.watched.items():
            view = watched.view
            if view.is_member and watched.ring.serving:
                found[key] = MemberState(None if view.suspected else view.predecessor, view.successors)
        return found

    def machine(self, member: int) -> str:
        """Where a position is; for one that is gone, its id."""
        watched = self.watched.get(member)
        return watched.host.name if watched is not None else ids.short(member)

    def attach(self) -> None:
        """Watch the rings of hosts that run now, and of no others."""
        world = self._world
        rings = {host.name: host.node.ring for host in world.live.values() if host.node is not None and not host.shadow}
        gone = [key for key, watched in self.watched.items() if rings.get(watched.host.name) is not watched.ring]
        for key in gone:
            del self.watched[key]
        for name in list(self._rings):
            if rings.get(name) is not self._rings[name]:
                del self._rings[name]
        for name, ring in rings.items():
            if ring is not None and name not in self._rings:
                self._rings[name] = ring
                for place in ring.positions:
                    self.watched[place.id] = Watched(world.hosts[name], ring, place)
                ring.watch_changes(self._watcher_of(ring))
        self.changed = True

    def _watcher_of(self, ring: Any) -> Callable[[], None]:
        def changed() -> None:
            for place in ring.positions:
                watched = self.watched.get(place.id)
                if watched is not None and watched.ring is ring and place.state is not watched.state:
                    self._transition(watched)

        return changed

    # -- one change ------------------------------------------------------------------

    def _transition(self, watched: Watched) -> None:
        """A position has changed: is it sound, and why was it?"""
        place, before = watched.place, watched.view
        after = view_of(place)
        watched.state, watched.view = place.state, after
        if before == after:
            return
        self.changed = True
        self._changing(place.id, before)
        self.checks.update(("I7", "I8"))
        for violation in check_local(place.id, after.successors):
            self._violated(violation)
        if not before.is_member or not after.is_member:
            if after.is_member:
                self._explain_join(watched)
            return
        step = explain(place.id, place.state.size, before, after, self._evidence(watched))
        self._explained(watched, step, before, after)
        if step == "drop":
            self._note_suspicion(watched, before, after)

    def _explain_join(self, watched: Watched) -> None:
        place = watched.place
        step = explain_join(place.id, place.state.size, watched.view, self._evidence(watched, joins=True))
        self._explained(watched, step, View(), watched.view)
        if step == "alone":
            # A second ring beside the one that there may be.
            self.failure = f"{watched.host.name} stood alone"

    def _explained(self, watched: Watched, step: str | None, before: View, after: View) -> None:
        self.checks["I11"] += 1
        if step is not None:
            self.steps[step] += 1
            return

        def told(view: View) -> str:
            before = ids.short(view.predecessor) if view.predecessor is not None else "nobody"
            return f"[{before}{'?' if view.suspected else ''} < {' '.join(map(ids.short, view.successors))}]"

        who = ids.short(watched.place.id)
        self._violated(Violation("I11", f"{who}: no step leads from {told(before)} to {told(after)}"))

    def _note_suspicion(self, watched: Watched, before: View, after: View) -> None:
        """A drop of somebody who lives is a failure of the failure detector."""
        gone: set[int | None] = {entry for entry in before.successors if entry not in after.successors}
        if not before.suspected and (after.suspected or after.predecessor is None):
            gone.add(before.predecessor)
        live = self.live()
        for member in sorted(at for at in gone if at is not None and at in live):
            if self._same_part(watched.host.name, self.machine(member)):
                self.failure = f"{watched.host.name} took {self.machine(member)} for dead"
                self.steps["false suspicion"] += 1
                if self._world.calm:
                    self._world.problem(f"{self.failure}, though nothing was wrong")
                return

    # -- what a change may follow from ---------------------------------------------------

    def _evidence(self, watched: Watched, joins: bool = False) -> Evidence:
        ring, board = watched.ring, self._world.board
        witness = watched.host.witness
        assert witness is not None
        known = ring.hosts.__contains__

        def last_life(fp: bytes) -> int:
            record = ring.hosts.record(fp)
            return record.incarnation if record is not None else 0

        siblings = [place for place in ring.positions if place.id != watched.place.id]
        here = [(place.id, view_of(place)) for place in siblings if place.is_member]
        steps = witness.steps(known)
        if joins:
            steps += self._steps_here(here, watched.place.id)
        return Evidence(
            [
                *witness.answers(known),
                *(Answer(at, None if view.suspected else view.predecessor, view.successors) for at, view in here),
            ],
            steps,
            [*board.notifiers(watched.place.id), *(at for at, _ in here)],
            [*witness.silent(), *board.leavers(last_life)],
            [*witness.not_serving(), *(place.id for place in siblings if not place.is_member)],
            [place.id for place in ring.positions],
        )

    @staticmethod
    def _steps_here(siblings: Iterable[tuple[int, View]], key: int) -> list[Step]:
        """What its siblings tell a position that looks for its place."""
        found = []
        for at, view in siblings:
            final = bool(view.successors) and ids.in_half_open(at, key, view.successors[0])
            owns = view.predecessor is None and not view.successors
            found.append(Step(at, view.predecessor, owns, final, view.successors))
        return found
