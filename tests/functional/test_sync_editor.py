"""Three computers edited at once, at random, while things are killed."""

from __future__ import annotations

import os
import random
import stat

from tests.support.processes import SOAK, pause
from tests.support.sync_editor import RandomEditor
from tests.support.sync_processes import SyncProcessTestCase, contents

#: A seed that fails is printed, and fails again most of the time.
SEED = int(os.environ.get("PEERSTORE_SEED", "5"))
EDITS = 150 * SOAK


class RandomEditorTests(SyncProcessTestCase):
    """At rest all folders are equal, and nothing was eaten."""

    timeout = 240 * SOAK

    async def edit(self, kill_daemons: bool, kill_nodes: bool) -> None:
        """Edit for a while, then wait for rest."""
        await self.small_ring()
        computers = [self.computer() for _ in range(3)]
        for computer in computers:
            computer.start()
            await computer.says("syncing")
        rng = random.Random(SEED)
        editor = RandomEditor(rng, [computer.folder for computer in computers])
        dead = None
        for number in range(EDITS):
            editor.edit()
            await pause(rng.choice([0.0, 0.0, 0.005, 0.02, 0.05]))
            if kill_daemons and number % 60 == 59:
                victim = rng.choice(computers)
                victim.kill9()
                editor.edit()
                victim.start()
            if kill_nodes and number % 150 == 99:
                dead = rng.choice(self.nodes)
                dead.kill9()
            elif dead is not None and number % 150 == 149:
                dead.start()
                await dead.ready()
        await self.equal()
        await pause(3.0)
        await self.equal()
        self.assert_no_trace()
        kept = {more for kind, _, more in contents(computers[0].folder).values() if kind == stat.S_IFREG}
        lost = editor.must_stay() - kept
        self.assertEqual([content[:20] for content in lost], [], f"seed {SEED}")

    async def test_three_computers(self) -> None:
        """All is edited at once."""
        await self.edit(False, False)

    async def test_three_computers_and_deaths(self) -> None:
        """Daemons and nodes are killed meanwhile, and started again."""
        await self.edit(True, True)
