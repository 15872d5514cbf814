"""The table of hosts: what is believed, what is old news, what is kept."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.ring import hosts
from peerstore.ring.claims import Claim
from peerstore.ring.hosts import ALIVE, KNOWN, MAX_JUMP, MAX_RECORDS, RETIRED, HostTable
from peerstore.wire.bodies import HostRecord, PositionRef
from tests.support.ring_net import address_of, record_of, spki_of

quick = settings(deadline=None, derandomize=True, max_examples=100)


def fp_of(name: str) -> bytes:
    """A host's fingerprint."""
    return ids.fingerprint(spki_of(name))


def ref(name: str, index: int = 0, incarnation: int = 1, address: str = "") -> PositionRef:
    """A position as others name it."""
    return PositionRef(fp_of(name), index, incarnation, address or address_of(name))


class TableTestCase(SynchronousTestCase):
    """A host called "me", who has met nobody."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.table = HostTable(self.clock, record_of("me", 5))

    def address(self, name: str) -> str:
        """Where the table thinks that host is."""
        return self.table.position(fp_of(name), 0).address


class LearnTests(TableTestCase):
    """Records: the higher incarnation wins."""

    def test_a_stranger_is_learned_once(self) -> None:
        """The first time is news, the second is not."""
        version = self.table.version
        self.assertTrue(self.table.learn(record_of("a")))
        self.assertFalse(self.table.learn(record_of("a")))
        self.assertIn(fp_of("a"), self.table)
        self.assertEqual((len(self.table), self.table.known_count()), (2, 2))
        self.assertEqual(self.table.version, version + 1)

    def test_the_fingerprint_is_computed(self) -> None:
        """From the key in the record; nobody says which host it is of."""
        self.table.learn(record_of("a"))
        self.assertEqual(self.table.fps(), [ids.fingerprint(spki_of("a"))])
        self.assertEqual(self.table.position(fp_of("a"), 0).id, ids.position_id(spki_of("a"), 0))

    def test_a_restart_at_a_new_address(self) -> None:
        """The later start is where it is now."""
        self.table.learn(record_of("a", 3))
        self.assertTrue(self.table.learn(record_of("a", 4, address="tcp:elsewhere:1")))
        self.assertEqual(self.address("a"), "tcp:elsewhere:1")

    def test_old_news_is_ignored(self) -> None:
        """A lower incarnation, or an equal one with another address."""
        self.table.learn(record_of("a", 3))
        for old in (1, 2, 3):
            self.assertFalse(self.table.learn(record_of("a", old, address="tcp:elsewhere:1")))
        self.assertEqual(self.address("a"), address_of("a"))

    def test_an_incarnation_that_leaps_is_made_up(self) -> None:
        """Believed, it would silence the host for good."""
        self.table.learn(record_of("a", 3))
        self.assertFalse(self.table.learn(record_of("a", 4 + MAX_JUMP, address="tcp:trap:1")))
        self.table.member(ref("a", incarnation=4 + MAX_JUMP, address="tcp:trap:1"))
        self.assertEqual(self.address("a"), address_of("a"))

    def test_unsound_records(self) -> None:
        """Nothing of them is kept."""
        good = record_of("a")
        for change in (
            {"spki": b"short"},
            {"spki": bytes(1025)},
            {"addresses": ()},
            {"addresses": ("",)},
            {"addresses": ("x" * 256,)},
            {"addresses": ("tcp:a:1",) * 9},
            {"incarnation": 1 << 62},
            {"incarnation": -1},
            {"virtual_nodes": 0},
            {"virtual_nodes": 1 << 40},
            {"copies": 0},
        ):
            self.assertFalse(self.table.learn(msgspec.structs.replace(good, **change)), change)
        self.assertEqual(len(self.table), 1)

    def test_hosts_of_a_ring_with_other_settings(self) -> None:
        """They are none of ours, and are not counted."""
        self.assertFalse(self.table.learn(msgspec.structs.replace(record_of("a"), copies=5)))
        self.assertFalse(self.table.learn(record_of("a", virtual_nodes=8)))

    def test_those_met_before_our_settings_were_known(self) -> None:
        """A node reads its folder first, and learns last of what ring it is."""
        table = HostTable(self.clock)
        table.learn(record_of("a"))
        table.learn(record_of("b", virtual_nodes=8))
        table.set_own(record_of("me", virtual_nodes=8))
        self.assertEqual(table.fps(), [fp_of("b")])

    def test_a_full_table_still_learns_of_those_it_knows(self) -> None:
        """Strangers are turned away, restarts are not."""
        self.table.learn(record_of("a"))
        self.patch(hosts, "MAX_HOSTS", 2)
        self.assertFalse(self.table.learn(record_of("b")))
        self.assertTrue(self.table.learn(record_of("a", 2, address="tcp:elsewhere:1")))


class MemberTests(TableTestCase):
    """References: (fingerprint, index), and the id is computed here."""

    def test_a_position_of_a_known_host(self) -> None:
        """Its id comes from the key, its address from the newest record."""
        table = HostTable(self.clock, record_of("me", virtual_nodes=8))
        table.learn(record_of("a", 3, virtual_nodes=8))
        member = table.member(ref("a", 7, 1, "tcp:old:1"))
        assert member is not None
        self.assertEqual(member.id, ids.position_id(spki_of("a"), 7))
        self.assertEqual((member.incarnation, member.address), (3, address_of("a")))

    def test_a_reference_can_bring_a_newer_address(self) -> None:
        """And the table keeps it."""
        self.table.learn(record_of("a", 3))
        self.table.member(ref("a", 0, 4, "tcp:elsewhere:1"))
        self.assertEqual(self.address("a"), "tcp:elsewhere:1")

    def test_strangers_and_positions_that_are_none(self) -> None:
        """No member is made of them."""
        self.table.learn(record_of("a"))
        self.assertIsNone(self.table.member(ref("b")))
        for index in (1, 63, -1, 1 << 40):
            self.assertIsNone(self.table.member(ref("a", index)))
        self.assertEqual(self.table.members([ref("b"), ref("a"), ref("a", 9)]), (self.table.position(fp_of("a"), 0),))

    def test_whom_we_have_to_ask_for(self) -> None:
        """Each stranger once; neither the known nor the retired."""
        self.table.learn(record_of("a"))
        self.table.retire(fp_of("r"))
        refs = [ref("a"), ref("b"), ref("r"), ref("b", 1), ref("c")]
        self.assertEqual(self.table.unknown(refs), (fp_of("b"), fp_of("c")))


class ClaimTests(TableTestCase):
    """What others say of a host with our key."""

    def test_our_own_record_is_ours_alone(self) -> None:
        """Nobody changes it; what differs is kept as a claim."""
        self.assertFalse(self.table.learn(record_of("me", 9, address="tcp:copy:1")))
        self.table.member(ref("me", 0, 7, "tcp:copy:2"))
        self.assertEqual(self.table.record(fp_of("me")), record_of("me", 5))
        self.assertEqual(self.table.take_claims(), [Claim(9, "tcp:copy:1"), Claim(7, "tcp:copy:2")])
        self.assertEqual(self.table.take_claims(), [])

    def test_an_earlier_life_at_the_same_place_is_no_claim(self) -> None:
        """Everybody remembers it for a while."""
        for incarnation in (1, 4, 5):
            self.table.claimed(incarnation, address_of("me"))
        self.assertEqual(self.table.take_claims(), [])

    def test_a_later_life_at_the_same_place_is_one(self) -> None:
        """Our folder is older than what the ring remembers."""
        self.table.claimed(6, address_of("me"))
        self.assertEqual(self.table.take_claims(), [Claim(6, address_of("me"))])

    def test_any_life_at_another_place_is_one(self) -> None:
        """The highest that was heard counts."""
        for incarnation in (2, 4, 3):
            self.table.claimed(incarnation, "tcp:other:1")
        self.assertEqual(self.table.take_claims(), [Claim(4, "tcp:other:1")])

    def test_claims_are_bounded(self) -> None:
        """In number and in what they may say."""
        for number in range(1000):
            self.table.claimed(9, f"tcp:liar-{number}:1")
        self.assertEqual(len(self.table.take_claims()), 16)
        for incarnation, address in ((1 << 62, "tcp:a:1"), (-1, "tcp:a:1"), (9, ""), (9, "x" * 256)):
            self.table.claimed(incarnation, address)
        self.assertEqual(self.table.take_claims(), [])


class LivenessTests(TableTestCase):
    """Who answers is a hint, nothing more."""

    def test_the_ring_is_of_those_that_live(self) -> None:
        """Sorted by id; neither strangers to us nor ourselves."""
        for name in "abc":
            self.table.learn(record_of(name))
        self.table.alive(fp_of("a"))
        self.table.alive(fp_of("b"))
        expected = sorted(self.table.position(fp_of(name), 0) for name in "ab")
        self.assertEqual(self.table.ring(), expected)
        self.table.dead(fp_of("a"))
        self.assertEqual(self.table.ring(), [self.table.position(fp_of("b"), 0)])
        self.assertEqual((self.table.fps(alive=True), len(self.table.fps(alive=False))), ([fp_of("b")], 2))

    def test_the_dead_are_remembered(self) -> None:
        """They are looked for again, and still count."""
        self.table.learn(record_of("a"))
        self.table.dead(fp_of("a"))
        self.assertEqual((len(self.table), self.table.is_alive(fp_of("a"))), (2, False))

    def test_we_live(self) -> None:
        """Whoever says otherwise."""
        self.table.dead(fp_of("me"))
        self.assertTrue(self.table.is_alive(fp_of("me")))

    def test_strangers_do_not_live(self) -> None:
        """Nothing is known of them."""
        self.table.alive(fp_of("a"))
        self.assertFalse(self.table.is_alive(fp_of("a")))

    def test_who_comes_next(self) -> None:
        """Going clockwise from any place, round the end of the circle, too."""
        self.assertIsNone(self.table.next_after(0))
        for name in "abcd":
            self.table.learn(record_of(name))
            self.table.alive(fp_of(name))
        ring = self.table.ring()
        for place, member in enumerate(ring):
            self.assertEqual(self.table.next_after(member.id), ring[(place + 1) % 4])
            self.assertEqual(self.table.next_after(member.id - 1), member)
        self.assertEqual(self.table.next_after(ids.RING_SIZE - 1), ring[0])


class RetiredTests(TableTestCase):
    """The retired stay retired."""

    def setUp(self) -> None:
        super().setUp()
        self.table.learn(record_of("a", 3))
        self.assertTrue(self.table.retire(fp_of("a")))

    def test_it_counts_no_more(self) -> None:
        """n is of hosts ever admitted and not retired."""
        self.assertEqual(self.table.known_count(), 1)
        self.assertTrue(self.table.is_retired(fp_of("a")))
        self.assertFalse(self.table.retire(fp_of("a")))

    def test_no_record_brings_it_back(self) -> None:
        """However new."""
        self.assertFalse(self.table.learn(record_of("a", 9)))
        self.assertIsNone(self.table.member(ref("a", 0, 9)))

    def test_it_is_kept(self) -> None:
        """On disk, with the records."""
        self.table.learn(record_of("b"))
        other = HostTable(self.clock, record_of("me", 6))
        other.unpack(self.table.pack())
        self.assertEqual((other.fps(), other.is_retired(fp_of("a"))), ([fp_of("b")], True))

    def test_somebody_never_met_can_be_retired(self) -> None:
        """News of it may come before news of the host."""
        self.assertTrue(self.table.retire(fp_of("b")))
        self.assertFalse(self.table.learn(record_of("b")))
        self.assertFalse(self.table.retire(b"no fingerprint"))

    def test_we_remember_ourselves(self) -> None:
        """Our own retirement is known; our record is still there to say who
        we were."""
        self.assertTrue(self.table.retire(fp_of("me")))
        self.assertIsNotNone(self.table.record(fp_of("me")))


class KeepTests(TableTestCase):
    """What goes to disk comes back."""

    def test_there_and_back(self) -> None:
        """Foreign records; they are not taken for alive."""
        for name in "abc":
            self.table.learn(record_of(name, 3))
            self.table.alive(fp_of(name))
        other = HostTable(self.clock, record_of("me", 6))
        other.unpack(self.table.pack())
        self.assertEqual(other.fps(), self.table.fps())
        self.assertEqual(other.fps(alive=True), [])
        self.assertEqual(other.record(fp_of("a")), record_of("a", 3))
        self.assertEqual(other.record(fp_of("me")), record_of("me", 6))

    def test_a_folder_from_before_there_were_retired_hosts(self) -> None:
        """Records alone are read, too."""
        raw = msgspec.msgpack.encode([[record_of("a")]])
        self.table.unpack(raw)
        self.assertEqual(self.table.fps(), [fp_of("a")])

    def test_a_folder_from_before_it_was_kept_who_was_seen_when(self) -> None:
        """Records and the retired are read; nobody was seen yet."""
        self.table.unpack(msgspec.msgpack.encode([[record_of("a")], [fp_of("b")]]))
        self.assertEqual((self.table.fps(), self.table.is_retired(fp_of("b"))), ([fp_of("a")], True))
        self.assertIsNone(self.table.last_seen(fp_of("a")))

    @quick
    @given(st.binary(max_size=64))
    def test_damage_is_an_error(self, raw: bytes) -> None:
        """ValueError, never another."""
        table = HostTable(Clock())
        try:
            table.unpack(raw)
        except ValueError:
            return
        # So short, it can hold nobody.
        self.assertEqual(table.fps(), [])

    def test_frozen(self) -> None:
        """The bytes on disk: [[record...], [fingerprint...], [second...]]."""
        self.clock.advance(1_800_000_000 - self.clock.seconds())
        table = HostTable(self.clock)
        table.learn(HostRecord(b"k" * 64, ("tcp:a:1",), 3, 3, 8))
        table.alive(table.fps()[0])
        table.retire(b"r" * 32)
        record = "96" + "c440" + "6b" * 64 + "91a7" + b"tcp:a:1".hex() + "030308c400"
        self.assertEqual(table.pack().hex(), "9391" + record + "91c420" + "72" * 32 + "91ce6b49d200")


class SeenTests(TableTestCase):
    """Who does not answer is not forgotten, nor when it last did."""

    def setUp(self) -> None:
        super().setUp()
        self.clock.advance(1000)
        self.table.learn(record_of("a"))

    def test_never(self) -> None:
        """Heard of, but not met; and nobody at all."""
        self.assertIsNone(self.table.last_seen(fp_of("a")))
        self.assertIsNone(self.table.last_seen(fp_of("nobody")))

    def test_each_answer_counts(self) -> None:
        """Not only the one with which it came to life."""
        self.table.alive(fp_of("a"))
        first = self.table.last_seen(fp_of("a"))
        self.clock.advance(50)
        self.table.alive(fp_of("a"))
        self.assertEqual((first, self.table.last_seen(fp_of("a"))), (self.clock.seconds() - 50, self.clock.seconds()))

    def test_the_dead_are_known_counted_and_were_seen_when_they_were(self) -> None:
        """Out of all lists at once, and never out of the table."""
        self.table.alive(fp_of("a"))
        seen = self.clock.seconds()
        self.clock.advance(3600)
        self.table.dead(fp_of("a"))
        self.assertEqual((self.table.ring(), self.table.is_alive(fp_of("a"))), ([], False))
        self.assertEqual((self.table.known_count(), self.table.fps(alive=False)), (2, [fp_of("a")]))
        self.assertEqual(self.table.last_seen(fp_of("a")), seen)

    def test_those_that_were_seen_last_come_first(self) -> None:
        """Of the dead, and no more than are wanted."""
        for name in "bcde":
            self.table.learn(record_of(name))
            self.table.alive(fp_of(name))
            self.clock.advance(1)
        for name in "bcd":
            self.table.dead(fp_of(name))
        self.assertEqual([member.fp for member in self.table.gone(2)], [fp_of("d"), fp_of("c")])
        self.assertEqual([member.fp for member in self.table.gone(9)], [fp_of(name) for name in "dcba"])

    def test_a_death_is_worth_keeping(self) -> None:
        """On disk, but no news to anybody: one that was dead before is none."""
        self.table.alive(fp_of("a"))
        version, changes = self.table.version, self.table.changes
        self.table.dead(fp_of("a"))
        self.assertEqual((self.table.version > version, self.table.changes), (True, changes))
        version = self.table.version
        self.table.dead(fp_of("a"))
        self.assertEqual(self.table.version, version)

    def test_it_outlives_us(self) -> None:
        """What is kept on disk comes back, to the second; for each its own."""
        for name in ("b", "c"):
            self.table.learn(record_of(name))
        self.table.alive(fp_of("b"))
        self.clock.advance(7.5)
        self.table.alive(fp_of("c"))
        other = HostTable(self.clock, record_of("me", 6))
        other.unpack(self.table.pack())
        now = self.clock.seconds()
        seen = [other.last_seen(fp_of(name)) for name in "abc"]
        self.assertEqual(seen, [None, float(int(now - 7.5)), float(int(now))])

    def test_a_day_that_has_not_come_yet_is_not_believed(self) -> None:
        """The machine's clock was wrong, and has been set back."""
        self.table.alive(fp_of("a"))
        other = HostTable(Clock(), record_of("me", 6))
        other.unpack(self.table.pack())
        self.assertIsNone(other.last_seen(fp_of("a")))


class RecordsTests(TableTestCase):
    """What is told to others."""

    def test_asked_for_by_name(self) -> None:
        """Those that we have, in the order asked."""
        for name in "ab":
            self.table.learn(record_of(name))
        found = self.table.records([fp_of("b"), fp_of("c"), fp_of("a")])
        self.assertEqual(found, (record_of("b"), record_of("a")))

    def test_asked_for_a_sample(self) -> None:
        """The live ones, ourselves included."""
        self.table.learn(record_of("a"))
        self.table.learn(record_of("b"))
        self.table.alive(fp_of("a"))
        self.assertEqual(set(self.table.records()), {record_of("a"), record_of("me", 5)})

    def test_no_answer_is_larger_than_agreed(self) -> None:
        """256 records."""
        for number in range(300):
            self.table.learn(record_of(f"h{number}"))
            self.table.alive(fp_of(f"h{number}"))
        self.assertEqual(len(self.table.records()), MAX_RECORDS)
        self.assertEqual(len(self.table.records(self.table.fps())), MAX_RECORDS)


class CompareTests(TableTestCase):
    """Digests say where two tables differ."""

    def tables(self) -> tuple[HostTable, HostTable]:
        """Two tables of the same hundred hosts."""
        one, two = HostTable(self.clock, record_of("h0")), HostTable(self.clock, record_of("h1"))
        for number in range(100):
            one.learn(record_of(f"h{number}"))
            two.learn(record_of(f"h{99 - number}"))
        return one, two

    def test_equal_tables_are_equal_in_every_share(self) -> None:
        """In whatever order they were filled; who lives does not count."""
        one, two = self.tables()
        one.alive(fp_of("h7"))
        for shares in (1, 2, 16, 256):
            self.assertEqual(one.digests(shares), two.digests(shares))
            self.assertEqual(len(one.digests(shares)), shares)
            self.assertTrue(all(len(digest) == 8 for digest in one.digests(shares)))

    def test_a_difference_shows_in_its_share_alone(self) -> None:
        """A newer incarnation, a stranger, a retired host."""
        for change in (
            lambda table: table.learn(record_of("h7", 2)),
            lambda table: table.learn(record_of("stranger")),
            lambda table: table.retire(fp_of("h7")),
        ):
            one, two = self.tables()
            change(one)
            pairs = zip(one.digests(16), two.digests(16), strict=True)
            different = [share for share, (here, there) in enumerate(pairs) if here != there]
            self.assertEqual(len(different), 1)
            self.assertNotEqual(one.marks(different, 16), two.marks(different, 16))
            same = set(range(16)) - set(different)
            self.assertEqual(len(one.marks(same, 16)), len(two.marks(same, 16)))

    def test_marks(self) -> None:
        """Known, alive, retired."""
        for name in "abc":
            self.table.learn(record_of(name, 3))
        self.table.alive(fp_of("b"))
        self.table.retire(fp_of("c"))
        marks = {mark.fp: (mark.incarnation, mark.state) for mark in self.table.marks([0], 1)}
        expected = {"a": (3, KNOWN), "b": (3, ALIVE), "c": (0, RETIRED), "me": (5, ALIVE)}
        self.assertEqual(marks, {fp_of(name): what for name, what in expected.items()})
        self.assertIsNone(self.table.mark(fp_of("nobody")))


class ModelTests(SynchronousTestCase):
    """What the table keeps ready is what it would find by looking anew."""

    @quick
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["learn", "restart", "refer", "alive", "dead", "retire", "own", "look"]),
                st.sampled_from("abcdefgh"),
                st.integers(1, 3),
            ),
            max_size=40,
        )
    )
    def test_whatever_happens(self, story: list[tuple[str, str, int]]) -> None:
        """Any story: the ring, the lists of hosts, and the digests are those
        of the hosts that are known, live and are retired in the end."""
        table = HostTable(Clock(), record_of("me", 5))
        known: dict[str, int] = {}
        alive: set[str] = set()
        retired: set[str] = set()
        for what, name, number in story:
            fresh = name not in retired
            if what in ("learn", "restart"):
                table.learn(record_of(name, number))
                if fresh:
                    known[name] = max(number, known.get(name, 0))
            elif what == "refer":
                table.member(ref(name, 0, number))
                if name in known:
                    known[name] = max(number, known[name])
            elif what == "retire":
                table.retire(fp_of(name))
                retired.add(name)
                known.pop(name, None)
                alive.discard(name)
            elif what == "own":
                table.set_own(record_of("me", 5 + number))
            elif what == "look":
                table.ring()
                table.digests(2**number)
            else:
                (table.alive if what == "alive" else table.dead)(fp_of(name))
                if name in known:
                    (alive.add if what == "alive" else alive.discard)(name)
        self.assertEqual(table.fps(), sorted(fp_of(name) for name in known))
        self.assertEqual(table.fps(alive=True), sorted(fp_of(name) for name in alive))
        ring = sorted((ids.position_id(spki_of(name), 0), known[name]) for name in alive)
        self.assertEqual([(member.id, member.incarnation) for member in table.ring()], ring)
        anew = HostTable(Clock(), table.record(table.own_fp))
        for name in retired:
            anew.retire(fp_of(name))
        for name, incarnation in known.items():
            anew.learn(record_of(name, incarnation))
        for shares in (1, 2, 8, 256):
            self.assertEqual(table.digests(shares), anew.digests(shares))
        self.assertEqual(
            [mark.fp for mark in table.marks(range(4), 4)], sorted({table.own_fp, *map(fp_of, {*known, *retired})})
        )

    def test_a_list_that_was_given_stays_as_it_is(self) -> None:
        """Somebody may be in the middle of it."""
        table = HostTable(Clock(), record_of("me"))
        for name in "abc":
            table.learn(record_of(name))
            table.alive(fp_of(name))
        given_before = table.ring()
        copy = list(given_before)
        table.dead(fp_of("b"))
        table.learn(record_of("d"))
        table.alive(fp_of("d"))
        self.assertEqual(given_before, copy)
        self.assertNotEqual(table.ring(), copy)
