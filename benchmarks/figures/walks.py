"""Single lookups, walked and counted.

The shipped ``Search`` asks the shipped handlers.  What the papers did
otherwise is left out or put back here: nobody uses a table of all hosts
(*FingersOnly*), and an asker does not know that it owns a key itself, but
walks round the circle to its own predecessor, as the papers' rule has it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from bare_ring import BareHost
from twisted.internet.defer import Deferred

from peerstore.errors import LookupFailed
from peerstore.interfaces import IPeerPool
from peerstore.ring.hosts import HostTable
from peerstore.ring.lookup import Located, Search
from peerstore.ring.member import Member

__all__ = [
    "Counted",
    "FingersOnly",
    "ListSearch",
    "Walk",
    "owner_index",
    "path_length",
    "result_of",
    "start_of",
    "walk",
]


class FingersOnly(HostTable):
    """Knows keys and addresses, and gives no hints where to go."""

    def ring(self) -> list[Member]:
        """Nobody."""
        return []


class ListSearch(Search):
    """The papers' end of a lookup: the first member that answers, of those
    which a list names after the key, is the owner.  What the owner says
    itself is not asked for."""

    async def owner(self, starts: Iterable[Member | str]) -> Located:
        """The owner by that rule."""
        queue: list[Member | str] = list(starts)
        while queue:
            step = await self._try(queue.pop(0))
            if step is None:
                continue
            if step.owns:
                return self._located(step)
            for member in step.successors:
                answer = await self._try(member)
                if answer is not None:
                    return self._located(answer)
            queue[:0] = self._nearer(step)
        raise LookupFailed("Nobody after the key answers.")


class Walk(NamedTuple):
    """One lookup: questions that were answered and that were not, before the
    owner's own answer and with it; *owner* None when there was no result."""

    asked: int
    timeouts: int
    owner: Member | None


class Counted:
    """A pool that counts one lookup's steps; the rest passes through."""

    def __init__(self, pool: IPeerPool) -> None:
        self._pool = pool
        self.asked = 0
        self.timeouts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def peer(self, address: str, fp: bytes | None = None) -> Deferred[Any]:
        """Meet somebody, and count what it is asked."""
        return self._pool.peer(address, fp).addCallback(_CountedPeer, self)

    def call(
        self, address: str, method: str, body: Any, timeout: float | None = None, fp: bytes | None = None
    ) -> Deferred[Any]:
        """Not a step."""
        return self._pool.call(address, method, body, timeout, fp)


class _CountedPeer:
    def __init__(self, peer: Any, count: Counted) -> None:
        self._peer = peer
        self._count = count
        self.fp = peer.fp
        self.address = peer.address
        self.greeting = peer.greeting

    def call(self, method: str, body: Any, timeout: float | None = None) -> Deferred[Any]:
        count = self._count

        def answered(result: Any) -> Any:
            count.asked += 1
            return result

        def silent(failure: Any) -> Any:
            count.timeouts += 1
            return failure

        return self._peer.call(method, body, timeout).addCallbacks(answered, silent)


def start_of(host: BareHost, key: int) -> list[Member | str]:
    """Where the papers' rule begins: the asker's nearest before the key, and
    the asker itself if nobody it knows is nearer."""
    place = host.ring.positions[0]
    return [*host.ring.nearest(place, key), place.member]


def walk(host: BareHost, key: int, kind: type[Search] = Search, shortcut: bool = True) -> Deferred[Walk]:
    """One lookup from *host*; fires when it is over, found or not."""
    count = Counted(host.pool)
    here = host.ring._answers.find_successor_here
    search = kind(count, host.ring.hosts, key, here=here, shortcut=shortcut)  # type: ignore[arg-type]
    finding = Deferred.fromCoroutine(search.owner(start_of(host, key)))

    def over(result: Any) -> Walk:
        return Walk(count.asked, count.timeouts, result.owner if isinstance(result, Located) else None)

    return finding.addBoth(over)


def path_length(asked: int, own: bool) -> int:
    """As C01 counts: forwarding steps up to the key's predecessor, one at the
    least.  *own*: the owner was the asker, whom nobody had to ask."""
    return max(1, asked if own else asked - 1)


def result_of(walking: Deferred[Walk]) -> Walk:
    """Of a lookup in a network whose answers are there at once."""
    results: list[Walk] = []
    walking.addCallback(results.append)
    return results[0]


def owner_index(points: Sequence[int], key: int) -> int:
    """Which of the sorted places owns a key."""
    return bisect_left(points, key) % len(points)
