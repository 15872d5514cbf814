"""Rounds in which hosts come to agree on who votes: in simulated rings."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from peerstore.node.electorate import Electorate
from peerstore.wire.bodies import GetHeads
from peerstore.wire.voting import ArcTold, Attached, VoterList
from tests.support.rings import Ring, Wire
from tests.support.things import OWNER, a_head

HEADS = [a_head(number) for number in range(12)]
#: An arc that has no beginning.
ODD = ArcTold(b"", bytes(20), VoterList(bytes(16), 0, ()), (), (), True, True)


class CanvassTestCase(SynchronousTestCase):
    """Looks at who votes."""

    def electorate(self, ring: Ring, name: str) -> Electorate:
        """One host's."""
        holding = ring.node(name).holding
        assert holding is not None
        return holding.electorate

    def votes(self, ring: Ring, name: str, ring_id: bytes) -> bool:
        """Whether a host's answer about a key counts, by its answer."""
        return bool(ring.ask(name, "get-heads", GetHeads(ring_id, OWNER, ())).vote.name)

    def check_reads(self, ring: Ring, peers: str = "") -> None:
        """All heads are read, and nothing is missing for sure."""
        gateway = ring.client(peers, "reader")
        for head in HEADS:
            read = ring.wait(gateway.get_heads(head.key.ring_id, OWNER, (), 30.0))
            self.assertEqual((read.items, read.complete), ((head,), True))


class GrowthTests(CanvassTestCase):
    """A ring that grows."""

    def test_from_one_to_six(self) -> None:
        """At each size all agree, and what one took alone is read from those who vote by now."""
        ring = Ring("a")
        self.assertTrue(all(outcome.certain for outcome in ring.put(HEADS)))
        for more in ("b", "c", "def"):
            for name in more:
                ring.world.start(name, "a")
            ring.settle()
            for head in HEADS:
                around = ring.around(head.key.ring_id)
                voters = [name for name in around if self.votes(ring, name, head.key.ring_id)]
                self.assertEqual(voters, around[:3])
            self.check_reads(ring)

    def test_at_rest(self) -> None:
        """Once all agree, hardly a word is spent on it."""
        ring = Ring("abcdef")
        ring.run(30.0)
        wires = [Wire(ring.node(name)) for name in ring.names()]
        ring.run(250.0)
        self.assertLess(sum(wire.count("attach") for wire in wires), 100)
        versions = [self.electorate(ring, name).version for name in ring.names()]
        ring.run(250.0)
        self.assertEqual([self.electorate(ring, name).version for name in ring.names()], versions)

    def test_two_at_once(self) -> None:
        """Two that come together ask the others, and each other."""
        ring = Ring("abc")
        self.assertTrue(all(outcome.certain for outcome in ring.put(HEADS)))
        ring.world.start("s", "a")
        ring.world.start("t", "b")
        ring.settle()
        self.check_reads(ring)


class SuspicionTests(CanvassTestCase):
    """A host is taken for dead, and is not."""

    def test_it_votes_again(self) -> None:
        """It hears of it, begins its next life, and is a voter as before."""
        ring = Ring("abcd")
        ring.put(HEADS)
        life = self.electorate(ring, "b").life
        self.electorate(ring, "a").suspect(ring.fp("b"))
        ring.until("its next life", lambda: self.electorate(ring, "b").life > life)
        ring.settle()
        for head in HEADS:
            around = ring.around(head.key.ring_id)
            self.assertEqual([self.votes(ring, name, head.key.ring_id) for name in around], [True] * 3 + [False])
        self.check_reads(ring)

    def test_two_that_never_reach_each_other(self) -> None:
        """While others reach both: neither makes the other begin life after
        life, and what is put meanwhile is certain."""
        ring = Ring("abcd")
        ring.put(HEADS)
        lives: dict[str, set[int]] = {name: set() for name in "abcd"}
        ring.world.cut("a", "b")
        for _ in range(600):
            ring.run(1.0)
            for name, seen in lives.items():
                seen.add(self.electorate(ring, name).life)
        for name, most in (("a", 10), ("b", 10), ("c", 1), ("d", 1)):
            self.assertLessEqual(len(lives[name]), most, name)
        self.assertTrue(all(outcome.certain for outcome in ring.put([a_head(99)])))

    def test_much_that_fails_at_once(self) -> None:
        """However much of one round a host does not answer, that is one failure; and in the next round it
        is heard from again: nobody is dead for it."""
        ring = Ring("abc", virtual_nodes=4)
        life = self.electorate(ring, "b").life
        wire = Wire(ring.node("b"))
        wire.instead("range-digest", lambda body: Deferred())
        ring.world.hosts["a"].crash()
        ring.world.start("a", "c")
        ring.run(250.0)
        self.assertGreater(wire.count("range-digest"), 3)
        self.assertEqual(self.electorate(ring, "b").life, life)


class MajorityTests(CanvassTestCase):
    """W of a list are gone for a while, or all are."""

    def test_it_is_gone(self) -> None:
        """Nothing is certain and nothing complete, but what there is is found; when they are back it is both."""
        ring = Ring("abc")
        self.assertTrue(all(outcome.certain for outcome in ring.put(HEADS)))
        for name in "bc":
            ring.world.hosts[name].crash()
        ring.run(60.0)
        gateway = ring.client("a", "reader")
        read = ring.wait(gateway.get_heads(HEADS[0].key.ring_id, OWNER, (), 5.0))
        self.assertEqual((read.items, read.complete), ((HEADS[0],), False))
        (outcome,) = ring.put([a_head(99)], ring.client("a"), patience=5.0)
        self.assertFalse(outcome.certain)
        ring.run(600.0)
        self.assertEqual(self.electorate(ring, "a").needed, 2)
        for name in "bc":
            ring.world.start(name, "a")
        ring.settle()
        self.check_reads(ring)
        (outcome,) = ring.put([a_head(99)], ring.client("ac"))
        self.assertTrue(outcome.certain)

    def test_the_third_is_given_up(self) -> None:
        """Of two that went one after the other only one comes back: the list of the two that were left in
        between may have something that only they know of, until the other is retired."""
        ring = Ring("abc")
        self.assertTrue(all(outcome.certain for outcome in ring.put(HEADS)))
        for name in "bc":
            ring.world.hosts[name].crash()
        ring.run(60.0)
        ring.world.start("c", "a")
        ring.run(60.0)
        holding = ring.node("a").holding
        assert holding is not None
        holding.retire_lost(ring.fp("b").hex())
        ring.settle()
        self.check_reads(ring, "ac")

    def test_a_power_cut(self) -> None:
        """All are gone at once; when all are back, everything is there, and they vote."""
        ring = Ring("abcd")
        self.assertTrue(all(outcome.certain for outcome in ring.put(HEADS)))
        ring.run(10.0)
        for name in "abcd":
            ring.world.hosts[name].crash(silent=True)
        for name in "abcd":
            ring.world.start(name)
        ring.settle()
        self.check_reads(ring)

    def test_one_of_two(self) -> None:
        """One of two that were a ring does not vote alone; when the other is back, both do."""
        ring = Ring("ab")
        self.assertTrue(all(outcome.certain for outcome in ring.put(HEADS)))
        ring.world.hosts["a"].crash()
        ring.world.hosts["b"].crash()
        ring.world.start("a")
        ring.run(2.0)
        self.assertFalse(any(self.votes(ring, "a", head.key.ring_id) for head in HEADS))
        ring.world.start("b", "a")
        ring.settle()
        self.check_reads(ring)


class NonsenseTests(CanvassTestCase):
    """Answers that no host of ours gives."""

    def test_nobody_is_dead_for_it(self) -> None:
        """A host that answers with nonsense is there: its life is left alone."""
        ring = Ring("abc")
        wire = Wire(ring.node("c"))
        wire.after("attach", lambda body, answer: Attached((), 1, answer.view, (ODD,)))
        life = self.electorate(ring, "c").life
        ring.world.hosts["a"].crash()
        ring.world.start("a", "b")
        ring.run(60.0)
        self.assertGreater(wire.count("attach"), 3)
        self.assertEqual(self.electorate(ring, "c").life, life)
