"""What IRecordStore promises beyond IItemStore."""

from __future__ import annotations

from peerstore.interfaces import IRecordStore
from peerstore.items import Item, ItemKey, Kind
from tests.contracts.item_store import ItemStoreContract
from tests.support.storage import OTHER, OWNER, record


class RecordStoreContract(ItemStoreContract):
    """Records of nodes and users, found by ring id."""

    interface = IRecordStore
    family_name = "records"

    def item(self, number: int, owner: bytes = OWNER) -> Item:
        """A record."""
        return record(number, owner)

    def test_all_records_at_a_ring_id(self) -> None:
        """Whoever wrote them: a label is not a proof of identity."""
        mine = [record(0), record(1)]
        stranger = record(2, OTHER)
        key = ItemKey(OWNER, OTHER, Kind.RECORD, stranger.key.element)
        squatter = Item(key, stranger.statement, b"")
        self.wait(self.store.put([*mine, squatter, stranger]))
        found = self.wait(self.store.records_of(OWNER))
        self.assertEqual(found, sorted([*mine, squatter], key=lambda item: item.key))
