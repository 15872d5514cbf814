"""What a backup finds on a disk, and what it says of the rest."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from peerstore.client import source as module
from peerstore.client.source import Found, Walk, excluded, show
from peerstore.errors import UsageError
from peerstore.files.manifest import NodeKind
from peerstore.files.safepath import MAX_DEPTH


class WalkTestCase(SynchronousTestCase):
    """A folder to walk over."""

    def setUp(self) -> None:
        self.place = Path(self.mktemp()).absolute()
        self.place.mkdir()
        self.notes: list[str] = []
        self.failed: list[str] = []

    def walker(self, patterns: Sequence[bytes] = (), skip: Sequence[bytes] = ()) -> Walk:
        return Walk(os.fsencode(self.place), patterns, self.notes.append, self.failed.append, skip)

    def walk(self, *patterns: bytes, skip: Sequence[bytes] = ()) -> dict[bytes, Found]:
        found = list(self.walker(patterns, skip).run())
        paths = [item.path for item in found]
        self.assertEqual(len(set(paths)), len(paths))
        for at, path in enumerate(paths):
            if path:
                self.assertIn(path.rpartition(b"/")[0], paths[:at], "a folder comes before what is in it")
        return {item.path: item for item in found}


class FindingTests(WalkTestCase):
    """Everything that is kept is found as it is."""

    def test_kinds_and_attributes(self) -> None:
        """Files, folders and links, with modes and times in ns; links are not
        followed."""
        (self.place / "folder").mkdir(mode=0o750)
        (self.place / "folder" / "file").write_bytes(b"12345")
        (self.place / "folder" / "file").chmod(0o4711)
        (self.place / "link").symlink_to("folder")
        os.utime(self.place / "folder" / "file", ns=(1, 1_600_000_000_123_456_789))
        found = self.walk()
        self.assertEqual(list(found), [b"", b"folder", b"folder/file", b"link"])
        file = found[b"folder/file"]
        self.assertEqual(
            (file.kind, file.size, file.mode, file.mtime_ns), (NodeKind.FILE, 5, 0o4711, 1_600_000_000_123_456_789)
        )
        self.assertEqual((found[b"folder"].kind, found[b"folder"].mode), (NodeKind.FOLDER, 0o750))
        self.assertEqual((found[b"link"].kind, found[b"link"].size), (NodeKind.SYMLINK, 6))
        self.assertEqual((self.notes, self.failed), ([], []))

    def test_names_that_are_no_text(self) -> None:
        """They are bytes like others; so are newlines."""
        names = [b"\xff\xfe", b"new\nline", b" ", b"-n", b"\\", b"*", "ä".encode()]
        for name in names:
            with open(os.path.join(os.fsencode(self.place), name), "wb"):
                pass
        self.assertEqual(sorted(self.walk()), sorted([b"", *names]))

    def test_a_time_before_1970(self) -> None:
        """Times may be negative."""
        (self.place / "old").touch()
        os.utime(self.place / "old", ns=(-1, -1_000_000_001))
        self.assertEqual(self.walk()[b"old"].mtime_ns, -1_000_000_001)

    def test_a_root_that_is_none(self) -> None:
        """Missing, or a file: told with the way out."""
        file = self.place / "file"
        file.touch()
        for place, words in ((file, "peerstore put"), (self.place / "no", "that you can read")):
            walk = Walk(os.fsencode(place), (), self.notes.append)
            error = self.assertRaises(UsageError, lambda walk=walk: list(walk.run()))
            self.assertIn(words, error.next_step)

    def test_a_root_that_is_a_link(self) -> None:
        """What a person names is followed; what lies in it is not."""
        (self.place / "real").mkdir()
        (self.place / "real" / "file").touch()
        (self.place / "link").symlink_to("real")
        walk = Walk(os.fsencode(self.place / "link"), (), self.notes.append)
        self.assertEqual([item.path for item in walk.run()], [b"", b"file"])


class NoteTests(WalkTestCase):
    """One line on each thing that is not kept, or not whole."""

    def test_pipes_and_sockets(self) -> None:
        """Neither is kept, both are named."""
        os.mkfifo(self.place / "pipe")
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        here = os.getcwd()
        # The name of a socket has little room.
        os.chdir(self.place)
        try:
            listening.bind("socket")
        finally:
            os.chdir(here)
        self.assertEqual(list(self.walk()), [b""])
        self.assertEqual(self.notes, ["pipe: a named pipe; not kept", "socket: a socket; not kept"])

    def test_devices(self) -> None:
        """Both kinds."""
        try:
            os.mknod(self.place / "block", stat.S_IFBLK | 0o600, os.makedev(7, 99))
            os.mknod(self.place / "char", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        except PermissionError:
            raise SkipTest("making devices needs root") from None
        self.assertEqual(list(self.walk()), [b""])
        self.assertEqual(self.notes, ["block: a block device; not kept", "char: a character device; not kept"])

    def test_hard_links(self) -> None:
        """Kept as files of their own, and that is said of each."""
        (self.place / "a").touch()
        os.link(self.place / "a", self.place / "b")
        self.assertEqual(list(self.walk()), [b"", b"a", b"b"])
        self.assertEqual([line.split(": ")[0] for line in self.notes], ["a", "b"])
        self.assertIn("kept as a file of its own", self.notes[0])

    def test_extended_attributes(self) -> None:
        """Those that somebody gave are named, access control lists too; what
        the system gives every file is not."""
        (self.place / "a").touch()
        for names, said in (
            (["user.note"], True),
            (["system.posix_acl_access"], True),
            (["security.capability"], True),
            (["security.selinux", "system.nfs4_acl"], False),
            ([], False),
        ):
            self.patch(module.os, "listxattr", lambda *_, names=names, **__: names)
            self.notes.clear()
            self.walk()
            self.assertEqual("a: its extended attributes are not kept" in self.notes, said, names)

    def test_real_extended_attributes(self) -> None:
        """As this file system gives them."""
        (self.place / "a").touch()
        try:
            os.setxattr(self.place / "a", b"user.note", b"x")
        except OSError:
            # Not every file system has them; the test before does without.
            return
        self.walk()
        self.assertEqual(self.notes, ["a: its extended attributes are not kept"])

    def test_names_of_our_own(self) -> None:
        """What we put there ourselves is passed over; somebody else's file
        with such a name is named."""
        for name in (".peerstore-incoming", ".peerstore-sync", ".peerstore-mark", ".peerstore-notes"):
            (self.place / name).mkdir()
        self.assertEqual(list(self.walk()), [b""])
        self.assertEqual(self.notes, [".peerstore-notes: the name is one of our own; not kept"])

    def test_a_path_that_is_too_deep(self) -> None:
        """One line, and everything beside it is found."""
        held = os.open(self.place, os.O_RDONLY)
        for _ in range(MAX_DEPTH + 1):
            os.mkdir("d", dir_fd=held)
            below = os.open("d", os.O_RDONLY, dir_fd=held)
            os.close(held)
            held = below
        os.close(held)
        (self.place / "e").touch()
        self.assertEqual(len(self.walk()), MAX_DEPTH + 2)
        self.assertEqual(
            [line.rpartition(": ")[2] for line in self.notes], ["the path is too long, or too deep; not kept"]
        )

    def test_the_programs_own_folder(self) -> None:
        """A home inside of the folder is left out, under whatever path."""
        (self.place / "home").mkdir()
        (self.place / "home" / "key.pem").touch()
        (self.place / "alias").symlink_to("home")
        found = self.walk(skip=[os.fsencode(self.place / "alias"), b"/no/such/folder"])
        self.assertEqual(list(found), [b"", b"alias"])
        self.assertEqual(self.notes, ["home: PeerStore's own folder; not kept"])


class UnreadTests(WalkTestCase):
    """What cannot be read is not taken for absent."""

    def refuse(self, name: str, *paths: bytes) -> None:
        """Let a function of the system fail for some paths, also for root."""
        real = getattr(os, name)
        places = {os.path.join(os.fsencode(self.place), path) for path in paths}

        def failing(path: Any, *rest: Any, **named: Any) -> Any:
            if path in places:
                raise PermissionError(13, "Permission denied", path)
            return real(path, *rest, **named)

        self.patch(module.os, name, failing)

    def test_a_folder(self) -> None:
        """It is named; the rest is found; of what is in it nothing is known."""
        (self.place / "a" / "b").mkdir(parents=True)
        (self.place / "c").touch()
        self.refuse("scandir", b"a")
        walk = self.walker()
        self.assertEqual([item.path for item in walk.run()], [b"", b"a", b"c"])
        self.assertEqual(self.failed, ["a: not read (Permission denied)"])
        self.assertEqual([walk.knows(path) for path in (b"a/b/x", b"a/b", b"c", b"d", b"ab")], [False] * 2 + [True] * 3)

    def test_one_path(self) -> None:
        """A folder that may be listed and not entered."""
        (self.place / "a").touch()
        (self.place / "b").touch()
        self.refuse("lstat", b"a")
        walk = self.walker()
        self.assertEqual([item.path for item in walk.run()], [b"", b"b"])
        self.assertEqual(self.failed, ["a: not read (Permission denied)"])
        self.assertEqual((walk.knows(b"a"), walk.knows(b"x")), (False, True))

    def test_what_goes_away_meanwhile(self) -> None:
        """Is simply not there."""
        (self.place / "a").touch()
        real = os.lstat

        def gone(path: Any) -> Any:
            if path == os.path.join(os.fsencode(self.place), b"a"):
                raise FileNotFoundError
            return real(path)

        self.patch(module.os, "lstat", gone)
        walk = self.walker()
        self.assertEqual([item.path for item in walk.run()], [b""])
        self.assertTrue(walk.knows(b"a"))
        self.assertEqual(self.failed, [])


class ExcludeTests(WalkTestCase):
    """Patterns for what is left out."""

    def test_patterns(self) -> None:
        """They match the name, or the whole path."""
        for path, pattern, expected in (
            (b"a/b.tmp", b"*.tmp", True),
            (b"a/b.tmp", b"b.tmp", True),
            (b"a/b.tmp", b"a/*", True),
            (b"a/b.tmp", b"a/b.tmp", True),
            (b"a/b.tmp", b"a", False),
            (b"a", b"a/", True),
            (b"a/cache", b"a/cache/", True),
            (b"A", b"a", False),
            (b"\xff", b"?", True),
            (b"ab", b"[ab]b", True),
        ):
            self.assertEqual(excluded(path, [b"nothing", pattern]), expected, (path, pattern))

    def test_a_folder_with_all_that_is_in_it(self) -> None:
        """Nothing below it is looked at, nor thought to be gone."""
        (self.place / "a" / "b").mkdir(parents=True)
        (self.place / "c").mkdir()
        walk = self.walker([b"a"])
        self.assertEqual([item.path for item in walk.run()], [b"", b"c"])
        self.assertEqual([walk.knows(path) for path in (b"a", b"a/b", b"c/x")], [False, False, True])
        self.assertEqual(self.notes, [])


class ShowTests(SynchronousTestCase):
    """Paths for people."""

    def test_one_line_whatever_the_name(self) -> None:
        """Text stays text; what is none, and what would move the cursor, is
        escaped."""
        for path, shown in (
            (b"", "."),
            ("größe/日本".encode(), "größe/日本"),
            (b"a b", "a b"),
            ("a\u3000b".encode(), "a\u3000b"),
            (b"\xffx", "\\xffx"),
            (b"a\nb", "a\\nb"),
            (b"\x1b[2J", "\\x1b[2J"),
            ("\u202egpj".encode(), "\\u202egpj"),
        ):
            self.assertEqual(show(path), shown)
