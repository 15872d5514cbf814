"""A ring that is broken on purpose is found out, and shown in few events."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from peerstore.ring import position as steps
from peerstore.sim.churn_run import run_churn
from peerstore.sim.main import cli
from peerstore.sim.schedule import make_schedule, setting_for
from peerstore.sim.shrink import kind_of, shrink, some_of

SEED = 4
joined, drop_host = steps.joined, steps.drop_host


def with_one_pointer(*arguments: Any) -> steps.PositionState | None:
    """Join with the first successor alone: one of the original bugs."""
    state = joined(*arguments)
    return state and state._replace(successors=state.successors[:1])


def forgetful(state: steps.PositionState, fp: bytes) -> steps.PositionState:
    """Whoever has lost a successor begins anew with an empty list."""
    new = drop_host(state, fp)
    return new._replace(successors=()) if len(new.successors) < len(state.successors) else new


def run(*arguments: str) -> Result:
    """``peerstore-sim ring``, within this process."""
    return CliRunner().invoke(cli, ["ring", *arguments])


class BrokenRingTests(SynchronousTestCase):
    """Joining with one pointer: a few hosts that start are enough to see it."""

    def setUp(self) -> None:
        """Put the bug in."""
        self.patch(steps, "joined", with_one_pointer)

    def test_it_is_found_out(self) -> None:
        """As a change that no step explains."""
        result = run("--seed", str(SEED), "--json")
        self.assertEqual(result.exit_code, 1)
        told = json.loads(result.stdout)
        self.assertFalse(told["held"])
        self.assertEqual(told["violated"][0], "I11")

    def test_a_failure_names_time_invariant_and_host(self) -> None:
        """With the seed in the command that replays it."""
        result = run("--seed", str(SEED))
        self.assertRegex(result.stdout, r"FAILED: [0-9.]+ s: I11 does not hold: [0-9a-f]{8} \(host-\d+\): no step")
        self.assertIn(f"Replay it with: peerstore-sim ring --seed {SEED}\n", result.stdout)

    def test_it_is_shrunk_to_a_few_starts(self) -> None:
        """Of all events of the seed some starts are left, and none of them
        could be spared."""
        setting = setting_for(SEED)
        events = make_schedule(SEED, setting)
        found = shrink(SEED, setting, events)
        assert found is not None
        self.assertEqual({events[number].kind for number in found.chosen}, {"start"})
        self.assertLess(len(found.chosen), 5)
        left = some_of(events, found.chosen, found.gone)
        self.assertEqual(kind_of(run_churn(SEED, setting, left)), "I11")
        for spared in found.chosen:
            fewer = [number for number in found.chosen if number != spared]
            shorter = run_churn(SEED, setting, some_of(events, fewer, found.gone), until=40.0)
            self.assertEqual(kind_of(shorter), "")

    def test_what_shrinking_prints_replays_it(self) -> None:
        """The last line is a command that gives the same trace again, and
        fails in the same way."""
        result = run("--seed", str(SEED), "--shrink")
        self.assertEqual(result.exit_code, 1)
        commands = re.findall(r"Replay it with: peerstore-sim ring (.*)", result.stdout)
        self.assertEqual(len(commands), 1)
        replayed = run(*shlex.split(commands[0]))
        self.assertEqual(replayed.exit_code, 1)
        outcome = re.compile(r"trace [0-9a-f]+\nFAILED: .*")
        self.assertEqual(outcome.findall(replayed.stdout), outcome.findall(result.stdout))

    def test_many_seeds_name_the_one(self) -> None:
        """On several cores, too, the table says which failed, and why."""
        result = run("--seeds", f"{SEED}-{SEED + 1}", "--cores", "2")
        self.assertEqual(result.exit_code, 1)
        self.assertRegex(result.stdout, rf"FAILED: seed {SEED}: [0-9.]+ s: I11 does not hold")


class LaterTests(SynchronousTestCase):
    """A bug that shows only once somebody has crashed."""

    def test_the_crash_is_kept(self) -> None:
        """And what happened meanwhile is not."""
        self.patch(steps, "drop_host", forgetful)
        setting = setting_for(SEED)
        events = make_schedule(SEED, setting)
        found = shrink(SEED, setting, events)
        assert found is not None
        kinds = [events[number].kind for number in found.chosen]
        self.assertLess(len(kinds), len(events) / 3)
        self.assertTrue({"crash", "power cut", "leave", "restart", "row", "stop", "cut", "one-way"} & set(kinds), kinds)

    def test_a_sound_ring_cannot_be_shrunk(self) -> None:
        """It says so."""
        result = run("--seed", str(SEED), "--hosts", "3", "--only", "0", "--shrink")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("there is nothing to shrink", result.output)
