"""Steps of the plan, on real disks."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from peerstore.client.source import ChangedMeanwhile
from peerstore.client.upload import ChangedWhileRead
from peerstore.errors import CorruptData, Incomplete, StorageError
from peerstore.files.manifest import NodeKind
from peerstore.sync.plan import Do, differs
from tests.support.sync_side import FOLDER, Side, SyncTestCase

LARGE = 300_000


class CarryTestCase(SyncTestCase):
    """Edits that come at bad moments."""

    def when_asked_for(self, name: str, do: Callable[[], object]) -> None:
        """Let something happen when the ring is asked, the first time."""
        done: list[bool] = []

        def before(call: str) -> None:
            if call == name and not done:
                done.append(True)
                do()

        self.gateway.before = before

    def refused(self, side: Side, do: Do, path: bytes, *kinds: type[BaseException]) -> None:
        """A step of the plan is not done, and leaves nothing half done."""
        action = side.step(do, path)
        side.carrier.begin()
        self.fails(side.carrier.carry(action), *kinds)
        self.assertEqual(side.hidden(), [])


class UploadTests(CarryTestCase):
    """Towards the ring."""

    def test_a_file(self) -> None:
        """Its version is published with what is agreed then, in one go."""
        here = self.side("here")
        here.write("a", b"text")
        done = here.carry(here.step(Do.UPLOAD, b"a"))
        (change,) = done.changes
        self.assertEqual((change.version.name.path, change.version.name.size), (b"a", 4))
        assert done.agreed is not None
        self.assertEqual(done.agreed.version, change.version.version)
        self.assertFalse(differs(here.tree.look(b"a"), done.agreed))
        self.assertEqual(self.log_length(), 0)

    def test_a_touch(self) -> None:
        """A time alone is not sent; it is agreed on."""
        here, _ = self.shared("a")
        length = self.log_length()
        os.utime(here.place / "a", ns=(1, 1))
        done = here.carry(here.step(Do.UPLOAD, b"a"))
        assert done.agreed is not None
        self.assertEqual((done.changes, done.agreed.mtime_ns), ((), 1))
        here.rest()
        self.assertEqual((here.plan(), self.log_length()), ([], length))

    def test_a_mode(self) -> None:
        """Is sent, and no content with it."""
        here, there = self.shared("a", b"x" * LARGE)
        sent = self.gateway.sent
        (here.place / "a").chmod(0o711)
        here.rest()
        there.rest()
        self.assertEqual((there.place / "a").stat().st_mode & 0o777, 0o711)
        self.assertEqual(self.gateway.sent, sent)

    def test_the_same_content_again(self) -> None:
        """Saved once more under another inode: nothing to send."""
        here, _ = self.shared("a")
        length = self.log_length()
        here.write("b")
        (here.place / "b").rename(here.place / "a")
        here.rest()
        self.assertEqual(self.log_length(), length)

    def test_a_file_that_changes_while_it_is_read(self) -> None:
        """Is not stored half."""
        here = self.side("here")
        here.write("a", os.urandom(LARGE))
        self.when_asked_for("put_chunks", lambda: here.write("a", b"other"))
        self.refused(here, Do.UPLOAD, b"a", ChangedWhileRead)
        self.gateway.before = lambda _: None
        here.rest()
        self.assertEqual(here.versions(b"a")[0].name.size, 5)

    def test_a_file_that_changed_since_the_scan(self) -> None:
        """The plan was made for another one."""
        here = self.side("here")
        here.write("a")
        action = here.step(Do.UPLOAD, b"a")
        here.write("a", b"longer")
        self.fails(here.carrier.carry(action), ChangedMeanwhile)

    def test_a_deletion(self) -> None:
        """Is logged if it still is one."""
        here, _ = self.shared("a")
        (here.place / "a").unlink()
        action = here.step(Do.DELETE, b"a")
        done = here.carry(action)
        self.assertEqual(([change.version.deleted for change in done.changes], done.agreed), ([True], None))
        here.write("a", b"back again")
        self.fails(here.carrier.carry(action), ChangedMeanwhile)


class FetchTests(CarryTestCase):
    """Towards us."""

    def test_what_is_fetched(self) -> None:
        """Bytes, mode and time of a file; a link's text; an empty folder."""
        here, there = self.two()
        here.write("d/a", os.urandom(LARGE))
        (here.place / "d/a").chmod(0o640)
        os.utime(here.place / "d/a", ns=(5, 123_456_789))
        (here.place / "l").symlink_to("../away")
        (here.place / "e").mkdir(mode=0o750)
        here.rest()
        there.rest()
        self.assertEqual(there.read("d/a"), here.read("d/a"))
        status = (there.place / "d/a").stat()
        self.assertEqual((status.st_mode & 0o7777, status.st_mtime_ns), (0o640, 123_456_789))
        self.assertEqual(os.readlink(there.place / "l"), "../away")
        self.assertEqual((there.place / "e").stat().st_mode & 0o777, 0o750)
        self.assertEqual((there.plan(), there.hidden()), ([], []))

    def test_an_edit_while_it_is_fetched(self) -> None:
        """Is left alone, and becomes a conflict in the next plan."""
        here, there = self.shared("a")
        here.write("a", os.urandom(LARGE))
        here.rest()
        self.when_asked_for("get_chunks", lambda: there.write("a", b"mine"))
        self.refused(there, Do.FETCH, b"a", ChangedMeanwhile)
        self.assertEqual(there.read("a"), b"mine")
        self.assertEqual(there.plan()[0].do, Do.YIELD)

    def test_a_file_that_appears_while_it_is_fetched(self) -> None:
        """Is not replaced either."""
        here, there = self.two()
        here.write("a", os.urandom(LARGE))
        here.rest()
        self.when_asked_for("get_chunks", lambda: there.write("a", b"mine"))
        self.refused(there, Do.FETCH, b"a", ChangedMeanwhile)
        self.assertEqual(there.read("a"), b"mine")

    def test_an_edit_right_after_it(self) -> None:
        """Is seen as one: what is agreed is what we placed, not what is there
        a moment later."""
        here, there = self.two()
        here.write("a", b"theirs")
        here.rest()
        place = there.tree.place

        def and_edit(*arguments: object) -> object:
            placed = place(*arguments)  # type: ignore[arg-type]
            there.write("a", b"edited")
            return placed

        self.patch(there.tree, "place", and_edit)
        done = there.carry(there.step(Do.FETCH, b"a"))
        self.assertTrue(differs(there.tree.look(b"a"), done.agreed))

    def test_a_rename_fetches_nothing(self) -> None:
        """The content is here, under the old name."""
        here, there = self.shared("a", os.urandom(LARGE))
        (here.place / "a").rename(here.place / "b")
        here.rest()
        self.gateway.calls.clear()
        there.rest()
        self.assertNotIn("get_chunks", self.gateway.calls)
        self.assertEqual((there.names(), there.read("b")), (["b"], here.read("b")))

    def test_a_file_here_that_is_not_what_it_was(self) -> None:
        """Is no source: the content is fetched."""
        here, there = self.shared("a", os.urandom(LARGE))
        here.write("b", here.read("a"))
        here.rest()
        step = there.step(Do.FETCH, b"b")
        there.write("a", os.urandom(LARGE))
        self.gateway.calls.clear()
        there.carry(step)
        self.assertIn("get_chunks", self.gateway.calls)
        self.assertEqual(there.read("b"), here.read("b"))

    def test_a_source_that_only_looks_the_same(self) -> None:
        """Its bytes are checked while they are copied."""
        here, there = self.shared("a", os.urandom(LARGE))
        here.write("b", here.read("a"))
        here.rest()
        status = (there.place / "a").stat()
        with (there.place / "a").open("r+b") as file:
            file.write(b"rot")
        os.utime(there.place / "a", ns=(status.st_atime_ns, status.st_mtime_ns))
        there.carry(there.step(Do.FETCH, b"b"))
        self.assertEqual(there.read("b"), here.read("b"))

    def test_a_part_that_nobody_has(self) -> None:
        """Nothing is placed, and nothing is left behind."""
        here, there = self.two()
        here.write("a", os.urandom(LARGE))
        here.rest()
        self.gateway.chunks.clear()
        self.refused(there, Do.FETCH, b"a", Incomplete)
        self.assertEqual(there.names(), [])

    def test_a_log_that_names_other_content(self) -> None:
        """It and the version must agree, or nothing is placed."""
        here, there = self.two()
        here.write("a", b"text")
        here.rest()
        action = there.step(Do.FETCH, b"a")
        assert action.version is not None
        name = action.version.name
        wrong = action.version._replace(name=type(name)(FOLDER, b"a", 1, 4, 0, name.mode, b"z" * 32))
        self.fails(there.carrier.carry(action._replace(version=wrong)), CorruptData)
        self.assertEqual((there.names(), there.hidden()), ([], []))

    def test_no_room(self) -> None:
        """A disk error is told of in words, and leaves nothing behind."""
        here, there = self.two()
        here.write("a", os.urandom(LARGE))
        here.rest()
        real = os.write

        def full(descriptor: int, data: bytes) -> int:
            if len(data) > 1000:
                raise OSError(28, "No space left on device")
            return real(descriptor, data)

        self.patch(os, "write", full)
        action = there.step(Do.FETCH, b"a")
        error = self.fails(there.carrier.carry(action), StorageError)
        self.assertIn("No room left", str(error))
        self.assertEqual((there.names(), there.hidden()), ([], []))

    def test_read_only_folders(self) -> None:
        """Get their mode when all that is in them is written."""
        here, there = self.two()
        here.write("d/e/a")
        (here.place / "d/e").chmod(0o555)
        (here.place / "d").chmod(0o500)
        self.addCleanup((here.place / "d").chmod, 0o700)
        here.rest()
        actions = there.plan()
        modes: list[tuple[str, int]] = []
        real = there.tree.change_mode

        def note(found: object, mode: int) -> object:
            modes.append((found.path.decode(), mode))  # type: ignore[attr-defined]
            self.assertTrue((there.place / "d/e/a").exists())
            return real(found, mode)  # type: ignore[arg-type]

        self.patch(there.tree, "change_mode", note)
        there.work(actions)
        self.assertEqual(modes, [("d/e", 0o555), ("d", 0o500)])
        self.assertEqual(there.plan(), [])

    def test_a_folder_that_is_replaced_at_once(self) -> None:
        """A folder has come, and its owner makes a file of it before it has
        its mode: that is derived from the folder, and no conflict."""
        here, there = self.shared("a", b"before")
        (here.place / "a").unlink()
        here.write("a/b")
        here.rest()
        real = there.tree.place

        def and_replace(*arguments: object) -> object:
            placed = real(*arguments)  # type: ignore[arg-type]
            (there.place / "a/b").unlink()
            (there.place / "a").rmdir()
            there.write("a", b"file again")
            return placed

        self.patch(there.tree, "place", and_replace)
        there.work()
        self.patch(there.tree, "place", real)
        there.rest()
        here.rest()
        self.assertEqual((here.names(), here.read("a")), (["a"], b"file again"))

    def test_a_folder_whose_mode_was_not_set(self) -> None:
        """When the program ended before that, the next plan does it."""
        here, there = self.two()
        here.write("d/a")
        (here.place / "d").chmod(0o751)
        here.rest()
        there.worker.stop()
        there.carrier.begin()
        for action in there.plan():
            self.result(there.worker._keep([(action.path, self.result(there.carrier.carry(action)))]))
        self.assertEqual((there.place / "d").stat().st_mode & 0o777, 0o700)
        again = Side(self, there.client, there.place)
        again.rest()
        self.assertEqual((there.place / "d").stat().st_mode & 0o777, 0o751)
        self.assertEqual(len(here.versions(b"d")), 1)

    def test_a_folder_in_place_of_a_file(self) -> None:
        """And a file in place of a folder."""
        here, there = self.shared("a")
        (here.place / "a").unlink()
        here.write("a/b")
        here.rest()
        there.rest()
        self.assertEqual(there.names(), ["a", "a/b"])
        (here.place / "a/b").unlink()
        (here.place / "a").rmdir()
        here.write("a", b"file again")
        here.rest()
        there.rest()
        self.assertEqual((there.names(), there.read("a")), (["a"], b"file again"))


class RemoveTests(CarryTestCase):
    """What was deleted elsewhere."""

    def test_it_goes(self) -> None:
        """If it is what it was."""
        here, there = self.shared("d/a")
        (here.place / "d/a").unlink()
        (here.place / "d").rmdir()
        here.rest()
        there.rest()
        self.assertEqual((there.names(), there.agreed), ([], {}))

    def test_an_edit_just_before(self) -> None:
        """Stays, and is stored again."""
        here, there = self.shared("a")
        (here.place / "a").unlink()
        here.rest()
        action = there.step(Do.REMOVE, b"a")
        there.write("a", b"edited")
        self.fails(there.carrier.carry(action), ChangedMeanwhile)
        there.rest()
        here.rest()
        self.assertEqual(here.read("a"), b"edited")

    def test_it_goes_by_itself_meanwhile(self) -> None:
        """Is told as a change, not as a fault of the disk."""
        here, there = self.shared("a")
        (here.place / "a").unlink()
        here.rest()
        action = there.step(Do.REMOVE, b"a")
        real = there.tree._target._remove

        def late(*arguments: Any) -> None:
            (there.place / "a").unlink()
            real(*arguments)

        self.patch(there.tree._target, "_remove", late)
        self.fails(there.carrier.carry(action), ChangedMeanwhile)

    def test_a_folder_with_something_new_in_it(self) -> None:
        """Stays."""
        here, there = self.shared("d/a")
        (here.place / "d/a").unlink()
        (here.place / "d").rmdir()
        here.rest()
        actions = there.plan()
        there.write("d/new")
        self.assertFalse(there.work(actions))
        there.rest()
        here.rest()
        self.assertEqual(here.names(), ["d", "d/new"])


class YieldTests(CarryTestCase):
    """A local edit of something older than what is in the log."""

    def crossed(self, mine: bytes, theirs: bytes) -> Side:
        """A side whose edit is not in the log yet, and another's is."""
        here, there = self.shared("a.txt", b"before")
        here.write("a.txt", theirs)
        here.rest()
        there.write("a.txt", mine)
        return there

    def test_both_stay(self) -> None:
        """Ours under a name that says so; it is stored next."""
        there = self.crossed(b"mine", b"theirs")
        there.carry(there.step(Do.YIELD, b"a.txt"))
        copy, original = there.names()
        self.assertRegex(copy, r"^a\.conflict-[0-9a-f]{8}-[0-9a-f]{8}\.txt$")
        self.assertEqual((original, there.read(original), there.read(copy)), ("a.txt", b"theirs", b"mine"))
        self.assertIn((Do.UPLOAD, os.fsencode(copy)), [(action.do, action.path) for action in there.plan()])

    def test_equal_content(self) -> None:
        """Is no conflict: it is agreed on, with the mode that the log has."""
        there = self.crossed(b"the same", b"the same")
        (there.place / "a.txt").chmod(0o600)
        done = there.carry(there.step(Do.YIELD, b"a.txt"))
        assert done.agreed is not None
        self.assertEqual((there.names(), done.agreed.mode), (["a.txt"], 0o644))
        self.assertFalse(differs(there.tree.look(b"a.txt"), done.agreed))

    def test_only_the_mode_or_time_was_changed(self) -> None:
        """That is no edit: what is in the log takes its place."""
        there = self.crossed(b"before", b"theirs")
        (there.place / "a.txt").chmod(0o600)
        there.rest()
        self.assertEqual((there.names(), there.read("a.txt")), (["a.txt"], b"theirs"))

    def test_a_copy_of_that_name_is_there(self) -> None:
        """The next number is taken; nobody's file is replaced."""
        there = self.crossed(b"mine", b"theirs")
        action = there.step(Do.YIELD, b"a.txt")
        there.carry(action)
        (copy,) = (name for name in there.names() if "conflict" in name)
        there.write(copy, b"merged by hand")
        there.write("a.txt", b"mine")
        there.carry(action._replace(found=there.tree.look(b"a.txt")))
        self.assertEqual(there.read(copy), b"merged by hand")
        self.assertEqual(there.read(copy.replace(".txt", "-2.txt")), b"mine")

    def test_edited_while_the_other_is_fetched(self) -> None:
        """Nothing has moved yet."""
        there = self.crossed(b"mine", os.urandom(LARGE))
        self.when_asked_for("get_chunks", lambda: there.write("a.txt", b"mine, later"))
        self.refused(there, Do.YIELD, b"a.txt", ChangedMeanwhile)
        self.assertEqual((there.names(), there.read("a.txt")), (["a.txt"], b"mine, later"))

    def test_the_ring_fails(self) -> None:
        """The local file keeps its name as long as there is nothing to put there."""
        there = self.crossed(b"mine", os.urandom(LARGE))
        self.gateway.chunks.clear()
        self.refused(there, Do.YIELD, b"a.txt", Incomplete)
        self.assertEqual((there.names(), there.read("a.txt")), (["a.txt"], b"mine"))

    def test_a_file_for_a_folder(self) -> None:
        """What comes below needs the name; the file stays beside it."""
        here, there = self.two()
        here.write("a/b")
        here.rest()
        there.write("a", b"mine")
        there.rest()
        here.rest()
        self.assertEqual(here.names(), there.names())
        self.assertEqual([name for name in here.names() if "conflict" not in name], ["a", "a/b"])
        (copy,) = (name for name in here.names() if "conflict" in name)
        self.assertEqual(here.read(copy), b"mine")


class ResolveTests(CarryTestCase):
    """Versions that crossed on their way into the log."""

    def crossed(self) -> tuple[Side, Side]:
        """Two that logged an edit each before they saw the other's."""
        here, there = self.shared("a.txt", b"before")
        here.write("a.txt", b"from here")
        there.write("a.txt", b"from there")
        mine, theirs = here.plan(), there.plan()
        here.work(mine)
        there.work(theirs)
        return here, there

    def test_one_entry(self) -> None:
        """The copy, and that both were seen, are logged together."""
        here, _ = self.crossed()
        done = here.carry(here.step(Do.RESOLVE, b"a.txt"))
        copy, settled = done.changes
        self.assertIn(b".conflict-", copy.version.name.path)
        self.assertEqual(settled.version.name.path, b"a.txt")
        self.assertNotEqual(copy.version.name.sha256, settled.version.name.sha256)

    def test_the_same_on_both_sides(self) -> None:
        """Whoever settles it, and if both do: one copy, of one name."""
        here, there = self.crossed()
        mine, theirs = here.plan(), there.plan()
        here.work(mine)
        there.work(theirs)
        for side in (here, there, here, there):
            side.rest()
        self.assertEqual(here.names(), there.names())
        self.assertEqual(len(here.names()), 2)
        for side in (here, there):
            self.assertEqual({side.read(name) for name in side.names()}, {b"from here", b"from there"})
        self.assertEqual(len(here.versions(b"a.txt")), 2)
        self.assertEqual(len({version.name.sha256 for version in here.versions(b"a.txt")}), 1)

    def test_no_content_is_moved(self) -> None:
        """It is in the ring."""
        here, there = self.shared("a", b"before")
        here.write("a", os.urandom(LARGE))
        there.write("a", os.urandom(LARGE))
        mine, theirs = here.plan(), there.plan()
        here.work(mine)
        there.work(theirs)
        sent = self.gateway.sent
        here.rest()
        self.assertEqual(self.gateway.sent, sent)

    def test_the_copy_is_deleted_to_settle_it(self) -> None:
        """And does not come back."""
        here, there = self.crossed()
        here.rest()
        there.rest()
        here.rest()
        (copy,) = (name for name in here.names() if "conflict" in name)
        (there.place / copy).unlink()
        for side in (there, here, there):
            side.rest()
        self.assertEqual((here.names(), there.names()), (["a.txt"], ["a.txt"]))

    def test_a_folder_that_nobody_logged(self) -> None:
        """Is made in the log when a path needs one."""
        here, there = self.shared("a", b"file")
        file = here.versions(b"a")[0]
        action = there.step(Do.UPLOAD, b"a") if there.plan() else None
        self.assertIs(action, None)
        inner = self.result(there.client.again(FOLDER, b"a/b", file, ()))
        self.result(there.client.publish([inner]))
        for side in (there, here, there):
            side.rest()
        for side in (here, there):
            names = side.names()
            self.assertEqual([name for name in names if "conflict" not in name], ["a", "a/b"])
            self.assertEqual([side.read(name) for name in names if "conflict" in name], [b"file"])
            self.assertEqual(side.versions(b"a")[0].name.kind, NodeKind.FOLDER)


class StaleTests(CarryTestCase):
    """Content that the log had before is no edit of ours."""

    def test_ended_before_it_was_kept(self) -> None:
        """We placed a version and were killed; it was edited elsewhere since."""
        here, there = self.shared("a", b"one")
        here.write("a", b"two")
        here.rest()
        there.carry(there.step(Do.FETCH, b"a"))
        here.write("a", b"three")
        here.rest()
        there.rest()
        self.assertEqual((there.names(), there.read("a")), (["a"], b"three"))

    def test_an_old_backup_with_a_fresh_home(self) -> None:
        """Files as they were a month ago are brought up to date."""
        here, _ = self.shared("a", b"one")
        here.write("a", b"two")
        here.rest()
        third = self.side("third")
        third.write("a", b"one")
        third.write("b", b"never seen before")
        third.rest()
        self.assertEqual((third.names(), third.read("a")), (["a", "b"], b"two"))
