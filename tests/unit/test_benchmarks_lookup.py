"""Beside another package: what is pure of the program."""

from __future__ import annotations

import hashlib
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
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

    def test_each_kind_is_asked_with_each_number_in_flight(self) -> None:
        """What is in flight is told by the questions themselves."""
        most: dict[int, int] = {}

        def together(jobs: list[Any]) -> Deferred[Any]:
            most[len(jobs)] = most.get(len(jobs), 0) + 1
            return gatherResults([Deferred.fromCoroutine(job) for job in jobs])

        async def once(number: int) -> None:
            """Done."""

        kinds = {"one": once, "other": once}
        found = self.successResultOf(Deferred.fromCoroutine(lookup._rates(kinds, 0.002, together)))
        self.assertEqual(list(found), [f"{kind}, {lanes} at a time" for kind in kinds for lanes in lookup.LANES])
        # Once to warm up, and once to count, for each kind.
        self.assertEqual(most, dict.fromkeys(lookup.LANES, 4))
