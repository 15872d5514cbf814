"""What IChunkStore promises beyond IItemStore."""

from __future__ import annotations

from peerstore.interfaces import IChunkStore
from peerstore.items import Item
from tests.contracts.item_store import ItemStoreContract
from tests.support.storage import OTHER, OWNER, chunk, large_chunk


class ChunkStoreContract(ItemStoreContract):
    """Chunks: small ones at odd numbers, large ones at even."""

    interface = IChunkStore
    family_name = "chunks"

    def item(self, number: int, owner: bytes = OWNER) -> Item:
        """A chunk."""
        return chunk(number, owner) if number % 2 else large_chunk(number, owner)

    def test_any_owners_copy_is_found(self) -> None:
        """A chunk is found by its hash alone, as long as anybody has it."""
        for number in (1, 2):
            mine, theirs = self.item(number), self.item(number, OTHER)
            digest = mine.key.element
            self.assertEqual(self.wait(self.store.find([digest])), [None])
            self.wait(self.store.put([mine, theirs]))
            self.assertIn(self.wait(self.store.find([digest]))[0], (mine, theirs))
            self.wait(self.store.remove([mine.key]))
            self.assertEqual(self.wait(self.store.find([digest, b"\x00" * 32])), [theirs, None])
            self.wait(self.store.remove([theirs.key]))
            self.assertEqual(self.wait(self.store.find([digest])), [None])
