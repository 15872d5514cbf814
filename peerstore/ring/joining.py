"""Getting onto the ring: joining, coming back, and merging two rings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.logger import Logger

from peerstore import ids
from peerstore.errors import LookupFailed, NotReady, PeerError, RemoteError, RingMismatch
from peerstore.interfaces import IPeerPool
from peerstore.ring import position as steps
from peerstore.ring.lookup import Search
from peerstore.ring.member import Member
from peerstore.wire import bodies
from peerstore.wire.session import Greeting

if TYPE_CHECKING:
    from peerstore.ring.host import RingHost
    from peerstore.ring.upkeep import PositionUpkeep

__all__ = ["Joiner", "discover_settings"]

#: Rounds in which a bootstrap peer that answers, but is not ready itself, is
#: waited for before we begin alone.
PATIENT_ROUNDS = 20
#: And rounds when nobody answers at all: both may just have been started.
HASTY_ROUNDS = 5
PROBE_CHANCE = 0.05


async def discover_settings(pool: IPeerPool, bootstrap: Sequence[str]) -> tuple[int, int] | None:
    """(copies, virtual nodes) of the ring behind the first address that
    answers; None when none does."""
    for address in bootstrap:
        try:
            peer = await pool.peer(address)
        except PeerError:
            continue
        greeting: Greeting = peer.greeting
        # We have no address yet, and said so: a connection that is kept would
        # make us a stranger to that node for as long as it lives.
        pool.drop(address)
        if greeting.role == "node" and greeting.copies and greeting.virtual_nodes:
            return greeting.copies, greeting.virtual_nodes
    return None


class Joiner:
    """Brings our positions onto the ring, and rings together.

    :param host: ours.
    """

    _log = Logger()

    def __init__(self, host: RingHost) -> None:
        self._host = host
        self._rounds = 0
        self._said_alone = False
        self._unmet = set(host.bootstrap)

    @property
    def searching(self) -> bool:
        """Whether a bootstrap peer was never met, or all we knew are gone."""
        return bool(self._unmet) or (self._host.alone and bool(self._host.hosts.fps()))

    async def join(self) -> None:
        """One attempt to get all positions onto the ring.

        Nobody reachable: we start alone, as a ring of our own, say so, and
        keep looking.  Somebody reachable but joining, too: a little patience.
        """
        host = self._host
        self._rounds += 1
        answered = False
        for address in self._addresses():
            met = await self._meet(address)
            answered = answered or met is not None
            if not met:
                continue
            if all([await self._join_through(place, address) for place in host.positions]):
                host.become_member(alone=False)
                return
        patience = PATIENT_ROUNDS + host.rng.randrange(10) if answered else HASTY_ROUNDS * bool(host.bootstrap)
        if host.status != "JOINING" or self._rounds < patience:
            return
        if any(place.is_member for place in host.positions):
            host.become_member(alone=False)
            return
        self._stand_alone()

    async def join_position(self, place: PositionUpkeep) -> None:
        """A position that did not get in with the others tries again."""
        for member in self._host.hosts.ring()[:8]:
            if await self._join_through(place, member.address):
                return

    async def probe(self) -> None:
        """Look for rings that we do not know to be ours.

        An orphan dials everybody it knows; others, now and then, one host,
        dead ones included: that is how two halves of a ring that was cut
        find each other again.
        """
        host = self._host
        if host.alone:
            for address in self._addresses():
                if await self._meet(address):
                    await self._merge(address)
            return
        for address in sorted(self._unmet):
            if await self._meet(address):
                await self._merge(address)
        dead = host.hosts.fps(alive=False)
        chosen: list[bytes] = []
        if dead:
            chosen.append(host.rng.choice(dead))
        every = host.hosts.fps()
        if every and host.rng.random() < PROBE_CHANCE:
            chosen.append(host.rng.choice(every))
        for fp in chosen:
            address = host.hosts.position(fp, 0).address
            if await self._meet(address):
                await self._merge(address)
        if not dead and host.rng.random() < PROBE_CHANCE:
            for address in host.bootstrap:
                if await self._meet(address):
                    await self._merge(address)

    # -- inside ----------------------------------------------------------------

    def _addresses(self) -> list[str]:
        host = self._host
        known = [host.hosts.position(fp, 0).address for fp in host.hosts.fps()]
        host.rng.shuffle(known)
        return list(dict.fromkeys([*host.bootstrap, *known]))

    async def _meet(self, address: str) -> bool | None:
        """Whether a member of our ring answers there; None for nobody at all.

        :raises peerstore.errors.RingMismatch: never here: it is logged, and
            the other ring is left alone.
        """
        host = self._host
        if self.searching:
            host.pool.forget_backoff(address)
        try:
            peer = await host.pool.peer(address)
            greeting: Greeting = peer.greeting
            if greeting.fp == host.fp or greeting.role != "node":
                return None
            if (greeting.copies, greeting.virtual_nodes) != (host.copies, len(host.positions)):
                error = RingMismatch(
                    f"The ring at {address} keeps {greeting.copies} copies, "
                    f"with {greeting.virtual_nodes} positions a host."
                )
                self._log.warn("{what} It is not ours and is left alone.", what=str(error))
                return None
            pong: bodies.Pong = await peer.call("ping", bodies.Ping(), 2.0)
        except (PeerError, RemoteError):
            return None
        record = bodies.HostRecord(
            greeting.spki,
            (greeting.address or address,),
            greeting.incarnation,
            greeting.copies,
            greeting.virtual_nodes,
        )
        host.hosts.learn(record)
        host.note_alive(greeting.fp)
        if pong.status == "MEMBER":
            self._unmet.discard(address)
        return pong.status == "MEMBER"

    async def _join_through(self, place: PositionUpkeep, address: str) -> bool:
        host = self._host
        if place.is_member:
            return True
        own = [member.member for member in host.positions if member.is_member]
        search = Search(host.pool, host.hosts, place.state.me, ())
        try:
            step = await search.predecessor([address, *host.hosts.ring()[:4], *own])
        except (LookupFailed, PeerError, RemoteError, NotReady):
            return False
        state = steps.joined(place.state, step.position, step.predecessor, step.successors)
        if state is None:
            return False
        place.is_member = True
        place.update(state)
        if state.first is not None:
            await place.notify(state.first)
        await place.notify(step.position, list_changed=True)
        return True

    async def _merge(self, address: str) -> None:
        """Ask the other side for our place; adopt whom we did not know there."""
        host = self._host
        for place in host.positions:
            search = Search(host.pool, host.hosts, place.state.me, (host.fp,))
            try:
                step = await search.predecessor([address])
            except (LookupFailed, PeerError, RemoteError):
                continue
            candidates: list[Member] = [*step.successors, step.position]
            for candidate in candidates:
                if candidate.fp == host.fp or not host.hosts.is_alive(candidate.fp):
                    continue
                first = place.state.first
                if first is None or ids.between(place.state.me, candidate.id, first.id):
                    await place.adopt(candidate)
                await place.notify(candidate)
                break
            await place.notify(step.position, list_changed=True)

    def _stand_alone(self) -> None:
        """A ring of our own positions."""
        host = self._host
        members = sorted(place.member for place in host.positions)
        count = len(members)
        for place in host.positions:
            place.is_member = True
        for place in host.positions:
            at = members.index(place.member)
            others = [members[(at + step) % count] for step in range(1, count)]
            before = others[-1] if others else None
            place.update(
                place.state._replace(
                    predecessor=before,
                    successors=steps.make_list(place.state.me, others, place.state.size),
                    epoch=place.state.epoch + 1,
                )
            )
        if host.bootstrap and not self._said_alone:
            self._said_alone = True
            self._log.warn(
                "nobody answers at {where}; this node starts alone and joins when somebody does",
                where=", ".join(host.bootstrap),
            )
        host.become_member(alone=True)
