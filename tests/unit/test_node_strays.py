"""Copies that are not ours to hold: handed over, and dropped when others have read theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from peerstore import ids
from peerstore.errors import Busy, PeerTimeout, PeerUnreachable
from peerstore.interfaces import IPeerPool
from peerstore.items import ALL_KINDS, Item, ItemKey, Kind
from peerstore.node.duties import Duties
from peerstore.node.exchange import Exchange, Task
from peerstore.node.progress import PATIENT
from peerstore.node.strays import Strays
from peerstore.util.pace import Pace
from peerstore.wire.bodies import Confirm, Confirmed, GetRangeDigest, Push, Pushed, RangeDigest
from peerstore.wire.messages import Status
from peerstore.wire.voting import ArcTold, HostStanding, VoterList
from tests.support.things import a_chunk, a_head
from tests.support.voters import NOW, Hall, Voter, fp_of, ordered

LETTERS = ordered("abcde")


class Holder:
    """Another host as its answers show it."""

    def __init__(self) -> None:
        self.has: set[ItemKey] = set()
        self.asked = 0
        self.pushed: list[ItemKey] = []
        #: What a push is answered with.
        self.status = Status.OK
        #: Keys that it never confirms: its copies are rotten, or it thinks that they are not its own.
        self.refuses: set[ItemKey] = set()
        self.down = False
        #: How often anything was asked of it.
        self.called = 0
        self.before_confirming: Callable[[], Any] = lambda: None

    def confirm(self, body: Confirm) -> Confirmed:
        """As asked."""
        self.asked += 1
        return Confirmed(tuple(key in self.has - self.refuses for key in body.keys))

    def digest(self, body: GetRangeDigest) -> RangeDigest:
        """How many it has there."""
        low, high = ids.from_bytes(body.after), ids.from_bytes(body.through)
        return RangeDigest(sum(ids.in_half_open(low, ids.from_bytes(key.ring_id), high) for key in self.has), bytes(32))

    def push(self, body: Push) -> Pushed:
        """Taken, if it takes anything."""
        self.pushed += [item.key for item in body.items]
        if self.status is Status.OK:
            self.has.update(item.key for item in body.items)
        return Pushed(tuple(int(self.status) for _ in body.items), tuple(b"" for _ in body.items), 2)


@implementer(IPeerPool)
class Others:
    """A pool that leads to them."""

    def __init__(self, holders: dict[bytes, Holder]) -> None:
        self.holders = holders

    def call(self, address: str, method: str, body: Any, timeout: float, fp: bytes) -> Deferred[Any]:
        """One question."""
        holder = self.holders[fp]
        holder.called += 1
        if holder.down:
            return fail(PeerUnreachable("It is down."))
        if method == "push":
            return succeed(holder.push(body))
        if method == "range-digest":
            return succeed(holder.digest(body))
        return maybeDeferred(holder.before_confirming).addCallback(lambda _: holder.confirm(body))


class StrayTestCase(SynchronousTestCase):
    """Five hosts, three copies.  We are the last on the circle; what lies
    before the first is held by the first three."""

    def setUp(self) -> None:
        self.hall = Hall(LETTERS)
        self.me: Voter = self.hall[LETTERS[4]]
        self.clock: Clock = self.hall.clock
        self.alive(LETTERS)
        self.holders = {fp_of(name): Holder() for name in LETTERS[:4]}
        self.first, self.second, self.third, self.fourth = self.holders.values()
        hosts = self.me.table
        self.duties = Duties(self.me.electorate, hosts, self.clock, 1200.0)
        self.exchange = Exchange(self.me.store, _Anybody(), Others(self.holders), Pace(self.clock, 0))  # type: ignore[arg-type]
        others = Others(self.holders)
        self.strays = Strays(self.me.store, self.duties, self.me.electorate, self.exchange, hosts, others, self.clock)
        low, high = (hosts.position(fp_of(name), 0).id for name in (LETTERS[4], LETTERS[0]))
        self.theirs = [item for item in self.things() if ids.in_half_open(low, ids.from_bytes(item.key.ring_id), high)]
        self.chunk = next(item for item in self.theirs if item.key.kind is Kind.CHUNK)
        self.head = next(item for item in self.theirs if item.key.kind is Kind.HEAD)

    def things(self) -> list[Item]:
        """Some of each kind, all round the circle."""
        return [make(number) for make in (a_chunk, a_head) for number in range(60)]

    def alive(self, names: str) -> None:
        """We hear that these live."""
        self.me.electorate.hear_view([HostStanding(fp_of(name), int(NOW), 0) for name in names if name != self.me.name])

    def keep(self, *items: Item) -> None:
        """We have these."""
        self.successResultOf(self.me.store.put(items))

    def held(self) -> set[ItemKey]:
        """What we have."""
        return set(self.successResultOf(self.me.store.range_list(bytes(20), bytes(20), ALL_KINDS, None, 1000))[0])

    def round(self, drop: bool = True) -> Deferred[int]:
        """One round that hands over."""
        return Deferred.fromCoroutine(self.strays.round(3, drop))

    def left(self, drop: bool = True) -> int:
        """What it says is left, where nobody is waited for."""
        left: int = self.successResultOf(self.round(drop))
        return left


class DropTests(StrayTestCase):
    """Only what k others have read."""

    def test_all_have_it(self) -> None:
        """It is dropped, and nobody is given anything."""
        self.keep(self.chunk, self.head)
        for holder in (self.first, self.second, self.third):
            holder.has |= {self.chunk.key, self.head.key}
        self.assertEqual(self.left(), 0)
        self.assertEqual(self.held(), set())
        self.assertEqual([holder.pushed for holder in self.holders.values()], [[], [], [], []])
        self.assertEqual(self.fourth.asked, 0)

    def test_some_lack_it(self) -> None:
        """The one that has it is to give it to them; where nothing comes of that, we do, and drop it."""
        self.keep(self.chunk)
        self.first.has.add(self.chunk.key)
        self.assertEqual(self.left(), 1)
        self.assertEqual([holder.pushed for holder in self.holders.values()], [[], [], [], []])
        self.clock.advance(PATIENT)
        self.assertEqual(self.left(), 0)
        self.assertEqual(self.held(), set())
        self.assertEqual(
            [holder.pushed for holder in self.holders.values()], [[], [self.chunk.key], [self.chunk.key], []]
        )

    def test_one_will_not_say_so(self) -> None:
        """Its copy is rotten, or it thinks that others hold it: ours stays, whatever it took."""
        self.keep(self.chunk)
        self.third.refuses.add(self.chunk.key)
        self.assertEqual(self.left(), 1)
        self.assertEqual(self.held(), {self.chunk.key})

    def test_one_is_down(self) -> None:
        """Two are not three."""
        self.keep(self.chunk)
        self.second.down = True
        self.assertEqual(self.left(), 1)
        self.assertEqual(self.held(), {self.chunk.key})

    def test_a_silent_one_is_asked_once(self) -> None:
        """In each round, however much there is: each question takes its time, and
        what is ours waits for the end of the round.  The others get theirs."""
        self.strays_of_one()
        chunks = [item for item in self.theirs if item.key.kind is Kind.CHUNK]
        self.assertGreater(len(chunks), 3)
        self.keep(*chunks)
        asked: list[int] = []

        def silent() -> Deferred[None]:
            asked.append(1)
            return fail(PeerTimeout("It did not answer."))

        self.second.before_confirming = silent
        for count in (1, 1, 2):
            self.assertEqual(self.left(), len(chunks))
            self.assertEqual(len(asked), count)
            self.assertEqual(self.third.has, {item.key for item in chunks})
            self.clock.advance(PATIENT)
        self.second.before_confirming = lambda: None
        self.assertEqual(self.left(), 0)

    def test_a_silent_one_is_not_asked_how_many_it_has(self) -> None:
        """Neither of one share after the other."""
        everything = self.things()
        self.keep(*everything)
        self.assertEqual(len({share for share in self.duties.shares() if not share.concerns(self.me.fp)}), 2)
        self.third.down = True
        self.left()
        self.assertEqual(self.third.called, 1)

    def test_one_is_retired_when_it_has_just_been_asked(self) -> None:
        """It counts no more, ours stays for now, and the round goes on."""
        self.keep(self.chunk)
        self.third.before_confirming = lambda: self.me.table.retire(fp_of(LETTERS[2]))
        self.successResultOf(self.round())
        self.assertEqual(self.held(), {self.chunk.key})

    def test_one_is_away(self) -> None:
        """While a holder may come back, there are not k others."""
        self.keep(self.chunk)
        self.me.table.alive(fp_of(LETTERS[1]))
        self.me.electorate.suspect(fp_of(LETTERS[1]))
        self.assertEqual(self.left(), 1)
        self.assertEqual(self.held(), {self.chunk.key})
        self.clock.advance(1201.0)
        self.assertEqual(self.left(), 0)
        self.assertEqual(self.held(), set())
        self.assertIn(self.chunk.key, self.fourth.has)

    def test_what_is_ours(self) -> None:
        """Of all that lies round the circle, just what the shares of others hold goes."""
        everything = self.things()
        self.keep(*everything)
        self.assertEqual(self.left(), 0)
        ours = {item.key for item in everything if self.duties.holds(item.key.ring_id)}
        self.assertGreater(len(ours), 10)
        self.assertEqual(self.held(), ours)

    def test_handed_over_only(self) -> None:
        """Told not to drop, it gives, and keeps its own."""
        self.keep(self.chunk, self.head)
        self.assertEqual(self.left(drop=False), 0)
        self.assertEqual(self.held(), {self.chunk.key, self.head.key})
        self.assertIn(self.head.key, self.third.has)

    def test_a_full_host(self) -> None:
        """It is given no more in a round than what it had no room for; again later, when others gave it nothing."""
        chunks = [item for item in self.theirs if item.key.kind is Kind.CHUNK]
        self.assertGreater(len(chunks), 3)
        self.strays_of_one()
        self.keep(*chunks)
        self.first.status = Status.UNAVAILABLE
        for count in (1, 1, 2):
            self.assertEqual(self.left(), len(chunks))
            self.assertEqual(len(self.first.pushed), count)
            self.clock.advance(PATIENT)
        self.assertEqual(self.held(), {item.key for item in chunks})

    def strays_of_one(self) -> None:
        """One key in each question from now on."""
        self.patch(__import__("peerstore.node.strays", fromlist=["x"]), "PER_QUESTION", 1)

    def test_what_a_host_confirms(self) -> None:
        """What it is to hold, by its own view, and is not about to drop."""
        mine = next(item.key for item in self.things() if self.duties.holds(item.key.ring_id))
        self.assertTrue(self.strays.may_confirm(mine))
        self.assertFalse(self.strays.may_confirm(self.chunk.key))
        self.exchange.dropping.add(mine)
        self.assertFalse(self.strays.may_confirm(mine))


class MeanwhileTests(StrayTestCase):
    """Things change while others are asked."""

    def asking(self, item: Item) -> Deferred[None]:
        """A round in which the third host takes its time."""
        self.keep(item)
        for holder in (self.first, self.second, self.third):
            holder.has.add(item.key)
        waiting: Deferred[None] = Deferred()
        self.third.before_confirming = lambda: waiting
        return waiting

    def test_we_hold_it_by_now(self) -> None:
        """Two died: it is ours."""
        waiting = self.asking(self.chunk)
        round_ = self.round()
        for name in LETTERS[2:4]:
            self.me.electorate.suspect(fp_of(name))
        self.assertTrue(self.duties.holds(self.chunk.key.ring_id))
        waiting.callback(None)
        self.successResultOf(round_)
        self.assertEqual(self.held(), {self.chunk.key})

    def test_others_hold_it_by_now(self) -> None:
        """One of those who said so is no holder any more, and may drop its own."""
        waiting = self.asking(self.chunk)
        round_ = self.round()
        self.me.electorate.suspect(fp_of(LETTERS[0]))
        self.assertFalse(self.duties.holds(self.chunk.key.ring_id))
        waiting.callback(None)
        self.successResultOf(round_)
        self.assertEqual(self.held(), {self.chunk.key})

    def test_we_are_told_of_voters(self) -> None:
        """We may be asked to vote on it: a head stays, a chunk goes."""
        for item, kept in ((self.head, {self.head.key}), (self.chunk, {self.head.key})):
            waiting = self.asking(item)
            round_ = self.round()
            if item is self.head:
                named = VoterList(b"L" * 16, 3, ((self.me.fp, int(NOW)),))
                self.me.electorate.hear([ArcTold(bytes(20), bytes(20), named, (), (), True, True)])
            waiting.callback(None)
            self.successResultOf(round_)
            self.assertEqual(self.held(), kept)

    def test_nobody_waits_for_it_any_more(self) -> None:
        """A removal that is under way goes on: until it is done nobody is told that the thing is here,
        and no range with it is compared."""
        for holder in (self.first, self.second, self.third):
            holder.has.add(self.chunk.key)
        self.keep(self.chunk)
        removing: Deferred[int] = Deferred()
        self.me.store.remove = lambda keys: removing  # type: ignore[method-assign,assignment]
        round_ = self.round()
        round_.addErrback(lambda _: None)
        round_.cancel()
        self.assertEqual(self.exchange.dropping, {self.chunk.key})
        task = Task(self.me.table.position(fp_of(LETTERS[0]), 0), ALL_KINDS, True, False)
        self.failureResultOf(Deferred.fromCoroutine(self.exchange.run(task, 0, 0)), Busy)
        removing.callback(1)
        self.assertEqual(self.exchange.dropping, set())


class RateTests(StrayTestCase):
    """Chunks keep to the rate; what is voted on waits for nothing."""

    def test_the_rate(self) -> None:
        """So many bytes a second."""
        self.exchange._pace = Pace(self.clock, 1000)
        self.keep(self.chunk, self.head)
        member = self.me.table.position(fp_of(LETTERS[0]), 0)
        self.successResultOf(Deferred.fromCoroutine(self.exchange.give(member, [self.head.key])))
        giving = Deferred.fromCoroutine(self.exchange.give(member, [self.chunk.key]))
        self.assertNotIn(self.chunk.key, self.first.has)
        self.clock.advance(self.chunk.size / 1000)
        self.successResultOf(giving)
        self.assertIn(self.chunk.key, self.first.has)


class _Anybody:
    """A keeper that takes all."""
