"""How the demo compares two folders: any difference fails it."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from peerstore.cli import demo as module
from peerstore.cli.demo import compare
from peerstore.errors import PeerStoreError


class CompareTests(SynchronousTestCase):
    """A folder and its copy."""

    def setUp(self) -> None:
        base = Path(self.mktemp()).absolute()
        self.source, self.copy = base / "source", base / "copy"
        (self.source / "sub").mkdir(parents=True)
        (self.source / "sub" / "file").write_bytes(b"content")
        (self.source / "link").symlink_to("sub")
        with open(os.path.join(os.fsencode(self.source), b"\xff\n"), "wb"):
            pass
        shutil.copytree(self.source, self.copy, symlinks=True)

    def test_equal_folders(self) -> None:
        """All paths, and the bytes of files."""
        self.assertEqual(compare(self.source, self.copy), (4, 7, ()))

    def test_any_difference(self) -> None:
        """Is found, and named."""
        file, sub = self.copy / "sub" / "file", self.copy / "sub"
        status = file.stat()

        def other_bytes() -> None:
            file.write_bytes(b"CONTENT")
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

        def other_link() -> None:
            (self.copy / "link").unlink()
            (self.copy / "link").symlink_to("suB")

        def a_copy_for_a_link() -> None:
            (self.copy / "link").unlink()
            (self.copy / "link").mkdir()

        differences: dict[str, Callable[[], object]] = {
            "sub/file has other bytes": other_bytes,
            "sub/file has another time": lambda: os.utime(file, ns=(0, status.st_mtime_ns + 1)),
            "sub/file has another mode": lambda: file.chmod(0o600),
            "sub has another mode": lambda: sub.chmod(0o700),
            "link points elsewhere": other_link,
            "link has another mode": a_copy_for_a_link,
            "sub/file is on one side only": file.unlink,
            "more is on one side only": (self.copy / "more").touch,
        }
        for words, differ in differences.items():
            differ()
            for place in (self.source, self.copy):
                for folder in (place / "sub", place):
                    os.utime(folder, ns=(0, 5))
            for began_ns in (None, time.time_ns()):
                error = self.assertRaises(PeerStoreError, compare, self.source, self.copy, began_ns)
                self.assertIn(words, error.what)
            shutil.rmtree(self.copy)
            shutil.copytree(self.source, self.copy, symlinks=True)

    def test_what_is_not_kept(self) -> None:
        """Pipes, our own folders, and the demo's are left out."""
        os.mkfifo(self.source / "pipe")
        for name in (".peerstore-incoming", "peerstore-demo-x"):
            (self.source / name).mkdir()
            (self.source / name / "x").touch()
        status = self.copy.stat()
        os.utime(self.source, ns=(status.st_atime_ns, status.st_mtime_ns))
        self.assertEqual(compare(self.source, self.copy, None, "peerstore-demo-x").paths, 4)

    def test_a_folder_in_use(self) -> None:
        """What changed after the demo began is passed over and named, and
        nothing else is."""
        began_ns = time.time_ns() - 10**9
        real = os.lstat
        old = {os.path.join(os.fsencode(self.source), name) for name in (b"link", b"\xff\n")}

        class Old:
            """A status as of long ago."""

            def __init__(self, status: os.stat_result) -> None:
                self._status = status

            def __getattr__(self, name: str) -> object:
                return 0 if name == "st_ctime_ns" else getattr(self._status, name)

        self.patch(module.os, "lstat", lambda path: Old(real(path)) if path in old else real(path))
        (self.source / "sub" / "file").write_bytes(b"edited")
        (self.copy / "gone").touch()
        found = compare(self.source, self.copy, began_ns)
        self.assertEqual((found.paths, found.passed_over), (2, (b"gone", b"sub", b"sub/file")))

    def test_what_may_not_be_read(self) -> None:
        """It cannot have been stored; what is in such a folder neither."""
        shutil.rmtree(self.copy / "sub")
        began_ns = time.time_ns() + 10**9
        real = os.access
        closed = os.fsencode(self.source / "sub")
        self.patch(module.os, "access", lambda path, mode: path != closed and real(path, mode))
        found = compare(self.source, self.copy, began_ns)
        self.assertEqual((found.paths, found.passed_over), (2, (b"sub", b"sub/file")))


class StopTests(SynchronousTestCase):
    """Ctrl-C at any moment."""

    def setUp(self) -> None:
        for number in (signal.SIGTERM, signal.SIGALRM):
            self.addCleanup(signal.signal, number, signal.signal(number, module._interrupt))
        self.addCleanup(signal.setitimer, signal.ITIMER_REAL, 0)

    def test_anywhere(self) -> None:
        """Ends it at once."""
        self.assertRaises(KeyboardInterrupt, signal.raise_signal, signal.SIGTERM)

    def test_in_a_finalizer(self) -> None:
        """Where exceptions are lost, ends it a moment later."""
        steps = []

        class Thing:
            def __del__(self) -> None:
                signal.raise_signal(signal.SIGTERM)
                steps.append("finalized")

        def work() -> None:
            thing = Thing()
            del thing
            signal.pause()

        self.assertRaises(KeyboardInterrupt, work)
        self.assertEqual(steps, ["finalized"])
