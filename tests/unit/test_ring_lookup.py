"""Lookups: verified by the owner, whatever the others say or do not say."""

from __future__ import annotations

import random
from collections.abc import Iterable
from statistics import mean
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.errors import Busy, LookupFailed, NotReady
from peerstore.ring.hosts import HostTable
from peerstore.ring.lookup import MAX_STEPS, LookupClient, Search, guesses, resolve, resolve_all
from peerstore.wire.bodies import Found, HostRecord, NodeRecords, PositionRef
from tests.support.ring import eight, members
from tests.support.ring_net import RingNet, address_of, record_of, spki_of


def keys(count: int, seed: int = 1) -> list[int]:
    """Places on the circle."""
    rng = random.Random(seed)
    return [rng.randrange(ids.RING_SIZE) for _ in range(count)]


class LookupTestCase(SynchronousTestCase):
    """A still ring of twelve, and a client that knows one of them."""

    count = 12
    list_size = 4

    def setUp(self) -> None:
        self.net = RingNet(list_size=self.list_size)
        self.names = self.net.frozen(self.count)
        self.client = self.net.client("m0")

    def owner(self, key: int, client: LookupClient | None = None) -> str:
        """Who owns a key, as a lookup finds it."""
        located = self.net.result((client or self.client).lookup(key))
        return self.name(located.owner.fp)

    def name(self, fp: bytes) -> str:
        """The machine with that fingerprint."""
        return next(name for name, machine in self.net.machines.items() if machine.fp == fp)

    def place(self, name: str) -> Any:
        """A machine's only position."""
        return self.net.machines[name].ring.positions[0]

    def in_order(self) -> list[str]:
        """The machines' names, going round from zero."""
        return sorted(self.names, key=lambda name: self.place(name).id)

    def key_of(self, name: str) -> int:
        """A key that this machine owns: its own id, less one."""
        return (self.place(name).id - 1) % ids.RING_SIZE


class OwnerTests(LookupTestCase):
    """The right owner, from everywhere."""

    def test_from_a_client(self) -> None:
        """Who knows one address only."""
        for key in keys(50):
            self.assertEqual(self.owner(key), self.net.owner_of(key))

    def test_from_every_host(self) -> None:
        """Each of them finds the same."""
        for name in self.names:
            for key in keys(10):
                located = self.net.result(self.net.machines[name].ring.lookup(key))
                self.assertEqual(self.name(located.owner.fp), self.net.owner_of(key))

    def test_at_the_members_own_ids_and_around_them(self) -> None:
        """A member owns its own id and the one before it, not the one after."""
        order = self.in_order()
        for name, following in zip(order, [*order[1:], order[0]], strict=True):
            place = self.place(name).id
            found = [self.owner((place + step) % ids.RING_SIZE) for step in (-1, 0, 1)]
            self.assertEqual(found, [name, name, following])

    def test_what_is_found(self) -> None:
        """The owner's range, and the members after it."""
        for key in keys(10):
            located = self.net.result(self.client.lookup(key))
            place = self.place(self.name(located.owner.fp))
            self.assertEqual(located.key, key)
            self.assertEqual(located.predecessor_id, place.predecessor.id)
            self.assertEqual(located.members, (place.member, *place.successors))

    def test_a_ring_of_one(self) -> None:
        """It owns everything."""
        net = RingNet()
        net.start("m0")
        net.run(1)
        for key in keys(3):
            located = net.result(net.client("m0").lookup(key))
            self.assertEqual((located.owner.fp, located.predecessor_id), (net.machines["m0"].fp, None))

    def test_successor_is_never_the_closest_preceding_node(self) -> None:
        """The Go program's Successor gave the member before the key, or the
        member asked: a joiner took its predecessor for its successor."""
        for key in keys(50, seed=2):
            owner = self.place(self.owner(key)).id
            before = min((self.place(name).id for name in self.names), key=lambda at: ids.distance(at, key))
            self.assertNotEqual(owner, before)
            self.assertTrue(ids.in_half_open(before, key, owner))

    def test_a_machine_that_was_set_up_anew(self) -> None:
        """Whoever remembers the key that was at an address before asks there
        for that one first; whoever is there now is no less found, by the
        first search and without asking everybody."""
        gone = record_of("former", address=address_of("m0"))
        key = ids.position_id(gone.spki, 0)
        owner = self.net.owner_of(key)
        hosts = HostTable(self.net.clock)
        hosts.learn(record_of("former", address=address_of(owner)))
        hosts.said_alive(ids.fingerprint(gone.spki))
        search = Search(self.net.pool(), hosts, key)
        starts = [*guesses(hosts.ring(), key), address_of("m0")]
        located = self.net.result(_coroutine(search.owner(starts)))
        self.assertEqual(self.name(located.owner.fp), owner)
        self.assertFalse(hosts.is_alive(ids.fingerprint(gone.spki)))

    def test_nobody_is_known(self) -> None:
        """That is an error, not a wait for ever."""
        client = self.net.client()
        self.assertRaises(LookupFailed, self.net.result, client.lookup(5))


class PredecessorTests(LookupTestCase):
    """The member just before a place: whom a newcomer joins behind."""

    def before(self, key: int, start: str) -> Any:
        """The step that the search ended with."""
        search = Search(self.net.pool(), HostTable(self.net.clock), key)
        return self.net.result(_coroutine(search.predecessor([address_of(start)])))

    def test_whoever_is_asked_first(self) -> None:
        """The one before, with its whole list."""
        for start in self.names:
            for key in keys(5):
                step = self.before(key, start)
                place = min((self.place(name) for name in self.names), key=lambda at: ids.distance(at.id, key))
                self.assertEqual((step.position, step.successors), (place.member, place.successors))

    def test_a_ring_of_one(self) -> None:
        """It is before everything."""
        net = RingNet()
        net.frozen(1)
        search = Search(net.pool(), HostTable(net.clock), 5)
        step = net.result(_coroutine(search.predecessor([address_of("m0")])))
        self.assertEqual(step.successors, ())


class DeadTests(LookupTestCase):
    """Hops that do not answer."""

    def test_any_three_of_twelve_are_dead(self) -> None:
        """Nobody has noticed yet; keys of the living are found all the same,
        and those of the dead by those who come after them: never by others."""
        order = self.in_order()
        for dead in (order[1:4], order[0::4], [order[0], order[11], order[5]]):
            self.setUp()
            for name in dead:
                self.net.machines[name].crash()
            start = next(name for name in self.names if name not in dead)
            client = self.net.client(start)
            for name in set(order) - set(dead):
                if self.place(name).predecessor.fp not in [self.net.machines[gone].fp for gone in dead]:
                    self.assertEqual(self.owner(self.key_of(name), client), name)

    def test_an_owner_that_died_just_now(self) -> None:
        """The one after it does not claim its keys before it knows: try again
        later is the answer, not a wrong owner."""
        order = self.in_order()
        key = self.key_of(order[3])
        self.net.machines[order[3]].crash()
        client = self.net.client(order[0])
        self.assertRaises(LookupFailed, self.net.result, client.lookup(key))

    def test_it_is_found_once_the_next_has_taken_over(self) -> None:
        """While the lookup waits between its attempts."""
        order = self.in_order()
        key = self.key_of(order[3])
        self.net.machines[order[3]].crash()
        heir = self.place(order[4])

        def take_over() -> None:
            heir.state = heir.state._replace(predecessor=self.place(order[2]).member)

        self.net.clock.callLater(0.5, take_over)
        self.assertEqual(self.owner(key, self.net.client(order[0])), order[4])

    def test_mute_hops_cost_time_but_not_the_answer(self) -> None:
        """Two that accept questions and never answer."""
        order = self.in_order()
        self.net.mute.update([order[2], order[5]])
        for name in (order[4], order[8], order[10]):
            self.assertEqual(self.owner(self.key_of(name), self.net.client(order[0])), name)

    def test_a_lookup_ends_in_time_when_all_are_mute(self) -> None:
        """Within its budget, however many there are."""
        self.net.mute.update(set(self.names) - {"m0"})
        began = self.net.clock.seconds()
        name = next(name for name in self.in_order() if name != "m0")
        self.assertRaises(LookupFailed, self.net.result, self.client.lookup(self.key_of(name)), 100)
        self.assertLess(self.net.clock.seconds() - began, 20)

    def test_many_mute_hops_take_no_longer(self) -> None:
        """Thirty of them, three seconds each: the budget is for all."""
        net = RingNet(list_size=16)
        names = net.frozen(40)
        net.mute.update(set(names) - {"m0"})
        began = net.clock.seconds()
        far = (net.machines["m0"].ring.positions[0].id + ids.RING_SIZE // 3) % ids.RING_SIZE
        self.assertRaises(LookupFailed, net.result, net.client("m0").lookup(far), 200)
        self.assertLess(net.clock.seconds() - began, 20)

    def test_a_busy_or_joining_hop_is_passed_by(self) -> None:
        """An error from one is no answer, and no death."""
        order = self.in_order()
        self.net.errors[order[2], "find-successor"] = Busy("too much to do")
        self.net.errors[order[3], "find-successor"] = NotReady("joining")
        self.net.errors[order[6], "find-successor"] = RuntimeError("a fault of theirs")
        self.addCleanup(self.flushLoggedErrors, RuntimeError)
        self.assertEqual(self.owner(self.key_of(order[9]), self.net.client(order[0])), order[9])

    def test_a_lost_connection_is_no_death(self) -> None:
        """One that was open since before its host lost power ends at the
        first question: it is asked once more, and nobody else is."""
        order = self.in_order()
        host, victim = self.net.machines[order[0]].ring, self.net.machines[order[6]]
        host.hosts.learn(record_of(order[6]))
        host.hosts.alive(victim.fp)
        finding = host.lookup(ids.position_id(victim.spki, 0))
        self.net.run(0.005)
        host.pool.lost(victim)
        self.assertEqual(self.net.result(finding).owner.fp, victim.fp)
        asked = [target for _, target, method in self.net.calls if method == "find-successor"]
        self.assertEqual(asked, [order[6]] * 2)
        self.assertTrue(host.hosts.is_alive(victim.fp))

    def test_who_hangs_up_each_time_is_passed_by(self) -> None:
        """Twice is enough."""
        order = self.in_order()
        host, victim = self.net.machines[order[0]].ring, self.net.machines[order[6]]
        host.hosts.learn(record_of(order[6]))
        host.hosts.alive(victim.fp)
        self.net.errors[order[6], "find-successor"] = NotReady("joining")
        finding = host.lookup(ids.position_id(victim.spki, 0))
        for _ in range(2):
            self.net.run(0.005)
            host.pool.lost(victim)
        self.assertFalse(host.hosts.is_alive(victim.fp))
        self.assertRaises(LookupFailed, self.net.result, finding)

    def test_the_dead_are_asked_last_the_next_time(self) -> None:
        """The table forgets its hint."""
        order = self.in_order()
        host = self.net.machines[order[0]].ring
        victim = self.net.machines[order[6]]
        host.hosts.learn(record_of(order[6]))
        host.hosts.alive(victim.fp)
        victim.crash()
        self.assertRaises(LookupFailed, self.net.result, host.lookup(ids.position_id(victim.spki, 0)))
        self.assertFalse(host.hosts.is_alive(victim.fp))


class ClientTests(LookupTestCase):
    """Somebody who is no host, and runs for long."""

    def known(self) -> HostTable:
        """What the client knows: five hosts, met through one that is gone."""
        hosts = HostTable(self.net.clock)
        self.client = LookupClient(self.net.pool(), hosts, self.net.clock, lambda: [address_of("gone")])
        for name in self.names[:5]:
            hosts.learn(record_of(name))
            hosts.alive(self.net.machines[name].fp)
        return hosts

    def test_all_whom_it_knows_did_not_answer_for_a_while(self) -> None:
        """Its own network was down: once it is back, so are they, though the
        one that it was told of is gone for good."""
        hosts = self.known()
        self.net.mute.update(self.names)
        self.assertRaises(LookupFailed, self.net.result, self.client.lookup(5))
        self.assertRaises(LookupFailed, self.net.result, self.client.lookup(5))
        self.assertEqual(hosts.ring(), [])
        self.net.mute.clear()
        self.assertEqual(self.owner(5), self.net.owner_of(5))

    def test_the_dead_are_left_alone_while_anybody_answers(self) -> None:
        """They are the last resort."""
        hosts = self.known()
        for name in self.names[1:5]:
            hosts.dead(self.net.machines[name].fp)
        self.owner(5)
        before = len(self.net.calls)
        self.owner(5)
        asked = {target for source, target, _ in self.net.calls[before:] if source == "a client"}
        self.assertFalse(asked & {name for name in self.names[1:5] if not hosts.is_alive(self.net.machines[name].fp)})

    def test_those_who_are_told_of(self) -> None:
        """Whoever is asked for all it knows is alive; of the others it is
        hearsay, and what we just found out ourselves outweighs it."""
        hosts = self.known()
        host = self.net.machines["m0"].ring
        for name in ("m1", "m2"):
            host.hosts.learn(record_of(name))
            host.hosts.alive(self.net.machines[name].fp)
        hosts.dead(self.net.machines["m0"].fp)
        hosts.dead(self.net.machines["m1"].fp)
        asking = resolve_all(self.net.pool(), hosts, address_of("m0"))
        self.net.result(Deferred.fromCoroutine(asking))
        alive = [hosts.is_alive(self.net.machines[name].fp) for name in ("m0", "m1", "m2")]
        self.assertEqual(alive, [True, False, True])


class LeaverTests(LookupTestCase):
    """A host that is leaving, and goes on looking things up."""

    def test_it_claims_nothing_for_itself(self) -> None:
        """Its keys are its successor's, as soon as that one says so."""
        order = self.in_order()
        host = self.net.machines[order[2]].ring
        self.net.thaw(self.names)
        self.net.run(30)
        key = self.key_of(order[2])
        self.assertEqual(self.net.result(host.lookup(key)).owner.fp, host.fp)
        self.net.result(host.leave())
        self.assertTrue(self.net.until(lambda: order[3] in self.net.owners(key), 30))
        self.assertEqual(self.name(self.net.result(host.lookup(key)).owner.fp), order[3])


class ManyPositionsTests(SynchronousTestCase):
    """Hosts with eight positions each."""

    def test_a_host_that_does_not_answer_is_asked_once(self) -> None:
        """Not eight times, at each of its positions."""
        net = RingNet(virtual_nodes=8, list_size=None)
        names = net.frozen(4, table=True)
        host, mute = net.machines[names[0]].ring, net.machines[names[1]]
        net.mute.add(names[1])
        places = [place.member for place in mute.ring.positions]
        key = places[0].id
        self.assertRaises(LookupFailed, net.result, Deferred.fromCoroutine(host.search(key).owner(places)))
        self.assertEqual([call[1:] for call in net.calls].count((names[1], "find-successor")), 1)


class StaleTests(LookupTestCase):
    """Answers that were true once."""

    def test_a_newcomer_that_only_its_successor_knows(self) -> None:
        """The member before still names the one after: which sends us back."""
        order = self.in_order()
        newcomer, before, after = (self.place(order[at]) for at in (5, 4, 6))
        before.state = before.state._replace(successors=before.successors[1:])
        for name in order[:4]:
            place = self.place(name)
            kept = tuple(entry for entry in place.successors if entry.id != newcomer.id)
            place.state = place.state._replace(successors=kept)
            place.fingers.drop_host(newcomer.member.fp)
        before.fingers.drop_host(newcomer.member.fp)
        self.assertEqual(after.predecessor, newcomer.member)
        self.assertEqual(self.owner(self.key_of(order[5]), self.net.client(order[4])), order[5])

    def test_a_list_whose_first_is_dead(self) -> None:
        """The next entry is asked."""
        order = self.in_order()
        key = self.key_of(order[5])
        self.net.machines[order[5]].crash()
        heir = self.place(order[6])
        heir.state = heir.state._replace(predecessor=self.place(order[4]).member)
        self.assertEqual(self.owner(key, self.net.client(order[4])), order[6])

    def test_a_member_without_a_predecessor_claims_nothing(self) -> None:
        """Its keys have no owner until it knows how far they go."""
        order = self.in_order()
        place = self.place(order[5])
        place.state = place.state._replace(predecessor=None)
        self.assertRaises(LookupFailed, self.net.result, self.client.lookup(self.key_of(order[5])))


class LiarTests(LookupTestCase):
    """Nobody's word about another counts."""

    def lie(self, name: str, **changes: Any) -> None:
        """This machine changes its answers."""
        self.net.lies[name, "find-successor"] = lambda told: msgspec.structs.replace(told, **changes)

    def check_all_but(self, liar: str) -> None:
        """Whoever begins at the liar finds everybody else's keys."""
        others = [name for name in self.names if name != liar]
        for name in others:
            self.assertEqual(self.owner(self.key_of(name), self.net.client(liar, *others[:2])), name)

    def ref(self, name: str) -> PositionRef:
        """That machine's position."""
        reference: PositionRef = self.place(name).member.ref
        return reference

    def test_a_claim_that_does_not_follow_from_its_range(self) -> None:
        """It says that it owns the key, and its own range says not."""
        liar = self.in_order()[2]
        self.net.lies[liar, "find-successor"] = lambda told: msgspec.structs.replace(
            told, owns=True, predecessor=self.ref(self.in_order()[1])
        )
        self.check_all_but(liar)

    def test_a_claim_without_a_range(self) -> None:
        """Only who is alone owns everything, and it has no list."""
        liar = self.in_order()[2]
        self.net.lies[liar, "find-successor"] = lambda told: msgspec.structs.replace(
            told, owns=True, predecessor=None, successors=(self.ref(self.in_order()[3]),)
        )
        self.check_all_but(liar)

    def test_nor_where_nobody_else_is_known(self) -> None:
        """The list that came with the claim says who else there is."""
        order = self.in_order()
        liar = order[2]
        self.lie(liar, owns=True, predecessor=None, successors=(self.ref(order[3]),))
        self.assertEqual(self.owner(self.key_of(order[6]), self.net.client(liar)), order[6])

    def test_a_claim_that_goes_too_far(self) -> None:
        """Its range is made up, and takes in nearly everything: those that it
        passes over are asked, too."""
        order = self.in_order()
        liar = order[2]
        self.lie(liar, owns=True, final=False, predecessor=self.ref(order[3]), candidates=())
        host = self.net.machines[order[0]].ring
        for name in order[1:]:
            host.hosts.learn(record_of(name))
        for name in order[4:]:
            host.hosts.alive(self.net.machines[name].fp)
            search = Search(host.pool, host.hosts, self.key_of(name))
            located = self.net.result(_coroutine(search.owner([address_of(liar)])))
            self.assertEqual(self.name(located.owner.fp), name)

    def test_a_host_that_is_alone_while_others_live(self) -> None:
        """It was cut off, and owns everything it sees; whoever reaches the
        others as well does not believe it: not even where nobody else claims
        the key just now."""
        order = self.in_order()
        key = self.key_of(order[3])
        orphan = self.net.machine("orphan")
        orphan.start()
        self.net.run(1)
        self.net.machines[order[3]].crash()
        client = self.net.client("orphan", order[0])
        for _ in range(2):
            self.assertRaises(LookupFailed, self.net.result, client.lookup(key))
        self.assertEqual(self.owner(self.key_of(order[6]), client), order[6])

    def test_whoever_else_lives_is_asked_about_one_that_is_alone(self) -> None:
        """Also where the lookup was to begin at that one, and nowhere else."""
        order = self.in_order()
        orphan = self.net.machine("orphan")
        orphan.start()
        self.net.run(1)
        host = self.net.machines[order[0]].ring
        host.hosts.learn(record_of(order[1]))
        host.hosts.alive(self.net.machines[order[1]].fp)
        search = Search(self.net.pool(), host.hosts, self.key_of(order[6]))
        located = self.net.result(Deferred.fromCoroutine(search.owner([address_of("orphan")])))
        self.assertEqual(self.name(located.owner.fp), order[6])

    def test_a_claim_in_another_s_name(self) -> None:
        """A member cannot make an owner of somebody else."""
        order = self.in_order()
        liar, victim = order[2], order[7]
        self.lie(liar, position=self.ref(victim), owns=True, predecessor=self.ref(order[6]), final=False)
        self.check_all_but(liar)

    def test_an_answer_for_another_position(self) -> None:
        """Asked about one of its positions, it answers for another."""
        net = RingNet(virtual_nodes=2, list_size=6)
        names = net.frozen(4)
        liar = net.machines[names[1]].ring
        net.lies[names[1], "find-successor"] = lambda told: msgspec.structs.replace(
            told, position=liar.positions[1 - told.position.index].member.ref
        )
        host = net.machines[names[0]].ring
        search = Search(host.pool, host.hosts, liar.positions[0].id)
        self.assertRaises(LookupFailed, net.result, _coroutine(search.owner([liar.positions[0].member])))

    def test_candidates_that_lead_back(self) -> None:
        """Two point at each other for ever; each is asked once."""
        order = self.in_order()
        one, two = order[2], order[3]
        for liar, other in ((one, two), (two, one)):
            self.lie(liar, candidates=(self.ref(other),), final=False, owns=False, successors=(), predecessor=None)
        self.assertRaises(LookupFailed, self.net.result, self.net.client(one).lookup(self.key_of(order[9])))
        asked = [target for _, target, method in self.net.calls if method == "find-successor"]
        self.assertLessEqual(len(asked), 6 * 3)

    def test_hosts_made_up_without_end(self) -> None:
        """A liar names new hosts each time, all at its own address."""
        order = self.in_order()
        liar = order[2]
        made: dict[bytes, HostRecord] = {}

        def invent(told: Found) -> Found:
            records = [HostRecord(spki_of(f"made {len(made)}-{n}"), (address_of(liar),), 1, 3, 1) for n in range(8)]
            made.update((ids.fingerprint(record.spki), record) for record in records)
            refs = tuple(PositionRef(ids.fingerprint(record.spki), 0, 1, address_of(liar)) for record in records)
            return msgspec.structs.replace(told, candidates=refs, successors=refs, final=True, owns=False)

        self.net.lies[liar, "find-successor"] = invent
        self.net.lies[liar, "get-node-records"] = lambda told: NodeRecords(tuple(made.values()))
        self.assertRaises(LookupFailed, self.net.result, self.net.client(liar).lookup(self.key_of(order[9])))
        self.assertLess(len(self.net.calls), 6 * 2 * MAX_STEPS)

    def test_records_that_were_not_asked_for(self) -> None:
        """Only what was asked is learned."""
        order = self.in_order()
        self.net.lies[order[2], "get-node-records"] = lambda told: NodeRecords(
            (*told.records, *(record_of(f"stranger {n}") for n in range(100)))
        )
        hosts = HostTable(self.net.clock)
        self.net.result(
            _coroutine(resolve(self.net.pool(), hosts, address_of(order[2]), [self.ref(order[2]), self.ref(order[3])]))
        )
        self.assertEqual(len(hosts), 2)

    def test_a_liar_among_twelve_does_not_stop_the_others(self) -> None:
        """Whatever it says, whoever starts elsewhere finds every other's keys."""
        order = self.in_order()
        liar = order[2]
        self.lie(liar, candidates=(), successors=(), owns=True, final=True, predecessor=None)
        client = self.net.client(*[name for name in order if name != liar])
        for name in order:
            if name != liar:
                self.assertEqual(self.owner(self.key_of(name), client), name)


class LongTests(SynchronousTestCase):
    """Ways that are too long."""

    def test_a_walk_without_end_ends(self) -> None:
        """Five hundred members with lists of two and no fingers: so many steps
        are not made."""
        net = RingNet(list_size=2, knows_all=False)
        net.frozen(500, fingers=False)
        start = net.machines["m0"].ring.positions[0]
        assert start.predecessor is not None
        # The member before it is not told: else the way back is short.
        for machine in net.running():
            machine.ring.positions[0].state = machine.ring.positions[0].state._replace(suspected=True)
        for way in ("owner", "predecessor"):
            net.calls.clear()
            search = Search(net.pool(), HostTable(net.clock), start.predecessor.id - 1)
            looking = getattr(search, way)([start.member.address])
            self.assertRaises(LookupFailed, net.result, _coroutine(looking), 100)
            self.assertEqual(sum(method == "find-successor" for _, _, method in net.calls), MAX_STEPS)

    def test_a_silent_owner_is_not_looked_for_everywhere(self) -> None:
        """Of two hundred, those after the key are asked, and no more: the next
        attempt may find the owner awake, and has to come in time."""
        net = RingNet(list_size=8, knows_all=False)
        names = net.frozen(200)
        key = net.machines[names[7]].ring.positions[0].id
        net.mute.add(names[7])
        asker = net.machines[names[100]]
        search = Search(asker.ring.pool, asker.ring.hosts, key)
        start = _coroutine(search.owner([asker.ring.positions[0].member]))
        self.assertRaises(LookupFailed, net.result, start, 100)
        asked = sum(method == "find-successor" for _, _, method in net.calls)
        self.assertLess(asked, 60)
        net.mute.clear()
        found = net.result(asker.ring.lookup(key))
        self.assertEqual(found.owner.id, key)

    def test_the_member_before_the_one_asked_is_one_step_away(self) -> None:
        """Not once round the circle."""
        net = RingNet(list_size=4, knows_all=False)
        net.frozen(100, fingers=False)
        for name in ("m0", "m1", "m2"):
            before = net.machines[name].ring.positions[0].predecessor
            assert before is not None
            net.calls.clear()
            located = net.result(net.client(name).lookup(before.id))
            self.assertEqual(located.owner.id, before.id)
            self.assertLessEqual(sum(method == "find-successor" for _, _, method in net.calls), 2)


class GuessTests(SynchronousTestCase):
    """Where a lookup begins."""

    def test_the_likely_owner_comes_first(self) -> None:
        """Then the one before the key, and one more on each side."""
        ring = list(members([1, 3, 5, 7]))
        self.assertEqual(guesses(ring, eight(4)), list(members([5, 3, 7, 1])))
        self.assertEqual(guesses(ring, eight(3)), list(members([3, 1, 5, 7])))
        self.assertEqual(guesses(ring, eight(0)), list(members([1, 7, 3, 5])))

    def test_short_rings(self) -> None:
        """Nobody is named twice."""
        self.assertEqual(guesses([], 0), [])
        self.assertEqual(guesses(list(members([3])), 0), list(members([3])))


class HopTests(SynchronousTestCase):
    """How far it is in large rings; the figures are counts, not times."""

    def hops(self, net: RingNet, lookups: Iterable[tuple[str, int]]) -> list[int]:
        """Questions asked by each lookup, each of which finds the owner."""
        counts = []
        for name, key in lookups:
            before = len(net.calls)
            located = net.result(net.machines[name].ring.lookup(key))
            self.assertEqual(net.machines[net.owner_of(key)].fp, located.owner.fp)
            counts.append(sum(method == "find-successor" for _, _, method in net.calls[before:]))
        return counts

    def test_fingers_alone_need_half_the_logarithm(self) -> None:
        """1,000 members with lists of 16 that know their neighbours and
        fingers: (log2 n - log2 r) / 2 + 1 = 4 questions."""
        net = RingNet(list_size=16, knows_all=False)
        names = net.frozen(1000)
        rng = random.Random(7)
        hops = self.hops(net, [(rng.choice(names), key) for key in keys(150, seed=3)])
        self.assertLess(mean(hops), 4.5)
        self.assertLessEqual(max(hops), 2 * 10 + 16)

    def test_without_fingers_the_lists_still_lead_there(self) -> None:
        """Correct, and slow: n / r at most."""
        net = RingNet(list_size=8, knows_all=False)
        names = net.frozen(64, fingers=False)
        hops = self.hops(net, [(names[number % 64], key) for number, key in enumerate(keys(40))])
        self.assertLessEqual(max(hops), 64 // 8 + 3)

    def test_with_all_known_it_is_one(self) -> None:
        """250 members that know each other: at most 1.2 on average."""
        net = RingNet(list_size=16)
        names = net.frozen(250, fingers=False, table=True)
        hops = self.hops(net, [(names[number % 250], key) for number, key in enumerate(keys(250))])
        self.assertLessEqual(mean(hops), 1.2)

    def test_half_are_dead_and_nobody_has_noticed(self) -> None:
        """r = 16, half of 200 gone: every key whose owner and its
        predecessor live is found, and no wrong owner is ever given."""
        net = RingNet(list_size=16, knows_all=False)
        names = net.frozen(200)
        rng = random.Random(3)
        for name in rng.sample(names, 100):
            net.machines[name].crash()
        alive = [machine.name for machine in net.running()]
        found = 0
        for key in keys(60, seed=9):
            owner = net.machines[net.owner_of(key)].ring.positions[0]
            deferred = net.machines[rng.choice(alive)].ring.lookup(key)
            if ids.in_half_open(owner.predecessor.id, key, owner.id):
                located = net.result(deferred)
                self.assertEqual(located.owner.id, owner.id)
                found += 1
            else:
                self.assertRaises(LookupFailed, net.result, deferred)
        self.assertGreater(found, 15)


def _coroutine(coroutine: Any) -> Any:
    return Deferred.fromCoroutine(coroutine)
