"""Upkeep of one position: ask, apply one pure step, tell.

At most one maintenance question is in flight per position; an answer is
applied in one synchronous block, and only if what it was asked for still
stands.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from twisted.internet.defer import Deferred, DeferredLock

from peerstore import ids
from peerstore.errors import NotReady, PeerError, RemoteError
from peerstore.ring import position as steps
from peerstore.ring.fingers import FingerTable
from peerstore.ring.lookup import resolve
from peerstore.ring.member import Member
from peerstore.ring.position import PositionState
from peerstore.wire import bodies

if TYPE_CHECKING:
    from peerstore.ring.host import RingHost

__all__ = ["PositionUpkeep"]

ASK_TIMEOUT = 2.0
#: Seconds for which our successor takes no notice of us, before we say so.
OVERLOOKED = 60.0


class Verdict(Enum):
    """What came of a question to a member."""

    #: It told its neighbours, and serves.
    SERVES = "serves"
    #: Its host lives, but had no answer just now.
    BUSY = "busy"
    #: No answer, this once.
    SILENT = "silent"
    #: Dead, or not serving: it is dropped already.
    GONE = "gone"


class Told(NamedTuple):
    """An answer with its references resolved; empty unless SERVES.

    *asked* is who was asked, as it is known by now: it may have moved.
    """

    verdict: Verdict
    asked: Member
    predecessor: Member | None = None
    successors: tuple[Member, ...] = ()

    @property
    def serves(self) -> bool:
        """Whether there is an answer to act upon."""
        return self.verdict is Verdict.SERVES


class PositionUpkeep:
    """One of our positions: its state, and the round that keeps it right.

    :param host: ours.
    :param index: which of its positions this is.
    :param size: r, the length of its list.
    """

    def __init__(self, host: RingHost, index: int, size: int) -> None:
        self.host = host
        self.index = index
        self.state = PositionState(self.member.id, size)
        self.fingers = FingerTable(self.state.me)
        self.is_member = False
        self._turn = DeferredLock()
        self._notifier: Member | None = None
        self._told_epoch = -1
        self._overlooked_since: float | None = None

    @property
    def member(self) -> Member:
        """This position as others see it."""
        return self.host.hosts.position(self.host.fp, self.index)

    @property
    def id(self) -> int:
        """Where it sits."""
        return self.state.me

    @property
    def predecessor(self) -> Member | None:
        """The member before it, if known."""
        return self.state.predecessor

    @property
    def successors(self) -> tuple[Member, ...]:
        """The members after it, nearest first."""
        return self.state.successors

    def neighbours(self) -> list[Member]:
        """Predecessor and list, as far as there are any."""
        before = [self.state.predecessor] if self.state.predecessor is not None else []
        return [*before, *self.state.successors]

    def update(self, state: PositionState) -> bool:
        """Take a new state over; true when predecessor or list changed.

        With nobody left, but siblings that stand, we are not alone on the
        circle, and claim nothing: we go on from what the nearest of them knows.
        """
        near = self._nearest_sibling()
        if near is not None and self.is_member and state.first is None:
            state = steps.adopted(state, near.member, near.successors)
        changed = state.epoch != self.state.epoch
        self.state = state
        if changed:
            self.host.changed()
        return changed

    def notified(self, candidate: Member) -> None:
        """Somebody may be our predecessor: kept until the round looks at it.

        One slot: replaced only by one that is nearer to us.
        """
        present = self._notifier
        if candidate.id != self.state.me and (
            present is None or ids.between(present.id, candidate.id, self.state.me) or present.id == candidate.id
        ):
            self._notifier = candidate

    def round(self) -> Deferred[None]:
        """One round of upkeep; fires when it is over."""
        return self._turn.run(lambda: Deferred.fromCoroutine(self._round()))

    async def _round(self) -> None:
        asked_predecessor = await self._rectify()
        await self._look_between()
        await self._stabilize()
        if not asked_predecessor:
            await self._check_predecessor()
        await self._tell_predecessor()

    async def _stabilize(self) -> None:
        while self.state.first is not None:
            told = await self._ask(self.state.first)
            if told.serves:
                state, candidate = steps.stabilized(self.state, told.asked, told.predecessor, told.successors)
                self.update(state)
                self._note_notice(told.asked, told.predecessor, candidate)
                if candidate is not None:
                    await self._adopt(candidate)
                break
            if told.verdict is not Verdict.GONE:
                return
            await self.host.liveness.look_round()
        if self.state.first is not None:
            await self.notify(self.state.first)

    def _note_notice(self, asked: Member, its_predecessor: Member | None, candidate: Member | None) -> None:
        """Note since when our successor has not taken notice of us, though it
        answers: it may not reach us at the address that we gave."""
        now = self.host.clock.seconds()
        noticed = its_predecessor is not None and its_predecessor.id == self.state.me
        if noticed or candidate is not None or asked.fp == self.host.fp:
            self._overlooked_since = None
        elif self._overlooked_since is None:
            self._overlooked_since = now
        elif now - self._overlooked_since > OVERLOOKED:
            self.host.liveness.overlooked(asked)

    def _nearest_sibling(self) -> PositionUpkeep | None:
        """The next of our host's other positions that have joined."""
        standing = [place for place in self.host.positions if place.is_member and place is not self]
        return min(standing, key=lambda place: ids.distance(self.state.me, place.id), default=None)

    async def _look_between(self) -> None:
        """Whoever is known to sit between us and our first successor is asked
        at once: nobody has to tell us of it first.  Known are our siblings,
        and those in the table."""
        sibling = self._nearest_sibling()
        near = [sibling.member] if sibling is not None else []
        listed = self.host.hosts.next_after(self.state.me) if self.host.knows_all else None
        near += [listed] if listed is not None else []
        for candidate in near:
            first = self.state.first
            if first is None or ids.between(self.state.me, candidate.id, first.id):
                await self._adopt(candidate)

    def adopt(self, candidate: Member) -> Deferred[None]:
        """Somebody between us and our successor was heard of: ask, adopt, in
        our turn."""

        async def ask() -> None:
            if await self._adopt(candidate):
                await self.notify(candidate)

        return self._turn.run(lambda: Deferred.fromCoroutine(ask()))

    async def _adopt(self, candidate: Member) -> bool:
        told = await self._ask(candidate)
        if told.serves:
            self.update(steps.adopted(self.state, told.asked, told.successors))
        return told.serves

    async def notify(self, member: Member, list_changed: bool = False) -> None:
        """Tell a member that we may be its predecessor, or that our list
        changed; a hint, whose loss does no harm."""
        if member.fp == self.host.fp:
            target = self.host.positions[member.index]
            if not list_changed:
                target.notified(self.member)
            return
        if member.fp not in self.host.hosts:
            # It was retired.
            return
        message = bodies.Notify(member.index, self.member.ref, list_changed)
        try:
            await self.host.pool.call(self._address(member), "notify", message, ASK_TIMEOUT, member.fp)
        except (PeerError, RemoteError):
            # The next question to it will tell.
            return

    async def _rectify(self) -> bool:
        """Look at who notified us.  Only one whom we reach ourselves may be
        our predecessor; one that is farther away, only if the present one
        does not answer.  True when the present one was asked."""
        candidate, self._notifier = self._notifier, None
        present = self.state.told_predecessor
        if candidate is None or (present is not None and present.id == candidate.id):
            return False
        worse = present is not None and not steps.is_better(self.state, candidate)
        if present is not None and worse and (await self._ask(present)).verdict is not Verdict.GONE:
            return True
        told = await self._ask(candidate)
        if told.serves:
            self.update(steps.rectified(self.state, told.asked, not self.state.suspected))
        return worse

    async def _check_predecessor(self) -> None:
        """One that is dead is suspected from then on: asking drops it."""
        present = self.state.told_predecessor
        if present is not None:
            await self._ask(present)

    async def _tell_predecessor(self) -> None:
        """News of our list travels backwards at once, not a period later.

        One that is suspected is not told: to wait for it would keep us from
        hearing whoever takes its place.
        """
        before = self.state.told_predecessor
        if self._told_epoch != self.state.epoch and before is not None:
            self._told_epoch = self.state.epoch
            await self.notify(before, list_changed=True)

    async def _ask(self, member: Member) -> Told:
        """A member's neighbours.  One that is dead or does not serve is
        dropped before this returns."""
        if member.fp == self.host.fp:
            return self._ask_here(member)
        if member.fp not in self.host.hosts:
            # It was retired.
            self.update(steps.drop_host(self.state, member.fp))
            return Told(Verdict.GONE, member)
        address = self._address(member)
        since = self.host.clock.seconds()
        self.host.liveness.about_to_ask(member.fp)
        try:
            answer: bodies.Neighbours = await self.host.pool.call(
                address, "get-neighbours", bodies.GetNeighbours(member.index), ASK_TIMEOUT, member.fp
            )
            refs = [*answer.successors, *([answer.predecessor] if answer.predecessor else [])]
            await resolve(self.host.pool, self.host.hosts, address, refs)
        except NotReady:
            self.update(steps.drop_member(self.state, member.id))
            return Told(Verdict.GONE, member)
        except RemoteError:
            return Told(Verdict.BUSY, member)
        except PeerError as error:
            gone = self.host.liveness.silent(member.fp, error, since)
            return Told(Verdict.GONE if gone else Verdict.SILENT, member)
        self.host.liveness.alive(member.fp)
        if (answer.position.fp, answer.position.index) != (member.fp, member.index):
            self.update(steps.drop_member(self.state, member.id))
            return Told(Verdict.GONE, member)
        asked = self._refresh(answer.position) or member
        before = self.host.hosts.member(answer.predecessor) if answer.predecessor is not None else None
        return Told(Verdict.SERVES, asked, before, self.host.hosts.members(answer.successors))

    def _address(self, member: Member) -> str:
        """Where a member of a host that we know is now, if it has moved since
        it came into our list."""
        return self.host.hosts.position(member.fp, 0).address

    def _ask_here(self, member: Member) -> Told:
        place = self.host.positions[member.index]
        if place.is_member:
            return Told(Verdict.SERVES, place.member, place.state.told_predecessor, place.successors)
        self.update(steps.drop_member(self.state, member.id))
        return Told(Verdict.GONE, member)

    def _refresh(self, ref: bodies.PositionRef) -> Member | None:
        """Whom a reference names as we know it now, and so in our state."""
        current = self.host.hosts.member(ref)
        if current is not None:
            self.state = steps.refreshed(self.state, current)
        return current

    def neighbours_body(self) -> bodies.Neighbours:
        """Our state as it is told to others."""
        state = self.state
        return bodies.Neighbours(
            self.member.ref,
            state.epoch,
            state.told_predecessor.ref if state.told_predecessor is not None else None,
            tuple(entry.ref for entry in state.successors),
        )
