"""What IHeadStore promises beyond IItemStore."""

from __future__ import annotations

from peerstore.interfaces import IHeadStore
from peerstore.items import Item
from tests.contracts.item_store import ItemStoreContract
from tests.support.storage import OTHER, OWNER, head


class HeadStoreContract(ItemStoreContract):
    """Heads: every version of a resource, of one owner."""

    interface = IHeadStore
    family_name = "heads"

    def item(self, number: int, owner: bytes = OWNER) -> Item:
        """A head of one and the same resource."""
        return head(number, owner)

    def test_all_versions_of_a_resource(self) -> None:
        """Every head of the resource and owner is given, and no other's."""
        mine = [head(n) for n in range(4)]
        foreign = [head(0, OTHER), head(0, OWNER, b"\x0f" * 20)]
        self.wait(self.store.put([*mine, *foreign]))
        found = self.wait(self.store.heads_of(mine[0].key.ring_id, OWNER))
        self.assertEqual(found, sorted(mine, key=lambda item: item.key))
        self.assertEqual(self.wait(self.store.heads_of(b"\x10" * 20, OWNER)), [])
