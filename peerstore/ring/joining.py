"""Getting onto the ring: joining, coming back, and merging two rings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from peerstore import ids
from peerstore.errors import LookupFailed, PeerError, RemoteError
from peerstore.interfaces import IPeerPool
from peerstore.ring import position as steps
from peerstore.ring.lookup import Search, Step, fetch_records
from peerstore.util.together import all_of
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
#: And seconds, where each attempt takes long to fail; and where a member is
#: there, but we do not get in.
PATIENCE = 15.0
LONG_PATIENCE = 60.0
PROBE_CHANCE = 0.05
#: Dialled at the same time, and in one round.
PARALLEL = 16
DIALS = 32
#: Seconds between looks for a bootstrap peer that was never met: it may come
#: up at any moment at first, and gets less likely.
SEARCH_FIRST = 1.0
SEARCH_SLOWER = 1.2
SEARCH_LONGEST = 30.0
SEARCH_LONGEST_ALONE = 5.0


async def discover_settings(pool: IPeerPool, bootstrap: Sequence[str]) -> tuple[int, int] | None:
    """(copies, virtual nodes) of the ring behind the first address that
    answers; None when none does."""
    for address in bootstrap:
        pool.forget_backoff(address)
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
        self._began: float | None = None
        self._said_alone = False
        self._unmet = set(host.bootstrap)
        self._heard: set[str] = set()
        self._contact = ""
        self._search_period = SEARCH_FIRST
        self._next_search = 0.0

    @property
    def searching(self) -> bool:
        """Whether we are an orphan: all whom we know are gone."""
        return self._host.alone and bool(self._unmet or self._host.hosts.fps())

    def next_search(self) -> float:
        """Seconds until somebody is to be looked for again; endless when all
        whom we were told of have been met."""
        if not self._unmet and not self.searching:
            return math.inf
        return max(0.0, self._next_search - self._host.clock.seconds())

    async def join(self) -> None:
        """One attempt to get all positions onto the ring.

        Nobody reachable: we start alone, as a ring of our own, say so, and
        keep looking.  Somebody reachable but joining, too: a little patience.
        """
        host = self._host
        self._rounds += 1
        if self._began is None:
            self._began = host.clock.seconds()
        met = await self._meet_all(self._addresses())
        await host.identity.check()
        for address in (at for at, ready in met.items() if ready):
            if address not in self._heard:
                await self._hear(address)
            if host.status != "JOINING":
                return
            if all([await self._join_through(place, address) for place in host.positions]):
                host.become_member(alone=False)
                return
        if host.status != "JOINING" or not self._tried_enough(met):
            return
        if any(place.is_member for place in host.positions):
            host.become_member(alone=False)
            return
        self._stand_alone()

    def _tried_enough(self, met: Mapping[str, bool]) -> bool:
        """Whether to begin without those who were met, or not met."""
        host = self._host
        seconds = host.clock.seconds() - (self._began or 0.0)
        if any(met.values()):
            return seconds > LONG_PATIENCE
        patience = PATIENT_ROUNDS + host.rng.randrange(10) if met else HASTY_ROUNDS * bool(host.bootstrap)
        return self._rounds >= patience or seconds > PATIENCE

    async def join_position(self, place: PositionUpkeep) -> None:
        """A position that did not get in with the others tries again."""
        known = self._host.hosts.ring()
        addresses = {member.address for member in self._host.rng.sample(known, min(len(known), PARALLEL))}
        for address in [*sorted(addresses), self._host.address]:
            if await self._join_through(place, address):
                return

    async def find_others(self) -> None:
        """While we are alone, look for everybody whom we know."""
        host = self._host
        if not host.alone or self.next_search() > 0:
            return
        self._searched()
        met = await self._meet_all(self._addresses())
        ready = [address for address, member in met.items() if member]
        for address in ready[:1]:
            await self._hear(address)
        for address in ready:
            await self._merge(address)

    def look_again(self) -> None:
        """We have just lost somebody, perhaps the last."""
        if self._host.alone:
            self._search_period = SEARCH_FIRST
            self._next_search = min(self._next_search, self._host.clock.seconds() + SEARCH_FIRST)

    def contacted(self, address: str) -> None:
        """While we are alone, somebody spoke to us: look there at once."""
        self._contact = address
        self._next_search = 0.0

    async def probe(self) -> None:
        """Look for rings that we do not know to be ours.

        Whom we were told of and never met; one of those who are gone; and now
        and then anybody: so two halves of a ring that was cut, or two rings
        that never met, find each other.
        """
        host = self._host
        if host.alone:
            return
        addresses = []
        if self._unmet and self.next_search() == 0:
            self._searched()
            addresses += sorted(self._unmet)[:PARALLEL]
        gone = host.hosts.fps(alive=False)
        everybody = host.hosts.fps()
        looked_for = host.rng.choice(gone) if gone else None
        if looked_for is not None:
            addresses.append(host.hosts.position(looked_for, 0).address)
        if everybody and host.rng.random() < PROBE_CHANCE:
            addresses.append(host.hosts.position(host.rng.choice(everybody), 0).address)
        if host.bootstrap and host.rng.random() < PROBE_CHANCE:
            addresses.append(host.rng.choice(host.bootstrap))
        for address, ready in (await self._meet_all(addresses)).items():
            if ready:
                await self._merge(address)
        if looked_for is not None and host.knows_all and host.hosts.is_alive(looked_for):
            host.gossip.renew()

    # -- inside ----------------------------------------------------------------

    def _addresses(self) -> list[str]:
        """Whom to dial: those we were told of, and some of those we know."""
        host = self._host
        known = [host.hosts.position(fp, 0).address for fp in host.hosts.fps()]
        host.rng.shuffle(known)
        contact = [self._contact] if self._contact else []
        self._contact = ""
        return list(dict.fromkeys([*contact, *host.bootstrap, *known]))[:DIALS]

    def _searched(self) -> None:
        self._next_search = self._host.clock.seconds() + self._search_period
        longest = SEARCH_LONGEST_ALONE if self._host.alone else SEARCH_LONGEST
        self._search_period = min(longest, self._search_period * SEARCH_SLOWER)

    async def _hear(self, address: str) -> None:
        """Learn of everybody from one member, and what is said of us: nobody
        joins a ring in which somebody has his key."""
        host = self._host
        try:
            if host.knows_all:
                await host.gossip.exchange(address, everything=True)
            else:
                await fetch_records(host.pool, host.hosts, address, [host.fp])
        except (PeerError, RemoteError) as error:
            self._log.debug("{address} does not tell its hosts: {why}", address=address, why=error.what)
        else:
            self._heard.add(address)
        await host.identity.check()

    async def _meet_all(self, addresses: Sequence[str]) -> dict[str, bool]:
        """Of those who answer at these addresses: whether they are members."""
        answers: dict[str, bool] = {}

        async def meet(address: str) -> None:
            met = await self._meet(address)
            if met is not None:
                answers[address] = met

        wanted = list(dict.fromkeys(addresses))
        for start in range(0, len(wanted), PARALLEL):
            batch = wanted[start : start + PARALLEL]
            await all_of([Deferred.fromCoroutine(meet(address)) for address in batch])
        return {address: answers[address] for address in wanted if address in answers}

    async def _meet(self, address: str) -> bool | None:
        """Whether a member of our ring answers there; None for nobody of it."""
        host = self._host
        if host.status == "JOINING" or self.searching:
            host.pool.forget_backoff(address)
        try:
            peer = await host.pool.peer(address)
            greeting: Greeting = peer.greeting
            if greeting.fp == host.fp or greeting.role != "node":
                self._unmet.discard(address)
                if greeting.fp == host.fp:
                    host.hosts.claimed(greeting.incarnation, greeting.address)
                return None
            if (greeting.copies, greeting.virtual_nodes) != (host.copies, len(host.positions)):
                host.strangers.found(address, greeting.copies, greeting.virtual_nodes)
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
        host.liveness.alive(greeting.fp)
        if pong.status == "MEMBER":
            self._unmet.discard(address)
        return pong.status == "MEMBER"

    async def _join_through(self, place: PositionUpkeep, address: str) -> bool:
        host = self._host
        if place.is_member:
            return True
        search = host.search(place.state.me)
        own = [other.member for other in host.positions if other.is_member]
        known = host.hosts.ring()
        try:
            step = await search.predecessor([address, *host.rng.sample(known, min(4, len(known))), *own])
        except (LookupFailed, PeerError, RemoteError):
            return False
        state = steps.joined(place.state, step.position, step.predecessor, step.successors)
        if state is None or not host.serving:
            return False
        place.is_member = True
        place.update(state)
        if state.first is not None:
            await place.notify(state.first)
        await place.notify(step.position, list_changed=True)
        return True

    async def _merge(self, address: str) -> None:
        """Ask the other side for our places, until it turns out to know us."""
        host = self._host
        if not host.knows_all:
            # No table tells us what they remember of us.
            await self._hear(address)
        places = [place for place in host.positions if place.is_member]
        for place in host.rng.sample(places, len(places)):
            search = Search(host.pool, host.hosts, place.state.me, (host.fp,))
            try:
                step = await search.predecessor([address])
            except (LookupFailed, PeerError, RemoteError):
                continue
            if step.successors and step.successors[0].id == place.id:
                # Where we are for us, we are for them: it is one ring.
                return
            await self._merge_at(place, step)

    async def _merge_at(self, place: PositionUpkeep, step: Step) -> None:
        """Adopt whom we did not know there, and tell both sides of us.

        A host that is alone comes to us itself, once it hears of us: it has
        no list that we could take over.
        """
        first = place.state.first
        candidate = next((at for at in (*step.successors, step.position) if at.fp != self._host.fp), None)
        if candidate is not None:
            nearer = first is None or ids.between(place.state.me, candidate.id, first.id)
            if nearer and _knows_others(step):
                await place.adopt(candidate)
            await place.notify(candidate)
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
        if host.bootstrap and not self._said_alone and not host.strangers.met:
            self._said_alone = True
            self._log.warn(
                "nobody answers at {where}; this node starts alone and joins when somebody does. A new node calls "
                "nothing certain until then; if it is to be the first of a ring, start it without --join",
                where=", ".join(host.bootstrap),
            )
        host.become_member(alone=True)


def _knows_others(step: Step) -> bool:
    """Whether the answerer is on a ring with others than its own host."""
    return any(member.fp != step.position.fp for member in step.successors)
