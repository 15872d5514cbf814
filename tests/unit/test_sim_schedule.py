"""What is going to happen in a simulated ring."""

from __future__ import annotations

from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from peerstore.sim.network import Faults
from peerstore.sim.schedule import QUIET, WEIGHTS, Setting, make_schedule, setting_for

SEEDS = range(1, 201)


class SettingTests(SynchronousTestCase):
    """What seeds are like, all together."""

    def setUp(self) -> None:
        """The first two hundred."""
        self.settings = [setting_for(seed) for seed in SEEDS]

    def test_they_are_small(self) -> None:
        """At most twelve positions, lists of two to four, ten virtual minutes."""
        for setting in self.settings:
            self.assertLessEqual(setting.hosts * setting.virtual_nodes, 12)
            self.assertIn(setting.list_size, (2, 3, 4))
            self.assertEqual(setting.seconds, 600.0)

    def test_half_have_no_table_of_all_hosts(self) -> None:
        """Every other one."""
        self.assertEqual(sum(setting.knows_all for setting in self.settings), 100)

    def test_lists_reach_past_one_hosts_own_positions(self) -> None:
        """Else one crash could take a whole list."""
        self.assertTrue(all(setting.list_size > setting.virtual_nodes for setting in self.settings))

    def test_there_are_all_kinds_of_them(self) -> None:
        """One and several positions a host, each list size, lossy networks,
        and such as repeat and reorder."""
        self.assertEqual({setting.virtual_nodes for setting in self.settings}, {1, 2, 3})
        self.assertEqual(Counter(setting.list_size for setting in self.settings).keys(), {2, 3, 4})
        for fault in ("loss", "duplication", "reordering", "tail"):
            values = [getattr(setting.faults, fault) for setting in self.settings]
            self.assertGreater(sum(value > 0 for value in values), 20, fault)
            self.assertGreater(sum(value == 0 for value in values), 20, fault)


class ScheduleTests(SynchronousTestCase):
    """Lists of events."""

    def setUp(self) -> None:
        """Those of the first two hundred seeds."""
        self.schedules = {seed: make_schedule(seed, setting_for(seed)) for seed in SEEDS}

    def test_a_seed_has_one_schedule(self) -> None:
        """The same each time, and another for another seed."""
        for seed in (1, 2):
            self.assertEqual(make_schedule(seed, setting_for(seed)), self.schedules[seed])
        self.assertEqual(len({tuple(schedule) for schedule in self.schedules.values()}), 200)

    def test_all_kinds_happen(self) -> None:
        """Often enough to be of use; a burst is many crashes, and a blackout
        many power cuts."""
        kinds = Counter(event.kind for schedule in self.schedules.values() for event in schedule)
        for kind in WEIGHTS.keys() - {"burst", "blackout", "join"}:
            self.assertGreater(kinds[kind], 50, kind)

    def test_the_end_is_quiet(self) -> None:
        """But for those who were already on their way back."""
        for seed, schedule in self.schedules.items():
            self.assertEqual(schedule, sorted(schedule, key=lambda event: event.at))
            late = [event for event in schedule if event.at > setting_for(seed).seconds - QUIET]
            self.assertLessEqual({event.kind.partition(" ")[0] for event in late}, {"start", "restart"})

    def test_a_crash_is_of_somebody_who_runs(self) -> None:
        """As far as the schedule knows."""
        for schedule in self.schedules.values():
            started: set[str] = set()
            for event in schedule:
                if event.kind == "start" or event.kind.startswith("restart"):
                    started.add(event.groups[0][0])
                elif event.kind in ("crash", "power cut", "leave", "row"):
                    self.assertLessEqual(set(event.hosts), started)

    def test_nobody_is_on_both_sides_of_a_cut(self) -> None:
        """And no side is empty."""
        for schedule in self.schedules.values():
            for event in schedule:
                if event.kind in ("cut", "one-way", "pair", "islands", "flap"):
                    self.assertTrue(all(event.groups))
                    self.assertEqual(len(set(event.hosts)), len(event.hosts))

    def test_an_event_says_what_it_is(self) -> None:
        """For people: when, what, whom, how long, how much."""
        setting = Setting(6, 1, 3, True, 5.0, 8.0, Faults())
        told = [str(event) for event in make_schedule(3, setting)]
        self.assertTrue(any(" | " in line and " for " in line for line in told))
        self.assertTrue(all(" s " in line for line in told))
