"""A complaint is made once, now and then, and when it is over."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerstore.util.complaint import CALM, EVERY, Complaint, Seldom


class ComplaintTests(SynchronousTestCase):
    """One thing that goes wrong, and is well again."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.complaint = Complaint(self.clock.seconds)

    def test_once_and_then_now_and_then(self) -> None:
        """Every second it goes wrong; it is said four times in half an hour."""
        said = 0
        for _ in range(1801):
            said += self.complaint.due()
            self.clock.advance(1)
        self.assertEqual((EVERY, said), (600.0, 4))

    def test_when_it_is_over(self) -> None:
        """That is said once, and only after a complaint."""
        self.assertFalse(self.complaint.over())
        self.complaint.due()
        self.clock.advance(CALM)
        self.assertEqual([self.complaint.over(), self.complaint.over()], [True, False])

    def test_again_after_it_was_over(self) -> None:
        """A new trouble is told at once."""
        self.complaint.due()
        self.clock.advance(CALM)
        self.complaint.over()
        self.assertTrue(self.complaint.due())

    def test_not_over_while_it_comes_and_goes(self) -> None:
        """What goes well between two troubles says nothing."""
        said = 0
        for _ in range(100):
            said += self.complaint.due()
            self.clock.advance(CALM / 2)
            self.assertFalse(self.complaint.over())
            self.clock.advance(CALM / 4)
        self.assertEqual(said, 1)


class SeldomTests(SynchronousTestCase):
    """Events of many kinds."""

    def test_each_kind_now_and_then(self) -> None:
        """One kind does not silence another."""
        clock = Clock()
        seldom = Seldom(clock.seconds)
        self.assertEqual([seldom.due(kind) for kind in "abab"], [True, True, False, False])
        clock.advance(EVERY)
        self.assertEqual([seldom.due(kind) for kind in "aab"], [True, False, True])

    def test_no_more_than_so_many(self) -> None:
        """The oldest is forgotten: memory is bounded, whoever comes."""
        seldom = Seldom(Clock().seconds, most=3)
        self.assertEqual([seldom.due(kind) for kind in "abcd"], [True] * 4)
        self.assertEqual([seldom.due(kind) for kind in "dcba"], [False, False, False, True])
