"""What a host answers, from its present state and without asking anybody."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.errors import BadMessage, NotReady
from peerstore.ring.upkeep import PositionUpkeep
from peerstore.wire import bodies
from peerstore.wire.session import Greeting
from tests.support.ring_net import RingNet, address_of, record_of, spki_of


class AnswerTestCase(SynchronousTestCase):
    """A still ring of ten, and the host on m0."""

    def setUp(self) -> None:
        self.net = RingNet()
        self.names = self.net.frozen(10)
        self.host = self.net.machines["m0"].ring
        self.place = self.host.positions[0]

    def greeting(self, name: str, **changes: Any) -> Greeting:
        """Who asks."""
        return msgspec.structs.replace(self.net.machines[name].greeting(), **changes)

    def ask(self, method: str, body: Any, caller: Any = None) -> Any:
        """The answer, or its error raised."""
        return self.host.handlers()[method](caller or self.greeting("m1"), body)

    def at(self, name: str) -> PositionUpkeep:
        """A machine's position."""
        return self.net.machines[name].ring.positions[0]


class NeighbourTests(AnswerTestCase):
    """get-neighbours."""

    def test_the_state_as_it_is(self) -> None:
        """Position, epoch, predecessor and list."""
        told = self.ask("get-neighbours", bodies.GetNeighbours(0))
        self.assertEqual(told.position, self.place.member.ref)
        self.assertEqual(told.successors, tuple(entry.ref for entry in self.place.successors))
        self.assertEqual(told.predecessor, self.place.predecessor.ref if self.place.predecessor else None)

    def test_a_suspected_predecessor_is_not_told(self) -> None:
        """Nobody is sent to one who does not answer."""
        self.place.state = self.place.state._replace(suspected=True)
        self.assertIsNone(self.ask("get-neighbours", bodies.GetNeighbours(0)).predecessor)

    def test_only_members_answer(self) -> None:
        """Neither a position that has not joined, nor a host that leaves."""
        self.place.is_member = False
        self.assertRaises(NotReady, self.ask, "get-neighbours", bodies.GetNeighbours(0))
        self.place.is_member = True
        for status in ("NEW", "LEAVING", "STOPPED"):
            self.host.status = status
            self.assertRaises(NotReady, self.ask, "get-neighbours", bodies.GetNeighbours(0))
        self.host.status = "JOINING"
        self.ask("get-neighbours", bodies.GetNeighbours(0))

    def test_positions_that_are_none(self) -> None:
        """There is but one here."""
        for index in (1, 99):
            self.assertRaises(BadMessage, self.ask, "get-neighbours", bodies.GetNeighbours(index))

    def test_a_ring_with_other_settings(self) -> None:
        """Its nodes are told that they are wrong here."""
        for changes in ({"copies": 5}, {"virtual_nodes": 8}):
            self.assertRaises(
                NotReady, self.ask, "get-neighbours", bodies.GetNeighbours(0), self.greeting("m1", **changes)
            )

    def test_a_caller_is_met(self) -> None:
        """A node of our ring that asks is known from then on, a user is not."""
        stranger = self.net.machine("stranger").greeting()
        self.ask("get-neighbours", bodies.GetNeighbours(0), stranger)
        self.assertIn(stranger.fp, self.host.hosts)
        user = msgspec.structs.replace(stranger, spki=spki_of("user"), role="user", copies=0, virtual_nodes=0)
        self.ask("get-neighbours", bodies.GetNeighbours(0), user)
        self.assertNotIn(user.fp, self.host.hosts)


class FindTests(AnswerTestCase):
    """find-successor: one step."""

    def find(self, key: int, index: int = -1) -> bodies.Found:
        """The step."""
        found: bodies.Found = self.ask("find-successor", bodies.FindSuccessor(ids.to_bytes(key), index))
        return found

    def test_a_key_of_ours(self) -> None:
        """We say so, with our range and whole list."""
        found = self.find(self.place.id)
        self.assertTrue(found.owns)
        self.assertFalse(found.final)
        self.assertEqual(found.successors, tuple(entry.ref for entry in self.place.successors))
        self.assertIsNotNone(found.predecessor)

    def test_a_range_is_told_even_if_its_end_is_suspected(self) -> None:
        """The asker checks the claim against it."""
        self.place.state = self.place.state._replace(suspected=True)
        self.assertIsNotNone(self.find(self.place.id).predecessor)
        self.assertIsNone(self.find(self.place.id + 1).predecessor)

    def test_a_key_of_our_successor(self) -> None:
        """Final: from us to it nobody lies between."""
        found = self.find(self.place.id + 1)
        self.assertEqual((found.owns, found.final, found.candidates), (False, True, ()))
        self.assertEqual(found.successors, tuple(entry.ref for entry in self.place.successors))

    def test_a_key_that_our_list_reaches(self) -> None:
        """Those after it are told, its likely owner first."""
        third = self.place.successors[2]
        found = self.find(third.id - 1)
        self.assertEqual(found.successors, tuple(entry.ref for entry in self.place.successors[2:]))
        self.assertEqual(found.candidates[0], self.place.successors[1].ref)

    def test_a_key_far_away(self) -> None:
        """Members before it, nearest first, and nothing that is no progress."""
        assert self.place.predecessor is not None
        key = self.place.predecessor.id
        found = self.find(key)
        self.assertEqual(found.successors, ())
        distances = []
        for ref in found.candidates:
            member = self.host.hosts.member(ref)
            assert member is not None
            distances.append(ids.distance(member.id, key))
        self.assertEqual(distances, sorted(distances))
        self.assertLess(distances[-1], ids.distance(self.place.id, key))
        self.assertLessEqual(len(distances), 8)

    def test_we_tell_ourselves_all(self) -> None:
        """However many of those nearest to the key turn out to be dead, and whatever fits into a message."""
        net = RingNet()
        net.frozen(60, table=True)
        host = net.machines["m0"].ring
        place = host.positions[0]
        assert place.predecessor is not None
        question = bodies.FindSuccessor(ids.to_bytes(place.predecessor.id), 0)
        told = host.handlers()["find-successor"](net.machines["m1"].greeting(), question)
        known = host._answers.find_successor_here(question).candidates
        self.assertEqual(len(told.candidates), 8)
        self.assertEqual(known[:8], told.candidates)
        self.assertGreater(len(known), 12)

    def test_keys_that_are_none(self) -> None:
        """Twenty bytes, neither more nor less."""
        for raw in (b"", bytes(19), bytes(21)):
            self.assertRaises(BadMessage, self.ask, "find-successor", bodies.FindSuccessor(raw, -1))

    def test_not_before_we_have_joined(self) -> None:
        """Nobody is told anything by a host that is on no ring."""
        self.place.is_member = False
        self.assertRaises(NotReady, self.find, 5)

    def test_the_best_of_several_positions(self) -> None:
        """The one that owns the key, or else the last one before it; and one
        asked by name points to its siblings."""
        net = RingNet(virtual_nodes=8, list_size=None)
        net.frozen(1)
        self.host = net.machines["m0"].ring
        places = sorted(self.host.positions, key=lambda place: place.id)
        for place in places:
            caller = net.machine("asker").greeting()
            body = bodies.FindSuccessor(ids.to_bytes(place.id), -1)
            self.assertEqual(self.ask("find-successor", body, caller).position, place.member.ref)
            named = bodies.FindSuccessor(ids.to_bytes(place.id), places[0].index)
            found = self.ask("find-successor", named, caller)
            self.assertEqual(found.position, places[0].member.ref)
            self.assertTrue(found.owns or place.member.ref in found.successors)


class NoticeTests(AnswerTestCase):
    """notify and leaving."""

    def test_nobody_speaks_for_another(self) -> None:
        """The candidate is the caller's own position."""
        told = bodies.Notify(0, self.at("m2").member.ref, False)
        self.assertRaises(BadMessage, self.ask, "notify", told, self.greeting("m1"))

    def test_it_changes_nothing_by_itself(self) -> None:
        """Neither predecessor nor list."""
        before = self.place.state
        for name in self.names[1:]:
            self.ask("notify", bodies.Notify(0, self.at(name).member.ref, False), self.greeting(name))
        self.assertIs(self.place.state, before)

    def test_a_goodbye(self) -> None:
        """The host's positions go at once, and no others."""
        gone = self.place.successors[0]
        name = next(name for name in self.names if self.net.machines[name].fp == gone.fp)
        self.ask("leaving", bodies.Leaving(1, False), self.greeting(name))
        self.assertNotIn(gone, self.place.successors)
        self.assertEqual(len(self.place.successors), 3)
        self.assertIn(gone.fp, self.host.hosts)

    def test_a_goodbye_for_good(self) -> None:
        """It counts no more, and is not met again."""
        gone = self.place.successors[0]
        name = next(name for name in self.names if self.net.machines[name].fp == gone.fp)
        self.ask("leaving", bodies.Leaving(1, True), self.greeting(name))
        self.assertNotIn(gone.fp, self.host.hosts)
        self.assertRaises(NotReady, self.ask, "get-neighbours", bodies.GetNeighbours(0), self.greeting(name))

    def test_a_goodbye_of_an_earlier_life(self) -> None:
        """It is back already."""
        name = "m1"
        self.host.hosts.learn(record_of(name, 5))
        self.ask("leaving", bodies.Leaving(4, True), self.greeting(name))
        self.assertIn(self.net.machines[name].fp, self.host.hosts)

    def test_our_own_goodbye_is_none(self) -> None:
        """Somebody with our key cannot make us leave ourselves."""
        self.ask("leaving", bodies.Leaving(99, True), self.greeting("m0"))
        self.assertFalse(self.host.hosts.is_retired(self.host.fp))


class OtherTests(AnswerTestCase):
    """ping and get-node-records."""

    def test_ping(self) -> None:
        """Incarnation and status."""
        told = self.ask("ping", bodies.Ping())
        self.assertEqual((told.incarnation, told.status), (1, "MEMBER"))

    def test_how_long_all_was_quiet(self) -> None:
        """Seconds since a neighbour of any position changed."""
        self.place.update(self.place.state._replace(epoch=self.place.state.epoch + 1))
        self.net.clock.callLater(7.5, lambda: None)
        self.host.stop()
        self.net.run(7.5)
        self.assertEqual(self.ask("ping", bodies.Ping()).quiet, 7)
        self.place.update(self.place.state._replace(epoch=self.place.state.epoch + 1))
        self.assertEqual(self.ask("ping", bodies.Ping()).quiet, 0)

    def test_what_a_client_may_know_of_hosts(self) -> None:
        """All of them, dead ones included; it compares nothing."""
        dead = self.host.hosts.fps()[0]
        self.host.hosts.dead(dead)
        client = Greeting((1,), (1,), spki_of("a client"), "user", 0, 0, "", 0, bytes(32))
        told = self.ask("compare-hosts", bodies.CompareHosts(()), client)
        self.assertEqual({mark.fp for mark in told.marks}, {self.host.fp, *self.host.hosts.fps()})
        self.assertEqual([mark.state for mark in told.marks if mark.fp == dead], [0])
        self.assertRaises(BadMessage, self.ask, "compare-hosts", bodies.CompareHosts((bytes(8),)), client)

    def test_records_by_name(self) -> None:
        """Those asked for, as far as they are known."""
        known = self.host.hosts.fps()[0]
        told = self.ask("get-node-records", bodies.GetNodeRecords((known, bytes(32))))
        self.assertEqual([ids.fingerprint(record.spki) for record in told.records], [known])

    def test_records_have_a_limit(self) -> None:
        """However many are asked for."""
        for number in range(300):
            self.host.hosts.learn(record_of(f"other{number}"))
        told = self.ask("get-node-records", bodies.GetNodeRecords(tuple(self.host.hosts.fps())))
        self.assertEqual(len(told.records), 256)

    def test_nobody_asks_anybody(self) -> None:
        """No handler makes a call: they would wait for each other."""
        before = len(self.net.calls)
        for method, body in (
            ("ping", bodies.Ping()),
            ("get-neighbours", bodies.GetNeighbours(0)),
            ("find-successor", bodies.FindSuccessor(bytes(20), -1)),
            ("notify", bodies.Notify(0, self.at("m1").member.ref, False)),
            ("get-node-records", bodies.GetNodeRecords(())),
            ("compare-hosts", bodies.CompareHosts(())),
        ):
            self.ask(method, body)
        self.net.run(0)
        self.assertEqual(len(self.net.calls), before)

    def test_a_twin_is_noted(self) -> None:
        """Who greets us with our key from another place."""
        self.ask("ping", bodies.Ping(), self.greeting("m0", address="tcp:copy:1"))
        self.assertEqual([claim.address for claim in self.host.hosts.take_claims()], ["tcp:copy:1"])
        self.ask("ping", bodies.Ping(), self.greeting("m0"))
        self.assertEqual(self.host.hosts.take_claims(), [])
        self.assertEqual(self.host.address, address_of("m0"))
