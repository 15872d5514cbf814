"""Every host comes to know all hosts, and who is retired."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.errors import BadMessage, HostRetired, LookupFailed, NotReady
from peerstore.ring.gossip import MAX_MARKS, shares_for
from peerstore.ring.host import RingHost
from peerstore.ring.hosts import ALIVE, RETIRED
from peerstore.wire import bodies
from tests.support.ring_net import RingNet, address_of, record_of


class GossipTestCase(SynchronousTestCase):
    """A net of machines."""

    def setUp(self) -> None:
        self.net = RingNet()

    def host(self, name: str) -> RingHost:
        """The host on that machine."""
        return self.net.machines[name].ring

    def counts(self) -> set[int]:
        """How many hosts each of those that run knows."""
        return {len(machine.ring.hosts) for machine in self.net.running()}


class SharesTests(SynchronousTestCase):
    """Into how many shares a table is cut."""

    def test_a_power_of_two_that_grows_with_the_table(self) -> None:
        """About four hosts in each, 256 shares at most."""
        expected = {0: 1, 1: 1, 4: 1, 5: 2, 8: 2, 9: 4, 100: 32, 1000: 256, 100_000: 256}
        self.assertEqual({hosts: shares_for(hosts) for hosts in expected}, expected)


class AnswerTests(GossipTestCase):
    """compare-hosts."""

    def setUp(self) -> None:
        super().setUp()
        self.net.frozen(6)
        for name in [f"other{number}" for number in range(30)]:
            self.host("m0").hosts.learn(record_of(name))

    def ask(self, digests: tuple[bytes, ...], name: str = "m1", **changes: Any) -> bodies.HostMarks:
        """What m0 answers."""
        caller = msgspec.structs.replace(self.net.machines[name].greeting(), **changes)
        told: bodies.HostMarks = self.host("m0").handlers()["compare-hosts"](caller, bodies.CompareHosts(digests))
        return told

    def test_everything(self) -> None:
        """No digests at all ask for it."""
        told = self.ask(())
        self.assertEqual({mark.fp for mark in told.marks}, {*self.host("m0").hosts.fps(), self.host("m0").fp})
        self.assertFalse(told.more)

    def test_nothing_where_there_is_no_difference(self) -> None:
        """But what is known of the asker itself, always."""
        told = self.ask(self.host("m0").hosts.digests(8))
        self.assertEqual([mark.fp for mark in told.marks], [self.net.machines["m1"].fp])

    def test_the_shares_that_differ(self) -> None:
        """And no others."""
        digests = list(self.host("m0").hosts.digests(8))
        digests[3] = bytes(8)
        told = self.ask(tuple(digests), "m2")
        asker = self.net.machines["m2"].fp
        self.assertEqual({mark.fp[0] // 32 for mark in told.marks if mark.fp != asker}, {3})

    def test_a_large_difference_comes_in_parts(self) -> None:
        """512 marks, another part each time."""
        for number in range(600):
            self.host("m0").hosts.learn(record_of(f"more{number}"))
        seen: set[bytes] = set()
        for _ in range(12):
            told = self.ask(())
            self.assertTrue(told.more)
            self.assertLessEqual(len(told.marks), MAX_MARKS + 1)
            seen.update(mark.fp for mark in told.marks)
        self.assertEqual(len(seen), len(self.host("m0").hosts))

    def test_digests_that_are_none(self) -> None:
        """A number of shares that is no power of two, or too many."""
        for count in (3, 5, 257, 512, 1000):
            self.assertRaises(BadMessage, self.ask, (bytes(8),) * count)

    def test_a_ring_with_other_settings(self) -> None:
        """Its tables are none of our business."""
        self.assertRaises(NotReady, self.ask, (), copies=5)


class SpreadTests(GossipTestCase):
    """News reaches everybody."""

    def test_a_ring_knows_all_its_hosts(self) -> None:
        """Forty of them, each of which meets a few; soon after it has formed."""
        self.net.ring(40)
        self.assertTrue(self.net.until(lambda: self.counts() == {40}, 60), self.counts())

    def test_a_newcomer_knows_all_at_once(self) -> None:
        """It asks for everything when it joins."""
        self.net.ring(20)
        self.net.run(60)
        host = self.net.start("late", "m0")
        self.net.until(lambda: host.status == "MEMBER", 5, 0.01)
        self.assertEqual(len(host.hosts), 21)
        self.assertGreater(len(host.hosts.ring()), 15)

    def test_and_is_known_by_all_within_a_minute_or_two(self) -> None:
        """Though they were at rest."""
        names = self.net.ring(20)
        self.net.run(300)
        fp = self.net.start("late", "m0").fp
        self.assertTrue(self.net.until(lambda: all(fp in self.host(name).hosts for name in names), 120))

    def test_a_move_is_known_by_all(self) -> None:
        """The new address, everywhere."""
        names = self.net.ring(15)
        machine = self.net.machines["m3"]
        machine.crash()
        machine.address = "tcp:moved:1"
        machine.start("m0")

        def moved(name: str) -> bool:
            record = self.host(name).hosts.record(machine.fp)
            return record is not None and record.addresses == ("tcp:moved:1",)

        self.assertTrue(self.net.until(lambda: all(moved(name) for name in names), 120))

    def check_spreads(self, seconds: float, incarnation: int) -> None:
        """A record of a host that nobody can meet reaches everybody."""
        record = record_of("gone", incarnation)
        self.host("m0").hosts.learn(record)
        self.host("m0").gossip.news()
        fp = ids.fingerprint(record.spki)
        known = lambda: all(m.ring.hosts.record(fp) == record for m in self.net.running())  # noqa: E731
        began = self.net.clock.seconds()
        self.assertTrue(self.net.until(known, seconds), f"not within {seconds} s")
        self.assertGreater(self.net.clock.seconds(), began)

    def test_news_of_a_host_that_nobody_meets(self) -> None:
        """By exchange alone: whoever is asked and sees a difference asks back,
        so it takes seconds, and not several rounds of half a minute."""
        self.net.ring(25)
        self.net.run(300)
        self.check_spreads(35, 3)
        self.net.run(300)
        self.check_spreads(35, 4)

    def test_news_wakes_upkeep(self) -> None:
        """Somebody new may belong between us and a neighbour: whoever hears of
        it looks at once, and not when the half minute is over."""
        self.net.ring(6)
        self.net.run(300)
        host = self.host("m0")
        asked = lambda: sum(call[::2] == ("m0", "get-neighbours") for call in self.net.calls)  # noqa: E731
        self.net.until(lambda: asked() > 0, 60)
        self.net.calls.clear()
        self.net.result(_deferred(host.gossip.exchange(address_of("m1"))))
        self.net.run(0.2)
        self.assertEqual(asked(), 0)
        self.host("m1").hosts.learn(record_of("new"))
        self.net.result(_deferred(host.gossip.exchange(address_of("m1"))))
        self.net.run(0.2)
        self.assertGreater(asked(), 0)

    def test_at_rest_it_costs_a_few_bytes_a_second(self) -> None:
        """Two small messages each half minute, and nothing fetched."""
        self.net.ring(20)
        self.net.run(300)
        before = len(self.net.calls)
        self.net.run(300)
        told = [method for _, _, method in self.net.calls[before:]]
        self.assertLess(told.count("compare-hosts") / 20 / 300, 0.06)
        self.assertEqual(told.count("get-node-records"), 0)

    def per_minute(self, minutes: int) -> tuple[float, float]:
        """Exchanges, and bytes of exchanges and of what they fetched, for each
        host in a minute."""
        self.net.traffic.clear()
        before = len(self.net.calls)
        self.net.run(60 * minutes)
        share = 1 / minutes / len(self.net.running())
        calls = sum(method == "compare-hosts" for _, _, method in self.net.calls[before:])
        return calls * share, (self.net.traffic["compare-hosts"] + self.net.traffic["get-node-records"]) * share

    def test_what_it_costs_at_a_hundred_hosts(self) -> None:
        """Two exchanges a minute for each, of 0.44 kB each way and back; a
        newcomer makes that ten or so, for a minute, and all know it then."""
        names = self.net.frozen(100, fingers=False, table=True)
        self.net.thaw(names)
        self.net.run(120)
        calls, size = self.per_minute(3)
        self.assertLess(calls, 2.3)
        self.assertLess(size, 950)
        self.net.start("new", "m0")
        calls, size = self.per_minute(1)
        self.assertEqual(self.counts(), {101})
        self.assertLess(calls, 15)
        self.assertLess(size, 10_000)
        calls, size = self.per_minute(1)
        self.assertLess(size, 1200)

    def test_tables_that_cannot_agree_cost_no_more_than_one_exchange_a_second(self) -> None:
        """One host met another in a life that lies too far from the one in
        which all others met it: neither believes the other."""
        names = self.net.ring(8)
        self.net.run(300)
        for name in names:
            self.host(name).hosts.learn(record_of("x", 1 if name == "m0" else 1 << 30))
        calls, _ = self.per_minute(5)
        self.assertLess(calls, 60)
        self.assertEqual(self.counts(), {9})

    def test_no_message_grows_with_the_ring(self) -> None:
        """Two tables of two thousand that have nothing in common: each exchange
        is bounded, and they get there."""
        one, two = self.net.frozen(2)
        for number in range(2000):
            self.host((one, two)[number % 2]).hosts.learn(record_of(f"h{number}"))
        sizes: list[int] = []
        for exchange in range(12):
            asker, asked = (one, two) if exchange % 2 else (two, one)
            self.net.traffic.clear()
            self.net.result(_deferred(self.host(asker).gossip.exchange(address_of(asked))))
            sizes.append(self.net.traffic["compare-hosts"])
        self.assertLess(max(sizes), 24_000)
        self.assertEqual([len(self.host(name).hosts) for name in (one, two)], [2002, 2002])

    def test_lookups_take_one_step(self) -> None:
        """Where everybody knows everybody."""
        names = self.net.ring(30)
        self.net.run(60)
        before = len(self.net.calls)
        for number in range(100):
            self.net.result(self.host(names[number % 30]).lookup(number * ids.RING_SIZE // 100))
        steps = sum(method == "find-successor" for _, _, method in self.net.calls[before:])
        self.assertLessEqual(steps, 120)

    def test_what_was_found_out_is_not_overruled_by_hearsay(self) -> None:
        """A host that we know to be dead is not alive because others think so."""
        self.net.frozen(5)
        host = self.host("m0")
        gone = self.net.machines["m4"]
        host.hosts.learn(record_of("m4"))
        host.liveness.drop(gone.fp)
        self.host("m1").hosts.learn(record_of("m4"))
        self.host("m1").hosts.alive(gone.fp)
        self.host("m1").hosts.learn(record_of("unheard of"))
        self.net.result(_deferred(host.gossip.exchange(address_of("m1"))))
        self.assertFalse(host.hosts.is_alive(gone.fp))
        self.assertEqual(len(host.hosts), len(self.host("m1").hosts))
        # Nor later, unless we ask for everything: it has been dead all along.
        self.net.run(60)
        self.host("m1").hosts.learn(record_of("unheard of, too"))
        self.net.result(_deferred(host.gossip.exchange(address_of("m1"))))
        self.assertFalse(host.hosts.is_alive(gone.fp))
        self.net.result(_deferred(host.gossip.exchange(address_of("m1"), everything=True)))
        self.assertTrue(host.hosts.is_alive(gone.fp))


class RememberedTests(GossipTestCase):
    """Dead hosts leave every list at once, and nobody's table: n counts those
    that were ever admitted and not retired."""

    def setUp(self) -> None:
        super().setUp()
        self.names = self.net.ring(6)
        self.net.run(60)
        self.gone = [self.net.machines[name] for name in ("m2", "m4")]
        self.rest = [name for name in self.names if name not in ("m2", "m4")]
        self.died = self.net.clock.seconds()
        for machine in self.gone:
            machine.crash()
        self.net.run(60)

    def check_known(self, name: str) -> None:
        """That host has them in no list, and in its table: when last seen, too."""
        host = self.host(name)
        dead = {machine.fp for machine in self.gone}
        self.assertFalse(dead & {member.fp for place in host.positions for member in place.neighbours()})
        self.assertFalse(dead & {member.fp for member in host.hosts.ring()})
        for machine in self.gone:
            self.assertFalse(host.hosts.is_alive(machine.fp))
            self.assertEqual(host.hosts.record(machine.fp), record_of(machine.name))

    def test_by_those_that_were_there(self) -> None:
        """All four know six, and when they last heard of each."""
        for name in self.rest:
            self.check_known(name)
            hosts = self.host(name).hosts
            self.assertEqual(hosts.known_count(), 6)
            seen = [hosts.last_seen(machine.fp) for machine in self.gone]
            self.assertTrue(all(at is not None and self.died - 70 < at <= self.died + 0.01 for at in seen), seen)

    def test_by_those_that_come_later(self) -> None:
        """A newcomer never met them, and counts them all the same."""
        self.net.start("late", "m0")
        self.assertTrue(self.net.until(lambda: self.counts() == {7}, 120), self.counts())
        self.check_known("late")

    def test_by_those_that_start_again(self) -> None:
        """All of them, on what is on their disks."""
        before = {name: self.host(name).hosts.last_seen(self.gone[0].fp) for name in self.rest}
        for name in self.rest:
            self.net.machines[name].crash()
        for name in self.rest:
            self.net.start(name)
        self.net.run(60)
        self.assertEqual(self.counts(), {6})
        for name in self.rest:
            self.check_known(name)
            self.assertEqual(self.host(name).hosts.last_seen(self.gone[0].fp), float(int(before[name] or 0)))

    def test_by_one_that_dials_in_vain(self) -> None:
        """A lookup is refused once: not asked again, not forgotten."""
        host = self.host("m0")
        other = self.net.machines["m3"]
        other.crash()
        where = host.hosts.position(other.fp, 0)
        self.assertRaises(LookupFailed, self.net.result, _deferred(host.search(where.id).owner([where])))
        self.assertFalse(host.hosts.is_alive(other.fp))
        self.assertEqual(host.hosts.known_count(), 6)

    def test_until_they_come_back(self) -> None:
        """Then they are as good as before."""
        for machine in self.gone:
            machine.start("m0")
        self.assertTrue(self.net.until(self.net.is_ideal, 30))
        fp = self.gone[0].fp
        after = self.net.machines["m2"].ring.positions[0].successors[0].fp
        near = next(machine.ring.hosts for machine in self.net.running() if machine.fp == after)
        self.assertTrue(near.is_alive(fp))
        self.assertGreater(near.last_seen(fp) or 0, self.died)


class ReturnTests(GossipTestCase):
    """Who lives is asked for again when somebody comes back."""

    def test_after_a_cut_everybody_is_a_hint_again(self) -> None:
        """Thirty, of whom each half had found the other dead: a minute after
        the cut is mended each knows that all the others live."""
        names = self.net.frozen(30, table=True)
        halves = names[:15], names[15:]
        self.net.thaw(names)
        for near, far in (halves, halves[::-1]):
            for name in near:
                for other in far:
                    self.host(name).liveness.drop(self.net.machines[other].fp)
        self.assertTrue(all(len(self.host(name).hosts.ring()) == 14 for name in names))
        known = lambda: all(len(self.host(name).hosts.ring()) == 29 for name in names)  # noqa: E731
        self.assertTrue(self.net.until(known, 95), [len(self.host(name).hosts.ring()) for name in names])

    def test_what_we_just_found_out_stands(self) -> None:
        """For half a minute."""
        self.net.frozen(3)
        host, gone = self.host("m0"), self.net.machines["m2"].fp
        host.hosts.learn(record_of("m2"))
        host.liveness.drop(gone)
        host.hosts.said_alive(gone)
        self.assertFalse(host.hosts.is_alive(gone))
        self.net.run(29)
        host.hosts.said_alive(gone)
        self.assertFalse(host.hosts.is_alive(gone))
        self.net.run(2)
        host.hosts.said_alive(gone)
        self.assertTrue(host.hosts.is_alive(gone))


class LiarTests(GossipTestCase):
    """What others say is bounded."""

    def setUp(self) -> None:
        super().setUp()
        self.net.frozen(4)

    def exchange(self, **changes: Any) -> None:
        """m0 compares with m1, which lies."""
        self.net.lies["m1", "compare-hosts"] = lambda told: msgspec.structs.replace(told, **changes)
        self.net.result(_deferred(self.host("m0").gossip.exchange(address_of("m1"))))

    def test_marks_without_end(self) -> None:
        """No more are read than may be sent."""
        marks = tuple(bodies.HostMark(bytes(28) + number.to_bytes(4, "big"), 1, RETIRED) for number in range(5000))
        self.exchange(marks=marks)
        retired = sum(self.host("m0").hosts.is_retired(mark.fp) for mark in marks)
        self.assertLessEqual(retired, MAX_MARKS + 1)

    def test_hosts_for_which_there_is_no_record(self) -> None:
        """Nothing is learned of them."""
        before = len(self.host("m0").hosts)
        self.exchange(marks=(bodies.HostMark(bytes(32), 1, ALIVE), bodies.HostMark(b"short", 1, ALIVE)))
        self.assertEqual(len(self.host("m0").hosts), before)

    def test_a_state_that_is_none(self) -> None:
        """It is as good as known."""
        self.exchange(marks=(bodies.HostMark(self.net.machines["m2"].fp, 1, 77),))
        self.assertFalse(self.host("m0").hosts.is_retired(self.net.machines["m2"].fp))


class RetireTests(GossipTestCase):
    """Hosts that are gone for good."""

    def setUp(self) -> None:
        super().setUp()
        self.names = self.net.ring(8)
        self.net.run(30)
        self.gone = self.net.machines["m5"]
        self.rest = [name for name in self.names if name != "m5"]

    def all_know(self) -> bool:
        """Whether all others count it no more."""
        return all(self.host(name).hosts.known_count() == 7 for name in self.rest)

    def test_by_itself(self) -> None:
        """It says so to its neighbours, and everybody hears of it."""
        self.net.result(self.gone.leave(retired=True))
        self.assertTrue(self.net.until(self.all_know, 120))
        self.assertTrue(self.net.until(lambda: self.net.is_ideal(self.rest), 10))

    def test_by_another(self) -> None:
        """It died, and somebody says at one node that it will not come back."""
        self.gone.crash()
        self.net.run(300)
        self.assertEqual(self.host("m0").hosts.known_count(), 8)
        self.host("m0").retire(self.gone.fp)
        # All were at rest, and are told within seconds.
        self.assertTrue(self.net.until(self.all_know, 15))

    def test_nobody_brings_it_back(self) -> None:
        """Not one who was down when it was retired, and knows it still."""
        self.net.machines["m2"].crash()
        self.gone.crash()
        self.host("m0").retire(self.gone.fp)
        self.net.run(120)
        self.net.start("m2", "m0")
        self.net.run(120)
        self.assertTrue(all(self.host(name).hosts.is_retired(self.gone.fp) for name in self.rest))
        self.assertTrue(self.all_know())

    def test_it_is_told_when_it_comes_back(self) -> None:
        """In one plain line; it is not taken in, and keeps what it holds."""
        self.gone.crash()
        self.host("m0").retire(self.gone.fp)
        self.assertTrue(self.net.until(self.all_know, 120))
        host = self.gone.start("m0")
        self.net.run(30)
        self.assertEqual([type(error) for error in self.gone.gave_up], [HostRetired])
        self.assertEqual(host.status, "STOPPED")
        self.assertTrue(self.net.is_ideal(self.rest))

    def test_it_is_told_while_it_runs(self) -> None:
        """It was retired by mistake, or was only thought lost."""
        self.host("m0").retire(self.gone.fp)
        self.assertTrue(self.net.until(lambda: bool(self.gone.gave_up), 120))
        self.assertTrue(self.net.until(lambda: self.net.is_ideal(self.rest), 60))

    def test_it_knows_by_itself(self) -> None:
        """What it keeps says so: it asks nobody, and does not start."""
        self.net.result(self.gone.leave(retired=True))
        before = len(self.net.calls)
        self.gone.start("m0")
        self.net.run(10)
        self.assertEqual([type(error) for error in self.gone.gave_up], [HostRetired])
        self.assertFalse([call for call in self.net.calls[before:] if call[0] == "m5"])

    def test_everybody_restarts(self) -> None:
        """It is on every disk."""
        self.gone.crash()
        self.host("m0").retire(self.gone.fp)
        self.net.until(self.all_know, 120)
        for name in self.rest:
            self.net.machines[name].crash()
        for name in self.rest:
            self.net.start(name)
        self.net.run(60)
        self.assertTrue(self.all_know())

    def test_retired_ones_with_a_new_key_are_new(self) -> None:
        """The machine itself may take part again."""
        self.net.result(self.gone.leave(retired=True))
        self.net.run(60)
        self.net.machine("m5 anew", at=address_of("m5")).start("m0")
        self.assertTrue(self.net.until(self.net.is_ideal, 30))


def _deferred(coroutine: Any) -> Any:
    return Deferred.fromCoroutine(coroutine)
