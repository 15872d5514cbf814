"""What lies in a folder, kept up to date."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from peerstore.client.source import look
from peerstore.client.state import Agreed
from peerstore.errors import UsageError
from peerstore.sync import looking as module
from peerstore.sync.looking import RESCAN, RESCAN_BLIND, Looker
from peerstore.sync.tree import LocalTree
from peerstore.util.blocking import InlineRunner

#: Later than any file of these tests.
LATER = time.time_ns() + 10**12


class LookerTestCase(SynchronousTestCase):
    """A folder, and somebody who looks at it."""

    def setUp(self) -> None:
        self.place = Path(self.mktemp()).absolute()
        self.place.mkdir()
        self.root = os.fsencode(self.place)
        self.tree = LocalTree(self.root)
        self.tree.open(b"n" * 16, True)
        self.addCleanup(self.tree.close)
        self.agreed: dict[bytes, Agreed] = {}
        self.now = 0.0
        self.wall_ns = LATER
        self.touched: list[bytes] = []
        self.scanned: list[bytes] = []
        real = self.tree.scan

        def scan(path: bytes, note: Any) -> Any:
            self.scanned.append(path)
            return real(path, note)

        self.patch(self.tree, "scan", scan)
        self.looker = Looker(
            self.tree,
            InlineRunner(),
            self.agreed,
            lambda: self.now,
            lambda: self.wall_ns,
            random.Random(1),
            0.05,
            self.touched.append,
            lambda _: None,
        )

    def look(self, blind: bool = False) -> bool:
        """One look; what was scanned is in ``scanned``."""
        self.scanned.clear()
        changed: bool = self.successResultOf(Deferred.fromCoroutine(self.looker.look(blind)))
        return changed

    def fails(self) -> UsageError:
        error: UsageError = self.failureResultOf(Deferred.fromCoroutine(self.looker.look(False)), UsageError).value
        return error

    def agree(self, *names: bytes) -> None:
        """What lies there now is what was agreed."""
        for name in names:
            there = look(self.root, name)
            assert there is not None
            self.agreed[name] = Agreed(b"v", (), *there[1:], b"s")


class LookTests(LookerTestCase):
    """Where it looks, and what it knows then."""

    def test_everything_at_first(self) -> None:
        """And nothing without a reason after that."""
        (self.place / "a").touch()
        self.assertTrue(self.look())
        self.assertEqual((self.scanned, list(self.looker.local)), ([b""], [b"a"]))
        self.agree(b"a")
        self.assertFalse(self.look())
        self.assertEqual(self.scanned, [])

    def test_only_what_was_touched(self) -> None:
        """And whether that is a change."""
        self.look()
        (self.place / "a").touch()
        (self.place / "b").touch()
        self.looker.add([b"a"])
        self.assertTrue(self.look())
        self.assertEqual((self.scanned, list(self.looker.local)), ([b"a"], [b"a"]))
        self.agree(b"a")
        self.looker.add([b"a"])
        self.assertFalse(self.look())

    def test_what_is_in_a_folder_that_was_touched(self) -> None:
        """Is looked at with it, once."""
        (self.place / "d" / "e").mkdir(parents=True)
        self.look()
        (self.place / "d" / "e" / "f").touch()
        self.looker.add([b"d", b"d/e", b"d/e/f"])
        self.look()
        self.assertEqual(self.scanned, [b"d"])
        self.assertEqual(sorted(self.looker.local), [b"d", b"d/e", b"d/e/f"])

    def test_what_was_in_a_folder_that_is_gone(self) -> None:
        """Is gone with it; so it is with one that became a file."""
        for name in ("d", "e"):
            (self.place / name / "in").mkdir(parents=True)
        self.look()
        shutil.rmtree(self.place / "d")
        shutil.rmtree(self.place / "e")
        (self.place / "e").touch()
        self.looker.add([b"d", b"e"])
        self.look()
        self.assertEqual(list(self.looker.local), [b"e"])

    def test_what_was_done_by_ourselves(self) -> None:
        """Is known without a look."""
        self.look()
        (self.place / "a").touch()
        there = look(self.root, b"a")
        self.looker.learn(b"a", there)
        self.assertEqual(self.looker.local, {b"a": there})
        self.looker.learn(b"a", None)
        self.looker.learn(b"a", None)
        self.assertEqual(self.looker.local, {})

    def test_the_root_itself(self) -> None:
        """A touch of it says nothing of what is in it."""
        self.look()
        self.looker.add([b""])
        self.assertFalse(self.look())
        self.assertEqual(self.scanned, [])

    def test_what_cannot_be_read(self) -> None:
        """Is known as such, until it can be."""
        os.mkfifo(self.place / "p")
        self.assertFalse(self.look())
        self.assertEqual((self.looker.local, self.looker.unread), ({}, {b"p"}))
        (self.place / "p").unlink()
        (self.place / "p").touch()
        self.looker.add([b"p"])
        self.assertTrue(self.look())
        self.assertEqual((list(self.looker.local), self.looker.unread), ([b"p"], set()))


class RescanTests(LookerTestCase):
    """Events may be missed, so everything is looked at now and then."""

    def rescans_after(self, blind: bool) -> float:
        """Seconds from one whole look to the next."""
        self.looker.add_all()
        self.look()
        began = self.now
        while True:
            self.now += 1
            self.look(blind)
            if self.scanned:
                return self.now - began

    def test_with_jitter(self) -> None:
        """Between three and five quarters of the interval, each time another."""
        for blind, interval in ((False, RESCAN), (True, RESCAN_BLIND)):
            waits = [self.rescans_after(blind) for _ in range(6)]
            self.assertGreaterEqual(min(waits), 0.75 * interval)
            self.assertLessEqual(max(waits), 1.25 * interval + 1)
            self.assertGreater(len(set(waits)), 3)

    def test_when_events_were_lost(self) -> None:
        """At once."""
        self.look()
        (self.place / "a").touch()
        self.looker.add_all()
        self.assertTrue(self.look())
        self.assertEqual(self.scanned, [b""])

    def test_a_scan_that_fails(self) -> None:
        """Is not taken for done, whole or in part."""
        real = self.tree.scan

        def fail(*arguments: Any) -> Any:
            raise UsageError("bad.")

        self.patch(self.tree, "scan", fail)
        self.fails()
        self.patch(self.tree, "scan", real)
        self.look()
        self.assertEqual(self.scanned, [b""])
        self.looker.add([b"a"])
        self.patch(self.tree, "scan", fail)
        self.fails()
        self.patch(self.tree, "scan", real)
        self.look()
        self.assertEqual(self.scanned, [b"a"])


class FreshTests(LookerTestCase):
    """A whole look comes at any moment, also while a file is written."""

    def test_a_file_that_is_not_quiet(self) -> None:
        """Is left for later, as if somebody had just touched it."""
        (self.place / "a").touch()
        self.wall_ns = (self.place / "a").stat().st_ctime_ns + 1_000_000
        self.assertFalse(self.look())
        self.assertEqual((self.touched, self.looker.unread), ([b"a"], {b"a"}))
        self.looker.add([b"a"])
        self.assertTrue(self.look())
        self.assertEqual(self.looker.unread, set())

    def test_folders_need_not_be(self) -> None:
        """Nor links: they are never half."""
        (self.place / "d").mkdir()
        (self.place / "l").symlink_to("x")
        self.wall_ns = (self.place / "l").lstat().st_ctime_ns + 1_000_000
        self.look()
        self.assertEqual(self.touched, [])

    def test_what_is_agreed_need_not_be(self) -> None:
        """We may just have placed it."""
        (self.place / "a").touch()
        self.agree(b"a")
        self.wall_ns = (self.place / "a").stat().st_ctime_ns + 1_000_000
        self.look()
        self.assertEqual(self.touched, [])

    def test_a_clock_that_went_back(self) -> None:
        """Keeps no file waiting."""
        (self.place / "a").touch()
        self.wall_ns = (self.place / "a").stat().st_ctime_ns - 10**12
        self.assertTrue(self.look())
        self.assertEqual(self.touched, [])


class BelieveTests(LookerTestCase):
    """A folder that is empty all at once."""

    def setUp(self) -> None:
        super().setUp()
        for name in ("a", "b", "c"):
            (self.place / name).touch()
        self.agree(b"a", b"b", b"c")

    def empty(self) -> None:
        for name in ("a", "b", "c"):
            (self.place / name).unlink()

    def test_is_not_believed(self) -> None:
        """In no look, with or without a reason to look."""
        self.empty()
        self.assertIn("empty all at once", self.fails().what)
        self.fails()
        self.looker.add([b"a"])
        self.assertIn("put any file into it", self.fails().next_step)

    def test_is_not_believed_when_events_tell_of_it(self) -> None:
        """They may come from the same accident."""
        self.look()
        self.empty()
        self.looker.add([b"a", b"b", b"c"])
        self.fails()

    def test_is_not_believed_one_by_one(self) -> None:
        """Events tell of one deletion before the next, when all is gone."""
        self.look()
        self.empty()
        self.looker.add([b"a"])
        self.fails()

    def test_with_something_in_it(self) -> None:
        """It is: somebody meant it."""
        self.empty()
        (self.place / "new").touch()
        self.assertTrue(self.look())

    def test_with_something_unreadable_in_it(self) -> None:
        """It is not empty."""
        self.empty()
        os.mkfifo(self.place / "p")
        self.assertTrue(self.look())

    def test_one_after_the_other(self) -> None:
        """A person deletes the last things of a folder."""
        self.look()
        for name in (b"a", b"b", b"c"):
            (self.place / os.fsdecode(name)).unlink()
            self.looker.add([name])
            self.assertTrue(self.look())
            del self.agreed[name]
        self.assertEqual(module.SUDDEN, 3)
