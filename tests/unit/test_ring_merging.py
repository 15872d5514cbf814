"""Rings that were cut, rings that never met, links that work one way only."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.errors import LookupFailed
from peerstore.ring import joining
from peerstore.ring import position as steps
from peerstore.ring.lookup import Located
from tests.support.ring_net import RingNet, address_of, record_of


class MergeTestCase(SynchronousTestCase):
    """Rings that keep themselves; with or without the table of all hosts."""

    knows_all = True

    def net_of(self, count: int, virtual_nodes: int = 1, list_size: int | None = 4, prefix: str = "m") -> list[str]:
        """A ring of so many machines, which has come to rest."""
        self.net = RingNet(virtual_nodes=virtual_nodes, list_size=list_size, knows_all=self.knows_all)
        return self.another(count, prefix)

    def another(self, count: int, prefix: str) -> list[str]:
        """One more ring on the same network."""
        names = self.net.frozen(count, prefix=prefix)
        self.net.thaw(names)
        self.net.run(90)
        self.assertTrue(self.net.is_ideal(names))
        return names

    def ideal(self, seconds: float, names: list[str] | None = None) -> None:
        """All that run (or these) become one ideal ring in time."""
        self.assertTrue(self.net.until(lambda: self.net.is_ideal(names or ()), seconds), self.net.missing(names or ()))


class PartitionTests(MergeTestCase):
    """A network that is cut, and mended."""

    def check_cut(self, parts: list[list[str]], lasting: float = 120.0) -> None:
        """Each part is a ring of its own while it lasts, and one ring after."""
        for number, part in enumerate(parts):
            for other in parts[:number]:
                self.net.cut(part, other)
        for part in parts:
            self.ideal(180, part)
        self.net.run(lasting)
        self.net.heal()
        self.ideal(60)

    def test_two_halves(self) -> None:
        """Six and six."""
        names = self.net_of(12)
        self.check_cut([names[:6], names[6:]])

    def test_one_against_all(self) -> None:
        """A host that is cut off for an hour owns everything it sees, and
        comes back."""
        names = self.net_of(8)
        self.check_cut([names[:1], names[1:]], 3600)

    def test_three_islands(self) -> None:
        """Each thinks the others dead."""
        names = self.net_of(15)
        self.check_cut([names[:5], names[5:10], names[10:]])

    def test_islands_that_heal_one_after_the_other(self) -> None:
        """First two of them, then the third."""
        names = self.net_of(12)
        parts = [names[:4], names[4:8], names[8:]]
        for number, part in enumerate(parts):
            for other in parts[:number]:
                self.net.cut(part, other)
        for part in parts:
            self.ideal(180, part)
        self.net.heal()
        self.net.cut(parts[0] + parts[1], parts[2])
        self.ideal(120, parts[0] + parts[1])
        self.net.heal()
        self.ideal(120)

    def test_many_positions(self) -> None:
        """Six hosts of eight."""
        names = self.net_of(6, 8, None)
        self.check_cut([names[:3], names[3:]])

    def test_an_orphan_of_many_positions(self) -> None:
        """One host of eight positions against three: they are one ring of
        eight meanwhile, and all of them come back."""
        names = self.net_of(4, 8, None)
        self.check_cut([names[:1], names[1:]], 600)

    def test_flapping(self) -> None:
        """Cut and mended every few seconds; quiet in the end."""
        names = self.net_of(10)
        for seconds in (1, 3, 8, 2, 5, 13, 1, 20):
            self.net.cut(names[:5], names[5:])
            self.net.run(seconds)
            self.net.heal()
            self.net.run(seconds)
        self.ideal(90)

    def test_one_way(self) -> None:
        """One half can dial the other, and is not dialled back: as behind a
        router.  Nobody claims a key twice on his side, and it mends."""
        names = self.net_of(10)
        self.net.cut(names[:5], names[5:], one_way=True)
        self.net.run(180)
        for half in (names[:5], names[5:]):
            for number in range(16):
                claimed = set(self.net.owners(number * ids.RING_SIZE // 16)) & set(half)
                self.assertLessEqual(len(claimed), 1)
        self.net.heal()
        self.ideal(90)

    def test_flapping_one_way(self) -> None:
        """Now the one half cannot dial the other, now the other way round,
        now neither; never quiet for long."""
        names = self.net_of(10)
        near, far = names[:5], names[5:]
        for seconds in (1, 4, 9, 2, 15, 6, 30):
            self.net.cut(near, far, one_way=True)
            self.net.run(seconds)
            self.net.heal()
            self.net.cut(far, near, one_way=True)
            self.net.run(seconds)
            self.net.cut(near, far)
            self.net.run(seconds / 2)
            self.net.heal()
            self.net.run(1)
        self.ideal(90)

    def test_three_islands_that_flap(self) -> None:
        """Which two of them reach each other changes all the time."""
        names = self.net_of(12)
        parts = [names[:4], names[4:8], names[8:]]
        for number, seconds in enumerate((3, 11, 2, 20, 5, 40, 7)):
            self.net.heal()
            alone = number % 3
            others = [name for at, part in enumerate(parts) if at != alone for name in part]
            self.net.cut(parts[alone], others)
            self.net.run(seconds)
        self.net.heal()
        self.ideal(90)

    def test_links_that_go_and_come_in_another_order(self) -> None:
        """Some machines lose all their links one by one, and get them back."""
        for seed in range(3):
            names = self.net_of(10)
            rng = random.Random(seed)
            chosen = rng.sample(names, 4)
            for name in chosen:
                self.net.cut([name], names)
                self.net.run(rng.uniform(1, 20))
            for name in rng.sample(chosen, 4):
                self.net.blocked = {pair for pair in self.net.blocked if name not in pair}
                self.net.run(rng.uniform(1, 20))
            self.net.heal()
            self.ideal(120)

    def in_order(self, names: list[str]) -> list[str]:
        """By their places on the circle."""
        return sorted(names, key=lambda name: self.net.machines[name].ring.positions[0].id)

    def changes_of(self, name: str) -> list[float]:
        """A list to which the time of each change of a host's is added."""
        changes: list[float] = []
        self.net.machines[name].ring.watch_changes(lambda: changes.append(self.net.clock.seconds()))
        return changes

    def test_two_that_do_not_reach_each_other_keep_the_ring_at_rest(self) -> None:
        """The one lists the other, as its neighbours do; to find again and
        again that it does not answer is no news, and nobody is hurried."""
        order = self.in_order(self.net_of(8))
        self.net.cut([order[0]], [order[2]])
        self.net.run(1)
        self.net.machines[order[7]].crash()
        self.net.run(60)
        changes, asked = self.changes_of(order[0]), len(self.net.calls)
        self.net.run(60)
        self.assertLess(len(changes), 20)
        self.assertLess(sum(asker == order[0] for asker, _, _ in self.net.calls[asked:]), 300)

    def test_who_is_named_by_a_living_one_is_dialled_soon(self) -> None:
        """However often he was dialled in vain while the network was cut, and
        is not to be dialled again for half a minute."""
        for place in range(6):
            order = self.in_order(self.net_of(8))
            order = order[place:] + order[:place]
            self.net.cut([order[0]], [order[1]])
            self.net.run(300)
            self.net.heal()
            host = self.net.machines[order[0]].ring
            host.wake()
            self.net.run(8)
            self.assertEqual(host.positions[0].successors[0].id, self.net.machines[order[1]].ring.positions[0].id)

    def test_what_happens_meanwhile(self) -> None:
        """Both sides go on: some die, some join, and it is one ring after."""
        names = self.net_of(12)
        near, far = names[:6], names[6:]
        self.net.cut([*near, "new0"], [*far, "new1"])
        self.net.run(60)
        self.net.machines[near[1]].crash()
        self.net.machines[far[2]].crash()
        self.net.start("new0", near[0])
        self.net.start("new1", far[0])
        self.net.run(120)
        self.net.heal()
        self.ideal(90)
        self.assertEqual(len(self.net.running()), 12)


class WithoutTableTests(PartitionTests):
    """The same by Zave's steps, the passive list and probes alone."""

    knows_all = False


class StrangersTests(MergeTestCase):
    """Rings that never heard of each other."""

    def test_one_node_told_of_the_other_ring_is_enough(self) -> None:
        """Two rings of thirty."""
        self.net_of(30, list_size=8, prefix="a")
        self.another(30, "b")
        self.net.machines["a3"].crash()
        self.net.start("a3", "b0")
        self.ideal(60)

    def test_one_that_joins_both(self) -> None:
        """A newcomer that is told of a node of each."""
        self.net_of(8, prefix="a")
        self.another(8, "b")
        self.net.start("new", "a0", "b0")
        self.ideal(60)

    def test_everybody_knows_everybody_afterwards(self) -> None:
        """Also those who have nothing to do with each other on the ring."""
        self.net_of(20, prefix="a")
        self.another(20, "b")
        self.net.start("new", "a0", "b0")
        self.ideal(60)
        self.assertTrue(self.net.until(lambda: {len(m.ring.hosts) for m in self.net.running()} == {41}, 180))


class LoneTests(MergeTestCase):
    """Hosts that are alone, and rings that find them."""

    def test_a_ring_loses_nothing_to_a_host_that_is_alone(self) -> None:
        """It was here before, and has forgotten everything; the others look
        for it, and nobody's list runs out while it is taken in."""
        names = self.net_of(8)
        lone = self.net.machines[names[3]]
        rest = [name for name in names if name != lone.name]
        lone.crash()
        lone.saved = b""
        self.ideal(30, rest)
        lone.start()
        for _ in range(3000):
            self.net.run(0.01)
            shortest = min(len(self.net.machines[name].ring.positions[0].successors) for name in rest)
            self.assertGreaterEqual(shortest, 3)
        self.ideal(1)

    def test_it_looks_at_once_for_those_whom_it_has_just_lost(self) -> None:
        """However seldom it had looked for somebody else before."""
        self.net_of(1)
        host = self.net.start("b", "gone", "m0")
        self.ideal(30)
        self.net.run(1000)
        for _ in range(4):
            # A machine that starts afresh there, and knows nobody.
            self.net.machines["m0"].crash()
            self.net.machines["m0"].saved = b""
            self.assertTrue(self.net.until(lambda: host.alone, 30))
            self.net.run(1)
            self.net.start("m0")
            self.ideal(4)
            self.net.run(200)

    def test_it_dials_all_whom_it_knows_in_turn(self) -> None:
        """One of a hundred lives, and knows nobody itself."""
        lone = self.net_of(1)[0]
        for number in range(100):
            self.net.machines[lone].ring.hosts.learn(record_of(f"gone{number}"))
        last = max((f"x{number}" for number in range(30)), key=lambda name: self.net.machine(name).fp)
        self.net.start(last)
        self.net.machines[lone].ring.hosts.learn(record_of(last))
        self.net.machines[lone].ring.wake()
        self.assertTrue(self.net.until(lambda: self.net.is_ideal([lone, last]), 120))

    def test_who_is_spoken_to_looks_there_first(self) -> None:
        """It is alone, and knows a hundred others, who are all gone."""
        names = self.net_of(4)
        lone = self.net.start("lone")
        self.net.run(60)
        for number in range(100):
            lone.hosts.learn(record_of(f"gone{number}"))
        self.net.run(60)
        self.assertTrue(lone.alone)
        lone.contacted(address_of(names[0]))
        self.ideal(2)


class LostPositionTests(MergeTestCase):
    """A position all of whose entries were one dead host's, while its host's
    other positions are well."""

    knows_all = False

    def setUp(self) -> None:
        self.names = self.net_of(3, 3, 2)
        self.host = self.net.machines["m0"].ring
        self.lost = self.host.positions[1]

    def lose(self) -> None:
        """All that it knows is of m1, which is dead."""
        gone = self.net.machines["m1"]
        entries = sorted(gone.ring.positions, key=lambda place: ids.distance(self.lost.id, place.id))
        first, second = entries[0].member, entries[-1].member
        self.lost.update(self.lost.state._replace(predecessor=second, successors=(first,), epoch=99))
        gone.crash()
        self.host.liveness.drop(gone.fp)

    def test_it_comes_back(self) -> None:
        """Its siblings know the way, also where nobody has the table, and
        nobody has it in a list any more."""
        self.lose()
        for machine in self.net.running():
            for place in machine.ring.positions:
                if place is not self.lost:
                    place.update(steps.drop_member(place.state, self.lost.id))
        self.ideal(30)

    def test_it_claims_nothing_that_is_not_its_own(self) -> None:
        """Not at any moment: it is not alone on the circle."""
        self.lose()
        self.assertFalse(self.host.alone)
        for number in range(16):
            key = number * ids.RING_SIZE // 16
            located = self.net.result(self.host.lookup(key))
            self.assertIsNotNone(located.predecessor_id, number)

    def test_some_of_them_are_a_ring_of_their_own(self) -> None:
        """Two of a host's three positions know nobody but each other, and
        nobody else knows them.  No probe is needed for that."""
        self.patch(joining, "PROBE_CHANCE", 0.0)
        self.net = RingNet(virtual_nodes=3, list_size=2, knows_all=False)
        names = self.net.frozen(3)
        apart = self.net.machines["m0"].ring.positions[:2]
        rest = [place for machine in self.net.running() for place in machine.ring.positions if place not in apart]
        for ring in (apart, sorted(rest, key=lambda place: place.id)):
            for number, place in enumerate(ring):
                before, after = ring[number - 1].member, ring[(number + 1) % len(ring)].member
                place.update(place.state._replace(predecessor=before, successors=(after,), epoch=99))
        self.net.thaw(names)
        self.ideal(5)

    def test_all_of_them_at_once(self) -> None:
        """Then they are a ring of their own, and come back from there."""
        for place in self.host.positions:
            place.update(place.state._replace(predecessor=None, successors=(), suspected=False, epoch=99))
        self.ideal(60)


class WoundTests(MergeTestCase):
    """A ring that goes round twice before it comes back to itself.

    Each member's first successor is right for it, and together they are not:
    Zave's steps keep out of that state, and do not lead out of it.  Three
    members can get there when the ring began with one, and its last members
    crash at the wrong moment.
    """

    def wind(self, knows_all: bool) -> None:
        """Three of them, each pointing at the one after the next."""
        self.net = RingNet(list_size=2, knows_all=knows_all)
        names = self.net.frozen(3)
        places = sorted((self.net.machines[name].ring.positions[0] for name in names), key=lambda place: place.id)
        one, two, three = (place.member for place in places)
        for place, before, after in zip(places, (two, three, one), (three, one, two), strict=True):
            place.update(place.state._replace(predecessor=before, successors=(after,), epoch=99))
        self.net.thaw(names)
        self.assertFalse(self.net.is_ideal())

    def test_the_table_leads_out_of_it(self) -> None:
        """Each asks whoever is known to sit nearer: at once."""
        self.wind(True)
        self.ideal(5)

    def test_probes_lead_out_of_it(self) -> None:
        """Somebody else is asked where we belong, sooner or later."""
        self.wind(False)
        self.net.run(0.3)
        self.assertFalse(self.net.is_ideal())
        self.ideal(1800)


class LinkTests(MergeTestCase):
    """Links that fail between two machines, while a third reaches both."""

    def setUp(self) -> None:
        self.names = self.net_of(8)
        self.order = sorted(self.names, key=lambda name: self.net.machines[name].ring.positions[0].id)
        self.one, self.two = self.order[3], self.order[4]

    def found(self, name: str, key: int) -> str:
        """Who owns a key, as that machine finds out."""
        located: Located = self.net.result(self.net.machines[name].ring.lookup(key))
        return next(machine.name for machine in self.net.running() if machine.fp == located.owner.fp)

    def check_keys(self, asking: list[str]) -> None:
        """Each of these machines finds everybody's keys."""
        for name in asking:
            for owner in self.order:
                key = self.net.machines[owner].ring.positions[0].id
                if (name, owner) not in self.net.blocked:
                    self.assertEqual(self.found(name, key), owner, name)

    def test_neighbours_that_do_not_reach_each_other(self) -> None:
        """A does not reach B, C reaches both: B goes on owning what it owned,
        and everybody who reaches B finds it."""
        self.net.cut([self.one], [self.two])
        self.net.run(120)
        key = self.net.machines[self.two].ring.positions[0].id
        for _ in range(60):
            self.net.run(1)
            self.assertEqual(self.net.owners(key), [self.two])
        self.check_keys(self.order)

    def test_it_is_mended_when_the_link_is(self) -> None:
        """And it had come to rest in between."""
        self.net.cut([self.one], [self.two])
        self.net.run(300)
        epochs = [self.net.machines[name].ring.positions[0].state.epoch for name in self.order]
        self.net.run(60)
        self.assertEqual(
            [self.net.machines[name].ring.positions[0].state.epoch for name in self.order], epochs, "not at rest"
        )
        self.net.heal()
        self.ideal(90)

    def test_one_way(self) -> None:
        """B cannot dial A, A can dial B: then the other way round."""
        for low, high in ((self.one, self.two), (self.two, self.one)):
            self.net.cut([low], [high], one_way=True)
            self.net.run(120)
            self.check_keys(self.order)
            self.net.heal()
            self.ideal(90)

    def test_a_triple(self) -> None:
        """Three in a row of which no two reach each other."""
        three = self.order[2:5]
        self.net.cut(three, three)
        self.net.run(120)
        self.check_keys([name for name in self.order if name not in three])
        self.net.heal()
        self.ideal(90)

    def test_many_links_at_random(self) -> None:
        """A tenth of all pairs: no key gets two owners, and it mends."""
        rng = random.Random(4)
        pairs = [(a, b) for a in self.order for b in self.order if a < b]
        for a, b in rng.sample(pairs, 3):
            self.net.cut([a], [b])
        self.net.run(120)
        for number in range(32):
            self.assertLessEqual(len(self.net.owners(number * ids.RING_SIZE // 32)), 1)
        self.net.heal()
        self.ideal(90)


class SuspicionTests(MergeTestCase):
    """Hosts taken for dead that are not."""

    def test_a_pause(self) -> None:
        """A machine stands still for so long: it is left out and taken back."""
        for seconds in (1.0, 3.0, 10.0, 100.0):
            names = self.net_of(8)
            self.net.mute.add(names[3])
            self.net.run(seconds)
            self.net.mute.clear()
            self.ideal(60)

    def test_half_of_them_pause(self) -> None:
        """Everybody thinks everybody else dead."""
        names = self.net_of(8)
        self.net.mute.update(names[::2])
        self.net.run(30)
        self.net.mute.clear()
        self.ideal(60)

    def test_all_of_them_pause(self) -> None:
        """A minute of nothing."""
        names = self.net_of(6)
        self.net.mute.update(names)
        self.net.run(60)
        self.net.mute.clear()
        self.ideal(90)

    def test_an_orphan_serves_what_it_has(self) -> None:
        """Cut off from all, it is still a member, and owns what it sees."""
        names = self.net_of(6)
        self.net.cut(names[:1], names[1:])
        host = self.net.machines[names[0]].ring
        self.assertTrue(self.net.until(lambda: host.alone, 120))
        self.assertEqual(host.status, "MEMBER")
        self.assertIsNotNone(host.own_position(12345))
        self.assertRaises(LookupFailed, self.net.result, self.net.client().lookup(5))


class QuietTests(MergeTestCase):
    """Looking for other rings costs little where there is one."""

    def test_probes_among_strangers_do_not_set_each_other_off(self) -> None:
        """Eighty that have met only their neighbours, and hear of all others
        from them: each probe that finds one ring says nothing."""
        self.net = RingNet(list_size=8, knows_all=False)
        names = self.net.frozen(80)
        self.net.thaw(names)
        self.net.run(60)
        before = len(self.net.calls)
        self.net.run(60)
        self.assertLess((len(self.net.calls) - before) / 80 / 60, 0.35)

    def test_the_gone_are_looked_for_now_and_then(self) -> None:
        """Twenty dead hosts, known to five: some calls, and not many."""
        names = self.net_of(25)
        for name in names[5:]:
            self.net.machines[name].crash()
        self.ideal(120)
        self.net.run(300)
        before = len(self.net.calls)
        self.net.run(300)
        self.assertLess((len(self.net.calls) - before) / 5 / 300, 1.0)
