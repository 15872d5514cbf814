"""The plan, case by case."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from twisted.trial.unittest import SynchronousTestCase

from peerstore import vectors
from peerstore.client.source import Found
from peerstore.client.state import Agreed
from peerstore.files.manifest import NodeKind
from peerstore.sync.plan import Action, Do, above, differs, plan
from peerstore.transactions.view import PathVersion
from tests.support.sync_things import OTHER, OURS, THIRD, agreed_on, deleted, found, version

FOLDER, SYMLINK = NodeKind.FOLDER, NodeKind.SYMLINK


class PlanTestCase(SynchronousTestCase):
    """A local tree, an agreed tree and a log, put together path by path."""

    def setUp(self) -> None:
        self.local: dict[bytes, Found] = {}
        self.agreed: dict[bytes, Agreed] = {}
        self.remote: dict[bytes, list[PathVersion]] = {}

    def synced(self, path: bytes, content: bytes = b"", kind: NodeKind = NodeKind.FILE) -> PathVersion:
        """A path that is the same here and in the log."""
        last = version(path, content, kind=kind)
        there = found(path, content, kind)
        self.local[path], self.agreed[path], self.remote[path] = there, agreed_on(there, last), [last]
        return last

    def edited(self, path: bytes, content: bytes = b"mine") -> Found:
        """The local file was edited."""
        self.local[path] = found(path, content, stamp=2)
        return self.local[path]

    def logged(self, path: bytes, *standing: PathVersion) -> None:
        """The log says something else by now."""
        self.remote[path] = list(standing)

    def plan(self, unread: Iterable[bytes] = ()) -> list[Action]:
        return plan(self.local, self.agreed, self.remote, OURS, frozenset(unread))

    def steps(self, unread: Iterable[bytes] = ()) -> list[tuple[str, bytes]]:
        """The plan in short."""
        return [(action.do.name, action.path) for action in self.plan(unread)]

    def only(self, do: Do, path: bytes) -> Action:
        """The one step that there is to be."""
        actions = self.plan()
        self.assertEqual([(action.do, action.path) for action in actions], [(do, path)])
        return actions[0]


class DiffersTests(SynchronousTestCase):
    """Whether the disk is what was agreed."""

    def test_presence(self) -> None:
        """One side only is a difference, none on both is not."""
        there = found(b"a", b"x")
        last = agreed_on(there, version(b"a", b"x"))
        self.assertFalse(differs(None, None))
        self.assertTrue(differs(there, None))
        self.assertTrue(differs(None, last))
        self.assertFalse(differs(there, last))

    def test_each_attribute_of_a_file(self) -> None:
        """Kind, mode, size, time and inode."""
        there = found(b"a", b"x")
        last = agreed_on(there, version(b"a", b"x"))
        for change in (
            {"kind": SYMLINK},
            {"mode": 0o600},
            {"size": 9},
            {"mtime_ns": 9},
            {"inode": 9},
        ):
            self.assertTrue(differs(there._replace(**change), last), change)
        self.assertFalse(differs(there._replace(ctime_ns=9), last))

    def test_a_folders_time_does_not_count(self) -> None:
        """It changes with what is in it; its mode counts."""
        there = found(b"a", kind=FOLDER)
        last = agreed_on(there, version(b"a", kind=FOLDER))
        self.assertFalse(differs(there._replace(mtime_ns=9, inode=9), last))
        self.assertTrue(differs(there._replace(mode=0o700), last))

    def test_above(self) -> None:
        """The folders on the way, the nearest first."""
        self.assertEqual(above(b"a/b/c"), [b"a/b", b"a"])
        self.assertEqual(above(b"a"), [])


class OneSideTests(PlanTestCase):
    """What changed on one side is carried to the other."""

    def test_nothing_changed(self) -> None:
        """Nothing is done."""
        self.synced(b"a", b"x")
        self.synced(b"d", kind=FOLDER)
        self.assertEqual(self.plan(), [])

    def test_new_here(self) -> None:
        """It is stored, derived from nothing."""
        self.local[b"a"] = found(b"a", b"x")
        self.assertEqual(self.only(Do.UPLOAD, b"a").vector, ())

    def test_edited_here(self) -> None:
        """It is stored, derived from what was agreed."""
        last = self.synced(b"a", b"x")
        self.edited(b"a")
        step = self.only(Do.UPLOAD, b"a")
        self.assertEqual((step.vector, step.found), (last.vector, self.local[b"a"]))

    def test_deleted_here(self) -> None:
        """A tombstone covers what was agreed."""
        last = self.synced(b"a", b"x")
        del self.local[b"a"]
        self.assertEqual(self.only(Do.DELETE, b"a").vector, last.vector)

    def test_new_there(self) -> None:
        """It is fetched."""
        new = version(b"a", b"x")
        self.logged(b"a", new)
        step = self.only(Do.FETCH, b"a")
        self.assertEqual((step.version, step.found, step.vector), (new, None, new.vector))

    def test_edited_there(self) -> None:
        """It is fetched, in place of what was agreed."""
        self.synced(b"a", b"x")
        self.logged(b"a", version(b"a", b"y", ((OTHER, 2),)))
        self.assertEqual(self.only(Do.FETCH, b"a").found, self.local[b"a"])

    def test_deleted_there(self) -> None:
        """It is removed."""
        self.synced(b"a", b"x")
        self.logged(b"a", deleted(b"a"))
        self.assertEqual(self.only(Do.REMOVE, b"a").found, self.local[b"a"])

    def test_gone_on_both_sides(self) -> None:
        """Nothing is agreed any more."""
        self.synced(b"a", b"x")
        del self.local[b"a"]
        self.logged(b"a", deleted(b"a"))
        self.only(Do.FORGET, b"a")

    def test_deleted_there_and_never_here(self) -> None:
        """A tombstone alone is nothing to do."""
        self.logged(b"a", deleted(b"a"))
        self.assertEqual(self.plan(), [])

    def test_links_and_empty_folders(self) -> None:
        """They go both ways like files."""
        self.local[b"l"] = found(b"l", b"target", SYMLINK)
        self.local[b"d"] = found(b"d", kind=FOLDER)
        self.logged(b"m", version(b"m", b"target", kind=SYMLINK))
        self.logged(b"e", version(b"e", kind=FOLDER))
        self.assertEqual(self.steps(), [("FETCH", b"e"), ("FETCH", b"m"), ("UPLOAD", b"d"), ("UPLOAD", b"l")])

    def test_a_mode_changed_here(self) -> None:
        """It is a new version."""
        self.synced(b"a", b"x")
        self.local[b"a"] = self.local[b"a"]._replace(mode=0o755)
        self.only(Do.UPLOAD, b"a")


class RenameTests(PlanTestCase):
    """A rename is something new and something gone."""

    def test_here(self) -> None:
        """The new name is in the log before the old one goes."""
        self.synced(b"a", b"x")
        del self.local[b"a"]
        self.local[b"b"] = found(b"b", b"x")
        self.assertEqual(self.steps(), [("UPLOAD", b"b"), ("DELETE", b"a")])

    def test_there(self) -> None:
        """The new name is fetched while the old one, with the content, is
        still here."""
        self.synced(b"a", b"x")
        self.logged(b"a", deleted(b"a"))
        self.logged(b"b", version(b"b", b"x"))
        self.assertEqual(self.steps(), [("FETCH", b"b"), ("REMOVE", b"a")])

    def test_a_folder_with_things_in_it(self) -> None:
        """Folders come before what is in them, and go after it."""
        for path, kind in ((b"a", FOLDER), (b"a/b", FOLDER), (b"a/b/c", NodeKind.FILE)):
            self.synced(path, kind=kind)
            self.logged(path, deleted(path))
            self.logged(b"n" + path, version(b"n" + path, kind=kind))
        self.assertEqual(
            self.steps(),
            [
                ("FETCH", b"na"),
                ("FETCH", b"na/b"),
                ("FETCH", b"na/b/c"),
                ("REMOVE", b"a/b/c"),
                ("REMOVE", b"a/b"),
                ("REMOVE", b"a"),
            ],
        )


class EditBeatsDeleteTests(PlanTestCase):
    """Whichever side it is on."""

    def test_deleted_there_edited_here(self) -> None:
        """The edit is stored."""
        last = self.synced(b"a", b"x")
        self.edited(b"a")
        self.logged(b"a", deleted(b"a"))
        self.assertEqual(self.only(Do.UPLOAD, b"a").vector, last.vector)

    def test_deleted_here_edited_there(self) -> None:
        """The edit is fetched."""
        self.synced(b"a", b"x")
        del self.local[b"a"]
        self.logged(b"a", version(b"a", b"y", ((OTHER, 2),)))
        self.only(Do.FETCH, b"a")

    def test_both_in_the_log(self) -> None:
        """The file stands, and what comes next covers the tombstone, too."""
        edit, tombstone = version(b"a", b"y", ((OTHER, 1), (THIRD, 1))), deleted(b"a", ((OTHER, 2),))
        self.logged(b"a", edit, tombstone)
        self.assertEqual(self.only(Do.FETCH, b"a").vector, vectors.join([edit.vector, tombstone.vector]))

    def test_only_the_mode_was_edited_there(self) -> None:
        """That is no edit: the deletion stands, and covers it."""
        self.synced(b"a", b"x")
        del self.local[b"a"]
        moded = version(b"a", b"x", ((OTHER, 2),), mode=0o600)
        self.logged(b"a", moded)
        self.assertEqual(self.only(Do.DELETE, b"a").vector, moded.vector)

    def test_a_folder_with_an_edit_in_it(self) -> None:
        """Deleted there with all that was in it, of which one file was edited
        here: the folder comes back with it, and the rest goes."""
        self.synced(b"d", kind=FOLDER)
        self.synced(b"d/a", b"x")
        self.synced(b"d/b", b"x")
        self.edited(b"d/a")
        for path in (b"d", b"d/a", b"d/b"):
            self.logged(path, deleted(path))
        self.assertEqual(self.steps(), [("UPLOAD", b"d"), ("UPLOAD", b"d/a"), ("REMOVE", b"d/b")])

    def test_a_deleted_folder_with_something_new_in_it(self) -> None:
        """Deleted here, while a file was put into it there: it comes back."""
        self.synced(b"d", kind=FOLDER)
        del self.local[b"d"]
        self.logged(b"d/new", version(b"d/new", b"x"))
        self.assertEqual(self.steps(), [("FETCH", b"d"), ("FETCH", b"d/new")])


class LocalConflictTests(PlanTestCase):
    """A local edit of something older than what is in the log."""

    def test_the_log_keeps_the_name(self) -> None:
        """The local file steps aside."""
        self.synced(b"a", b"x")
        mine = self.edited(b"a")
        theirs = version(b"a", b"y", ((OTHER, 2),))
        self.logged(b"a", theirs)
        step = self.only(Do.YIELD, b"a")
        self.assertEqual((step.found, step.version, step.vector), (mine, theirs, theirs.vector))

    def test_two_folders_that_meet_for_the_first_time(self) -> None:
        """Nothing was agreed: a file of the same name may have other content,
        a folder is the same folder."""
        self.local[b"a"], self.local[b"d"] = found(b"a", b"x"), found(b"d", kind=FOLDER)
        self.logged(b"a", version(b"a", b"y"))
        self.logged(b"d", version(b"d", kind=FOLDER))
        self.assertEqual(self.steps(), [("YIELD", b"a"), ("FETCH", b"d")])

    def test_another_mode_there_is_no_conflict(self) -> None:
        """The local edit is derived from the version that has it."""
        last = self.synced(b"a", b"x")
        self.edited(b"a")
        moded = version(b"a", b"x", ((OTHER, 2),), mode=0o600)
        self.logged(b"a", moded)
        self.assertEqual(self.only(Do.UPLOAD, b"a").vector, vectors.join([last.vector, moded.vector]))

    def test_a_folder_here_and_an_edit_there(self) -> None:
        """An empty folder has nothing to lose."""
        self.synced(b"a", b"x")
        self.local[b"a"] = found(b"a", kind=FOLDER, stamp=2)
        self.logged(b"a", version(b"a", b"y", ((OTHER, 2),)))
        self.only(Do.FETCH, b"a")

    def test_an_edit_here_and_an_empty_folder_there(self) -> None:
        """The edit is kept beside it."""
        self.synced(b"a", b"x")
        self.edited(b"a")
        self.logged(b"a", version(b"a", vector=((OTHER, 2),), kind=FOLDER))
        self.only(Do.YIELD, b"a")


class CrossedTests(PlanTestCase):
    """Versions that crossed on their way into the log."""

    def crossed(self, *contents: bytes) -> list[PathVersion]:
        """Concurrent versions of a path, the first of which has the name."""
        devices = (OTHER, THIRD, OURS)
        return [
            version(b"a", content, ((devices[at], 9),), clock=9 - at, device=devices[at])
            for at, content in enumerate(contents)
        ]

    def test_who_lost_the_name(self) -> None:
        """The winner is fetched, and the other is logged beside it, in one
        entry that covers both."""
        winner, loser = self.crossed(b"x", b"y")
        self.logged(b"a", winner, loser)
        there = found(b"a", b"y")
        self.local[b"a"], self.agreed[b"a"] = there, agreed_on(there, loser)
        fetch, resolve = self.plan()
        self.assertEqual((fetch.do, fetch.version, fetch.found), (Do.FETCH, winner, there))
        self.assertEqual((resolve.do, resolve.version), (Do.RESOLVE, winner))
        self.assertEqual(resolve.vector, vectors.join([winner.vector, loser.vector]))
        (copy,) = resolve.copies
        self.assertEqual(copy.version, loser)
        self.assertRegex(copy.path, rb"^a\.conflict-d3d3d3d3-[0-9a-f]{8}$")

    def test_who_kept_the_name(self) -> None:
        """Names the copy alike."""
        winner, loser = self.crossed(b"x", b"y")
        self.logged(b"a", winner, loser)
        there = found(b"a", b"x")
        self.local[b"a"], self.agreed[b"a"] = there, agreed_on(there, winner)
        step = self.only(Do.RESOLVE, b"a")
        self.assertEqual([copy.version for copy in step.copies], [loser])

    def test_what_is_agreed_does_not_cover_the_loser(self) -> None:
        """Nobody here has seen it yet: an edit of the winner leaves it."""
        winner, loser = self.crossed(b"x", b"y")
        self.logged(b"a", winner, loser)
        fetch, _ = self.plan()
        self.assertFalse(vectors.covers(fetch.vector, loser.vector))

    def test_three_versions(self) -> None:
        """One copy for each that lost."""
        winner, second, third = self.crossed(b"x", b"y", b"z")
        self.logged(b"a", winner, second, third)
        resolve = self.plan()[-1]
        self.assertEqual([copy.version for copy in resolve.copies], [second, third])

    def test_equal_content(self) -> None:
        """Is no conflict; both are agreed on."""
        one, other = self.crossed(b"x", b"x")
        self.logged(b"a", one, other)
        self.assertEqual(self.only(Do.FETCH, b"a").vector, vectors.join([one.vector, other.vector]))

    def test_equal_content_of_the_losers(self) -> None:
        """Needs one copy."""
        winner, second, third = self.crossed(b"x", b"y", b"y")
        self.logged(b"a", winner, second, third)
        self.assertEqual(len(self.plan()[-1].copies), 1)

    def test_an_edit_after_equal_content_covers_both(self) -> None:
        """What was agreed holds for all that are equal."""
        one, other = self.crossed(b"x", b"x")
        there = found(b"a", b"x")
        both = vectors.join([one.vector, other.vector])
        self.agreed[b"a"] = agreed_on(there, one, both)
        self.logged(b"a", one, other)
        self.edited(b"a")
        self.assertEqual(self.only(Do.UPLOAD, b"a").vector, both)

    def test_a_copy_that_is_in_the_log_already(self) -> None:
        """Is not logged again, also if it was settled, that is deleted."""
        winner, loser = self.crossed(b"x", b"y")
        self.logged(b"a", winner, loser)
        (copy,) = self.plan()[-1].copies
        self.logged(copy.path, deleted(copy.path))
        resolve = self.plan()[-1]
        self.assertEqual((resolve.do, resolve.copies), (Do.RESOLVE, ()))

    def test_a_device_does_not_cover_its_own_loser_by_accident(self) -> None:
        """Our next number covers all our earlier ones.  So what we log at a
        path where a version of ours has lost takes its copy along."""
        winner, loser = self.crossed(b"x", b"y")
        loser = version(b"a", b"y", ((OURS, 1),), device=OURS)
        there = found(b"a", b"x")
        self.agreed[b"a"] = agreed_on(there, winner)
        self.logged(b"a", winner, loser)
        self.edited(b"a")
        step = self.only(Do.UPLOAD, b"a")
        self.assertEqual([copy.version for copy in step.copies], [loser])
        del self.local[b"a"]
        self.assertEqual([copy.version for copy in self.only(Do.DELETE, b"a").copies], [loser])

    def test_somebody_elses_loser_stays(self) -> None:
        """An edit of the winner does not touch it; it is settled next."""
        winner, loser = self.crossed(b"x", b"y")
        there = found(b"a", b"x")
        self.agreed[b"a"] = agreed_on(there, winner)
        self.logged(b"a", winner, loser)
        self.edited(b"a")
        self.assertEqual(self.only(Do.UPLOAD, b"a").copies, ())


class FileAndFolderTests(PlanTestCase):
    """A path with something in it is a folder."""

    def test_a_file_becomes_a_folder_here(self) -> None:
        """First the folder, then what is in it; no copy of the file."""
        last = self.synced(b"a", b"x")
        self.local[b"a"] = found(b"a", kind=FOLDER, stamp=2)
        self.local[b"a/b"] = found(b"a/b", b"y")
        folder, file = self.plan()
        self.assertEqual((folder.do, folder.path, folder.vector), (Do.UPLOAD, b"a", last.vector))
        self.assertEqual((file.do, file.path), (Do.UPLOAD, b"a/b"))
        self.assertEqual(folder.copies, ())

    def test_a_file_becomes_a_folder_there(self) -> None:
        """The folder takes its place before what is in it comes."""
        self.synced(b"a", b"x")
        self.logged(b"a", version(b"a", vector=((OTHER, 2),), kind=FOLDER))
        self.logged(b"a/b", version(b"a/b", b"y"))
        self.assertEqual(self.steps(), [("FETCH", b"a"), ("FETCH", b"a/b")])

    def test_a_folder_becomes_a_file_here(self) -> None:
        """What was in it leaves the log before the file comes: in between,
        nobody sees a file with something in it."""
        self.synced(b"a", kind=FOLDER)
        self.synced(b"a/b", b"y")
        del self.local[b"a/b"]
        self.edited(b"a")
        self.assertEqual(self.steps(), [("DELETE", b"a/b"), ("UPLOAD", b"a")])

    def test_a_folder_becomes_a_file_there(self) -> None:
        """What was in it goes before the file comes."""
        self.synced(b"a", kind=FOLDER)
        self.synced(b"a/b", b"y")
        self.logged(b"a/b", deleted(b"a/b"))
        self.logged(b"a", version(b"a", b"x", ((OTHER, 2),)))
        self.assertEqual(self.steps(), [("REMOVE", b"a/b"), ("FETCH", b"a")])

    def test_a_file_there_and_something_new_below_here(self) -> None:
        """The folder stays, and the file is logged beside it once the folder
        is in the log."""
        self.synced(b"a", kind=FOLDER)
        self.local[b"a/b"] = found(b"a/b", b"y")
        file = version(b"a", b"x", ((OTHER, 2),))
        self.logged(b"a", file)
        self.assertEqual(self.steps(), [("UPLOAD", b"a"), ("UPLOAD", b"a/b")])
        self.agreed[b"a/b"] = agreed_on(self.local[b"a/b"], version(b"a/b", b"y"))
        folder = version(b"a", vector=((OTHER, 1), (OURS, 5)), kind=FOLDER, device=OURS)
        self.agreed[b"a"] = agreed_on(self.local[b"a"], folder)
        self.logged(b"a/b", version(b"a/b", b"y"))
        self.logged(b"a", folder, file)
        step = self.only(Do.RESOLVE, b"a")
        self.assertEqual((step.version, [copy.version for copy in step.copies]), (folder, [file]))

    def test_a_file_here_where_a_folder_has_to_be(self) -> None:
        """An unsynced file steps aside for what comes below it."""
        self.local[b"a"] = found(b"a", b"x")
        self.logged(b"a", version(b"a", kind=FOLDER))
        self.logged(b"a/b", version(b"a/b", b"y"))
        self.assertEqual(self.steps(), [("YIELD", b"a"), ("FETCH", b"a/b")])

    def test_a_synced_file_where_the_log_has_things_below(self) -> None:
        """The log is settled first: the file becomes a copy, the path a
        folder; until then what is below waits."""
        last = self.synced(b"a", b"x")
        self.logged(b"a/b", version(b"a/b", b"y"))
        step = self.only(Do.RESOLVE, b"a")
        self.assertEqual((step.version, [copy.version for copy in step.copies]), (None, [last]))

    def test_a_deleted_file_where_the_log_has_things_below(self) -> None:
        """It goes before they come."""
        self.synced(b"a", b"x")
        self.logged(b"a", deleted(b"a"))
        self.logged(b"a/b", version(b"a/b", b"y"))
        self.assertEqual(self.steps(), [("REMOVE", b"a"), ("FETCH", b"a/b")])


class UnreadTests(PlanTestCase):
    """What could not be looked at is not absent."""

    def test_an_unreadable_file(self) -> None:
        """Nothing is done about it, whatever the log says."""
        self.synced(b"a", b"x")
        del self.local[b"a"]
        self.assertEqual(self.steps([b"a"]), [])
        self.logged(b"a", version(b"a", b"y", ((OTHER, 2),)))
        self.assertEqual(self.steps([b"a"]), [])
        self.logged(b"a", deleted(b"a"))
        self.assertEqual(self.steps([b"a"]), [])

    def test_all_below_an_unreadable_folder(self) -> None:
        """Nor about what may be in it."""
        self.synced(b"d", kind=FOLDER)
        self.synced(b"d/s", kind=FOLDER)
        self.synced(b"d/s/a", b"x")
        del self.local[b"d/s/a"], self.local[b"d/s"]
        self.logged(b"d/new", version(b"d/new", b"y"))
        self.assertEqual(self.steps([b"d"]), [])

    def test_a_folder_that_holds_something_unknown(self) -> None:
        """Deleted there: it stays, since nothing that is not in the log is
        ever removed."""
        self.synced(b"d", kind=FOLDER)
        self.synced(b"d/a", b"x")
        for path in (b"d", b"d/a"):
            self.logged(path, deleted(path))
        self.assertEqual(self.steps([b"d/pipe"]), [("REMOVE", b"d/a")])

    def test_a_file_where_a_folder_with_something_unknown_is(self) -> None:
        """Neither is it replaced by a file."""
        self.synced(b"d", kind=FOLDER)
        self.logged(b"d", version(b"d", b"x", ((OTHER, 2),)))
        self.assertEqual(self.steps([b"d/pipe"]), [])
        del self.agreed[b"d"]
        self.assertEqual(self.steps([b"d/pipe"]), [])


class NameTests(PlanTestCase):
    """Names from elsewhere."""

    def test_names_that_lead_out(self) -> None:
        """Each is left out, and the rest is fetched."""
        hostile: Sequence[bytes] = (
            b"",
            b"..",
            b"../x",
            b"/etc/x",
            b"a//x",
            b"a/./x",
            b"a/../../x",
            b"nul\0",
            b"x" * 256,
            b".peerstore-mark",
            b"a/.peerstore-sync/x",
        )
        for path in (*hostile, b"fine"):
            self.logged(path, version(path, b"x"))
        self.assertEqual(self.steps(), [("FETCH", b"fine")])

    def test_names_that_are_no_text(self) -> None:
        """Names are bytes."""
        self.local[b"\xff\xfe"] = found(b"\xff\xfe", b"x")
        self.logged(b"\xe4", version(b"\xe4", b"x"))
        self.assertEqual(self.steps(), [("FETCH", b"\xe4"), ("UPLOAD", b"\xff\xfe")])
