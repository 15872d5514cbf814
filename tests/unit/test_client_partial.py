"""A large file whose restore was cut short goes on where it stopped."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from twisted.internet.defer import Deferred

from peerstore.client import download as download_module
from peerstore.client import partial as partial_module
from peerstore.client import restore as restore_module
from peerstore.client.backup import Backup
from peerstore.client.partial import forget_partials, open_partial, take_up
from peerstore.client.restore import Restore
from peerstore.client.target import Target
from peerstore.errors import Incomplete
from peerstore.files.manifest import ChunkRef
from tests.support.memory_ring import ClientTestCase

HIDDEN = ".peerstore-incoming"


class LargeTestCase(ClientTestCase):
    """A file that counts as large here, in the ring."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(restore_module, "LARGE", 2**20)
        self.content = os.urandom(2**20) + bytes(2**20) + os.urandom(10 * 2**20)
        docs = self.folder("docs", large=self.content, small=b"text")
        self.result(Backup(self.client(), self.raw(docs), "docs").run())
        self.to = self.place / "to"
        self.asked: list[bytes] = []
        self.real = self.gateway.get_chunks
        self.gateway.get_chunks = self.counted  # type: ignore[method-assign]
        self.room = 10**9

    def counted(self, hashes: Any, patience: Any = None) -> Deferred[Any]:
        """Answers until there is no more room, then never."""
        self.room -= 1
        if self.room < 0:
            return Deferred()
        self.asked += hashes
        return self.real(hashes)

    def restoring(self) -> Deferred[Any]:
        reader = self.client(self.device(f"reader {self._given}"), writing=False)
        self.result(reader.refresh())
        return Restore(reader, Target(self.raw(self.to))).run("docs")

    def stop(self, after: int) -> None:
        """A restore that is stopped after so many requests."""
        self.room = after
        running = self.restoring()
        self.assertNoResult(running)
        running.cancel()
        self.failureResultOf(running)
        self.room = 10**9
        self.asked.clear()

    def hidden(self) -> list[str]:
        return sorted(os.listdir(self.to / HIDDEN)) if (self.to / HIDDEN).exists() else []

    def assert_whole(self) -> None:
        """Everything is there, and nothing else."""
        self.assertTrue((self.to / "large").read_bytes() == self.content)
        self.assertEqual(sorted(os.listdir(self.to)), ["large", "small"])

    def number_of_chunks(self) -> int:
        return len(self.gateway.chunks)


class GoOnTests(LargeTestCase):
    """Stopped, and run again."""

    def test_it_goes_on(self) -> None:
        """No chunk that was written is asked for again."""
        self.stop(2)
        (name,) = self.hidden()
        self.assertTrue(name.startswith("part-"))
        self.assertFalse((self.to / "large").exists())
        had = (self.to / HIDDEN / name).stat().st_size
        self.assertGreater(had, 0)
        self.assertEqual(self.result(self.restoring()).problems, [])
        self.assert_whole()
        self.assertLess(len(self.asked), self.number_of_chunks())

    def test_stopped_again_and_again(self) -> None:
        """Each run comes further: here by one chunk, of some ten."""
        self.patch(download_module, "GROUP", 1)
        sizes = [0]
        for _ in range(3):
            self.stop(1)
            (name,) = self.hidden()
            sizes.append((self.to / HIDDEN / name).stat().st_size)
        self.assertEqual(sizes, sorted(set(sizes)))
        self.result(self.restoring())
        self.assert_whole()

    def test_the_ring_was_lost_meanwhile(self) -> None:
        """Nodes that do not answer are no reason to begin anew either."""
        self.room = 2
        running = self.restoring()
        self.assertNoResult(running)
        running.cancel()
        self.failureResultOf(running)
        self.gateway.get_chunks = self.real  # type: ignore[method-assign]
        self.gateway.before = lambda name: setattr(self.gateway, "down", name == "get_chunks" or self.gateway.down)
        self.error(self.restoring(), Incomplete)
        self.assertEqual(len(self.hidden()), 1)
        self.gateway.before, self.gateway.down = (lambda name: None), False
        self.result(self.restoring())
        self.assert_whole()

    def test_a_tail_that_was_cut(self) -> None:
        """What is after the last whole chunk is fetched again."""
        self.stop(2)
        (name,) = self.hidden()
        place = self.to / HIDDEN / name
        with place.open("ab") as file:
            file.write(b"half a chunk")
        self.result(self.restoring())
        self.assert_whole()
        self.stop_and_cut()

    def stop_and_cut(self) -> None:
        (self.to / "large").unlink()
        self.stop(2)
        (name,) = self.hidden()
        os.truncate(self.to / HIDDEN / name, 100)
        self.result(self.restoring())
        self.assert_whole()

    def test_bytes_that_are_wrong(self) -> None:
        """A power cut may leave zeros: the whole has another hash then, and
        is fetched anew."""
        self.stop(2)
        (name,) = self.hidden()
        with (self.to / HIDDEN / name).open("r+b") as file:
            file.write(bytes(1000))
        self.assertEqual(self.result(self.restoring()).problems, [])
        self.assert_whole()
        self.assertGreater(len(self.asked), self.number_of_chunks())

    def test_another_version(self) -> None:
        """What was begun of an old version is not taken for the new one, and
        goes when the restore is done."""
        self.stop(2)
        self.content = os.urandom(5 * 2**20)
        docs = self.folder("docs", large=self.content)
        self.result(Backup(self.client(), self.raw(docs), "docs").run())
        self.result(self.restoring())
        self.assert_whole()

    def test_two_at_a_time(self) -> None:
        """The second does without what the first is at work on."""
        self.room = 2
        first = self.restoring()
        self.assertNoResult(first)
        self.room = 10**9
        self.assertEqual(self.result(self.restoring()).problems, [])
        self.assertTrue((self.to / "large").read_bytes() == self.content)
        first.cancel()
        self.failureResultOf(first)
        self.result(self.restoring())
        self.assert_whole()

    def test_something_is_in_the_way(self) -> None:
        """What cannot be placed is not kept either."""
        self.to.mkdir()
        (self.to / "large").write_bytes(b"mine")
        report = self.result(self.restoring())
        self.assertEqual(len(report.problems), 1)
        self.assertEqual((self.hidden(), (self.to / "large").read_bytes()), ([], b"mine"))


class PartialTests(ClientTestCase):
    """``client.partial``."""

    def setUp(self) -> None:
        super().setUp()
        self.hidden = os.open(self.place, os.O_RDONLY | os.O_DIRECTORY)
        self.addCleanup(os.close, self.hidden)

    def opened(self, version: bytes = b"\x01\xff") -> int:
        begun = open_partial(self.hidden, version)
        assert begun is not None
        self.assertEqual(begun[0], b"part-" + version.hex().encode())
        return begun[1]

    def test_taking_up(self) -> None:
        """So many whole chunks, their hash, and the place to go on from."""
        refs = [ChunkRef(bytes(32), b"", length) for length in (3, 4, 5)]
        for there, count, size in ((0, 0, 0), (2, 0, 0), (3, 1, 3), (6, 1, 3), (7, 2, 7), (12, 3, 12), (20, 3, 12)):
            descriptor = self.opened()
            content = b"abcdefghijklmnopqrst"[:there]
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, content, 0)
            done, whole = take_up(descriptor, refs)
            self.assertEqual((done, whole.digest()), (count, hashlib.sha256(content[:size]).digest()))
            self.assertEqual(os.lseek(descriptor, 0, os.SEEK_CUR), size)
            self.assertEqual(os.fstat(descriptor).st_size, size)
            os.close(descriptor)

    def test_one_at_a_time(self) -> None:
        """A file that is being written is not opened a second time, nor
        taken away."""
        descriptor = self.opened()
        self.assertIs(open_partial(self.hidden, b"\x01\xff"), None)
        os.close(self.opened(b"other"))
        (self.place / "5-1").touch()
        forget_partials(self.hidden)
        self.assertEqual(sorted(os.listdir(self.place)), ["5-1", "part-01ff"])
        os.close(descriptor)
        forget_partials(self.hidden)
        self.assertEqual(os.listdir(self.place), ["5-1"])

    def test_one_that_was_finished_a_moment_ago(self) -> None:
        """Is not written to under the name that it has now, nor where another
        was begun by then."""
        real, begun_anew = partial_module._lock, [True, False]

        def late(descriptor: int) -> bool:
            os.rename(self.place / "part-01ff", self.place / "finished")
            if begun_anew.pop():
                (self.place / "part-01ff").touch()
            return real(descriptor)

        os.close(self.opened())
        self.patch(partial_module, "_lock", late)
        self.assertIs(open_partial(self.hidden, b"\x01\xff"), None)
        self.assertIs(open_partial(self.hidden, b"\x01\xff"), None)
        self.assertEqual(begun_anew, [])

    def test_a_link_under_its_name(self) -> None:
        """Is not followed."""
        (self.place / "victim").write_text("not ours")
        (self.place / "part-01ff").symlink_to("victim")
        self.assertRaises(OSError, open_partial, self.hidden, b"\x01\xff")
        self.assertEqual((self.place / "victim").read_text(), "not ours")

    def test_a_file_system_without_locks(self) -> None:
        """Works all the same."""

        def none(*_: Any) -> None:
            raise OSError(95, "Operation not supported")

        self.patch(partial_module.fcntl, "flock", none)
        os.close(self.opened())
        forget_partials(self.hidden)
        self.assertEqual(os.listdir(self.place), [])
