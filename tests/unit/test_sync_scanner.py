"""Looking at a folder: what is there, and what nobody could look at."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from peerstore.files.manifest import NodeKind
from peerstore.sync import scanner as module
from peerstore.sync.scanner import Scan, Scanner


class ScannerTestCase(SynchronousTestCase):
    """A folder on a real disk."""

    def setUp(self) -> None:
        self.place = Path(self.mktemp()).absolute()
        self.place.mkdir()
        self.root = os.fsencode(self.place)
        self.notes: list[str] = []

    def scan(self, path: bytes = b"", skip: tuple[Path, ...] = ()) -> Scan:
        return Scanner(self.root, [os.fsencode(place) for place in skip]).scan(path, self.notes.append)

    def kinds(self, scan: Scan) -> dict[bytes, NodeKind]:
        return {path: found.kind for path, found in scan.found.items()}

    def refuse(self, name: str, when: Callable[..., bool], error: OSError) -> None:
        """Let a call of the system fail for some arguments; root may all."""
        real = getattr(module.os, name)

        def call(*arguments: Any, **named: Any) -> Any:
            if when(*arguments):
                raise error
            return real(*arguments, **named)

        self.patch(module.os, name, call)


class ScannerTests(ScannerTestCase):
    """A look at all of it."""

    def test_files_folders_and_links(self) -> None:
        """All that is kept, by path, and not the root."""
        (self.place / "d" / "e").mkdir(parents=True)
        (self.place / "d" / "e" / "f").write_text("four")
        (self.place / "l").symlink_to("d")
        scan = self.scan()
        self.assertEqual(
            self.kinds(scan),
            {
                b"d": NodeKind.FOLDER,
                b"d/e": NodeKind.FOLDER,
                b"d/e/f": NodeKind.FILE,
                b"l": NodeKind.SYMLINK,
            },
        )
        self.assertEqual((scan.found[b"d/e/f"].size, scan.found[b"d/e/f"].path), (4, b"d/e/f"))
        self.assertEqual((scan.unread, self.notes), (set(), []))

    def test_links_are_never_walked_through(self) -> None:
        """Neither to folders inside nor outside, nor in a circle."""
        outside = self.place.with_name(self.place.name + "-outside")
        outside.mkdir()
        (outside / "secret").write_text("x")
        (self.place / "out").symlink_to(outside)
        (self.place / "circle").symlink_to(".")
        self.assertEqual(sorted(self.scan().found), [b"circle", b"out"])
        self.assertEqual(self.scan(b"out/secret").found, {})

    def test_names_that_are_no_text(self) -> None:
        """Names are bytes, with escapes or line ends in them as may be."""
        names = [b"\xff\xfe", b"a\nb", "größe".encode(), b"\xed\xb3\xbf"]
        for name in names:
            os.mkdir(os.path.join(self.root, name))
            with open(os.path.join(self.root, name, name), "wb"):
                pass
        self.assertEqual(sorted(self.scan().found), sorted([*names, *(name + b"/" + name for name in names)]))

    def test_our_own_names(self) -> None:
        """What is ours in the root is not even mentioned; the same names
        elsewhere are somebody's, and are told of."""
        (self.place / ".peerstore-mark").touch()
        (self.place / ".peerstore-sync").mkdir()
        (self.place / "d").mkdir()
        (self.place / "d" / ".peerstore-mine").touch()
        scan = self.scan()
        self.assertEqual((list(scan.found), scan.unread), ([b"d"], {b"d/.peerstore-mine"}))
        self.assertEqual(len(self.notes), 1)

    def test_pipes_and_sockets(self) -> None:
        """One of them ends no scan; it is there, and nothing more is known."""
        os.mkfifo(self.place / "pipe")
        (self.place / "z").touch()
        scan = self.scan()
        self.assertEqual((list(scan.found), scan.unread), ([b"z"], {b"pipe"}))
        self.assertEqual(self.notes, ["pipe: no file, folder or link; not kept"])

    def test_an_unreadable_folder(self) -> None:
        """Is not an empty one."""
        (self.place / "d").mkdir()
        (self.place / "d" / "f").touch()
        self.refuse("open", lambda name, *_: name == b"d", PermissionError(13, "Permission denied"))
        scan = self.scan()
        self.assertEqual((scan.found, scan.unread), ({}, {b"d"}))
        self.assertEqual(self.notes, ["d: not read (Permission denied); not kept"])

    def test_a_folder_that_fails_while_it_is_listed(self) -> None:
        """A disk error in the middle is no deletion."""
        (self.place / "d").mkdir()
        (self.place / "d" / "f").touch()
        inner = os.stat(self.place / "d").st_ino
        self.refuse("scandir", lambda handle: os.fstat(handle).st_ino == inner, OSError(5, "Input/output error"))
        self.assertEqual(self.scan().unread, {b"d"})

    def test_a_folder_that_goes_meanwhile(self) -> None:
        """Is gone, and no trouble."""
        (self.place / "d").mkdir()
        self.refuse("open", lambda name, *_: name == b"d", FileNotFoundError(2, "gone"))
        self.assertEqual(self.scan(), Scan())

    def test_too_deep(self) -> None:
        """Is told of, and not kept."""
        place = self.place
        for _ in range(257):
            place /= "d"
            place.mkdir()
        scan = self.scan()
        self.assertEqual((len(scan.found), len(scan.unread)), (256, 1))

    def test_what_is_ours_elsewhere(self) -> None:
        """The client's home and key are known by what they are."""
        home = self.place / "home"
        home.mkdir()
        (home / "key.pem").touch()
        (self.place / "f").touch()
        scan = self.scan(skip=(home, self.place / "missing"))
        self.assertEqual((list(scan.found), scan.unread), ([b"f"], {b"home"}))
        self.assertEqual(self.scan(b"home", skip=(home,)), Scan({}, {b"home"}))

    def test_another_file_system(self) -> None:
        """What is mounted below is left out: unmounted, it would be empty."""
        (self.place / "mounted").mkdir()
        device = os.stat(self.place).st_dev
        walk = module._Walk(frozenset(), device + 1, scan := Scan(), self.notes.append)
        handle = os.open(self.place, os.O_RDONLY)
        self.addCleanup(os.close, handle)
        walk.below(handle, b"")
        self.assertEqual((scan.found, scan.unread), ({}, {b"mounted"}))


class PathTests(ScannerTestCase):
    """A look at one path and what is below it."""

    def test_a_file(self) -> None:
        """Only that."""
        (self.place / "a").touch()
        (self.place / "b").touch()
        self.assertEqual(list(self.scan(b"a").found), [b"a"])

    def test_a_folder(self) -> None:
        """With all that is in it, by its whole path."""
        (self.place / "d" / "e").mkdir(parents=True)
        (self.place / "d" / "e" / "f").touch()
        self.assertEqual(sorted(self.scan(b"d").found), [b"d", b"d/e", b"d/e/f"])
        self.assertEqual(sorted(self.scan(b"d/e").found), [b"d/e", b"d/e/f"])

    def test_nothing(self) -> None:
        """Also where a file is on the way."""
        (self.place / "a").touch()
        self.assertEqual(self.scan(b"gone"), Scan())
        self.assertEqual(self.scan(b"a/b"), Scan())
        self.assertEqual(self.scan(b"gone/b"), Scan())

    def test_something_that_is_not_kept(self) -> None:
        """It is there."""
        os.mkfifo(self.place / "pipe")
        self.assertEqual(self.scan(b"pipe"), Scan({}, {b"pipe"}))

    def test_a_path_that_cannot_be_judged(self) -> None:
        """Neither there nor absent."""
        (self.place / "d").mkdir()
        self.refuse("open", lambda name, *_: name == b"d", PermissionError(13, "Permission denied"))
        self.assertEqual(self.scan(b"d/f"), Scan({}, {b"d/f"}))
        self.assertEqual(self.scan(b"d").unread, {b"d"})
