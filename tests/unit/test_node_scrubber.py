"""The scrub's pace: slow, bounded, and never from the beginning again."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import DiskFull, StorageError
from peerstore.items import ItemKey
from peerstore.node.scrubber import DAY, FIRST, LONGEST, SETTING, SHORTEST, SLICE, Scrubber
from peerstore.storage.scrub import Scrubbed
from tests.support.log_lines import LogLines
from tests.support.storage import chunk

MIB = 1024 * 1024


class FakeStore:
    """A store of so many slices, and what was asked of it."""

    def __init__(self, slices: int, size: int = SLICE) -> None:
        self.slices = slices
        self.size = size
        self.looked: list[ItemKey | None] = []
        self.budgets: list[int] = []
        self.settings: dict[str, bytes] = {}
        self.checks = 0
        self.wrong = ""
        self.error: Exception | None = None
        self.rotten = 0

    def total(self) -> Deferred[int]:
        """All bytes."""
        return succeed(self.slices * self.size)

    def check(self) -> Deferred[str]:
        """What is wrong with the indexes."""
        self.checks += 1
        return succeed(self.wrong)

    def scrub(self, after: ItemKey | None, budget: int) -> Deferred[Scrubbed]:
        """The next slice."""
        if self.error is not None:
            return fail(self.error)
        self.looked.append(after)
        self.budgets.append(budget)
        keys = [chunk(number).key for number in range(self.slices)]
        place = 0 if after is None else keys.index(after) + 1
        cursor = keys[place] if place + 1 < self.slices else None
        return succeed(Scrubbed(cursor, 10, self.size, self.rotten))

    def setting(self, name: str) -> Deferred[bytes | None]:
        """What is kept."""
        return succeed(self.settings.get(name))

    def keep_setting(self, name: str, value: bytes) -> Deferred[None]:
        """Keep it."""
        self.settings[name] = value
        return succeed(None)


class ScrubberCase(SynchronousTestCase):
    """A scrubber on a fake clock and a fake store."""

    def start(self, store: FakeStore, rate: int = 4 * MIB, days: float = 1.0) -> Scrubber:
        """Begin on a clock of its own."""
        self.clock = Clock()
        self.store = store
        fake: Any = store
        scrubber = Scrubber(self.clock, fake, rate, days)
        scrubber.start()
        return scrubber

    def advance(self, seconds: float, steps: int = 20_000) -> None:
        """Let time pass, in small steps."""
        for _ in range(steps):
            self.clock.advance(seconds / steps)


class PaceTests(ScrubberCase):
    """How fast it goes."""

    def test_a_pass_takes_about_its_days(self) -> None:
        """Evenly over the time that it has."""
        self.start(FakeStore(480), days=1.0)
        self.advance(DAY / 2)
        self.assertLessEqual(abs(len(self.store.looked) - 240), 5)
        self.advance(DAY / 2)
        self.assertLessEqual(abs(len(self.store.looked) - 480), 5)
        self.assertEqual(set(self.store.budgets), {SLICE})

    def test_never_faster_than_the_rate(self) -> None:
        """A large store that is to be looked at in no time."""
        self.start(FakeStore(1000), rate=MIB, days=0.0)
        self.advance(100)
        self.assertLessEqual(abs(len(self.store.looked) - 100), 3)

    def test_a_small_store_is_looked_at_once_an_hour(self) -> None:
        """At most a slice of it."""
        self.start(FakeStore(2), days=7.0)
        self.advance(10 * LONGEST)
        self.assertLessEqual(len(self.store.looked), 11)
        self.assertGreaterEqual(len(self.store.looked), 9)

    def test_an_empty_store(self) -> None:
        """Nothing to do is no busy loop."""
        store = FakeStore(1, 0)
        self.start(store, days=0.0)
        self.advance(10)
        self.assertLessEqual(len(store.looked), 10 / SHORTEST + 2)

    def test_not_at_once(self) -> None:
        """A start has other things to do first."""
        self.start(FakeStore(100), days=30.0)
        self.clock.advance(FIRST - 1)
        self.assertEqual(self.store.looked, [])
        self.clock.advance(2)
        self.assertEqual(len(self.store.looked), 1)

    def test_turned_off(self) -> None:
        """A rate of 0."""
        self.start(FakeStore(10), rate=0, days=0.0)
        self.advance(DAY)
        self.assertEqual((self.store.looked, self.store.checks), ([], 0))


class PassTests(ScrubberCase):
    """One pass after the other."""

    def test_everything_in_order(self) -> None:
        """Each slice once, then from the beginning; indexes first."""
        self.start(FakeStore(3), rate=MIB, days=0.0)
        self.advance(6.5)
        keys = [chunk(number).key for number in range(3)]
        self.assertEqual(self.store.looked[:6], [None, keys[0], keys[1], None, keys[0], keys[1]])
        self.assertEqual(self.store.checks, (len(self.store.looked) + 2) // 3)

    def test_it_goes_on_after_a_restart(self) -> None:
        """Where the last process was when it ended."""
        store = FakeStore(100)
        scrubber = self.start(store, rate=MIB, days=0.0)
        self.advance(40.5)
        count = len(store.looked)
        self.successResultOf(scrubber.stop())
        self.advance(10)
        self.assertEqual(len(store.looked), count)
        self.start(store, rate=MIB, days=0.0)
        self.advance(5)
        self.assertEqual(store.looked[count], chunk(count - 1).key)

    def test_noted_now_and_then(self) -> None:
        """For a process that is killed."""
        store = FakeStore(2000)
        self.start(store, rate=MIB, days=0.0)
        self.advance(299)
        self.assertNotIn(SETTING, store.settings)
        self.advance(3)
        self.assertIn(SETTING, store.settings)

    def test_a_small_store_is_never_noted(self) -> None:
        """A pass that is over in a moment writes nothing."""
        store = FakeStore(1)
        scrubber = self.start(store, rate=MIB, days=0.0)
        self.advance(60)
        self.successResultOf(scrubber.stop())
        self.assertEqual(store.settings, {})

    def test_the_note_of_a_pass_goes_with_it(self) -> None:
        """The next process begins anew."""
        store = FakeStore(10)
        self.successResultOf(store.keep_setting(SETTING, msgspec.msgpack.encode([chunk(8).key, 1, 1, 0])))
        self.start(store, rate=MIB, days=0.0)
        self.advance(1.5)
        self.assertEqual(store.settings[SETTING], b"")

    def test_a_note_that_says_nothing(self) -> None:
        """From the beginning, then."""
        for note in (b"\xc1", msgspec.msgpack.encode([1, 2]), b""):
            store = FakeStore(3)
            store.settings[SETTING] = note
            self.start(store, rate=MIB, days=0.0)
            self.advance(0.5)
            self.assertEqual(store.looked[:1], [None])

    def test_said_at_the_end(self) -> None:
        """How much, and what was found."""
        store = FakeStore(3)
        store.rotten = 2
        lines = LogLines(self)
        self.start(store, rate=MIB, days=0.0)
        self.advance(2.5)
        (line,) = lines.having("a pass over")
        self.assertIn("30 things", line)
        self.assertIn("6 had rotted", line)


class TroubleTests(ScrubberCase):
    """A disk that fails."""

    def test_a_damaged_database_is_told_every_ten_minutes(self) -> None:
        """With the safe next step; and once it is in order again, that."""
        store = FakeStore(3)
        store.wrong = "node.sqlite is damaged. Stop the node."
        lines = LogLines(self)
        self.start(store, rate=MIB, days=0.0)
        self.advance(1799, 1799)
        self.assertEqual(len(lines.having("Stop the node")), 3)
        self.assertEqual(store.looked, [])
        store.wrong = ""
        self.advance(700)
        self.assertEqual(len(lines.having("in order again")), 1)
        self.assertGreater(len(store.looked), 0)

    def test_a_disk_that_fails_is_tried_again(self) -> None:
        """Later, and from the same place."""
        store = FakeStore(100)
        self.start(store, rate=MIB, days=0.0)
        self.advance(3.5)
        count = len(store.looked)
        store.error = StorageError("It does not answer.")
        self.advance(60)
        store.error = None
        self.advance(LONGEST)
        self.assertEqual(store.looked[count], chunk(count - 1).key)

    def test_a_place_that_cannot_be_noted(self) -> None:
        """Nothing depends on it."""
        store = FakeStore(1000)

        def full(name: str, value: bytes) -> Deferred[None]:
            return fail(DiskFull("No room."))

        self.patch(store, "keep_setting", full)
        scrubber = self.start(store, rate=MIB, days=0.0)
        self.advance(700)
        self.assertGreater(len(store.looked), 600)
        self.successResultOf(scrubber.stop())
