"""How a node goes: for a while, or for good; in simulated rings."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import DiskFull, UsageError
from peerstore.items import Item
from peerstore.node import exchange
from peerstore.node.holding import HAND_OVER, Holding
from peerstore.node.service import LEAVE
from peerstore.wire.bodies import Confirmed, Push, Pushed
from tests.support.rings import Ring, Wire
from tests.support.things import OWNER, a_chain, a_chunk, a_head

THINGS: list[Item] = [make(number) for make in (a_chunk, a_head) for number in range(15)]
EVERYTHING = THINGS + a_chain(10)


class FarewellTestCase(SynchronousTestCase):
    """Rings in which one goes."""

    def holding(self, ring: Ring, name: str) -> Holding:
        """A host's."""
        holding = ring.node(name).holding
        assert holding is not None
        return holding

    def filled(self, names: str) -> Ring:
        """A ring with some of everything."""
        ring = Ring(names)
        self.assertTrue(all(outcome.certain for outcome in ring.put(EVERYTHING, patience=60.0)))
        return ring

    def check_held(self, ring: Ring) -> None:
        """Everything is on the first three hosts that there are, or on all."""
        held = {name: ring.held(name) for name in ring.names()}
        for item in EVERYTHING:
            for name in ring.around(item.key.ring_id)[:3]:
                self.assertIn(item.key, held[name], name)


class ForAWhileTests(FarewellTestCase):
    """A polite stop: back soon."""

    def owing(self) -> tuple[Ring, str, list[Item]]:
        """A ring of three, one of whom could tell nobody of what it took a moment ago."""
        ring = Ring("abc")
        owner = ring.around(a_chunk(1).key.ring_id)[0]
        others = [name for name in "abc" if name != owner]
        mine = [item for item in THINGS if ring.around(item.key.ring_id)[0] == owner]
        cut = ring.world.cut([owner], others)
        ring.put(mine, ring.client(owner), patience=1.0)
        self.assertEqual(len(self.holding(ring, owner).debts), len(mine))
        ring.world.mend(cut)
        # Before anybody else could see to it.
        for name in others:
            self.holding(ring, name).replicator.stop()
            self.holding(ring, name).canvass.stop()
        self.holding(ring, owner).replicator.stop()
        return ring, owner, mine

    def test_what_is_owed_is_given(self) -> None:
        """What too few others have is pushed to them before it ends."""
        ring, owner, mine = self.owing()
        ring.run(5.0)
        self.assertTrue(all(ring.holders(item.key) == owner for item in mine))
        ring.wait(ring.world.hosts[owner].leave())
        for item in mine:
            self.assertEqual(ring.holders(item.key), "".join(ring.names()))

    def test_what_is_certain_with_us_alone(self) -> None:
        """One other has it: with us that is a majority, without us it is none, so the third gets it, too."""
        ring = Ring("abc")
        owner, _, third = ring.around(a_chunk(1).key.ring_id)
        mine = [item for item in THINGS if ring.around(item.key.ring_id)[0] == owner]
        wire = Wire(ring.node(third))
        wire.instead("push", lambda _: Deferred())
        outcomes = ring.put(mine, ring.client(owner))
        self.assertTrue(all(outcome.certain for outcome in outcomes))
        wire.heal()
        # Before anybody else could see to it.
        for name in "abc":
            self.holding(ring, name).replicator.stop()
            self.holding(ring, name).canvass.stop()
        self.assertTrue(all(third not in ring.holders(item.key) for item in mine))
        ring.wait(ring.world.hosts[owner].leave())
        for item in mine:
            self.assertIn(third, ring.holders(item.key))

    def test_hardly_anybody_takes_it(self) -> None:
        """They take a long time for each thing: after a minute it goes all the same."""
        ring, owner, mine = self.owing()
        self.assertGreater(len(mine), 3)
        self.patch(exchange, "PUSH_ITEMS", 1)

        def slowly(body: Push) -> Deferred[Pushed]:
            done: Deferred[Pushed] = Deferred()
            ring.world.clock.callLater(25.0, done.callback, Pushed((0,) * len(body.items), (b"",) * len(body.items), 2))
            return done

        for name in ring.names():
            if name != owner:
                Wire(ring.node(name)).instead("push", slowly)
        # By then they are dialled again.
        ring.run(5.0)
        began = ring.world.clock.seconds()
        ring.wait(ring.world.hosts[owner].leave(), 200.0)
        took = ring.world.clock.seconds() - began
        self.assertTrue(HAND_OVER <= took <= HAND_OVER + LEAVE + 1.0, took)

    def test_nothing_is_owed(self) -> None:
        """It goes at once, and pushes nothing: it will be back."""
        ring = self.filled("abcd")
        ring.run(5.0)
        wires = [Wire(ring.node(name)) for name in "acd"]
        ring.wait(ring.world.hosts["b"].leave())
        self.assertEqual(sum(wire.count("push") for wire in wires), 0)
        ring.run(60.0)
        ring.world.start("b", "a")
        ring.settle()
        ring.run(60.0)
        self.check_held(ring)


class ForGoodTests(FarewellTestCase):
    """Retired: nothing is missed."""

    def retiring(self, ring: Ring, name: str) -> tuple[list[Any], list[int]]:
        """Begun; how it ended, and what is left from time to time."""
        ended: list[Any] = []
        left: list[int] = []
        self.holding(ring, name).retire(left.append).addBoth(ended.append)
        return ended, left

    def test_it_hands_over(self) -> None:
        """When it is done, all it had is on three others, who count it no more."""
        ring = self.filled("abcde")
        ended, left = self.retiring(ring, "b")
        ring.until("the end", lambda: ended, 300.0)
        self.assertEqual((ended, left[-1]), ([None], 0))
        self.assertTrue(all(ring.node(name).hosts.is_retired(ring.fp("b")) for name in "b"))
        ring.world.hosts["b"].crash()
        ring.until("all know", lambda: all(ring.node(name).hosts.is_retired(ring.fp("b")) for name in "acde"))
        self.check_held(ring)
        ring.settle()
        gateway = ring.client("acde", "reader")
        for item in THINGS[15:]:
            read = ring.wait(gateway.get_heads(item.key.ring_id, OWNER, (), 30.0))
            self.assertEqual((read.items, read.complete), ((item,), True))

    def test_it_waits_for_those_who_will_not_say_so(self) -> None:
        """While one of the others has not read what it took, it stays."""
        ring = self.filled("abcd")
        wire = Wire(ring.node("c"))
        wire.after("confirm", lambda body, answer: Confirmed(tuple(False for _ in answer.has)))
        ended, left = self.retiring(ring, "b")
        ring.run(120.0)
        self.assertEqual(ended, [])
        self.assertGreater(left[-1], 0)
        wire.heal()
        ring.until("the end", lambda: ended, 300.0)
        ring.world.hosts["b"].crash()
        self.check_held(ring)

    def test_what_stands_in_the_way_is_told(self) -> None:
        """A full disk of its own, until there is room again."""
        ring = self.filled("abcd")
        holding = self.holding(ring, "b")
        self.assertEqual(holding.farewell.trouble, "")
        store, is_full = ring.node("b").store, [True]
        real = store.keep_setting

        def keep(name: str, value: bytes) -> Deferred[Any]:
            return fail(DiskFull("No room.", "Make some.")) if is_full else real(name, value)

        self.patch(store, "keep_setting", keep)
        ended, left = self.retiring(ring, "b")
        ring.run(60.0)
        self.assertEqual(ended, [])
        self.assertEqual(holding.farewell.trouble, "No room. Make some.")
        is_full.clear()
        ring.until("the end", lambda: ended, 300.0)
        self.assertEqual((holding.farewell.trouble, left[-1]), ("", 0))

    def test_nobody_is_there_any_more(self) -> None:
        """All others went away meanwhile: it says so, and waits for them."""
        ring = self.filled("abcd")
        ended, _ = self.retiring(ring, "b")
        for name in "acd":
            ring.world.hosts[name].crash()
        ring.until("a word", lambda: self.holding(ring, "b").farewell.trouble, 120.0)
        self.assertIn("No other node", self.holding(ring, "b").farewell.trouble)
        self.assertEqual(ended, [])

    def test_a_disk_that_fails_for_a_while(self) -> None:
        """It is said once, and it goes on when the disk does."""
        ring = self.filled("abcd")
        store, failures = ring.node("b").store, [DiskFull("No room.") for _ in range(5)]
        real = store.range_digest

        def digest(*arguments: Any) -> Deferred[Any]:
            return fail(failures.pop()) if failures else real(*arguments)

        self.patch(store, "range_digest", digest)
        ended, left = self.retiring(ring, "b")
        ring.until("the end", lambda: ended, 300.0)
        self.assertEqual((ended, left[-1], failures), ([None], 0, []))
        ring.world.hosts["b"].crash()
        self.check_held(ring)

    def test_it_serves_meanwhile(self) -> None:
        """What clients bring while it goes is with others, too, when it is gone."""
        ring = self.filled("abcd")
        ended, _ = self.retiring(ring, "b")
        gateway = ring.client()
        more: list[Item] = []
        for number in range(100, 140):
            more.append(a_head(number))
            (outcome,) = ring.put(more[-1:], gateway)
            self.assertTrue(outcome.certain)
            if ended:
                break
        ring.until("the end", lambda: ended, 300.0)
        ring.world.hosts["b"].crash()
        for item in more:
            self.assertGreaterEqual(len(ring.holders(item.key)), 2, item.key)

    def test_down_to_one(self) -> None:
        """Of two, one goes: the other has everything, and votes alone."""
        ring = self.filled("ab")
        ended, _ = self.retiring(ring, "b")
        ring.until("the end", lambda: ended, 300.0)
        ring.world.hosts["b"].crash()
        self.check_held(ring)
        ring.until("a vote alone", lambda: self.holding(ring, "a").electorate.needed == 1)
        (outcome,) = ring.put([a_head(500)], ring.client("a"))
        self.assertTrue(outcome.certain)

    def test_nobody_to_take_it(self) -> None:
        """The only node there is does not go."""
        ring = self.filled("a")
        ended, _ = self.retiring(ring, "a")
        ring.until("an answer", lambda: ended)
        ended[0].trap(UsageError)
        (outcome,) = ring.put([a_head(500)])
        self.assertTrue(outcome.certain)

    def test_a_crash_in_the_middle(self) -> None:
        """It is a member as before, in its next life, and can be asked again."""
        ring = self.filled("abcd")
        for name in "acd":
            Wire(ring.node(name)).after("confirm", lambda body, answer: Confirmed(tuple(False for _ in answer.has)))
        ended, _ = self.retiring(ring, "b")
        ring.run(20.0)
        ring.world.hosts["b"].crash()
        self.assertEqual(ended, [])
        ring.world.start("b", "a")
        ring.settle()
        self.assertFalse(ring.node("b").hosts.is_retired(ring.fp("b")))
        votes = [self.holding(ring, "b").electorate.vote(item.key.ring_id).name for item in THINGS]
        self.assertTrue(any(votes))

    def test_all_others_go_dark_at_its_last_look(self) -> None:
        """It stays until they are back, or others in their place, and hears of
        it: then it goes.  It takes things as long as it stays."""
        ring = self.filled("abcd")
        keeper = self.holding(ring, "b").mender._keeper
        close, dark = keeper.close, ["a", "c", "d"]

        def at_that_moment() -> Deferred[None]:
            while dark:
                ring.world.hosts[dark.pop()].crash(silent=True)
            return close()

        self.patch(keeper, "close", at_that_moment)
        ended, _ = self.retiring(ring, "b")
        ring.until("the power cut", lambda: not dark, 300.0)
        ring.run(30.0)
        self.assertEqual(ended, [])
        self.assertFalse(keeper.closed)
        for name in "acd":
            ring.world.start(name, "b")
        ring.until("the end", lambda: ended, 300.0)
        self.assertEqual((ended, keeper.closed), ([None], True))
        ring.world.hosts["b"].crash()
        ring.run(60.0)
        self.check_held(ring)

    def test_two_requests(self) -> None:
        """Asked twice, it is one farewell, and both are told how it goes."""
        ring = self.filled("abcd")
        one, first = self.retiring(ring, "b")
        other, second = self.retiring(ring, "b")
        ring.until("the end", lambda: one and other, 300.0)
        self.assertEqual((one, other, first[-1], second[-1]), ([None], [None], 0, 0))


class LostTests(FarewellTestCase):
    """Another host is given up."""

    def test_it_is_counted_no_more(self) -> None:
        """With two of three lost, the third votes alone once both are given up, and says what it has."""
        ring = self.filled("abc")
        for name in "bc":
            ring.world.hosts[name].crash()
        ring.run(60.0)
        holding = self.holding(ring, "a")
        for name in "bc":
            holding.retire_lost(ring.fp(name).hex()[:12])
        ring.until("a vote alone", lambda: holding.electorate.vote(THINGS[20].key.ring_id).name, 300.0)
        gateway = ring.client("a", "reader")
        read = ring.wait(gateway.get_heads(THINGS[20].key.ring_id, OWNER, (), 30.0))
        self.assertEqual((read.items, read.complete), ((THINGS[20],), True))

    def test_it_is_on_disk_when_that_is_said(self) -> None:
        """A power cut right afterwards does not bring the lost one back; and to say it again does no harm."""
        ring = self.filled("abc")
        ring.world.hosts["b"].crash()
        ring.run(60.0)
        for name in (ring.fp("b").hex(), ring.fp("b").hex(), ring.fp("b").hex()[:8], ring.fp("b").hex()[:8].upper()):
            ring.wait(self.holding(ring, "a").retire_lost(name))
        ring.world.hosts["c"].crash()
        ring.world.hosts["a"].crash(silent=True)
        ring.world.start("a")
        ring.run(1.0)
        self.assertTrue(ring.node("a").hosts.is_retired(ring.fp("b")))

    def test_who_cannot_be_given_up(self) -> None:
        """One that lives, one that nobody knows, a name that is too short, ourselves."""
        ring = Ring("abc")
        holding = self.holding(ring, "a")
        for name in (ring.fp("b").hex(), ring.fp("a").hex(), "00" * 32, ring.fp("b").hex()[:7], "", "None", "zz" * 8):
            self.assertRaises(UsageError, holding.retire_lost, name)

    def test_too_few_digits(self) -> None:
        """That is said, not that nobody is called like that."""
        ring = Ring("abc")
        error: Any = self.assertRaises(UsageError, self.holding(ring, "a").retire_lost, ring.fp("b").hex()[:7])
        self.assertIn("at least eight digits", error.next_step)
