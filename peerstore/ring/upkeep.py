"""Upkeep of one position: ask, apply one pure step, tell.

At most one maintenance question is in flight per position; an answer is
applied in one synchronous block, and only if what it was asked for still
stands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from peerstore import ids
from peerstore.errors import NotReady, PeerError, PeerStoreError, RemoteError
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


class PositionUpkeep:
    """One of our positions: its state, and the round that keeps it right.

    :param host: ours.
    :param member: this position, as others see it.
    :param size: r, the length of its list.
    """

    def __init__(self, host: RingHost, member: Member, size: int) -> None:
        self._host = host
        self.member = member
        self.state = PositionState(member.id, size)
        self.fingers = FingerTable(member.id)
        self.is_member = False
        self._notifier: Member | None = None
        self._told_epoch = -1

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
        """Take a new state over; true when predecessor or list changed."""
        changed = state.epoch != self.state.epoch
        self.state = state
        if changed:
            self._host.changed()
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
        return Deferred.fromCoroutine(self._round())

    async def _round(self) -> None:
        await self._rectify()
        await self._stabilize()
        await self._check_predecessor()
        await self._tell_predecessor()

    async def _stabilize(self) -> None:
        while self.state.first is not None:
            asked = self.state.first
            answer = await self._ask(asked)
            if answer is None:
                if self.state.first == asked:
                    return
                continue
            before = self._host.hosts.member(answer.predecessor) if answer.predecessor is not None else None
            behind = self._host.hosts.members(answer.successors)
            state, candidate = steps.stabilized(self.state, asked, before, behind)
            self.update(state)
            if candidate is not None and candidate.fp not in self._host.hosts.fps(alive=False):
                told = await self._ask(candidate)
                if told is not None:
                    further = self._host.hosts.members(told.successors)
                    self.update(steps.adopted(self.state, candidate, further))
            break
        if self.state.first is not None:
            await self.notify(self.state.first)

    async def adopt(self, candidate: Member) -> None:
        """Somebody between us and our successor was heard of: ask, adopt."""
        told = await self._ask(candidate)
        if told is not None:
            self.update(steps.adopted(self.state, candidate, self._host.hosts.members(told.successors)))
            await self.notify(candidate)

    async def notify(self, member: Member, list_changed: bool = False) -> None:
        """Tell a member that we may be its predecessor, or that our list
        changed; a hint, whose loss does no harm."""
        if member.fp == self._host.fp:
            target = self._host.positions[member.index]
            if not list_changed:
                target.notified(self.member)
            return
        message = bodies.Notify(member.index, self.member.ref, list_changed)
        try:
            await self._host.pool.call(member.address, "notify", message, ASK_TIMEOUT, member.fp)
        except (PeerError, RemoteError):
            return

    async def _rectify(self) -> None:
        candidate, self._notifier = self._notifier, None
        if candidate is None:
            return
        present = self.state.predecessor
        alive = present is not None and present.id != candidate.id and await self._lives(present)
        self.update(steps.rectified(self.state, candidate, alive))

    async def _check_predecessor(self) -> None:
        present = self.state.told_predecessor
        if present is None or present.fp == self._host.fp:
            return
        if not await self._lives(present) and self.state.predecessor == present:
            self.update(steps.predecessor_lost(self.state))

    async def _tell_predecessor(self) -> None:
        """News of our list travels backwards at once, not a period later."""
        if self._told_epoch != self.state.epoch and self.state.predecessor is not None:
            self._told_epoch = self.state.epoch
            await self.notify(self.state.predecessor, list_changed=True)

    async def _lives(self, member: Member) -> bool:
        if member.fp == self._host.fp:
            return self._host.positions[member.index].is_member
        return await self._ask(member) is not None

    async def _ask(self, member: Member) -> bodies.Neighbours | None:
        """A member's neighbours; None when it has none to tell, and then it
        is dropped, or asked again in the next round."""
        if member.fp == self._host.fp:
            place = self._host.positions[member.index]
            if place.is_member:
                return place.neighbours_body()
            self.update(steps.drop_member(self.state, member.id))
            return None
        try:
            answer: bodies.Neighbours = await self._host.pool.call(
                member.address, "get-neighbours", bodies.GetNeighbours(member.index), ASK_TIMEOUT, member.fp
            )
            refs = [*answer.successors, *([answer.predecessor] if answer.predecessor else [])]
            await resolve(self._host.pool, self._host.hosts, member.address, refs)
        except NotReady:
            self.update(steps.drop_member(self.state, member.id))
            return None
        except (PeerError, RemoteError) as error:
            self._silent(member, error)
            return None
        self._host.note_alive(member.fp)
        current = self._host.hosts.member(answer.position)
        if current is None or current.id != member.id:
            self.update(steps.drop_member(self.state, member.id))
            return None
        self.state = steps.refreshed(self.state, current)
        return answer

    def _silent(self, member: Member, error: PeerStoreError) -> None:
        if isinstance(error, RemoteError):
            return
        self._host.note_silent(member.fp, error)

    def neighbours_body(self) -> bodies.Neighbours:
        """Our state as it is told to others."""
        state = self.state
        return bodies.Neighbours(
            self.member.ref,
            state.epoch,
            state.told_predecessor.ref if state.told_predecessor is not None else None,
            tuple(entry.ref for entry in state.successors),
        )
