"""What too few others have, kept in mind."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.items import ItemKey, Kind
from peerstore.node import debts
from peerstore.node.debts import Debts
from peerstore.node.duty import Share


def key(place: int) -> ItemKey:
    """Something at a place of the circle."""
    return ItemKey(ids.to_bytes(place), bytes(20), Kind.HEAD, bytes(32))


class DebtsTests(SynchronousTestCase):
    """A list that forgets the oldest."""

    def setUp(self) -> None:
        self.debts = Debts()

    def test_owed_and_paid(self) -> None:
        """Each once, in the order they came; what was never owed can be paid."""
        for place in (3, 1, 2, 1):
            self.debts.owe(key(place))
        self.debts.paid(key(3))
        self.debts.paid(key(9))
        self.assertEqual((self.debts.all(), len(self.debts)), ([key(1), key(2)], 2))

    def test_a_whole_share(self) -> None:
        """What lies in it is paid, also where it goes past zero; the rest is not."""
        last = ids.RING_SIZE - 1
        for place in (0, 5, 6, last):
            self.debts.owe(key(place))
        self.debts.paid_in(Share(last - 1, 5, (), (), b""))
        self.assertEqual(self.debts.all(), [key(6)])

    def test_so_many(self) -> None:
        """No more than so many are kept: the oldest are left to those who compare everything."""
        self.patch(debts, "MOST", 3)
        for place in range(5):
            self.debts.owe(key(place))
        self.assertEqual(self.debts.all(), [key(2), key(3), key(4)])
