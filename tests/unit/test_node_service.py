"""A node's life: open, settle, join, serve, leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import CorruptData, DiskFull, PeerStoreError, RingMismatch, StorageError, UsageError
from peerstore.node.config import NodeConfig, agree, read_settings
from peerstore.node.service import NodeService
from peerstore.sim.disk import SimDisk
from peerstore.sim.world import World
from peerstore.storage.memory_store import MemoryDisk, MemoryNodeStore
from peerstore.util.blocking import InlineRunner
from peerstore.wire.bodies import Posted, PostHeads
from peerstore.wire.messages import Status, decode_body, encode_body
from tests.support.rings import Ring, greeting
from tests.support.storage import CrashingDisk
from tests.support.things import a_chain, a_head


class Told:
    """What is logged at WARN and above, as text."""

    def __init__(self, test: SynchronousTestCase) -> None:
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self)
        test.addCleanup(globalLogPublisher.removeObserver, self)

    def __call__(self, event: dict[str, Any]) -> None:
        if event.get("log_level") in (LogLevel.warn, LogLevel.error, LogLevel.critical):
            fields = {key: value for key, value in event.items() if isinstance(key, str)}
            self.lines.append(str(event.get("log_format", "")).format_map(fields))

    def count(self, text: str) -> int:
        """How many lines have it."""
        return sum(text in line for line in self.lines)


class Nodes:
    """Nodes that a test puts together itself, on one simulated network."""

    def __init__(self) -> None:
        self.world = World(1)
        self.failures: list[BaseException] = []

    def make(self, name: str, disk: Any = None, join: Sequence[str] = (), **config: Any) -> NodeService:
        """A node that is not started."""
        world = self.world
        process = world.process(name)
        return NodeService(
            NodeConfig(f"sim:{name}", tuple(f"sim:{peer}" for peer in join), list_size=4, **config),
            greeting("node", name).spki,
            MemoryNodeStore(MemoryDisk() if disk is None else disk),
            world.network.host(process),
            process.clock,
            world.decisions.rng(name),
            lambda size: world.decisions.entropy(name, size),
            InlineRunner(),
            self.failures.append,
        )

    def started(self, *args: Any, **config: Any) -> NodeService:
        """A node that is a member by now."""
        node = self.make(*args, **config)
        node.startService()
        for _ in range(20):
            self.world.run(0.5)
            if node.ring is not None and node.ring.status == "MEMBER":
                return node
        raise AssertionError(f"it is no member: {self.failures}")

    def stop(self, node: NodeService) -> None:
        """Stop it, and wait for that."""
        self.world.wait(node.stopService(), 60.0)


def setting(disk: MemoryDisk, name: str) -> bytes | None:
    """What a disk keeps under a name."""
    return disk.load().get(b"s" + name.encode())


class StartTests(SynchronousTestCase):
    """From a folder to a member of a ring."""

    def setUp(self) -> None:
        self.nodes = Nodes()
        self.disk = MemoryDisk()

    def test_a_first_node(self) -> None:
        """Three copies, eight positions, kept; first start of its life."""
        node = self.nodes.started("a", self.disk)
        self.assertEqual((node.copies, node.virtual_nodes, node.incarnation), (3, 8, 1))
        self.assertEqual([setting(self.disk, name) for name in ("copies", "virtual-nodes")], [b"3", b"8"])

    def test_each_start_is_a_new_life(self) -> None:
        """The number grows, and is on disk before anybody hears of it."""
        for start in (1, 2, 3):
            node = self.nodes.started("a", self.disk)
            self.assertEqual((node.incarnation, setting(self.disk, "incarnation")), (start, b"%d" % start))
            self.nodes.stop(node)

    def test_the_number_is_durable_before_it_listens(self) -> None:
        """While the disk has not answered, nobody can reach the node."""
        disk = CrashingDisk()
        self.nodes.stop(self.nodes.started("a", disk))
        disk.held = True
        node = self.nodes.make("a", disk)
        node.startService()
        self.nodes.world.run(3.0)
        self.assertEqual((node.address, node.ring), ("", None))
        disk.release()
        self.nodes.world.run(3.0)
        self.assertEqual(node.address, "sim:a")

    def test_a_joiner_takes_the_ring_s_settings(self) -> None:
        """It names none: those of the ring are its own, and kept."""
        self.nodes.started("a", copies=2, virtual_nodes=3)
        node = self.nodes.started("b", self.disk, ["a"])
        self.assertEqual((node.copies, node.virtual_nodes), (2, 3))
        self.nodes.world.run(1.0)
        self.assertEqual([setting(self.disk, name) for name in ("copies", "virtual-nodes")], [b"2", b"3"])

    def test_a_joiner_that_wants_others(self) -> None:
        """Refused with both numbers, and nothing is kept."""
        self.nodes.started("a", copies=2, virtual_nodes=3)
        for config in ({"copies": 3}, {"virtual_nodes": 8}):
            self.nodes.failures.clear()
            self.nodes.make("b", self.disk, ["a"], **config).startService()
            self.nodes.world.run(5.0)
            (error,) = self.nodes.failures
            self.assertIsInstance(error, RingMismatch)
            self.assertIn("keeps 2 copies, with 3 positions", str(error))
            self.assertIsNone(setting(self.disk, "copies"))

    def test_a_folder_of_another_ring(self) -> None:
        """What the folder says and what the ring says must agree."""
        self.nodes.stop(self.nodes.started("b", self.disk, copies=4))
        self.nodes.started("a", copies=2)
        self.nodes.make("b", self.disk, ["a"]).startService()
        self.nodes.world.run(5.0)
        (error,) = self.nodes.failures
        self.assertIsInstance(error, RingMismatch)

    def test_options_that_the_folder_contradicts(self) -> None:
        """Told before anything listens."""
        self.nodes.stop(self.nodes.started("a", self.disk, copies=2))
        node = self.nodes.make("a", self.disk, copies=3)
        node.startService()
        self.nodes.world.run(1.0)
        (error,) = self.nodes.failures
        self.assertIn("2 copies and 8 positions", str(error))
        self.assertEqual(node.address, "")

    def test_a_busy_address(self) -> None:
        """One sentence, and the store is closed again when it is stopped."""
        self.nodes.started("a")
        node = self.nodes.make("a", self.disk)
        node.startService()
        self.nodes.world.run(1.0)
        (error,) = self.nodes.failures
        self.assertIsInstance(error, UsageError)
        self.assertIn("Cannot listen at sim:a", str(error))
        self.nodes.stop(node)

    def test_a_store_that_does_not_open(self) -> None:
        """Its error is told as it is, and stopping afterwards works."""
        node = self.nodes.make("a")
        self.patch(node.store, "start", lambda: _failed(DiskFull("No room left.")))
        node.startService()
        self.nodes.world.run(1.0)
        self.assertEqual([str(error) for error in self.nodes.failures], ["No room left."])
        self.nodes.stop(node)

    def test_a_damaged_folder(self) -> None:
        """Settings that are none: told as damage, in words."""
        for name in ("incarnation", "copies", "hosts"):
            disk = MemoryDisk()
            self.nodes.stop(self.nodes.started("a", disk))
            disk.write(b"s" + name.encode(), b"\xc1 nonsense")
            self.nodes.failures.clear()
            node = self.nodes.make("a", disk)
            node.startService()
            self.nodes.world.run(1.0)
            (error,) = self.nodes.failures
            self.assertIsInstance(error, CorruptData, name)
            self.nodes.stop(node)


class AloneTests(SynchronousTestCase):
    """A node whose bootstrap peer is down."""

    def setUp(self) -> None:
        self.nodes = Nodes()
        self.told = Told(self)

    def test_who_is_to_join_others_never_votes_alone(self) -> None:
        """The power went before what it was told of the others was on its
        disk, or its disk is a new one, and all the others are down: it waits
        for them.  Who is told of nobody, or of itself, begins a ring."""
        cases = ((True, ["a"], False), (False, ["a"], False), (True, [], True), (False, [], True), (False, ["b"], True))
        for kept, join, begins in cases:
            disk = MemoryDisk()
            if kept:
                for name, value in (("copies", b"3"), ("virtual-nodes", b"1")):
                    disk.write(b"s" + name.encode(), value)
            nodes = Nodes()
            node = nodes.started("b", disk, join)
            nodes.world.run(5.0)
            assert node.ring is not None and node.holding is not None
            self.assertTrue(node.ring.alone)
            self.assertEqual(node.holding.electorate.knows_anything, begins, (kept, join))

    def test_it_starts_alone_and_says_so(self) -> None:
        """Once, by name; and it takes and gives things meanwhile."""
        node = self.nodes.started("b", None, ["a"])
        self.nodes.world.run(30.0)
        self.assertEqual(self.told.count("nobody answers at sim:a; this node starts alone"), 1)
        assert node.ring is not None
        self.assertTrue(node.ring.alone)

    def test_it_joins_when_the_peer_appears(self) -> None:
        """By itself, within seconds, with what it took meanwhile."""
        node = self.nodes.started("b", None, ["a"])
        self.nodes.world.run(60.0)
        first = self.nodes.started("a")
        self.nodes.world.run(15.0)
        assert node.ring is not None and first.ring is not None
        self.assertEqual((node.ring.alone, first.ring.alone), (False, False))

    def test_settings_are_not_kept_while_they_may_be_wrong(self) -> None:
        """Alone because nobody could be asked: the next start asks again."""
        disk = MemoryDisk()
        self.nodes.stop(self.nodes.started("b", disk, ["a"]))
        self.assertIsNone(setting(disk, "copies"))
        self.nodes.started("a", copies=2, virtual_nodes=3)
        node = self.nodes.started("b", disk, ["a"])
        self.assertEqual((node.copies, node.virtual_nodes), (2, 3))

    def test_who_comes_up_a_moment_later_is_waited_for(self) -> None:
        """Nodes that are started together: whoever was told of no settings
        takes over those of the ring, although it was there first."""
        node = self.nodes.make("b", None, ["a"])
        node.startService()
        self.nodes.world.run(3.0)
        self.nodes.started("a", copies=2, virtual_nodes=3)
        self.nodes.world.run(10.0)
        self.assertEqual((node.copies, node.virtual_nodes), (2, 3))
        assert node.ring is not None
        self.assertFalse(node.ring.alone)

    def test_one_that_knows_its_settings_waits_for_nobody(self) -> None:
        """It was told them, or has them on disk."""
        node = self.nodes.make("b", None, ["a"], copies=2, virtual_nodes=3)
        node.startService()
        self.nodes.world.run(3.0)
        assert node.ring is not None
        self.assertEqual(node.ring.status, "MEMBER")

    def test_its_end_is_not_waited_for_long_while_it_waits(self) -> None:
        """Stopped before anybody told it anything."""
        node = self.nodes.make("b", None, ["a"])
        node.startService()
        self.nodes.world.run(1.0)
        before = self.nodes.world.clock.seconds()
        self.nodes.stop(node)
        self.assertLess(self.nodes.world.clock.seconds() - before, 1.0)
        self.assertIsNone(node.ring)

    def test_settings_are_kept_once_it_has_joined(self) -> None:
        """Having met the ring, they are no guess any more."""
        disk = MemoryDisk()
        self.nodes.started("b", disk, ["a"])
        self.nodes.started("a")
        self.nodes.world.run(30.0)
        self.assertEqual(setting(disk, "copies"), b"3")

    def test_hosts_are_remembered(self) -> None:
        """A node that was in a ring finds it again without --join."""
        disk = MemoryDisk()
        self.nodes.started("a")
        node = self.nodes.started("b", disk, ["a"])
        self.nodes.world.run(10.0)
        self.nodes.stop(node)
        again = self.nodes.started("b", disk)
        self.nodes.world.run(10.0)
        assert again.ring is not None
        self.assertFalse(again.ring.alone)


class StopTests(SynchronousTestCase):
    """However far it had come, it ends, and closes what it opened."""

    def setUp(self) -> None:
        self.nodes = Nodes()

    def closed(self, node: NodeService) -> list[str]:
        """What is closed from now on."""
        calls: list[str] = []
        real = node.store.stop

        def stop() -> Any:
            calls.append("store")
            return real()

        self.patch(node.store, "stop", stop)
        return calls

    def test_a_member(self) -> None:
        """Nobody listens any more, and the store is closed once."""
        node = self.nodes.started("a")
        calls = self.closed(node)
        self.nodes.stop(node)
        self.assertEqual(calls, ["store"])
        self.nodes.started("a")

    def test_nothing_is_left_running(self) -> None:
        """No timer of it is left."""
        self.nodes.stop(self.nodes.started("a"))
        self.nodes.stop(self.nodes.started("b", None, ["nowhere"]))
        self.nodes.world.run(60.0)
        left = [call for call in self.nodes.world.clock.getDelayedCalls() if call.active()]
        self.assertEqual(left, [])

    def test_while_the_store_opens(self) -> None:
        """It is waited for, and closed."""
        node = self.nodes.make("a")
        calls = self.closed(node)
        opening: Deferred[None] = Deferred()
        self.patch(node.store, "start", lambda: opening)
        node.startService()
        stopped = node.stopService()
        self.nodes.world.run(1.0)
        self.assertFalse(stopped.called)
        opening.callback(None)
        self.nodes.world.wait(stopped, 10.0)
        self.assertEqual(calls, ["store"])
        self.assertEqual(node.address, "")

    def test_while_it_looks_for_its_ring(self) -> None:
        """A bootstrap peer that does not answer delays no stop."""
        node = self.nodes.make("b", None, ["a"])
        calls = self.closed(node)
        self.nodes.world.network.cut(["b"], ["a"])
        node.startService()
        self.nodes.world.run(0.5)
        self.nodes.stop(node)
        self.assertEqual(calls, ["store"])
        self.assertEqual(self.nodes.failures, [])

    def test_while_its_life_is_put_on_disk(self) -> None:
        """It is waited for; then nothing of it begins."""
        node = self.nodes.make("a")
        calls = self.closed(node)
        real, writing = node.store.keep_setting, Deferred[None]()

        def keep(name: str, value: bytes) -> Deferred[None]:
            kept: Deferred[None] = real(name, value)
            return kept.addCallback(lambda _: writing) if name == "votes" else kept

        self.patch(node.store, "keep_setting", keep)
        node.startService()
        self.nodes.world.run(1.0)
        assert node.ring is not None
        begun: list[str] = []
        self.patch(node.ring, "start", lambda: begun.append("ring"))
        stopped = node.stopService()
        self.nodes.world.run(1.0)
        self.assertFalse(stopped.called)
        writing.callback(None)
        self.nodes.world.wait(stopped, 10.0)
        self.nodes.world.run(60.0)
        self.assertEqual((calls, begun), (["store"], []))
        self.assertEqual([call for call in self.nodes.world.clock.getDelayedCalls() if call.active()], [])

    def test_on_a_full_disk(self) -> None:
        """What cannot be saved is told, and the store is closed all the same."""
        ring = Ring("ab")
        node = ring.node("a")
        calls = self.closed(node)
        ring.world.hosts["a"].disk.full = True
        told = Told(self)
        ring.world.start("c", "b")
        ring.run(30.0)
        self.assertEqual(told.count("the known hosts could not be kept"), 1)
        with self.assertRaises(StorageError):
            # The simulated disk has something to sync at the end, and no room.
            ring.wait(node.stopService())
        self.assertEqual(calls, ["store"])

    def test_neighbours_that_hang(self) -> None:
        """Saying goodbye takes seconds at most."""
        ring = Ring("abc")
        ring.world.network.cut(["a"], ["b", "c"])
        before = ring.world.clock.seconds()
        ring.wait(ring.world.hosts["a"].leave())
        self.assertLess(ring.world.clock.seconds() - before, 10.0)


class RelayTests(SynchronousTestCase):
    """A node that passes things on to itself."""

    def test_entries_that_are_passed_on_take_not_every_worker(self) -> None:
        """However many come with heads at a time: the log's node has workers, too."""
        nodes = Nodes()
        disk = SimDisk(nodes.world.clock, lambda: 0.002)
        node = nodes.started("a", disk, workers=2, queue=256)
        chain = a_chain(30)
        before = nodes.world.clock.seconds()
        asked = [
            node.dispatcher.dispatch(greeting(), "post-heads", encode_body(PostHeads((a_head(n),), (chain[n],))))
            for n in range(30)
        ]
        told = [decode_body(nodes.world.wait(answer, 60.0), Posted).outcomes for answer in asked]
        self.assertEqual({heads.status for heads, _ in told}, {Status.OK})
        self.assertLess(nodes.world.clock.seconds() - before, 2.0)


class SettingsTests(SynchronousTestCase):
    """k and v, as they are kept and compared."""

    def test_kept(self) -> None:
        """Both or none."""
        self.assertEqual(read_settings(b"3", b"8"), (3, 8))
        for pair in ((None, None), (b"3", None), (None, b"8"), (b"", b"8")):
            self.assertIsNone(read_settings(*pair))

    def test_damaged(self) -> None:
        """What is no number is damage."""
        for pair in ((b"x", b"8"), (b"3", b"\xff"), (b"0", b"8"), (b"3", b"-1"), (b"3.5", b"8")):
            with self.assertRaises(CorruptData):
                read_settings(*pair)

    def test_agreement(self) -> None:
        """What was not asked for is agreed to."""
        agree(None, 5, 5)
        agree((3, 8), None, None)
        agree((3, 8), 3, None)
        agree((3, 8), 3, 8)
        for asked in ((2, None), (None, 4), (2, 8)):
            with self.assertRaises(RingMismatch):
                agree((3, 8), *asked)


def _failed(error: PeerStoreError) -> Deferred[None]:
    done: Deferred[None] = Deferred()
    done.errback(Failure(error))
    return done
