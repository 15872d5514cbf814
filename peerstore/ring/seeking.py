"""What a member does beside its upkeep: it looks for whom it does not see.

Other rings to merge with, positions of its own that did not get in, twins,
fingers.  All of that dials hosts that may be long gone, and takes its time;
so it has rounds of its own, and the ring's upkeep never waits for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from peerstore.errors import LookupFailed, PeerError, RemoteError
from peerstore.ring.joining import Joiner
from peerstore.util.periodic import Periodic

if TYPE_CHECKING:
    from peerstore.ring.host import RingHost

__all__ = ["Seeker"]

FIRST_PERIOD = 0.5
SLOWER = 1.5
#: No two rounds closer than this, whoever calls.
SHORTEST_GAP = 0.1


class Seeker:
    """Goes on from the moment at which a host is a member.

    :param host: ours.
    :param joiner: finds others, and merges with them.
    :param longest: seconds between two rounds when nothing happens.
    """

    def __init__(self, host: RingHost, joiner: Joiner, longest: float) -> None:
        self._host = host
        self._joiner = joiner
        self._longest = longest
        self._period = FIRST_PERIOD
        self._last = 0.0
        self._turn = 0
        self._rounds = Periodic(host.clock, self._round, self._interval, "looking for others")

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    def stop(self) -> Deferred[None]:
        """End; fires when the round in flight is over."""
        return self._rounds.stop()

    def changed(self) -> None:
        """The ring has changed: look soon, and more often for a while."""
        self._period = FIRST_PERIOD
        self._joiner.look_again()
        self._rounds.hurry(max(0.0, self._last + FIRST_PERIOD - self._host.clock.seconds()))

    def hurry(self) -> None:
        """Somebody may be there right now."""
        self._rounds.hurry(max(0.0, self._last + SHORTEST_GAP - self._host.clock.seconds()))

    def _interval(self) -> float:
        period = self._period
        self._period = min(self._longest, period * SLOWER)
        return max(SHORTEST_GAP, min(period * self._host.rng.uniform(0.75, 1.25), self._joiner.next_search()))

    def _round(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._seek())

    async def _seek(self) -> None:
        host = self._host
        self._last = host.clock.seconds()
        await host.identity.check()
        await self._joiner.find_others()
        for place in host.positions:
            if not place.is_member and host.serving:
                await self._joiner.join_position(place)
        if host.serving:
            await self._joiner.probe()
            await self._refresh_finger()

    async def _refresh_finger(self) -> None:
        """One finger of one position.  A list that is not full holds the whole
        ring, and needs none."""
        host = self._host
        self._turn = (self._turn + 1) % len(host.positions)
        place = host.positions[self._turn]
        first = place.state.first
        if first is None or len(place.successors) < place.state.size:
            return
        number, key = place.fingers.pick(host.rng, first.id)
        try:
            found = await host.search(key).owner(host.nearest(place, key))
        except (LookupFailed, PeerError, RemoteError):
            return
        place.fingers.put(number, found.owner)
