"""A process that is killed while it stores: what it acknowledged is there."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from peerstore.items import ItemKey
from peerstore.storage.listing import list_keys
from tests.support.storage import SqliteMedium
from tests.support.storage_child import numbered

ROOT = Path(__file__).resolve().parent.parent.parent
ITEMS = 2000
KILLS = 20


class KillTests(SynchronousTestCase):
    """kill -9 in the middle of 2,000 puts."""

    def _child(self, folder: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.support.storage_child", str(folder), "0", str(ITEMS), "16"]
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        child = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths})
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        return child

    def _killed_after(self, folder: Path, count: int, wait: float = 0.0) -> list[int]:
        """Run until *count* puts were acknowledged, *wait* a little (s), kill;
        all that were."""
        child = self._child(folder)
        assert child.stdout is not None
        with child.stdout as output:
            acknowledged = [int(output.readline()) for _ in range(count)]
            time.sleep(wait)
            child.kill()
            rest = output.read().split(b"\n")
        child.wait()
        self.assertEqual(child.returncode, -9)
        return acknowledged + [int(line) for line in rest if line]

    def _check(self, folder: Path, acknowledged: list[int]) -> None:
        """All of those are there, and whatever else is there is whole."""
        expected = {item.key: item for item in map(numbered, range(ITEMS))}
        medium = SqliteMedium(folder)
        store = medium.open()
        try:
            promised = [numbered(number) for number in acknowledged]
            self.assertEqual(medium.wait(store.get([item.key for item in promised])), promised)
            present = [ItemKey(k.ring_id, k.owner, k.kind, k.element) for k in list_keys(folder)]
            self.assertEqual(medium.wait(store.get(present)), [expected[key] for key in present])
            files = [path for path in (folder / "chunks").rglob("*") if path.is_file()]
            large = [key for key in present if len(expected[key].data) > 64 * 1024]
            self.assertEqual(len(files), len(large))
            self.assertEqual(os.listdir(folder / "incoming"), [])
            self.assertEqual(os.listdir(folder / "quarantine"), [])
        finally:
            medium.close(store)

    def test_killed_at_several_points(self) -> None:
        """Early, in the middle and late, each time on a new folder."""
        for count in (1, 37, 400, 1000, 1700):
            folder = Path(self.mktemp())
            acknowledged = self._killed_after(folder, count)
            self.assertGreaterEqual(len(acknowledged), count)
            self._check(folder, acknowledged)

    def test_twenty_times(self) -> None:
        """One folder, killed twenty times over all of the 2,000, at seeded
        moments; each time all that was ever acknowledged is there and whole.
        Then it takes all that is missing."""
        folder = Path(self.mktemp())
        rng = random.Random(20)
        acknowledged: set[int] = set()
        for kill in range(KILLS):
            count = ITEMS * kill // KILLS + rng.randrange(1, ITEMS // KILLS)
            told = self._killed_after(folder, count, rng.random() / 50)
            self.assertLess(len(told), ITEMS, "it was through before it was killed")
            acknowledged.update(told)
            self._check(folder, sorted(acknowledged))
        child = self._child(folder)
        assert child.stdout is not None
        with child.stdout as output:
            numbers = sorted(int(line) for line in output.read().split())
        self.assertEqual((child.wait(), numbers), (0, list(range(ITEMS))))
        self._check(folder, list(range(ITEMS)))
