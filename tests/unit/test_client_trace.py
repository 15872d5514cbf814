"""The way to a key, and what its holders have."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.client import holdings as holding_module
from peerstore.client import trace as module
from peerstore.client.holdings import Holding, holdings
from peerstore.client.trace import Holder, Trace, trace
from peerstore.errors import LookupFailed, NotReady, PeerError
from peerstore.gateway.locate import Locator
from peerstore.items import Item, Kind
from peerstore.ring.lookup import LookupClient
from peerstore.wire import bodies
from tests.support.rings import Ring, Wire
from tests.support.things import OWNER, a_chain, a_chunk, a_head, log_id


class TraceTestCase(SynchronousTestCase):
    """Five nodes in virtual time."""

    def setUp(self) -> None:
        self.ring = Ring("abcde")
        self.pool, self.hosts, self.clock = self.ring.stranger("")

    def follow(self, ring_id: bytes, starts: str = "abcde") -> Trace:
        """The way to a key, beginning with these nodes."""
        addresses = [f"sim:{name}" for name in starts]
        job = trace(self.pool, self.clock, addresses, ids.from_bytes(ring_id))
        found: Trace = self.ring.wait(Deferred.fromCoroutine(job))
        return found

    def holder(self, found: Trace, name: str) -> Holder:
        """One host in it."""
        return next(holder for holder in found.holders if holder.member.fp == self.ring.fp(name))

    def put_at(self, name: str, *items: Item) -> None:
        """Onto one node's disk, past all others."""
        self.ring.wait(self.ring.node(name).store.put(items))


HEAD = a_head(1)
KEY = HEAD.key.ring_id


class WayTests(TraceTestCase):
    """Each step."""

    def test_it_ends_at_the_owner(self) -> None:
        """Who claims the key, with its range; every step took some time."""
        around = self.ring.around(KEY)
        found = self.follow(KEY, around[2])
        self.assertEqual(found.hops[0].fp, self.ring.fp(around[2]))
        self.assertFalse(found.hops[0].owns)
        self.assertEqual(found.hops[0].named[0].fp, self.ring.fp(around[0]))
        last = found.hops[-1]
        assert found.located is not None and last.position is not None and last.after is not None
        self.assertTrue(last.owns)
        self.assertEqual((last.fp, last.position), (self.ring.fp(around[0]), found.located.owner))
        self.assertTrue(ids.in_half_open(last.after, found.key, last.position.id))
        self.assertEqual(last.after, found.located.predecessor_id)
        self.assertEqual(last.named, ())
        self.assertTrue(all(hop.latency > 0 and hop.error is None for hop in found.hops))

    def test_what_this_computer_knows_is_not_used(self) -> None:
        """The way is that of somebody who knows one node."""
        around = self.ring.around(KEY)
        first, again = self.follow(KEY, around[2]), self.follow(KEY, around[2])
        self.assertEqual([hop.fp for hop in first.hops], [hop.fp for hop in again.hops])
        self.assertGreater(len(first.hops), 1)

    def test_a_start_that_does_not_answer(self) -> None:
        """Is a step, too, that leads nowhere."""
        owner, *rest = self.ring.around(KEY)
        self.ring.world.hosts[rest[-1]].crash()
        found = self.follow(KEY, rest[-1] + owner)
        self.assertIsInstance(found.hops[0].error, PeerError)
        self.assertEqual((found.hops[0].address, found.hops[0].fp), (f"sim:{rest[-1]}", None))
        self.assertTrue(found.hops[1].owns)

    def test_one_that_refuses(self) -> None:
        """Is passed by."""
        owner, *rest = self.ring.around(KEY)

        def refuse(body: Any) -> Any:
            raise NotReady("not yet", status=9)

        Wire(self.ring.node(rest[0])).instead("find-successor", refuse)
        found = self.follow(KEY, rest[0] + owner)
        self.assertIsInstance(found.hops[0].error, NotReady)
        self.assertEqual(found.hops[0].fp, self.ring.fp(rest[0]))
        self.assertIsNotNone(found.located)

    def test_nobody_answers(self) -> None:
        """The way has no end, and why is told."""
        for name in "abcde":
            self.ring.world.hosts[name].crash()
        found = self.follow(KEY, "ab")
        self.assertIsNone(found.located)
        self.assertIsInstance(found.error, LookupFailed)
        self.assertEqual([hop.address for hop in found.hops], ["sim:a", "sim:b"])
        self.assertEqual((found.holders, found.keys), ((), frozenset()))

    def test_a_ring_that_heals_meanwhile(self) -> None:
        """A later attempt counts, with its own steps."""
        refusals = [NotReady("not yet", status=9)] * 2

        def refuse(body: Any) -> Any:
            if refusals:
                raise refusals.pop()
            return None

        owner = self.ring.around(KEY)[0]
        Wire(self.ring.node(owner)).instead("find-successor", refuse)
        found = self.follow(KEY, owner)
        self.assertEqual([hop.owns for hop in found.hops], [True])

    def test_a_node_alone(self) -> None:
        """Claims the whole circle."""
        self.ring = Ring("a")
        self.pool, self.hosts, self.clock = self.ring.stranger("")
        found = self.follow(KEY, "a")
        (hop,) = found.hops
        assert hop.position is not None
        self.assertEqual((hop.owns, hop.after), (True, hop.position.id))
        self.assertEqual(len(found.keepers), 1)


class HolderTests(TraceTestCase):
    """What those have that are to keep it."""

    def test_all_keepers_have_it(self) -> None:
        """The first k hosts from the key, in that order."""
        self.ring.put([HEAD])
        found = self.follow(KEY)
        self.assertEqual(found.copies, 3)
        expected = [self.ring.fp(name) for name in self.ring.around(KEY)[:3]]
        self.assertEqual([holder.member.fp for holder in found.keepers], expected)
        for holder in found.keepers:
            self.assertEqual(holder.keys, {HEAD.key})
            self.assertEqual((holder.count(Kind.HEAD), holder.count(Kind.CHUNK)), (1, 0))
            self.assertIs(holder.syncing, False)
            self.assertGreater(holder.latency, 0.0)
        self.assertEqual(found.keys, {HEAD.key})

    def test_one_lacks_something(self) -> None:
        """What anybody has is what there is."""
        one, other = a_head(1, 1), a_head(1, 2)
        around = self.ring.around(KEY)
        self.put_at(around[0], one)
        self.put_at(around[1], one, other)
        found = self.follow(KEY)
        self.assertEqual(found.keys, {one.key, other.key})
        self.assertEqual(self.holder(found, around[0]).keys, {one.key})
        self.assertEqual(self.holder(found, around[2]).keys, frozenset())

    def test_one_beyond_the_keepers(self) -> None:
        """Hosts up to 2k are asked, and are no keepers."""
        around = self.ring.around(KEY)
        self.put_at(around[4], HEAD)
        found = self.follow(KEY)
        self.assertEqual(len(found.holders), 5)
        beyond = self.holder(found, around[4])
        self.assertEqual((beyond.keeper, beyond.keys), (False, {HEAD.key}))

    def test_one_that_does_not_answer(self) -> None:
        """Nothing is known of what it has."""
        self.ring.put([HEAD])
        around = self.ring.around(KEY)
        Wire(self.ring.node(around[1])).instead("range-list", lambda _: Deferred())
        found = self.follow(KEY, around[0])
        dead = self.holder(found, around[1])
        self.assertIsNone(dead.keys)
        self.assertIsInstance(dead.error, PeerError)
        self.assertEqual(found.keys, {HEAD.key})

    def test_one_that_is_syncing(self) -> None:
        """Says so; the others vote, and are enough."""
        around = self.ring.around(KEY)

        def mute(body: Any, answer: bodies.Items) -> bodies.Items:
            return msgspec.structs.replace(answer, vote=bodies.Vote(b"", (), 2))

        self.assertEqual(self.follow(KEY).votes, (3, 2))
        Wire(self.ring.node(around[1])).after("get-heads", mute)
        found = self.follow(KEY)
        self.assertEqual([holder.syncing for holder in found.keepers], [False, True, False])
        self.assertEqual(found.votes, (2, 2))

    def test_votes_in_different_names(self) -> None:
        """Do not count together; neither does the vote of one that is no
        voter, nor a need of more than there are copies."""

        def rename(body: Any, answer: bodies.Items) -> bodies.Items:
            assert answer.vote is not None
            return msgspec.structs.replace(answer, vote=msgspec.structs.replace(answer.vote, name=b"x" * 16, needed=9))

        def resign(body: Any, answer: bodies.Items) -> bodies.Items:
            assert answer.vote is not None
            return msgspec.structs.replace(answer, vote=msgspec.structs.replace(answer.vote, voters=()))

        around = self.ring.around(KEY)
        Wire(self.ring.node(around[0])).after("get-heads", rename)
        Wire(self.ring.node(around[1])).after("get-heads", resign)
        self.assertEqual(self.follow(KEY).votes, (1, 2))

    def test_many_things_at_one_key(self) -> None:
        """Are asked for in pages, up to a limit."""
        chain = a_chain(10)
        self.ring.put(chain)
        self.patch(module, "PAGE", 4)
        found = self.follow(log_id())
        self.assertEqual(found.keepers[0].count(Kind.LOG), 10)
        self.patch(module, "MOST_KEYS", 8)
        self.assertEqual(self.follow(log_id()).keepers[0].count(Kind.LOG), 8)

    def test_only_what_is_at_the_key(self) -> None:
        """Not what is beside it."""
        self.ring.put([a_head(number) for number in range(20)])
        self.assertEqual(self.follow(KEY).keys, {HEAD.key})


class HoldingTests(TraceTestCase):
    """Where chunks are."""

    def setUp(self) -> None:
        super().setUp()
        self.chunks = [a_chunk(number) for number in range(12)]
        self.ring.put(self.chunks)
        lookup = LookupClient(self.pool, self.hosts, self.clock, lambda: [f"sim:{name}" for name in "abcde"])
        self.locator = Locator(lookup, self.clock)

    def look(self, chunks: list[Item] | None = None) -> list[Holding]:
        """Who has them."""
        hashes = [chunk.key.element for chunk in (self.chunks if chunks is None else chunks)]
        job = holdings(self.pool, self.locator, 3, OWNER, hashes)
        found: list[Holding] = self.ring.wait(Deferred.fromCoroutine(job))
        return found

    def test_each_on_all_of_its_keepers(self) -> None:
        """One holding for each, in order, however often it is named; asked
        for in batches."""
        self.patch(holding_module, "BATCH", 5)
        found = self.look([*self.chunks, self.chunks[0]])
        self.assertEqual([one.hash for one in found], [chunk.key.element for chunk in (*self.chunks, self.chunks[0])])
        for one in found:
            around = self.ring.around(ids.chunk_ring_id(one.hash))
            self.assertEqual([member.fp for member in one.keepers], [self.ring.fp(name) for name in around[:3]])
            self.assertTrue(one.everywhere)
            self.assertEqual((one.lacking, one.silent), ([], frozenset()))
        self.assertEqual(self.look([]), [])

    def test_one_that_somebody_lacks(self) -> None:
        """Is told, with whose copy it is."""
        new = a_chunk(99)
        around = self.ring.around(new.key.ring_id)
        self.put_at(around[1], new)
        (found,) = self.look([new])
        self.assertFalse(found.everywhere)
        self.assertEqual(self.ring.named(found.present), around[1])
        self.assertEqual([member.fp for member in found.lacking], [self.ring.fp(around[0]), self.ring.fp(around[2])])

    def test_somebody_who_does_not_answer(self) -> None:
        """Is not said to lack it."""
        one = self.chunks[0]
        around = self.ring.around(one.key.ring_id)
        self.look()
        self.ring.world.hosts[around[1]].crash()
        (found,) = self.look([one])
        self.assertEqual(self.ring.named(found.silent), around[1])
        self.assertEqual((found.lacking, found.everywhere), ([], False))

    def test_nobody_is_found(self) -> None:
        """No keepers, and nothing is everywhere."""
        for name in "abcde":
            self.ring.world.hosts[name].crash()
        (found,) = self.look(self.chunks[:1])
        self.assertEqual((found.keepers, found.everywhere), ((), False))
