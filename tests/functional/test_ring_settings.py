"""Real nodes whose ring has other settings than they would begin with."""

from __future__ import annotations

from tests.support.processes import ProcessTestCase, free_port, pause, until

#: Settings that no node begins with by itself.
OTHERS = ("--copies", "2", "--virtual-nodes", "4")


class SettingsTests(ProcessTestCase):
    """A node that was told to join somebody who is not there yet."""

    async def test_who_comes_up_a_moment_later(self) -> None:
        """As when a machine starts all its services at once: one ring, with
        the settings of the node that was told them."""
        port = free_port()
        early = self.node(join=[port])
        early.start()
        await until("an early node that runs", lambda: "starting up." in early.text())
        self.node(port, extra=OTHERS).start()
        for node in self.nodes:
            await node.ready()
        await self.whole(self.client())
        self.assertNotIn("starts alone", early.text())

    async def test_who_comes_up_much_later(self) -> None:
        """The node says what is wrong and what to do; it is done, and helps."""
        port = free_port()
        early = self.node(join=[port])
        early.start()
        await early.ready()
        self.assertIn(f"nobody answers at tcp:127.0.0.1:{port}; this node starts alone", early.text())
        self.node(port, extra=OTHERS).start()
        await self.nodes[1].ready()
        await until("a word about it", lambda: "this node is alone" in early.text())
        self.assertIn(f"The ring at tcp:127.0.0.1:{port} keeps 2 copies, with 4 positions a host", early.text())
        self.assertIn("Start it again without --copies and --virtual-nodes", early.text())
        early.stop()
        await pause(0.2)
        early.start()
        await early.ready()
        await self.whole(self.client())
