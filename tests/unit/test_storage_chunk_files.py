"""Files of larger chunks, and the room that they leave to others."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import DiskFull
from peerstore.storage.chunk_files import RESERVE, ChunkFiles, room_of

LARGE = 100 * RESERVE


class RoomTests(SynchronousTestCase):
    """Chunks do not take the last of a disk: the database needs it."""

    def setUp(self) -> None:
        self.place = Path(self.mktemp())
        self.place.mkdir()
        self.free, self.whole = LARGE, LARGE
        self.files = ChunkFiles(self.place, lambda _: (self.free, self.whole))
        self.files.open()

    def test_there_is_room(self) -> None:
        """Up to the last byte that may be used."""
        self.free = RESERVE + 5
        self.assertEqual(self.files.stage(b"chunk").read_bytes(), b"chunk")

    def test_what_is_kept_free(self) -> None:
        """One byte more is refused like a full disk, and nothing is left behind."""
        self.free = RESERVE + 4
        with self.assertRaises(DiskFull) as caught:
            self.files.stage(b"chunk")
        self.assertIn("No room left", str(caught.exception))
        self.assertEqual(os.listdir(self.place / "incoming"), [])

    def test_a_small_file_system(self) -> None:
        """A twentieth of it is kept free, not more than all of it."""
        self.whole = 20_000
        self.free = 1_005
        self.files.stage(b"chunk")
        self.free = 1_004
        self.assertRaises(DiskFull, self.files.stage, b"chunk")

    def test_what_the_system_says(self) -> None:
        """Of this file system: some of it is free, and not more than there is."""
        free, whole = room_of(self.place)
        self.assertTrue(0 <= free <= whole, (free, whole))
