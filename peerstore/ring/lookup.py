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
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from peerstore import ids
from peerstore.errors import ConnectionLost, LookupFailed, NotReady, PeerError, PeerMismatch, RemoteError
from peerstore.interfaces import IPeerPool
from peerstore.ring.hosts import MAX_RECORDS, HostTable
from peerstore.ring.member import Member
from peerstore.wire import bodies

__all__ = ["Here", "Located", "LookupClient", "Search", "Step", "fetch_records", "resolve", "resolve_all"]

STEP_TIMEOUT = 3.0
MAX_STEPS = 200
#: Steps after the member before the key has named the owner: as many as a
#: long list has entries, and some.  To go on would take longer than another
#: attempt, and where the owner was only slow, find less.
AFTER_FINAL = 40
#: Steps from one predecessor to the next, where a claim is narrower than was thought.
MAX_BACKWARDS = 32
#: Members nearer to the key that are asked before a claim is believed.
SECOND_OPINIONS = 2
ATTEMPTS = 6
#: Hosts believed dead that a client dials when it believes nobody alive.
LAST_RESORT = 5
PAUSE = 0.2
#: No further attempt begins after so many seconds, and no single one lasts
#: longer.
BUDGET = 15.0

#: Answers find-successor from this process's own positions.
Here = Callable[[bodies.FindSuccessor], bodies.Found]


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
    await fetch_records(pool, hosts, address, hosts.unknown(refs)[:MAX_RECORDS])


async def fetch_records(pool: IPeerPool, hosts: HostTable, address: str, fps: Sequence[bytes]) -> None:
    """Learn the records of these hosts, and of no others, from the node at
    *address*.

    :raises peerstore.errors.PeerError: when it does not answer.
    """
    for start in range(0, len(fps), MAX_RECORDS):
        wanted = tuple(fps[start : start + MAX_RECORDS])
        told: bodies.NodeRecords = await pool.call(
            address, "get-node-records", bodies.GetNodeRecords(wanted), STEP_TIMEOUT
        )
        for record in told.records:
            if ids.fingerprint(record.spki) in wanted:
                hosts.learn(record)


async def resolve_all(pool: IPeerPool, hosts: HostTable, address: str) -> None:
    """Learn the live hosts that the node at *address* knows, and itself."""
    peer = await pool.peer(address)
    records: bodies.NodeRecords = await peer.call("get-node-records", bodies.GetNodeRecords(()), STEP_TIMEOUT)
    for record in records.records[:MAX_RECORDS]:
        hosts.learn(record)
        hosts.said_alive(ids.fingerprint(record.spki))
    hosts.alive(peer.fp)


class LookupClient:
    """Finds owners, starting from whoever is known to be alive.

    :param pool: asks; provides ``IPeerPool``.
    :param hosts: learns whom it meets.
    :param seeds: addresses to start from when nobody is known.
    :param here: answers for our own positions; None for a client.
    """

    def __init__(
        self,
        pool: IPeerPool,
        hosts: HostTable,
        clock: IReactorTime,
        seeds: Callable[[], Sequence[str]],
        here: Here | None = None,
    ) -> None:
        self._pool = pool
        self._hosts = hosts
        self._clock = clock
        self._seeds = seeds
        self._here = here

    def lookup(self, key: int) -> Deferred[Located]:
        """The verified owner of *key*; fails with LookupFailed."""
        return Deferred.fromCoroutine(self._lookup(key))

    async def _lookup(self, key: int) -> Located:
        why = "no node is known."
        began = self._clock.seconds()
        for attempt in range(ATTEMPTS):
            if attempt:
                await deferLater(self._clock, PAUSE * attempt)
            left = began + BUDGET - self._clock.seconds()
            if left <= 0:
                break
            search = Search(self._pool, self._hosts, key, here=self._here)
            finding = Deferred.fromCoroutine(search.owner(self._starts(key)))
            try:
                return await finding.addTimeout(left, self._clock)
            except DeferredTimeout:
                why = "it took too long."
            except (LookupFailed, PeerError, RemoteError) as error:
                why = str(error)
        raise LookupFailed(f"The owner of {ids.short(key)} could not be found: {why}", "Try again in a moment.")

    def _starts(self, key: int) -> list[Member | str]:
        """Where to begin: the likely owner, members before the key, seeds.

        A client that takes everybody for dead was probably cut off itself:
        it tries them again.  (A host looks for them without being asked.)
        """
        likely = guesses(self._hosts.ring(), key)
        lost = self._hosts.gone(LAST_RESORT) if self._here is None and not likely else []
        return [*likely, *self._seeds(), *lost]


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
    :param passed_by: hosts never asked nor accepted (who looks for another
        ring passes itself by).
    :param here: answers for our own positions, without a connection.
    :param shortcut: whether a list that reaches past the key ends the walk;
        false only to measure what the papers measured.
    """

    def __init__(
        self,
        pool: IPeerPool,
        hosts: HostTable,
        key: int,
        passed_by: Sequence[bytes] = (),
        here: Here | None = None,
        shortcut: bool = True,
    ) -> None:
        self._pool = pool
        self._hosts = hosts
        self._key = key
        self._raw_key = ids.to_bytes(key)
        self._passed_by = set(passed_by)
        self._here = here
        self._shortcut = shortcut
        self._failed: set[str] = set()
        self._asked: set[int] = set()
        self._steps = 0
        self._answered_by: set[bytes] = set()
        self._heard: list[Member] = []

    async def owner(self, starts: Iterable[Member | str]) -> Located:
        """The owner, as it says itself.

        :raises peerstore.errors.LookupFailed: when nobody claims the key now.
        """
        backwards = 0
        alone: Step | None = None
        most = MAX_STEPS
        queue: list[Member | str] = list(starts)
        while queue and self._steps < most:
            step = await self._try(queue.pop(0))
            if step is None:
                continue
            if step.owns and step.predecessor is not None:
                return self._located(await self._nearest_claim(step))
            if step.owns:
                # It says that it is alone on the circle.
                alone = alone or step
                queue[:0] = self._others(step.position.fp)
                if not queue:
                    break
                continue
            # Better hints first; those we had before stay as a fall-back.
            if step.predecessor is not None and self._lies_behind(step) and backwards < MAX_BACKWARDS:
                backwards += 1
                queue.insert(0, step.predecessor)
            queue[:0] = self._nearer(step)
            if step.final:
                most = min(most, self._steps + AFTER_FINAL)
            if step.final or self._shortcut:
                queue[:0] = step.successors
        if alone is not None and self._answered_by == {alone.position.fp}:
            return self._located(alone)
        raise LookupFailed(f"Nobody claims {ids.short(self._key)} just now.")

    def _others(self, fp: bytes) -> list[Member]:
        """Some other hosts than this one that are believed alive: if one of
        them answers, this one is on another ring, or lies."""
        others = {member.fp: member for member in self._hosts.ring() if member.fp != fp}
        return [member for member in others.values() if member.id not in self._asked][:SECOND_OPINIONS]

    async def _nearest_claim(self, claim: Step) -> Step:
        """A claim, or that of a member which is nearer to the key.

        Whoever claims too much is outdone by whoever it passes over, as far
        as those were heard of.
        """
        reach = ids.distance(self._key, claim.position.id)
        known = {member.id: member for member in (*self._heard, *guesses(self._hosts.ring(), self._key))}
        nearer = [at for at in known if ids.distance(self._key, at) < reach and at not in self._asked]
        for at in sorted(nearer, key=lambda at: ids.distance(self._key, at))[:SECOND_OPINIONS]:
            step = await self._try(known[at])
            if step is not None and step.owns and step.predecessor is not None:
                return step
        return claim

    def _located(self, step: Step) -> Located:
        before = step.predecessor.id if step.predecessor is not None else None
        return Located(self._key, step.position, before, (step.position, *step.successors))

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
        named = step.candidates if step.predecessor is None else (*step.candidates, step.predecessor)
        # Whoever sits at the key itself owns it; the member before the one
        # asked, too.
        better = {at for at in named if 0 < ids.distance(at.id, self._key) < here or at.id == self._key}
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
        question = bodies.FindSuccessor(self._raw_key, index)
        try:
            if self._is_ours(target):
                answer = self._here(question) if self._here is not None else None
            else:
                answer = await self._ask(address, question, fp)
        except (NotReady, RemoteError):
            return None
        except PeerError as error:
            if not isinstance(error, PeerMismatch):
                # Else somebody answers there: perhaps the one that is named next.
                self._failed.add(address)
            if fp is not None:
                self._hosts.dead(fp)
            return None
        return self._resolved(answer) if answer is not None else None

    async def _ask(self, address: str, question: bodies.FindSuccessor, fp: bytes | None) -> bodies.Found:
        """One answer, of which only what the peer says of itself is believed.

        :raises peerstore.errors.PeerMismatch: when it speaks for another.
        """
        peer = await self._pool.peer(address, fp)
        try:
            answer: bodies.Found = await peer.call("find-successor", question, STEP_TIMEOUT)
        except ConnectionLost:
            # It may have been open since before that host lost its power.
            peer = await self._pool.peer(address, fp)
            answer = await peer.call("find-successor", question, STEP_TIMEOUT)
        if answer.position.fp != peer.fp or question.index not in (-1, answer.position.index):
            raise PeerMismatch(f"The node at {address} answers for another.")
        refs = [answer.position, *answer.successors, *answer.candidates]
        if answer.predecessor is not None:
            refs.append(answer.predecessor)
        await resolve(self._pool, self._hosts, address, refs)
        self._hosts.alive(peer.fp)
        return answer

    def _is_ours(self, target: Member | str) -> bool:
        own = self._hosts.record(self._hosts.own_fp)
        if self._here is None or own is None:
            return False
        return target.fp == self._hosts.own_fp if isinstance(target, Member) else target == own.addresses[0]

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
        behind, candidates = self._hosts.members(answer.successors), self._hosts.members(answer.candidates)
        self._answered_by.add(position.fp)
        self._heard += [*behind[:SECOND_OPINIONS], *candidates[:SECOND_OPINIONS]]
        return Step(position, before, owns, answer.final, behind, candidates)
