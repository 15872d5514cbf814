"""Giving folders and files back."""

from __future__ import annotations

import os
import stat
from typing import Any

from twisted.internet.defer import Deferred

from peerstore.client import restore as module
from peerstore.client.backup import Backup
from peerstore.client.client import Client
from peerstore.client.restore import Restore, RestoreReport
from peerstore.client.target import Target
from peerstore.errors import DiskFull, Incomplete, NotFound, PeerStoreError, StorageError
from tests.support.commands import tree
from tests.support.memory_ring import ClientTestCase


class RestoreTestCase(ClientTestCase):
    """A folder that was backed up."""

    def setUp(self) -> None:
        super().setUp()
        self.docs = self.folder("docs", a=b"alpha", large=os.urandom(3 * 2**20))
        (self.docs / "sub").mkdir()
        (self.docs / "sub" / "b").write_bytes(b"beta")
        self.to = self.place / "to"

    def store(self) -> None:
        client = self.client(self.device("laptop"))
        report = self.result(Backup(client, self.raw(self.docs), "docs").run())
        self.assertEqual(report.problems, [])
        client.state.close()

    def reader(self) -> Client:
        client = self.client(self.device(f"reader {self._given}"), writing=False)
        self.result(client.refresh())
        return client

    def restoring(self, below: bytes = b"", force: bool = False, **options: Any) -> Any:
        target = Target(self.raw(self.to), loosen=True)
        return Restore(self.reader(), target, force, **options).run("docs", below)

    def restore(self, below: bytes = b"", force: bool = False, **options: Any) -> RestoreReport:
        report: RestoreReport = self.result(self.restoring(below, force, **options))
        return report

    def one(self, path: bytes, name: bytes, **options: Any) -> Any:
        reader = self.reader()
        version = reader.view.current("docs", path)
        assert version is not None
        return Restore(reader, Target(self.raw(self.to)), **options).run_one(version, name)


class WholeTests(RestoreTestCase):
    """Everything comes back as it was."""

    def test_all_attributes(self) -> None:
        """Modes, times in ns, links, empty folders, odd names, old times."""
        (self.docs / "empty").mkdir(mode=0o700)
        (self.docs / "link").symlink_to("../nowhere")
        with open(os.path.join(self.raw(self.docs), b"\xff\n"), "wb"):
            pass
        (self.docs / "sub" / "run").write_bytes(b"#!/bin/sh\n")
        (self.docs / "sub" / "run").chmod(0o4751)
        for path in [*self.docs.rglob("*"), self.docs]:
            os.utime(path, ns=(1, 1_500_000_000_000_000_001), follow_symlinks=False)
        os.utime(self.docs / "a", ns=(1, -5_000_000_003))
        (self.docs / "sub").chmod(0o555)
        self.docs.chmod(0o550)
        self.addCleanup(self.docs.chmod, 0o700)
        self.store()
        report = self.restore()
        self.assertEqual((report.problems, report.written), ([], report.files))
        self.assertEqual(tree(self.to), tree(self.docs))

    def test_a_second_time(self) -> None:
        """What is there and equal is not fetched again; attributes that were
        lost are set again; read-only folders are no hindrance."""
        (self.docs / "sub").chmod(0o555)
        self.store()
        self.restore()
        (self.to / "a").chmod(0o777)
        (self.to / "sub").chmod(0o755)
        (self.to / "sub" / "b").unlink()
        (self.to / "sub").chmod(0o555)
        self.gateway.calls.clear()
        report = self.restore()
        self.assertEqual((report.written, report.present, report.problems), (1, 2, []))
        self.assertNotIn("get_chunks", self.gateway.calls)
        self.assertEqual(tree(self.to), tree(self.docs))

    def test_a_part_of_it(self) -> None:
        """A path becomes the target folder itself, attributes and all."""
        (self.docs / "sub").chmod(0o711)
        (self.docs / "sub" / "deep").mkdir()
        self.store()
        self.assertEqual(self.restore(b"sub").files, 1)
        self.assertEqual(tree(self.to), tree(self.docs / "sub"))

    def test_one_file(self) -> None:
        """Under any name; again, it is there already."""
        self.store()
        report = self.result(self.one(b"sub/b", b"renamed"))
        self.assertEqual((report.written, report.present), (1, 0))
        self.assertEqual((self.to / "renamed").read_bytes(), b"beta")
        report = self.result(self.one(b"sub/b", b"renamed"))
        self.assertEqual((report.written, report.present), (0, 1))

    def test_a_sparse_file(self) -> None:
        """Its holes are holes again, and its length is right."""
        with (self.docs / "sparse").open("wb") as file:
            file.seek(30 * 2**20)
            file.write(b"end")
            file.truncate(40 * 2**20)
        self.store()
        self.restore()
        self.assertEqual(tree(self.to), tree(self.docs))
        if (self.docs / "sparse").stat().st_blocks * 512 < 2**20:
            self.assertLess((self.to / "sparse").stat().st_blocks * 512, 2**20)


class InTheWayTests(RestoreTestCase):
    """What is there and different."""

    def in_the_way(self) -> None:
        self.store()
        self.restore()
        (self.to / "a").write_text("mine")
        (self.to / "other").write_text("also mine")

    def test_it_is_left_alone(self) -> None:
        """And named, with what to do; the rest is restored."""
        self.in_the_way()
        (self.to / "sub" / "b").unlink()
        report = self.restore()
        self.assertEqual((report.written, report.present, len(report.problems)), (1, 1, 1))
        self.assertIn("a: it is there already, and different. Use --force", report.problems[0])
        self.assertEqual((self.to / "a").read_text(), "mine")
        self.assertEqual((self.to / "sub" / "b").read_bytes(), b"beta")

    def test_it_is_replaced_by_force(self) -> None:
        """But nothing that is not in the backup is touched."""
        self.in_the_way()
        report = self.restore(force=True)
        self.assertEqual((report.written, report.problems), (1, []))
        self.assertEqual((self.to / "a").read_bytes(), b"alpha")
        self.assertEqual((self.to / "other").read_text(), "also mine")

    def test_a_file_where_a_folder_belongs(self) -> None:
        """Everything else comes back; by force, that too."""
        self.in_the_way()
        (self.to / "sub" / "b").unlink()
        (self.to / "sub").rmdir()
        (self.to / "sub").write_text("mine")
        report = self.restore()
        self.assertEqual(report.present, 1)
        self.assertGreater(len(report.problems), 1)
        self.assertEqual((self.to / "sub").read_text(), "mine")
        self.assertEqual(self.restore(force=True).problems, [])
        self.assertEqual((self.to / "sub" / "b").read_bytes(), b"beta")

    def test_links_on_the_way(self) -> None:
        """A link where a folder belongs is not followed."""
        self.store()
        outside = self.folder("outside", b=b"not ours")
        self.to.mkdir()
        (self.to / "sub").symlink_to(outside)
        report = self.restore()
        self.assertTrue(report.problems)
        self.assertEqual((outside / "b").read_bytes(), b"not ours")
        self.assertEqual(os.listdir(outside), ["b"])
        self.assertEqual((self.to / "a").read_bytes(), b"alpha")

    def test_one_file_that_is_in_the_way(self) -> None:
        """That is the whole result, so it is an error."""
        self.in_the_way()
        error = self.error(self.one(b"a", b"a"), StorageError)
        self.assertEqual(error.exit_status, 7)
        self.result(self.one(b"a", b"a", force=True))
        self.assertEqual((self.to / "a").read_bytes(), b"alpha")


class DryRunTests(RestoreTestCase):
    """Only looking."""

    def test_into_nothing(self) -> None:
        """All would be written; the folder is not made."""
        self.store()
        report = self.restore(dry_run=True)
        self.assertEqual((report.planned, report.written), ([b"a", b"large", b"sub/b"], 3))
        self.assertFalse(self.to.exists())

    def test_into_something(self) -> None:
        """What differs is named, and with force would be written; not a mode
        or a time changes."""
        self.store()
        self.restore()
        (self.to / "a").write_text("mine")
        (self.to / "large").chmod(0o600)
        (self.to / "sub" / "b").unlink()
        before = tree(self.to)
        report = self.restore(dry_run=True)
        self.assertEqual((report.planned, report.present, len(report.problems)), ([b"sub/b"], 1, 1))
        report = self.restore(force=True, dry_run=True)
        self.assertEqual((report.planned, report.present, report.problems), ([b"a", b"sub/b"], 1, []))
        self.assertEqual(tree(self.to), before)


class TroubleTests(RestoreTestCase):
    """Rings and disks that fail."""

    def test_a_part_that_nobody_has(self) -> None:
        """One file is named, all others are there, nothing half is left."""
        self.store()
        self.gateway.chunks.clear()
        report = self.restore()
        self.assertEqual((report.written, len(report.problems)), (2, 1))
        self.assertIn("large: A part of a file could not be fetched", report.problems[0])
        self.assertEqual(sorted(os.listdir(self.to)), ["a", "sub"])

    def test_a_head_that_nobody_has(self) -> None:
        """So is a version that was lost as a whole."""
        self.store()
        self.gateway.heads.pop(self.reader().resource("docs", b"a"))
        report = self.restore()
        self.assertEqual((report.written, len(report.problems)), (2, 1))
        self.error(self.one(b"a", b"a"), NotFound)

    def test_nobody_answers_any_more(self) -> None:
        """Then it ends at once, and says how far it came."""
        self.store()
        for number in range(30):
            (self.docs / f"{number}").touch()
        self.store()
        calls: list[str] = []

        def count(name: str) -> None:
            calls.append(name)
            self.gateway.down = calls.count("get_heads") > 4

        self.gateway.before = count
        error = self.error(self.restoring(), Incomplete)
        self.assertRegex(error.what, r"The nodes do not answer any more. [0-9]+ of 33 files are there.")
        self.assertIn("it goes on from here", error.next_step)
        self.assertLess(calls.count("get_heads"), 15)
        self.gateway.before, self.gateway.down = (lambda name: None), False
        self.assertEqual(self.restore().problems, [])
        self.assertEqual(tree(self.to), tree(self.docs))

    def test_a_full_disk(self) -> None:
        """One error for all files, not one for each."""
        self.store()

        def full(*_: Any) -> int:
            raise OSError(28, "No space left on device")

        self.patch(module, "write_with_holes", full)
        error = self.error(self.restoring(), DiskFull)
        self.assertIn("of 3 files are there", error.what)
        self.assertEqual([name for name in os.listdir(self.to) if name.startswith(".")], [])

    def test_a_disk_that_refuses_one_file(self) -> None:
        """It is named with the reason; the rest is restored."""
        self.store()
        real = Target.place

        def refuse(target: Target, name: bytes, path: bytes, *rest: Any) -> Any:
            if path == b"a":
                raise PermissionError(13, "Permission denied")
            return real(target, name, path, *rest)

        self.patch(Target, "place", refuse)
        report = self.restore()
        self.assertEqual((report.written, len(report.problems)), (2, 1))
        self.assertIn("a cannot be written (Permission denied)", report.problems[0])
        self.assertEqual(sorted(os.listdir(self.to)), ["large", "sub"])

    def test_a_folder_whose_attributes_are_refused(self) -> None:
        """It is named, too."""
        self.store()

        def refuse(*_: Any) -> None:
            raise PermissionError(1, "Operation not permitted")

        self.patch(Target, "attributes", refuse)
        report = self.restore()
        self.assertEqual((report.written, len(report.problems)), (3, 1))
        self.assertIn("sub", report.problems[0])

    def test_a_target_that_is_a_file(self) -> None:
        """Nothing is written, and it says what to do."""
        self.store()
        self.to.write_text("mine")
        error = self.error(self.restoring(), PeerStoreError)
        self.assertIn("--to", error.next_step)

    def test_stopped_in_the_middle(self) -> None:
        """No half file is left under any name, and the next run goes on."""
        self.store()
        self.gateway.get_chunks = lambda *_: Deferred()  # type: ignore[method-assign,assignment]
        running = self.restoring()
        self.assertNoResult(running)
        running.cancel()
        self.failureResultOf(running)
        self.assertEqual(sorted(os.listdir(self.to)), ["a", "sub"])
        self.assertEqual(stat.S_IMODE((self.to / "sub").stat().st_mode), 0o700)
        del self.gateway.get_chunks
        self.assertEqual((self.restore().present, tree(self.to)), (2, tree(self.docs)))
