"""The whole thing once, small and quick: for every Python that we support."""

from __future__ import annotations

import os

from tests.support.commands import CommandTestCase


class SmokeTests(CommandTestCase):
    """Three real nodes, and the real command line."""

    async def test_a_folder_goes_in_and_comes_back(self) -> None:
        """backup, ls, get, restore, put and rm, each in a process of its own."""
        await self.small_ring(3)
        me = self.person()
        source = self.folder / "papers"
        (source / "sub").mkdir(parents=True)
        (source / "empty").mkdir(mode=0o750)
        (source / "sub" / "large.bin").write_bytes(os.urandom(3 * 2**20))
        (source / "note.txt").write_text("all is well\n")
        (source / "note.txt").chmod(0o640)
        (source / "link").symlink_to("sub/large.bin")

        done = me.asks("backup", str(source))
        self.assertEqual((done["folder"], done["files"], done["problems"]), ("papers", 3, []))
        self.assertEqual(
            [row["path"] for row in me.asks("ls", "papers")["entries"]],
            ["empty", "link", "note.txt", "sub", "sub/large.bin"],
        )

        self.assertEqual(me.does("get", "papers/note.txt", "--to", "-"), "all is well\n")
        me.does("restore", "papers", "--to", str(self.folder / "back"))
        self.assert_same_tree(source, self.folder / "back")

        me.does("put", "-", "--as", "papers/said.txt", stdin=b"from a pipe\n")
        self.assertEqual(me.does("get", "papers/said.txt", "--to", "-"), "from a pipe\n")
        me.does("rm", "papers/note.txt")
        self.assertEqual(me.run("get", "papers/note.txt", "--to", "-").status, 4)
