"""One run of a backup after another: what is sent, removed, left alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from peerstore.client import backup as module
from peerstore.client import source, upload
from peerstore.client.backup import Backup, BackupReport
from peerstore.client.client import Client
from peerstore.errors import Conflict, Incomplete, PeerStoreError, UsageError
from tests.support.memory_ring import ClientTestCase, Device


class BackupTestCase(ClientTestCase):
    """A folder and a computer; each run has a client of its own, as a command
    has."""

    def setUp(self) -> None:
        super().setUp()
        self.readers = 0
        self.home = self.device("laptop")
        self.docs = self.folder("docs", a=b"alpha", b=b"beta")

    def run_backup(
        self, folder: Path | None = None, device: Device | None = None, name: str = "docs", **options: Any
    ) -> BackupReport:
        client = self.client(device or self.home)
        patterns = options.pop("patterns", ())
        run = Backup(client, self.raw(folder or self.docs), name, patterns, options.pop("into", False), **options)
        try:
            report: BackupReport = self.result(run.run())
        finally:
            client.state.close()
        return report

    def refused(self, kind: type[PeerStoreError], folder: Path | None = None, **options: Any) -> PeerStoreError:
        client = self.client(options.pop("device", None) or self.home)
        run = Backup(client, self.raw(folder or self.docs), options.pop("name", "docs"), **options)
        error: PeerStoreError = self.error(run.run(), kind)
        client.state.close()
        return error

    def stored(self, name: str = "docs") -> dict[bytes, bytes]:
        """{path: content} of the files that stand, as a fresh reader finds them."""
        self.readers += 1
        reader = self.client(self.device(f"reader {self.readers}"), writing=False)
        self.result(reader.refresh())
        found = {}
        for path, version in reader.view.tree(name).items():
            if version.name.kind != 2:
                pieces: list[bytes] = []
                fetched = self.result(reader.manifest(version))
                self.result(reader.content(fetched, lambda piece, into=pieces: into.append(bytes(piece))))
                found[path] = b"".join(pieces)
        reader.state.close()
        return found


class SecondRunTests(BackupTestCase):
    """What is unchanged is not sent, nor read."""

    def test_nothing_changed(self) -> None:
        """No content, no head and no entry goes over the wire."""
        self.folder("docs", large=os.urandom(2**20))
        first = self.run_backup()
        self.assertEqual((first.files, first.folders, first.changed, first.unchanged), (3, 1, 3, 0))
        self.gateway.calls.clear()
        second = self.run_backup()
        self.assertEqual((second.changed, second.unchanged, second.sent, second.removed), (0, 3, 0, 0))
        self.assertEqual(set(self.gateway.calls), {"read_log"})

    def test_one_file_changed(self) -> None:
        """Only that one is stored again."""
        self.run_backup()
        self.folder("docs", a=b"other")
        report = self.run_backup()
        self.assertEqual((report.changed, report.unchanged, report.sent), (1, 1, 5))
        self.assertEqual(self.stored(), {b"a": b"other", b"b": b"beta"})

    def test_touched_and_moved(self) -> None:
        """A new time or mode is stored, and no content moves for it."""
        self.folder("docs", large=os.urandom(2**20))
        self.run_backup()
        os.utime(self.docs / "large", ns=(5, 5))
        self.assertEqual((self.run_backup().changed, self.gateway.sent > 2**20 + 8192), (1, False))
        (self.docs / "large").chmod(0o600)
        (self.docs / "large").rename(self.docs / "moved")
        report = self.run_backup()
        self.assertEqual((report.changed, report.removed, report.sent), (1, 1, 0))

    def test_the_same_content_again(self) -> None:
        """A file that was written anew with what it had is read, and that is all."""
        self.run_backup()
        status = (self.docs / "a").stat()
        self.folder("docs", a=b"alpha")
        os.utime(self.docs / "a", ns=(status.st_atime_ns, status.st_mtime_ns))
        entries = sum(map(len, self.gateway.logs.values()))
        report = self.run_backup()
        self.assertEqual((report.changed, report.unchanged), (0, 2))
        self.assertEqual(sum(map(len, self.gateway.logs.values())), entries)

    def coarse(self, written: int, now: int) -> BackupReport:
        """A run at the moment *now*, in a file system whose times (ns) stand at *written*."""
        real = source.found_as

        def found_as(path: bytes, status: os.stat_result) -> Any:
            found = real(path, status)
            return found and found._replace(mtime_ns=written, ctime_ns=written)

        self.patch(source, "found_as", found_as)
        client = self.client(self.home)
        client.wall_ns = lambda: now
        report: BackupReport = self.result(Backup(client, self.raw(self.docs), "docs").run())
        client.state.close()
        return report

    def test_an_edit_in_the_moment_in_which_it_was_read(self) -> None:
        """File systems count time in steps, of a second or two at worst: a file that was edited in the
        step in which it was read looks as it did, and is read again."""
        for day, later in enumerate((0, 5_000_000, 1_900_000_000)):
            moment = (19_700 + day) * 86_400_000_000_000
            self.folder("docs", a=b"alpha")
            self.coarse(moment, moment + later)
            (self.docs / "a").write_bytes(b"ALPHA")
            report = self.coarse(moment, moment + later + 60_000_000_000)
            self.assertEqual((report.changed, report.unchanged), (1, 1))
            self.assertEqual(self.stored()[b"a"], b"ALPHA")

    def test_other_moments(self) -> None:
        """What was written long before is not read again, nor what has a time that no clock here has come to."""
        moment = 1_700_000_000_000_000_000
        reads: list[bytes] = []
        real = upload.open_file
        self.patch(upload, "open_file", lambda root, path: reads.append(path) or real(root, path))
        for written in (moment - 3_000_000_000, moment + 3_000_000_000):
            self.coarse(written, moment)
            self.assertEqual(sorted(reads), [b"a", b"b"])
            self.assertEqual(self.coarse(written, moment).unchanged, 2)
            self.assertEqual(len(reads), 2)
            reads.clear()

    def test_many_files(self) -> None:
        """More than one entry of the log has room for."""
        for number in range(module.BATCH + 44):
            (self.docs / f"{number:03}").touch()
        report = self.run_backup()
        self.assertEqual(report.changed, module.BATCH + 46)
        self.assertEqual(len(self.stored()), module.BATCH + 46)
        self.assertEqual(self.run_backup().unchanged, module.BATCH + 46)


class GoneTests(BackupTestCase):
    """What is gone from the source is a tombstone, and nothing else is."""

    def test_removed_files_and_folders(self) -> None:
        """They do not stand any more; their history does."""
        (self.docs / "sub").mkdir()
        (self.docs / "sub" / "c").touch()
        self.run_backup()
        (self.docs / "a").unlink()
        (self.docs / "sub" / "c").unlink()
        (self.docs / "sub").rmdir()
        report = self.run_backup()
        self.assertEqual((report.removed, report.problems), (2, []))
        self.assertEqual(self.stored(), {b"b": b"beta"})
        self.assertEqual(self.run_backup().removed, 0)

    def test_a_file_came_back(self) -> None:
        """It stands again."""
        self.run_backup()
        (self.docs / "a").unlink()
        self.run_backup()
        self.folder("docs", a=b"again")
        self.run_backup()
        self.assertEqual(self.stored()[b"a"], b"again")

    def test_what_is_left_out_now(self) -> None:
        """It is not gone, so what was stored of it stays."""
        (self.docs / "sub").mkdir()
        (self.docs / "sub" / "c").write_bytes(b"gamma")
        self.run_backup()
        report = self.run_backup(patterns=[b"a", b"sub"])
        self.assertEqual((report.removed, report.files), (0, 1))
        self.assertEqual(self.stored(), {b"a": b"alpha", b"b": b"beta", b"sub/c": b"gamma"})

    def test_a_folder_that_cannot_be_read(self) -> None:
        """Nothing in it is taken for gone; what is gone elsewhere is."""
        (self.docs / "sub").mkdir()
        (self.docs / "sub" / "c").write_bytes(b"gamma")
        self.run_backup()
        (self.docs / "a").unlink()
        real = os.scandir
        place = self.raw(self.docs / "sub")

        def refuse(path: Any) -> Any:
            if path == place:
                raise PermissionError(13, "Permission denied")
            return real(path)

        self.patch(source.os, "scandir", refuse)
        report = self.run_backup()
        self.assertEqual(report.problems, ["sub: not read (Permission denied)"])
        self.assertEqual(report.removed, 1)
        self.assertEqual(self.stored(), {b"b": b"beta", b"sub/c": b"gamma"})

    def test_a_file_became_a_folder(self) -> None:
        """And the other way round."""
        (self.docs / "sub").mkdir()
        (self.docs / "sub" / "c").touch()
        self.run_backup()
        (self.docs / "a").unlink()
        (self.docs / "a").mkdir()
        (self.docs / "a" / "x").write_bytes(b"inside")
        (self.docs / "sub" / "c").unlink()
        (self.docs / "sub").rmdir()
        (self.docs / "sub").write_bytes(b"now a file")
        self.run_backup()
        self.assertEqual(self.stored(), {b"a/x": b"inside", b"b": b"beta", b"sub": b"now a file"})

    def test_a_file_that_vanished_meanwhile(self) -> None:
        """That is noted, and is no failure."""
        real = Client.upload

        def late(client: Client, root: bytes, found: Any, *rest: Any) -> Any:
            if found.path == b"a":
                (self.docs / "a").unlink()
            return real(client, root, found, *rest)

        self.patch(Client, "upload", late)
        report = self.run_backup()
        self.assertEqual((report.problems, report.notes), ([], ["a: it went away before it was read."]))
        self.assertEqual(self.stored(), {b"b": b"beta"})


class OwnerTests(BackupTestCase):
    """One device and one place write a folder, unless a person says so."""

    def test_another_computers_folder(self) -> None:
        """It is refused, and nothing is written."""
        self.run_backup()
        other = self.device("desktop")
        calls = len([name for name in self.gateway.calls if name.startswith("put")])
        error = self.refused(Conflict, self.folder("docs2", z=b"zeta"), device=other)
        self.assertIn("another computer", error.what)
        self.assertIn("--into", error.next_step)
        self.assertEqual(error.exit_status, 6)
        self.assertEqual(len([name for name in self.gateway.calls if name.startswith("put")]), calls)

    def test_another_folder_of_this_computer(self) -> None:
        """It is refused, and named."""
        self.run_backup()
        error = self.refused(Conflict, self.folder("docs2", z=b"zeta"))
        self.assertIn(str(self.docs), error.what)
        self.assertEqual(self.run_backup().unchanged, 2, "the refused run left no trace")

    def test_into_another_computers_folder(self) -> None:
        """Nothing of the other's goes away, and both can go on with --into."""
        self.run_backup()
        desktop = self.device("desktop")
        report = self.run_backup(self.folder("docs2", z=b"zeta"), desktop, into=True)
        self.assertEqual(report.removed, 0)
        self.assertEqual(self.stored(), {b"a": b"alpha", b"b": b"beta", b"z": b"zeta"})
        self.assertEqual(self.run_backup(into=True).removed, 0)
        (self.place / "docs2" / "z").unlink()
        self.assertEqual(self.run_backup(self.place / "docs2", desktop, into=True).removed, 1)
        self.assertEqual(self.stored(), {b"a": b"alpha", b"b": b"beta"})

    def test_into_from_another_folder_of_this_computer(self) -> None:
        """What the first folder had agreed to is not the second one's to
        delete, on the way there and on the way back."""
        self.run_backup()
        self.assertEqual(self.run_backup(self.folder("docs2", z=b"zeta"), into=True).removed, 0)
        self.assertEqual(len(self.stored()), 3)
        back = self.run_backup(into=True)
        self.assertEqual((back.removed, back.unchanged), (0, 2))
        self.assertEqual(len(self.stored()), 3)

    def test_edits_that_cross(self) -> None:
        """Another computer's version of a file stays beside ours."""
        self.run_backup()
        desktop = self.device("desktop")
        self.run_backup(self.folder("docs2", a=b"theirs"), desktop, into=True)
        self.folder("docs", a=b"ours")
        self.run_backup(into=True)
        client = self.client(self.device("third"))
        self.result(client.refresh())
        self.assertEqual(len(client.view.versions("docs", b"a")), 2)

    def test_a_folder_that_is_not_there(self) -> None:
        """It is told before anything is claimed."""
        self.run_backup()
        self.refused(UsageError, self.place / "no", into=True)
        self.assertEqual(self.run_backup().unchanged, 2)

    def test_a_name_that_is_none(self) -> None:
        """It could never be typed again."""
        for name in ("", "a/b", "..", "\udcff"):
            self.assertRaises(UsageError, Backup, self.client(), self.raw(self.docs), name)


class DryRunTests(BackupTestCase):
    """Only looking."""

    def test_nothing_is_written(self) -> None:
        """Neither here nor there; the report says what would be."""
        self.run_backup()
        self.folder("docs", a=b"other", c=b"new")
        (self.docs / "b").unlink()
        self.gateway.calls.clear()
        report = self.run_backup(dry_run=True)
        self.assertEqual((report.changed, report.removed, report.sent), (2, 1, 0))
        self.assertEqual((report.planned, report.gone), ([b"", b"a", b"c"], [b"b"]))
        self.assertEqual(set(self.gateway.calls), {"read_log"})
        real = self.run_backup()
        self.assertEqual((real.changed, real.removed), (2, 1))

    def test_it_claims_nothing(self) -> None:
        """Another folder's dry run does not become the folder's source."""
        self.run_backup()
        self.run_backup(self.folder("docs2", z=b"zeta"), into=True, dry_run=True)
        self.assertEqual(self.run_backup().unchanged, 2)


class TroubleTests(BackupTestCase):
    """Rings that fail in the middle."""

    def test_too_few_nodes_to_begin(self) -> None:
        """Without the newest state nothing is judged."""
        self.gateway.down = True
        self.refused(Incomplete)

    def test_the_ring_fails_at_any_moment(self) -> None:
        """Whatever call is the first to fail: the run ends with an error, the
        next one completes it, and nothing that was certain is sent twice."""
        self.folder("docs", large=os.urandom(5 * 2**20))
        for moment in range(40):
            self.gateway.__init__()  # type: ignore[misc]
            device = self.device(f"home {moment}")
            calls = [0]

            def count(name: str, calls: list[int] = calls, moment: int = moment) -> None:
                calls[0] += 1
                self.gateway.down = calls[0] > moment

            self.gateway.before = count
            client = self.client(device)
            outcome: list[Any] = []
            running: Deferred[Any] = Backup(client, self.raw(self.docs), "docs").run()
            running.addBoth(outcome.append)
            client.state.close()
            ended_well = isinstance(outcome[0], BackupReport)
            if not ended_well:
                outcome[0].trap(PeerStoreError)
            self.gateway.before, self.gateway.down = (lambda name: None), False
            report = self.run_backup(device=device)
            self.assertEqual(report.problems, [])
            self.assertEqual(
                self.gateway.sent, sum(len(item.data) for item in self.gateway.chunks.values()), f"at {moment}"
            )
            self.assertEqual(sorted(self.stored()), [b"a", b"b", b"large"])
            self.assertEqual(self.run_backup(device=device).unchanged, 3)
            if ended_well:
                return
        self.fail("it never came to its end")

    def test_one_bad_file_stops_nothing(self) -> None:
        """It is reported, and all others are stored."""
        real = module.Client.upload

        def upload(client: Client, root: bytes, found: Any, *rest: Any) -> Any:
            if found.path == b"a":
                raise PeerStoreError("a: not read (Input/output error).")
            return real(client, root, found, *rest)

        self.patch(Client, "upload", upload)
        report = self.run_backup()
        self.assertEqual(report.problems, ["a: not read (Input/output error)."])
        self.assertEqual(self.stored(), {b"b": b"beta"})

    def test_stopped_in_the_middle(self) -> None:
        """A cancelled run ends with all that it began, and the next goes on."""
        self.folder("docs", large=os.urandom(5 * 2**20))
        real = self.gateway.put_chunks
        self.gateway.put_chunks = lambda items, patience=None: Deferred()  # type: ignore[method-assign,assignment]
        client = self.client(self.home)
        running = Backup(client, self.raw(self.docs), "docs").run()
        self.assertNoResult(running)
        running.cancel()
        self.failureResultOf(running)
        client.state.close()
        self.gateway.put_chunks = real  # type: ignore[method-assign]
        self.assertEqual(self.run_backup().problems, [])
        self.assertEqual(len(self.stored()), 3)


class AnewTests(BackupTestCase):
    """Rings that lost something."""

    def test_a_ring_that_lost_everything(self) -> None:
        """It is refused, and with anew it has everything again."""
        self.run_backup()
        self.gateway.__init__()  # type: ignore[misc]
        error = self.refused(Incomplete)
        self.assertIn("another ring", error.what)
        self.assertIn("--anew", error.next_step)
        report = self.run_backup(anew=True)
        self.assertEqual((report.changed, report.unchanged), (2, 0))
        self.assertEqual(self.stored(), {b"a": b"alpha", b"b": b"beta"})
        self.assertEqual(self.run_backup().unchanged, 2)

    def test_a_ring_that_lost_a_chunk_and_a_head(self) -> None:
        """Just these are sent."""
        self.folder("docs", large=os.urandom(5 * 2**20))
        self.run_backup()
        lost = next(iter(self.gateway.chunks))
        size = len(self.gateway.chunks.pop(lost).data)
        client = self.client(self.home)
        self.gateway.heads.pop(client.resource("docs", b"a"))
        client.state.close()
        self.gateway.sent = 0
        report = self.run_backup(anew=True)
        self.assertEqual((report.changed, report.unchanged, self.gateway.sent), (1, 2, size))
        self.assertEqual(self.stored()[b"a"], b"alpha")
        self.assertEqual(self.stored()[b"large"], (self.docs / "large").read_bytes())
