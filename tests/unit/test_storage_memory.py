"""The memory provider on a disk that crashes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from peerstore.storage.memory_store import MemoryNodeStore
from tests.support.storage import WHOLE, CrashingDisk, chunk, entry, some_of_everything


class CrashTests(SynchronousTestCase):
    """What is acknowledged is on the disk, and what is not is not served."""

    def setUp(self) -> None:
        self.disk = CrashingDisk()
        self.store = self._restart()

    def _restart(self) -> MemoryNodeStore:
        store = MemoryNodeStore(self.disk)
        self.successResultOf(store.start())
        return store

    def test_acknowledged_is_there_after_a_crash(self) -> None:
        """Items and settings."""
        items = some_of_everything()
        self.successResultOf(self.store.put(items))
        self.successResultOf(self.store.keep_setting("copies", b"3"))
        self.disk.crash()
        store = self._restart()
        self.assertEqual(self.successResultOf(store.get([item.key for item in items])), items)
        self.assertEqual(self.successResultOf(store.setting("copies")), b"3")

    def test_nothing_is_answered_or_served_before_it_is_synced(self) -> None:
        """A put waits for the disk, and so does who asks for the item."""
        self.disk.held = True
        put = self.store.put([chunk(1)])
        self.assertNoResult(put)
        self.assertEqual(self.successResultOf(self.store.get([chunk(1).key])), [None])
        self.disk.release()
        self.assertEqual(self.successResultOf(put), [True])
        self.assertEqual(self.successResultOf(self.store.get([chunk(1).key])), [chunk(1)])

    def test_unsynced_is_lost_at_a_crash(self) -> None:
        """What was never acknowledged is gone, and what was is whole."""
        self.successResultOf(self.store.put([chunk(1)]))
        self.disk.held = True
        put = self.store.put([chunk(2)])
        self.disk.crash()
        self.assertNoResult(put)
        store = self._restart()
        self.assertEqual(self.successResultOf(store.get([chunk(1).key, chunk(2).key])), [chunk(1), None])

    def test_rot_on_the_disk_is_left_out(self) -> None:
        """A changed chunk, an unreadable entry, a value under another key."""
        self.successResultOf(self.store.put([chunk(1), chunk(2), entry(1)]))
        for key, value in sorted(self.disk.load().items()):
            if chunk(1).key.element in key:
                self.disk.write(key, value[:-1] + b"\x00\x00")
            if entry(1).key.element in key:
                self.disk.write(key, value[:50])
            if chunk(2).key.element in key:
                self.disk.write(key[:-1] + b"?", value)
        store = self._restart()
        self.assertEqual(self.successResultOf(store.range_digest(*WHOLE, ()))[0], 1)
        self.assertEqual(self.successResultOf(store.get([chunk(2).key])), [chunk(2)])
