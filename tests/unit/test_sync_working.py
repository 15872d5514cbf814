"""Plans carried out, in batches."""

from __future__ import annotations

import os
from typing import Any

from twisted.logger import capturedLogs

from peerstore.client.source import ChangedMeanwhile
from peerstore.errors import (
    BadMessage,
    Busy,
    CorruptData,
    Incomplete,
    LookupFailed,
    PeerStoreError,
    PeerTimeout,
    StorageError,
)
from peerstore.items import Item
from peerstore.sync import working as module
from peerstore.sync.plan import Do, differs
from peerstore.sync.working import is_ring_trouble
from peerstore.transactions.chain import LoggedEntry
from peerstore.transactions.entry import entry_of
from peerstore.transactions.view import FolderView
from tests.support.sync_side import FOLDER, Side, SyncTestCase

LARGE = 300_000


class RingTroubleTests(SyncTestCase):
    """Whose error it is."""

    def test_kinds(self) -> None:
        """What the ring fails once it may fail for all; one bad thing in it
        is about one path."""
        for error in (Incomplete("x"), LookupFailed("x"), PeerTimeout("x"), Busy("x")):
            self.assertTrue(is_ring_trouble(error), error)
        for error in (BadMessage("x"), CorruptData("x"), StorageError("x"), ValueError("x")):
            self.assertFalse(is_ring_trouble(error), error)


class WorkerTests(SyncTestCase):
    """Failures, batches, and what is kept when."""

    def test_one_bad_path_stops_no_other(self) -> None:
        """It waits, is said once if it does so for long, and the rest is done."""
        here, there = self.two()
        for name in "abc":
            here.write(name, os.urandom(LARGE))
        here.rest()
        (bad,) = (v.version for v in here.versions(b"b"))
        self.gateway.heads[here.client.resource(FOLDER, b"b")].pop(bad)
        with capturedLogs() as said:
            for _ in range(module.SOME_TIMES - 1):
                self.assertFalse(there.work())
            self.assertEqual(said, [])
            self.assertFalse(there.work())
            self.assertFalse(there.work())
        self.assertEqual(there.names(), ["a", "c"])
        self.assertEqual([event["log_level"].name for event in said], ["warn"])

    def failing(self, side: Side, path: bytes, error: PeerStoreError) -> list[PeerStoreError]:
        """Let steps for a path fail with an error while it is in the list."""
        errors, real = [error], side.tree.expect

        def expect(other: bytes, found: Any) -> None:
            if errors and other == path:
                raise errors[0]
            real(other, found)

        self.patch(side.tree, "expect", expect)
        return errors

    def test_a_path_that_recovered(self) -> None:
        """When it fails anew, that is said again."""
        here = self.side("here")
        here.write("a")
        errors = self.failing(here, b"a", StorageError("bad"))
        self.patch(module, "SOME_TIMES", 1)
        with capturedLogs() as said:
            here.work()
            bad = errors.pop()
            self.assertTrue(here.work())
            here.write("a", b"edited")
            errors.append(bad)
            here.work()
            here.work()
        self.assertEqual(len(said), 2)

    def test_a_path_that_is_being_written(self) -> None:
        """Is not worth a word, but when it goes on and on."""
        here = self.side("here")
        here.write("a")
        self.failing(here, b"a", ChangedMeanwhile("a changed meanwhile."))
        with capturedLogs() as said:
            for _ in range(module.MANY_TIMES - 1):
                self.assertFalse(here.work())
            self.assertEqual(said, [])
            here.work()
        self.assertEqual(len(said), 1)

    def test_a_ring_that_fails_all(self) -> None:
        """After a few in a row nothing more is tried."""
        self.patch(module, "PARALLEL", 1)
        here, there = self.two()
        for number in range(50):
            here.write(f"{number}")
        here.rest()
        actions = there.plan()
        self.gateway.down = True
        self.gateway.calls.clear()
        self.fails(there.worker.work(actions), Incomplete)
        self.assertEqual(self.gateway.calls.count("get_heads"), module.HOPELESS)
        self.gateway.down = False
        self.assertTrue(there.work())
        self.assertEqual(len(there.names()), 50)

    def test_many_in_one_entry(self) -> None:
        """A batch of changes is one entry of the log."""
        here = self.side("here")
        for number in range(100):
            here.write(f"{number}")
        here.work()
        (log,) = self.gateway.logs.values()
        self.assertEqual([len(entry_of(item).operations) for item in log.values()], [100])

    def test_batches_keep_their_order(self) -> None:
        """Folders are in the log before what is in them, across entries."""
        here = self.side("here")
        for number in range(150):
            here.write(f"d{number:03}/f")
        here.work()
        (log,) = self.gateway.logs.values()
        paths = [path for _, item in sorted(log.items()) for path in told_of(item)]
        self.assertEqual(len(paths), 300)
        for number in range(150):
            self.assertLess(paths.index(b"d%03d" % number), paths.index(b"d%03d/f" % number))

    def test_the_disk_first(self) -> None:
        """Names are durable before they are agreed on: lost after that, they
        would look deleted."""
        here, there = self.two()
        here.write("a")
        here.rest()
        order: list[str] = []
        sync, agree = there.tree.sync, there.client.state.agree
        self.patch(there.tree, "sync", lambda paths: (order.append("sync"), sync(paths)))
        self.patch(there.client.state, "agree", lambda *args: (order.append("agree"), agree(*args)))
        there.work()
        self.assertEqual(order, ["sync", "agree"])

    def test_what_is_agreed_is_kept(self) -> None:
        """In memory and on disk alike."""
        here, there = self.shared("a")
        there.write("b")
        there.rest()
        here.rest()
        for side in (here, there):
            self.assertEqual(side.client.state.agreed(FOLDER), side.agreed)
            self.assertEqual(sorted(side.agreed), [b"a", b"b"])

    def test_an_entry_that_is_not_certain(self) -> None:
        """Is ours from the moment in which it is on its way: an edit after
        that is derived from it, and contradicts nothing."""
        here = self.side("here")
        here.write("a", b"one")
        actions = here.plan()
        self.gateway.before = lambda name: setattr(self.gateway, "weak", name in ("put_heads", "append"))
        self.fails(here.worker.work(actions), Incomplete)
        self.assertEqual(here.client.state.agreed(FOLDER), here.agreed)
        self.assertEqual(list(here.agreed), [b"a"])
        here.write("a", b"two")
        self.gateway.before = lambda _: setattr(self.gateway, "weak", False)
        here.rest()
        self.assertEqual((here.names(), len(here.versions(b"a"))), (["a"], 1))

    def test_a_restart_after_that(self) -> None:
        """So is it when the program ended in between."""
        here = self.side("here")
        here.write("a", b"one")
        actions = here.plan()
        self.gateway.before = lambda name: setattr(self.gateway, "weak", name in ("put_heads", "append"))
        self.fails(here.worker.work(actions), Incomplete)
        self.gateway.before = lambda _: setattr(self.gateway, "weak", False)
        here.client.state.close()
        here.write("a", b"two")
        again = self.side("here")
        again.rest()
        self.assertEqual((again.names(), len(again.versions(b"a"))), (["a"], 1))
        self.assertEqual(again.versions(b"a")[0].name.size, 3)

    def test_stop(self) -> None:
        """No step begins after it; the rest is in the next plan."""
        here = self.side("here")
        for number in range(300):
            here.write(f"{number:03}")
        self.gateway.before = lambda name: here.worker.stop() if name == "append" else None
        self.assertFalse(here.work())
        (log,) = self.gateway.logs.values()
        self.assertEqual(len(log), 1)
        self.assertEqual({action.do for action in here.plan()}, {Do.UPLOAD})

    def test_what_lies_there_is_told(self) -> None:
        """After each step, so that nobody has to look again."""
        here, there = self.shared("old")
        here.write("a")
        (here.place / "old").unlink()
        here.rest()
        there.learned.clear()
        there.work()
        self.assertEqual(sorted(there.learned), [b"a", b"old"])
        self.assertFalse(differs(there.learned[b"a"], there.agreed[b"a"]))
        self.assertIs(there.learned[b"old"], None)


def told_of(item: Item) -> list[bytes]:
    """The paths of which an entry tells, in its order."""
    told = FolderView().add(LoggedEntry(item.key.element, entry_of(item)))
    return [version.name.path for version in told]
