"""A setting that changes often: the newest version is on disk before anybody acts on it."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import DiskFull
from peerstore.node.latest import Latest


class Disk:
    """A store whose writes end when a test says so."""

    def __init__(self) -> None:
        self.writes: list[tuple[bytes, Deferred[None]]] = []

    def keep_setting(self, name: str, value: bytes) -> Deferred[None]:
        """Begun."""
        assert name == "thing"
        done: Deferred[None] = Deferred()
        self.writes.append((value, done))
        return done

    @property
    def values(self) -> list[bytes]:
        """All that was written so far, or is being written."""
        return [value for value, _ in self.writes]


class LatestTests(SynchronousTestCase):
    """One write at a time, for all who wait."""

    def setUp(self) -> None:
        self.disk = Disk()
        self.value = 0
        self.latest = Latest(self.disk, "thing", lambda: b"%d" % self.value)  # type: ignore[arg-type]

    def change(self) -> None:
        """The next value."""
        self.value += 1
        self.latest.changed()

    def test_nothing_has_changed(self) -> None:
        """Nothing is written."""
        self.successResultOf(self.latest.kept())
        self.assertEqual(self.disk.values, [])

    def test_a_change(self) -> None:
        """On disk when it says so, and not again."""
        self.change()
        kept = self.latest.kept()
        self.assertNoResult(kept)
        self.disk.writes[0][1].callback(None)
        self.successResultOf(kept)
        self.successResultOf(self.latest.kept())
        self.assertEqual(self.disk.values, [b"1"])

    def test_changes_while_it_writes(self) -> None:
        """Whoever wants the newer version waits for the next write, of which there is one for all."""
        self.change()
        first = self.latest.kept()
        self.change()
        second = self.latest.kept()
        self.change()
        third = self.latest.kept()
        self.assertEqual(self.disk.values, [b"1"])
        self.disk.writes[0][1].callback(None)
        self.successResultOf(first)
        self.assertNoResult(second)
        self.assertEqual(self.disk.values, [b"1", b"3"])
        self.disk.writes[1][1].callback(None)
        self.successResultOf(second)
        self.successResultOf(third)

    def test_a_write_that_fails(self) -> None:
        """Those who waited are told; it is written again for the next who asks."""
        self.change()
        first = self.latest.kept()
        self.disk.writes[0][1].errback(DiskFull("No room."))
        self.failureResultOf(first, DiskFull)
        second = self.latest.kept()
        self.assertEqual(self.disk.values, [b"1", b"1"])
        self.disk.writes[1][1].callback(None)
        self.successResultOf(second)

    def test_a_failure_is_not_the_next_one_s(self) -> None:
        """Who waits for a later version waits for the write of that."""
        self.change()
        first = self.latest.kept()
        self.change()
        second = self.latest.kept()
        self.disk.writes[0][1].errback(DiskFull("No room."))
        self.failureResultOf(first, DiskFull)
        self.assertNoResult(second)
        self.disk.writes[1][1].callback(None)
        self.successResultOf(second)

    def test_what_it_refers_to(self) -> None:
        """That is on disk before; where it cannot be, nothing is written."""
        firsts: list[Deferred[None]] = []

        async def before() -> None:
            firsts.append(Deferred())
            await firsts[-1]

        self.latest = Latest(self.disk, "thing", lambda: b"%d" % self.value, before)  # type: ignore[arg-type]
        self.change()
        kept = self.latest.kept()
        self.assertEqual(self.disk.values, [])
        firsts[0].callback(None)
        self.assertEqual(self.disk.values, [b"1"])
        self.disk.writes[0][1].callback(None)
        self.successResultOf(kept)
        self.change()
        failed = self.latest.kept()
        firsts[1].errback(DiskFull("No room."))
        self.failureResultOf(failed, DiskFull)
        self.assertEqual(self.disk.values, [b"1"])

    def test_one_who_does_not_wait_any_more(self) -> None:
        """The others are told all the same."""
        self.change()
        first, second = self.latest.kept(), self.latest.kept()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.disk.writes[0][1].callback(None)
        self.successResultOf(second)
