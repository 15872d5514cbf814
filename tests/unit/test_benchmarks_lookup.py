"""Beside another package: what is pure of the program."""

from __future__ import annotations

import hashlib

from twisted.trial.unittest import SynchronousTestCase

from peerstore.files.chunk import verify_chunk
from tests.support.benchmarks import load

lookup = load("lookup")


class PartTests(SynchronousTestCase):
    """Values, words, tables."""

    def test_values_are_what_nodes_take(self) -> None:
        """A hundred bytes each, all different, named by their hash."""
        items = lookup._our_items(5)
        self.assertEqual([len(item.data) for item in items], [100] * 5)
        self.assertEqual(len({item.key.element for item in items}), 5)
        for item in items:
            self.assertEqual(item.key.element, hashlib.sha256(item.data).digest())
            verify_chunk(item)

    def test_keys_can_be_keys(self) -> None:
        """As long as real ones, and each its own."""
        self.assertEqual(len({lookup.spki_of(number) for number in range(5)}), 5)
        self.assertEqual(len(lookup.spki_of(1)), 422)

    def test_it_starts_itself(self) -> None:
        """With this interpreter."""
        words = lookup.program("--serve", "kademlia")
        self.assertEqual(words[-2:], ["--serve", "kademlia"])
        self.assertTrue(words[1].endswith("lookup.py"))
