"""Disks that are full or take no writes: one plain sentence, nothing lost."""

from __future__ import annotations

import os
import subprocess
from itertools import count
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from peerstore.errors import DiskFull, ReadOnly
from peerstore.items import Item
from peerstore.storage.listing import list_keys
from tests.support.storage import SqliteMedium, chunk, large_chunk

SIZE = 3 * 1024 * 1024
FILLER = 1024 * 1024


class DiskTests(SynchronousTestCase):
    """A small file system of our own."""

    def setUp(self) -> None:
        if os.geteuid() != 0:
            raise SkipTest("only root can mount a small file system")
        self.mount = Path(self.mktemp()).absolute()
        self.mount.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(self.mount)]
        mounted = subprocess.run(command, capture_output=True, text=True)
        if mounted.returncode != 0:
            raise SkipTest(f"no file system can be mounted here: {mounted.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", str(self.mount)], check=True)
        self.folder = self.mount / "data"
        self.medium = SqliteMedium(self.folder)
        self.wait = self.medium.wait
        self.filler = self.mount / "filler"
        self.filler.write_bytes(bytes(FILLER))

    def _fill(self, make: type | object) -> tuple[list[Item], str]:
        """Put until the disk is full; what was acknowledged, what was said."""
        kept: list[Item] = []
        for number in count():
            item = make(number)  # type: ignore[operator]
            try:
                self.wait(self.store.put([item]))
            except DiskFull as error:
                self.assertEqual(self.wait(self.store.have([item.key])), [False])
                return kept, str(error)
            kept.append(item)
        raise AssertionError("unreachable")

    def _is_refused_and_recovers(self, make: object) -> None:
        self.store = self.medium.open()
        kept, text = self._fill(make)
        self.assertIn("No room left", text)
        self.assertIn(str(self.folder), text)
        self.assertGreater(len(kept), 3)
        self.assertEqual(os.listdir(self.folder / "incoming"), [])
        keys = [item.key for item in kept]
        self.assertEqual(self.wait(self.store.get(keys)), kept)
        self.filler.unlink()
        more = make(999)  # type: ignore[operator]
        self.assertEqual(self.wait(self.store.put([more])), [True])
        self.medium.close(self.store)
        self.store = self.medium.open()
        self.assertEqual(self.wait(self.store.get([*keys, more.key])), [*kept, more])
        self.medium.close(self.store)

    def test_full_while_writing_rows(self) -> None:
        """Small chunks: SQLite finds no room."""
        self._is_refused_and_recovers(lambda number: chunk(number, size=10_000))

    def test_full_while_writing_files(self) -> None:
        """Large chunks: no room for a file, and none is left behind half."""
        self._is_refused_and_recovers(lambda number: large_chunk(number))

    def test_a_full_disk_still_reads_and_says_so_at_start(self) -> None:
        """No store can be opened for the first time on a full disk."""
        with open(self.filler, "ab", buffering=0) as filler, self.assertRaises(OSError):
            while True:
                filler.write(bytes(4096))
        with self.assertRaises(DiskFull) as caught:
            self.medium.open()
        self.assertIn(str(self.mount), str(caught.exception))

    def test_read_only(self) -> None:
        """A file system without writes: refused by name, but listed."""
        store = self.medium.open()
        self.wait(store.put([chunk(1), large_chunk(2)]))
        self.medium.close(store)
        subprocess.run(["mount", "-o", "remount,ro", str(self.mount)], check=True)
        with self.assertRaises(ReadOnly) as caught:
            self.medium.open()
        self.assertIn(str(self.folder), str(caught.exception))
        self.assertIn("cannot be", str(caught.exception))
        self.assertEqual(
            sorted(key.element for key in list_keys(self.folder)),
            sorted(item.key.element for item in (chunk(1), large_chunk(2))),
        )
