"""Who holds what now, as one host sees it: whoever has just gone still counts."""

from __future__ import annotations

import math

from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.node.duties import Duties
from peerstore.node.votes import GONE
from peerstore.ring.hosts import HostTable
from peerstore.wire.voting import HostStanding
from tests.support.ring_net import record_of
from tests.support.voters import NOW, Hall, fp_of, ordered

LETTERS = ordered("abcde")
GRACE = 1200.0


class DutiesTestCase(SynchronousTestCase):
    """Five hosts with three copies; we are the first, and have met the others."""

    def setUp(self) -> None:
        self.hall = Hall(LETTERS)
        self.me = self.hall[LETTERS[0]]
        self.table = self.me.table
        self.me.electorate.hear_view([HostStanding(fp_of(name), int(NOW), 0) for name in LETTERS[1:]])
        for name in LETTERS[1:]:
            self.table.alive(fp_of(name))
        self.duties = self.again()
        self.key = ids.to_bytes(self.table.position(fp_of(LETTERS[0]), 0).id)
        self.hall.clock.advance(2 * GRACE)
        for name in LETTERS[1:]:
            self.table.alive(fp_of(name))

    def again(self) -> Duties:
        """As another process would begin."""
        return Duties(self.me.electorate, self.table, self.hall.clock, GRACE)

    def holders(self, duties: Duties | None = None) -> tuple[str, str]:
        """Of our first key: the holders, and those that are to have it now."""
        share = next(one for one in (duties or self.duties).shares() if ids.to_bytes(one.through) == self.key)
        letters = {fp_of(name): name for name in LETTERS}
        return "".join(letters[fp] for fp in share.holders), "".join(letters[fp] for fp in share.now)

    def dies(self, name: str) -> None:
        """A host does not answer."""
        self.table.dead(fp_of(name))
        self.me.electorate.suspect(fp_of(name))


class GraceTests(DutiesTestCase):
    """Seconds in which a host may come back."""

    def test_nobody_is_away(self) -> None:
        """The first three hold it; we do, and know how many others there are."""
        self.assertEqual(self.holders(), (LETTERS[:3], LETTERS[:3]))
        self.assertTrue(self.duties.holds(self.key))
        self.assertEqual(self.duties.others(), 4)

    def test_one_is_away(self) -> None:
        """It is still a holder, and the two others are enough; when the time is over, the next one is."""
        self.dies(LETTERS[1])
        self.assertEqual(self.holders(), (LETTERS[:3], LETTERS[0] + LETTERS[2]))
        self.hall.clock.advance(GRACE - 1)
        self.assertEqual(self.holders(), (LETTERS[:3], LETTERS[0] + LETTERS[2]))
        self.hall.clock.advance(2.0)
        self.assertEqual(self.holders(), (LETTERS[0] + LETTERS[2:4],) * 2)

    def test_how_long_it_is_waited_for(self) -> None:
        """Without end where nobody is away; else until the first of them has been so for too long."""
        self.assertEqual(self.duties.patience(), math.inf)
        self.dies(LETTERS[1])
        self.hall.clock.advance(100.0)
        self.table.alive(fp_of(LETTERS[3]))
        self.dies(LETTERS[3])
        self.assertEqual(self.duties.patience(), GRACE - 100.0)
        self.hall.clock.advance(GRACE - 50.0)
        self.assertEqual(self.duties.patience(), 50.0)

    def test_how_long_after_we_were_away_ourselves(self) -> None:
        """From our own start on, however long they have been gone."""
        self.dies(LETTERS[1])
        self.hall.clock.advance(86400.0)
        self.assertEqual(self.again().patience(), GRACE)

    def test_two_are_away(self) -> None:
        """One is fewer than W: those behind stand in at once."""
        self.dies(LETTERS[1])
        self.dies(LETTERS[2])
        self.assertEqual(self.holders(), (LETTERS[:3], LETTERS[0] + LETTERS[3:5]))

    def test_it_comes_back(self) -> None:
        """In its next life; nothing was moved for it."""
        self.dies(LETTERS[1])
        self.me.electorate.hear_view([HostStanding(fp_of(LETTERS[1]), int(NOW) + 1, 0)])
        self.assertEqual(self.holders(), (LETTERS[:3],) * 2)

    def test_it_comes_and_goes(self) -> None:
        """Each time that it was seen the time begins anew."""
        for life in range(1, 5):
            self.dies(LETTERS[1])
            self.hall.clock.advance(GRACE * 0.9)
            self.assertEqual(self.holders()[0], LETTERS[:3])
            self.me.electorate.hear_view([HostStanding(fp_of(LETTERS[1]), int(NOW) + life, 0)])
            self.table.alive(fp_of(LETTERS[1]))
            self.assertEqual(self.holders(), (LETTERS[:3],) * 2)

    def test_it_goes_for_good(self) -> None:
        """It said so: nobody waits for it."""
        self.me.electorate.hear_view([HostStanding(fp_of(LETTERS[1]), int(NOW), GONE)])
        self.assertEqual(self.holders(), (LETTERS[0] + LETTERS[2:4],) * 2)

    def test_it_is_retired(self) -> None:
        """Nor for one that somebody gave up."""
        self.dies(LETTERS[1])
        self.table.retire(fp_of(LETTERS[1]))
        self.me.electorate.review()
        self.assertEqual(self.holders(), (LETTERS[0] + LETTERS[2:4],) * 2)

    def test_we_were_away_ourselves(self) -> None:
        """After a power cut of a day the others have been gone for as long as we are there, and not for a day."""
        for name in LETTERS[1:]:
            self.dies(name)
        self.hall.clock.advance(86400.0)
        duties = self.again()
        self.assertEqual(self.holders(duties)[0], LETTERS[:3])
        self.hall.clock.advance(GRACE + 1)
        self.assertEqual(self.holders(duties), (LETTERS[0],) * 2)

    def test_one_that_nobody_has_met(self) -> None:
        """It cannot be said to come back."""
        self.table = self.me.table = HostTable(self.hall.clock, record_of(LETTERS[0]))
        for name in LETTERS[1:]:
            self.table.learn(record_of(name))
        duties = self.again()
        self.me.electorate.suspect(fp_of(LETTERS[1]))
        self.assertEqual(self.holders(duties)[0], LETTERS[0] + LETTERS[2:4])
