"""The service: what wakes it, what it does then, and how it ends."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from peerstore.client.client import Client
from peerstore.errors import CorruptData, KeyFileError, LookupFailed, PeerUnreachable
from peerstore.gateway.results import LogRead
from peerstore.sync.service import RETRY, STOP_PATIENCE, SyncService
from peerstore.sync.tree import LocalTree
from tests.support.memory_ring import ClientTestCase, MemoryGateway
from tests.support.sync_side import FOLDER, Side

POLL = 30.0


class WatchedGateway(MemoryGateway):
    """A ring whose log is really watched: whoever does waits for news."""

    def __init__(self) -> None:
        super().__init__()
        self.watching: list[tuple[Deferred[LogRead], tuple[Any, ...]]] = []
        self.watches = True

    def watch_log(
        self, ring_id: bytes, owner: bytes, seen: Mapping[bytes, int], limit: int = 256, wait: float = 60.0
    ) -> Deferred[LogRead]:
        self.calls.append("watch_log")
        if not self.watches:
            return fail(LookupFailed("Nobody watches."))
        waiter: Deferred[LogRead] = Deferred()
        self.watching.append((waiter, (ring_id, owner, seen, limit)))
        return waiter

    def tell(self) -> None:
        """Answer all who wait with what is new to them."""
        waiting, self.watching = self.watching, []
        for waiter, arguments in waiting:
            self.read_log(*arguments).chainDeferred(waiter)


class FakeWatcher:
    """Tells what it is told to tell."""

    def __init__(self, touched: Any, rescan: Any) -> None:
        self.touched = touched
        self.rescan = rescan
        self.blind = ""
        self.calls: list[str] = []

    def open(self) -> None:
        self.calls.append("open")

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")


class FakeOpened:
    """An open client, and whether it was closed."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.closed = 0

    def close(self) -> Deferred[None]:
        self.closed += 1
        closing: Deferred[None] = self.client.close()
        return closing


class ServiceTestCase(ClientTestCase):
    """One service on a fake clock, and another computer without one."""

    def setUp(self) -> None:
        super().setUp()
        self.gateway: WatchedGateway = WatchedGateway()
        self.clock = Clock()
        # Files' times are real, and every file here is quiet.
        self.clock.advance(1000)
        self.folder_here = self.place / "here"
        self.folder_here.mkdir()
        self.connecting: list[Any] = []
        self.failures: list[BaseException] = []
        self.opened: list[FakeOpened] = []
        self.watcher: FakeWatcher
        self.home = self.device("here-home")
        self.service = self.make()

    def make(self) -> SyncService:
        def make_watcher(touched: Any, rescan: Any) -> FakeWatcher:
            self.watcher = FakeWatcher(touched, rescan)
            return self.watcher

        return SyncService(
            self.clock,
            random.Random(1),
            LocalTree(os.fsencode(self.folder_here)),
            FOLDER,
            self.connect,
            make_watcher,
            POLL,
            self.failures.append,
        )

    async def connect(self) -> FakeOpened:
        """The next thing in ``connecting``: an error, or something to wait
        for; a client when there is none."""
        if self.connecting:
            next_one = self.connecting.pop(0)
            if isinstance(next_one, BaseException):
                raise next_one
            await next_one
        client = self.home.client()
        client.wall_ns = lambda: time.time_ns() + 10**12
        await client.open()
        self.opened.append(FakeOpened(client))
        return self.opened[-1]

    def start(self) -> None:
        """Start the service; it ends with the test."""
        self.service.startService()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        """Stop it, and see that nothing is left."""
        if self.service.running:
            self.successResultOf(self.service.stopService())
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def other(self) -> Side:
        """Another computer of the same user."""
        return Side(self, self.client(self.device("there-home")), self.place / "there")

    def write(self, name: str, content: bytes = b"x", tell: bool = True) -> None:
        """Save a file here, and let the watcher tell of it."""
        (self.folder_here / name).write_bytes(content)
        if tell:
            self.watcher.touched(os.fsencode(name))

    def names(self) -> list[str]:
        """What is in the folder here."""
        return sorted(name for name in os.listdir(self.folder_here) if not name.startswith(".peerstore"))

    def in_log(self) -> list[bytes]:
        """The paths that stand in the log."""
        return list(self.other_view().tree(FOLDER))

    def other_view(self) -> Any:
        client = self.home.client(writing=False)
        self.result(client.open())
        self.addCleanup(client.state.close)
        self.result(client.refresh())
        return client.view

    def rounds(self) -> int:
        """How often the log was read."""
        return self.gateway.calls.count("read_log")


class StartTests(ServiceTestCase):
    """From nothing to a folder in step."""

    def test_what_is_there_already(self) -> None:
        """Here and in the ring: the first look unites both."""
        there = self.other()
        there.write("theirs")
        there.rest()
        self.write("ours", tell=False)
        self.start()
        self.assertEqual(self.names(), ["ours", "theirs"])
        there.rest()
        self.assertEqual(there.names(), ["ours", "theirs"])

    def test_the_watcher_comes_before_the_first_look(self) -> None:
        """So that nothing falls between the two."""
        looked: list[str] = []
        real = self.service._tree.scan

        def scan(*arguments: Any) -> Any:
            looked.extend(self.watcher.calls)
            return real(*arguments)

        self.patch(self.service._tree, "scan", scan)
        self.start()
        self.assertEqual(looked, ["open", "start"])

    def test_edits_while_it_was_off(self) -> None:
        """Are found by comparing with what was agreed."""
        self.write("a", tell=False)
        self.write("b", tell=False)
        self.start()
        self.stop()
        (self.folder_here / "a").unlink()
        self.write("b", b"edited", tell=False)
        self.write("c", tell=False)
        self.service = self.make()
        self.start()
        self.assertEqual(self.in_log(), [b"b", b"c"])
        self.assertEqual(self.other_view().current(FOLDER, b"b").name.size, 6)

    def test_a_ring_that_is_not_there_yet(self) -> None:
        """Is asked again, said once, and found in the end."""
        self.connecting = [PeerUnreachable("no"), PeerUnreachable("no"), LookupFailed("no")]
        self.write("a", tell=False)
        with capturedLogs() as said:
            self.start()
            for _ in range(3):
                self.assertEqual((self.opened, self.failures), ([], []))
                self.clock.advance(5)
        self.assertEqual(self.in_log(), [b"a"])
        warnings = [event for event in said if event["log_level"].name == "warn"]
        self.assertEqual(len(warnings), 1)

    def test_what_no_waiting_mends(self) -> None:
        """Ends it, with the reason."""
        for error in (KeyFileError("a bad key."), OSError(5, "bad disk")):
            self.connecting, self.failures = [error], []
            self.service = self.make()
            self.start()
            self.assertEqual(self.failures, [error])
            self.stop()

    def test_a_bug(self) -> None:
        """Is logged with its trace, and ends it, too."""
        self.connecting = [ZeroDivisionError("bug")]
        self.start()
        self.assertEqual(len(self.failures), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_folder_that_is_gone(self) -> None:
        """Ends it before anything is taken for deleted."""
        for name in "abc":
            self.write(name, tell=False)
        self.start()
        self.stop()
        self.folder_here.rename(self.place / "away")
        self.folder_here.mkdir()
        self.service = self.make()
        self.start()
        (error,) = self.failures
        self.assertIn("lacks the mark", str(error))
        self.assertEqual(self.in_log(), [b"a", b"b", b"c"])

    def test_a_fresh_home_and_a_marked_folder(self) -> None:
        """As after the advice to take a new one: all is united."""
        self.write("a", tell=False)
        self.start()
        self.stop()
        (self.folder_here / "a").unlink()
        self.home = self.device("new-home")
        self.service = self.make()
        self.start()
        self.assertEqual((self.failures, self.names()), ([], ["a"]))


class WakeTests(ServiceTestCase):
    """What makes it look."""

    def test_a_touched_file(self) -> None:
        """Once it is quiet."""
        self.start()
        self.write("a")
        self.assertEqual(self.in_log(), [])
        self.clock.advance(0.05)
        self.assertEqual(self.in_log(), [b"a"])

    def test_lost_events(self) -> None:
        """Everything is looked at."""
        self.start()
        self.write("a", tell=False)
        self.watcher.rescan()
        self.clock.advance(0)
        self.assertEqual(self.in_log(), [b"a"])

    def test_no_events_at_all(self) -> None:
        """The periodic look finds it."""
        self.start()
        self.write("a", tell=False)
        self.clock.pump([POLL] * 60)
        self.assertEqual(self.in_log(), [b"a"])

    def test_a_folder_that_cannot_be_watched(self) -> None:
        """Is looked at more often."""
        self.start()
        self.watcher.blind = "no watches"
        self.write("a", tell=False)
        self.clock.pump([POLL] * 4)
        self.assertEqual(self.in_log(), [b"a"])

    def test_the_log_is_watched(self) -> None:
        """News come at once, again and again."""
        self.start()
        there = self.other()
        for name in ("a", "b"):
            there.write(name)
            there.rest()
            self.gateway.tell()
            self.clock.advance(0)
            self.assertIn(name, self.names())

    def test_the_log_is_polled(self) -> None:
        """When nobody watches."""
        self.gateway.watches = False
        self.start()
        there = self.other()
        there.write("a")
        there.rest()
        self.clock.advance(POLL - 1)
        self.assertEqual(self.names(), [])
        self.clock.advance(1)
        self.assertEqual(self.names(), ["a"])

    def test_a_watch_that_failed(self) -> None:
        """Is begun again after a while."""
        self.gateway.watches = False
        self.start()
        self.gateway.watches = True
        self.clock.advance(POLL)
        self.assertEqual(len(self.gateway.watching), 1)

    def test_a_watch_that_is_answered_with_nothing(self) -> None:
        """Is not asked in a circle."""
        self.start()
        self.gateway.calls.clear()
        for _ in range(1000):
            self.gateway.tell()
            self.clock.advance(0.1)
        self.assertLess(self.gateway.calls.count("watch_log"), 30)

    def test_own_writes_are_no_edits(self) -> None:
        """What we placed is told of by the watcher; nothing is sent, and the
        ring is not even asked."""
        there = self.other()
        there.write("a")
        there.rest()
        self.start()
        reads = self.rounds()
        self.watcher.touched(b"a")
        self.clock.advance(1)
        self.assertEqual(self.rounds(), reads)
        self.assertEqual(self.gateway.calls.count("append"), 1)

    def test_at_rest(self) -> None:
        """The log is read once for each interval, and nothing is written."""
        self.write("a", tell=False)
        self.start()
        self.clock.advance(1)
        self.gateway.calls.clear()
        self.clock.pump([1.0] * 300)
        self.assertEqual(self.rounds(), 10)
        self.assertEqual(set(self.gateway.calls), {"read_log"})


class TroubleTests(ServiceTestCase):
    """What goes wrong later."""

    def test_a_ring_that_goes_away(self) -> None:
        """It is said once, edits wait, and it goes on by itself."""
        self.start()
        self.gateway.down = True
        self.write("a")
        with capturedLogs() as said:
            self.clock.pump([1.0] * 50)
            self.gateway.down = False
            self.clock.advance(POLL)
        self.assertEqual(self.in_log(), [b"a"])
        levels = [event["log_level"].name for event in said]
        self.assertEqual(levels, ["warn", "info"])

    def test_retries_get_slower(self) -> None:
        """Up to the poll interval."""
        self.start()
        self.gateway.down = True
        self.write("a")
        self.clock.advance(0.05)
        self.gateway.calls.clear()
        self.clock.advance(RETRY * 2)
        first = self.rounds()
        self.assertGreaterEqual(first, 1)
        self.gateway.calls.clear()
        self.clock.pump([1.0] * 600)
        self.assertGreater(self.rounds(), 15)
        self.assertLess(self.rounds(), 60)

    def test_half_a_log(self) -> None:
        """Absence in it is no deletion, and nothing is decided."""
        self.write("a", tell=False)
        self.start()
        self.gateway.down = True
        (self.folder_here / "a").unlink()
        self.watcher.touched(b"a")
        self.clock.pump([1.0] * 5)
        self.gateway.down = False
        self.assertEqual(self.in_log(), [b"a"])

    def test_one_path_that_fails(self) -> None:
        """Is tried again, and holds nothing up."""
        there = self.other()
        there.write("bad", os.urandom(300_000))
        there.write("good")
        there.rest()
        chunks, self.gateway.chunks = self.gateway.chunks, {}
        self.start()
        self.assertEqual(self.names(), ["good"])
        self.write("mine")
        self.clock.advance(0.05)
        self.assertIn(b"mine", self.in_log())
        self.gateway.chunks = chunks
        self.clock.advance(POLL)
        self.assertEqual(self.names(), ["bad", "good", "mine"])

    def test_a_folder_that_is_emptied(self) -> None:
        """Nothing is deleted, until somebody says that it was meant."""
        for name in "abc":
            self.write(name, tell=False)
        self.start()
        with capturedLogs() as said:
            for name in "abc":
                (self.folder_here / name).unlink()
                self.watcher.touched(name.encode())
            self.clock.pump([1.0] * 50)
        self.assertEqual(self.in_log(), [b"a", b"b", b"c"])
        self.assertIn("empty all at once", said[0]["why"])
        self.write("kept")
        self.clock.pump([1.0] * 50)
        self.assertEqual(self.in_log(), [b"kept"])

    def test_a_folder_that_goes_and_comes_back(self) -> None:
        """Nothing is deleted; when it is back it is watched and looked at anew."""
        self.write("a", tell=False)
        self.start()
        away = self.place / "away"
        self.folder_here.rename(away)
        self.watcher.rescan()
        self.clock.pump([1.0] * 50)
        self.assertEqual(self.in_log(), [b"a"])
        (away / "new").write_text("x")
        away.rename(self.folder_here)
        self.watcher.calls.clear()
        self.clock.advance(POLL)
        self.assertEqual(self.in_log(), [b"a", b"new"])
        self.assertEqual(self.watcher.calls, ["stop", "open", "start"])

    def test_a_bug_in_a_round(self) -> None:
        """Is logged, and the next round comes, not at once."""
        self.start()

        def bug(*arguments: Any) -> Any:
            raise ZeroDivisionError("bug")

        self.patch(self.service._tree, "check", bug)
        self.clock.pump([1.0] * 600)
        self.assertLess(len(self.flushLoggedErrors(ZeroDivisionError)), 60)

    def test_a_damaged_version(self) -> None:
        """Is one path's trouble."""
        self.start()
        there = self.other()
        there.write("a")
        there.write("b")
        there.rest()
        real = self.opened[0].client.manifest

        def damaged(version: Any) -> Any:
            return fail(CorruptData("rotten.")) if version.name.path == b"a" else real(version)

        self.patch(self.opened[0].client, "manifest", damaged)
        self.gateway.tell()
        self.clock.advance(0)
        self.assertEqual(self.names(), ["b"])


class StopTests(ServiceTestCase):
    """It ends in order, whatever it is at."""

    def test_at_rest(self) -> None:
        """Everything is let go of, once."""
        self.start()
        self.stop()
        self.assertEqual([opened.closed for opened in self.opened], [1])
        self.assertEqual(self.watcher.calls[-1], "stop")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_while_it_connects(self) -> None:
        """What comes of that is not waited for."""
        connecting: Deferred[None] = Deferred(lambda _: ended.append(True))
        ended: list[bool] = []
        self.connecting = [connecting]
        self.start()
        self.stop()
        self.assertEqual((ended, self.opened, self.failures), ([True], [], []))

    def test_while_it_waits_to_connect_again(self) -> None:
        """Neither is the next attempt."""
        self.connecting = [PeerUnreachable("no")]
        self.start()
        self.stop()
        self.assertEqual((self.clock.getDelayedCalls(), self.failures), ([], []))

    def test_while_paths_settle(self) -> None:
        """They are found at the next start."""
        self.start()
        self.write("a")
        self.stop()
        self.assertEqual(self.in_log(), [])
        self.service = self.make()
        self.start()
        self.assertEqual(self.in_log(), [b"a"])

    def test_in_the_middle_of_a_step(self) -> None:
        """The step is finished, and no other is begun."""
        self.start()
        held: list[Deferred[Any]] = []
        real = self.gateway.put_chunks

        def hold(items: Any, patience: Any = None) -> Deferred[Any]:
            waiter: Deferred[Any] = Deferred()
            waiter.addCallback(lambda _: real(items))
            held.append(waiter)
            return waiter

        self.patch(self.gateway, "put_chunks", hold)
        self.write("a", os.urandom(300_000))
        self.clock.advance(0.05)
        self.assertEqual(len(held), 1)
        stopping = self.service.stopService()
        self.assertNoResult(stopping)
        held[0].callback(None)
        self.successResultOf(stopping)
        self.assertEqual(self.opened[0].closed, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_step_that_does_not_end(self) -> None:
        """Is broken off after a while; nothing is half done."""
        there = self.other()
        there.write("a", os.urandom(300_000))
        there.rest()
        broken: list[bool] = []
        self.patch(self.gateway, "get_chunks", lambda *_: Deferred(lambda _: broken.append(True)))
        self.start()
        stopping = self.service.stopService()
        self.clock.advance(STOP_PATIENCE - 1)
        self.assertNoResult(stopping)
        self.clock.advance(1)
        self.successResultOf(stopping)
        self.assertEqual((self.names(), bool(broken)), ([], True))
        self.assertEqual(os.listdir(self.folder_here / ".peerstore-sync"), [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_events_after_it(self) -> None:
        """Wake nobody."""
        self.start()
        self.stop()
        self.watcher.touched(b"a")
        self.watcher.rescan()
        self.clock.advance(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_never_opened(self) -> None:
        """After an error that ended it."""
        self.connecting = [KeyFileError("bad.")]
        self.start()
        self.stop()
        self.assertEqual(self.opened, [])


class TwoServicesTests(ServiceTestCase):
    """The answer to an answer is nothing."""

    def test_no_ping_pong(self) -> None:
        """Edits on both sides at once come to rest, and the log with them."""
        there = self.other()
        self.start()
        self.write("a", b"from here")
        there.write("a", b"from there")
        actions = there.plan()
        self.clock.advance(0.05)
        there.work(actions)
        for _ in range(4):
            self.gateway.tell()
            self.clock.advance(1)
            there.rest()
        length = sum(len(log) for log in self.gateway.logs.values())
        self.gateway.tell()
        self.clock.pump([1.0] * 100)
        there.rest()
        self.assertEqual(sum(len(log) for log in self.gateway.logs.values()), length)
        self.assertEqual(self.names(), there.names())
        self.assertEqual(len(self.names()), 2)
