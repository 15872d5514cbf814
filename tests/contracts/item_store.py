"""What every store of one kind of items promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zope.interface.verify import verifyObject

from peerstore.interfaces import IItemStore
from peerstore.items import Item
from tests.support.storage import OTHER, OWNER


class StoreCase:
    """The base of all store contracts: opens and closes on one medium.

    A test case that mixes it in provides ``make_medium``, which returns a
    SqliteMedium or a MemoryMedium.
    """

    make_medium: Callable[[], Any]

    def setUp(self) -> None:
        super().setUp()  # type: ignore[misc]
        self.medium = self.make_medium()
        self.wait = self.medium.wait
        self.whole = self.medium.open()
        self.addCleanup(lambda: self.medium.close(self.whole))  # type: ignore[attr-defined]

    def reopen(self) -> None:
        """Stop, and start again on what is there."""
        self.medium.close(self.whole)
        self.whole = self.medium.open()


class ItemStoreContract(StoreCase):
    """IItemStore, for any kind.  Subclasses name the family and make items."""

    interface: Any = IItemStore
    family_name = ""

    @property
    def store(self) -> Any:
        """The family under test, of the store that is open now."""
        return getattr(self.whole, self.family_name)

    def item(self, number: int, owner: bytes = OWNER) -> Item:
        """One of many different items."""
        raise NotImplementedError

    def test_provides_the_interface(self) -> None:
        """The family provides its interface, signatures included."""
        self.assertTrue(verifyObject(self.interface, self.store))

    def test_what_was_put_is_there(self) -> None:
        """An item comes back as it was put, statement and data."""
        item = self.item(1)
        self.assertEqual(self.wait(self.store.put([item])), [True])
        self.assertEqual(self.wait(self.store.have([item.key])), [True])
        self.assertEqual(self.wait(self.store.get([item.key])), [item])

    def test_what_was_not_put_is_not_there(self) -> None:
        """Unknown keys are answered one by one, in the order asked."""
        one, two = self.item(1), self.item(2)
        self.wait(self.store.put([two]))
        self.assertEqual(self.wait(self.store.have([one.key, two.key])), [False, True])
        self.assertEqual(self.wait(self.store.get([one.key, two.key, one.key])), [None, two, None])

    def test_putting_again_changes_nothing(self) -> None:
        """A second put is not new, within one call or in another."""
        one, two = self.item(1), self.item(2)
        self.assertEqual(self.wait(self.store.put([one, one])), [True, False])
        self.assertEqual(self.wait(self.store.put([two, one])), [True, False])
        self.assertEqual(self.wait(self.whole.usage(OWNER)), (one.size + two.size, 2))

    def test_the_first_statement_stays(self) -> None:
        """Elements are immutable: what is there is not replaced."""
        item = self.item(1)
        self.wait(self.store.put([item]))
        other = Item(item.key, self.item(1, OTHER).statement, item.data)
        self.assertEqual(self.wait(self.store.put([other])), [False])
        self.assertEqual(self.wait(self.store.get([item.key])), [item])

    def test_puts_at_once_unite(self) -> None:
        """Of puts in flight together each item is new exactly once."""
        items = [self.item(n) for n in range(1, 9)]
        puts = [self.store.put([items[n], items[(n + 1) % 8]]) for n in range(8)]
        fresh = sum(sum(self.wait(put)) for put in puts)
        self.assertEqual(fresh, 8)
        self.assertEqual(self.wait(self.store.get([item.key for item in items])), items)

    def test_removed_is_gone(self) -> None:
        """Removing counts what was there, and may be followed by a put."""
        one, two = self.item(1), self.item(2)
        self.wait(self.store.put([one, two]))
        self.assertEqual(self.wait(self.store.remove([one.key, self.item(3).key, one.key])), 1)
        self.assertEqual(self.wait(self.store.get([one.key, two.key])), [None, two])
        self.assertEqual(self.wait(self.store.put([one])), [True])
        self.assertEqual(self.wait(self.store.get([one.key])), [one])

    def test_everything_survives_a_restart(self) -> None:
        """Puts and removals are there after the store is opened again."""
        items = [self.item(n) for n in range(1, 5)]
        self.wait(self.store.put(items))
        self.wait(self.store.remove([items[0].key]))
        self.reopen()
        self.assertEqual(self.wait(self.store.get([item.key for item in items])), [None, *items[1:]])
        self.assertEqual(self.wait(self.whole.usage(OWNER)), (sum(item.size for item in items[1:]), 3))

    def test_owners_are_apart(self) -> None:
        """Two owners' items count for each and go one by one."""
        mine, theirs = self.item(1), self.item(1, OTHER)
        self.wait(self.store.put([mine, theirs]))
        self.assertEqual(self.wait(self.whole.usage(OTHER)), (theirs.size, 1))
        self.wait(self.store.remove([mine.key]))
        self.assertEqual(self.wait(self.store.get([mine.key, theirs.key])), [None, theirs])
        self.assertEqual(self.wait(self.whole.usage(OWNER)), (0, 0))

    def test_other_kinds_are_refused(self) -> None:
        """A family takes and removes items of its own kind only."""
        kinds = [kind for kind in type(self.item(1).key.kind) if kind != self.item(1).key.kind]
        for kind in kinds:
            key = self.item(1).key
            foreign = Item(type(key)(key.ring_id, key.owner, kind, key.element), b"", b"")
            self.assertRaises(ValueError, self.store.put, [foreign])
            self.assertRaises(ValueError, self.store.remove, [foreign.key])

    def test_nothing_is_nothing(self) -> None:
        """Empty lists are answered, not refused."""
        self.assertEqual(self.wait(self.store.put([])), [])
        self.assertEqual(self.wait(self.store.get([])), [])
        self.assertEqual(self.wait(self.store.remove([])), 0)
