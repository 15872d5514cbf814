"""Rounds in which hosts agree on who votes, and come to vote themselves.

For each arc that concerns us the others that it concerns are asked to take
our view over (``attach``), and answer with theirs.  Once all speak of the same
lists, we take in what they have there, and vote.  The rules: ``votes``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from peerstore import ids
from peerstore.errors import PeerError, PeerStoreError, ProtocolViolation, StorageError
from peerstore.gateway.ask import ask
from peerstore.interfaces import IPeerPool
from peerstore.items import Kind
from peerstore.node.arcs import Arc
from peerstore.node.electorate import Electorate
from peerstore.node.exchange import Exchange, Task
from peerstore.node.intake import Taken
from peerstore.node.ranges import Ranges
from peerstore.node.rounds import Rounds
from peerstore.node.suspicions import Suspicions
from peerstore.node.votes import ArcVotes, Sealed, is_open
from peerstore.ring.hosts import HostTable
from peerstore.ring.member import Member
from peerstore.ring.placement import replica_hosts
from peerstore.util.complaint import Complaint
from peerstore.util.together import all_of
from peerstore.wire.bodies import GetNodeRecords, NodeRecords
from peerstore.wire.voting import MAX_ARCS, MAX_TOLD, Attach, Attached, check_told

__all__ = ["Canvass", "VOTED"]

#: What is voted on; chunks need no votes.
VOTED = (Kind.HEAD, Kind.LOG, Kind.RECORD)
#: Passes until all speak of the same lists; the rest comes in the next round.
PASSES = 4
ATTACH_TIMEOUT = 5.0
#: Arcs that are taken in from one host at a time.
LANES = 4
#: Between two looks at arcs that are in order.
THOROUGH = 300.0
#: Failures in a row after which a host is taken for dead.
SILENT = 2
#: Seconds until hosts of a ring that nobody began say so.
UNBEGUN = 60.0


class Canvass:
    """Asks, takes in, and judges.

    :param suspicions: told of whoever is silent.
    :param pool: reaches the other hosts.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        electorate: Electorate,
        suspicions: Suspicions,
        ranges: Ranges,
        exchange: Exchange,
        hosts: HostTable,
        pool: IPeerPool,
    ) -> None:
        self._clock = clock
        self._electorate = electorate
        self._suspicions = suspicions
        self._ranges = ranges
        self._exchange = exchange
        self._hosts = hosts
        self._pool = pool
        self._silent: dict[bytes, int] = {}
        #: Who did not answer something of this pass.
        self._failing: set[bytes] = set()
        #: Of our own disk, which fails every attempt while it is full.
        self._complaint = Complaint(clock.seconds)
        #: What is wrong with our own disk, in words; empty when all is well.
        self.trouble = ""
        #: Of a ring in which every host was to join another.
        self._unbegun = Complaint(clock.seconds)
        self._started: float | None = None
        self._rounds = Rounds(clock, self._begin, "voting")
        self._thorough = 0.0

    # -- rounds ------------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    def stop(self) -> Deferred[None]:
        """End; fires when the round in flight is over."""
        return self._rounds.stop()

    def ring_changed(self) -> None:
        """Hosts came or went, or somebody told us of it: look again soon."""
        self._rounds.changed()

    def round(self) -> Deferred[None]:
        """One round; fires when done, whatever failed.

        Now and then also arcs that are in order are looked after: that is how
        a copy that was never written is mended.
        """
        return self._rounds.run()

    def _begin(self) -> Deferred[bool]:
        return Deferred.fromCoroutine(self._whole_round())

    async def _whole_round(self) -> bool:
        thorough = self._clock.seconds() >= self._thorough
        is_done = await self._kept_round(thorough)
        if thorough:
            self._thorough = self._clock.seconds() + THOROUGH
        return is_done

    async def _kept_round(self, everything: bool) -> bool:
        try:
            return await self._round(everything)
        except StorageError as error:
            # We go on with the votes that are on disk, if that.
            self.trouble = str(error)
            if self._complaint.due():
                self._log.error("who votes here cannot be kept: {why} This is said every ten minutes.", why=str(error))
            return False

    async def _round(self, everything: bool) -> bool:
        electorate = self._electorate
        electorate.review()
        waiting = self._suspicions.look_again(self._hosts.is_alive)
        await self._tell_the_living()
        answers: list[Taken] = []
        for _ in range(PASSES):
            work = [arc for arc in electorate.arcs() if everything or is_open(arc.value)]
            if not work:
                return not waiting
            answers = await self._ask_about(work)
            if all(self._is_current(one) for one in answers):
                break
        electorate.settle([one for one in answers if self._is_current(one)])
        await self._take_in(answers, everything)
        became = electorate.judge(self._concerned_and_live)
        if became:
            self._log.debug("votes on {n} more arcs", n=became)
        electorate.let_go(answers)
        await electorate.kept()
        self.trouble = ""
        if self._complaint.over():
            self._log.info("who votes here can be kept again")
        self._look_for_the_first()
        return electorate.at_rest and not waiting

    def _look_for_the_first(self) -> None:
        """Say that the ring has no first host, if that lasts."""
        if self._started is None:
            self._started = self._clock.seconds()
        waited = self._clock.seconds() - self._started >= UNBEGUN
        electorate = self._electorate
        others = any(not known.dead for fp, known in electorate.view.items() if fp != electorate.fp)
        if waited and others and not electorate.knows_anything and self._unbegun.due():
            self._log.warn(
                "no node that is up here has begun a ring, so no write is certain and no read complete. Start the "
                "one that did. If none did, for all were started with --join: stop one that holds nothing, and start "
                "it with an empty data folder and without --join. This is said every ten minutes."
            )

    # -- asking ------------------------------------------------------------------

    def _is_current(self, taken: Taken) -> bool:
        """Whether an answer speaks of the very lists that we have now."""
        return all(part.value.name == taken.sealed.name for part in self._parts(taken))

    def _parts(self, taken: Taken) -> list[Arc[ArcVotes]]:
        return self._electorate.between(taken.after, taken.through)

    async def _tell_the_living(self) -> None:
        """Whoever answers in the ring, and is dead by our view, has to hear of
        it: only the host itself can begin its next life."""
        wrong = [fp for fp, known in sorted(self._electorate.view.items()) if known.dead and self._hosts.is_alive(fp)]
        if wrong:
            await all_of([Deferred.fromCoroutine(self._ask(fp, ())) for fp in wrong if self._may_be_asked(fp)])

    async def _ask_about(self, work: Sequence[Arc[ArcVotes]]) -> list[Taken]:
        by_host: dict[bytes, list[tuple[int, int]]] = {}
        for arc in work:
            for fp in self._concerned(arc):
                by_host.setdefault(fp, []).append((arc.after, arc.through))
        asking = [
            Deferred.fromCoroutine(self._ask(fp, arcs[at : at + MAX_ARCS]))
            for fp, arcs in sorted(by_host.items())
            for at in range(0, len(arcs), MAX_ARCS)
        ]
        answers = await all_of(asking)
        self._count_failures()
        return [taken for answer in answers for taken in answer]

    def _concerned(self, arc: Arc[ArcVotes]) -> list[bytes]:
        """Whom to ask about an arc: all voters of all its lists, and the first
        k + 1 hosts that the ring names; all of these, and not only the first,
        while nobody told us anything of it.

        Once others vote, it is theirs to know who voted before: two hosts
        that did would remind each other of it for ever."""
        named = arc.value.named
        if named.epoch and self._electorate.fp not in named.hosts:
            return [fp for fp in named.hosts if self._may_be_asked(fp)]
        lists = (named, *arc.value.history)
        found = dict.fromkeys(fp for one in lists for fp in one.hosts)
        count = self._electorate.copies + 1 if arc.value.named.epoch else 1 << 16
        for own in self._ranges.current():
            if own.covers(arc.through):
                found.update(dict.fromkeys(member.fp for member in replica_hosts(own.members, count)))
        return [fp for fp in found if self._may_be_asked(fp)]

    def _may_be_asked(self, fp: bytes) -> bool:
        standing = self._electorate.view.get(fp)
        if fp == self._electorate.fp or fp not in self._hosts:
            return False
        return self._hosts.is_alive(fp) or (standing is not None and not standing.dead)

    def _concerned_and_live(self, arc: ArcVotes) -> frozenset[bytes]:
        """Who would have to be asked before we count ourselves."""
        hosts = {fp for one in (arc.named, *arc.history) for fp in one.hosts} - {self._electorate.fp}
        live = {fp for fp, known in self._electorate.view.items() if not known.dead}
        # Retired before anybody noticed that it was dead: nobody can ask it.
        return frozenset(fp for fp in hosts & live if not self._hosts.is_retired(fp))

    async def _ask(self, fp: bytes, arcs: Sequence[tuple[int, int]]) -> list[Taken]:
        electorate = self._electorate
        member = self._hosts.whereabouts(fp)
        if member is None:
            # Retired while our disk, or another host, was waited for.
            return []
        try:
            answer = await self._attached(member, arcs)
            await self._learn(member, answer)
        except PeerStoreError as error:
            self._failed(fp, error)
            return []
        self._silent.pop(fp, None)
        electorate.hear_view(answer.view)
        electorate.hear(answer.arcs)
        return [
            Taken(
                ids.from_bytes(told.after),
                ids.from_bytes(told.through),
                Sealed(fp, answer.born, (told.named, told.history), told.full),
                told.capable,
                told.covered,
            )
            for told in answer.arcs
        ]

    async def _attached(self, member: Member, arcs: Sequence[tuple[int, int]]) -> Attached:
        """Ask, again with the records of those that the other does not know."""
        electorate = self._electorate
        body = Attach(electorate.tell_view(), electorate.tell(arcs), ())
        # Waited for only now: while we waited for what was so before, more may
        # have become so, of which a power cut leaves nothing here.
        await electorate.kept()
        answer = await ask(self._pool, member, "attach", body, Attached, ATTACH_TIMEOUT)
        if answer.unknown:
            body = Attach(body.view, body.arcs, self._hosts.records(answer.unknown))
            answer = await ask(self._pool, member, "attach", body, Attached, ATTACH_TIMEOUT)
        check_told(answer.view, answer.arcs, MAX_TOLD)
        return answer

    async def _learn(self, member: Member, answer: Attached) -> None:
        """Get the records of hosts in a view that we do not know."""
        unknown = tuple(
            one.fp for one in answer.view if one.fp not in self._hosts and not self._hosts.is_retired(one.fp)
        )
        if unknown:
            body = GetNodeRecords(unknown)
            records = await ask(self._pool, member, "get-node-records", body, NodeRecords, ATTACH_TIMEOUT)
            for record in records.records:
                self._hosts.learn(record)

    def _failed(self, fp: bytes, error: PeerStoreError) -> None:
        self._log.debug("asking {host} about votes: {why}", host=ids.short(fp), why=error.what)
        # Whoever talks nonsense is there; and what fails at a time, as all does
        # that a lost connection had in flight, failed once.
        if isinstance(error, PeerError) and not isinstance(error, ProtocolViolation):
            self._failing.add(fp)

    def _count_failures(self) -> None:
        for fp in sorted(self._failing):
            self._silent[fp] = self._silent.get(fp, 0) + 1
            if self._silent[fp] >= SILENT:
                self._suspicions.lost(fp)
        self._failing.clear()

    # -- taking in ---------------------------------------------------------------

    async def _take_in(self, answers: Iterable[Taken], everything: bool) -> None:
        """Fetch what the others have in arcs in which we are to vote."""
        jobs: dict[bytes, list[Taken]] = {}
        for taken in answers:
            for part in self._parts(taken):
                arc = part.value
                if self._electorate.fp not in arc.named.hosts or arc.named.voters != taken.sealed.name[0].voters:
                    continue
                if arc.full and not everything:
                    continue
                one = taken._replace(after=part.after, through=part.through)
                jobs.setdefault(taken.sealed.fp, []).append(one)
        # A few at a time of each host: it has others to answer, too.
        lanes = [work[lane::LANES] for work in jobs.values() for lane in range(LANES)]
        await all_of([Deferred.fromCoroutine(self._take_each(lane)) for lane in lanes if lane])
        self._count_failures()

    async def _take_each(self, work: Sequence[Taken]) -> None:
        for taken in work:
            await self._take(taken)

    async def _take(self, taken: Taken) -> None:
        member = self._hosts.whereabouts(taken.sealed.fp)
        if member is None:
            return
        try:
            await self._exchange.run(Task(member, VOTED, True, False), taken.after, taken.through)
        except PeerStoreError as error:
            self._failed(taken.sealed.fp, error)
            return
        self._electorate.took(taken)
