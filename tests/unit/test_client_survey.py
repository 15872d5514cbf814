"""What the hosts of a ring say of themselves and of each other, side by side."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.client.survey import HostSeen, PlaceSeen, Survey, is_syncing, survey, vote_at
from peerstore.errors import NotReady, PeerMismatch, PeerUnreachable, RemoteError
from peerstore.wire import bodies
from tests.support.ring import member
from tests.support.rings import Ring, Wire


def refusing(error: Exception) -> Any:
    """An answer that is an error."""

    def answer(body: Any) -> Any:
        raise error

    return answer


class SurveyTestCase(SynchronousTestCase):
    """Five nodes in virtual time, and somebody who has met one of them."""

    def setUp(self) -> None:
        self.ring = Ring("abcde", virtual_nodes=2)
        self.wires = {name: Wire(self.ring.node(name)) for name in "abcde"}

    def look(self, knows: str = "a") -> Survey:
        """All that is seen."""
        pool, hosts, clock = self.ring.stranger(knows)
        seen: Survey = self.ring.wait(Deferred.fromCoroutine(survey(pool, hosts, clock)))
        return seen

    def host(self, seen: Survey, name: str) -> HostSeen:
        """One host in it."""
        return next(host for host in seen.hosts if host.fp == self.ring.fp(name))


class WholeTests(SurveyTestCase):
    """A ring that is as it should be."""

    def test_everybody_is_seen(self) -> None:
        """By somebody who knew only one of them; all are well, and everybody
        is everybody's neighbour."""
        seen = self.look("c")
        self.assertEqual(self.ring.named([host.fp for host in seen.hosts]), "abcde")
        self.assertTrue(seen.complete)
        self.assertTrue(seen.ideal)
        for host in seen.hosts:
            self.assertEqual((host.answers, host.status, host.listed_by, host.syncing), (True, "MEMBER", 4, 0))
            self.assertEqual([place.member for place in host.places], list(host.positions))
            self.assertGreater(host.latency, 0.0)

    def test_ranges_are_the_circle(self) -> None:
        """Each begins where the one before ends, and is kept by three hosts,
        the first of which it belongs to."""
        seen = self.look()
        ranges = seen.ranges()
        self.assertEqual(len(ranges), 10)
        self.assertEqual([one.after for one in ranges], [one.through for one in (ranges[-1], *ranges[:-1])])
        self.assertAlmostEqual(sum(one.share for one in ranges), 1.0)
        for one in ranges:
            around = self.ring.around(ids.to_bytes(one.through))
            self.assertEqual(self.ring.named([member.fp for member in one.keepers]), "".join(sorted(around[:3])))
            self.assertEqual(one.keepers[0].fp, one.place.member.fp)
        shares = seen.shares()
        self.assertAlmostEqual(sum(shares.values()), 1.0)
        mine = [one.share for one in ranges if one.place.member.fp == self.ring.fp("a")]
        self.assertAlmostEqual(shares[self.ring.fp("a")], sum(mine))

    def test_when_it_changed_last(self) -> None:
        """As the host says that saw it last."""
        before = self.look().quiet
        assert before is not None
        self.ring.run(60)
        after = self.look().quiet
        assert after is not None
        self.assertTrue(before + 58 <= after <= before + 70, (before, after))

    def test_a_node_alone(self) -> None:
        """Its range is the whole circle."""
        self.ring = Ring("a", virtual_nodes=1)
        seen = self.look()
        self.assertTrue(seen.ideal)
        (one,) = seen.ranges()
        self.assertEqual((one.after, one.share), (one.through, 1.0))


class IllTests(SurveyTestCase):
    """Hosts that are not well."""

    def test_one_that_just_died(self) -> None:
        """Does not answer, is in the others' lists still, and so those are not
        what they should be."""
        self.ring.world.hosts["d"].crash()
        seen = self.look()
        dead = self.host(seen, "d")
        self.assertIsInstance(dead.trouble, PeerUnreachable)
        self.assertGreater(dead.listed_by, 0)
        self.assertEqual(dead.places, ())
        self.assertFalse(seen.complete)
        self.assertFalse(seen.ideal)
        self.assertGreater(seen.disorder, 0)

    def test_one_that_died_long_ago(self) -> None:
        """Is known still, in nobody's list, and the others are in order."""
        self.ring.world.hosts["d"].crash()
        self.ring.settle()
        self.ring.run(30)
        seen = self.look()
        self.assertEqual(self.host(seen, "d").listed_by, 0)
        self.assertFalse(seen.complete)
        self.assertTrue(seen.ideal)
        self.assertEqual(len(seen.places), 8)

    def test_one_that_hangs(self) -> None:
        """Is not waited for longer than a person would."""
        self.wires["b"].instead("ping", lambda _: Deferred())
        seen = self.look()
        self.assertFalse(self.host(seen, "b").answers)
        self.assertEqual(sum(host.answers for host in seen.hosts), 4)

    def test_one_that_drips(self) -> None:
        """Each answer in time, all together too late: neither."""

        def slowly(body: Any) -> Any:
            answer: Deferred[Any] = Deferred()
            self.ring.world.clock.callLater(2.9, answer.callback, None)
            return answer.addCallback(lambda _: bodies.Pong(1, "MEMBER"))

        self.wires["b"].instead("ping", slowly)
        self.wires["b"].instead(
            "compare-hosts", lambda body: slowly(body).addCallback(lambda _: bodies.HostMarks((), False))
        )
        self.assertIn("within 5 s", str(self.host(self.look(), "b").trouble))

    def test_one_that_hangs_later(self) -> None:
        """Neither."""
        self.wires["b"].instead("get-heads", lambda _: Deferred())
        seen = self.look()
        # It answers everything but that.
        self.assertEqual([place.syncing for place in self.host(seen, "b").places], [None, None])

    def test_one_that_refuses(self) -> None:
        """Counts as not answering."""
        self.wires["b"].instead("get-neighbours", refusing(RemoteError("no", status=12)))
        trouble = self.host(self.look(), "b").trouble
        self.assertIsInstance(trouble, RemoteError)

    def test_one_that_knows_nobody(self) -> None:
        """A node that does not tell whom it knows is seen all the same."""
        for name in "abcde":
            self.wires[name].instead("compare-hosts", refusing(RemoteError("no", status=6)))
        seen = self.look()
        self.assertEqual(len(seen.hosts), 5)
        self.assertTrue(seen.complete)

    def test_one_that_joins(self) -> None:
        """Its positions that have not joined have no place."""
        self.wires["b"].instead("get-neighbours", refusing(NotReady("not yet", status=9)))
        host = self.host(self.look(), "b")
        self.assertTrue(host.answers)
        self.assertEqual((host.places, len(host.positions)), ((), 2))

    def test_one_that_is_syncing(self) -> None:
        """Does not vote on some of its ranges, and says so."""
        positions = {ids.to_bytes(place.id) for place in self.ring.node("b").ring.positions[:1]}  # type: ignore[union-attr]

        def mute(body: bodies.GetHeads, answer: bodies.Items) -> bodies.Items:
            if body.ring_id not in positions:
                return answer
            return msgspec.structs.replace(answer, vote=bodies.Vote(b"", (), 2))

        self.wires["b"].after("get-heads", mute)
        seen = self.look()
        self.assertEqual([host.syncing for host in seen.hosts if host.syncing], [1])
        self.assertEqual(self.host(seen, "b").syncing, 1)
        self.assertEqual([one.place.member.fp for one in seen.ranges() if one.place.syncing], [self.ring.fp("b")])

    def test_one_that_is_retired(self) -> None:
        """Is not in the picture any more, although this computer knows it."""
        pool, hosts, clock = self.ring.stranger("a")
        ring = self.ring.node("e").ring
        assert ring is not None
        self.ring.wait(ring.leave(True))
        self.ring.world.hosts["e"].crash()
        self.ring.run(60)
        self.assertIn(self.ring.fp("e"), hosts)
        seen = self.ring.wait(Deferred.fromCoroutine(survey(pool, hosts, clock)))
        self.assertEqual(self.ring.named([host.fp for host in seen.hosts]), "abcd")
        self.assertTrue(seen.complete)

    def test_another_at_its_address(self) -> None:
        """Is told from one that does not answer."""
        pool, hosts, clock = self.ring.stranger("a")
        record = hosts.record(self.ring.fp("b"))
        assert record is not None
        hosts.learn(bodies.HostRecord(record.spki, ("sim:c",), record.incarnation + 5, 3, 2))
        seen = self.ring.wait(Deferred.fromCoroutine(survey(pool, hosts, clock)))
        self.assertIsInstance(self.host(seen, "b").trouble, PeerMismatch)


class VoteTests(SurveyTestCase):
    """What a host's silence about a key means."""

    def test_it_says(self) -> None:
        """That it votes, that it does not yet, or nothing."""
        pool, hosts, _ = self.ring.stranger("a")
        place = hosts.position(self.ring.fp("b"), 0)

        def asked() -> Any:
            return self.ring.wait(Deferred.fromCoroutine(vote_at(pool, place, ids.to_bytes(place.id))))

        vote = asked()
        self.assertIn(place.fp, vote.voters)
        self.assertIs(is_syncing(vote), False)
        self.wires["b"].instead("get-heads", refusing(NotReady("still fetching", status=9)))
        self.assertIs(is_syncing(asked()), True)
        self.wires["b"].instead("get-heads", refusing(RemoteError("no", status=12)))
        self.assertIs(is_syncing(asked()), None)


class OrderTests(SynchronousTestCase):
    """When a ring is in perfect order."""

    def seen(self, *places: tuple[int, int | None, list[int]], joined: bool = True) -> Survey:
        """One host for each (position, predecessor, list)."""
        hosts = []
        for at, before, behind in places:
            me = member(at)
            place = PlaceSeen(me, None if before is None else member(before), tuple(map(member, behind)), False)
            more = (me,) if joined else (me, member(99))
            hosts.append(HostSeen(me.fp, me.address, more, None, "MEMBER", 0.001, 5, (place,), len(places)))
        return Survey(tuple(hosts), 3)

    def test_in_order(self) -> None:
        """Lists as long as they like, if they are right."""
        self.assertTrue(self.seen((1, 3, [2, 3]), (2, 1, [3]), (3, 2, [1, 2])).ideal)
        self.assertTrue(self.seen((1, None, [])).ideal)
        self.assertFalse(Survey((), 3).ideal)

    def test_out_of_order(self) -> None:
        """A wrong predecessor, a gap in a list, an empty one, a stranger in
        one, a position that has not joined."""
        self.assertEqual(self.seen((1, 2, [2, 3]), (2, 1, [3]), (3, 2, [1])).disorder, 1)
        self.assertEqual(self.seen((1, 3, [3]), (2, 1, [3]), (3, 2, [1])).disorder, 1)
        self.assertEqual(self.seen((1, 3, []), (2, 1, [3]), (3, 2, [1])).disorder, 1)
        self.assertEqual(self.seen((1, 3, [2, 4]), (2, 1, [3]), (3, 2, [1])).disorder, 1)
        self.assertEqual(self.seen((1, None, [2]), (2, 1, [1])).disorder, 1)
        self.assertFalse(self.seen((1, 3, [2, 3]), (2, 1, [3]), (3, 2, [1, 2]), joined=False).ideal)

    def test_the_last_change(self) -> None:
        """Of those that answer, what the one saw that saw a change last."""
        seen = self.seen((1, 3, [2, 3]), (2, 1, [3]), (3, 2, [1, 2]))
        one, two, three = seen.hosts
        gone = three._replace(quiet=0, trouble=PeerUnreachable("no"))
        self.assertEqual(Survey((one._replace(quiet=7), two._replace(quiet=9), gone), 3).quiet, 7)
        self.assertIsNone(Survey((gone,), 3).quiet)

    def test_no_range_without_a_predecessor(self) -> None:
        """Unless it is alone."""
        seen = self.seen((1, None, [2]), (2, 1, [1]))
        self.assertEqual([one.place.member.id for one in seen.ranges()], [member(2).id])
