"""What has rotted is fetched again; until then, nobody is told that it never was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import DiskFull, PeerUnreachable, RemoteError
from peerstore.items import Item, ItemKey, Kind
from peerstore.node import exchange, mend
from peerstore.node.admission import Admission
from peerstore.node.keeper import Keeper
from peerstore.node.mend import LAST, Holders, Mender, holders_of
from peerstore.node.watchers import Watchers
from peerstore.ring.member import Member
from peerstore.storage.digests import pack_key
from peerstore.storage.memory_store import MemoryDisk, MemoryNodeStore
from peerstore.util.blocking import InlineRunner
from peerstore.wire.bodies import GetHeads, GetRangeDigest, Items, ReadSince
from peerstore.wire.messages import Status, decode_body
from peerstore.wire.session import Greeting
from tests.support.log_lines import LogLines
from tests.support.rings import Ring, Wire
from tests.support.things import OWNER, a_chain, a_chunk, a_head, log_id

MIB = 1024 * 1024


def member(name: bytes) -> Member:
    """A host of that name."""
    return Member(1, name * 32, 0, 1, f"sim:{name.decode()}")


class MendCase(SynchronousTestCase):
    """A store that has lost something, and others that may have it."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.disk = MemoryDisk()
        self.store = MemoryNodeStore(self.disk)
        self.successResultOf(self.store.start())
        self.others: dict[bytes, Any] = {}
        self.asked: list[tuple[str, list[ItemKey]]] = []
        self.where: Holders | None = None
        keeper = Keeper(self.store, Admission(InlineRunner()), Watchers(self.clock))
        self.where_of: Callable[[ItemKey], Holders | None] = lambda key: self.where
        self.mender = Mender(self.clock, self.store, keeper, lambda key: self.where_of(key), self.fetch)
        self.lines = LogLines(self)

    def fetch(self, host: Member, keys: Sequence[ItemKey]) -> Deferred[list[Item]]:
        """What a host has, or its error."""
        self.asked.append((host.address[4:], list(keys)))
        has = self.others[host.fp]
        return fail(has) if isinstance(has, Exception) else succeed([item for item in has if item.key in keys])

    def holders(self, **has: Any) -> None:
        """These hosts, by letter, have these items; all of them must be asked."""
        hosts = [member(name.encode()) for name in has]
        self.others = {host.fp: has[host.address[4:]] for host in hosts}
        self.where = Holders(tuple(hosts), frozenset(self.others))

    def lose(self, *items: Item) -> None:
        """Keep them, and let them rot."""
        self.successResultOf(self.store.put(items))
        for item in items:
            self.disk.write(b"i" + pack_key(item.key), b"rot")
        self.assertEqual(self.successResultOf(self.store.scrub(None, 100 * MIB)).rotten, len(items))

    def lost(self) -> list[ItemKey]:
        """What is waited for."""
        return self.successResultOf(self.store.lost(1000))

    def here(self, *items: Item) -> bool:
        """Whether all of these are here, byte for byte."""
        return self.successResultOf(self.store.get([item.key for item in items])) == list(items)


class MenderTests(MendCase):
    """One host after the other is asked."""

    def test_mended_from_whoever_has_it(self) -> None:
        """Of every kind; who has it already is asked no further."""
        items = [a_chunk(1), a_head(1), *a_chain(2)]
        self.lose(*items)
        self.holders(b=items, c=items)
        self.successResultOf(self.mender.round())
        self.assertTrue(self.here(*items))
        self.assertEqual(self.lost(), [])
        self.assertEqual({host for host, _ in self.asked}, {"b"})
        self.assertEqual(len(self.lines.having("mended 4 things")), 1)

    def test_parts_from_several(self) -> None:
        """What one does not have is asked of the next."""
        items = [a_chunk(1), a_chunk(2), a_chunk(3)]
        self.lose(*items)
        self.holders(b=items[:1], c=PeerUnreachable("Not there."), d=items[1:])
        self.successResultOf(self.mender.round())
        self.assertTrue(self.here(*items))
        self.assertEqual([host for host, _ in self.asked], ["b", "c", "d"])
        self.assertEqual(len(self.asked[-1][1]), 2)

    def test_a_bad_copy_is_not_taken(self) -> None:
        """Of a chunk and of a head, as from anybody; the next host has a good one."""
        for good, bad in ((a_chunk(1), a_chunk(2)), (a_head(1), a_head(2))):
            self.lose(good)
            wrong = Item(good.key, bad.statement, bad.data)
            self.holders(b=[wrong], c=[good])
            self.successResultOf(self.mender.round())
            self.assertTrue(self.here(good))

    def test_given_up_when_nobody_has_it(self) -> None:
        """Said out loud, with what to do; and waited for no more."""
        chunk = a_chunk(1)
        self.lose(chunk)
        self.holders(b=[], c=[])
        self.successResultOf(self.mender.round())
        self.assertEqual(self.lost(), [])
        (line,) = self.lines.having("no other node has it")
        self.assertIn("CHUNK", line)
        self.assertIn("--anew", line)

    def test_not_given_up_while_one_is_silent(self) -> None:
        """It may have it."""
        chain = a_chain(1)
        self.lose(*chain)
        self.holders(b=[], c=PeerUnreachable("Not there."))
        for _ in range(3):
            self.successResultOf(self.mender.round())
        self.assertEqual(self.lost(), [chain[0].key])
        self.assertTrue(self.store.doubts.at(log_id()))
        self.holders(b=[], c=chain)
        self.successResultOf(self.mender.round())
        self.assertFalse(self.store.doubts.at(log_id()))

    def test_not_given_up_while_it_is_not_known_who_has_it(self) -> None:
        """Neither where nobody can be named, nor where not all can."""
        self.lose(a_head(1))
        self.successResultOf(self.mender.round())
        self.holders(b=[])
        assert self.where is not None
        self.where = self.where._replace(all=self.where.all | {b""})
        self.successResultOf(self.mender.round())
        self.assertEqual(self.lost(), [a_head(1).key])

    def test_alone(self) -> None:
        """Nobody to ask: told at once, and the node answers again."""
        self.lose(a_head(1))
        self.where = Holders((), frozenset())
        self.successResultOf(self.mender.round())
        self.assertEqual((self.lost(), self.store.doubts.at(a_head(1).key.ring_id)), ([], False))
        self.assertEqual(len(self.lines.having("no other node has it")), 1)

    def test_many(self) -> None:
        """A few in each question."""
        items = [a_chunk(number) for number in range(100)]
        self.lose(*items)
        self.holders(b=items)
        self.successResultOf(self.mender.round())
        self.assertTrue(self.here(*items))
        self.assertLessEqual(max(len(keys) for _, keys in self.asked), 16)

    def test_what_waits_holds_up_nothing_else(self) -> None:
        """However many things of a host that is down come first, the rest is mended."""
        self.patch(mend, "BATCH", 8)
        items = sorted((a_chunk(number) for number in range(40)), key=lambda item: item.key)
        self.lose(*items)
        self.holders(b=PeerUnreachable("Not there."))
        away, self.where = self.where, None
        self.holders(b=PeerUnreachable("Not there."), c=items)
        here = self.where
        first = {item.key for item in items[:20]}
        self.where_of = lambda key: away if key in first else here
        self.successResultOf(self.mender.round())
        self.assertTrue(self.here(*items[20:]))
        self.assertEqual(set(self.lost()), first)

    def test_who_is_silent_is_asked_once(self) -> None:
        """In each round, however many things it may have: each question takes its time."""
        self.patch(mend, "BATCH", 20)
        items = [a_chunk(number) for number in range(50)]
        self.lose(*items)
        self.holders(b=PeerUnreachable("Not there."), c=[])
        for count in (1, 2):
            self.successResultOf(self.mender.round())
            self.assertEqual([host for host, _ in self.asked].count("b"), count)
        self.assertEqual(len(self.lost()), 50)


class TimeTests(MendCase):
    """When it is tried."""

    def test_as_soon_as_something_is_lost(self) -> None:
        """No need to wait for the next round."""
        self.mender.start()
        self.clock.advance(5)
        self.holders(b=[a_chunk(1)])
        self.lose(a_chunk(1))
        self.clock.advance(0)
        self.assertTrue(self.here(a_chunk(1)))
        self.successResultOf(self.mender.stop())

    def test_what_was_lost_before_the_start(self) -> None:
        """It is on the disk that it is to be fetched."""
        self.lose(a_chunk(1))
        self.holders(b=[a_chunk(1)])
        self.mender.start()
        self.clock.advance(1)
        self.assertTrue(self.here(a_chunk(1)))

    def test_in_vain_more_and_more_seldom(self) -> None:
        """Who is down may be down for days; but it is never forgotten."""
        self.holders(b=PeerUnreachable("Not there."))
        self.lose(a_chunk(1))
        self.mender.start()
        for _ in range(3600):
            self.clock.advance(1)
        self.assertLess(len(self.asked), 25)
        self.holders(b=[a_chunk(1)])
        for _ in range(int(LAST)):
            self.clock.advance(1)
        self.assertTrue(self.here(a_chunk(1)))

    def test_a_disk_that_is_full(self) -> None:
        """It is tried again."""
        self.lose(a_chunk(1))
        self.holders(b=[a_chunk(1)])
        real = self.disk.sync
        self.patch(self.disk, "sync", lambda: fail(DiskFull("No room.")))
        self.mender.start()
        self.clock.advance(1)
        self.assertEqual(self.lost(), [a_chunk(1).key])
        self.patch(self.disk, "sync", real)
        self.clock.advance(2)
        self.assertTrue(self.here(a_chunk(1)))


class RingTests(SynchronousTestCase):
    """Shipped nodes on a simulated network, with one disk that rots."""

    def rot(self, ring: Ring, name: str, *items: Item) -> None:
        """Change what a host's disk has of these, and have it looked at."""
        host = ring.world.hosts[name]
        for item in items:
            host.disk.write(b"i" + pack_key(item.key), b"rot")
        ring.wait(host.disk.sync())
        self.assertEqual(ring.wait(ring.node(name).store.scrub(None, 100 * MIB)).rotten, len(items))

    def test_a_ring_mends_it(self) -> None:
        """Each kind of thing, from the other holders, within seconds."""
        ring = Ring("abc")
        items = [a_chunk(1), a_head(1), *a_chain(3)]
        self.assertTrue(all(outcome.certain for outcome in ring.put(items)))
        self.rot(ring, "b", *items)
        self.assertNotIn("b", ring.holders(items[0].key))
        ring.until("all is back", lambda: not ring.wait(ring.node("b").store.lost(9)), 10.0)
        store = ring.node("b").store
        self.assertEqual(ring.wait(store.get([item.key for item in items])), items)

    def cut_off(self, ring: Ring, name: str) -> Wire:
        """A host that gets no copies any more, by no way."""
        for other in ring.names():
            wire = Wire(ring.node(other))
            wire.instead("fetch", _silent)
            wire.instead("range-list", _silent)
        wire = Wire(ring.node(name))
        wire.instead("push", _silent)
        return wire

    def test_who_has_lost_something_does_not_vote_on_it(self) -> None:
        """Its answer has no name while it is not back; about all the rest it
        votes as before."""
        ring = Ring("abc")
        chain, head, other = a_chain(3), a_head(1), a_head(2)
        ring.put([*chain, head, other])
        self.cut_off(ring, "b")

        def votes() -> list[bool]:
            log = ring.ask("b", "read-since", ReadSince(log_id(), OWNER, (), 100))
            heads = [ring.ask("b", "get-heads", GetHeads(one.key.ring_id, OWNER, ())) for one in (head, other)]
            return [bool(answer.vote.name) for answer in (log, *heads)]

        self.assertEqual(votes(), [True, True, True])
        self.rot(ring, "b", chain[1], head)
        self.assertEqual(votes(), [False, False, True])

    def test_nothing_certain_is_missed(self) -> None:
        """A write that two of three have, one of which has lost it: with the
        third, it says UNKNOWN, not "there is none"."""
        ring = Ring("abc")
        head = a_head(1)
        ring.put([head])
        for name in "bc":
            self.cut_off(ring, name)
        self.rot(ring, "b", head)
        ring.wait(ring.node("c").store.remove([head.key]))
        ring.world.hosts["a"].crash()
        read = ring.wait(ring.client("bc", "reader").get_heads(head.key.ring_id, OWNER, (), 2.0))
        self.assertEqual((read.items, read.complete), ((), False))

    def test_nobody_takes_it_in_from_who_has_lost_it(self) -> None:
        """Who is to vote on an arc is not told about it by a host that lacks
        something there."""
        ring = Ring("abc")
        head = a_head(1)
        ring.put([head])
        holding = ring.node("b").holding
        assert holding is not None
        electorate = holding.electorate
        arcs = [(arc.after, arc.through) for arc in electorate.arcs()]
        before = electorate.vouch(arcs)
        self.cut_off(ring, "b")
        self.rot(ring, "b", head)
        after = electorate.vouch(arcs)
        self.assertEqual(len(before) - len(after), 1)
        self.assertLess(len(after), len(before))

    def test_rot_that_shows_while_it_is_taken_in(self) -> None:
        """Between what a host says of an arc and what it lists there: the newcomer, who
        meets of those that were to have it only one that never got it, and the one that
        lost it a moment ago, does not vote before that one has it back."""
        ring = Ring("abd")
        ring.world.start("c", "a")
        ring.settle()
        head = next(head for head in map(a_head, range(99)) if "c" in ring.around(head.key.ring_id)[:3])
        ring = Ring("abd")
        ring.put([head])
        wires = [Wire(ring.node(name)) for name in "abd"]
        for wire in wires:
            # By no other way than to those who are about to vote, and not from b.
            wire.instead("push", _silent)
            wire.instead("range-digest", lambda body: _silent(body) if Kind.CHUNK in body.kinds else None)
        for method in ("fetch", "attach"):
            wires[1].instead(method, _silent)
        lost: list[Deferred[Any]] = []
        for name in "ad":
            self.before_it_compares(ring, name, lambda: lost or lost.append(self.lose(ring, head)), lost)
        ring.world.start("c", "a")
        wires.append(Wire(ring.node("c")))
        wires[-1].instead("push", _silent)
        ring.until("a has lost it", lambda: lost and lost[0].called)
        asked = GetHeads(head.key.ring_id, OWNER, ())
        for _ in range(40):
            ring.run(0.5)
            self.assertEqual(ring.ask("c", "get-heads", asked).vote.name, b"")
        for wire in wires:
            wire.heal()
        ring.until("its vote", lambda: ring.ask("c", "get-heads", asked).vote.name, 700.0)
        self.assertEqual(ring.ask("c", "get-heads", asked).items, (head,))

    def lose(self, ring: Ring, head: Item) -> Deferred[Any]:
        """It rots on a, and d is as if it had never got it."""
        a, d = ring.world.hosts["a"], ring.node("d")
        a.disk.write(b"i" + pack_key(head.key), b"rot")
        gone: Deferred[Any] = a.disk.sync()
        gone.addCallback(lambda _: d.store.remove([head.key]))
        return gone.addCallback(lambda _: ring.node("a").store.scrub(None, 100 * MIB))

    def before_it_compares(self, ring: Ring, name: str, lose: Callable[[], object], lost: list[Deferred[Any]]) -> None:
        """What c, which is about to vote, compares with a host, it compares
        with what is there after *lose()*."""
        dispatcher = ring.node(name).dispatcher
        real = dispatcher.dispatch

        def dispatch(caller: Greeting, method: str, body: bytes) -> Deferred[Any]:
            by_c = method == "range-digest" and caller.spki == ring.world.hosts["c"].spki
            if not by_c or Kind.CHUNK in decode_body(body, GetRangeDigest).kinds:
                return real(caller, method, body)
            lose()
            turn: Deferred[None] = Deferred()
            lost[0].chainDeferred(turn)
            return turn.addCallback(lambda _: real(caller, method, body))

        dispatcher.dispatch = dispatch  # type: ignore[method-assign]

    def test_a_listed_thing_that_is_not_given(self) -> None:
        """Whoever takes an arc in did not get all of it, and does not vote."""
        ring = Ring("a")
        head = a_head(1)
        ring.put([head])
        wire = Wire(ring.node("a"))
        wire.after("fetch", lambda body, answer: type(answer)((), False))
        wire.instead("push", _silent)
        ring.world.start("c", "a")
        ring.run(20.0)
        asked = GetHeads(head.key.ring_id, OWNER, ())
        self.assertEqual(ring.ask("c", "get-heads", asked).vote.name, b"")
        wire.heal()
        ring.until("its vote", lambda: ring.ask("c", "get-heads", asked).vote.name, 60.0)
        self.assertEqual(ring.ask("c", "get-heads", asked).items, (head,))

    def test_a_thing_that_comes_damaged(self) -> None:
        """It is not taken; and whoever takes an arc in did not get all of it, and does not vote.  All else comes."""
        self.patch(exchange, "FETCH", 1)
        ring = Ring("a")
        heads = [a_head(number) for number in range(20)]
        ring.put(heads)
        wire = Wire(ring.node("a"))
        head = heads[1]

        def damaged(body: Any, answer: Items) -> Items:
            spoilt = [Item(item.key, item.statement, item.data + b"!") for item in answer.items if item == head]
            return Items(tuple(spoilt) or answer.items, answer.more)

        wire.after("fetch", damaged)
        wire.instead("push", _silent)
        ring.world.start("c", "a")
        other = Wire(ring.node("c"))
        other.instead("push", _silent)
        ring.run(20.0)
        asked = GetHeads(head.key.ring_id, OWNER, ())
        answer = ring.ask("c", "get-heads", asked)
        self.assertEqual((answer.items, answer.vote.name), ((), b""))
        self.assertEqual(ring.held("c"), {one.key for one in heads} - {head.key})
        wire.heal()
        ring.until("its vote", lambda: ring.ask("c", "get-heads", asked).vote.name, 60.0)
        self.assertEqual(ring.ask("c", "get-heads", asked).items, (head,))

    def test_rot_that_shows_only_when_it_is_read(self) -> None:
        """The vote was given before the look; it is taken back."""
        ring = Ring("abc")
        head = a_head(1)
        ring.put([head])
        node = ring.node("b")
        assert node.holding is not None
        electorate, place = node.holding.electorate, head.key.ring_id
        vote = electorate.vote(place)
        self.assertNotEqual(ring.wait(Deferred.fromCoroutine(electorate.sure(vote, place))).name, b"")
        node.store.doubts.add([head.key])
        self.assertEqual(ring.wait(Deferred.fromCoroutine(electorate.sure(vote, place))).name, b"")

    def test_who_may_have_it(self) -> None:
        """The other holders, and all of them; somebody unknown too, while it
        is open who may have voted on it."""
        ring = Ring("abc")
        chunk, head = a_chunk(1), a_head(1)

        def holders(key: ItemKey) -> tuple[str, str, bool]:
            node = ring.node("b")
            assert node.holding is not None
            found = holders_of(key, node.holding.electorate, node.holding.duties, node.hosts)
            assert found is not None
            return ring.named([host.fp for host in found.hosts]), ring.named(found.all), b"" in found.all

        self.assertEqual([holders(item.key) for item in (chunk, head)], [("ac", "ac", False)] * 2)
        ring.world.hosts["a"].crash()
        ring.world.hosts["c"].crash()
        ring.run(10.0)
        self.assertEqual([holders(item.key) for item in (chunk, head)], [("ac", "ac", False), ("ac", "ac", True)])

    def test_whoever_had_it_before_is_asked_as_well(self) -> None:
        """Who holds a thing, or votes on it, comes first; then all others that live, since one of them
        may not have handed it over yet, or have taken it because others were full."""
        ring = Ring("abcde")
        for item in (a_chunk(1), a_head(1)):
            first, *others = ring.around(item.key.ring_id)
            node = ring.node(first)
            assert node.holding is not None
            found = holders_of(item.key, node.holding.electorate, node.holding.duties, node.hosts)
            assert found is not None
            self.assertEqual([ring.named([host.fp]) for host in found.hosts[:2]], others[:2])
            self.assertEqual(ring.named([host.fp for host in found.hosts]), "".join(sorted(others)))
            self.assertEqual(ring.named(found.all), "".join(sorted(others)))

    def test_not_given_up_while_a_host_further_on_has_it(self) -> None:
        """Fetched from there, and nobody is told that it is nowhere."""
        for item in (a_chunk(1), a_head(1)):
            ring = Ring("abcde")
            first, *_, last = ring.around(item.key.ring_id)
            lines = LogLines(self)
            for name in (first, last):
                # The one further on does not come to hand it over.
                Wire(ring.node(name)).instead("push", _silent)
                ring.wait(ring.node(name).store.put([item]))
            self.rot(ring, first, item)
            ring.until("it is back", lambda ring=ring, first=first, item=item: first in ring.holders(item.key), 5.0)
            self.assertEqual(lines.having("no other node has it"), [])

    def test_given_up_where_nobody_has_it(self) -> None:
        """In a ring of one; it answers again, without it."""
        ring = Ring("a")
        chain = a_chain(2)
        ring.put(chain)
        lines = LogLines(self)
        self.rot(ring, "a", chain[1])
        ring.until("given up", lambda: lines.having("no other node has it"), 10.0)
        answer = ring.ask("a", "read-since", ReadSince(log_id(), OWNER, (), 100))
        self.assertEqual((list(answer.entries), bool(answer.vote.name)), (chain[:1], True))

    def test_not_given_up_while_a_holder_is_down(self) -> None:
        """Its copy may be the only one."""
        ring = Ring("ab")
        chain = a_chain(1)
        ring.put(chain)
        ring.world.hosts["b"].crash()
        ring.run(5.0)
        self.rot(ring, "a", *chain)
        ring.run(120.0)
        self.assertEqual(ring.wait(ring.node("a").store.lost(9)), [chain[0].key])
        ring.world.start("b", "a")
        ring.until("it is back", lambda: not ring.wait(ring.node("a").store.lost(9)), 700.0)
        self.assertEqual(ring.wait(ring.node("a").store.get([chain[0].key])), chain)


def _silent(_body: Any) -> Any:
    raise RemoteError("Not now.", status=int(Status.UNAVAILABLE))
