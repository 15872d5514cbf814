"""From a version's id to its bytes, checked."""

from __future__ import annotations

import os
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, succeed

from peerstore.client.backup import Backup
from peerstore.client.client import Client
from peerstore.client.download import IN_FLIGHT, Fetched
from peerstore.errors import CorruptData, Incomplete, NotFound
from peerstore.gateway.results import SetRead
from peerstore.items import Item
from tests.support.memory_ring import ClientTestCase


class DownloadTestCase(ClientTestCase):
    """A large file in the ring, and a reader."""

    def setUp(self) -> None:
        super().setUp()
        self.content = os.urandom(9 * 2**20)
        docs = self.folder("docs", file=self.content, small=b"text")
        self.result(Backup(self.client(), self.raw(docs), "docs").run())
        self.user: Client = self.client(self.device("reader"), writing=False)
        self.result(self.user.refresh())
        self.pieces: list[bytes] = []

    def version(self, path: bytes = b"file") -> Any:
        return self.user.view.current("docs", path)

    def fetched(self, path: bytes = b"file") -> Fetched:
        fetched: Fetched = self.result(self.user.manifest(self.version(path)))
        return fetched

    def read(self, write: Any = None, path: bytes = b"file") -> Deferred[None]:
        return self.user.content(self.fetched(path), write or (lambda piece: self.pieces.append(bytes(piece))))

    def used(self) -> int:
        return self.user.downloader._budget._used


class ContentTests(DownloadTestCase):
    """The bytes of a version."""

    def test_in_order(self) -> None:
        """All of them, and the budget is whole afterwards."""
        self.result(self.read())
        self.assertEqual(b"".join(self.pieces), self.content)
        self.assertEqual(self.used(), 0)
        self.pieces.clear()
        self.result(self.read(path=b"small"))
        self.assertEqual(self.pieces, [b"text"])

    def test_ahead_and_no_further(self) -> None:
        """Some groups are on their way at a time; memory stays bounded."""
        waiting: list[Deferred[Any]] = []
        real = self.gateway.get_chunks

        def late(hashes: Any, patience: Any = None) -> Deferred[Any]:
            found = real(hashes)
            waiting.append(Deferred())
            return waiting[-1].addCallback(lambda _: found)

        self.gateway.get_chunks = late  # type: ignore[method-assign,assignment]
        reading = self.read()
        most = 0
        while waiting:
            self.assertGreaterEqual(len(waiting), 1)
            most = max(most, len(waiting))
            self.assertLessEqual(self.used(), IN_FLIGHT)
            # The last asked answers first: the order is kept all the same.
            waiting.pop().callback(None)
        self.result(reading)
        self.assertGreater(most, 1)
        self.assertEqual(b"".join(self.pieces), self.content)

    def test_many_readers_at_a_time(self) -> None:
        """None waits for room that another holds while it waits itself."""
        waiting: list[Deferred[Any]] = []
        real = self.gateway.get_chunks

        def late(hashes: Any, patience: Any = None) -> Deferred[Any]:
            found = real(hashes)
            waiting.append(Deferred())
            return waiting[-1].addCallback(lambda _: found)

        self.gateway.get_chunks = late  # type: ignore[method-assign,assignment]
        contents: list[list[bytes]] = [[] for _ in range(12)]
        reading = [self.read(lambda piece, into=into: into.append(bytes(piece))) for into in contents]
        while waiting:
            waiting.pop(0).callback(None)
        for done, into in zip(reading, contents, strict=True):
            self.result(done)
            self.assertTrue(b"".join(into) == self.content)
        self.assertEqual(self.used(), 0)

    def test_a_missing_part(self) -> None:
        """It is told; the budget comes back."""
        self.gateway.chunks.pop(self.fetched().manifest.chunks[3].hash)
        error = self.error(self.read(), Incomplete)
        self.assertIn("A part of a file could not be fetched", error.what)
        self.assertEqual((error.exit_status, self.used()), (5, 0))

    def test_a_corrupt_part(self) -> None:
        """Bytes that are not what the manifest names are never passed on."""
        ref = self.fetched().manifest.chunks[0]
        item = self.gateway.chunks[ref.hash]
        self.gateway.chunks[ref.hash] = Item(item.key, item.statement, b"x" + item.data[1:])
        self.error(self.read(), CorruptData)
        self.assertEqual((self.pieces, self.used()), ([], 0))

    def test_parts_that_do_not_make_the_whole(self) -> None:
        """Each part may be sound, and the file still another one."""
        fetched = self.fetched()
        manifest = fetched.manifest
        swapped = (manifest.chunks[1], manifest.chunks[0], *manifest.chunks[2:])
        wrong = fetched._replace(manifest=msgspec.structs.replace(manifest, chunks=swapped))
        self.error(self.user.content(wrong, lambda piece: None), CorruptData)

    def test_a_disk_that_fails(self) -> None:
        """Its error comes out as it is, and nothing stays behind."""

        def full(piece: bytes) -> int:
            raise OSError(28, "No space left on device")

        self.error(self.read(full), OSError)
        self.assertEqual(self.used(), 0)

    def test_short_writes(self) -> None:
        """What a write did not take is written again."""

        def little(piece: Any) -> int:
            self.pieces.append(bytes(piece[:100_000]))
            return min(len(piece), 100_000)

        self.result(self.read(little))
        self.assertTrue(b"".join(self.pieces) == self.content)

    def test_cancelled(self) -> None:
        """What was on its way is given up, and so is the room for it."""
        asked: list[Deferred[Any]] = []

        def never(hashes: Any, patience: Any = None) -> Deferred[Any]:
            asked.append(Deferred())
            return asked[-1]

        self.gateway.get_chunks = never  # type: ignore[method-assign,assignment]
        reading = self.read()
        reading.cancel()
        self.failureResultOf(reading)
        self.assertTrue(all(each.called for each in asked))
        self.assertEqual(self.used(), 0)


class ManifestTests(DownloadTestCase):
    """The head and manifest of a version."""

    def test_a_version_that_is_lost(self) -> None:
        """Not there in a complete read, and not known in another."""
        self.gateway.heads.clear()
        error = self.error(self.user.manifest(self.version()), NotFound)
        self.assertIn("docs/file", error.what)
        self.gateway.down = True
        error = self.error(self.user.manifest(self.version()), Incomplete)
        self.assertIn("Start the nodes", error.next_step)

    def test_another_version_is_not_taken_for_it(self) -> None:
        """Only the one that the log names will do."""
        other = next(
            item
            for held in self.gateway.heads.values()
            for item in held.values()
            if item.key.element != self.version().version
        )
        self.gateway.get_heads = lambda *_: succeed(SetRead((other,), True))  # type: ignore[method-assign]
        self.error(self.user.manifest(self.version()), NotFound)
