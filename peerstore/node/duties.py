"""Who holds what now, as this host sees it."""

from __future__ import annotations

import math

from twisted.internet.interfaces import IReactorTime

from peerstore import ids
from peerstore.node.duty import Share, share_of, shares
from peerstore.node.electorate import Electorate
from peerstore.node.votes import GONE
from peerstore.ring.hosts import HostTable

__all__ = ["Duties"]


class Duties:
    """The shares of the circle, by this host's view.

    :param grace: seconds that a host may be away before others take over what
        it holds.
    """

    def __init__(self, electorate: Electorate, hosts: HostTable, clock: IReactorTime, grace: float) -> None:
        self._electorate = electorate
        self._hosts = hosts
        self._clock = clock
        self._grace = grace
        #: We cannot have noticed before that anybody was away: after a power
        #: cut all others would seem to be long gone to the first that is up.
        self._began = clock.seconds()
        self._shares: list[Share] = []
        self._of: tuple[object, ...] = ()

    def shares(self) -> list[Share]:
        """The circle in arcs, each with its holders."""
        away = self._away()
        of = (self._electorate.version, self._hosts.version, away)
        if of != self._of:
            self._of = of
            view = self._electorate.view
            here = [fp for fp in view if fp in away or not (view[fp].dead or self._hosts.is_retired(fp))]
            places = sorted((place.id, fp) for fp in here for place in self._hosts.positions_of(fp))
            self._shares = shares(places, away, self._electorate.copies, self._electorate.needed)
        return self._shares

    def holds(self, ring_id: bytes) -> bool:
        """Whether a key is ours to hold."""
        share = share_of(self.shares(), ids.from_bytes(ring_id))
        return share is not None and share.concerns(self._electorate.fp)

    def are_enough(self, share: Share) -> bool:
        """Whether all that have a share now are W at least."""
        return len(share.now) >= self._electorate.needed

    def others(self) -> int:
        """How many other hosts live, as far as we know."""
        fp = self._electorate.fp
        return len({one for share in self.shares() for one in (*share.now, share.next) if one and one != fp})

    def patience(self) -> float:
        """Seconds until the next host that is away has been so for too long;
        without end when none is away."""
        seen = [max(self._hosts.last_seen(fp) or 0.0, self._began) for fp in self._away()]
        return min(seen, default=math.inf) + self._grace - self._clock.seconds()

    def _away(self) -> frozenset[bytes]:
        over = self._began <= self._clock.seconds() - self._grace
        since = self._clock.seconds() - self._grace if over else 0.0
        return frozenset(
            fp
            for fp, known in self._electorate.view.items()
            if known.dead
            and known.dead != GONE
            and fp != self._electorate.fp
            and not self._hosts.is_retired(fp)
            and (self._hosts.last_seen(fp) or 0.0) > since
        )
