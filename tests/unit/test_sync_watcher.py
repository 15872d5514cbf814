"""inotify as one of the reactor's readers: the real thing, read by hand."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pyinotify
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from peerstore.sync.watcher import FolderWatcher


class FakeReactor:
    """Knows who wants to be told that there is something to read."""

    def __init__(self) -> None:
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.remove(reader)


class WatcherTestCase(SynchronousTestCase):
    """A folder that is watched; the kernel has queued an event by the time
    that the call which caused it returns."""

    def setUp(self) -> None:
        self.place = Path(self.mktemp()).absolute()
        self.place.mkdir()
        self.reactor = FakeReactor()
        self.touched: set[bytes] = set()
        self.rescans = 0
        self.watcher = FolderWatcher(
            self.reactor,  # type: ignore[arg-type]
            os.fsencode(self.place),
            lambda path: self.touch(path),
            lambda: self.rescan(),
        )
        self.addCleanup(self.watcher.stop)

    def touch(self, path: bytes) -> None:
        self.touched.add(path)

    def rescan(self) -> None:
        self.rescans += 1

    def start(self) -> None:
        """Begin with what is there now."""
        self.watcher.open()
        self.watcher.start()

    def told(self) -> set[bytes]:
        """What it tells of what has happened since the last time."""
        self.touched.clear()
        for reader in self.reactor.readers:
            reader.doRead()
        return set(self.touched)

    def assert_told(self, *paths: bytes) -> None:
        self.assertEqual(self.told(), set(paths))


class EventTests(WatcherTestCase):
    """Which paths are told of."""

    def test_files(self) -> None:
        """Made, written, given another mode, and deleted."""
        self.start()
        file = self.place / "f"
        file.touch()
        self.assert_told(b"f")
        file.write_text("x")
        self.assert_told(b"f")
        file.chmod(0o600)
        self.assert_told(b"f")
        file.unlink()
        self.assert_told(b"f")
        self.assert_told()
        self.assertEqual(self.rescans, 0)

    def test_a_write_that_goes_on(self) -> None:
        """Each write is told of, not only the end."""
        self.start()
        with (self.place / "f").open("wb", buffering=0) as file:
            file.write(b"x")
            self.assert_told(b"f")
            file.write(b"y")
            self.assert_told(b"f")
        self.assert_told(b"f")

    def test_links(self) -> None:
        """Are told of, and what they lead to is not watched."""
        outside = self.place.with_name(self.place.name + "-outside")
        outside.mkdir()
        self.start()
        (self.place / "l").symlink_to(outside)
        self.assert_told(b"l")
        (outside / "f").touch()
        self.assert_told()

    def test_a_rename_within(self) -> None:
        """Both names."""
        (self.place / "a").touch()
        self.start()
        (self.place / "a").rename(self.place / "b")
        self.assert_told(b"a", b"b")

    def test_renames_in_and_out(self) -> None:
        """The one name that is ours."""
        outside = self.place.with_name(self.place.name + "-outside")
        outside.touch()
        self.start()
        outside.rename(self.place / "in")
        self.assert_told(b"in")
        (self.place / "in").rename(outside)
        self.assert_told(b"in")

    def test_our_own_names(self) -> None:
        """Nothing is told of what is ours."""
        self.start()
        (self.place / ".peerstore-mark").touch()
        (self.place / ".peerstore-sync").mkdir()
        (self.place / ".peerstore-sync" / "1").touch()
        self.assert_told()

    def test_below(self) -> None:
        """In folders that were there before, by their whole path."""
        (self.place / "d" / "e").mkdir(parents=True)
        self.start()
        (self.place / "d" / "e" / "f").touch()
        self.assert_told(b"d/e/f")


class FolderTests(WatcherTestCase):
    """Folders that come, go and move."""

    def test_a_new_folder(self) -> None:
        """Is watched at once, with what is in it by then."""
        self.start()
        (self.place / "d" / "e").mkdir(parents=True)
        (self.place / "d" / "e" / "before").touch()
        self.assertIn(b"d", self.told())
        (self.place / "d" / "e" / "after").touch()
        self.assert_told(b"d/e/after")

    def test_a_folder_moved_in(self) -> None:
        """With all below it."""
        outside = self.place.with_name(self.place.name + "-outside")
        (outside / "e").mkdir(parents=True)
        self.start()
        outside.rename(self.place / "d")
        self.assert_told(b"d")
        (self.place / "d" / "e" / "f").touch()
        self.assert_told(b"d/e/f")

    def test_a_folder_renamed(self) -> None:
        """What happens in it, and far below, has its new name."""
        (self.place / "a" / "b" / "c").mkdir(parents=True)
        self.start()
        (self.place / "a").rename(self.place / "z")
        self.assert_told(b"a", b"z")
        (self.place / "z" / "f").touch()
        (self.place / "z" / "b" / "c" / "f").touch()
        self.assert_told(b"z/f", b"z/b/c/f")
        (self.place / "z" / "b").rename(self.place / "z" / "y")
        self.assert_told(b"z/b", b"z/y")
        (self.place / "z" / "y" / "c" / "g").touch()
        self.assert_told(b"z/y/c/g")

    def test_a_folder_moved_out(self) -> None:
        """What happens in it is nobody's business any more."""
        (self.place / "d" / "e").mkdir(parents=True)
        self.start()
        outside = self.place.with_name(self.place.name + "-outside")
        (self.place / "d").rename(outside)
        self.assert_told(b"d")
        (outside / "e" / "f").touch()
        (outside / "f").touch()
        self.assert_told()

    def test_a_folder_out_and_in_again(self) -> None:
        """Is watched under its last name."""
        (self.place / "d").mkdir()
        self.start()
        outside = self.place.with_name(self.place.name + "-outside")
        (self.place / "d").rename(outside)
        outside.rename(self.place / "n")
        self.assert_told(b"d", b"n")
        (self.place / "n" / "f").touch()
        self.assert_told(b"n/f")

    def test_a_folder_that_goes(self) -> None:
        """Does not end the watch of the rest, and comes back as a new one."""
        (self.place / "d" / "e").mkdir(parents=True)
        self.start()
        shutil.rmtree(self.place / "d")
        self.assert_told(b"d", b"d/e")
        (self.place / "f").touch()
        (self.place / "d").mkdir()
        self.assert_told(b"d", b"f")
        (self.place / "d" / "g").touch()
        self.assert_told(b"d/g")
        self.assertEqual(self.rescans, 0)

    def test_the_root_goes(self) -> None:
        """Deleted or moved: everything is looked at."""
        self.start()
        self.place.rename(self.place.with_name(self.place.name + "-away"))
        self.told()
        self.assertEqual(self.rescans, 1)


class LostTests(WatcherTestCase):
    """Events that are lost become a look at everything."""

    def test_a_name_that_is_no_text(self) -> None:
        """pyinotify drops it; what came before it, and after, is told."""
        self.start()
        (self.place / "before").touch()
        with open(os.path.join(os.fsencode(self.place), b"\xff"), "wb"):
            pass
        self.told()
        self.assertEqual(self.rescans, 1)
        (self.place / "after").touch()
        self.assert_told(b"after")

    def test_a_folder_whose_name_is_no_text(self) -> None:
        """It cannot be watched, and that is known."""
        os.mkdir(os.path.join(os.fsencode(self.place), b"\xff"))
        with capturedLogs() as said:
            self.start()
        self.assertIn("no text", self.watcher.blind)
        self.assertEqual(len(said), 1)
        (self.place / "f").touch()
        self.assert_told(b"f")

    def test_an_overflow(self) -> None:
        """More happened than the kernel keeps."""
        self.start()
        (self.place / "a").touch()
        (self.place / "b").touch()
        limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
        for _ in range(limit // 2 + 10):
            os.utime(self.place / "a")
            os.utime(self.place / "b")
        self.assert_told(b"a", b"b")
        self.assertEqual(self.rescans, 1)
        (self.place / "c").touch()
        self.assert_told(b"c")

    def test_nothing_to_read(self) -> None:
        """Blocks nobody, and nothing was lost."""
        self.start()
        self.watcher.doRead()
        self.assertEqual(self.rescans, 0)

    def test_a_read_that_fails(self) -> None:
        """So is that."""
        self.start()

        def fail(*arguments: Any) -> bytes:
            raise OSError(errno.EIO, "no")

        (self.place / "f").touch()
        real, pyinotify.os.read = pyinotify.os.read, fail
        try:
            self.told()
        finally:
            pyinotify.os.read = real
        self.assertEqual(self.rescans, 1)


class LimitTests(WatcherTestCase):
    """What the system does not let us watch."""

    def limited(self, most: int, number: int) -> None:
        """Let only so many folders be watched."""
        real = pyinotify.WatchManager

        class Limited(real):  # type: ignore[misc, valid-type]
            count = 0

            def add_watch(self, *arguments: Any, **named: Any) -> Any:
                self.count += 1
                if self.count > most:
                    ctypes.set_errno(number)
                    raise pyinotify.WatchManagerError("cannot watch", {})
                return super().add_watch(*arguments, **named)

        self.patch(pyinotify, "WatchManager", Limited)

    def test_the_limit_of_watches(self) -> None:
        """Said once, with what to do; the rest is watched."""
        for name in "abc":
            (self.place / name).mkdir()
        self.limited(2, errno.ENOSPC)
        with capturedLogs() as said:
            self.start()
        self.assertIn("fs.inotify.max_user_watches", self.watcher.blind)
        self.assertEqual([event["log_level"].name for event in said], ["warn"])
        (self.place / "f").touch()
        self.assert_told(b"f")

    def test_a_new_folder_beyond_the_limit(self) -> None:
        """Is told of, and we are blind from then on."""
        self.limited(1, errno.ENOSPC)
        self.start()
        self.assertEqual(self.watcher.blind, "")
        (self.place / "d").mkdir()
        self.assert_told(b"d")
        self.assertIn("fs.inotify.max_user_watches", self.watcher.blind)

    def test_a_folder_that_went_meanwhile(self) -> None:
        """Is no limit."""
        self.limited(0, errno.ENOENT)
        self.start()
        self.assertEqual(self.watcher.blind, "")

    def test_the_limit_of_watchers(self) -> None:
        """Nothing is watched; nothing else fails for it."""

        def refuse(*arguments: Any) -> Any:
            raise OSError(f"Cannot initialize new instance of inotify, Errno={os.strerror(errno.EMFILE)} (EMFILE)")

        self.patch(pyinotify, "WatchManager", refuse)
        self.start()
        self.assertIn("fs.inotify.max_user_instances", self.watcher.blind)
        self.assertEqual((self.reactor.readers, self.watcher.fileno()), ([], -1))
        self.watcher.stop()


class LifeTests(WatcherTestCase):
    """Starting, stopping, and being let go of."""

    def test_it_is_a_reader(self) -> None:
        """Of the kind that reactors know, not blocking and not inherited."""
        self.start()
        self.assertTrue(verifyObject(IReadDescriptor, self.watcher))
        self.assertEqual(self.reactor.readers, [self.watcher])
        self.assertFalse(os.get_blocking(self.watcher.fileno()))
        self.assertFalse(os.get_inheritable(self.watcher.fileno()))
        self.assertTrue(self.watcher.logPrefix())

    def test_between_open_and_start(self) -> None:
        """What happens there is told later, not lost."""
        self.watcher.open()
        (self.place / "f").touch()
        self.watcher.start()
        self.assert_told(b"f")

    def test_stop(self) -> None:
        """The reactor is told before the descriptor goes; twice does no harm."""
        self.start()
        handle = self.watcher.fileno()
        (self.place / "f").touch()
        self.watcher.stop()
        self.watcher.stop()
        self.assertEqual((self.reactor.readers, self.watcher.fileno()), ([], -1))
        self.assertRaises(OSError, os.fstat, handle)

    def test_stop_while_events_wait(self) -> None:
        """Whoever is told may stop it; nothing more is told."""
        self.start()
        for name in "abc":
            (self.place / name).touch()
        told: list[bytes] = []

        def stop(path: bytes) -> None:
            told.append(path)
            self.watcher.stop()

        self.touch = stop  # type: ignore[method-assign]
        self.told()
        self.assertEqual(told, [b"a"])

    def test_stop_when_events_are_lost(self) -> None:
        """Whoever is told of that may stop it, too."""
        self.start()
        with open(os.path.join(os.fsencode(self.place), b"\xff"), "wb"):
            pass
        self.rescan = self.watcher.stop  # type: ignore[method-assign]
        self.told()
        self.assertEqual(self.watcher.fileno(), -1)

    def test_open_again(self) -> None:
        """As when the root was away."""
        self.start()
        self.watcher.stop()
        (self.place / "d").mkdir()
        self.start()
        (self.place / "d" / "f").touch()
        self.assert_told(b"d/f")

    def test_the_reactor_lets_go(self) -> None:
        """It is known that nothing is watched, and everything is looked at."""
        self.start()
        self.watcher.connectionLost(Failure(ConnectionDone()))
        self.assertEqual((self.rescans, self.reactor.readers), (1, []))
        self.assertTrue(self.watcher.blind)
