"""The voting rules of one arc: walked at random, and each rule proven needed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from peerstore.node import votes
from peerstore.node.votes import ArcVotes, Sealed, Standing, VoterList
from tests.support.votes_model import Broken, ModelHost, ModelWorld

STEPS = 1500
LINE = b"L" * 16
A, B, C, D = (bytes([letter]) * 32 for letter in b"ABCD")


def voting(arc: ArcVotes) -> ArcVotes:
    """The same arc, with a vote that was not earned."""
    return msgspec.structs.replace(arc, capable=True, full=True)


def walk(seed: int, steps: int = STEPS) -> Counter[str]:
    """One seed: many events, then rest."""
    rng = random.Random(seed)
    world = ModelWorld(seed, rng.choice([2, 3, 4, 5, 6]), rng.choice([1, 2, 3, 3, 3, 4, 5]), wipes=seed % 2 == 0)
    for _ in range(steps):
        world.step()
    world.rest()
    return world.counts


def islands(seed: int, eras: int = 8) -> Counter[str]:
    """One seed: hosts that are in two parts, and in two others, again and again."""
    world = ModelWorld(seed, random.Random(seed).choice([4, 5, 6]), wipes=False)
    for _ in range(eras):
        world.era()
    world.rest()
    return world.counts


class PromiseTests(SynchronousTestCase):
    """What was certain is in every complete read that begins later."""

    def test_random_walks(self) -> None:
        """Crashes, cuts, false suspicion, lost disks, copies dropped: no walk breaks it, and all come to rest."""
        counts: Counter[str] = Counter()
        for seed in range(60):
            counts += walk(seed)
        for kind in ("certain", "complete", "settled", "crashes", "disks", "left"):
            self.assertGreater(counts[kind], 10, kind)

    def test_islands(self) -> None:
        """Whichever sides the hosts fall into, one after the other: at most one has the majority."""
        counts: Counter[str] = Counter()
        for seed in range(300):
            counts += islands(seed)
        for kind in ("certain", "complete", "settled", "left"):
            self.assertGreater(counts[kind], 10, kind)

    def test_two_rings_become_one(self) -> None:
        """Hosts that began as rings of their own agree in the end, and all have everything."""
        for seed in range(20):
            world = ModelWorld(seed, hosts=5, founders=2)
            for number, host in enumerate(world.hosts):
                host.data.add(number)
                if not host.up:
                    host.start()
            world.rest()
            for host in world.hosts[:3]:
                self.assertEqual(host.data, {0, 1, 2, 3, 4})


class MutationTests(SynchronousTestCase):
    """Each rule is needed: without it, some walk breaks the promise."""

    def breaks(self, by: Callable[[int], object] = walk, **changes: Any) -> None:
        """Some walk fails with these functions in place of the real ones."""
        for name, function in changes.items():
            self.patch(votes, name, function)
        for seed in range(400):
            try:
                by(seed)
            except Broken:
                return
        self.fail(f"no walk notices a change of {', '.join(changes)}")

    def test_who_asks_nobody(self) -> None:
        """Voting without having taken anything in."""
        self.breaks(judged=lambda arc, me, *_: voting(arc) if me in arc.named.hosts and arc.named.epoch else arc)

    def test_less_than_a_majority_of_each_list(self) -> None:
        """One host of each earlier list is not enough."""

        def lazy(arc: ArcVotes, me: bytes, born: int, sealed: Any, retired: Any, alone: bool) -> ArcVotes:
            have = {one.fp for one in sealed if one.name[0].voters == arc.named.voters} | {me}
            enough = me in arc.named.hosts and all(have & set(one.hosts) for one in arc.history)
            return voting(arc) if enough and arc.named.epoch else arc

        def joins() -> bool:
            """Hosts 1 to 3 vote; host 0 comes, and asks only one of them."""
            world = ModelWorld(5, hosts=4, wipes=False)
            for host in world.hosts:
                host.crash()
                host.lose_disk()
            first, *rest = world.hosts
            rest[0].start(found=True)
            for host in rest[1:]:
                host.start()
            for a in (*rest, *rest):
                for b in rest:
                    if a is not b:
                        a.ask(b)
            self.assertTrue(all(host.votes for host in rest))
            first.start()
            first.ask(rest[0])
            return first.votes

        self.assertFalse(joins())
        self.patch(votes, "judged", lazy)
        self.assertTrue(joins())

    def test_history_that_is_not_told(self) -> None:
        """Not taking over what others say was in force."""
        real = votes.learned
        self.breaks(learned=lambda arc, name, covered: real(arc, (name[0], ()), covered))

    def test_history_that_is_not_kept(self) -> None:
        """Forgetting the list before this one as soon as there is another."""
        real = votes.with_view
        self.breaks(with_view=lambda arc, me, chosen: msgspec.structs.replace(real(arc, me, chosen), history=()))

    def test_an_arc_left_to_others_that_is_forgotten(self) -> None:
        """Knowing nothing of those to whom it was left, having dropped what was there."""
        self.breaks(islands, left_to=lambda *_: ArcVotes())

    def test_history_settled_by_those_who_are_not_full(self) -> None:
        """Forgetting it as soon as a majority may vote."""
        self.patch(ArcVotes, "full", property(lambda arc: arc.capable))
        for seed in range(2000):
            try:
                walk(seed)
            except Broken:
                return
        self.fail("no walk notices")

    def test_who_lost_its_disk_is_waited_for(self) -> None:
        """For ever, where a list has no majority without it."""
        self.breaks(_is_enough=lambda voters, have, lost: have >= votes.majority(voters))

    def test_lists_that_do_not_count_up(self) -> None:
        """Lists with equal voters, made at different times, are taken for one."""
        self.patch(ArcVotes, "name", property(lambda arc: (VoterList(LINE, 1, arc.named.voters), ())))
        self.breaks()

    def test_a_disk_that_forgot_is_believed(self) -> None:
        """Counting a host for a life of which its disk knows nothing."""
        real = votes.judged

        def trusting(arc: ArcVotes, me: bytes, born: int, sealed: Any, retired: Any, alone: bool) -> ArcVotes:
            return real(arc, me, 0, [one._replace(born=0) for one in sealed], retired, alone)

        def wiped() -> None:
            world = ModelWorld(1, hosts=3, wipes=False)
            for host in world.hosts:
                if not host.up:
                    host.start()
            world.rest()
            a, b, c = world.hosts
            a.crash()
            b.data.add(7)
            c.data.add(7)
            # b keeps its key and loses its disk, c is gone for good.
            b.crash()
            b.lose_disk()
            c.crash()
            world.now += 10
            a.start()
            b.start()
            for one in (a, b):
                one.suspect(c)
            for _ in range(4):
                a.ask(b)
                b.ask(a)
            self.assertEqual(a.data, set())
            self.voting = a.votes and b.votes

        wiped()
        self.assertFalse(self.voting)
        self.patch(votes, "judged", trusting)
        wiped()
        self.assertTrue(self.voting)


class RuleTests(SynchronousTestCase):
    """The rules one by one."""

    def one(self, epoch: int, *voters: bytes) -> VoterList:
        """A list of these hosts in their first lives."""
        return VoterList(LINE, epoch, tuple((fp, 1) for fp in voters))

    def judge(self, arc: ArcVotes, *sealed: Sealed, alone: bool = False, retired: bytes = b"") -> ArcVotes:
        """What D, or A, makes of these answers."""
        me = arc.named.hosts[0]
        return votes.judged(arc, me, 1, sealed, frozenset([retired]), alone)

    def test_the_first_host_votes_at_once(self) -> None:
        """A ring of one needs nobody."""
        arc = votes.first_arc(LINE, A, 1)
        self.assertTrue(arc.capable)
        self.assertEqual(arc.named, self.one(1, A))

    def test_a_member_stays_capable_when_others_come(self) -> None:
        """What it held it goes on holding; the list before is history."""
        arc = votes.with_view(votes.first_arc(LINE, A, 1), A, ((B, 1), (A, 1)))
        self.assertEqual(arc, ArcVotes(self.one(2, B, A), (self.one(1, A),), capable=True))

    def test_who_is_left_out_votes_no_more(self) -> None:
        """And does not vote at once when it is back on the list."""
        arc = votes.with_view(votes.first_arc(LINE, A, 1), A, ((B, 1),))
        self.assertFalse(arc.capable)
        self.assertFalse(votes.with_view(arc, A, ((A, 1),)).capable)

    def test_a_start_ends_all_votes(self) -> None:
        """The disk may be an older one."""
        self.assertFalse(votes.restarted(votes.first_arc(LINE, A, 1)).capable)

    def test_nobody_votes_for_an_arc_that_nobody_told_it_of(self) -> None:
        """Whoever comes to an arc first asks those who had it."""
        arc = votes.with_view(ArcVotes(), A, ((A, 1),))
        self.assertEqual(arc.named.epoch, 0)
        self.assertFalse(self.judge(arc, alone=True).capable)

    def test_a_majority_of_each_list(self) -> None:
        """Two of three, each having taken our view over."""
        arc = ArcVotes(self.one(2, D, A, B), (self.one(1, A, B, C),))
        a, b = (Sealed(fp, 1, arc.name, False) for fp in (A, B))
        self.assertTrue(self.judge(arc, a, b).full)
        self.assertFalse(self.judge(arc, a, alone=True).capable)
        older = a._replace(name=(self.one(1, A, B, C), ()))
        self.assertFalse(self.judge(arc, older, b).capable)

    def test_those_retired_are_left_out(self) -> None:
        """A host that is gone for good is not waited for."""
        arc = ArcVotes(self.one(2, A, C), (self.one(1, A, B),))
        self.assertFalse(self.judge(arc, alone=True).capable)
        self.assertTrue(self.judge(arc, alone=True, retired=B).capable)

    def test_who_has_lost_its_disk_is_not_waited_for(self) -> None:
        """Of two voters the other has what was certain; of one alone nothing
        was; of three both others are asked."""
        for voters, asked, enough in (
            ((B, A), A, True),
            ((B,), b"", True),
            ((A, B, C), A, False),
            ((A, B, C), A + C, True),
        ):
            arc = ArcVotes(self.one(2, D, A, B), (self.one(1, *voters),))
            lost = Sealed(B, 2, arc.name, False)
            others = [Sealed(fp, 1, arc.name, False) for fp in (A, C) if fp in asked]
            self.assertEqual(self.judge(arc, lost, *others).capable, enough, (voters, asked))

    def test_too_many_lost_disks_are_waited_for(self) -> None:
        """Two of three, or of two: what was certain may be nowhere."""
        for voters in ((A, B, C), (B, C)):
            arc = ArcVotes(self.one(2, D, A, B), (self.one(1, *voters),))
            lost = [Sealed(fp, 2, arc.name, False) for fp in (B, C)]
            self.assertFalse(self.judge(arc, *lost, Sealed(A, 1, arc.name, False), alone=True).capable)

    def test_we_count_ourselves_only_when_nobody_else_can_be_asked(self) -> None:
        """Just after a start; while we run, our own disk is as good as any."""
        arc = ArcVotes(self.one(2, A, C), (self.one(1, A),))
        self.assertFalse(self.judge(arc).capable)
        self.assertTrue(self.judge(arc, alone=True).capable)
        self.assertTrue(self.judge(msgspec.structs.replace(arc, capable=True)).full)

    def test_settled_history_is_forgotten_and_not_learned_again(self) -> None:
        """A late host that still tells of it changes nothing."""
        arc = ArcVotes(self.one(2, B, A), (self.one(1, A),), (), True, True)
        rest = votes.settled(arc, arc.name)
        self.assertEqual(rest, ArcVotes(self.one(2, B, A), (), ((LINE, 1),), True, True))
        self.assertEqual(votes.learned(rest, (self.one(1, A), ()), ()), rest)
        self.assertEqual(votes.settled(arc, (self.one(7, A), ())), arc)

    def test_a_list_one_was_no_member_of_has_to_be_taken_in(self) -> None:
        """Hearing of one ends the vote until it is."""
        arc = ArcVotes(self.one(2, B, A), (), ((LINE, 1),), True)
        heard = votes.learned(arc, (self.one(3, B, C), ()), ())
        self.assertEqual(heard, ArcVotes(self.one(4, B, A), (self.one(3, B, C),), ((LINE, 1),)))

    def test_the_same_voters_are_one_list(self) -> None:
        """Under whichever number others have them, the higher counts."""
        arc = ArcVotes(self.one(2, B, A), (), ((LINE, 1),), True)
        heard = votes.learned(arc, (self.one(5, B, A), ()), ())
        self.assertEqual(heard, ArcVotes(self.one(5, B, A), (), ((LINE, 1),), True))

    def test_what_is_told_again_is_no_news(self) -> None:
        """A part of what is known, or all of it, leaves a state as it is, and
        its vote; one epoch, one list or one mark more does not."""
        old = (self.one(3, A, C), self.one(4, C))
        arc = ArcVotes(self.one(5, B, A), old, ((LINE, 2),), True, True)
        for name in ((arc.named, old), (arc.named, old[1:]), (old[0], ()), (votes.NOBODY, old)):
            for covered in ((), ((LINE, 1),), arc.covered):
                self.assertEqual(votes.learned(arc, name, covered), arc)
        self.assertEqual(votes.learned(arc, (self.one(6, B, A), old), ()).named, self.one(6, B, A))
        self.assertIn(self.one(4, A, C), votes.learned(arc, (arc.named, (self.one(4, A, C),)), ()).history)
        self.assertFalse(votes.learned(arc, (arc.named, (self.one(3, B, C),)), ()).capable)
        self.assertEqual(votes.learned(arc, (arc.named, old), ((LINE, 3),)).history, (old[1],))

    def test_views_join_by_later_knowledge(self) -> None:
        """The later life counts, and in one life death does."""
        alive, dead, back = Standing(1, False), Standing(1, True), Standing(2, False)
        self.assertEqual(votes.join_views({A: alive}, {A: dead}), {A: dead})
        self.assertEqual(votes.join_views({A: dead}, {A: back, B: alive}), {A: back, B: alive})

    def test_a_host_alone_without_the_majority_never_votes(self) -> None:
        """Taking the others for dead does not make a majority."""
        world = ModelWorld(3, hosts=3, wipes=False)
        for host in world.hosts:
            if not host.up:
                host.start()
        world.rest()
        lone: ModelHost = world.hosts[0]
        lone.suspect(world.hosts[1])
        lone.suspect(world.hosts[2])
        self.assertEqual(lone.needed, 2)
        self.assertEqual(lone.arc.named.hosts, (lone.fp,))
