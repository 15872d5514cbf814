"""Chance that can be replayed."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from peerstore.sim.clock import SimClock
from peerstore.sim.decisions import Decisions
from peerstore.sim.trace import Trace


class DecisionsTests(SynchronousTestCase):
    """Every decision is a hash of what it is for."""

    def test_decisions_are_what_they_always_were(self) -> None:
        """A seed that was written down replays in every later version."""
        decisions = Decisions(42)
        self.assertEqual(
            [f"{decisions.number('host-1', 'loss'):016x}" for _ in range(3)],
            ["c86f05a2b05a87c5", "448d35b198062104", "42d28d4240117824"],
        )
        self.assertEqual(decisions.entropy("host-1", 5).hex(), "17a23db7b4")

    def test_equal_seeds_decide_alike(self) -> None:
        """Whatever else was asked for in between."""
        one, two = Decisions(1), Decisions(1)
        first = [one.number("a", "x") for _ in range(5)]
        second = []
        for _ in range(5):
            two.number("b", "x")
            two.number("a", "y")
            second.append(two.number("a", "x"))
        self.assertEqual(first, second)

    def test_seeds_places_and_kinds_decide_apart(self) -> None:
        """No two of them give the same numbers."""
        streams = [
            tuple(Decisions(seed).number(place, kind) for _ in range(1))
            for seed in (1, 2)
            for place in ("a", "b")
            for kind in ("x", "y")
        ]
        self.assertEqual(len(set(streams)), len(streams))

    def test_a_chance_is_as_likely_as_it_says(self) -> None:
        """And what cannot happen costs no decision."""
        decisions = Decisions(3)
        hits = sum(decisions.chance("a", "x", 0.25) for _ in range(4000))
        self.assertTrue(900 < hits < 1100, hits)
        before = Decisions(3)
        self.assertFalse(any(before.chance("a", "x", 0.0) for _ in range(100)))
        self.assertEqual(before.fraction("a", "x"), Decisions(3).fraction("a", "x"))

    def test_fractions_fill_the_unit_interval(self) -> None:
        """From 0 to below 1, evenly."""
        decisions = Decisions(9)
        values = [decisions.fraction("a", "x") for _ in range(4000)]
        self.assertTrue(all(0 <= value < 1 for value in values))
        self.assertLess(abs(sum(values) / len(values) - 0.5), 0.03)

    def test_generators_and_bytes_are_decisions_too(self) -> None:
        """Equal for equal seeds, different for each time they are asked."""
        one, two = Decisions(5), Decisions(5)
        self.assertEqual(one.rng("a").random(), two.rng("a").random())
        self.assertNotEqual(one.rng("a").random(), Decisions(5).rng("a").random())
        self.assertEqual(one.entropy("a", 32), two.entropy("a", 32))
        self.assertNotEqual(one.entropy("a", 32), two.entropy("b", 32))
        self.assertEqual(len(one.entropy("a", 5)), 5)


class TraceTests(SynchronousTestCase):
    """The fingerprint of a run."""

    def trace(self, *events: tuple[object, ...], at: float = 0.0) -> str:
        """The digest of some events."""
        clock = SimClock()
        clock.advance(at)
        trace = Trace(clock.seconds)
        for event in events:
            trace.event(*event)  # type: ignore[arg-type]
        return trace.digest()

    def test_equal_events_have_equal_digests(self) -> None:
        """And the digest of nothing is that of nothing."""
        self.assertEqual(self.trace(("a", 1), ("b", 2)), self.trace(("a", 1), ("b", 2)))

    def test_kind_details_order_and_time_all_count(self) -> None:
        """Any difference is a difference."""
        digests = [
            self.trace(("a", 1), ("b", 2)),
            self.trace(("b", 2), ("a", 1)),
            self.trace(("a", 1), ("b", 3)),
            self.trace(("a", 1), ("c", 2)),
            self.trace(("a", 1)),
            self.trace(("a", 1), ("b", 2), at=1.0),
        ]
        self.assertEqual(len(set(digests)), len(digests))

    def test_people_are_told_what_is_not_quiet(self) -> None:
        """One line each, with the time."""
        told: list[str] = []
        trace = Trace(lambda: 1.5, told.append)
        trace.event("bytes", 1)
        trace.event("crash", "host-1", quiet=False)
        self.assertEqual(told, ["1.500000 crash host-1"])
        self.assertEqual(trace.events, 2)
