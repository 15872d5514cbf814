"""Two real nodes with one key: a data folder that was copied."""

from __future__ import annotations

import shutil

from tests.support.processes import ProcessTestCase, until
from tests.support.things import a_chunk


class TwinTests(ProcessTestCase):
    """The copy says so and ends; the original goes on; nothing is lost."""

    async def test_a_copied_folder(self) -> None:
        """One plain line, an exit status that is not 0, and no trace of it."""
        client = await self.ring(2)
        first, second = self.nodes
        chunk = a_chunk(1)
        (outcome,) = await client.gateway.put_chunks([chunk])
        self.assertTrue(outcome.certain)
        second.stop()
        copy = self.node(join=[first.port])
        shutil.rmtree(copy.data)
        shutil.copytree(second.data, copy.data)
        second.start()
        await second.ready()
        await self.whole(client, [first, second])

        copy.start()
        process = copy.process
        assert process is not None
        await until("the copy's end", lambda: process.poll() is not None)
        self.assertEqual(process.returncode, 1)
        said = [line for line in copy.text().splitlines() if "peerstore-node ends:" in line]
        self.assertEqual(len(said), 1, copy.text())
        self.assertIn(f"Another node with this node's key is at work at {second.address}", said[0])
        self.assertNotIn("Traceback", copy.text())

        await self.whole(client, [first, second])
        found = await client.gateway.get_chunks([chunk.key.element])
        self.assertEqual(found, {chunk.key.element: chunk})

        # With the original gone, the copy may take its place.
        second.stop()
        copy.start()
        await copy.ready()
        found = await client.gateway.get_chunks([chunk.key.element])
        self.assertEqual(found, {chunk.key.element: chunk})
