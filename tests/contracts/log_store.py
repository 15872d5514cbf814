"""What ILogStore promises beyond IItemStore."""

from __future__ import annotations

from peerstore.errors import BadMessage
from peerstore.interfaces import ILogStore
from peerstore.items import Item, ItemKey, Kind
from tests.contracts.item_store import ItemStoreContract
from tests.support.storage import DEVICE, OTHER, OTHER_DEVICE, OWNER, chunk, entry

LOG = b"\x0c" * 20


class LogStoreContract(ItemStoreContract):
    """Log entries, read in the order of their chains."""

    interface = ILogStore
    family_name = "logs"

    def item(self, number: int, owner: bytes = OWNER) -> Item:
        """An entry of one chain."""
        return entry(number, owner)

    def test_reads_in_chain_order(self) -> None:
        """Devices in order, each chain by number, however they arrived."""
        first = [entry(n) for n in range(1, 4)]
        second = [entry(n, device=OTHER_DEVICE) for n in range(1, 3)]
        self.wait(self.store.put([second[1], first[2], first[0]]))
        self.wait(self.store.put([first[1], second[0], entry(1, OTHER)]))
        self.assertEqual(self.wait(self.store.read_since(LOG, OWNER, {}, 100)), ([*first, *second], False))

    def test_reads_only_what_is_unseen(self) -> None:
        """Entries up to the numbers already seen are left out."""
        self.wait(self.store.put([entry(n) for n in range(1, 5)] + [entry(1, device=OTHER_DEVICE)]))
        seen = {DEVICE: 3, OTHER_DEVICE: 1, b"\x00" * 16: 9}
        self.assertEqual(self.wait(self.store.read_since(LOG, OWNER, seen, 100)), ([entry(4)], False))
        self.assertEqual(
            self.wait(self.store.read_since(LOG, OWNER, {DEVICE: 1 << 70, OTHER_DEVICE: 1}, 9)), ([], False)
        )

    def test_reads_by_pages(self) -> None:
        """A page is full and says whether more follow, exactly."""
        entries = [entry(n) for n in range(1, 4)] + [entry(n, device=OTHER_DEVICE) for n in range(1, 3)]
        self.wait(self.store.put(entries))
        for limit in range(1, 7):
            found, more = self.wait(self.store.read_since(LOG, OWNER, {}, limit))
            self.assertEqual((found, more), (entries[:limit], limit < 5))

    def test_chain_heads_stop_at_a_gap(self) -> None:
        """A chain's end is the last number that nothing is missing before."""
        self.wait(self.store.put([entry(1), entry(2), entry(4), entry(2, device=OTHER_DEVICE)]))
        self.assertEqual(self.wait(self.store.chain_heads(LOG, OWNER)), {DEVICE: 2})
        self.wait(self.store.put([entry(3), entry(1, device=OTHER_DEVICE)]))
        self.reopen()
        self.assertEqual(self.wait(self.store.chain_heads(LOG, OWNER)), {DEVICE: 4, OTHER_DEVICE: 2})
        self.assertEqual(self.wait(self.store.chain_heads(LOG, OTHER)), {})

    def test_both_branches_of_a_fork_stay(self) -> None:
        """Two entries at one number are both kept, and removed apart."""
        one, two = entry(1, clock=1), entry(1, clock=2)
        self.wait(self.store.put([one, two, entry(2)]))
        found, _ = self.wait(self.store.read_since(LOG, OWNER, {}, 100))
        self.assertEqual(found, [*sorted([one, two], key=lambda item: item.key), entry(2)])
        self.wait(self.store.remove([one.key]))
        self.assertEqual(self.wait(self.store.read_since(LOG, OWNER, {}, 100)), ([two, entry(2)], False))
        self.assertEqual(self.wait(self.store.chain_heads(LOG, OWNER)), {DEVICE: 2})

    def test_a_wrong_statement_is_refused(self) -> None:
        """What is no log entry is not kept, and spoils no other put."""
        key = ItemKey(LOG, OWNER, Kind.LOG, b"\x07" * 32)
        for statement in (b"", b"\xc1", chunk(1).statement):
            bad = self.store.put([entry(1), Item(key, statement, b"")])
            good = self.store.put([entry(2)])
            with self.assertRaises(BadMessage):
                self.wait(bad)
            self.wait(good)
            self.assertEqual(self.wait(self.store.have([key, entry(1).key, entry(2).key])), [False, False, True])
