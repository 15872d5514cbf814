"""What a person is told by the commands of the first day."""

from __future__ import annotations

import shutil
import subprocess
import sys

from tests.support.processes import ProcessTestCase


class WordTests(ProcessTestCase):
    """One node, and commands typed against it."""

    async def start(self) -> None:
        """A node that is ready, and a folder with one file."""
        node = self.node()
        node.start()
        await node.ready()
        self.peer = f"127.0.0.1:{node.port}"
        (self.folder / "letters").mkdir()
        (self.folder / "letters" / "1.txt").write_text("Dear Ann\n")

    def type(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run ``peerstore`` in the test's folder."""
        done = subprocess.run(
            [sys.executable, "-m", "peerstore.cli", "--home", "home", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
        )
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done

    async def test_a_new_key_is_told_once(self) -> None:
        """Also when the node then does not answer; and not if quiet."""
        await self.start()
        told = self.type("backup", "letters", "--peer", "127.0.0.1:1", status=3).stderr
        self.assertRegex(told, "Made a new key, /.*/home/key.pem")
        self.assertNotIn("new key", self.type("backup", "letters", "--peer", self.peer).stderr)
        other = self.folder / "other.pem"
        quiet = ("--quiet", "--key", str(other), "backup", "letters")
        self.assertNotIn("new key", self.type(*quiet, "--peer", self.peer).stderr)
        self.assertTrue(other.exists())

    async def test_reading_makes_no_key(self) -> None:
        """Nothing can be there for a new key: its lack is told instead."""
        await self.start()
        for verb in (("ls",), ("get", "letters/1.txt"), ("restore", "letters"), ("rm", "letters/1.txt")):
            told = self.type(*verb, "--peer", self.peer, status=2).stderr
            self.assertIn("There is no key at", told)
            self.assertIn("--key FILE", told)
        self.assertFalse((self.folder / "home" / "key.pem").exists())

    async def test_get_twice(self) -> None:
        """What is there and equal is no conflict, what differs is one."""
        await self.start()
        self.type("backup", "letters", "--peer", self.peer)
        for _ in range(2):
            self.assertIn("1.txt: 9 B", self.type("get", "letters/1.txt").stdout)
        (self.folder / "1.txt").write_text("Dear Bob\n")
        self.assertIn("and different", self.type("get", "letters/1.txt", status=7).stderr)
        self.assertEqual((self.folder / "1.txt").read_text(), "Dear Bob\n")
        self.type("get", "letters/1.txt", "--force")
        self.assertEqual((self.folder / "1.txt").read_text(), "Dear Ann\n")

    async def test_two_keys_in_one_home(self) -> None:
        """Another key is another user, who sees nothing of the first one's
        files, and whose own backup is really stored."""
        await self.start()
        self.type("--key", "1.pem", "backup", "letters", "--peer", self.peer)
        other = ("--key", "2.pem")
        self.assertIn("1 new or changed", self.type(*other, "backup", "letters").stdout)
        self.type(*other, "rm", "letters/1.txt")
        self.assertEqual(self.type("--key", "1.pem", "get", "letters/1.txt", "--to", "-").stdout, "Dear Ann\n")
        self.assertFalse((self.folder / "home" / "publickey.pem").exists())

    async def test_a_ring_that_lost_everything(self) -> None:
        """What is unchanged here is not taken for stored there; it is read and
        stored again when asked for."""
        await self.start()
        self.type("backup", "letters", "--peer", self.peer)
        node = self.nodes[0]
        node.stop()
        shutil.rmtree(node.data)
        node.start()
        await node.ready()
        self.assertIn("does not have what this computer stored", self.type("backup", "letters", status=5).stderr)
        self.assertIn("--anew", self.type("put", "letters/1.txt", "--as", "letters/2.txt", status=5).stderr)
        self.assertIn("another ring", self.type("ls").stderr)
        self.assertIn("1 new or changed", self.type("backup", "letters", "--anew").stdout)
        self.assertIn("1 unchanged", self.type("backup", "letters").stdout)
        fresh = ("--home", "fresh", "--key", "home/key.pem")
        self.assertEqual(
            self.type(*fresh, "get", "letters/1.txt", "--to", "-", "--peer", self.peer).stdout, "Dear Ann\n"
        )
