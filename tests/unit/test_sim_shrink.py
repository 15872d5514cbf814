"""Shrinking a schedule, without anything that runs."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore.sim.schedule import Event
from peerstore.sim.shrink import ddmin, some_of, without_hosts


class DeltaDebuggingTests(SynchronousTestCase):
    """The shortest sublist that still fails."""

    @settings(derandomize=True, deadline=None, max_examples=100)
    @given(st.integers(1, 40), st.sets(st.integers(0, 39)))
    def test_just_what_is_needed_is_left(self, count: int, wanted: set[int]) -> None:
        """Whatever and wherever that is, in the order in which it was."""
        needed = {item for item in wanted if item < count}
        self.assertEqual(ddmin(range(count), lambda some: needed <= set(some)), sorted(needed))

    @settings(derandomize=True, deadline=None, max_examples=50)
    @given(st.lists(st.integers(0, 9), min_size=5, max_size=30))
    def test_no_single_one_can_be_spared(self, items: list[int]) -> None:
        """Also where many sublists fail."""

        def fails(some: Sequence[int]) -> bool:
            return sum(some) >= sum(items) / 2

        kept = ddmin(items, fails)
        self.assertTrue(fails(kept))
        for place in range(len(kept)):
            self.assertFalse(fails(kept[:place] + kept[place + 1 :]) and kept[place] > 0)

    def test_it_takes_few_runs(self) -> None:
        """Two of a hundred are found in far fewer than a hundred runs each."""
        runs: list[int] = []

        def fails(some: Sequence[int]) -> bool:
            runs.append(len(some))
            return {17, 80} <= set(some)

        self.assertEqual(ddmin(range(100), fails), [17, 80])
        self.assertLess(len(runs), 100)

    def test_what_always_fails_needs_nothing(self) -> None:
        """The empty list."""
        self.assertEqual(ddmin([1, 2, 3], lambda some: True), [])


class WithoutHostsTests(SynchronousTestCase):
    """Events without some of the hosts."""

    def test_what_concerns_nobody_is_left_out(self) -> None:
        """A start, a crash, a cut with an empty side, a copy without its
        original or without its machine."""
        events = [
            Event(1.0, "start", (("a",), ("b",))),
            Event(2.0, "crash", (("a",),)),
            Event(3.0, "cut", (("a",), ("b", "c"))),
            Event(4.0, "copy", (("copy-of-a", "a"), ("b",))),
        ]
        self.assertEqual(without_hosts(events, ["a"]), [])
        self.assertEqual(without_hosts(events[3:], ["copy-of-a"]), [])

    def test_the_rest_goes_on_without_them(self) -> None:
        """Who is told of them, and who is cut off with them."""
        events = [
            Event(1.0, "start", (("a",), ("b",))),
            Event(3.0, "cut", (("a",), ("b", "c")), 5.0),
            Event(4.0, "copy", (("copy-of-a", "a"), ("b",))),
            Event(5.0, "weather", (), 5.0, 0.1),
        ]
        self.assertEqual(
            without_hosts(events, ["b"]),
            [
                Event(1.0, "start", (("a",), ())),
                Event(3.0, "cut", (("a",), ("c",)), 5.0),
                Event(4.0, "copy", (("copy-of-a", "a"), ())),
                Event(5.0, "weather", (), 5.0, 0.1),
            ],
        )

    def test_numbers_choose_events(self) -> None:
        """All without any; those that there are not are passed over."""
        events = [Event(float(at), "crash", (("a",),)) for at in range(4)]
        self.assertEqual(some_of(events, None, ()), events)
        self.assertEqual(some_of(events, [1, 3, 9], ()), [events[1], events[3]])
        self.assertEqual(some_of(events, [1], ["a"]), [])
