"""Getting onto the ring: first, late, at once, again, and where one is not wanted."""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.errors import Busy
from peerstore.ring.host import RingHost
from peerstore.ring.joining import discover_settings
from tests.support.ring_net import RingNet, address_of


class JoinTestCase(SynchronousTestCase):
    """Machines that may start."""

    virtual_nodes = 1
    list_size: int | None = 4

    def setUp(self) -> None:
        self.net = RingNet(virtual_nodes=self.virtual_nodes, list_size=self.list_size)
        self.said: list[LogEvent] = []
        globalLogPublisher.addObserver(self.said.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.said.append)

    def words(self, part: str) -> list[str]:
        """What was logged that has *part* in it."""
        texts = [str(event.get("log_format") or "").format_map(_Lenient(event)) for event in self.said]
        return [text for text in texts if part in text]

    def ideal(self, *names: str, seconds: float = 60.0) -> None:
        """These machines (or all that run) become one ideal ring in time."""
        self.assertTrue(self.net.until(lambda: self.net.is_ideal(names), seconds), self.net.missing(names))


class _Lenient(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return ""


class FirstTests(JoinTestCase):
    """A ring's first node."""

    def test_it_is_a_member_at_once(self) -> None:
        """Nobody was named to it, so nobody is waited for."""
        host = self.net.start("a")
        self.net.run(0.01)
        self.assertEqual((host.status, host.alone), ("MEMBER", True))
        self.assertTrue(all(host.own_position(key) for key in (0, 5, ids.RING_SIZE - 1)))
        self.assertEqual(self.words("nobody answers"), [])

    def test_the_second_makes_it_two(self) -> None:
        """Each is before and after the other."""
        self.net.start("a")
        self.net.run(1)
        self.net.start("b", "a")
        self.ideal("a", "b", seconds=5)

    def test_all_the_way_to_twelve(self) -> None:
        """One after the other, each through any of those before."""
        self.net.start("m0")
        for number in range(1, 12):
            self.net.run(0.2)
            self.net.start(f"m{number}", f"m{(number * 7) % number}")
        self.ideal(seconds=30)

    def test_lists_are_full_from_the_first_moment(self) -> None:
        """The Go program, like Chord's papers, joined with one pointer."""
        self.net.ring(8)
        host = self.net.start("late", "m0")
        self.net.until(lambda: host.status == "MEMBER", 5, 0.001)
        place = host.positions[0]
        self.assertEqual(len(place.successors), 4)
        self.assertIsNotNone(place.predecessor)

    def test_a_joiner_takes_its_successor_for_its_successor(self) -> None:
        """Between its two neighbours, whichever of the others it asks."""
        names = self.net.ring(6)
        for number, name in enumerate(names):
            host = self.net.start(f"late{number}", name)
            self.net.until(lambda host=host: host.status == "MEMBER", 5, 0.001)
            place = host.positions[0]
            others = sorted(at.id for m in self.net.running() if m.host is not host for at in m.ring.positions)
            after = next((other for other in others if other > place.id), others[0])
            self.assertEqual(place.successors[0].id, after)


class DownTests(JoinTestCase):
    """A bootstrap peer that is not there."""

    def test_it_starts_alone_says_so_and_joins_when_the_peer_appears(self) -> None:
        """Once said, and no more than seconds after the peer is up."""
        host = self.net.start("b", "a")
        self.assertTrue(self.net.until(lambda: host.status == "MEMBER", 30))
        self.assertTrue(host.alone)
        self.assertEqual(len(self.words("this node starts alone and joins when somebody does")), 1)
        self.net.run(120)
        self.net.start("a")
        self.ideal("a", "b", seconds=15)
        self.assertEqual(len(self.words("this node starts alone")), 1)

    def test_unreachable_is_like_down(self) -> None:
        """Where dialling takes seconds to fail, it does not take for ever."""
        self.net.start("a")
        self.net.cut(["a"], ["b"])
        host = self.net.start("b", "a")
        self.assertTrue(self.net.until(lambda: host.status == "MEMBER", 40))
        self.net.run(600)
        self.net.heal()
        # No back-off is waited out by who is alone.
        self.ideal("a", "b", seconds=9)

    def test_one_of_two_is_enough(self) -> None:
        """The other is looked for, and the ring comes to rest nevertheless."""
        self.net.start("a")
        host = self.net.start("b", "gone", "a")
        self.ideal("a", "b", seconds=10)
        self.assertFalse(self.words("this node starts alone"))
        self.net.run(600)
        before = len(self.net.calls)
        self.net.run(100)
        self.assertLess(len(self.net.calls) - before, 100)
        self.assertTrue(host.settled)

    def test_a_peer_that_comes_up_an_hour_later_is_met(self) -> None:
        """It had started a ring of its own."""
        self.net.start("b", "a")
        self.net.run(3600)
        self.net.start("a")
        self.ideal("a", "b", seconds=15)

    def test_an_island_meets_the_ring_it_was_told_of(self) -> None:
        """Three that found only each other, and a ring that came later."""
        self.net.start("x", "m0")
        self.net.start("y", "x")
        self.net.start("z", "y")
        self.ideal("x", "y", "z")
        self.net.run(200)
        self.net.start("m0")
        for name in ("m1", "m2", "m3"):
            self.net.start(name, "m0")
        self.ideal(seconds=60)
        self.assertEqual(len(self.net.running()), 7)


class TogetherTests(JoinTestCase):
    """Several at the same time."""

    def test_all_name_the_first(self) -> None:
        """Eight started in the same instant."""
        for name in ("m1", "m2", "m3", "m4", "m5", "m6", "m7"):
            self.net.start(name, "m0")
        self.net.start("m0")
        self.ideal(seconds=30)

    def test_each_names_the_one_before_it(self) -> None:
        """Last first."""
        for number in (5, 4, 3, 2, 1):
            self.net.start(f"m{number}", f"m{number - 1}")
        self.net.start("m0")
        self.ideal(seconds=40)

    def test_two_name_each_other(self) -> None:
        """Neither is first; both wait, and one begins."""
        self.net.start("a", "b")
        self.net.start("b", "a")
        self.ideal("a", "b", seconds=40)

    def test_many_between_the_same_two(self) -> None:
        """A crowd that joins at once into one gap."""
        self.net.ring(3)
        for number in range(20):
            self.net.start(f"crowd{number}", "m0")
        self.ideal(seconds=60)


class ManyPositionsTests(JoinTestCase):
    """Eight positions a host."""

    virtual_nodes = 8
    list_size = None

    def test_five_at_once(self) -> None:
        """Forty positions, one ideal ring."""
        for name in ("m1", "m2", "m3", "m4"):
            self.net.start(name, "m0")
        self.net.start("m0")
        self.ideal(seconds=30)
        self.assertEqual(len(self.net.machines["m0"].ring.positions[0].successors), 24)

    def test_a_lone_host_is_a_ring_of_eight(self) -> None:
        """In order, and it owns everything."""
        host = self.net.start("a")
        self.net.run(1)
        self.ideal("a", seconds=1)
        self.assertTrue(host.alone)
        self.assertTrue(all(host.own_position(key) for key in range(0, ids.RING_SIZE, ids.RING_SIZE // 64)))

    def test_two_lone_hosts_become_one_ring(self) -> None:
        """Each had a ring of eight."""
        host = self.net.start("b", "a")
        self.net.until(lambda: host.status == "MEMBER", 30)
        self.net.start("a")
        self.ideal("a", "b", seconds=30)

    def test_positions_that_did_not_get_in_try_again(self) -> None:
        """Some refusals while joining; in the end all eight stand."""
        self.net.ring(3)
        refusals = iter(range(25))
        lies = self.net.lies

        def refuse(told: Any) -> Any:
            if next(refusals, None) is not None:
                raise Busy("not now")
            return told

        for name in ("m0", "m1", "m2"):
            lies[name, "find-successor"] = refuse
        self.net.start("late", "m0")
        self.ideal(seconds=60)

    def test_some_positions_that_never_get_in(self) -> None:
        """After a minute it is a member with those that did; the ring goes on
        as if it had so few, and takes the others when it can."""
        names = self.net.ring(3)
        late = self.net.machine("late")
        host = late.build("m0")
        kept_out = {ids.to_bytes(place.id) for place in host.positions[::2]}
        looked_up: Counter[bytes] = Counter()
        handlers = {name: self.net.machines[name].ring.handlers() for name in names}

        def guarded(name: str) -> Any:
            def find(caller: Any, body: Any) -> Any:
                if caller.fp == late.fp and body.key in kept_out:
                    raise Busy("not now")
                looked_up[body.key] += caller.fp == late.fp
                return handlers[name]["find-successor"](caller, body)

            return find

        for name in names:
            table = {**handlers[name], "find-successor": guarded(name)}
            self.patch(self.net.machines[name].ring, "handlers", lambda table=table: table)
        host.start()
        self.net.run(50)
        self.assertEqual(host.status, "JOINING")
        # Whoever got in does not join again while the others try.
        self.assertLess(max(looked_up[ids.to_bytes(place.id)] for place in host.positions[1::2]), 10)
        self.net.run(30)
        self.assertEqual(host.status, "MEMBER")
        self.assertEqual([place.is_member for place in host.positions], [False, True] * 4)
        standing = sorted(place.id for m in self.net.running() for place in m.ring.positions if place.is_member)
        for machine in self.net.running():
            for place in (place for place in machine.ring.positions if place.is_member):
                at = standing.index(place.id)
                self.assertEqual(place.successors[0].id, standing[(at + 1) % len(standing)])
        kept_out.clear()
        self.ideal(seconds=60)


class AgainTests(JoinTestCase):
    """Coming back with the same data."""

    def setUp(self) -> None:
        super().setUp()
        self.names = self.net.ring(6)

    def again(self, wait: float, *bootstrap: str, at: str = "") -> RingHost:
        """m3 crashes, and starts again after so many seconds."""
        machine = self.net.machines["m3"]
        machine.crash()
        self.net.run(wait)
        if at:
            machine.address = at
        return machine.start(*bootstrap)

    def test_at_once(self) -> None:
        """Nobody had noticed; its neighbours see a higher incarnation."""
        self.again(0.0, "m0")
        self.ideal(seconds=20)
        fp = self.net.machines["m3"].fp
        self.assertTrue(self.net.until(lambda: self.all_know(fp, 2), 60))
        entries = [at for m in self.net.running() for place in m.ring.positions for at in place.neighbours()]
        self.assertEqual({entry.incarnation for entry in entries if entry.fp == fp}, {2})

    def all_know(self, fp: bytes, incarnation: int) -> bool:
        """Whether everybody knows of that start."""
        records = [machine.ring.hosts.record(fp) for machine in self.net.running()]
        return all(record is not None and record.incarnation == incarnation for record in records)

    def test_after_everybody_has_noticed(self) -> None:
        """A ring of five for a while, then of six."""
        self.net.machines["m3"].crash()
        rest = [name for name in self.names if name != "m3"]
        self.ideal(*rest, seconds=20)
        self.net.run(60)
        self.net.start("m3", "m0")
        self.ideal(seconds=20)

    def test_without_being_told_of_anybody(self) -> None:
        """Whom it met before is on its disk."""
        self.again(30.0)
        self.ideal(seconds=20)

    def test_at_a_new_address(self) -> None:
        """It is one and the same host, and everybody finds it there."""
        self.again(5.0, "m0", at="tcp:moved:1")
        self.ideal(seconds=20)
        fp = self.net.machines["m3"].fp
        self.assertTrue(self.net.until(lambda: self.all_know(fp, 2), 60))
        for machine in self.net.running():
            entries = [entry for place in machine.ring.positions for entry in place.neighbours() if entry.fp == fp]
            self.assertTrue(all(entry.address == "tcp:moved:1" for entry in entries))

    def test_all_at_once_after_a_power_cut(self) -> None:
        """None is told of any other."""
        for name in self.names:
            self.net.machines[name].crash()
        for name in self.names:
            self.net.start(name)
        self.ideal(seconds=30)

    def test_one_that_starts_while_the_others_are_still_down(self) -> None:
        """It stands alone, and is the ring that the others come back to."""
        for name in self.names:
            self.net.machines[name].crash()
        for name in self.names:
            self.net.start(name)
            self.net.run(20)
        self.ideal(seconds=30)

    def test_with_an_empty_disk(self) -> None:
        """Another key is another host; the old one is left out."""
        self.net.machines["m3"].crash()
        self.net.machine("m3 anew", at=address_of("m3")).start("m0")
        self.ideal(seconds=30)


class SettingsTests(JoinTestCase):
    """Rings that differ in copies or positions do not merge."""

    def discovered(self, *bootstrap: str) -> Any:
        """What a joiner finds out before it starts."""
        asking = discover_settings(self.net.pool(), [address_of(name) for name in bootstrap])
        return self.net.result(_deferred(asking))

    def test_a_joiner_learns_them(self) -> None:
        """From the first that answers."""
        self.net.start("a")
        self.assertEqual(self.discovered("gone", "a"), (3, 1))

    def test_nobody_answers(self) -> None:
        """Then they are not known."""
        self.assertIsNone(self.discovered("gone"))

    def differing(self, name: str, *bootstrap: str) -> RingHost:
        """That machine starts, and keeps five copies where others keep three."""
        self.net.machine(name).copies = 5
        return self.net.start(name, *bootstrap)

    def test_a_ring_that_was_down_and_differs(self) -> None:
        """The node began alone: it says what is wrong and what to do, and
        nobody is taken in."""
        host = self.net.start("b", "a")
        self.net.until(lambda: host.status == "MEMBER", 30)
        other = self.differing("a")
        self.net.run(120)
        self.assertEqual((host.alone, other.alone), (True, True))
        (said,) = self.words("The ring at tcp:a:1 keeps 5 copies, with 1 positions a host, and this node 3, with 1")
        self.assertIn("this node is alone", said)
        self.assertIn("Start it again without --copies and --virtual-nodes", said)
        self.assertEqual(len(host.hosts), 1)

    def test_it_says_so_again_as_long_as_it_lasts(self) -> None:
        """Every ten minutes."""
        self.net.start("b", "a")
        self.net.run(30)
        self.differing("a")
        self.net.run(3600)
        self.assertIn(len(self.words("this node is alone")), (5, 6, 7))

    def test_it_is_not_said_that_nobody_answers(self) -> None:
        """Somebody does; and it is a member all the same, of a ring of its own."""
        self.differing("a")
        host = self.net.start("b", "a")
        self.net.run(30)
        self.assertEqual((host.status, self.words("nobody answers")), ("MEMBER", []))
        self.assertEqual(len(self.words("this node is alone")), 1)

    def test_it_joins_once_the_other_has_been_put_right(self) -> None:
        """It looks there again, however long that took."""
        self.net.start("b", "a")
        self.net.run(10)
        self.differing("a")
        self.net.run(3000)
        self.net.machines["a"].crash()
        self.net.machines["a"].copies = 3
        self.net.start("a")
        self.ideal("a", "b", seconds=15)

    def test_a_ring_that_finds_another_one(self) -> None:
        """One of its nodes was told of it: said once, and it is left alone."""
        self.differing("other")
        self.net.ring(3)
        self.net.start("new", "m0", "other")
        self.net.run(3600)
        self.assertEqual(len(self.words("The ring at tcp:other:1 keeps 5 copies")), 1)
        self.assertEqual(len(self.words("That one is left alone.")), 1)
        self.assertTrue(self.net.is_ideal(["m0", "m1", "m2", "new"]))

    def test_not_more_is_remembered_of_them_than_can_be_of_use(self) -> None:
        """Addresses can be made up: the first 32 are told."""
        host = self.net.start("a")
        self.net.run(1)
        for number in range(100):
            host.strangers.found(f"tcp:x{number}:1", 5, 1)
        self.assertEqual(len(self.words("this node is alone")), 32)

    def test_its_questions_are_refused(self) -> None:
        """Nor does it take us in, if it is the one that asks."""
        self.net.ring(3)
        other = self.net.machine("other")
        other.virtual_nodes = 2
        other.start("m0")
        self.net.run(60)
        self.assertTrue(other.ring.alone)
        self.assertTrue(self.net.is_ideal(["m0", "m1", "m2"]))
        self.assertTrue(all(len(self.net.machines[name].ring.hosts) == 3 for name in ("m0", "m1", "m2")))


class FaultTests(JoinTestCase):
    """What a joiner meets is not always in order."""

    def late(self, *bootstrap: str) -> RingHost:
        """One that joins now."""
        return self.net.start("late", *bootstrap)

    def test_a_peer_that_is_itself_joining(self) -> None:
        """It is waited for."""
        self.net.start("a")
        self.net.errors["a", "find-successor"] = Busy("joining, too")
        host = self.late("a")
        self.net.run(10)
        self.assertEqual(host.status, "JOINING")
        del self.net.errors["a", "find-successor"]
        self.ideal(seconds=10)

    def test_a_predecessor_that_is_dead(self) -> None:
        """The lists lead past it once the ring has noticed."""
        names = self.net.ring(6)
        place = ids.position_id(self.net.machine("late").spki, 0)
        before = min(names, key=lambda name: ids.distance(self.net.machines[name].ring.positions[0].id, place))
        start = next(name for name in names if name != before)
        self.net.machines[before].crash()
        self.late(start)
        self.ideal(seconds=40)

    def test_a_bootstrap_that_dies_while_we_join(self) -> None:
        """At each of the first moments; those who were met in between help."""
        for milliseconds in range(2, 60, 6):
            self.net = RingNet(seed=milliseconds)
            self.net.ring(4)
            self.late("m0")
            self.net.run(milliseconds / 1000)
            self.net.machines["m0"].crash()
            self.net.run(5)
            self.net.start("m0")
            self.ideal(seconds=60)

    def test_a_handler_that_fails(self) -> None:
        """Whatever a peer's fault is, we go on trying until it is mended."""
        self.addCleanup(self.flushLoggedErrors, ZeroDivisionError)
        self.net.ring(3)
        for method in ("ping", "compare-hosts", "find-successor", "get-node-records", "notify", "get-neighbours"):
            self.net.errors["m0", method] = ZeroDivisionError("a fault")
            host = self.net.start(f"late-{method}", "m0", "m1")
            self.net.run(3)
            del self.net.errors["m0", method]
            self.assertTrue(self.net.until(lambda host=host: host.status == "MEMBER", 30), method)
        self.ideal(seconds=60)


class UnreachableTests(JoinTestCase):
    """A node that can dial the others, and they cannot dial it."""

    def test_it_says_so(self) -> None:
        """Once, with the address that it gave; the ring is as it was."""
        names = self.net.ring(4)
        self.net.cut(names, ["late"], one_way=True)
        self.net.start("late", "m0")
        self.net.run(200)
        self.assertEqual(len(self.words(f"does not seem to reach it at {address_of('late')}")), 1)
        self.assertTrue(self.net.is_ideal(names))

    def test_otherwise_nothing_is_said(self) -> None:
        """Not while a ring forms, loses somebody, and is cut and mended."""
        names = self.net.ring(8)
        self.net.machines["m3"].crash()
        self.net.run(60)
        self.net.cut(names[:3], names[4:])
        self.net.run(60)
        self.net.heal()
        self.net.run(60)
        self.net.start("m3", "m0")
        self.ideal()
        self.assertEqual(self.words("does not seem to reach"), [])


def _deferred(coroutine: Any) -> Any:
    return Deferred.fromCoroutine(coroutine)
