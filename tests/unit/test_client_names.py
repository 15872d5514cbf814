"""What people type, and who may write: names, places, locks."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from peerstore.client.lock import HomeLock
from peerstore.client.names import Place, find_place, name_of, parse_place
from peerstore.errors import NotFound, StorageError, UsageError
from peerstore.transactions.entry import NameRecord
from peerstore.transactions.view import FolderView, PathVersion


def view_of(**folders: dict[bytes, bytes]) -> FolderView:
    """Folders with files: {path: what tells its content}."""
    view = FolderView()
    for folder, files in folders.items():
        for number, (path, digest) in enumerate(files.items()):
            name = NameRecord(folder, path, 1 if digest else 2, 1, 0, 0o644, digest)
            version = PathVersion(b"r" * 20, (folder.encode() + path)[:32].ljust(32), (), name, number, b"d" * 16, 0)
            view._place(version)
    return view


class PlaceTests(SynchronousTestCase):
    """NAME/path, or the local path that was backed up."""

    def setUp(self) -> None:
        self.home = Path(self.mktemp()).absolute()
        (self.home / "docs" / "sub").mkdir(parents=True)
        here = os.getcwd()
        os.chdir(self.home)
        self.addCleanup(os.chdir, here)
        self.patch(os, "environ", {**os.environ, "HOME": str(self.home)})
        self.view = view_of(
            docs={b"": b"", b"a": b"1", b"sub/b": b"2", b"\xff\n": b"3"}, other={b"a": b"4"}, work={b"b": b"5"}
        )
        self.sources = {"docs": os.fsencode(self.home / "docs")}

    def find(self, text: str) -> Place:
        return find_place(text, self.view, self.sources)

    def test_names_and_paths(self) -> None:
        """The folder itself, files, and folders that only have files in them."""
        for text, place in (
            ("docs", Place("docs", b"")),
            ("docs/", Place("docs", b"")),
            ("docs/a", Place("docs", b"a")),
            ("docs/sub", Place("docs", b"sub")),
            ("docs/sub/", Place("docs", b"sub")),
            ("docs/sub/b", Place("docs", b"sub/b")),
            ("other/a", Place("other", b"a")),
        ):
            self.assertEqual(self.find(text), place)

    def test_local_paths(self) -> None:
        """Absolute, from home, from here, with detours."""
        for text in (f"{self.home}/docs/a", "~/docs/a", "./docs/a", "./docs/sub/../a", "docs/../docs/a"):
            self.assertEqual(self.find(text), Place("docs", b"a"), text)
        self.assertEqual(self.find("./docs"), Place("docs", b""))
        os.chdir("docs/sub")
        self.assertEqual(self.find("b"), Place("docs", b"sub/b"))
        self.assertEqual(self.find(".."), Place("docs", b""))
        self.assertEqual(self.find("."), Place("docs", b"sub"))

    def test_a_name_comes_before_a_local_path(self) -> None:
        """Unless it is written as one."""
        sources = {**self.sources, "work": os.fsencode(self.home / "other")}
        view = view_of(other={b"a": b"1"}, work={b"a": b"2"})
        self.assertEqual(find_place("other/a", view, sources), Place("other", b"a"))
        self.assertEqual(find_place("./other/a", view, sources), Place("work", b"a"))

    def test_names_that_are_no_text(self) -> None:
        """As their bytes, or as they were shown."""
        for text in ("docs/\udcff\n", "docs/\\xff\\n"):
            self.assertEqual(self.find(text), Place("docs", b"\xff\n"))

    def test_what_is_not_there(self) -> None:
        """It is said, with the nearest that is."""
        for text, hint in (
            ("dosc/a", "docs"),
            ("docs/sub/bb", "docs/sub/b"),
            ("docs/zzzzzz", "peerstore ls docs"),
            ("nothing-like-it", "peerstore ls"),
            ("/elsewhere", "peerstore ls"),
            ("", "peerstore ls"),
        ):
            error = self.assertRaises(NotFound, self.find, text)
            self.assertIn(hint, error.next_step)
            self.assertEqual(error.exit_status, 4)

    def test_a_path_that_only_begins_alike(self) -> None:
        """docs-evil is not in docs, whatever docs has."""
        view = view_of(docs={b"-evil/a": b"1"})
        self.assertRaises(NotFound, find_place, f"{self.home}/docs-evil/a", view, self.sources)

    def test_a_local_path_in_several_folders(self) -> None:
        """Asked for, when they differ; else any will do."""
        sources = {**self.sources, "other": os.fsencode(self.home / "docs")}
        error = self.assertRaises(UsageError, find_place, "./docs/a", self.view, sources)
        self.assertIn("docs/a, other/a", error.next_step)
        same = view_of(docs={b"a": b"1"}, other={b"a": b"1"})
        self.assertEqual(find_place("./docs/a", same, sources).path, b"a")

    def test_the_root_of_all(self) -> None:
        """A backup of / has everything below it."""
        self.assertEqual(find_place("/a", view_of(root={b"a": b"1"}), {"root": b"/"}), Place("root", b"a"))

    def test_the_name_of_a_folder(self) -> None:
        """Its last part, wherever one is."""
        for local, name in (
            ("/a/docs/", "docs"),
            (".", self.home.name),
            ("/", "root"),
            ("~/docs", "docs"),
            ("docs/..", self.home.name),
        ):
            self.assertEqual(name_of(local), name)


class WrittenTests(SynchronousTestCase):
    """NAME/path that need not be there yet."""

    def test_what_is_one(self) -> None:
        """With and without a path."""
        for text, place in (
            ("docs", Place("docs", b"")),
            ("docs/", Place("docs", b"")),
            ("docs/a b/ä", Place("docs", "a b/ä".encode())),
            ("docs/\udcff", Place("docs", b"\xff")),
        ):
            self.assertEqual(parse_place(text), place)

    def test_what_is_none(self) -> None:
        """Local paths, detours, our own names; each with an example."""
        for text in (
            "",
            "/docs/a",
            "~/docs",
            "./a",
            "../a",
            "docs/../a",
            "docs//a",
            "docs/.peerstore-x",
            "a\0",
            "a/b\0",
        ):
            error = self.assertRaises(UsageError, parse_place, text)
            self.assertIn("notes/today.txt", error.next_step)


class LockTests(SynchronousTestCase):
    """One process writes as a device at a time."""

    def setUp(self) -> None:
        self.home = Path(self.mktemp()).absolute() / "home"

    def test_taken_once(self) -> None:
        """The second is refused with a way out, until the first is done."""
        first, second = HomeLock(self.home), HomeLock(self.home)
        first.take()
        error = self.assertRaises(UsageError, second.take)
        self.assertIn("--home", error.next_step)
        first.release()
        second.take()
        second.release()
        second.release()

    def test_the_home_is_our_own(self) -> None:
        """It is made for us alone; one that is there is left as it is."""
        HomeLock(self.home).make_home()
        self.assertEqual(stat.S_IMODE(self.home.stat().st_mode), 0o700)
        self.home.chmod(0o750)
        HomeLock(self.home).make_home()
        self.assertEqual(stat.S_IMODE(self.home.stat().st_mode), 0o750)

    def test_a_home_that_cannot_be(self) -> None:
        """A file, or below one: said in words."""
        self.home.parent.mkdir()
        self.home.touch()
        self.assertRaises(UsageError, HomeLock(self.home).take)
        self.assertRaises(StorageError, HomeLock(self.home / "below").take)
