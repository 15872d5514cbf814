"""What is done to simulated disks happens, and is noticed when nodes are wrong."""

from __future__ import annotations

import gc

from twisted.trial.unittest import SynchronousTestCase

from peerstore.sim.data_run import DataResult, run_data
from peerstore.sim.data_schedule import DataSetting, Phase, setting_for
from peerstore.sim.draft import Event
from tests.support.data_bugs import BUGS

HOSTS = ("host-0", "host-1", "host-2", "host-3", "host-4")
FIRST = Phase(
    (Event(0.0, "start", (HOSTS[:1], ())), *(Event(0.5, "start", ((h,), HOSTS[:1])) for h in HOSTS[1:])), 40.0
)


def setting() -> DataSetting:
    """Five hosts of one position each, on a network that loses nothing."""
    plain = setting_for(1)
    quiet = plain.faults._replace(loss=0.0, tail=0.0)
    return plain._replace(hosts=5, first=5, virtual_nodes=1, list_size=6, faults=quiet, pause=2.0)


def run(*events: Event, seed: int = 1) -> DataResult:
    """Forty quiet seconds, then these events in sixty."""
    return run_data(seed, setting(), [FIRST, Phase(events, 60.0)])


class HavocTests(SynchronousTestCase):
    """Scenes led by hand."""

    CORNERED = Event(10.0, "lose at a promise", (HOSTS,), 20.0)

    def tearDown(self) -> None:
        """What the dead of a run leave behind is no error of the next test."""
        gc.collect()
        self.flushLoggedErrors(RuntimeError)

    def test_the_last_who_has_it_loses_it(self) -> None:
        """One disk is an older one, and the others who had what was just
        promised are away: nobody says that there is nothing."""
        result = run(self.CORNERED)
        self.assertEqual((result.problems, result.faults["cornered"]), ([], 1))

    def test_whoever_votes_too_early_is_found_out(self) -> None:
        """By the same scene."""
        with BUGS["SYNCING counted as a vote"].put_in():
            results = [run(self.CORNERED, seed=seed) for seed in range(1, 4)]
        self.assertIn(["certain"], [result.violated[:1] for result in results])

    #: One host and one of a person's two devices are cut off from all others.
    APART = Event(10.0, "isolate", ((HOSTS[1], "user-b"), (HOSTS[0], *HOSTS[2:], "user-a", "user-c")), 40.0)

    def test_behind_a_cut_somebody_asks_at_once(self) -> None:
        """For what was just promised where nobody has it: it is not known there."""
        result = run(self.APART)
        self.assertEqual(result.problems, [])
        self.assertGreater(result.faults["asked behind"], 2)

    def test_whoever_believes_one_answer_is_found_out(self) -> None:
        """By the same scene."""
        with BUGS["not-found from one answer"].put_in():
            results = [run(self.APART, seed=seed) for seed in range(1, 4)]
        self.assertIn(["certain"], [result.violated[:1] for result in results])

    def test_things_rot(self) -> None:
        """Some bits turn over, are found, and the things are there again."""
        result = run(Event(10.0, "rot", (HOSTS[1:2],), 0.0, 5.0))
        self.assertEqual(result.problems, [])
        self.assertGreater(result.faults["things rotten"], 0)

    def test_what_is_promised_too_soon_is_on_no_disk(self) -> None:
        """Disks are slow until a promise, at which the power fails."""
        dark = Event(10.0, "blackout at a promise", (HOSTS,), 3.0, 400.0)
        self.assertEqual(run(dark).problems, [])
        with BUGS["ack before fsync"].put_in():
            self.assertEqual(run(dark).violated[:1], ["certain"])
