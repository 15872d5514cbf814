"""Copies in a simulated ring: three hosts have each thing, and it stays so."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import Busy
from peerstore.items import Item, ItemKey, Kind
from peerstore.node import keeper
from peerstore.node.handlers.common import READERS
from peerstore.wire.bodies import GetHeads, Items, PostHeads, ReadSince
from peerstore.wire.messages import Status, decode_body, encode_body
from tests.support.log_lines import LogLines
from tests.support.rings import Ring, Wire, greeting, items_named
from tests.support.things import OWNER, a_chain, a_chunk, a_head, log_id

CHUNKS = [a_chunk(number) for number in range(40)]
HEADS = [a_head(number) for number in range(40)]
CHAIN = a_chain(40)
EVERYTHING = CHUNKS + HEADS + CHAIN


def expected(ring: Ring, key: ItemKey, copies: int = 3) -> str:
    """The hosts that should have a thing."""
    return "".join(sorted(ring.around(key.ring_id)[:copies]))


def fill(ring: Ring) -> None:
    """Put everything, and see that it is certain."""
    outcomes = ring.put(EVERYTHING, patience=60.0)
    assert all(outcome.certain for outcome in outcomes), outcomes


class RingTestCase(SynchronousTestCase):
    """Reads through a fresh client, and looks at what nodes hold."""

    def check_all_there(self, ring: Ring, peers: str = "") -> None:
        """Everything comes back, byte for byte, and reads are complete."""
        gateway = ring.client(peers, "reader")
        found = ring.wait(gateway.get_chunks([chunk.key.element for chunk in CHUNKS], 60.0), 240.0)
        self.assertEqual(found, items_named(CHUNKS))
        for head in HEADS:
            read = ring.wait(gateway.get_heads(head.key.ring_id, OWNER, (), 60.0))
            self.assertEqual((read.items, read.complete), ((head,), True))
        log = ring.wait(gateway.read_log(log_id(), OWNER, {}, 256, 60.0))
        self.assertEqual((list(log.items), log.complete), (CHAIN, True))

    def until_k_copies(self, ring: Ring) -> None:
        """Wait until each thing is on its hosts, others allowed."""

        def so() -> bool:
            held = {name: ring.held(name) for name in ring.names()}
            return all(item.key in held[name] for item in EVERYTHING for name in expected(ring, item.key))

        ring.until("three copies of everything", so, 240.0)

    def until_exactly_k_copies(self, ring: Ring, items: Sequence[Item] = EVERYTHING) -> None:
        """Wait until each thing is on its hosts, and on no others."""

        def so() -> bool:
            return all(ring.holders(item.key) == expected(ring, item.key) for item in items)

        ring.until("three copies of everything, and no more", so, 240.0)


def _after(gate: Deferred[None], look: Callable[..., Deferred[Any]]) -> Callable[..., Deferred[Any]]:
    """A store's ``range_list`` that waits, where heads alone are looked for."""

    def slowly(after: bytes, through: bytes, kinds: Sequence[Kind], *more: Any) -> Deferred[Any]:
        if tuple(kinds) != (Kind.HEAD,):
            return look(after, through, kinds, *more)
        turn: Deferred[None] = Deferred()
        gate.chainDeferred(turn)
        return turn.addCallback(lambda _: look(after, through, kinds, *more))

    return slowly


class SizesTests(RingTestCase):
    """Rings of one, two, three and more."""

    def test_rings_of_each_size(self) -> None:
        """Each thing on three hosts, or on all there are; certain at a majority."""
        for names in ("a", "ab", "abc", "abcdefg"):
            ring = Ring(names)
            fill(ring)
            for item in EVERYTHING:
                self.assertEqual(ring.holders(item.key), expected(ring, item.key), names)
            self.check_all_there(ring)

    def test_several_positions_of_each_host(self) -> None:
        """Two copies on one machine are one: three different hosts have it."""
        ring = Ring("abcd", virtual_nodes=4)
        fill(ring)
        for item in EVERYTHING:
            self.assertEqual(ring.holders(item.key), expected(ring, item.key))

    def test_growing_from_one(self) -> None:
        """What a lone node took is on all hosts while there are two or three,
        and on exactly three, and the right ones, of four to seven."""
        for positions in (1, 3):
            ring = Ring("a", virtual_nodes=positions)
            fill(ring)
            for name in "bcdefg":
                ring.world.start(name, "a")
                ring.settle()
                self.until_exactly_k_copies(ring)
                self.check_all_there(ring, name)

    def test_growing_while_somebody_writes(self) -> None:
        """What was put at each size of the ring, also while a host joins, is
        on exactly three hosts in the end."""
        ring = Ring("a")
        written: list[Item] = []
        for number, name in enumerate("bcdef"):
            some = [kind(100 * number + at) for at in range(8) for kind in (a_chunk, a_head)]
            ring.world.start(name, "a")
            outcomes = ring.put(some, ring.client("a", f"user-{name}"), patience=60.0)
            self.assertTrue(all(outcome.certain for outcome in outcomes), name)
            written += some
            ring.settle()
        self.until_exactly_k_copies(ring, written)

    def test_a_majority_is_enough(self) -> None:
        """With one of three holders cut off, two make it certain."""
        ring = Ring("abc")
        head = HEADS[0]
        last = ring.around(head.key.ring_id)[2]
        others = [name for name in ring.names() if name != last]
        ring.world.network.cut([last], [*others, "user"])
        (outcome,) = ring.put([head], ring.client("".join(others)), patience=60.0)
        self.assertTrue(outcome.certain)
        self.assertEqual(len(outcome.holders), 2)

    def test_a_minority_is_not(self) -> None:
        """One of three is told as one, and is not certain."""
        ring = Ring("abc")
        head = HEADS[0]
        owner, *others = ring.around(head.key.ring_id)
        ring.world.network.cut([owner], others)
        outcomes = ring.put([head], ring.client(owner), patience=5.0)
        self.assertEqual([outcome.certain for outcome in outcomes], [False])


class JoinTests(RingTestCase):
    """A new node answers for a range once it has what is in it.

    "s" gets the range of the log, and some heads'.
    """

    def setUp(self) -> None:
        self.ring = Ring("abcd")
        fill(self.ring)

    def test_it_gets_what_is_now_its_own(self) -> None:
        """All that it should keep, of every kind, and soon."""
        self.ring.world.start("s", "a")
        self.ring.settle()
        self.until_k_copies(self.ring)
        self.assertGreater(len(self.ring.held("s")), 20)
        self.check_all_there(self.ring, "s")

    def test_not_ready_before(self) -> None:
        """While nobody gives it anything, its answers do not count."""
        wires = [Wire(self.ring.node(name)) for name in self.ring.names()]
        for wire in wires:
            wire.instead("range-digest", _busy)
        self.ring.world.start("s", "a")
        self.ring.settle(voters=False)
        self.ring.run(1.0)
        mine = next(head for head in HEADS if self.ring.around(head.key.ring_id)[0] == "s")
        body = GetHeads(mine.key.ring_id, OWNER, ())
        self.assertEqual(self.ring.ask("s", "get-heads", body).vote.name, b"")
        log = ReadSince(log_id(), OWNER, (), 9)
        self.assertEqual(self.ring.ask("s", "read-since", log).vote.name, b"")
        for wire in wires:
            wire.heal()
        self.ring.run(5.0)
        answer = self.ring.ask("s", "get-heads", body)
        self.assertEqual((answer.items, bool(answer.vote.name)), ((mine,), True))
        page = self.ring.ask("s", "read-since", log)
        self.assertEqual((page.entries, bool(page.vote.name)), (tuple(CHAIN[:9]), True))

    def test_its_first_answer_is_the_right_one(self) -> None:
        """Its first answer that counts is the right one."""
        self.ring.world.start("s", "a")
        self.ring.until("it runs", lambda: self.ring.node("s").ring is not None)
        heads = [head for head in HEADS if self.ring.around(head.key.ring_id)[0] == "s"]
        waiting = {head.key.ring_id: head for head in heads}
        for _ in range(2000):
            self.ring.run(0.005)
            for ring_id, head in list(waiting.items()):
                answer: list[object] = []
                body = encode_body(GetHeads(ring_id, OWNER, ()))
                self.ring.node("s").dispatcher.dispatch(greeting(), "get-heads", body).addBoth(answer.append)
                self.ring.until("an answer", lambda answer=answer: answer)
                assert isinstance(answer[0], bytes)
                items = decode_body(answer[0], Items)
                if items.vote is not None and items.vote.name:
                    self.assertEqual(items.items, (head,))
                    del waiting[ring_id]
            if not waiting:
                return
        self.fail(f"{len(waiting)} were never answered")

    def test_readers_never_miss_anything_meanwhile(self) -> None:
        """At every moment of a join, what was certain is found, or not known."""
        self.ring.world.start("s", "a")
        gateway = self.ring.client("abcd")
        for step in range(60):
            head = HEADS[step % len(HEADS)]
            read = self.ring.wait(gateway.get_heads(head.key.ring_id, OWNER, (), 60.0))
            self.assertEqual((read.items, read.complete), ((head,), True))
            self.ring.run(0.03)

    def test_it_takes_writes_at_once(self) -> None:
        """What is put while it joins is certain, and stays."""
        self.ring.world.start("s", "a")
        gateway = self.ring.client("abcd")
        more: list[Item] = []
        for number in range(100, 130):
            more.append(a_head(number))
            (outcome,) = self.ring.put([more[-1]], gateway, patience=60.0)
            self.assertTrue(outcome.certain)
            self.ring.run(0.05)
        self.ring.settle()
        for head in more:
            read = self.ring.wait(gateway.get_heads(head.key.ring_id, OWNER))
            self.assertEqual(read.items, (head,))

    def test_a_look_that_takes_longer_than_the_vote(self) -> None:
        """A voter on a slow disk looks only after others had taken over, and it
        had dropped what it had: that it finds nothing counts for nothing."""
        slow: Deferred[None] = Deferred()
        asked: list[tuple[str, Item, Deferred[bytes]]] = []
        for name in "abcd":
            node = self.ring.node(name)
            node.store.range_list = _after(slow, node.store.range_list)  # type: ignore[method-assign]
        for head in HEADS:
            name = self.ring.around(head.key.ring_id)[2]
            if sum(name == other for other, _, _ in asked) == READERS - 1:
                # It must be able to give others what it has.
                continue
            body = encode_body(GetHeads(head.key.ring_id, OWNER, ()))
            asked.append((name, head, self.ring.node(name).dispatcher.dispatch(greeting(), "get-heads", body)))
        self.ring.world.start("s", "a")
        self.ring.settle()
        self.until_exactly_k_copies(self.ring)
        slow.callback(None)
        gone = 0
        for name, head, answer in asked:
            found: Items = decode_body(self.ring.wait(answer), Items)
            assert found.vote is not None
            if name not in self.ring.holders(head.key):
                gone += 1
                self.assertEqual((found.items, found.vote.name), ((), b""))
        self.assertGreater(gone, 1)

    def test_two_at_once(self) -> None:
        """Both get theirs."""
        self.ring.world.start("m", "a")
        self.ring.world.start("s", "b")
        self.ring.settle()
        self.until_k_copies(self.ring)
        self.check_all_there(self.ring, "ms")


class LossTests(RingTestCase):
    """Hosts that go, politely or not, and come back."""

    def test_one_of_five_dies(self) -> None:
        """Any one: all comes back at once, and three copies are there soon."""
        for lost in "abcde":
            ring = Ring("abcde")
            fill(ring)
            ring.world.hosts[lost].crash()
            rest = "".join(ring.names())
            self.check_all_there(ring, rest)
            ring.settle()
            self.until_k_copies(ring)

    def test_one_after_the_other(self) -> None:
        """Given time in between, four of six may go."""
        ring = Ring("abcdef")
        fill(ring)
        for lost in "fbda":
            ring.world.hosts[lost].crash()
            ring.settle()
            self.until_k_copies(ring)
        found = ring.wait(ring.client("ce").get_chunks([chunk.key.element for chunk in CHUNKS]))
        self.assertEqual(found, items_named(CHUNKS))

    def test_leaving(self) -> None:
        """A node that is stopped says so; nothing is missed."""
        ring = Ring("abcde")
        fill(ring)
        ring.wait(ring.world.hosts["c"].leave())
        self.check_all_there(ring, "abde")
        ring.settle()
        self.until_k_copies(ring)

    def test_coming_back(self) -> None:
        """A node that was away gets what was put meanwhile."""
        ring = Ring("abcd")
        ring.world.hosts["c"].crash()
        ring.settle()
        fill(ring)
        ring.world.start("c", "a")
        ring.settle()
        self.until_k_copies(ring)
        self.check_all_there(ring, "c")

    def test_a_power_cut(self) -> None:
        """All at once, and all back: everything that was certain is there."""
        ring = Ring("abcde")
        fill(ring)
        for host in list(ring.world.running()):
            host.crash()
        ring.world.start("a")
        for name in "bcde":
            ring.world.start(name, "a")
        ring.settle()
        self.check_all_there(ring)

    def test_a_power_cut_soon_after_the_start(self) -> None:
        """Two of three come back, and know whom they miss: the third is found
        to be dead, and they vote."""
        for seed in range(1, 9):
            ring = Ring("abc", seed)
            ring.run(0.2 * (seed % 4))
            for host in list(ring.world.running()):
                host.crash()
            ring.world.start("a")
            ring.world.start("b", "a")
            ring.settle(60.0)

    def test_two_halves(self) -> None:
        """A ring that was cut in two takes things on both sides, certain only
        where most of the voters are; mended, it has them all, where they belong."""
        ring = Ring("abcdefgh")
        # Neighbours on one side: what they take for the others' part of the
        # ring is none of theirs once the others are back.
        order = ring.around(bytes(20))
        left, right = "".join(order[:4]), "".join(order[4:])
        one, other = ring.client(left, "one"), ring.client(right, "other")
        ring.world.network.cut([*left, "one"], [*right, "other"])
        ring.run(30.0)
        certain = 0
        for gateway, items in ((one, [*CHUNKS[:20], *HEADS[:20]]), (other, [*CHUNKS[20:], *HEADS[20:], *CHAIN])):
            outcomes = ring.put(items, gateway, 20.0)
            self.assertEqual({out.status for out in outcomes}, {Status.OK})
            chunks = [out for item, out in zip(items, outcomes, strict=True) if item.key.kind is Kind.CHUNK]
            self.assertTrue(all(out.certain for out in chunks))
            certain += sum(out.certain for out in outcomes) - len(chunks)
        self.assertTrue(0 < certain < len(HEADS) + len(CHAIN))
        ring.world.network.heal()
        ring.settle(300.0)
        self.until_k_copies(ring)
        self.check_all_there(ring)

    def test_two_of_two(self) -> None:
        """Of a ring of two either has it all: chunks are there, and what is
        voted on is told as not known for certain."""
        for lost in "ab":
            ring = Ring("ab")
            fill(ring)
            ring.world.hosts[lost].crash()
            (left,) = ring.names()
            gateway = ring.client(left)
            found = ring.wait(gateway.get_chunks([chunk.key.element for chunk in CHUNKS]))
            self.assertEqual(found, items_named(CHUNKS))
            # The one that is left still knows of two.
            (outcome,) = ring.put([a_head(200)], gateway, patience=5.0)
            self.assertFalse(outcome.certain)


class BusyTests(RingTestCase):
    """Holders that have much to do are not holders that are full."""

    def test_many_clients_at_once(self) -> None:
        """However much comes at a time, each chunk is where it belongs."""
        ring = Ring("abcdefg")
        jobs: list[tuple[list[Item], Deferred[list[object]]]] = []
        for user in range(4):
            items = [a_chunk(100 * user + number, 400_000) for number in range(40)]
            jobs.append((items, ring.client(name=f"user-{user}").put_chunks(items, 60.0)))
        for items, job in jobs:
            for item, outcome in zip(items, ring.wait(job), strict=True):
                self.assertTrue(outcome.certain)
                self.assertEqual(ring.named(outcome.holders), expected(ring, item.key))

    def test_a_holder_that_is_busy_for_a_moment(self) -> None:
        """It is asked again, and has its copy when the write is answered."""
        ring = Ring("abcde")
        head = HEADS[0]
        owner, second, _ = ring.around(head.key.ring_id)[:3]
        wire = Wire(ring.node(second))
        wire.instead("push", _busy)
        put = ring.client(owner).put_heads([head])
        ring.until("a push", lambda: wire.count("push"))
        wire.heal()
        (outcome,) = ring.wait(put)
        self.assertEqual(len(outcome.holders), 3)

    def test_a_holder_that_hangs(self) -> None:
        """Many writes wait for it once, not one after the other."""
        ring = Ring("abcdefgh")
        wires = {name: Wire(ring.node(name)) for name in "bcdefgh"}
        wires["b"].instead("push", lambda body: Deferred())
        before = ring.world.clock.seconds()
        outcomes = ring.put([a_chunk(number, 100_000) for number in range(300)], patience=60.0)
        self.assertTrue(all(outcome.certain for outcome in outcomes))
        self.assertLess(ring.world.clock.seconds() - before, 60.0)

    def test_an_owner_whose_disk_hangs(self) -> None:
        """It says who has each thing, itself not counted: it need not hold up what is certain without it,
        of any kind, and whatever came before."""
        ring = Ring("abcde")
        ring.run(10.0)
        owner = ring.around(HEADS[0].key.ring_id)[0]
        mine = [item for item in [*CHUNKS, *HEADS] if ring.around(item.key.ring_id)[0] == owner]
        ring.world.hosts[owner].disk.slowness = 1e8
        lines = LogLines(self)
        for item in mine[:6]:
            before = ring.world.clock.seconds()
            (outcome,) = ring.put([item], patience=30.0)
            self.assertTrue(outcome.certain)
            self.assertNotIn(owner, ring.named(outcome.holders))
            self.assertLess(ring.world.clock.seconds() - before, 5.0)
        self.assertEqual(len(lines.having("disk does not write in time")), 1)

    def test_an_owner_whose_disk_hangs_when_it_has_news_of_voters(self) -> None:
        """It cannot put them on its disk, and so does not vote; the others do."""
        ring = Ring("abcde")
        ring.run(10.0)
        owner, *others = ring.around(HEADS[0].key.ring_id)
        ring.world.hosts[owner].disk.slowness = 1e8
        holding = ring.node(owner).holding
        assert holding is not None
        holding.electorate.suspect(ring.fp(others[-1]))
        (outcome,) = ring.put([HEADS[0]], patience=10.0)
        self.assertTrue(outcome.certain)
        self.assertEqual(ring.named(outcome.holders), "".join(sorted(others[:2])))

    def test_a_disk_that_hangs_is_given_no_more(self) -> None:
        """What it has not taken is held in memory, up to a bound; beyond, all goes to others."""
        ring = Ring("abcde")
        ring.run(10.0)
        for name in ring.names():
            holding = ring.node(name).holding
            assert holding is not None
            # They have a few things at a time, whatever comes of them.
            ring.wait(holding.replicator.stop())
        self.patch(keeper, "MOST_WAITING", 50_000)
        chunks = [a_chunk(number, 20_000) for number in range(40)]
        owner = ring.around(chunks[0].key.ring_id)[0]
        mine = [chunk for chunk in chunks if ring.around(chunk.key.ring_id)[0] == owner]
        self.assertGreater(len(mine), 4)
        store = ring.node(owner).store
        waiting: list[Deferred[list[bool]]] = []

        def hangs(items: Sequence[Item]) -> Deferred[list[bool]]:
            waiting.append(Deferred())
            return waiting[-1]

        real, store.put = store.put, hangs  # type: ignore[method-assign]
        for chunk in mine:
            (outcome,) = ring.put([chunk], patience=30.0)
            self.assertTrue(outcome.certain)
        self.assertEqual(len(waiting), 2)
        store.put = real  # type: ignore[method-assign]

    def test_an_asker_that_goes_while_the_disk_is_slow(self) -> None:
        """His question is given up, and nothing of it ends in an error that nobody sees to."""
        ring = Ring("abcd")
        head = HEADS[0]
        owner = ring.around(head.key.ring_id)[0]
        ring.world.hosts[owner].disk.slowness = 1000.0
        asked: Deferred[object] = ring.node(owner).dispatcher.dispatch(
            greeting(), "post-heads", encode_body(PostHeads((head,), ()))
        )
        asked.addErrback(lambda failure: failure.trap(CancelledError))
        ring.run(0.5)
        asked.cancel()
        ring.run(10.0)
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])


def _busy(body: object) -> object:
    raise Busy("Much to do.", retry_after=0.1)
