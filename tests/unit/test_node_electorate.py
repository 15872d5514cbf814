"""Whom one host takes for voters: kept before it is said, lives, what is heard."""

from __future__ import annotations

from itertools import pairwise

import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.errors import CorruptData, DiskFull
from peerstore.items import ItemKey, Kind
from peerstore.node.electorate import LEAP, Taken
from peerstore.node.roll import SETTING
from peerstore.node.votes import GONE, NOBODY, Sealed, Standing, is_open, name_digest
from peerstore.wire.bodies import MAX_NUMBER
from peerstore.wire.voting import ArcTold, HostStanding, VoterList
from tests.support.vectors import frozen, plain
from tests.support.voters import NOW, Hall, Voter, fp_of, now, ordered

ZERO = bytes(20)


def saved(voter: Voter) -> list[object]:
    """What is on a host's disk, as msgpack gives it."""
    raw: list[bytes] = []
    voter.store.setting(SETTING).addCallback(raw.append)
    found: list[object] = msgspec.msgpack.decode(raw[0])
    return found


def voters_at(voter: Voter, key: int) -> str:
    """Whom it takes for voters of a key, by their letters, in order."""
    letters = {fp_of(name): name for name in voter.hall.names}
    return "".join(letters[fp] for fp in voter.at(key).named.hosts)


class LifeTests(SynchronousTestCase):
    """Each process is a life of its own, and on disk before anybody hears of it."""

    def setUp(self) -> None:
        self.hall = Hall("abc")
        self.voter = self.hall["a"]

    def test_the_first(self) -> None:
        """It is the time of day, and the one in which the disk began."""
        self.assertEqual((self.voter.electorate.life, self.voter.electorate.born), (int(NOW), int(NOW)))
        self.assertEqual(saved(self.voter)[:2], [int(NOW), int(NOW)])

    def test_the_next(self) -> None:
        """One more at each start, also where the clock stands still; the disk is the same."""
        for count in (1, 2, 3):
            self.voter.start()
            self.assertEqual((self.voter.electorate.life, self.voter.electorate.born), (int(NOW) + count, int(NOW)))
            self.assertEqual(saved(self.voter)[0], int(NOW) + count)

    def test_a_clock_that_went_back(self) -> None:
        """The number still grows."""
        self.hall.clock.rightNow = 5.0
        self.voter.start()
        self.assertEqual(self.voter.electorate.life, int(NOW) + 1)

    def test_a_new_disk(self) -> None:
        """A life that it never had, whose disk began with it."""
        for _ in range(3):
            self.voter.start()
        self.hall.clock.advance(60.0)
        self.voter.disk = type(self.voter.disk)()
        self.voter.start()
        self.assertEqual(self.voter.electorate.life, int(NOW) + 60)
        self.assertEqual(self.voter.electorate.born, self.voter.electorate.life)

    def test_an_older_disk(self) -> None:
        """Others know a later life: this one is above it, and remembers nothing of those between."""
        self.voter.electorate.hear_view([HostStanding(self.voter.fp, int(NOW) + 7, 0)])
        self.assertEqual(self.voter.electorate.life, int(NOW) + 8)
        self.assertEqual(self.voter.electorate.born, int(NOW) + 8)

    def test_it_is_called_dead(self) -> None:
        """The next life, in which it lives; the disk is the same."""
        self.voter.electorate.hear_view([HostStanding(self.voter.fp, int(NOW), 1)])
        self.assertEqual(self.voter.says(), HostStanding(self.voter.fp, int(NOW) + 1, 0))
        self.assertEqual(self.voter.electorate.born, int(NOW))

    def test_it_is_said_to_go_and_did_not_say_so(self) -> None:
        """Only a host itself goes for good: anybody else's word is answered by its next life."""
        self.voter.electorate.hear_view([HostStanding(self.voter.fp, int(NOW), GONE)])
        self.assertEqual(self.voter.says(), HostStanding(self.voter.fp, int(NOW) + 1, 0))

    def test_it_goes_for_good(self) -> None:
        """Whatever others say of it, it stays gone; started again, it lives."""
        electorate = self.voter.electorate
        electorate.withdraw()
        self.assertEqual(self.voter.says(), HostStanding(self.voter.fp, int(NOW), GONE))
        electorate.hear_view([HostStanding(self.voter.fp, int(NOW), 1)])
        self.assertEqual(self.voter.says(), HostStanding(self.voter.fp, int(NOW), GONE))
        electorate.hear_view([HostStanding(self.voter.fp, int(NOW) + 3, 0)])
        self.assertEqual(self.voter.says(), HostStanding(self.voter.fp, int(NOW) + 4, GONE))
        now(electorate.kept())
        self.voter.start()
        self.assertEqual(self.voter.says(), HostStanding(self.voter.fp, int(NOW) + 5, 0))

    def test_lives_that_nobody_can_have(self) -> None:
        """A number far ahead is passed over, of itself and of others: it could never be counted on from."""
        mine, other = self.voter, fp_of("b")
        for life in (MAX_NUMBER, int(NOW) + LEAP + 1):
            mine.electorate.hear_view([HostStanding(mine.fp, life, 1), HostStanding(other, life, 0)])
        self.assertEqual(mine.electorate.life, int(NOW))
        self.assertNotIn(other, mine.electorate.view)
        now(mine.electorate.kept())
        mine.start()
        self.assertEqual(mine.electorate.life, int(NOW) + 1)

    def test_a_damaged_list(self) -> None:
        """It does not start, and says so."""
        for raw in (b"", b"\xc1", msgspec.msgpack.encode([1, 1, []]), msgspec.msgpack.encode([1, 1, [], [], 0])):
            now(self.voter.store.keep_setting(SETTING, raw))
            self.assertRaises(CorruptData, self.voter.start)


class KeptTests(SynchronousTestCase):
    """Nothing is said that is not on disk."""

    def setUp(self) -> None:
        self.hall = Hall("abc")
        self.voter = self.hall["a"]
        self.hall.found("a")

    def test_a_full_disk(self) -> None:
        """It does not vote, and still answers; with room again it votes."""
        electorate = self.voter.electorate
        keep = self.voter.store.keep_setting
        self.voter.store.keep_setting = lambda name, value: fail(DiskFull("No room."))  # type: ignore[method-assign]
        vote = electorate.vote(ZERO)
        self.assertNotEqual(vote.name, b"")
        sure = self.successResultOf(Deferred.fromCoroutine(electorate.sure(vote, ZERO)))
        self.assertEqual(sure, msgspec.structs.replace(vote, name=b""))
        self.failureResultOf(electorate.kept(), DiskFull)
        self.voter.store.keep_setting = keep  # type: ignore[method-assign]
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(electorate.sure(vote, ZERO))), vote)

    def test_a_slow_disk(self) -> None:
        """A vote waits for what it goes by."""
        disk: Deferred[None] = Deferred()
        self.voter.store.keep_setting = lambda name, value: disk  # type: ignore[method-assign]
        waiting = Deferred.fromCoroutine(self.voter.electorate.sure(self.voter.electorate.vote(ZERO), ZERO))
        self.assertNoResult(waiting)
        disk.callback(None)
        self.assertNotEqual(self.successResultOf(waiting).name, b"")

    def test_after_a_start(self) -> None:
        """What it knew, it knows; it votes when it has asked again."""
        name = self.voter.at(0).name
        now(self.voter.electorate.kept())
        self.voter.start()
        arc = self.voter.at(0)
        self.assertIn(name[0], arc.history)
        self.assertEqual((arc.capable, arc.full, self.voter.electorate.vote(ZERO).name), (False, False, b""))
        self.voter.judge()
        self.assertEqual(self.voter.electorate.vote(ZERO).name, name_digest(self.voter.at(0).name))

    def test_where_something_rotted(self) -> None:
        """It does not vote on that place until it has the thing back, and goes on voting on all others."""
        key = ItemKey(bytes(20), bytes(20), Kind.HEAD, bytes(32))
        self.voter.store.doubts.add([key])
        self.assertEqual(self.voter.electorate.vote(ZERO).name, b"")
        self.assertNotEqual(self.voter.electorate.vote(b"\1" * 20).name, b"")
        self.voter.store.doubts.clear([key])
        self.assertNotEqual(self.voter.electorate.vote(ZERO).name, b"")

    def test_the_bytes(self) -> None:
        """What a version wrote, the next one reads; and they are not to move."""
        for one in frozen("votes"):
            raw = bytes.fromhex(one["packed"])
            self.assertEqual(msgspec.msgpack.encode(plain(one["value"])), raw)
            hall = Hall("abc")
            voter = hall["a"]
            now(voter.store.keep_setting(SETTING, raw))
            hall.clock.rightNow = 0.0
            voter.start()
            life, born, view, arcs = plain(one["value"])
            self.assertEqual((voter.electorate.life, voter.electorate.born), (life + 1, born))
            # All that was there is still there; the new life is the only change.
            self.assertEqual(
                [list(pair) for pair in sorted(voter.electorate.view.items()) if pair[0] != voter.fp],
                [[fp, Standing(life, dead)] for fp, life, dead in view if fp != voter.fp],
            )
            known = {one for arc in voter.arcs() for one in (arc.value.named, *arc.value.history)}
            self.assertIn(VoterList(arcs[0][2][0][0], arcs[0][2][0][1], _pairs(arcs[0][2][0][2])), known)
            for entry in arcs[0][2][1]:
                self.assertIn(VoterList(entry[0], entry[1], _pairs(entry[2])), known)

    def test_the_bytes_that_are_written(self) -> None:
        """A host that has just begun a ring writes just these."""
        now(self.voter.electorate.kept())
        (one,) = (one for one in frozen("votes") if one["name"] == "a ring begun alone")
        self.assertEqual(saved(self.voter), plain(one["value"]))


def _pairs(voters: list[list[object]]) -> tuple[tuple[bytes, int], ...]:
    return tuple((bytes(fp), int(life)) for fp, life in voters)  # type: ignore[arg-type,call-overload]


class HearingTests(SynchronousTestCase):
    """Two and three hosts come to agree."""

    def test_growth(self) -> None:
        """From one to four: all agree, all that are named vote, and nothing is open."""
        order = ordered("abcd")
        hall = Hall("abcd")
        hall.found(order[0])
        for count in (2, 3, 4):
            hall.talk(order[:count])
            for key in (0, 1 << 158, 1 << 159):
                names = {hall[name].at(key).named.hosts for name in order[: min(count, 3)]}
                self.assertEqual(len(names - {()}), 1, count)
            for name in order[:count]:
                open_arcs = [
                    arc for arc in hall[name].arcs() if is_open(arc.value) and hall[name].fp in arc.value.named.hosts
                ]
                self.assertEqual(open_arcs, [], (count, name))

    def test_a_view_of_strangers(self) -> None:
        """Hosts whose keys are not known are not taken over: nobody knows where they stand."""
        hall = Hall("ab")
        hall["a"].electorate.hear_view([HostStanding(b"?" * 32, 5, 0)])
        self.assertNotIn(b"?" * 32, hall["a"].electorate.view)

    def test_whose_records_we_cannot_give(self) -> None:
        """Of the retired nobody is told: who does not know them would ask for them for ever.  They stay on disk."""
        hall = Hall("abc")
        voter = hall["a"]
        voter.electorate.hear_view([HostStanding(fp_of(name), 5, 0) for name in "bc"])
        voter.table.retire(fp_of("b"))
        self.assertEqual({one.fp for one in voter.electorate.tell_view()}, {fp_of("a"), fp_of("c")})
        now(voter.electorate.kept())
        voter.start()
        self.assertEqual(voter.electorate.view[fp_of("b")], Standing(5, 0))

    def test_what_is_settled_and_not_ours(self) -> None:
        """An arc of four others is none of ours, and costs nothing."""
        hall = Hall("abcde")
        order = ordered("abcde")
        hall.found(order[0])
        hall.talk(order[:4])
        first, voter = hall[order[0]], hall[order[4]]
        voter.electorate.hear_view(first.electorate.tell_view())
        before = voter.electorate.version
        end = first.table.position(first.fp, 0).id
        theirs = first.electorate.tell([((end - 5) % ids.RING_SIZE, end)])
        self.assertEqual(theirs[0].history, ())
        self.assertEqual(voter.at(end), type(voter.at(end))())
        voter.electorate.hear(theirs)
        self.assertEqual(voter.electorate.version, before)

    def test_many_arcs_are_one_look(self) -> None:
        """However many arcs come at a time, who votes is worked out once."""
        hall = Hall("abc")
        hall.found("a")
        looks: list[int] = []
        table = hall["a"].table
        real = table.positions_of
        table.positions_of = lambda fp: looks.append(1) or real(fp)  # type: ignore[method-assign,func-returns-value]
        named = VoterList(b"L" * 16, 3, ((fp_of("a"), 1), (fp_of("b"), 1)))
        ends = [ids.to_bytes(number << 150) for number in range(200)]
        told = [ArcTold(low, high, named, (), (), True, True) for low, high in pairwise(ends)]
        hall["a"].electorate.hear(told)
        self.assertLess(len(looks), 10)

    def test_many_things_that_rotted(self) -> None:
        """However many there are, and however many arcs are asked about: not each of one with each of the other,
        for hundreds of thousands of such looks would hold up all else."""
        hall = Hall("a")
        hall.found("a")
        voter = hall["a"]
        voter.store.doubts.add(
            ItemKey(ids.to_bytes(number << 149), ZERO, Kind.HEAD, bytes(32)) for number in range(1, 999)
        )
        looks: list[object] = []
        real = ids.in_half_open
        self.patch(ids, "in_half_open", lambda *ends: looks.append(ends) or real(*ends))
        arcs = [(number << 152, ((number + 1) << 152) % ids.RING_SIZE) for number in range(256)]
        told = voter.electorate.vouch(arcs)
        self.assertEqual(len(told), 256 - 125)
        self.assertLess(len(looks), 1000)

    def test_overlapping_and_inverted_arcs(self) -> None:
        """Whatever parts of the circle are named, it stays whole, and they come back from the disk."""
        hall = Hall("abc")
        hall.found("a")
        voter = hall["a"]
        named = VoterList(b"L" * 16, 3, ((fp_of("a"), 1), (fp_of("b"), 1)))
        for low, high in ((5, 5), (10, 3), (0, 0), (7, 8), (8, 7), (ids.RING_SIZE - 1, 0)):
            voter.electorate.hear([ArcTold(ids.to_bytes(low), ids.to_bytes(high), named, (), (), True, True)])
        arcs = voter.arcs()
        self.assertEqual([arc.after for arc in arcs], [arc.through for arc in arcs[-1:] + arcs[:-1]])
        self.assertTrue(all(named in arc.value.history for arc in arcs))
        now(voter.electorate.kept())
        voter.start()
        self.assertTrue(all(named in arc.value.history for arc in voter.arcs()))


class StaleTests(SynchronousTestCase):
    """What somebody said of a list holds for that list alone."""

    def setUp(self) -> None:
        self.order = ordered("abcd")
        self.hall = Hall("abcd")
        self.key = self.hall[self.order[0]].table.position(fp_of(self.order[0]), 0).id
        self.first, self.second, self.between, self.last = self.order

    def test_the_same_voters_again(self) -> None:
        """A host that was no voter for a while does not count an answer from before: what was
        certain meanwhile, it has to take in from a majority of those who voted then."""
        hall = self.hall
        hall.found(self.first)
        three = self.first + self.second + self.last
        hall.talk(three)
        last = hall[self.last]
        self.assertTrue(last.at(self.key).full)
        # One stands between, and votes in the place of the last, who hears of it.
        hall.talk(three + self.between, 1)
        self.assertEqual(voters_at(last, self.key), self.first + self.second + self.between)
        # It dies, and with the one that is silent it is the majority of that time.
        for name in three:
            hall[name].electorate.suspect(fp_of(self.between))
        self.assertEqual(voters_at(last, self.key), three)
        answers = last.ask(hall[self.first])
        last.take(one for one in answers if hall.is_current(last, one))
        last.judge()
        arc = last.at(self.key)
        self.assertIn(self.between, [name for name in self.order for one in arc.history if fp_of(name) in one.hosts])
        self.assertEqual((arc.capable, arc.full), (False, False))
        # The other one speaks again.
        hall.talk(three)
        self.assertTrue(last.at(self.key).full)

    def test_answers_are_not_kept_for_ever(self) -> None:
        """Once a host votes wherever it should, nothing of what it was told on the way there stays."""
        hall = self.hall
        hall.found(self.first)
        for _ in range(20):
            hall.talk(self.order, 2)
            hall.clock.advance(1.0)
            hall[self.second].start()
        hall.talk(self.order)
        for name in self.order:
            hall[name].judge()
            held = [arc for arc in hall[name].electorate._intake._answers.arcs() if arc.value]
            self.assertEqual(held, [])

    def test_a_list_of_which_all_are_retired(self) -> None:
        """Nobody can be asked about it, and nobody waits for it."""
        hall = self.hall
        hall.found(self.first)
        second = hall[self.second]
        second.ask(hall[self.first])
        first = fp_of(self.first)
        told = hall[self.first].electorate.tell([(0, 0)])
        second.electorate.hear(told)
        second.judge()
        self.assertFalse(second.at(self.key).capable)
        second.table.retire(first)
        second.electorate.review()
        second.judge()
        self.assertTrue(second.at(self.key).capable)

    def test_one_who_was_retired_before_we_came(self) -> None:
        """We never knew it, and its word is waited for no more than by those who did."""
        hall = self.hall
        first, second, third = self.order[:3]
        hall.found(first)
        hall.talk(first + second)
        hall[second].table.retire(fp_of(first))
        hall[second].electorate.review()
        newcomer = hall[third]
        newcomer.table.retire(fp_of(first))
        newcomer.take(newcomer.ask(hall[second]))
        self.assertNotIn(fp_of(first), newcomer.electorate.view)
        known = {fp for one in newcomer.at(self.key).history for fp in one.hosts}
        self.assertIn(fp_of(first), known)
        newcomer.take(newcomer.ask(hall[second]))
        newcomer.judge()
        self.assertTrue(newcomer.at(self.key).full)


class LeftTests(SynchronousTestCase):
    """An arc that others vote on now, and what was known of it."""

    def setUp(self) -> None:
        """The last three vote; then the last goes, and two come who stand before them."""
        self.order = ordered("abcde")
        self.hall = hall = Hall("abcde")
        self.one, self.two, self.three, self.away, self.last = self.order[0:3] + self.order[3:5]
        # A key just before the first: the walk meets them in order.
        self.key = hall[self.one].table.position(fp_of(self.one), 0).id
        self.old = self.three + self.away + self.last
        hall.found(self.three)
        hall.talk(self.old)
        for name in self.old:
            self.assertTrue(hall[name].at(self.key).full)
        self.present = self.order[:4]
        for name in self.order:
            hall[name].electorate.suspect(fp_of(self.last))
        hall.talk(self.present)

    def ring_id(self) -> bytes:
        """The key, as it is asked for."""
        return ids.to_bytes(self.key)

    def test_who_left_it_is_done_with_it(self) -> None:
        """It does not vote, nothing is open, and what it has there may go."""
        left = self.hall[self.away].electorate
        self.assertTrue(left.has_let_go(self.ring_id()))
        self.assertEqual(left.vote(self.ring_id()).name, b"")
        self.assertNotIn(self.key, [arc.through for arc in self.hall[self.away].arcs()])
        for name in self.present[:3]:
            self.assertTrue(self.hall[name].at(self.key).full)

    def comes_back(self) -> None:
        """Who was away all along meets only the one that has dropped all; the
        three that have everything are cut off from both."""
        hall, names = self.hall, self.away + self.last
        now(hall[self.last].electorate.kept())
        hall[self.last].start()
        for name in names:
            for other in self.present[:3]:
                hall[name].electorate.suspect(fp_of(other))
        hall.talk(names)

    def test_it_is_not_counted_on_for_what_it_dropped(self) -> None:
        """By whoever comes back from a time when it held it: the two were a majority
        then, and have nothing of what was certain with the two that are cut off."""
        self.comes_back()
        for name in self.away + self.last:
            self.assertEqual(self.hall[name].electorate.vote(self.ring_id()).name, b"", name)
        self.hall.talk(self.order)
        self.assertTrue(all(self.hall[name].at(self.key).full for name in self.order[:3]))
        self.assertTrue(self.hall[self.away].electorate.has_let_go(self.ring_id()))

    def test_after_a_start(self) -> None:
        """It still knows of them, and begins no ring of its own."""
        now(self.hall[self.away].electorate.kept())
        self.hall[self.away].start()
        self.hall[self.away].electorate.found()
        self.assertTrue(self.hall[self.away].electorate.has_let_go(self.ring_id()))
        self.comes_back()
        for name in self.away + self.last:
            self.assertEqual(self.hall[name].electorate.vote(self.ring_id()).name, b"", name)

    def test_it_is_theirs_to_vote_on_again(self) -> None:
        """Once a majority of those who took over is asked, whoever else is back."""
        hall = self.hall
        for name in self.present[1:]:
            hall[name].electorate.suspect(fp_of(self.one))
        hall.talk(self.present[1:])
        self.assertEqual(voters_at(hall[self.away], self.key), self.present[1:])
        self.assertTrue(hall[self.away].at(self.key).full)


class TakenTests(SynchronousTestCase):
    """What does not belong together is not put together."""

    def test_an_answer_for_another_list(self) -> None:
        """It seals nothing."""
        hall = Hall("abc")
        voter = hall["a"]
        named = VoterList(b"L" * 16, 3, ((fp_of("b"), 1),))
        voter.electorate.hear([ArcTold(ZERO, ZERO, named, (), (), True, True)])
        voter.electorate.took(Taken(0, 0, Sealed(fp_of("b"), 1, (named, ()), True), True, ()))
        voter.electorate.took(Taken(0, 0, Sealed(fp_of("c"), 1, (NOBODY, ()), True), True, ()))
        voter.judge()
        self.assertFalse(any(arc.value.capable for arc in voter.arcs()))

    def test_needed_is_bounded(self) -> None:
        """A majority of k at most, and one where there is nobody else."""
        hall = Hall("abcdefg")
        self.assertLessEqual(hall["a"].electorate.needed, 2)
        alone = Hall("a")
        self.assertEqual(alone["a"].electorate.needed, 1)
