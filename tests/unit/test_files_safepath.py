"""Which names are taken from others: the whole table."""

from __future__ import annotations

import os

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import BadMessage
from peerstore.files.safepath import MAX_DEPTH, MAX_PATH, RESERVED, check_name, check_path, is_safe
from tests.support.properties import check

#: Paths that mean something other than themselves, or somewhere else.
BAD = (
    b"..",
    b"../x",
    b"../../.ssh/authorized_keys",
    b"a/..",
    b"a/../b",
    b"a/../../b",
    b".",
    b"./a",
    b"a/.",
    b"a/./b",
    b"/",
    b"/etc/x",
    b"//x",
    b"a//b",
    b"a/",
    b"a\0b",
    b"\0",
    b"a/\0/b",
    b"a/b\0",
    b"../Docs-evil/x",
    b"x" * 256,
    b"a/" + b"x" * 256,
    RESERVED,
    RESERVED + b"incoming",
    RESERVED + b"incoming/1-1",
    b"a/" + RESERVED + b"x",
    b"/".join([b"d"] * 5000),
)

#: Names that look odd, and are names.
GOOD = (
    b"a",
    b"a/b/c",
    b"...",
    b"..a",
    b"a..",
    b".hidden",
    b".peerstore",
    b"x.peerstore-y",
    b"CON",
    b"nul.txt",
    b"a\\b",
    b"C:\\x",
    b"a:b",
    b"~",
    b"-rf",
    b" ",
    b"a\nb",
    b"\x1b[2J",
    b"\xff\xfe",
    b"\xe9",
    "é".encode(),
    "e\u0301".encode(),
    b"A",
    b"x" * 255,
    "ü".encode() * 127,
    b"\\..\\x",
    b"%2e%2e",
    b"\xc0\xae\xc0\xae",
)


class TableTests(SynchronousTestCase):
    """One by one."""

    def test_what_is_refused(self) -> None:
        """Whole, as a component, and by the short question."""
        for path in BAD:
            with self.assertRaises(BadMessage, msg=repr(path)):
                check_path(path)
            self.assertFalse(is_safe(path), path)

    def test_what_is_taken(self) -> None:
        """Names are bytes: not text, not another system's idea of a name."""
        for path in GOOD:
            self.assertEqual(check_path(path), tuple(path.split(b"/")), path)
            self.assertTrue(is_safe(path), path)

    def test_bad_names(self) -> None:
        """A component by itself."""
        for name in (b"", b".", b"..", b"/", b"a/b", b"a\0", b"x" * 256, RESERVED, RESERVED + b"x"):
            with self.assertRaises(BadMessage, msg=repr(name)):
                check_name(name)
        for name in (b"a", b"...", b"x" * 255, b"\xff", RESERVED[:-1]):
            check_name(name)

    def test_the_folder_itself(self) -> None:
        """Is the empty path, without components."""
        self.assertEqual(check_path(b""), ())
        self.assertTrue(is_safe(b""))

    def test_two_that_only_a_folding_system_confuses(self) -> None:
        """Are two: that is settled where they are written."""
        self.assertNotEqual(check_path(b"A"), check_path(b"a"))


class LimitTests(SynchronousTestCase):
    """How long and how deep."""

    def test_depth(self) -> None:
        """The limit itself is inside."""
        self.assertEqual(len(check_path(b"/".join([b"d"] * MAX_DEPTH))), MAX_DEPTH)
        self.assertRaises(BadMessage, check_path, b"/".join([b"d"] * (MAX_DEPTH + 1)))

    def test_length(self) -> None:
        """The limit itself is inside."""
        longest = b"/".join([b"x" * 255] * 16)
        self.assertEqual(len(longest), MAX_PATH - 1)
        check_path(longest)
        check_path(longest[:-255] + b"yy/" + b"x" * 253)
        self.assertRaises(BadMessage, check_path, longest + b"/y")

    def test_a_path_without_end_costs_nothing(self) -> None:
        """It is judged by its length before it is taken apart."""
        with self.assertRaises(BadMessage) as caught:
            check_path(b"a/" * 10_000_000)
        self.assertIn("longer", str(caught.exception))


class PropertyTests(SynchronousTestCase):
    """Anything at all."""

    @check(st.one_of(st.binary(max_size=30), st.lists(st.sampled_from([b"..", b".", b"", b"a", b"\0"])).map(b"/".join)))
    def test_what_is_taken_stays_inside(self, path: bytes) -> None:
        """Joined to a root, it is below that root and nowhere else."""
        if not is_safe(path):
            return
        root = b"/some/root"
        joined = os.path.normpath(os.path.join(root, path)) if path else root
        self.assertTrue(joined == root or joined.startswith(root + b"/"))
        self.assertEqual(joined, root + b"/" + path if path else root)
        self.assertNotIn(b"\0", joined)

    @check(st.binary(min_size=1, max_size=30).filter(lambda name: not set(name) & set(b"/\0")))
    def test_what_a_folder_can_hold_is_taken(self, name: bytes) -> None:
        """But for ``.``, ``..`` and our own."""
        ours = name in (b".", b"..") or name.startswith(RESERVED)
        self.assertEqual(is_safe(name), not ours)
