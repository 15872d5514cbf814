"""Iterative lookups, verified by the owner itself.

Each step asks one member ("find-successor" of one key) and makes strict
progress towards the key.  Nobody's word about another is final: the answer
counts only when the owner says that the key lies in its own range.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from peerstore import ids
from peerstore.errors import LookupFailed, NotReady, PeerError, RemoteError
from peerstore.interfaces import IPeerPool
from peerstore.ring.hosts import HostTable
from peerstore.ring.member import Member
from peerstore.wire import bodies

__all__ = ["LookupClient", "Located", "Step", "resolve", "resolve_all"]

STEP_TIMEOUT = 3.0
MAX_STEPS = 200
ATTEMPTS = 6
PAUSE = 0.2


class Located(NamedTuple):
    """Where a key lives.

    *members* are the owner and its successor list: the hosts to put copies on
    are found by walking them.  (predecessor_id, owner.id] is the owner's
    range; predecessor_id None means that it owns the whole ring.
    """

    key: int
    owner: Member
    predecessor_id: int | None
    members: tuple[Member, ...]


class Step(NamedTuple):
    """One answer, with its references resolved."""

    position: Member
    predecessor: Member | None
    owns: bool
    final: bool
    successors: tuple[Member, ...]
    candidates: tuple[Member, ...]


async def resolve(pool: IPeerPool, hosts: HostTable, address: str, refs: Iterable[bodies.PositionRef]) -> None:
    """Learn the keys of hosts that an answer names, from whoever named them."""
    unknown = hosts.unknown(refs)
    while unknown:
        records: bodies.NodeRecords = await pool.call(
            address, "get-node-records", bodies.GetNodeRecords(unknown[:256]), STEP_TIMEOUT
        )
        for record in records.records:
            hosts.learn(record)
        unknown = unknown[256:]


async def resolve_all(pool: IPeerPool, hosts: HostTable, address: str) -> None:
    """Learn the live hosts that the node at *address* knows, and itself."""
    peer = await pool.peer(address)
    records: bodies.NodeRecords = await peer.call("get-node-records", bodies.GetNodeRecords(()), STEP_TIMEOUT)
    for record in records.records:
        hosts.learn(record)
        hosts.alive(ids.fingerprint(record.spki))


class LookupClient:
    """Finds owners, starting from whoever is known to be alive.

    :param pool: asks; provides ``IPeerPool``.
    :param hosts: learns whom it meets.
    :param seeds: addresses to start from when nobody is known.
    """

    def __init__(
        self, pool: IPeerPool, hosts: HostTable, clock: IReactorTime, seeds: Callable[[], Sequence[str]]
    ) -> None:
        self._pool = pool
        self._hosts = hosts
        self._clock = clock
        self._seeds = seeds

    def lookup(self, key: int) -> Deferred[Located]:
        """The verified owner of *key*; fails with LookupFailed."""
        return Deferred.fromCoroutine(self._lookup(key))

    async def _lookup(self, key: int) -> Located:
        why = "no node is known."
        for attempt in range(ATTEMPTS):
            if attempt:
                await deferLater(self._clock, PAUSE * attempt)
            search = Search(self._pool, self._hosts, key, ())
            try:
                return await search.owner(self._starts(key))
            except (LookupFailed, PeerError, RemoteError) as error:
                why = str(error)
        raise LookupFailed(f"The owner of {ids.short(key)} could not be found: {why}", "Try again in a moment.")

    def _starts(self, key: int) -> list[Member | str]:
        """Where to begin: the likely owner, members before the key, seeds."""
        return [*guesses(self._hosts.ring(), key), *self._seeds()]


def guesses(ring: Sequence[Member], key: int) -> list[Member]:
    """The likely owner of *key* and some members before it, best first."""
    if not ring:
        return []
    where = bisect_left(ring, key, key=lambda member: member.id)
    order = [where, where - 1, where + 1, where - 2]
    return list(dict.fromkeys(ring[place % len(ring)] for place in order))


class Search:
    """One iterative lookup.

    :param key: what is looked for.
    :param passed_by: hosts never asked nor accepted (a joiner passes itself by).
    """

    def __init__(self, pool: IPeerPool, hosts: HostTable, key: int, passed_by: Sequence[bytes]) -> None:
        self._pool = pool
        self._hosts = hosts
        self._key = key
        self._raw_key = ids.to_bytes(key)
        self._passed_by = set(passed_by)
        self._failed: set[str] = set()
        self._asked: set[int] = set()
        self._steps = 0

    async def owner(self, starts: Iterable[Member | str]) -> Located:
        """The owner, as it says itself.

        :raises peerstore.errors.LookupFailed: when nobody claims the key now.
        """
        backwards = 0
        queue: list[Member | str] = list(starts)
        while queue:
            step = await self._try(queue.pop(0))
            if step is None:
                continue
            if step.owns:
                before = step.predecessor.id if step.predecessor is not None else None
                return Located(self._key, step.position, before, (step.position, *step.successors))
            # Better hints first; those we had before stay as a fall-back.
            if step.final:
                queue[:0] = list(step.successors)
            else:
                if step.predecessor is not None and self._lies_behind(step) and backwards < 32:
                    backwards += 1
                    queue.insert(0, step.predecessor)
                queue[:0] = self._nearer(step)
        raise LookupFailed(f"Nobody claims {ids.short(self._key)} just now.")

    async def predecessor(self, starts: Iterable[Member | str]) -> Step:
        """The member just before the key, with its whole list.

        :raises peerstore.errors.LookupFailed: when nobody could be asked.
        """
        queue: list[Member | str] = list(starts)
        while queue:
            step = await self._try(queue.pop(0))
            if step is None:
                continue
            # Only a member that is alone on the circle is before every key
            # without being followed by anybody.
            alone = step.owns and step.predecessor is None and not step.successors
            if step.final or (alone and step.position.id != self._key):
                return step
            if step.predecessor is not None and (step.owns or self._lies_behind(step)):
                queue.insert(0, step.predecessor)
            queue[:0] = self._nearer(step)
        raise LookupFailed(f"Nobody was found before {ids.short(self._key)}.")

    def _lies_behind(self, step: Step) -> bool:
        """The key lies before the asked one's range: it is behind it."""
        return step.predecessor is not None and ids.between(self._key, step.predecessor.id, step.position.id)

    def _nearer(self, step: Step) -> list[Member]:
        """Candidates that make strict progress, nearest first."""
        here = ids.distance(step.position.id, self._key)
        better = {
            member
            for member in step.candidates
            if 0 < ids.distance(member.id, self._key) < here or member.id == self._key
        }
        return sorted(better, key=lambda member: ids.distance(member.id, self._key))

    async def _try(self, target: Member | str) -> Step | None:
        """Ask one, unless it was asked or has failed; None for no answer."""
        if isinstance(target, Member):
            if target.fp in self._passed_by or target.id in self._asked:
                return None
            self._asked.add(target.id)
            address, index, fp = target.address, target.index, target.fp
        else:
            address, index, fp = target, -1, None
        if address in self._failed:
            return None
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise LookupFailed("A lookup took too many steps.")
        try:
            answer: bodies.Found = await self._pool.call(
                address, "find-successor", bodies.FindSuccessor(self._raw_key, index), STEP_TIMEOUT, fp
            )
            refs = [answer.position, *answer.successors, *answer.candidates]
            if answer.predecessor is not None:
                refs.append(answer.predecessor)
            await resolve(self._pool, self._hosts, address, refs)
        except NotReady:
            return None
        except RemoteError:
            return None
        except PeerError:
            self._failed.add(address)
            if fp is not None:
                self._hosts.dead(fp)
            return None
        self._hosts.alive(answer.position.fp)
        return self._resolved(answer)

    def _resolved(self, answer: bodies.Found) -> Step | None:
        position = self._hosts.member(answer.position)
        if position is None or position.fp in self._passed_by:
            return None
        self._asked.add(position.id)
        before: Any = self._hosts.member(answer.predecessor) if answer.predecessor is not None else None
        owns = answer.owns
        # A claim must follow from the range that is claimed.
        if owns and before is not None and not ids.in_half_open(before.id, self._key, position.id):
            owns = False
        if owns and before is None and answer.successors:
            owns = False
        return Step(
            position,
            before,
            owns,
            answer.final,
            self._hosts.members(answer.successors),
            self._hosts.members(answer.candidates),
        )
