"""Whom this host takes for voters, all round the circle, and whether it is one.

The rules are those of ``votes``; here they are applied to every arc that
concerns us, with the positions of the hosts that we know, and kept on disk
(``roll``).  Whatever is said in the name of a list is on disk first (:meth:`kept`).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from peerstore import ids
from peerstore.errors import StorageError
from peerstore.interfaces import INodeStore
from peerstore.node import votes
from peerstore.node.arcs import Arc, ArcMap
from peerstore.node.intake import Intake, Taken, full_voters
from peerstore.node.latest import Latest
from peerstore.node.roll import SETTING, Roll, standings
from peerstore.node.votes import ArcVotes, Sealed, Standing, is_open, name_digest
from peerstore.ring.hosts import HostTable
from peerstore.wire.bodies import Vote
from peerstore.wire.voting import ArcTold, HostStanding

__all__ = ["Electorate"]

#: A host counts its lives, and begins where the clock stands.  One that is
#: further ahead than this of what was known, and of the time, is made up.
LEAP = 1 << 40
_NOTHING = ArcVotes()


class Electorate:
    """This host's view, and its state of all arcs.

    :param store: keeps them.
    :param hosts: knows the positions of hosts.
    :param fp: our own fingerprint.
    :param copies: k.
    :param wall: seconds since some fixed day; see ``_next_life``.
    :param entropy: gives random bytes.
    :param keep_hosts: puts the table of hosts on disk.  Whoever is in the view
        there must be in the table, too, or nobody could ask for them, or find
        them to be dead, after a start.
    """

    _log = Logger()

    def __init__(
        self,
        store: INodeStore,
        hosts: HostTable,
        fp: bytes,
        copies: int,
        wall: Callable[[], float],
        entropy: Callable[[int], bytes],
        keep_hosts: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._store = store
        self._hosts = hosts
        self.fp = fp
        self.copies = copies
        self._wall = wall
        self._entropy = entropy
        self.life = 0
        self.born = 0
        self.view: dict[bytes, Standing] = {}
        self._arcs: ArcMap[ArcVotes] = ArcMap(_NOTHING)
        self._intake = Intake()
        #: The names that arcs have, by the identity of their state; see :meth:`vote`.
        self._names: dict[int, tuple[ArcVotes, bytes]] = {}
        self._needed = ((-1, -1), 1)
        self._watchers: list[Callable[[], None]] = []
        self._withdrawn = False
        self._disk = Latest(store, SETTING, self._pack, keep_hosts)

    # -- life ------------------------------------------------------------------

    async def open(self) -> None:
        """Read what was kept, and begin the next life, which is on disk
        when this returns.

        :raises peerstore.errors.CorruptData: when it cannot be read.
        """
        raw: bytes | None = await self._store.setting(SETTING)
        if raw is not None:
            saved = Roll.unpack(raw)
            self.life, self.born, self.view = saved.life, saved.born, saved.views()
            self._arcs.replace(arc._replace(value=votes.restarted(arc.value)) for arc in saved.states())
        self._next_life(self.life + 1)
        if not self.born:
            self.born = self.life
        self._review()
        await self.kept()

    def found(self) -> None:
        """Begin a ring: we are alone, and nobody ever told us of another."""
        if not self.knows_anything:
            arc = votes.first_arc(self._entropy(16), self.fp, self.life)
            self._arcs = ArcMap(arc)
            self._changed()
            self._review()

    @property
    def is_open(self) -> bool:
        """Whether what was kept has been read: before, nobody can be told anything."""
        return self.life > 0

    @property
    def knows_anything(self) -> bool:
        """Whether there is an arc that somebody told us of."""
        return any(arc.value.named.epoch or arc.value.history for arc in self._arcs.arcs())

    def kept(self) -> Deferred[None]:
        """Fires once all that we are about to say is on disk; fails with a
        StorageError when it cannot be, and then it must not be said."""
        return self._disk.kept()

    async def may_vote(self) -> bool:
        """Whether all that we go by is on disk by now; where that cannot be,
        we do not vote."""
        try:
            await self.kept()
        except StorageError as error:
            self._log.debug("what we vote by cannot be kept: {why}", why=error.what)
            return False
        return True

    async def sure(self, vote: Vote, ring_id: bytes) -> Vote:
        """A vote on a key as it may be sent, after all has been read: it may
        have turned out only then that something of it has rotted here, and
        others may have taken over meanwhile.  Then we may have dropped what
        we had before we came to look."""
        fine = await self.may_vote() and self.vote(ring_id).name == vote.name
        return vote if fine else Vote(b"", vote.voters, vote.needed)

    # -- the view ----------------------------------------------------------------

    def suspect(self, fp: bytes) -> None:
        """A host does not answer, or said that it goes."""
        standing = self.view.get(fp)
        if standing is not None and not standing.dead and fp != self.fp:
            self._see({fp: Standing(standing.life, 1)})

    def withdraw(self) -> None:
        """We go for good: others are to vote, and to hold what we hold."""
        self._withdrawn = True
        self._see({self.fp: Standing(self.life, votes.GONE)})

    def watch(self, callback: Callable[[], None]) -> None:
        """*callback()* whenever the view has grown."""
        self._watchers.append(callback)

    def hear_view(self, told: Iterable[HostStanding]) -> None:
        """Another host's view: joined with ours, but for hosts that we do not
        know, and for lives that nobody can have come to."""
        now = int(self._wall())
        self._see(
            {
                one.fp: Standing(one.life, one.dead)
                for one in told
                if one.fp in self._hosts and one.life <= LEAP + max(now, self._life_of(one.fp))
            }
        )

    def review(self) -> None:
        """Look again at who the voters are: somebody may have been retired,
        or have become known."""
        self._review()

    def tell_view(self) -> tuple[HostStanding, ...]:
        """Ours, for others.

        Not of those whose records we cannot give, as of the retired: whoever
        does not know them would ask for the records again and again."""
        return tuple(one for one in standings(self.view) if one.fp == self.fp or one.fp in self._hosts)

    @property
    def version(self) -> int:
        """Grows with every change of view or arcs."""
        return self._disk.version

    @property
    def needed(self) -> int:
        """W: how many voters of one list make a write certain, a read complete.

        Who said that it goes for good is not counted: of two hosts the other
        could never take all over, for want of a second that says so."""
        # Asked for each of many items; counted only when something changed.
        of = (self.version, self._hosts.changes)
        if of != self._needed[0]:
            going = {fp for fp, known in self.view.items() if known.dead == votes.GONE}
            present = sum(not self._hosts.is_retired(fp) for fp in self.view.keys() - going)
            known = self._hosts.known_count() - sum(fp in self._hosts for fp in going)
            self._needed = (of, votes.majority(min(self.copies, max(1, present, known))))
        return self._needed[1]

    # -- arcs --------------------------------------------------------------------

    def arcs(self) -> list[Arc[ArcVotes]]:
        """All arcs that concern us."""
        return [arc for arc in self._arcs.arcs() if arc.value != _NOTHING and not votes.is_left(arc.value)]

    @property
    def at_rest(self) -> bool:
        """Whether nothing is left to be done about any arc."""
        return not any(is_open(arc.value) for arc in self.arcs())

    def between(self, after: int, through: int) -> list[Arc[ArcVotes]]:
        """Our state of the parts of (after, through]."""
        return self._arcs.between(after, through)

    @property
    def has_let_go_of_all(self) -> bool:
        """Whether others vote on everything."""
        return not self.arcs()

    def has_let_go(self, ring_id: bytes) -> bool:
        """Whether others vote on a key, and know all that we knew."""
        arc = self.at(ring_id)
        return arc == _NOTHING or votes.is_left(arc)

    def is_voter(self, arc: ArcVotes) -> bool:
        """Whether our answers about this arc count."""
        return arc.capable and self.fp in arc.named.hosts

    def at(self, ring_id: bytes) -> ArcVotes:
        """Our state of one key."""
        return self._arcs.at(ids.from_bytes(ring_id)).value

    def vote(self, ring_id: bytes) -> Vote:
        """In whose name we answer about a key: without a name, we do not
        vote.  To be sent as :meth:`sure` gives it.

        Where something has rotted, we cannot say that there is nothing else."""
        arc = self.at(ring_id)
        votes_here = self.is_voter(arc) and not self._store.doubts.at(ring_id)
        return Vote(self._name(arc) if votes_here else b"", arc.named.hosts, self.needed)

    def _name(self, arc: ArcVotes) -> bytes:
        """An arc's name as a digest, worked out once: many items come at a time."""
        known = self._names.get(id(arc))
        if known is None or known[0] is not arc:
            known = self._names[id(arc)] = (arc, name_digest(arc.name))
        return known[1]

    def tell(self, arcs: Iterable[tuple[int, int]]) -> tuple[ArcTold, ...]:
        """What we say of these arcs, (after, through] each."""
        return tuple(
            ArcTold(
                ids.to_bytes(part.after),
                ids.to_bytes(part.through),
                part.value.named,
                part.value.history,
                part.value.covered,
                self.is_voter(part.value),
                part.value.full,
            )
            for after, through in arcs
            for part in self._arcs.between(after, through)
        )

    def vouch(self, arcs: Iterable[tuple[int, int]]) -> tuple[ArcTold, ...]:
        """Like :meth:`tell`, for who takes in what we have there: without
        those arcs of which something has rotted here, and is not back."""
        return tuple(
            told
            for told in self.tell(arcs)
            if not self._in_doubt(ids.from_bytes(told.after), ids.from_bytes(told.through))
        )

    def can_list(self, after: bytes, through: bytes) -> bool:
        """Whether what we have of what is voted on in (after, through] may be
        taken for all that we were told of: not while something there has
        rotted and is not back, nor when we know of no list of voters there.
        Then our disk is a new one, or it was left to others, and we may have
        dropped what we had."""
        low, high = ids.from_bytes(after), ids.from_bytes(through)
        return not self._in_doubt(low, high) and all(part.value.named.epoch for part in self._arcs.between(low, high))

    def hear(self, arcs: Iterable[ArcTold]) -> None:
        """Another host, whose view we have joined, says this of some arcs.

        What is settled, and neither ours nor ever was, is passed over."""
        before = self.version
        for told in arcs:
            if (told.named.epoch and told.named.voters) or told.history:
                self._change(ids.from_bytes(told.after), ids.from_bytes(told.through), self._learning(told))
        if self.version != before:
            # An arc that was no concern of ours has no voters yet.
            self._review()

    def _learning(self, told: ArcTold) -> Callable[[ArcVotes], ArcVotes]:
        def learn(arc: ArcVotes) -> ArcVotes:
            if not told.history and self.fp not in told.named.hosts and (arc == _NOTHING or votes.is_left(arc)):
                return arc
            return votes.learned(arc, (told.named, told.history), told.covered)

        return learn

    # -- coming to vote ------------------------------------------------------------

    def took(self, taken: Taken) -> None:
        """All that a host has in an arc is here now."""
        self._intake.add(taken)

    def judge(self, asked: Callable[[ArcVotes], frozenset[bytes]]) -> int:
        """Become a voter wherever enough was taken in; for how many arcs.

        :param asked: the live hosts that would have to be asked about an arc
            before we may count ourselves.
        """
        arcs = self.arcs()
        # Whoever came after a host was retired has it in no view of its own.
        named = {fp for arc in arcs for one in arc.value.history for fp in one.hosts}
        retired = frozenset(fp for fp in named if self._hosts.is_retired(fp))
        ready: list[Arc[ArcVotes]] = []
        answers: list[Arc[tuple[Sealed, ...]]] = []
        for arc in arcs:
            if arc.value.full:
                continue
            for part in self._intake.of(arc):
                answers.append(part)
                alone = asked(arc.value) <= {one.fp for one in part.value}
                new = votes.judged(arc.value, self.fp, self.born, part.value, retired, alone)
                if new != arc.value:
                    ready.append(Arc(part.after, part.through, new))
        for arc in ready:
            self._change(arc.after, arc.through, lambda _, new=arc.value: new)  # type: ignore[misc]
        self._intake.keep_only(answers)
        return len(ready)

    def settle(self, answers: Sequence[Taken]) -> None:
        """Forget the history of arcs for which W voters are full in one name."""
        agreed = full_voters(answers)
        needed = self.needed
        for arc in self.arcs():
            for part in agreed.between(arc.after, arc.through):
                group = {fp for fp, name in part.value if name == arc.value.name}
                if self.is_voter(arc.value) and arc.value.full and not self._in_doubt(part.after, part.through):
                    group.add(self.fp)
                if len(group) >= needed and arc.value.history:
                    name = arc.value.name
                    self._change(part.after, part.through, lambda old, name=name: votes.settled(old, name))  # type: ignore[misc]

    def let_go(self, answers: Iterable[Taken]) -> None:
        """Leave to others the arcs that are theirs, once they have settled
        that: they know of all lists that we know of, and have what was there."""
        for taken in answers:
            if taken.capable and taken.sealed.fp in taken.sealed.name[0].hosts:
                for part in self._arcs.between(taken.after, taken.through):
                    self._leave(part, taken)

    def _leave(self, part: Arc[ArcVotes], taken: Taken) -> None:
        arc, named = part.value, taken.sealed.name[0]
        ours = [one for one in (arc.named, *arc.history) if one != named]
        if arc != _NOTHING and self.fp not in arc.named.hosts and all(votes.covers(taken.covered, one) for one in ours):
            self._change(part.after, part.through, lambda old: votes.left_to(old, named, taken.covered))

    # -- inside ------------------------------------------------------------------

    def _in_doubt(self, after: int, through: int) -> bool:
        """Whether something in an arc was lost here, and is not back."""
        lacks: bool = self._store.doubts.between(ids.to_bytes(after), ids.to_bytes(through))
        return lacks

    def _life_of(self, fp: bytes) -> int:
        known = self.view.get(fp)
        return known.life if known is not None else 0

    def _see(self, news: dict[bytes, Standing]) -> None:
        joined = votes.join_views(self.view, news)
        if joined != self.view:
            self.view = joined
            self._changed()
            self._review()
            for watcher in list(self._watchers):
                watcher()

    def _next_life(self, least: int) -> None:
        """Begin a new life.  Its number is not below the time of day, so that
        a host that has lost its disk, but not its key, gets one that it never
        had: what it said in earlier ones, it does not remember."""
        self.life = max(least, int(self._wall()), 1)
        self.view[self.fp] = Standing(self.life, votes.GONE if self._withdrawn else 0)
        self._intake.clear()
        for arc in self._arcs.arcs():
            self._change(arc.after, arc.through, votes.restarted)
        self._changed()

    def _review(self) -> None:
        """Whom the view makes voters, arc by arc."""
        own = self.view[self.fp]
        if own.life > self.life:
            self._log.warn("others know this node from a later life: its data folder is an older copy")
            self._next_life(own.life + 1)
            self.born = self.life
        elif own.dead and not self._withdrawn:
            self._next_life(self.life + 1)
        places = sorted(
            (position.id, fp, known.life)
            for fp, known in self.view.items()
            if not known.dead and not self._hosts.is_retired(fp)
            for position in self._hosts.positions_of(fp)
        )
        for number, (through, _, _) in enumerate(places):
            after = places[number - 1][0]
            chosen: dict[bytes, int] = {}
            for step in range(len(places)):
                _, fp, life = places[(number + step) % len(places)]
                chosen.setdefault(fp, life)
                if len(chosen) >= self.copies:
                    break
            self._elect(after, through, tuple(chosen.items()))

    def _elect(self, after: int, through: int, chosen: tuple[tuple[bytes, int], ...]) -> None:
        ours = any(fp == self.fp for fp, _ in chosen)
        for part in self._arcs.between(after, through):
            old = part.value
            if not ours and votes.is_left(old):
                new = old
            elif not ours and not old.named.epoch and not old.history:
                new = _NOTHING
            else:
                new = votes.with_view(old, self.fp, chosen)
            if new != old:
                self._arcs.change(part.after, part.through, lambda _, new=new: new)  # type: ignore[misc]
                self._changed()

    def _change(self, after: int, through: int, new: Callable[[ArcVotes], ArcVotes]) -> None:
        parts = self._arcs.between(after, through)
        if any(new(part.value) != part.value for part in parts):
            self._arcs.change(after, through, new)
            self._changed()

    def _changed(self) -> None:
        self._disk.changed()
        self._names.clear()

    def _pack(self) -> bytes:
        known = [arc for arc in self._arcs.arcs() if arc.value != _NOTHING]
        return Roll.of(self.life, self.born, self.view, known).pack()
