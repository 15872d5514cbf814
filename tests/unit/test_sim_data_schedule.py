"""What happens to simulated data: the schedules themselves."""

from __future__ import annotations

from collections import Counter

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore.sim.data_schedule import (
    CALM,
    ENOUGH,
    LOSSES,
    SLOWER,
    Phase,
    drawn,
    make_phases,
    numbered,
    only_events,
    setting_for,
)
from tests.support.properties import check

SEEDS = range(1, 151)


def phases_of(seed: int) -> list[Phase]:
    """A seed's own."""
    return make_phases(seed, setting_for(seed))


class ScheduleTests(SynchronousTestCase):
    """Of every seed."""

    def test_a_seed_has_one_schedule(self) -> None:
        """Asked again, it is the same; another seed has another."""
        self.assertEqual(phases_of(7), phases_of(7))
        self.assertNotEqual(phases_of(7), phases_of(8))

    def test_one_disk_at_most_is_lost_in_a_phase(self) -> None:
        """That is fewer than W of three copies."""
        lost = [sum(event.kind in LOSSES for event in phase.events) for seed in SEEDS for phase in phases_of(seed)]
        self.assertEqual(max(lost), 1)
        self.assertGreater(sum(lost), 100)

    def test_no_disk_is_lost_while_there_are_few_hosts(self) -> None:
        """With one host, what it alone has may be certain."""
        for seed in SEEDS:
            present: set[str] = set()
            for phase in phases_of(seed):
                before = len(present)
                for event in phase.events:
                    if event.kind == "start":
                        present.add(event.hosts[0])
                    if event.kind in ("lose for good", "retire"):
                        present.discard(event.hosts[0])
                    if event.kind in LOSSES:
                        self.assertGreaterEqual(before, ENOUGH, seed)

    def test_whoever_is_gone_for_good_is_not_heard_of_again(self) -> None:
        """No event starts or stops it."""
        for seed in SEEDS:
            gone: set[str] = set()
            for phase in phases_of(seed):
                for event in phase.events:
                    if event.kind in ("start", "restart", "crash", "power cut", "leave", "retire", *LOSSES):
                        self.assertNotIn(event.hosts[0], gone, seed)
                    if event.kind in ("retire", "lose for good"):
                        gone.add(event.hosts[0])

    def test_only_the_first_host_begins_alone(self) -> None:
        """All others, and the first when it comes back, are told of somebody else."""
        for seed in SEEDS:
            starts = [event for _, event in numbered(phases_of(seed)) if event.kind in ("start", "restart", "lose")]
            alone = [event for event in starts if not event.groups[1]]
            self.assertEqual([event.hosts for event in alone], [("host-0",)], seed)
            self.assertFalse([event for event in starts if event.hosts[0] in event.groups[1]])

    def test_some_hosts_retire_when_all_is_calm(self) -> None:
        """Nothing happens for a while before and after."""
        calm = 0
        for phase in (phase for seed in SEEDS for phase in phases_of(seed)):
            for event in (event for event in phase.events if event.kind == "retire"):
                others = [other for other in phase.events if other is not event]
                before = all(other.at + other.seconds <= event.at - CALM for other in others if other.at < event.at)
                calm += before and all(other.at >= event.at + CALM for other in others if other.at >= event.at)
        self.assertGreater(calm, 25)

    def test_one_host_is_cut_off_with_one_of_a_persons_devices(self) -> None:
        """And the other device with all other hosts, for long enough to write."""
        apart = [
            event
            for seed in SEEDS
            for _, event in numbered(phases_of(seed))
            if event.kind == "isolate" and "user-b" in event.groups[0] and "user-a" in event.groups[1]
        ]
        self.assertGreater(len(apart), 100)
        self.assertGreater(sum(event.seconds > 10 for event in apart), 100)

    def test_before_some_blackouts_disks_are_slow(self) -> None:
        """So that whatever is promised too early is on none of them."""
        events = [event for seed in SEEDS for _, event in numbered(phases_of(seed))]
        slow = Counter(event.amount for event in events if event.kind == "blackout at a promise")
        self.assertEqual(set(slow), set(SLOWER))
        self.assertEqual({event.amount for event in events if event.kind == "blackout"}, {0.0})

    def test_every_kind_of_trouble_is_drawn(self) -> None:
        """In the seeds that are run."""
        kinds = Counter(event.kind for seed in SEEDS for _, event in numbered(phases_of(seed)))
        wanted = "crash, power cut, blackout, blackout at a promise, leave, retire, restart, cut, one-way, isolate"
        more = (
            "islands, flap, slow, slow disks, stop, weather, lose, lose for good, lose newest, lose at a promise, rot"
        )
        for kind in f"{wanted}, {more}".split(", "):
            self.assertGreater(kinds[kind], 15, kind)

    def test_some_rings_grow_from_one_host(self) -> None:
        """And some from two; the others begin with at least four."""
        firsts = Counter(setting_for(seed).first for seed in SEEDS)
        self.assertGreater(firsts[1], 5)
        self.assertGreater(firsts[2], 5)
        self.assertEqual([first for first in firsts if 2 < first < 4], [])

    @check(st.integers(1, 150), st.sets(st.integers(0, 60)), examples=60)
    def test_some_of_the_events(self, seed: int, numbers: set[int]) -> None:
        """Those that are numbered, each in its phase, and no others."""
        phases = phases_of(seed)
        every = numbered(phases)
        left = numbered(only_events(phases, numbers))
        self.assertEqual(left, [every[number] for number in sorted(numbers) if number < len(every)])

    def test_what_is_drawn_follows_the_weights(self) -> None:
        """From the first to the last, and never beyond."""
        weights = {"a": 1.0, "b": 3.0}
        self.assertEqual("".join(drawn(step / 8, weights) for step in range(8)), "aabbbbbb")
        self.assertEqual(drawn(0.9999999999999999, {"a": 0.1, "b": 0.2}), "b")
