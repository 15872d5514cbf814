"""Writes through a ring of shipped nodes: until certain, in bounds, in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import Busy, DiskFull, StorageError
from peerstore.gateway.gateway import HOST_BYTES, HOST_REQUESTS
from peerstore.items import Item
from peerstore.transactions.entry import entry_of
from peerstore.wire.messages import Status
from tests.support.rings import Ring, Wire
from tests.support.things import a_chain, a_chunk, a_head, a_large_entry, an_entry, log_id


def refuse(error: Exception) -> Callable[[Any], Any]:
    """An answer that is an error."""

    def answer(body: Any) -> Any:
        raise error

    return answer


def times(count: int, answer: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """*answer* so many times, and then the node's own."""
    left = [count]

    def some(body: Any) -> Any:
        left[0] -= 1
        return answer(body) if left[0] >= 0 else None

    return some


class PutTests(SynchronousTestCase):
    """Five nodes, one client."""

    def setUp(self) -> None:
        self.ring = Ring("abcde")

    def wires(self) -> dict[str, Wire]:
        """Every node's requests."""
        return {name: Wire(self.ring.node(name)) for name in self.ring.names()}

    def test_certain_on_three_hosts(self) -> None:
        """Each item is on the three hosts that follow its key."""
        items = [a_chunk(number) for number in range(20)]
        for item, outcome in zip(items, self.ring.put(items), strict=True):
            self.assertTrue(outcome.certain)
            self.assertEqual(outcome.why, "")
            expected = "".join(sorted(self.ring.around(item.key.ring_id)[:3]))
            self.assertEqual(self.ring.named(outcome.holders), expected)
            self.assertEqual(self.ring.holders(item.key), expected)

    def test_nothing_to_put(self) -> None:
        """No items, no outcomes, no requests."""
        gateway = self.ring.client()
        self.assertEqual(self.ring.wait(gateway.put_chunks([])), [])
        self.assertEqual(self.ring.wait(gateway.put_heads([], [])), [])

    def test_outcomes_are_in_the_caller_s_order(self) -> None:
        """Good and bad ones mixed, over several hosts and requests."""
        items = [a_chunk(number) for number in range(30)]
        bad = {3, 17, 29}
        mixed = [
            Item(item.key, item.statement, item.data + b"!") if place in bad else item
            for place, item in enumerate(items)
        ]
        outcomes = self.ring.put(mixed)
        self.assertEqual({place for place, out in enumerate(outcomes) if out.status is Status.REJECTED}, bad)
        self.assertEqual({place for place, out in enumerate(outcomes) if not out.certain}, bad)

    def test_duplicates_are_harmless(self) -> None:
        """Twice in one call, and again, by two clients at once."""
        items = [a_chunk(1), a_head(1), a_chunk(1), a_head(1)]
        first = self.ring.client(name="one").put_chunks([items[0], items[2]])
        second = self.ring.client(name="two").put_chunks([items[0]])
        outcomes = self.ring.wait(first) + self.ring.wait(second) + self.ring.put(items)
        self.assertTrue(all(out.certain for out in outcomes))
        self.assertEqual(sum(len(self.ring.held(name)) for name in self.ring.names()), 2 * 3)

    def test_sent_again_until_certain(self) -> None:
        """Two holders cannot store just now: the write goes on until they can."""
        head = a_head(1)
        owner, *others = self.ring.around(head.key.ring_id)[:3]
        wires = self.wires()
        for name in others:
            wires[name].instead("push", refuse(StorageError("The disk is away.")))
        put = self.ring.client().put_heads([head])
        self.ring.run(5.0)
        self.assertFalse(put.called)
        self.assertGreater(wires[owner].count("post-heads"), 2)
        for name in others:
            wires[name].heal()
        (outcome,) = self.ring.wait(put)
        self.assertTrue(outcome.certain)

    def test_patience_ends(self) -> None:
        """What is on too few hosts by then is told as it is."""
        head = a_head(1)
        owner, *others = self.ring.around(head.key.ring_id)[:3]
        for name in others:
            self.ring.world.hosts[name].disk.full = True
        before = self.ring.world.clock.seconds()
        (outcome,) = self.ring.put([head], patience=4.0)
        self.assertEqual((outcome.status, outcome.certain), (Status.OK, False))
        self.assertEqual(self.ring.named(outcome.holders), owner)
        self.assertIn("1", outcome.why)
        self.assertLess(self.ring.world.clock.seconds() - before, 10.0)

    def test_a_ring_that_is_gone(self) -> None:
        """Nobody answers: told within patience, in words, for each item."""
        gateway = self.ring.client()
        for host in self.ring.world.running():
            host.crash()
        items = [a_chunk(number) for number in range(3)]
        outcomes = self.ring.put(items, gateway, patience=3.0)
        self.assertEqual({out.status for out in outcomes}, {Status.UNAVAILABLE})
        self.assertTrue(all(out.why and not out.holders for out in outcomes))

    def test_what_was_judged_is_not_sent_again(self) -> None:
        """A rejected item costs one request, whatever the patience."""
        bad = Item(a_head(1).key, a_head(2).statement, a_head(2).data)
        wires = self.wires()
        before = self.ring.world.clock.seconds()
        (outcome,) = self.ring.put([bad])
        self.assertEqual((outcome.status, outcome.holders), (Status.REJECTED, ()))
        self.assertEqual(sum(wire.count("post-heads") for wire in wires.values()), 1)
        self.assertLess(self.ring.world.clock.seconds() - before, 1.0)

    def test_a_busy_node_is_left_in_peace(self) -> None:
        """It is asked again when it said, not before."""
        chunk = a_chunk(1)
        wire = self.wires()[self.ring.around(chunk.key.ring_id)[0]]
        wire.instead("post-chunks", times(1, refuse(Busy("Full.", retry_after=2.5))))
        put = self.ring.client().put_chunks([chunk])
        self.ring.until("the first request", lambda: wire.count("post-chunks") == 1)
        self.ring.run(2.3)
        self.assertEqual(wire.count("post-chunks"), 1)
        self.assertTrue(self.ring.wait(put)[0].certain)

    def test_an_owner_that_hangs(self) -> None:
        """A request that is never answered is made again after its timeout."""
        chunk = a_chunk(1)
        wire = self.wires()[self.ring.around(chunk.key.ring_id)[0]]
        wire.instead("post-chunks", times(1, lambda body: Deferred()))
        (outcome,) = self.ring.put([chunk], patience=60.0)
        self.assertTrue(outcome.certain)

    def test_a_short_answer(self) -> None:
        """Items that an answer says nothing of are sent again."""
        first = self.ring.around(a_chunk(0).key.ring_id)[0]
        chunks = [chunk for chunk in map(a_chunk, range(60)) if self.ring.around(chunk.key.ring_id)[0] == first]
        wire = Wire(self.ring.node(first))
        answers = iter([1])
        wire.after("post-chunks", lambda body, told: type(told)(told.outcomes[: next(answers, None)]))
        outcomes = self.ring.put(chunks)
        self.assertGreater(len(chunks), 1)
        self.assertTrue(all(out.certain for out in outcomes))

    def test_one_host_s_bounds_are_kept(self) -> None:
        """However much is put, a node never has more of it than it takes."""
        chunks = [a_chunk(number, 200_000) for number in range(150)]
        worst = {name: _Load(self.ring, name) for name in self.ring.names()}
        outcomes = self.ring.put(chunks, patience=60.0)
        self.assertTrue(all(out.certain for out in outcomes))
        for load in worst.values():
            self.assertLessEqual(load.most_bytes, HOST_BYTES)
            self.assertLessEqual(load.most_requests, HOST_REQUESTS)
        self.assertGreater(max(load.most_requests for load in worst.values()), 1)


class _Load:
    """Posts in work at one node, at most."""

    def __init__(self, ring: Ring, name: str) -> None:
        self.requests = self.bytes = self.most_requests = self.most_bytes = 0
        dispatcher = ring.node(name).dispatcher
        real = dispatcher.dispatch

        def dispatch(caller: Any, method: str, body: bytes) -> Deferred[Any]:
            if method != "post-chunks":
                return real(caller, method, body)
            self.requests += 1
            self.bytes += len(body)
            self.most_requests = max(self.most_requests, self.requests)
            self.most_bytes = max(self.most_bytes, self.bytes)

            def done(result: Any) -> Any:
                self.requests -= 1
                self.bytes -= len(body)
                return result

            return real(caller, method, body).addBoth(done)

        dispatcher.dispatch = dispatch  # type: ignore[method-assign]


class ChangingRingTests(SynchronousTestCase):
    """The ring changes while a write is under way."""

    def test_the_owner_dies_in_mid_write(self) -> None:
        """What it had not acknowledged goes to whoever comes after it."""
        ring = Ring("abcde")
        items = [a_chunk(number, 5000) for number in range(60)] + [a_head(number) for number in range(30)]
        gateway = ring.client("ab")
        chunks, heads = gateway.put_chunks(items[:60], 60.0), gateway.put_heads(items[60:], (), 60.0)
        ring.run(0.012)
        self.assertFalse(chunks.called)
        ring.world.hosts["c"].crash()
        before = ring.world.clock.seconds()
        outcomes = ring.wait(chunks) + ring.wait(heads)
        self.assertTrue(all(out.certain for out in outcomes))
        # As soon as the ring has noticed, and not when old answers expire.
        self.assertLess(ring.world.clock.seconds() - before, 15.0)
        for item in items:
            self.assertGreaterEqual(len(ring.holders(item.key)), 2)

    def test_a_new_owner_comes_in_mid_write(self) -> None:
        """A node that joins gets what it owns from then on."""
        ring = Ring("abcd")
        ring.world.start("n", "a")
        gateway = ring.client("ab")
        items = [a_head(number) for number in range(400)]
        puts = []
        for at in range(0, 400, 20):
            puts.append(gateway.put_heads(items[at : at + 20], (), 60.0))
            ring.run(0.1)
        outcomes = [out for put in puts for out in ring.wait(put)]
        self.assertTrue(all(out.certain for out in outcomes))
        self.assertTrue(any(ring.fp("n") in out.holders for out in outcomes))

    def test_cut_off_and_mended(self) -> None:
        """A client that is cut off from an owner goes on when it is not."""
        ring = Ring("abcde")
        gateway = ring.client("abcde")
        chunk = a_chunk(1)
        owner = ring.around(chunk.key.ring_id)[0]
        ring.wait(gateway.put_chunks([a_chunk(2)]))
        ring.world.network.cut(["user"], [owner])
        put = gateway.put_chunks([chunk], 60.0)
        ring.run(8.0)
        self.assertFalse(put.called)
        ring.world.network.heal()
        self.assertTrue(ring.wait(put)[0].certain)


class ChainTests(SynchronousTestCase):
    """Log entries: in order, and never ahead of what they name."""

    def setUp(self) -> None:
        self.ring = Ring("abcde")
        self.owner = self.ring.around(log_id())[0]
        self.wire = Wire(self.ring.node(self.owner))
        self.gateway = self.ring.client()

    def numbers(self) -> list[list[int]]:
        """The entries' numbers in each request that the log's owner got."""
        return [[entry_of(item).number for item in body.items] for name, body in self.wire.seen if name == "append"]

    def test_a_long_chain(self) -> None:
        """Several requests, one after the other, each certain before the next."""
        outcomes = self.ring.put(a_chain(600), self.gateway)
        self.assertTrue(all(out.certain for out in outcomes))
        self.assertEqual([number for part in self.numbers() for number in part], list(range(1, 601)))

    def test_a_request_that_failed_is_not_overtaken(self) -> None:
        """The first part is refused twice; the second waits for it."""
        self.wire.instead("append", times(2, refuse(Busy("Full.", retry_after=0.3))))
        outcomes = self.ring.put(a_chain(300), self.gateway)
        self.assertTrue(all(out.certain for out in outcomes))
        self.assertEqual([part[0] for part in self.numbers()], [1, 1, 1, 257])

    def test_neither_is_one_that_is_not_certain_yet(self) -> None:
        """With too few holders the next part stays here."""
        others = self.ring.around(log_id())[1:3]
        for name in others:
            self.ring.world.hosts[name].disk.full = True
        append = self.gateway.append(a_chain(300))
        self.ring.run(3.0)
        self.assertGreater(len(self.numbers()), 1)
        self.assertEqual({part[0] for part in self.numbers()}, {1})
        for name in others:
            self.ring.world.hosts[name].disk.full = False
        self.assertTrue(all(out.certain for out in self.ring.wait(append)))

    def test_a_gap_is_told_at_once(self) -> None:
        """Entries that do not follow on: GAP, without waiting."""
        chain = a_chain(5)
        self.ring.put(chain[:2], self.gateway)
        before = self.ring.world.clock.seconds()
        (outcome,) = self.ring.put(chain[4:], self.gateway)
        self.assertEqual((outcome.status, outcome.certain), (Status.GAP, False))
        self.assertLess(self.ring.world.clock.seconds() - before, 1.0)
        self.assertTrue(all(out.certain for out in self.ring.put(chain, self.gateway)))

    def test_another_entry_at_a_number(self) -> None:
        """REJECTED: that device was copied."""
        chain = a_chain(2)
        self.ring.put(chain, self.gateway)
        forked = a_chain(1, start=[chain[0]])
        self.assertEqual(forked, chain[1:])
        (outcome,) = self.ring.put([an_entry(2, chain[0].key.element, wall=5)], self.gateway)
        self.assertEqual(outcome.status, Status.REJECTED)


class HeadsAndEntriesTests(SynchronousTestCase):
    """The log entry goes with the last head, and never before all are certain."""

    def setUp(self) -> None:
        self.ring = Ring("abcdefghij")
        self.heads = [a_head(number) for number in range(10)]
        self.entry = a_chain(1)
        self.wires = {name: Wire(self.ring.node(name)) for name in self.ring.names()}
        self.gateway = self.ring.client()

    def put(self, **options: Any) -> Any:
        """Heads with an entry; all outcomes."""
        return self.ring.wait(self.gateway.put_heads(self.heads, self.entry, **options))

    def passed_on(self) -> int:
        """Requests in which the entry went with heads."""
        return sum(
            method == "post-heads" and bool(body.entries) for wire in self.wires.values() for method, body in wire.seen
        )

    def test_the_node_passes_it_on(self) -> None:
        """Once, with the last head; the client makes no request for it."""
        outcomes = self.put()
        self.assertEqual(len(outcomes), 11)
        self.assertTrue(all(out.certain for out in outcomes))
        self.assertEqual(self.passed_on(), 1)
        self.assertEqual(self.ring.holders(self.entry[0].key), "".join(sorted(self.ring.around(log_id())[:3])))

    def test_all_heads_are_certain_before_it_is_sent(self) -> None:
        """Nobody sees the entry while a head is on too few hosts."""
        self.put()
        for name, wire in self.wires.items():
            for place, (method, body) in enumerate(wire.seen):
                if method == "post-heads" and body.entries:
                    earlier = [body for method, body in wire.seen[:place] if method == "post-heads"]
                    self.assertEqual([head for body in earlier for head in body.heads if head == self.heads[-1]], [])
                    self.assertEqual(len(body.heads), 1, name)
                    self.assertEqual(body.heads[0], self.heads[-1])

    def test_a_head_that_is_not_certain_holds_it_back(self) -> None:
        """The entry is nowhere, and its outcome says why."""
        for name in self.ring.around(self.heads[4].key.ring_id)[1:3]:
            self.ring.world.hosts[name].disk.full = True
        outcomes = self.put(patience=3.0)
        self.assertFalse(outcomes[4].certain)
        self.assertTrue(outcomes[9].certain)
        self.assertEqual((outcomes[10].status, outcomes[10].certain), (Status.UNAVAILABLE, False))
        self.assertIn("Held back", outcomes[10].why)
        self.assertEqual(self.ring.holders(self.entry[0].key), "")

    def test_the_last_head_is_the_one_that_is_not_certain(self) -> None:
        """The node itself holds the entry back."""
        for name in self.ring.around(self.heads[-1].key.ring_id)[1:3]:
            self.ring.world.hosts[name].disk.full = True
        outcomes = self.put(patience=3.0)
        self.assertFalse(outcomes[9].certain)
        self.assertFalse(outcomes[10].certain)
        self.assertEqual(self.ring.holders(self.entry[0].key), "")

    def test_a_node_that_cannot_pass_it_on(self) -> None:
        """Then the client appends it itself."""
        for wire in self.wires.values():
            wire.after("post-heads", _without_entries)
        outcomes = self.put()
        self.assertTrue(all(out.certain for out in outcomes))
        self.assertEqual(len(self.ring.holders(self.entry[0].key)), 3)

    def test_a_gap_comes_back_with_the_heads(self) -> None:
        """The heads are certain, the entry is told GAP."""
        self.entry = a_chain(3)[2:]
        outcomes = self.put()
        self.assertTrue(all(out.certain for out in outcomes[:10]))
        self.assertEqual(outcomes[10].status, Status.GAP)

    def test_entries_alone(self) -> None:
        """No heads: an append."""
        self.heads = []
        (outcome,) = self.put()
        self.assertTrue(outcome.certain)

    def test_entries_too_large_to_go_along(self) -> None:
        """They are appended after the heads."""
        self.entry = [a_large_entry(1)]
        outcomes = self.put()
        self.assertTrue(all(out.certain for out in outcomes))
        self.assertEqual(self.passed_on(), 0)


def _without_entries(body: Any, told: Any) -> Any:
    """As if the node had been too busy to pass anything on."""
    held = [told.outcomes[0].__class__(int(Status.BUSY), (), (), 1)] * len(body.entries)
    return type(told)((*told.outcomes[: len(body.heads)], *held))


class FullDiskTests(SynchronousTestCase):
    """Chunks spill past full hosts; what is voted on does not."""

    def test_chunks_spill(self) -> None:
        """Two of the three hosts are full: the next ones keep the chunk."""
        ring = Ring("abcdef")
        chunk = a_chunk(1)
        order = ring.around(chunk.key.ring_id)
        for name in order[1:3]:
            ring.world.hosts[name].disk.full = True
        (outcome,) = ring.put([chunk])
        self.assertTrue(outcome.certain)
        self.assertEqual(ring.holders(chunk.key), "".join(sorted([order[0], order[3], order[4]])))
        found = ring.wait(ring.client().get_chunks([chunk.key.element]))
        self.assertEqual(found, {chunk.key.element: chunk})

    def test_the_owner_is_full(self) -> None:
        """It keeps nothing itself, and three others have the chunk."""
        ring = Ring("abcdef")
        chunk = a_chunk(1)
        order = ring.around(chunk.key.ring_id)
        ring.world.hosts[order[0]].disk.full = True
        (outcome,) = ring.put([chunk])
        self.assertTrue(outcome.certain)
        self.assertEqual(ring.holders(chunk.key), "".join(sorted(order[1:4])))
        found = ring.wait(ring.client().get_chunks([chunk.key.element]))
        self.assertEqual(found, {chunk.key.element: chunk})

    def test_a_spilled_chunk_is_known_to_be_there(self) -> None:
        """A client that asks whether it is certain is told so."""
        ring = Ring("abcdef")
        chunk = a_chunk(1)
        for name in ring.around(chunk.key.ring_id)[:2]:
            ring.world.hosts[name].disk.full = True
        gateway = ring.client()
        self.assertTrue(ring.put([chunk], gateway)[0].certain)
        have = ring.wait(gateway.have_chunks(chunk.key.owner, [chunk.key.element]))
        self.assertEqual(have, {chunk.key.element})

    def test_all_full(self) -> None:
        """Nobody takes it: told as it is, and nothing is kept."""
        ring = Ring("abc")
        for host in ring.world.running():
            host.disk.full = True
        (outcome,) = ring.put([a_chunk(1)], patience=3.0)
        self.assertEqual((outcome.status, outcome.holders), (Status.UNAVAILABLE, ()))
        self.assertEqual(ring.holders(a_chunk(1).key), "")

    def test_full_nodes_go_on_serving(self) -> None:
        """What they have is read, and watched, as before."""
        ring = Ring("abc")
        items = [a_chunk(1), a_head(1), *a_chain(1)]
        assert all(out.certain for out in ring.put(items))
        for host in ring.world.running():
            host.disk.full = True
        gateway = ring.client(name="reader")
        self.assertEqual(len(ring.wait(gateway.get_chunks([items[0].key.element]))), 1)
        self.assertTrue(ring.wait(gateway.get_heads(items[1].key.ring_id, items[1].key.owner)).complete)
        self.assertEqual(len(ring.wait(gateway.watch_log(log_id(), items[2].key.owner, {})).items), 1)

    def test_a_full_disk_is_told_by_a_lone_node(self) -> None:
        """Neither a crash nor an acknowledgement."""
        ring = Ring("a")
        ring.world.hosts["a"].disk.full = True
        (outcome,) = ring.put([a_head(1)], patience=2.0)
        self.assertFalse(outcome.certain)
        self.failureResultOf(ring.node("a").store.put([a_head(1)]), DiskFull)
        ring.world.hosts["a"].disk.full = False
        self.assertTrue(ring.put([a_head(1)])[0].certain)
