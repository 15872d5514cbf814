"""What a copy of a file is called whose edit crossed with another."""

from __future__ import annotations

import hashlib

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore.sync.naming import conflict_name, has_copy
from tests.support.properties import check

DEVICE = b"\xd1\xd2\xd3\xd4" + bytes(12)
OTHER = b"\x01\x02\x03\x04" + bytes(12)
SHA = b"\xab\xcd\xef\x01" + bytes(28)

_names = st.binary(min_size=1, max_size=255).map(lambda name: name.replace(b"/", b"-").replace(b"\0", b"-"))


class ConflictNameTests(SynchronousTestCase):
    """Device and content are in the name, and the ending stays."""

    def test_the_ending_stays(self) -> None:
        """Programs go by it."""
        self.assertEqual(conflict_name(b"notes.txt", DEVICE, SHA), b"notes.conflict-d1d2d3d4-abcdef01.txt")
        self.assertEqual(conflict_name(b"a.tar.gz", DEVICE, SHA), b"a.tar.conflict-d1d2d3d4-abcdef01.gz")

    def test_beside_the_file(self) -> None:
        """In the same folder, whose name may have dots."""
        self.assertEqual(conflict_name(b"a.b/c", DEVICE, SHA), b"a.b/c.conflict-d1d2d3d4-abcdef01")

    def test_leading_dots_begin_no_ending(self) -> None:
        """A hidden file stays hidden."""
        self.assertEqual(conflict_name(b".bashrc", DEVICE, SHA), b".bashrc.conflict-d1d2d3d4-abcdef01")
        self.assertEqual(conflict_name(b"..x", DEVICE, SHA), b"..x.conflict-d1d2d3d4-abcdef01")

    def test_a_number_for_a_name_that_is_taken(self) -> None:
        """From 2 on."""
        self.assertEqual(conflict_name(b"a.b", DEVICE, SHA, 2), b"a.conflict-d1d2d3d4-abcdef01-2.b")

    def test_long_names_are_cut_between_characters(self) -> None:
        """A cut name is still text where the name was."""
        name = conflict_name(("ä" * 125 + ".txt").encode(), DEVICE, SHA)
        self.assertLessEqual(len(name), 255)
        self.assertTrue(name.decode().endswith(".conflict-d1d2d3d4-abcdef01.txt"))

    def test_a_long_ending_is_none(self) -> None:
        """What is after a dot may be most of the name."""
        name = conflict_name(b"a." + b"x" * 253, DEVICE, SHA)
        self.assertEqual(len(name), 255)
        self.assertTrue(name.endswith(b"x.conflict-d1d2d3d4-abcdef01"))

    @check(_names, st.binary(min_size=16, max_size=16), st.binary(max_size=4), examples=300)
    def test_every_name_gets_one_that_fits(self, name: bytes, device: bytes, content: bytes) -> None:
        """At most 255 bytes, not the name itself, and known as its copy."""
        sha256 = hashlib.sha256(content).digest()
        copy = conflict_name(b"in/" + name, device, sha256)
        self.assertLessEqual(len(copy), 255 + 3)
        self.assertNotEqual(copy, b"in/" + name)
        self.assertTrue(has_copy(b"in/" + name, sha256, [b"else", copy]))


class HasCopyTests(SynchronousTestCase):
    """One copy of each content is enough, whoever wrote it."""

    def test_another_device_may_have_written_it(self) -> None:
        """Content counts."""
        self.assertTrue(has_copy(b"a/n.txt", SHA, [conflict_name(b"a/n.txt", OTHER, SHA)]))

    def test_other_content_path_or_ending(self) -> None:
        """Each makes it a copy of something else."""
        others = [
            conflict_name(b"a/n.txt", DEVICE, bytes(32)),
            conflict_name(b"b/n.txt", DEVICE, SHA),
            conflict_name(b"a/n.doc", DEVICE, SHA),
            conflict_name(b"a/m.txt", DEVICE, SHA),
            b"a/n.conflict-abcdef01.txt",
            b"a/n.txt",
        ]
        self.assertFalse(has_copy(b"a/n.txt", SHA, others))
        self.assertFalse(has_copy(b"a/n.txt", SHA, []))
