"""One key, one node: copied folders, older folders, moved nodes."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import KeyInUse
from tests.support.ring_net import Machine, RingNet, address_of, record_of


class IdentityTestCase(SynchronousTestCase):
    """A ring of six, and a copy of m3's data folder on another machine."""

    knows_all = True

    def setUp(self) -> None:
        self.net = RingNet(knows_all=self.knows_all)
        self.names = self.net.ring(6)
        self.net.run(60)
        self.one = self.net.machines["m3"]
        self.copy = self.net.machine("copy", key="m3")

    def take_copy(self) -> None:
        """The folder as it is now."""
        self.copy.incarnation = self.one.incarnation
        self.copy.saved = self.one.saved if self.one.host is None else self.one.ring.hosts.pack()

    def ideal(self, seconds: float = 60.0) -> None:
        """All that run and have not given up are one ideal ring in time."""
        self.assertTrue(self.net.until(lambda: self.net.is_ideal(self.working()), seconds), self.net.missing())

    def working(self) -> list[str]:
        """Machines whose hosts take part, or are about to."""
        return [machine.name for machine in self.net.running() if machine.ring.serving]

    def check_ended(self, machine: Machine, other: Machine) -> None:
        """This one ended, with a word about the other, which goes on."""
        self.assertEqual([type(error) for error in machine.gave_up], [KeyInUse])
        self.assertIn(other.address, str(machine.gave_up[0]))
        self.assertIn("copies of one", str(machine.gave_up[0]))
        self.assertEqual((machine.ring.status, other.ring.status), ("STOPPED", "MEMBER"))
        self.assertEqual(other.gave_up, [])


class TwinTests(IdentityTestCase):
    """Two live nodes with one key."""

    def test_a_copy_that_starts_beside_the_original(self) -> None:
        """It finds the original at work, and ends before it has joined."""
        self.take_copy()
        self.copy.start("m0")
        self.net.run(10)
        self.check_ended(self.copy, self.one)
        self.ideal()
        fp = self.one.fp
        records = [self.net.machines[name].ring.hosts.record(fp) for name in self.names]
        self.assertEqual({record.addresses for record in records if record}, {(self.one.address,)})

    def test_it_is_told_of_nobody(self) -> None:
        """Whom to ask is in the copied folder."""
        self.take_copy()
        self.copy.start()
        self.net.run(10)
        self.check_ended(self.copy, self.one)

    def test_it_is_told_of_the_original(self) -> None:
        """The only node that it is told of is the one with its own key."""
        self.take_copy()
        self.copy.saved = b""
        self.copy.start("m3")
        self.net.run(10)
        self.check_ended(self.copy, self.one)
        self.ideal()

    def test_a_node_that_is_told_of_itself(self) -> None:
        """Under another name that it goes by: no twin, and no ring either."""
        net = RingNet()
        net.listening["tcp:localhost:1"] = net.machine("a")
        net.machine("a").start("tcp:localhost:1")
        net.run(60)
        self.assertEqual((net.machines["a"].gave_up, net.machines["a"].ring.status), ([], "MEMBER"))

    def test_a_copy_with_many_more_starts(self) -> None:
        """The higher incarnation does not help a newcomer against a member."""
        self.take_copy()
        self.copy.incarnation += 50
        self.copy.start("m0")
        self.net.run(30)
        self.check_ended(self.copy, self.one)
        self.ideal()

    def test_the_original_comes_back_while_its_copy_works(self) -> None:
        """Then it is the original that must not start."""
        self.one.crash()
        self.take_copy()
        self.copy.start("m0")
        self.ideal()
        self.one.start("m0")
        self.net.run(10)
        self.check_ended(self.one, self.copy)
        self.ideal()

    def test_both_start_at_once(self) -> None:
        """One of them ends, and always just one."""
        for milliseconds in (0, 1, 3, 5, 10, 30, 100, 300):
            self.setUp()
            self.one.crash()
            self.take_copy()
            self.net.run(30)
            self.one.start("m0")
            self.net.run(milliseconds / 1000)
            self.copy.start("m1")
            self.net.run(90)
            self.assertEqual(len(self.one.gave_up) + len(self.copy.gave_up), 1, milliseconds)
            self.ideal()

    def test_both_members_of_rings_that_merge(self) -> None:
        """Each worked on its side of a cut; when it is mended one ends."""
        near, far = self.names[:3], ["m4", "m5"]
        self.one.crash()
        self.take_copy()
        self.net.cut([*near, "m3"], [*far, "copy"])
        self.net.run(30)
        self.one.start("m0")
        self.copy.start("m4")
        self.net.run(120)
        self.assertEqual((self.one.ring.status, self.copy.ring.status), ("MEMBER", "MEMBER"))
        self.net.heal()
        self.assertTrue(self.net.until(lambda: bool(self.one.gave_up or self.copy.gave_up), 300))
        self.net.run(120)
        self.assertEqual(len(self.one.gave_up) + len(self.copy.gave_up), 1)
        self.ideal()
        ended = self.one if self.one.gave_up else self.copy
        before = len(self.net.calls)
        ended.ring.leave()
        self.net.run(1)
        self.assertFalse([call for call in self.net.calls[before:] if call[2] == "leaving"])
        self.assertFalse(any(place.is_member for place in ended.ring.positions))

    def test_the_one_that_ends_tells_nobody_that_it_leaves(self) -> None:
        """Its word would be taken for the other's."""
        self.take_copy()
        self.copy.start("m0")
        self.net.run(10)
        before = len(self.net.calls)
        self.net.result(self.copy.ring.leave())
        self.assertEqual(len(self.net.calls), before)
        self.ideal()

    def test_the_one_that_ends_claims_nothing(self) -> None:
        """None of its positions answers for a range."""
        self.take_copy()
        self.copy.start("m0")
        self.net.run(10)
        self.assertFalse(any(place.is_member for place in self.copy.ring.positions))
        self.assertIsNone(self.copy.ring.own_position(5))

    def test_many_positions(self) -> None:
        """Hosts with eight of them are no different."""
        self.net = RingNet(virtual_nodes=8, list_size=None, knows_all=self.knows_all)
        self.net.ring(3)
        self.one = self.net.machines["m1"]
        self.copy = self.net.machine("copy", key="m1")
        self.take_copy()
        self.copy.start("m0")
        self.net.run(10)
        self.check_ended(self.copy, self.one)
        self.ideal()


class OlderTests(IdentityTestCase):
    """A folder that was set back to an earlier day."""

    def again(self, incarnation: int, at: str = "") -> None:
        """m3 starts on a folder that counts so many starts."""
        self.one.crash()
        self.one.incarnation = incarnation
        self.one.address = at or self.one.address
        self.net.run(20)
        self.one.start("m0")

    def setUp(self) -> None:
        super().setUp()
        for _ in range(5):
            self.one.crash()
            self.net.run(1)
            self.one.start("m0")
            self.net.run(10)
        self.ideal()

    def test_it_counts_on_from_what_the_ring_remembers(self) -> None:
        """And keeps that before it tells anybody."""
        self.again(2)
        self.ideal()
        self.assertEqual(self.one.incarnation, 7)
        record = self.one.ring.hosts.record(self.one.fp)
        self.assertEqual(record.incarnation if record else 0, 7)
        self.assertEqual(self.one.ring.positions[0].member.incarnation, 7)

    def test_at_another_address_everybody_finds_it(self) -> None:
        """Else the ring would look for it where it was, for ever."""
        self.again(2, "tcp:moved:1")
        self.ideal()

        def known(name: str) -> bool:
            record = self.net.machines[name].ring.hosts.record(self.one.fp)
            return record is not None and record.addresses == ("tcp:moved:1",)

        self.assertTrue(self.net.until(lambda: all(known(name) for name in self.names if name != "m3"), 120))

    def test_news_of_it_that_comes_late(self) -> None:
        """It had started alone, and the others are met afterwards."""
        self.check_late()

    def test_news_of_it_that_comes_late_while_it_has_moved(self) -> None:
        """The others look for it where it was, until it has heard of that."""
        self.check_late("tcp:moved:1")

    def check_late(self, at: str = "") -> None:
        """It starts in its first life, cut off from all."""
        self.one.crash()
        self.one.address = at or self.one.address
        self.net.cut(["m3"], self.names)
        self.one.incarnation, self.one.saved = 1, b""
        self.one.start("m0")
        self.net.run(60)
        self.net.heal()
        self.ideal(90)
        self.assertEqual(self.one.gave_up, [])


class TwinsWithoutTableTests(TwinTests):
    """The same where nobody compares tables."""

    knows_all = False


class OlderWithoutTableTests(OlderTests):
    """The same where nobody compares tables."""

    knows_all = False


class MovedTests(IdentityTestCase):
    """A node that starts at another address is no twin of itself."""

    def test_nobody_is_at_its_old_place(self) -> None:
        """It joins as it is."""
        self.one.crash()
        self.one.address = "tcp:moved:1"
        self.one.start("m0")
        self.ideal()
        self.assertEqual((self.one.incarnation, self.one.gave_up), (2, []))

    def test_news_of_it_comes_before_anybody_missed_it(self) -> None:
        """Nobody has dropped it: all have it in their lists where it is now,
        and its predecessor tells it there that it is one."""
        self.net.run(60)
        old = self.one.address
        del self.net.listening[old]
        self.one.address, self.one.incarnation = "tcp:moved:1", self.one.incarnation + 1
        self.net.listening[self.one.address] = self.one
        record = record_of("m3", self.one.incarnation, address=self.one.address)
        self.one.ring.hosts.set_own(record)
        others = [self.net.machines[name].ring for name in self.names if name != "m3"]
        for host in others:
            host.hosts.learn(record)
        self.net.calls.clear()
        self.net.run(90)
        entries = [at for host in others for at in host.positions[0].neighbours() if at.fp == self.one.fp]
        self.assertEqual({at.address for at in entries}, {"tcp:moved:1"})
        before = next(host for host in others if host.positions[0].successors[0].fp == self.one.fp)
        name = next(name for name in self.names if self.net.machines[name].fp == before.fp)
        self.assertIn((name, "m3", "notify"), self.net.calls)
        self.ideal(1)

    def test_somebody_else_is_at_its_old_place(self) -> None:
        """With another key: a stranger."""
        self.one.crash()
        self.one.address = "tcp:moved:1"
        self.net.machine("stranger", at=address_of("m3")).start("m0")
        self.one.start("m0")
        self.ideal()
        self.assertEqual(self.one.gave_up, [])

    def test_its_old_address_still_leads_to_it(self) -> None:
        """Both names are the same machine's."""
        old = self.one.address
        self.one.crash()
        self.one.address = "tcp:moved:1"
        self.net.listening[old] = self.one
        self.one.start("m0")
        self.ideal()
        self.net.run(60)
        self.assertEqual(self.one.gave_up, [])


class LookTests(IdentityTestCase):
    """How often, and whom, we look for where we are said to be."""

    def dialled(self, seconds: float, *claims: tuple[int, str]) -> list[str]:
        """Whom m3 dials within so many seconds after each of these claims."""
        told: list[str] = []
        pool = self.one.ring.pool
        peer = pool.peer
        self.patch(pool, "peer", lambda address, fp=None: (told.append(address), peer(address, fp))[1])
        for incarnation, address in claims:
            self.one.ring.hosts.claimed(incarnation, address)
            self.net.run(seconds)
        return told

    def test_an_old_place_is_looked_at_once_in_half_a_minute(self) -> None:
        """Everybody who has old news tells us the same."""
        self.net.run(300)
        old = (0, "tcp:nowhere:1")
        self.assertEqual(self.dialled(9, old, old, old).count("tcp:nowhere:1"), 1)
        self.net.run(60)
        self.assertEqual(self.dialled(61, old, old).count("tcp:nowhere:1"), 2)

    def test_news_of_a_later_start_is_looked_at_each_time(self) -> None:
        """That one may be another's."""
        self.net.run(300)
        told = self.dialled(9, (5, "tcp:nowhere:1"), (50, "tcp:nowhere:1"))
        self.assertEqual(told.count("tcp:nowhere:1"), 2)
        self.assertEqual(self.one.incarnation, 51)

    def test_one_that_is_leaving_is_no_twin(self) -> None:
        """It ends without us; we count on from its start."""
        self.take_copy()
        self.copy.start("m0")
        self.net.lies["copy", "ping"] = lambda told: msgspec.structs.replace(told, status="LEAVING")
        self.one.ring.hosts.claimed(9, self.copy.address)
        self.net.run(30)
        self.assertEqual((self.one.gave_up, self.one.incarnation), ([], 10))


class LiarTests(IdentityTestCase):
    """Made-up stories about us."""

    def test_a_twin_that_is_not_there(self) -> None:
        """A peer says that we are elsewhere, with a later start: we look, find
        nobody, and outbid the story."""
        fp = self.one.fp
        liar = self.net.machines["m2"]
        story = msgspec.structs.replace(self.one.ring.positions[0].member.ref, incarnation=9, address="tcp:nowhere:1")

        def lie(told):  # type: ignore[no-untyped-def]
            refs = tuple(story if ref.fp == fp else ref for ref in told.successors)
            before = story if told.predecessor is not None and told.predecessor.fp == fp else told.predecessor
            return msgspec.structs.replace(told, successors=refs, predecessor=before)

        self.net.lies[liar.name, "get-neighbours"] = lie
        self.net.run(120)
        self.net.lies.clear()
        self.ideal()
        self.assertEqual(self.one.gave_up, [])
        self.assertTrue(
            self.net.until(
                lambda: all(
                    self.net.machines[name].ring.hosts.position(fp, 0).address == self.one.address
                    for name in self.names
                ),
                120,
            )
        )

    def test_a_twin_that_answers_with_another_key(self) -> None:
        """Whoever is there, it is not us."""
        self.one.ring.hosts.claimed(9, address_of("m1"))
        self.net.run(60)
        self.assertEqual(self.one.gave_up, [])
        self.ideal()

    def test_an_incarnation_at_the_end_of_all_numbers(self) -> None:
        """It is not believed, and nothing overflows."""
        self.one.ring.hosts.claimed((1 << 62) - 1, self.one.address)
        self.net.run(60)
        self.assertLess(self.one.incarnation, 1 << 62)
        self.ideal()
