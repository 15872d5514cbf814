"""Two nodes compare what they hold: little is asked where little differs,
and no list fills anybody's memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from peerstore.items import Item, ItemKey, Kind
from peerstore.wire.bodies import Items, KeyPage
from tests.support.rings import Ring, Wire
from tests.support.things import OWNER, a_chain, a_chunk, a_head

#: Range digests cut a range above 1,024 keys in sixteen.
MANY = [a_head(number) for number in range(2500)]


class CompareTests(SynchronousTestCase):
    """One node has something, another joins it."""

    def joined(self, *items: Item) -> tuple[Ring, Wire]:
        """A node with these, and another that has got them."""
        ring = Ring("a")
        for at in range(0, len(items), 500):
            ring.wait(ring.node("a").store.put(items[at : at + 500]))
        wire = Wire(ring.node("a"))
        ring.world.start("b", "a")
        ring.settle()
        ring.until("everything on both", lambda: len(ring.held("b")) == len(items), 60.0)
        return ring, wire

    def test_more_than_is_compared_at_once(self) -> None:
        """Thousands of things, spread over the ring."""
        ring, wire = self.joined(*MANY)
        self.assertEqual(ring.held("b"), {item.key for item in MANY})
        self.assertGreater(wire.count("range-digest"), 16)

    def test_a_long_log(self) -> None:
        """Thousands of keys at one ring id: no cut takes them apart."""
        chain = a_chain(3000)
        ring, _ = self.joined(*chain)
        self.assertEqual(ring.held("b"), {item.key for item in chain})

    def test_one_thing_more(self) -> None:
        """Among thousands it costs a few questions, not a list of all."""
        ring, wire = self.joined(*MANY)
        ring.run(5.0)
        ring.wait(ring.node("a").store.put([a_head(5000)]))
        wire.seen.clear()
        ring.until("it on both", lambda: len(ring.held("b")) == 2501, 120.0)
        listed = sum(body.limit for method, body in wire.seen if method == "range-list")
        self.assertLess(listed, 5000)
        self.assertLess(wire.count("range-digest"), 60)

    def test_in_both_directions(self) -> None:
        """Each gets what only the other has."""
        ring, _ = self.joined(a_chunk(1))
        ring.wait(ring.node("a").store.put([a_chunk(number) for number in range(2, 50)]))
        ring.wait(ring.node("b").store.put([a_chunk(number) for number in range(50, 100)]))
        everything = {a_chunk(number).key for number in range(1, 100)}
        ring.until("all on both", lambda: ring.held("a") == ring.held("b") == everything, 120.0)

    def test_equal_nodes_say_little(self) -> None:
        """When nothing differs, digests are all that is asked."""
        ring, wire = self.joined(*MANY[:200])
        ring.run(40.0)
        wire.seen.clear()
        ring.run(100.0)
        self.assertEqual(wire.count("range-list", "fetch", "push"), 0)
        self.assertGreater(wire.count("range-digest"), 0)


class LyingTests(SynchronousTestCase):
    """A holder that answers nonsense costs a question or two, and no more."""

    def with_liar(self, **lies: Callable[[Any, Any], Any]) -> tuple[Ring, Wire]:
        """Three nodes with something, one of which lies; a fourth joins."""
        ring = Ring("abc")
        assert all(out.certain for out in ring.put([a_head(number) for number in range(60)]))
        wire = Wire(ring.node("b"))
        for method, lie in lies.items():
            wire.after(method.replace("_", "-"), lie)
        ring.world.start("s", "a")
        ring.settle(voters=False)
        ring.run(20.0)
        return ring, wire

    def check_served(self, ring: Ring) -> None:
        """The new node has what it should, from those that tell the truth."""
        for number in range(60):
            head = a_head(number)
            if "s" in ring.around(head.key.ring_id)[:3]:
                self.assertIn("s", ring.holders(head.key))
        self.assertEqual(len(ring.held("s") - {a_head(number).key for number in range(60)}), 0)

    def test_a_list_without_an_end(self) -> None:
        """Page after page of things that are not there."""
        count = 0

        def endless(body: Any, page: KeyPage) -> KeyPage:
            nonlocal count
            count += 1
            start = int.from_bytes(body.after, "big")
            keys = tuple(
                ItemKey(((start + 1000 * count + n) % (1 << 160)).to_bytes(20, "big"), OWNER, Kind.HEAD, bytes(32))
                for n in range(900)
            )
            return KeyPage(keys, keys[-1])

        ring, wire = self.with_liar(range_list=endless, range_digest=_differ)
        self.assertGreater(count, 0)
        asked: dict[Any, int] = {}
        for method, body in wire.seen:
            if method == "range-list" and body.cursor is not None:
                asked[body.after] = asked.get(body.after, 0) + 1
        # At most a few pages in each of some ten rounds of three askers.
        self.assertLess(max(asked.values(), default=0), 400)
        self.check_served(ring)

    def test_the_same_page_for_ever(self) -> None:
        """A cursor that leads back to the start."""

        def again(body: Any, page: KeyPage) -> KeyPage:
            return KeyPage(page.keys, page.keys[-1] if page.keys else None)

        ring, _ = self.with_liar(range_list=again, range_digest=_differ)
        self.check_served(ring)

    def test_items_that_are_not_what_they_were_fetched_as(self) -> None:
        """Judged like anybody's: refused, and taken from others."""

        def spoilt(body: Any, answer: Items) -> Items:
            return Items(tuple(Item(item.key, item.statement, item.data + b"!") for item in answer.items), answer.more)

        ring, _ = self.with_liar(fetch=spoilt)
        self.check_served(ring)

    def test_items_that_nobody_asked_for(self) -> None:
        """They are not kept."""
        ring, _ = self.with_liar(fetch=lambda body, answer: Items((a_head(777), *answer.items), answer.more))
        self.check_served(ring)

    def test_digests_that_never_fit(self) -> None:
        """A node that always claims to differ."""
        ring, wire = self.with_liar(range_digest=_differ)
        self.check_served(ring)
        self.assertLess(wire.count("range-list"), 400)


def _differ(body: Any, told: Any) -> Any:
    """The right count, and another digest."""
    return type(told)(told.count, bytes(32))
