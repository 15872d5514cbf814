"""A disk that forgets what was not synced."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import DiskFull
from peerstore.sim.clock import SimClock
from peerstore.sim.disk import SimDisk
from peerstore.sim.process import Process
from peerstore.storage.memory_store import MemoryNodeStore
from tests.support.things import a_head


class DiskTests(SynchronousTestCase):
    """What is on it when."""

    def setUp(self) -> None:
        """A disk whose syncs take a second each."""
        self.clock = SimClock()
        self.seconds = 1.0
        self.disk = SimDisk(self.clock, lambda: self.seconds)

    def test_what_was_synced_survives_a_crash(self) -> None:
        """Its Deferred had fired."""
        self.disk.write(b"a", b"1")
        done = self.disk.sync()
        self.assertNoResult(done)
        self.clock.advance(1)
        self.successResultOf(done)
        self.disk.crash()
        self.assertEqual(self.disk.load(), {b"a": b"1"})

    def test_what_was_not_synced_is_lost(self) -> None:
        """Neither what was only written nor a sync under way remains, and
        nobody is told that it was done."""
        self.disk.write(b"a", b"1")
        done = self.disk.sync()
        self.disk.write(b"b", b"2")
        self.clock.advance(0.5)
        self.disk.crash()
        self.clock.advance(5)
        self.assertEqual(self.disk.load(), {})
        self.assertNoResult(done)

    def test_a_write_after_the_crash_is_not_the_last_lifes(self) -> None:
        """The next process starts with nothing pending."""
        self.disk.write(b"a", b"1")
        self.disk.crash()
        self.disk.write(b"b", b"2")
        self.disk.sync()
        self.clock.advance(1)
        self.assertEqual(self.disk.load(), {b"b": b"2"})

    def test_a_sync_under_way_may_have_arrived_whole(self) -> None:
        """With luck the oldest ones did, each in full, though nobody knows."""
        self.disk.write(b"a", b"1")
        self.disk.write(b"b", b"1")
        first = self.disk.sync()
        self.disk.write(b"a", b"2")
        self.disk.sync()
        self.disk.crash(lucky=1)
        self.clock.advance(5)
        self.assertEqual(self.disk.load(), {b"a": b"1", b"b": b"1"})
        self.assertNoResult(first)

    def test_reading_does_not_see_unsynced_writes(self) -> None:
        """load() is what a new process would find."""
        self.disk.write(b"a", b"1")
        self.assertEqual(self.disk.load(), {})

    def test_deletes_are_writes(self) -> None:
        """Gone after the sync, and back after a crash before it."""
        self.disk.write(b"a", b"1")
        self.disk.sync()
        self.clock.advance(1)
        self.disk.delete(b"a")
        self.assertEqual(self.disk.load(), {b"a": b"1"})
        self.disk.sync()
        self.clock.advance(1)
        self.assertEqual(self.disk.load(), {})

    def test_syncs_end_in_order(self) -> None:
        """A later sync that would be faster does not overtake."""
        ends: list[int] = []
        self.disk.write(b"a", b"1")
        self.disk.sync().addCallback(lambda _: ends.append(1))
        self.seconds = 0.1
        self.disk.write(b"a", b"2")
        self.disk.sync().addCallback(lambda _: ends.append(2))
        self.clock.advance(0.5)
        self.assertEqual(ends, [])
        self.clock.advance(1)
        self.assertEqual((ends, self.disk.load()), ([1, 2], {b"a": b"2"}))

    def test_a_full_disk_says_so_and_keeps_what_it_has(self) -> None:
        """The write that did not fit is not kept for later either."""
        self.disk.write(b"a", b"1")
        self.disk.sync()
        self.clock.advance(1)
        self.disk.full = True
        self.disk.write(b"b", b"2")
        self.failureResultOf(self.disk.sync(), DiskFull)
        self.disk.full = False
        self.successful_sync()
        self.assertEqual(self.disk.load(), {b"a": b"1"})

    def test_an_older_state_can_be_put_back(self) -> None:
        """As from a backup, or by a virtual machine's snapshot."""
        self.disk.write(b"a", b"1")
        self.successful_sync()
        backup = self.disk.snapshot()
        self.disk.write(b"a", b"2")
        self.successful_sync()
        self.disk.restore(backup)
        self.assertEqual(self.disk.load(), {b"a": b"1"})
        self.disk.restore({})
        self.assertEqual(self.disk.load(), {})

    def test_a_slow_disk_takes_longer(self) -> None:
        """So many times."""
        self.disk.slowness = 3.0
        done = self.disk.sync()
        self.clock.advance(2.9)
        self.assertNoResult(done)
        self.clock.advance(0.2)
        self.successResultOf(done)

    def test_durable_changes_are_seen(self) -> None:
        """When they are durable: writes, deletes, and an older state."""
        seen: list[tuple[bytes, bytes | None]] = []
        self.disk.watch = lambda key, value: seen.append((key, value))
        self.disk.write(b"a", b"1")
        self.disk.write(b"b", b"2")
        self.disk.delete(b"b")
        self.disk.sync()
        self.assertEqual(seen, [])
        self.clock.advance(1)
        self.disk.restore({b"c": b"3"})
        self.assertEqual(seen, [(b"a", b"1"), (b"b", b"2"), (b"b", None), (b"a", None), (b"c", b"3")])

    def test_a_stopped_process_is_told_when_it_goes_on(self) -> None:
        """The disk works on; the program does not."""
        process = Process(self.clock, "host")
        self.disk.run = process.call
        self.disk.write(b"a", b"1")
        done = self.disk.sync()
        process.pause()
        self.clock.advance(5)
        self.assertEqual(self.disk.load(), {b"a": b"1"})
        self.assertNoResult(done)
        process.resume()
        self.clock.advance(0)
        self.successResultOf(done)

    def test_a_nodes_store_on_it_keeps_what_it_acknowledged(self) -> None:
        """The shipped store, a crash, and a new store on the same disk."""
        store = MemoryNodeStore(self.disk)
        store.start()
        kept = store.keep_setting("one", b"1")
        self.clock.advance(1)
        self.successResultOf(kept)
        store.keep_setting("two", b"2")
        self.disk.crash()
        again = MemoryNodeStore(self.disk)
        again.start()
        self.assertEqual(self.successResultOf(again.setting("one")), b"1")
        self.assertEqual(self.successResultOf(again.setting("two")), None)

    def test_who_stops_waiting_for_a_put_does_not_undo_it(self) -> None:
        """The disk has it, and so has the store: it is no stray that nobody
        knows of."""
        store, head = self.a_store(), a_head(1)
        putting = store.put([head])
        putting.addErrback(lambda failure: failure.trap(CancelledError))
        putting.cancel()
        self.clock.advance(1)
        self.assertEqual(self.successResultOf(store.have([head.key])), [True])

    def test_what_was_removed_while_it_was_put_is_gone(self) -> None:
        """In memory as on the disk, whichever sync ends first."""
        store, head = self.a_store(), a_head(1)
        for put_before in (False, True):
            if put_before:
                store.put([head])
                self.clock.advance(1)
            store.put([head])
            store.remove([head.key])
            self.clock.advance(3)
            self.assertEqual(self.successResultOf(store.have([head.key])), [False])
            self.assertEqual(self.successResultOf(self.a_store().have([head.key])), [False])

    def test_what_was_put_while_it_was_removed_is_there(self) -> None:
        """The last word counts."""
        store, head = self.a_store(), a_head(1)
        store.put([head])
        self.clock.advance(1)
        store.remove([head.key])
        store.put([head])
        self.clock.advance(3)
        self.assertEqual(self.successResultOf(store.have([head.key])), [True])
        self.assertEqual(self.successResultOf(self.a_store().have([head.key])), [True])

    def test_a_bit_that_turned_over_is_found(self) -> None:
        """Wherever it is, at the next start or by scrub; told to whoever watches the disk."""
        store, head = self.a_store(), a_head(1)
        store.put([head])
        self.clock.advance(1)
        (key,) = self.disk.load()
        seen: list[tuple[bytes, bytes | None]] = []
        self.disk.watch = lambda *change: seen.append(change)
        for bit in range(0, 8 * len(self.disk.load()[key]), 37):
            self.disk.rot(key, bit)
            self.assertEqual(self.successResultOf(self.a_store().have([head.key])), [False], bit)
            self.disk.rot(key, bit)
            self.assertEqual(self.successResultOf(self.a_store().have([head.key])), [True], bit)
        self.assertEqual(set(seen), {(key, None)})
        self.disk.rot(key, 10**9)
        scrubbing = store.scrub(None, 10**6)
        self.clock.advance(1)
        self.assertEqual(self.successResultOf(scrubbing).rotten, 1)
        self.assertEqual(self.successResultOf(store.have([head.key])), [False])

    def a_store(self) -> MemoryNodeStore:
        """The shipped store on what the disk has now."""
        store = MemoryNodeStore(self.disk)
        store.start()
        return store

    def successful_sync(self) -> None:
        """Sync, and wait for it."""
        done: Deferred[None] = self.disk.sync()
        self.clock.advance(1)
        self.successResultOf(done)
