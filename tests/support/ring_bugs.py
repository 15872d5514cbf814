"""Bugs that seeds of a ring must notice, put in one at a time.

::

    python -m tests.support.ring_bugs [--seeds 1-24] [--bug NAME] [--first]

prints which seeds catch which bug, and ends with status 1 when one of them is
caught by none.  They are bugs that programs had (the Go program of the user's
document, and what is known of others), as somebody would write them into this
code; and six that undo what the protocol is careful about.
"""

from __future__ import annotations

import contextlib
from typing import Any

from twisted.internet.defer import Deferred

from peerstore import ids
from peerstore.errors import LookupFailed, PeerError, PeerUnreachable, RemoteError
from peerstore.net.pool import PeerPool
from peerstore.net.protocol import PeerProtocol
from peerstore.ring import hosts
from peerstore.ring import position as steps
from peerstore.ring.answers import RingAnswers
from peerstore.ring.joining import Joiner
from peerstore.ring.liveness import Liveness
from peerstore.ring.lookup import Located, Search, Step, resolve
from peerstore.ring.member import Member
from peerstore.ring.position import PositionState
from peerstore.ring.upkeep import PositionUpkeep, Told, Verdict
from peerstore.sim.churn_run import ChurnResult, run_churn
from peerstore.sim.schedule import Event, Setting, setting_for
from peerstore.wire import bodies
from tests.support.bugs import Bug, Hunt, replaced, together

__all__ = ["HUNT", "SEEDS"]

#: The fixed list: each bug is caught by some of these.
SEEDS = range(1, 25)
Broken = contextlib.AbstractContextManager[None]

# -- scenes ----------------------------------------------------------------------------


def run_moves(seed: int) -> ChurnResult:
    """A seed's ring, whose hosts move to other machines, one after the other:
    a disk is taken out of one that crashed, and put into another."""
    setting = setting_for(seed)
    events = _all_start(setting)
    for number in range(1, setting.hosts):
        at, name = 30.0 * number, f"host-{number}"
        events.append(Event(at, "crash", ((name,),)))
        events.append(Event(at + 0.2 * number, "copy", ((f"copy-of-{name}", name), ("host-0",))))
    return run_churn(seed, setting, events)


def run_goodbyes(seed: int) -> ChurnResult:
    """A seed's ring, whose hosts leave and come back, one after the other,
    while what they said at last is still on its way."""
    setting = setting_for(seed)
    events = _all_start(setting)
    for number in range(1, setting.hosts):
        at, name = 30.0 * number, f"host-{number}"
        events.append(Event(at, "slow", ((name,),), 0.6, 1000.0))
        events.append(Event(at + 0.5, "leave", ((name,),)))
        events.append(Event(at + 0.7, "restart", ((name,), ("host-0",))))
    return run_churn(seed, setting, events)


def run_islands(seed: int) -> ChurnResult:
    """A seed's ring, each of whose hosts is cut off from all others for so
    long that it takes them for dead; and then the cut is mended."""
    setting = setting_for(seed)
    alone = tuple((f"host-{number}",) for number in range(setting.hosts))
    return run_churn(seed, setting, [*_all_start(setting), Event(60.0, "islands", alone, 120.0)])


def _all_start(setting: Setting) -> list[Event]:
    return [
        Event(0.5 * number, "start", ((f"host-{number}",), ("host-0",) if number else ()))
        for number in range(setting.hosts)
    ]


# -- the Go program's ---------------------------------------------------------------


def ids_of_few_bits() -> Broken:
    """160 bits are taken for 160 places."""
    return replaced(ids, "position_id", lambda real: lambda spki, index: real(spki, index) % ids.ID_BITS)


def joins_before_its_predecessor() -> Broken:
    """Whoever a lookup of its own place names is a joiner's successor."""

    def joined(state: PositionState, before: Member, its_predecessor: Any, its_list: Any) -> PositionState | None:
        if before.id == state.me:
            return None
        return steps._changed(state, None, steps.make_list(state.me, (before, *its_list), state.size))

    return replaced(steps, "joined", lambda real: joined)


def finds_the_member_before() -> Broken:
    """A lookup ends at the closest member before the key."""

    def make(real: Any) -> Any:
        async def owner(self: Search, starts: Any) -> Located:
            return self._located(await self.predecessor(starts))

        return owner

    return replaced(Search, "owner", make)


def plain_comparison() -> Broken:
    """The circle has a smallest place."""
    return replaced(ids, "between", lambda real: lambda low, x, high: low < x < high)


def looks_its_successor_up() -> Broken:
    """Each round asks others who comes after us, and not whom we know."""

    def make(real: Any) -> Any:
        async def stabilize(self: PositionUpkeep) -> None:
            try:
                found = await self.host.lookup((self.id + 1) % ids.RING_SIZE)
            except LookupFailed:
                return
            told = await self._ask(found.owner)
            if told.serves and found.owner.id != self.id:
                entries = steps.make_list(self.id, (told.asked, *told.successors), self.state.size)
                self.update(steps._changed(self.state, self.state.predecessor, entries, self.state.suspected))
                await self.notify(told.asked)

        return stabilize

    return replaced(PositionUpkeep, "_stabilize", make)


def no_list() -> Broken:
    """One successor, and nobody else."""
    return replaced(PositionUpkeep, "__init__", lambda real: lambda self, host, index, size: real(self, host, index, 1))


def nobody_dies() -> Broken:
    """Whoever does not answer is asked again next time."""
    return replaced(Liveness, "silent", lambda real: lambda self, fp, error, since: False)


def only_nearer_predecessors() -> Broken:
    """A predecessor gives way to a nearer one, and to nobody else."""

    def rectified(state: PositionState, notifier: Member, predecessor_alive: bool) -> PositionState:
        if not steps.is_better(state, notifier):
            return state
        return steps._changed(state, notifier, state.successors or steps.make_list(state.me, (notifier,), state.size))

    return replaced(steps, "rectified", lambda real: rectified)


def set_predecessor_commands() -> Broken:
    """Whoever says that it is our predecessor is."""

    def make(real: Any) -> Any:
        def notify(self: RingAnswers, caller: Any, body: bodies.Notify) -> bodies.Done:
            self._meet(caller)
            place = self._position(body.index)
            candidate = self._host.hosts.member(body.candidate)
            if candidate is not None and candidate.id != place.id and not body.list_changed:
                place.update(steps._changed(place.state, candidate, place.state.successors))
            return bodies.Done()

        return notify

    return replaced(RingAnswers, "notify", make)


def errors_are_dropped() -> Broken:
    """No answer is an empty answer, and things go on."""

    def make(real: Any) -> Any:
        async def ask(self: PositionUpkeep, member: Member) -> Told:
            if member.fp == self.host.fp:
                return self._ask_here(member)
            address = self._address(member)
            answer = bodies.Neighbours(member.ref, 0, None, ())
            with contextlib.suppress(PeerError, RemoteError):
                answer = await self.host.pool.call(
                    address, "get-neighbours", bodies.GetNeighbours(member.index), 2.0, member.fp
                )
                await resolve(self.host.pool, self.host.hosts, address, answer.successors)
            table = self.host.hosts
            before = table.member(answer.predecessor) if answer.predecessor is not None else None
            return Told(Verdict.SERVES, member, before, table.members(answer.successors))

        return ask

    return replaced(PositionUpkeep, "_ask", make)


# -- other programs' ------------------------------------------------------------------


def never_alone() -> Broken:
    """The last survivor does not learn that it is alone: the dead one before
    it stays where it was."""

    def make(real: Any) -> Any:
        def without(state: PositionState, gone: Any) -> PositionState:
            new = real(state, gone)
            if new.successors or state.predecessor is None:
                return new
            return steps._changed(state, state.predecessor, (), True)

        return without

    return replaced(steps, "_without", make)


def drops_the_last() -> Broken:
    """The last of a list is taken for the asker itself, and left out."""

    def make(real: Any) -> Any:
        def stabilized(state: PositionState, asked: Member, its_predecessor: Any, its_list: Any) -> Any:
            return real(state, asked, its_predecessor, tuple(its_list)[:-1])

        return stabilized

    return replaced(steps, "stabilized", make)


def slow_detection() -> Broken:
    """Nobody is dead before a minute of silence."""

    def make(real: Any) -> Any:
        def silent(self: Liveness, fp: bytes, error: PeerError, since: float) -> bool:
            now = self._host.clock.seconds()
            if now - self._suspects.setdefault(fp, now) < 60.0:
                return False
            return bool(real(self, fp, PeerUnreachable(error.what), since))

        return silent

    return replaced(Liveness, "silent", make)


def joins_anywhere() -> Broken:
    """The list of whoever answers first is a joiner's list."""

    def make(real: Any) -> Any:
        async def predecessor(self: Search, starts: Any) -> Step:
            for start in starts:
                step = await self._try(start)
                if step is not None:
                    return step
            raise LookupFailed("Nobody answers.")

        return predecessor

    def joined(state: PositionState, before: Member, its_predecessor: Any, its_list: Any) -> PositionState | None:
        if before.id == state.me:
            return None
        entries = tuple(entry for entry in its_list if entry.id != state.me) or (before,)
        return steps._changed(state, before, steps.make_list(state.me, entries, state.size))

    return together(replaced(Search, "predecessor", make), replaced(steps, "joined", lambda real: joined))


def asks_again_and_again() -> Broken:
    """A lookup does not remember whom it has asked."""

    def make(real: Any) -> Any:
        async def ask(self: Search, target: Any) -> Step | None:
            self._asked.clear()
            answer: Step | None = await real(self, target)
            return answer

        return ask

    return replaced(Search, "_try", make)


def a_connection_each() -> Broken:
    """Each question has its connection, which nobody closes."""

    def make(real: Any) -> Any:
        def peer(self: PeerPool, address: str, fp: bytes | None = None) -> Any:
            for line in self._lines.get(address, {}).values():
                line.protocol = None
            return real(self, address, fp)

        return peer

    return together(
        replaced(PeerPool, "peer", make),
        replaced(PeerProtocol, "close_when_idle", lambda real: lambda self, seconds, closing=None: None),
    )


def merges_lists() -> Broken:
    """The successor's list is put together with what was there before."""

    def make(real: Any) -> Any:
        def stabilized(state: PositionState, asked: Member, its_predecessor: Any, its_list: Any) -> Any:
            everybody = {entry.id: entry for entry in (*state.successors, asked, *its_list) if entry.id != state.me}
            nearest = sorted(everybody.values(), key=lambda entry: ids.distance(state.me, entry.id))
            return real(state, asked, its_predecessor, nearest[1:] if nearest[:1] == [asked] else nearest)

        return stabilized

    return replaced(steps, "stabilized", make)


def founder_stays_alone() -> Broken:
    """Who is alone takes its first notifier for its predecessor only."""

    def make(real: Any) -> Any:
        def rectified(state: PositionState, notifier: Member, predecessor_alive: bool) -> PositionState:
            new: PositionState = real(state, notifier, predecessor_alive)
            return new._replace(successors=state.successors)

        return rectified

    return replaced(steps, "rectified", make)


# -- six more ---------------------------------------------------------------------------


def notify_changes_state() -> Broken:
    """A better notifier is the predecessor at once, unasked."""

    def make(real: Any) -> Any:
        def notified(self: PositionUpkeep, candidate: Member) -> None:
            self.update(steps.rectified(self.state, candidate, not self.state.suspected))

        return notified

    return replaced(PositionUpkeep, "notified", make)


def joins_with_one_pointer() -> Broken:
    """The first successor; the others come later."""

    def make(real: Any) -> Any:
        def joined(*arguments: Any) -> PositionState | None:
            state: PositionState | None = real(*arguments)
            return state and state._replace(successors=state.successors[:1])

        return joined

    return replaced(steps, "joined", make)


def goes_round() -> Broken:
    """A list is what was told, each once, as long as there is room."""

    def make_list(me: int, entries: Any, size: int) -> tuple[Member, ...]:
        return tuple({entry.id: entry for entry in entries}.values())[:size]

    return replaced(steps, "make_list", lambda real: make_list)


def first_word_wins() -> Broken:
    """What was told first of a host is kept for good."""
    return replaced(hosts, "_is_newer", lambda real: lambda incarnation, known: False)


def nobody_is_looked_for() -> Broken:
    """Who is gone is not dialled again."""

    def make(real: Any) -> Any:
        async def nothing(self: Joiner) -> None:
            pass

        return nothing

    return replaced(Joiner, "probe", make)


def orphans_wait() -> Broken:
    """Who lost everybody waits to be found."""

    def make(real: Any) -> Any:
        async def nothing(self: Joiner) -> None:
            pass

        return nothing

    return replaced(Joiner, "find_others", make)


def old_goodbyes() -> Broken:
    """A goodbye counts, from whichever life it is."""

    def make(real: Any) -> Any:
        def leaving(self: RingAnswers, caller: Any, body: bodies.Leaving) -> bodies.Done:
            return real(self, caller, bodies.Leaving(1 << 60, body.retired))  # type: ignore[no-any-return]

        return leaving

    return replaced(RingAnswers, "leaving", make)


def late_answers() -> Broken:
    """An answer is acted upon, whatever became of whom it was asked for, and
    there may be several on their way."""

    def stabilized(state: PositionState, asked: Member, its_predecessor: Any, its_list: Any) -> Any:
        entries = steps.make_list(state.me, (asked, *its_list), state.size)
        new = steps._changed(state, state.predecessor, entries, state.suspected)
        if its_predecessor is None or its_predecessor.id == state.me:
            return new, None
        return new, its_predecessor if ids.between(state.me, its_predecessor.id, asked.id) else None

    def adopt(real: Any) -> Any:
        async def at_once(self: PositionUpkeep, candidate: Member) -> None:
            if await self._adopt(candidate):
                await self.notify(candidate)

        return lambda self, candidate: Deferred.fromCoroutine(at_once(self, candidate))

    def adopted(state: PositionState, candidate: Member, its_list: Any) -> PositionState:
        if candidate.id == state.me:
            return state
        entries = steps.make_list(state.me, (candidate, *its_list), state.size)
        if len(entries) == 1:
            entries = steps.make_list(state.me, (candidate, *state.successors), state.size)
        return steps._changed(state, state.predecessor, entries, state.suspected)

    return together(
        replaced(PositionUpkeep, "adopt", adopt),
        replaced(steps, "stabilized", lambda real: stabilized),
        replaced(steps, "adopted", lambda real: adopted),
    )


def dead_predecessors_stay() -> Broken:
    """Who dies leaves the list, and stays the predecessor."""

    def make(real: Any) -> Any:
        def without(state: PositionState, gone: Any) -> PositionState:
            new: PositionState = real(state, gone)
            return steps._changed(new, state.predecessor, new.successors, state.suspected)

        return without

    return replaced(steps, "_without", make)


BUGS = {
    "0.5 a": Bug("160 bits are taken for 160 places", ids_of_few_bits),
    "0.5 b, join": Bug("a joiner takes the member before it for its successor", joins_before_its_predecessor),
    "0.5 b, lookup": Bug("a lookup ends at the member before the key", finds_the_member_before),
    "0.5 c, between": Bug("places are compared with a plain <", plain_comparison),
    "0.5 c, stabilize": Bug("a round looks its successor up instead of asking the one it has", looks_its_successor_up),
    "0.5 d, list": Bug("one successor, no list", no_list),
    "0.5 d, liveness": Bug("nobody is ever taken for dead", nobody_dies),
    "0.5 d, predecessor": Bug("a predecessor gives way to nearer ones only, dead or not", only_nearer_predecessors),
    "0.5 e, command": Bug("whoever says that it is the predecessor is", set_predecessor_commands),
    "0.5 e, errors": Bug("no answer counts as an empty answer", errors_are_dropped),
    "1.9 chord-grpc 31": Bug("the last survivor does not learn that it is alone", never_alone),
    "1.9 Rings 786": Bug("the last of a list is taken for the asker, and left out", drops_the_last),
    "1.9 Rings 774": Bug("nobody is dead before a minute of silence", slow_detection),
    "1.9 specter 23": Bug("a joiner takes over the list of whoever answers first", joins_anywhere),
    "1.9 p2p-project 45, loops": Bug("a lookup does not remember whom it asked", asks_again_and_again),
    "1.9 p2p-project 45, leak": Bug("each question opens a connection, and none is closed", a_connection_each),
    "1.9 sit/dht": Bug("lists are merged, not replaced", merges_lists),
    "1.9 MaceMC, alone": Bug("a lone member does not follow its first notifier", founder_stays_alone),
    "1.9 MaceMC, probe": Bug("the dead are not looked for", nobody_is_looked_for),
    "1.9 MaceMC, orphan": Bug("an orphan looks for nobody", orphans_wait, run_islands),
    "notify changes state": Bug("a notifier is the predecessor at once, unasked", notify_changes_state),
    "join with one pointer": Bug("a joiner lists its first successor only", joins_with_one_pointer),
    "not cut at self": Bug("lists go round", goes_round),
    "incarnation ignored, first": Bug("what was told first of a host counts", first_word_wins, run_moves),
    "incarnation ignored, goodbyes": Bug("a goodbye of an earlier life counts", old_goodbyes, run_goodbyes),
    "late answer applied": Bug("an answer counts whatever happened meanwhile", late_answers),
    "dead predecessor never cleared": Bug("who dies stays the predecessor", dead_predecessors_stay),
}

#: What is named, and cannot be put in, or does no harm here.
UNTOLD = {
    "0.5 d, fingers are not repaired": "fingers decide nothing, and whoever is known to live is a hint as well: put "
    "in, it changed nothing, not even with 48 hosts, lists of two and no table. benchmarks/chord_figures.py shows what "
    "fingers are for",
    "1.9 chord-grpc 156, no list": "the same as 0.5 d, list",
    "1.9 Rings 388 and 604, one pointer on join": "the same as join with one pointer",
    "1.9 specter 23, key transfer skipped": "nothing is handed over once, upon an event, that could be skipped: each "
    "round of repair compares what two hosts have (see tests.support.data_bugs)",
    "1.9 MaceMC, who comes back is refused while it is listed": "does no harm: whoever lists it asks it, hears that it "
    "has not joined, and lists it no more, and the joiner asks again four times a second",
    "1.9 MaceMC, CrystalBall: others": "no code is named; those of MaceMC above are ones that fit what is said of them",
    "incarnation ignored, what was told last of a host counts": "does no harm where hosts move: each greeting and the "
    "table tell the number again, and the old address is named by nobody any more within seconds",
}

HUNT = Hunt(run_churn, SEEDS, BUGS, UNTOLD)

main = HUNT.command("Put each bug in, and print which seeds catch it.")

if __name__ == "__main__":
    main()
