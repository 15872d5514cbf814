"""A process that is killed while it stores: what it acknowledged is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from peerstore.items import ItemKey
from peerstore.storage.listing import list_keys
from tests.support.storage import SqliteMedium
from tests.support.storage_child import numbered

ROOT = Path(__file__).resolve().parent.parent.parent
ITEMS = 2000


class KillTests(SynchronousTestCase):
    """kill -9 in the middle of 2,000 puts."""

    def _child(self, folder: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.support.storage_child", str(folder), "0", str(ITEMS), "16"]
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        child = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths})
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        return child

    def _killed_after(self, folder: Path, count: int) -> list[int]:
        """Run until *count* puts were acknowledged, kill; all that were."""
        child = self._child(folder)
        assert child.stdout is not None
        with child.stdout as output:
            acknowledged = [int(output.readline()) for _ in range(count)]
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

    def test_killed_again_and_again(self) -> None:
        """One folder, killed three times; then it takes all that is missing."""
        folder = Path(self.mktemp())
        acknowledged: set[int] = set()
        for count in (5, 300, 900):
            acknowledged.update(self._killed_after(folder, count))
            self._check(folder, sorted(acknowledged))
        child = self._child(folder)
        assert child.stdout is not None
        with child.stdout as output:
            numbers = sorted(int(line) for line in output.read().split())
        self.assertEqual((child.wait(), numbers), (0, list(range(ITEMS))))
        self._check(folder, list(range(ITEMS)))
