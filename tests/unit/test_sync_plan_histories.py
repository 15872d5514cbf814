"""Plans of several devices, with edits of all kinds in between."""

from __future__ import annotations

import itertools
import random
from typing import Any

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore.files.manifest import NodeKind
from tests.support.properties import DEVICES, check
from tests.support.sync_model import ModelDevice, ModelRing

#: Few, so that edits meet.
PATHS = [b"a", b"a/x", b"a/x/y", b"b.txt"]
ROUNDS = 30

_writes = st.tuples(st.just("write"), st.sampled_from(PATHS))
_edits = st.one_of(
    _writes,
    _writes,
    st.tuples(st.just("link"), st.sampled_from(PATHS)),
    st.tuples(st.just("same"), st.sampled_from(PATHS)),
    st.tuples(st.just("folder"), st.sampled_from(PATHS)),
    st.tuples(st.just("delete"), st.sampled_from(PATHS)),
    st.tuples(st.just("rename"), st.sampled_from(PATHS), st.sampled_from(PATHS)),
    st.tuples(st.just("mode"), st.sampled_from(PATHS), st.sampled_from([0o600, 0o755])),
    st.tuples(st.just("touch"), st.sampled_from(PATHS)),
)
#: Who does it, and what: an edit, or a round of sync: all of it or its first
#: steps, with or without keeping what is agreed, with an edit between looking and doing, with part of the log; or a
#: start with a fresh home.
_steps = st.tuples(
    st.integers(0, 2),
    st.one_of(
        _edits,
        _edits,
        st.just(("sync",)),
        st.just(("sync",)),
        st.tuples(st.just("part"), st.integers(0, 3)),
        st.tuples(st.just("crash"), st.integers(0, 3)),
        st.tuples(st.just("late"), _edits),
        st.tuples(st.just("behind"), st.integers(0, 3)),
        st.just(("anew",)),
    ),
)


def random_edit(rng: random.Random) -> tuple[Any, ...]:
    """One edit; more of those that make conflicts."""
    kind = rng.choice(["write"] * 3 + ["delete"] * 2 + ["rename"] * 2 + ["link", "same", "folder", "mode", "touch"])
    more = {"rename": PATHS, "mode": [0o600, 0o755]}.get(kind, [])
    return (kind, rng.choice(PATHS), *([rng.choice(more)] if more else []))


def random_steps(rng: random.Random) -> list[tuple[int, tuple[Any, ...]]]:
    """A history of up to thirty steps."""
    steps: list[tuple[int, tuple[Any, ...]]] = []
    for _ in range(rng.randrange(1, 30)):
        kinds, weights = ["edit", "sync", "part", "crash", "late", "behind", "anew"], [100, 50, 10, 10, 20, 8, 2]
        kind = rng.choices(kinds, weights)[0]
        step: tuple[Any, ...] = (kind,)
        if kind == "edit":
            step = random_edit(rng)
        elif kind == "late":
            step = (kind, random_edit(rng))
        elif kind in ("part", "crash", "behind"):
            step = (kind, rng.randrange(4))
        steps.append((rng.randrange(3), step))
    return steps


class HistoryTests(SynchronousTestCase):
    """At rest all trees are equal, and no edit was eaten."""

    def edit(self, device: ModelDevice, edit: tuple[Any, ...]) -> None:
        kind, path = edit[0], edit[1]
        if kind == "write":
            device.write(path, b"content %d" % device.ring.stamp())
        elif kind == "link":
            device.write(path, b"target %d" % device.ring.stamp(), NodeKind.SYMLINK)
        elif kind == "same":
            device.write(path, b"the same everywhere")
        elif kind == "folder":
            device.make_folder(path)
        elif kind == "delete":
            device.delete(path)
        elif kind == "rename":
            device.rename(path, edit[2])
        elif kind == "mode":
            device.change_mode(path, edit[2])
        else:
            device.touch(path)

    def run_history(self, count: int, steps: list[tuple[int, tuple[Any, ...]]]) -> list[ModelDevice]:
        ring = ModelRing()
        devices = [ModelDevice(ring, DEVICES[number]) for number in range(count)]
        more = (number.to_bytes(16, "big") for number in itertools.count(1))
        for who, step in steps:
            device = devices[who % count]
            if step[0] == "sync":
                device.sync()
            elif step[0] == "part":
                device.pull()
                device.carry(device.plan()[: step[1]])
            elif step[0] == "crash":
                device.pull()
                device.crash(device.plan()[: step[1]])
            elif step[0] == "late":
                device.pull()
                actions = device.plan()
                self.edit(device, step[1])
                device.carry(actions)
            elif step[0] == "behind":
                device.pull(step[1])
                device.carry(device.plan())
            elif step[0] == "anew":
                device.start_anew(next(more))
            else:
                self.edit(device, step)
        self.rest(devices)
        return devices

    def rest(self, devices: list[ModelDevice]) -> None:
        """Sync until nobody has anything to do."""
        for _ in range(ROUNDS):
            if not sum(device.sync() for device in devices):
                return
        self.fail(f"no rest after {ROUNDS} rounds: {devices[0].plan()}")

    def check_history(self, count: int, steps: list[tuple[int, tuple[Any, ...]]]) -> None:
        devices = self.run_history(count, steps)
        for device in devices[1:]:
            self.assertEqual(device.contents(), devices[0].contents())
        ring = devices[0].ring
        kept = {content for _, content, _ in devices[0].contents().values()}
        self.assertLessEqual(ring.written - ring.superseded, kept)

    @check(st.lists(_steps, min_size=8, max_size=40), examples=500)
    def test_two_devices(self, steps: list[tuple[int, tuple[Any, ...]]]) -> None:
        """Two that edit, sync and break off, in any order."""
        self.check_history(2, steps)

    @check(st.lists(_steps, min_size=8, max_size=40), examples=500)
    def test_three_devices(self, steps: list[tuple[int, tuple[Any, ...]]]) -> None:
        """And three."""
        self.check_history(3, steps)

    def test_many_seeds(self) -> None:
        """Long histories on few paths, a thousand of them."""
        for seed in range(1000):
            rng = random.Random(seed)
            count, steps = rng.choice([2, 3]), random_steps(rng)
            try:
                self.check_history(count, steps)
            except self.failureException as error:
                self.fail(f"seed {seed}, {count} devices, {steps}: {error}")

    @check(st.lists(st.tuples(st.integers(0, 2), _edits), max_size=12), examples=200)
    def test_edits_one_after_the_other(self, steps: list[tuple[int, tuple[Any, ...]]]) -> None:
        """Whoever edits what all have gets just that everywhere: no copy is
        made, and nobody's edit is changed."""
        ring = ModelRing()
        devices = [ModelDevice(ring, device) for device in DEVICES]
        for who, edit in steps:
            self.edit(devices[who], edit)
            wanted = devices[who].contents()
            self.rest(devices)
            for device in devices:
                self.assertEqual(device.contents(), wanted)

    @check(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=12), examples=200)
    def test_saved_while_others_are_killed(self, steps: list[tuple[int, int]]) -> None:
        """One saves files again and again, while others take them in and end
        before that was kept: what they have is no edit of their own."""
        ring = ModelRing()
        editor, *others = (ModelDevice(ring, device) for device in DEVICES)
        for which, kill in steps:
            self.edit(editor, ("write", (b"a", b"b/x", b"b/y")[which]))
            editor.sync()
            if kill < 2:
                others[kill].pull()
                others[kill].crash(others[kill].plan())
        wanted = editor.contents()
        self.rest([editor, *others])
        for device in others:
            self.assertEqual(device.contents(), wanted)
