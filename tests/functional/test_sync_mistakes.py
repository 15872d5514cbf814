"""``twistd peerstore-sync`` started with what cannot work."""

from __future__ import annotations

import subprocess

from peerstore.client.lock import HomeLock
from tests.support.processes import ProcessTestCase, free_port, twistd


class SyncMistakeTests(ProcessTestCase):
    """What cannot work is refused in one line, with a status that is not 0."""

    def run_sync(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the daemon in the foreground to its end, which must come."""
        return subprocess.run(
            twistd("-n", "--pidfile=", "peerstore-sync", *options),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )

    def refused(self, *options: str) -> str:
        """The one line that it says before it is a daemon."""
        result = self.run_sync(*options)
        self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
        (line,) = result.stderr.splitlines()
        self.assertNotIn("Usage:", result.stdout)
        return line

    def test_options_that_are_missing_or_wrong(self) -> None:
        """Each is told by name."""
        folder, peer = str(self.folder), "127.0.0.1:1"
        self.assertIn("--folder", self.refused("--peer", peer))
        self.assertIn("--peer", self.refused("--folder", folder))
        self.assertIn("--peer", self.refused("--folder", folder, "--peer", "nowhere"))
        self.assertIn("is not there", self.refused("--folder", str(self.folder / "missing"), "--peer", peer))

    def test_a_home_that_is_in_use(self) -> None:
        """A second daemon for one folder says so and ends."""
        home = self.folder / "home"
        shared = self.folder / "shared"
        shared.mkdir()
        lock = HomeLock(home)
        lock.take()
        self.addCleanup(lock.release)
        peer = f"127.0.0.1:{free_port()}"
        line = self.refused("--folder", str(shared), "--home", str(home), "--peer", peer)
        self.assertIn("Another peerstore is at work", line)
