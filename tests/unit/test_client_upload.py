"""From a local path to content that is certain."""

from __future__ import annotations

import hashlib
import os
import random
from typing import Any

from twisted.internet.defer import Deferred

from peerstore.client import upload as module
from peerstore.client.client import Client
from peerstore.client.source import Found, look
from peerstore.client.upload import PATIENT, ChangedWhileRead, Uploaded, Vanished
from peerstore.errors import Incomplete, StorageError
from peerstore.files.chunker import MAXIMUM
from peerstore.files.manifest import INLINE, NodeKind, decode_manifest
from peerstore.transactions.view import PathVersion
from tests.support.memory_ring import ClientTestCase


class UploadTestCase(ClientTestCase):
    """One folder with one file, a client, and what it reported."""

    def setUp(self) -> None:
        super().setUp()
        self.root = self.folder("docs")
        self.file = self.root / "file"
        self.box = self.device()
        self.user = self.client(self.box)
        self.progress: list[int] = []

    def found(self, path: bytes = b"file") -> Found:
        found = look(self.raw(self.root), path)
        assert found is not None
        return found

    def upload(self, found: Found | None = None, pauses: tuple[float, ...] = PATIENT) -> Deferred[Uploaded]:
        return self.user.upload(self.raw(self.root), found or self.found(), self.progress.append, pauses)

    def stored(self, uploaded: Uploaded, user: Client | None = None) -> bytes:
        """The content that an upload's manifest names, read from the ring."""
        pieces: list[bytes] = []
        downloader = (user or self.user).downloader
        self.result(downloader.content(uploaded.manifest, lambda piece: pieces.append(bytes(piece)), lambda _: None))
        return b"".join(pieces)

    def during_read(self, edit: Any) -> list[int]:
        """Call *edit* with the number of the attempt while each is being read."""
        real, attempts = module._read_fully, []

        def reading(stream: Any, size: int) -> bytes:
            data = real(stream, size)
            attempts.append(len(attempts))
            edit(attempts[-1])
            return data

        self.patch(module, "_read_fully", reading)
        return attempts


class ContentTests(UploadTestCase):
    """What goes in comes out."""

    def test_sizes_around_the_limits(self) -> None:
        """Empty, inline, just above it, above one chunk."""
        for size in (0, 1, INLINE - 1, INLINE, INLINE + 1, 256 * 1024, MAXIMUM + 1):
            content = random.Random(size).randbytes(size)
            self.file.write_bytes(content)
            self.progress.clear()
            uploaded = self.result(self.upload())
            manifest = uploaded.manifest
            self.assertEqual((manifest.size, manifest.sha256), (size, hashlib.sha256(content).digest()))
            self.assertEqual(bool(manifest.chunks), size > INLINE)
            self.assertEqual(self.stored(uploaded), content)
            self.assertEqual(sum(self.progress), size)

    def test_what_was_sent_is_counted(self) -> None:
        """Every byte that was put, although groups are put side by side; and
        none for a second time."""
        self.file.write_bytes(random.Random(1).randbytes(20 * 2**20))
        waiting: list[Deferred[Any]] = []
        real = self.gateway.put_chunks

        def late(items: Any, patience: Any = None) -> Deferred[Any]:
            outcomes = real(items).result
            waiting.append(Deferred())
            return waiting[-1].addCallback(lambda _: outcomes)

        self.gateway.put_chunks = late  # type: ignore[method-assign,assignment]
        uploading = self.upload()
        self.assertGreater(len(waiting), 1)
        while waiting:
            waiting.pop().callback(None)
        uploaded = self.result(uploading)
        self.assertEqual(uploaded.sent, self.gateway.sent)
        self.gateway.put_chunks = real  # type: ignore[method-assign]
        self.assertEqual(self.result(self.upload()).sent, 0)

    def test_a_sparse_file(self) -> None:
        """Zeros are one chunk, put once, and asked for once."""
        with self.file.open("wb") as file:
            file.truncate(200 * 2**20)
        uploaded = self.result(self.upload())
        self.assertLess(self.gateway.sent, 10_000 * len(self.gateway.chunks))
        self.assertLess(len(self.gateway.chunks), 4)
        self.assertLessEqual(self.gateway.calls.count("have_chunks") + self.gateway.calls.count("put_chunks"), 4)
        self.assertEqual((sum(self.progress), uploaded.manifest.size), (200 * 2**20,) * 2)
        self.assertGreater(len(self.progress), 4, "people see how it goes on")

    def test_a_file_of_very_many_chunks(self) -> None:
        """Its manifest is cut into chunks itself, which are stored like others."""
        with self.file.open("wb") as file:
            file.truncate(8 * 2**20)
        self.patch(module.Chunker, "split", lambda _, stream: iter(lambda: stream.read(256), b""))
        uploaded = self.result(self.upload())
        manifest = decode_manifest(uploaded.blob)
        self.assertGreater(len(manifest.pieces), 1)
        self.assertLessEqual({piece.hash for piece in manifest.pieces}, set(self.gateway.chunks))
        whole = self.result(self.user.downloader.manifest(self.publish(uploaded))).manifest
        self.assertEqual(whole, uploaded.manifest)

    def publish(self, uploaded: Uploaded) -> PathVersion:
        change = self.result(self.user.change("docs", b"file", uploaded, []))
        self.result(self.user.publish([change]))
        version: PathVersion = change.version
        return version

    def test_a_link_and_a_folder(self) -> None:
        """A link's text is its content; a folder has none."""
        (self.root / "link").symlink_to(b"\xff/../target".decode("utf-8", "surrogateescape"))
        (self.root / "sub").mkdir(mode=0o711)
        link = self.result(self.upload(self.found(b"link"))).manifest
        self.assertEqual((link.kind, link.inline), (NodeKind.SYMLINK, b"\xff/../target"))
        self.assertEqual(sum(self.progress), link.size)
        sub = self.result(self.upload(self.found(b"sub"))).manifest
        self.assertEqual((sub.kind, sub.mode, sub.size), (NodeKind.FOLDER, 0o711, 0))

    def test_known_chunks_that_the_ring_lost(self) -> None:
        """What was put once is asked for, and put again if it is gone."""
        self.file.write_bytes(random.Random(2).randbytes(3 * 2**20))
        uploaded = self.result(self.upload())
        lost = uploaded.manifest.chunks[0].hash
        del self.gateway.chunks[lost]
        self.gateway.sent = 0
        again = self.result(self.upload())
        self.assertEqual(again.sent, len(self.gateway.chunks[lost].data))
        self.assertEqual(self.stored(again), self.file.read_bytes())


class ChangingTests(UploadTestCase):
    """Files that do not hold still."""

    def test_changed_once_while_read(self) -> None:
        """It is read again after a pause, and stored as it then is."""
        self.file.write_bytes(b"before")
        attempts = self.during_read(lambda number: number or self.file.write_bytes(b"after it"))
        uploaded = self.result(self.upload())
        self.assertEqual((self.stored(uploaded), len(attempts)), (b"after it", 2))
        self.assertEqual(self.box.pauses, [PATIENT[0]])
        self.assertEqual(sum(self.progress), 8)
        self.assertEqual(uploaded.found, self.found())

    def test_growing_without_end(self) -> None:
        """After the last attempt it is reported, and nothing of it is stored."""
        self.file.write_bytes(b"x")
        attempts = self.during_read(lambda number: self.file.write_bytes(b"x" * (number + 2)))
        error = self.error(self.upload(), ChangedWhileRead)
        self.assertIn("file: it kept changing while it was read", error.what)
        self.assertEqual((len(attempts), self.box.pauses), (1 + len(PATIENT), list(PATIENT)))
        self.assertEqual(sum(self.progress), 0)

    def test_same_size_and_time(self) -> None:
        """A write that hides its traces is seen by the time of change."""
        self.file.write_bytes(b"before")
        status = self.file.stat()

        def edit(number: int) -> None:
            if number == 0:
                self.file.write_bytes(b"after!")
                os.utime(self.file, ns=(status.st_atime_ns, status.st_mtime_ns))

        self.during_read(edit)
        self.assertEqual(self.stored(self.result(self.upload())), b"after!")

    def test_replaced_by_another_file(self) -> None:
        """Another inode is another file."""
        self.file.write_bytes(b"one")

        def edit(number: int) -> None:
            if number == 0:
                (self.root / "new").write_bytes(b"two")
                (self.root / "new").rename(self.file)

        self.during_read(edit)
        self.assertEqual(self.stored(self.result(self.upload())), b"two")

    def test_gone_before_and_while_it_is_read(self) -> None:
        """Nothing is there to be stored; that is told apart from trouble."""
        self.file.write_bytes(b"x")
        found = self.found()
        self.during_read(lambda number: self.file.unlink())
        self.error(self.upload(found), Vanished)
        self.error(self.upload(found), Vanished)
        (self.root / "link").symlink_to("x")
        link = self.found(b"link")
        (self.root / "link").unlink()
        self.error(self.upload(link), Vanished)

    def test_a_pipe_took_its_place(self) -> None:
        """Nobody waits for a pipe that nobody writes into."""
        self.file.write_bytes(b"x")
        found = self.found()
        self.file.unlink()
        os.mkfifo(self.file)
        self.error(self.upload(found), Vanished)

    def test_a_link_took_the_place_of_its_folder(self) -> None:
        """What lies outside is not read in its stead."""
        (self.root / "sub").mkdir()
        (self.root / "sub" / "file").write_bytes(b"mine")
        outside = self.folder("outside", file=b"a secret")
        found = self.found(b"sub/file")
        (self.root / "sub").rename(self.root / "other")
        (self.root / "sub").symlink_to(outside)
        self.error(self.upload(found), Vanished, StorageError)
        self.assertEqual(self.gateway.chunks, {})


class TroubleTests(UploadTestCase):
    """Disks and rings that fail."""

    def test_a_disk_that_cannot_be_read(self) -> None:
        """An input error in the middle is told of the file, in words."""
        self.file.write_bytes(bytes(3 * 2**20))

        def broken(*_: Any) -> bytes:
            raise OSError(5, "Input/output error")

        self.patch(module._Joined, "read", broken)
        error = self.error(self.upload(), StorageError)
        self.assertIn("file: not read (Input/output error)", error.what)

    def test_a_file_that_may_not_be_read(self) -> None:
        """So is one whose permissions say no, also to root."""
        self.file.touch()

        def refuse(*_: Any) -> int:
            raise PermissionError(13, "Permission denied")

        self.patch(module, "open_file", refuse)
        self.assertIn("not read (Permission denied)", self.error(self.upload(), StorageError).what)

    def test_a_ring_that_takes_too_few_copies(self) -> None:
        """It says how many there are and how many are needed; the next try
        sends only what was missing."""
        self.file.write_bytes(random.Random(3).randbytes(5 * 2**20))
        self.gateway.weak = True
        error = self.error(self.upload(), Incomplete)
        self.assertIn("Only 1 of the 2 copies", error.what)
        self.assertIn("run this again", error.next_step)
        self.gateway.weak = False
        self.gateway.before = lambda name: None
        uploaded = self.result(self.upload())
        self.assertEqual(self.stored(uploaded), self.file.read_bytes())

    def test_a_ring_that_fails_half_way(self) -> None:
        """What was certain by then is not sent again."""
        self.file.write_bytes(random.Random(4).randbytes(20 * 2**20))
        puts: list[str] = []

        def count(name: str) -> None:
            puts.append(name)
            self.gateway.down = puts.count("put_chunks") > 3

        self.gateway.before = count
        self.error(self.upload(), Incomplete)
        first = self.gateway.sent
        self.assertGreater(first, 0)
        self.gateway.before, self.gateway.down = (lambda name: None), False
        uploaded = self.result(self.upload())
        self.assertEqual(first + uploaded.sent, self.gateway.sent)
        self.assertEqual(self.gateway.sent, sum(len(item.data) for item in self.gateway.chunks.values()))

    def test_the_budget_comes_back(self) -> None:
        """Whatever fails or is cancelled: the next upload finds all room."""
        self.file.write_bytes(random.Random(5).randbytes(20 * 2**20))
        budget = self.user.uploader._budget
        self.gateway.down = True
        self.error(self.upload(), Incomplete)
        self.assertEqual(budget._used, 0)
        self.gateway.down = False
        real = self.gateway.put_chunks
        self.gateway.put_chunks = lambda items, patience=None: Deferred()  # type: ignore[method-assign,assignment]
        uploading = self.upload()
        self.assertGreater(budget._used, 0)
        uploading.cancel()
        self.failureResultOf(uploading)
        self.assertEqual(budget._used, 0)
        self.gateway.put_chunks = real  # type: ignore[method-assign]
        self.result(self.upload())


class StreamTests(UploadTestCase):
    """What comes from a pipe."""

    def test_short_reads(self) -> None:
        """A pipe gives what it has; all of it is stored."""
        content = random.Random(6).randbytes(300_000)
        at = [0]

        class Pipe:
            def read(self, size: int = -1) -> bytes:
                piece = content[at[0] : at[0] + min(size, 7919)]
                at[0] += len(piece)
                return piece

        uploaded = self.result(self.user.uploader.upload_stream(Pipe(), 0o644, 5, self.progress.append))
        self.assertEqual(self.stored(uploaded), content)
        self.assertEqual(
            (uploaded.manifest.size, uploaded.manifest.mtime_ns, uploaded.found.size), (300_000, 5, 300_000)
        )
