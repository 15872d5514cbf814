"""Who votes on a key, and who knows enough to: pure, one arc of the ring at a time.

Heads, logs and records have *voters*.  A write is certain, and a read
complete, when W of them say so in one name.  That is worth something only if
any two such groups have what was certain in common, however hosts come, go,
and disagree about who is there.  Lists made from what each host happens to
believe alive do not have that property (two pairs can each take the other for
dead), so here it is made from these parts:

*View.*  Each host keeps, for every host that ever announced itself to it, the
highest (life, dead) it heard of.  Lives are counted by the host itself, on
its disk; dead is above alive of the same life; whoever is called dead without
being so takes its next life.  Views therefore only grow, and join by maximum:
whatever two hosts believe, they believe the same once they have talked.

*Named list.*  The first k hosts, walking from the key, that the view has for
alive, each with its life, and a number (epoch) above those of all lists in
the history.

*History.*  Lists of other voters that may have been in force before, each
possibly with writes that must not be missed.  A name is the named list and
its history; answers count together only in one name.  What two hosts know of
it joins by union, the higher epoch of equal voters, so all come to one name.

*Capable.*  A host votes once its answers cannot lack what was certain under
any list of the history, as far as it falls to it: it was a capable member of
the lists before all along; or it has since taken in everything from a
majority of each of them, all of whom had taken this host's view over first
(*sealed*: they never again answer in the name of an older list).

*Full.*  A host that has done the latter.  When W members of a list are full
in one name, the history is *settled*: any majority of the list includes one
who has everything, so nobody needs the lists before any more, not even
whoever missed all that.  ``covered`` remembers how far, by lineage (the random name of a ring that somebody began
alone; rings that meet have several).

Why two groups always meet: let Q be capable in the name (L, H), and let
something be certain under L' by group Q'.  If L' has the voters of L, Q and
Q' share a member, who has it on its disk.  If L' is in H, each of Q has taken
in a majority of L', or all of Q were members of L', and W is a majority.  If
it is in neither, follow both back to a list both come from: some member of
that one was sealed for, or belonged to, both, and whichever came second was
told of the first; so L is in the history of L', a majority of L has moved on,
and Q, which is one, cannot still speak for L with a history that lacks L'.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from peerstore.wire.voting import VoterList

__all__ = [
    "ArcVotes",
    "Covered",
    "GONE",
    "NOBODY",
    "Name",
    "Sealed",
    "Standing",
    "View",
    "judged",
    "restarted",
    "covers",
    "first_arc",
    "is_left",
    "is_open",
    "join_views",
    "learned",
    "left_to",
    "majority",
    "name_digest",
    "settled",
    "with_view",
]


class Standing(msgspec.Struct, frozen=True, array_like=True, order=True, forbid_unknown_fields=True):
    """What is known of one host: its *life*, a count of its own, from 1 up,
    and whether it is taken for dead in it (1), or goes for good (``GONE``).
    Ordered: later knowledge is greater."""

    life: int
    dead: int


#: Said by a host of itself: it hands over what it holds, and will not be back.
GONE = 2

View = Mapping[bytes, Standing]
"""{32-byte fingerprint: standing} of all hosts that ever announced themselves."""

Voter = tuple[bytes, int]
Covered = tuple[tuple[bytes, int], ...]


Name = tuple[VoterList, tuple[VoterList, ...]]
"""What an answer is given in the name of: a list, and the history that those
who speak for it have in common."""

NOBODY = VoterList(bytes(16), 0, ())
"""The list of an arc with which a host has nothing to do."""


class ArcVotes(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One host's state of one arc.

    *history* is sorted, one list for the same voters; *covered* is sorted
    pairs (lineage, epoch).  *capable* and *full* do not outlive the process: after a start a host
    asks again, because its disk may be an older one.
    """

    named: VoterList = NOBODY
    history: tuple[VoterList, ...] = ()
    covered: Covered = ()
    capable: bool = False
    full: bool = False

    @property
    def name(self) -> Name:
        """Answers count together only where this is equal."""
        return self.named, self.history


class Sealed(NamedTuple):
    """One host's answer to being asked for an arc, after it took our view over
    and we took in all that it has there.

    *born* is the life in which its disk began: what it answered in an earlier
    one, it may have forgotten.
    """

    fp: bytes
    born: int
    name: Name
    full: bool


def join_views(a: View, b: View) -> dict[bytes, Standing]:
    """The least view above both."""
    joined = dict(a)
    for fp, standing in b.items():
        known = joined.get(fp)
        if known is None or known < standing:
            joined[fp] = standing
    return joined


def majority(count: int) -> int:
    """The least number of *count* of which any two groups share a member."""
    return count // 2 + 1


def first_arc(lineage: bytes, fp: bytes, life: int) -> ArcVotes:
    """The state of a host that begins a ring alone."""
    return ArcVotes(VoterList(lineage, 1, ((fp, life),)), capable=True, full=True)


def covers(covered: Iterable[tuple[bytes, int]], one: VoterList) -> bool:
    """Whether a list is of no interest any more."""
    return (
        not one.epoch
        or not one.voters
        or any(lineage == one.lineage and one.epoch <= epoch for lineage, epoch in covered)
    )


def restarted(arc: ArcVotes) -> ArcVotes:
    """What is left of a state when its process begins anew."""
    return msgspec.structs.replace(arc, capable=False, full=False)


def with_view(arc: ArcVotes, me: bytes, chosen: tuple[Voter, ...]) -> ArcVotes:
    """The view has changed: *chosen* are the first k live hosts now.

    A capable member stays one, since it goes on holding what it held; who is
    not on the list any more votes no more.
    """
    if chosen == arc.named.voters:
        return arc
    history = _joined(arc.history, [arc.named], arc.covered, chosen)
    return msgspec.structs.replace(
        arc,
        named=_next(chosen, [], history, arc.covered),
        history=history,
        capable=arc.capable and any(fp == me for fp, _ in chosen),
        full=False,
    )


def learned(arc: ArcVotes, name: Name, covered: Covered) -> ArcVotes:
    """Another host, whose view we have joined, told what it answers in the
    name of, and how much is settled."""
    if _is_no_news(arc, name, covered):
        return arc
    told = [one for one in (name[0], *name[1]) if one.epoch and one.voters]
    merged = _join_covered(arc.covered, covered)
    voters = arc.named.voters
    known = {one.voters for one in arc.history}
    news = any(one.voters != voters and one.voters not in known and not covers(merged, one) for one in told)
    history = _joined(arc.history, told, merged, voters)
    equals = [one for one in (arc.named, *told) if one.voters == voters]
    return msgspec.structs.replace(
        arc,
        named=_next(voters, equals, history, merged),
        history=history,
        covered=merged,
        capable=arc.capable and not news,
        full=arc.full and not news,
    )


def _is_no_news(arc: ArcVotes, name: Name, covered: Covered) -> bool:
    """Whether all of it is known to the letter: most of what is told is, and
    histories may be long."""
    named, history = arc.named, arc.history
    if name[1] == history and name[0] == named and covered == arc.covered:
        return True
    if covered != arc.covered:
        reach = dict(arc.covered)
        if any(epoch > reach.get(lineage, 0) for lineage, epoch in covered):
            return False
    known = {named, *history}
    return all(one in known for one in (name[0], *name[1]))


def settled(arc: ArcVotes, name: Name) -> ArcVotes:
    """W voters are full in *name*: where it is ours, its history is forgotten."""
    if arc.name != name or not arc.history:
        return arc
    marks = [(one.lineage, one.epoch) for one in arc.history]
    covered = _join_covered(arc.covered, [*marks, (arc.named.lineage, arc.named.epoch - 1)])
    return msgspec.structs.replace(arc, history=(), covered=covered)


def left_to(arc: ArcVotes, named: VoterList, covered: Covered) -> ArcVotes:
    """The arc is *named*'s, of whom we are none, and what we have there may go.

    What is settled, and by whom, is not forgotten.  We were members of lists
    from before, and those of them who were away all along still believe that
    we hold what was certain there: who comes back to a host that has dropped
    all that, and remembered nothing of it, would find a majority with it."""
    return ArcVotes(NOBODY, (named,), _join_covered(arc.covered, covered))


def is_left(arc: ArcVotes) -> bool:
    """Whether an arc was left to others (``left_to``), and nothing has been
    heard of it since that could concern us."""
    return arc.named == NOBODY and bool(arc.history)


def judged(
    arc: ArcVotes, me: bytes, born: int, sealed: Iterable[Sealed], retired: frozenset[bytes], alone: bool
) -> ArcVotes:
    """Our standing now that we have taken in what *sealed* have.

    A majority of each list that matters must have been asked, those that are
    retired left out.  We count ourselves for lives that our disk remembers;
    while it may be an older disk (we have just begun), only where every live
    host was asked (*alone*).  Who says that it has lost its disk since is
    waited for no more: see ``_is_enough``.
    """
    if me not in arc.named.hosts or not arc.named.epoch:
        return arc
    known = {one.voters for one in arc.history}
    answers = [
        one for one in sealed if one.name[0].voters == arc.named.voters and {old.voters for old in one.name[1]} <= known
    ]
    begun = {answer.fp: answer.born for answer in answers}
    begun[me] = born
    for one in arc.history:
        voters = [(fp, life) for fp, life in one.voters if fp not in retired]
        have = {fp for fp, life in voters if life >= begun.get(fp, life + 1)}
        lost = sum(life < begun.get(fp, life) for fp, life in voters)
        if not (alone or arc.capable):
            have.discard(me)
        if voters and not _is_enough(len(voters), len(have), lost):
            return arc
    return msgspec.structs.replace(arc, capable=True, full=True)


def _is_enough(voters: int, have: int, lost: int) -> bool:
    """Whether what *have* of a list's voters hold cannot lack what was
    certain under it, though *lost* others have lost what they held.

    Of two voters one whose disk is an older one now would be waited for for
    ever.  Where there are several hosts, a write was on W of the voters, which
    is at least a majority of them, and at least two; so with fewer lost there
    is one left that has it, and all but (W - 1) of the voters together miss
    none.  Where as many are lost, nobody can say what was.
    """
    least = max(2, majority(voters))
    if 0 < lost < least:
        return have >= voters - least + 1
    return have >= majority(voters)


def _joined(
    history: Iterable[VoterList], more: Iterable[VoterList], covered: Covered, named: tuple[Voter, ...]
) -> tuple[VoterList, ...]:
    """The union, without what is settled or has the named list's voters; of
    lists with equal voters the one with the highest epoch."""
    best: dict[tuple[Voter, ...], VoterList] = {}
    reach = dict(covered)
    for one in (*history, *more):
        voters = one.voters
        # What ``covers`` says, for many.
        if not voters or voters == named or one.epoch <= reach.get(one.lineage, 0):
            continue
        known = best.get(voters)
        if known is None or known < one:
            best[voters] = one
    return tuple(sorted(best.values()))


def _next(
    voters: tuple[Voter, ...], equals: Iterable[VoterList], history: Iterable[VoterList], covered: Covered
) -> VoterList:
    """The list of these voters: the latest of those with equal voters, and
    above all that was before; epoch 0, for which nobody may vote, where
    nothing was."""
    marks = [*((one.lineage, one.epoch + 1) for one in history), *((line, epoch + 1) for line, epoch in covered)]
    marks += [(one.lineage, one.epoch) for one in equals if one.epoch]
    lineage = min((line for line, _ in marks), default=NOBODY.lineage)
    return VoterList(lineage, max((epoch for _, epoch in marks), default=0), voters)


def _join_covered(a: Iterable[tuple[bytes, int]], b: Iterable[tuple[bytes, int]]) -> Covered:
    joined: dict[bytes, int] = {}
    for lineage, epoch in (*a, *b):
        if epoch > joined.get(lineage, 0):
            joined[lineage] = epoch
    return tuple(sorted(joined.items()))


def is_open(arc: ArcVotes) -> bool:
    """Whether something is still to be done about an arc."""
    return bool(arc.history) or not arc.full


def name_digest(name: Name) -> bytes:
    """16 bytes that stand for a name."""
    return hashlib.sha256(msgspec.msgpack.encode(name)).digest()[:16]
