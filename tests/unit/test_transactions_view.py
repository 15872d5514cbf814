"""Folders as the log tells of them: what stands, and who has the name."""

from __future__ import annotations

import random

import msgspec
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore.files.head import Head, Version, winner
from peerstore.transactions.chain import LoggedEntry
from peerstore.transactions.entry import (
    CONTENT,
    NameRecord,
    Operation,
    OperationKind,
    pack_name,
    unpack_name,
)
from peerstore.transactions.view import FolderView, PathVersion
from peerstore.vectors import covers
from tests.support.logs import OWNER, delete, entry, histories, update, version_id
from tests.support.properties import DEVICES, check

ONE, TWO, THREE = DEVICES
V1, V2, V3 = version_id(1), version_id(2), version_id(3)


def naive(entries: list[LoggedEntry], until_ns: int | None = None) -> dict[tuple[str, bytes], list[bytes]]:
    """{(folder, path): version ids, who has the name first}, by the words of
    the definition and by looking at every pair."""
    told: dict[tuple[str, bytes], list[tuple[Operation, bytes, bool]]] = {}
    for logged in entries:
        if until_ns is not None and logged.entry.wall_ns > until_ns:
            continue
        for operation in logged.entry.operations:
            if operation.kind in CONTENT:
                name = unpack_name(operation.sealed)
                deleted = operation.kind == OperationKind.DELETE
                told.setdefault((name.folder, name.path), []).append((operation, logged.entry.device, deleted))
    result = {}
    for place, versions in told.items():
        standing = [
            one
            for one in versions
            if not any(
                other[0].vector != one[0].vector and covers(other[0].vector, one[0].vector) for other in versions
            )
        ]
        standing.sort(key=lambda one: (not one[2], one[0].clock, one[1], one[0].version), reverse=True)
        result[place] = [one[0].version for one in standing]
    return result


def seen(view: FolderView) -> dict[tuple[str, bytes], list[bytes]]:
    """The same of a view; the folders are known, since one is used."""
    return {("home", path): [v.version for v in view.versions("home", path)] for path in view.paths("home")}


class ModelTests(SynchronousTestCase):
    """Any history, in any order, against the definition."""

    @check(histories(), examples=150)
    def test_it_is_what_the_definition_says(self, entries: list[LoggedEntry]) -> None:
        """Every path, every version that stands, in order of precedence."""
        self.assertEqual(seen(FolderView(entries)), naive(entries))

    @check(histories(), st.randoms(use_true_random=False), examples=150)
    def test_the_order_of_arrival_does_not_matter(self, entries: list[LoggedEntry], rng: random.Random) -> None:
        """Shuffled, and with some told twice, it is the same view."""
        shuffled = entries + entries[: len(entries) // 2]
        rng.shuffle(shuffled)
        one, other = FolderView(entries), FolderView(shuffled)
        self.assertEqual(one.tree("home"), other.tree("home"))
        self.assertEqual(seen(one), seen(other))
        self.assertEqual(one.folders(), other.folders())
        self.assertEqual(one.last_writer("home"), other.last_writer("home"))

    @check(histories(), st.integers(-1, 5), examples=100)
    def test_the_past_is_a_view_of_fewer_entries(self, entries: list[LoggedEntry], moment: int) -> None:
        """until_ns leaves out what was written after it, and nothing else."""
        self.assertEqual(seen(FolderView(entries, moment)), naive(entries, moment))

    @check(histories(), examples=100)
    def test_heads_and_log_give_the_name_to_the_same_version(self, entries: list[LoggedEntry]) -> None:
        """A reader of heads alone comes to the owner's conclusion."""
        view = FolderView(entries)
        for path in view.paths("home"):
            heads = [
                Version(
                    operation.version,
                    Head(
                        OWNER,
                        operation.resource,
                        operation.vector,
                        operation.clock,
                        logged.entry.device,
                        0,
                        None,
                        bytes(16),
                        b"",
                        b"",
                        (),
                        b"",
                        operation.kind == OperationKind.DELETE,
                    ),
                )
                for logged in entries
                for operation in logged.entry.operations
                if unpack_name(operation.sealed).path == path
            ]
            first = winner(heads)
            assert first is not None
            self.assertEqual(view.versions("home", path)[0].version, first.id)


class StandingTests(SynchronousTestCase):
    """One path, a few versions."""

    def versions(self, *entries: LoggedEntry) -> list[bytes]:
        """What stands at the path."""
        return [version.version for version in FolderView(entries).versions("home", b"f")]

    def test_a_later_version_replaces_the_one_it_was_derived_from(self) -> None:
        """In either order of arrival."""
        old, new = entry(1, update(b"f", ((ONE, 1),), V1)), entry(2, update(b"f", ((ONE, 2),), V2))
        self.assertEqual(self.versions(old, new), [V2])
        self.assertEqual(self.versions(new, old), [V2])

    def test_edits_that_crossed_both_stand(self) -> None:
        """The higher clock has the name."""
        one = entry(1, update(b"f", ((ONE, 1),), V1, clock=9), device=ONE)
        two = entry(1, update(b"f", ((TWO, 1),), V2, clock=3), device=TWO)
        self.assertEqual(self.versions(one, two), [V1, V2])

    def test_the_name_goes_by_the_heads_clock(self) -> None:
        """An entry that was sent late does not win by that: readers who see
        heads and no log must come to the same name."""
        early = entry(1, update(b"f", ((ONE, 1),), V1, clock=3), device=ONE, clock=50)
        late = entry(1, update(b"f", ((TWO, 1),), V2, clock=4), device=TWO, clock=10)
        self.assertEqual(self.versions(early, late), [V2, V1])

    def test_ties_go_by_device_and_then_by_id(self) -> None:
        """Equal clocks: the higher device; one device: the higher id."""
        one = entry(1, update(b"f", ((ONE, 1),), V3, clock=5), device=ONE)
        two = entry(1, update(b"f", ((TWO, 1),), V1, clock=5), device=TWO)
        self.assertEqual(self.versions(one, two), [V1, V3])
        twins = entry(1, update(b"f", ((ONE, 1),), V1), update(b"f", ((ONE, 1),), V2))
        self.assertEqual(self.versions(twins), [V2, V1])

    def test_an_edit_beats_a_deletion_that_crossed_it(self) -> None:
        """Even with the lower clock; the tombstone stands beside it."""
        edit = entry(1, update(b"f", ((ONE, 1),), V1, clock=1), device=ONE)
        gone = entry(1, delete(b"f", ((TWO, 1),), V2, clock=9), device=TWO)
        self.assertEqual(self.versions(edit, gone), [V1, V2])
        self.assertFalse(FolderView([edit, gone]).versions("home", b"f")[0].deleted)

    def test_one_that_was_told_twice_counts_once(self) -> None:
        """As it was told first, whichever entry came first."""
        change = update(b"f", ((ONE, 1),), V1)
        first, again = entry(1, change, wall_ns=5), entry(2, change, wall_ns=8)
        for order in ([first, again], [again, first]):
            (version,) = FolderView(order).versions("home", b"f")
            self.assertEqual(version.wall_ns, 5)

    def test_a_merge_replaces_all_that_it_has_seen(self) -> None:
        """Three edits that crossed, and one derived from two of them."""
        crossed = [
            entry(1, update(b"f", ((device, 1),), version_id(7 + at)), device=device)
            for at, device in enumerate(DEVICES)
        ]
        joined = entry(2, update(b"f", ((ONE, 2), (TWO, 1)), V1, clock=9))
        self.assertEqual(self.versions(*crossed, joined), [V1, version_id(9)])


class FolderTests(SynchronousTestCase):
    """Trees, deletions, moves."""

    def test_a_deleted_path_does_not_stand_and_is_remembered(self) -> None:
        """Not in the tree, no current version, and a tombstone among paths."""
        view = FolderView([entry(1, update(b"f", ((ONE, 1),), V1)), entry(2, delete(b"f", ((ONE, 2),), V2))])
        self.assertEqual(view.tree("home"), {})
        self.assertIsNone(view.current("home", b"f"))
        self.assertEqual(view.paths("home"), [b"f"])
        self.assertTrue(view.versions("home", b"f")[0].deleted)
        self.assertEqual(view.folders(), [])

    def test_what_was_deleted_can_come_back(self) -> None:
        """A new version derived from the tombstone stands."""
        view = FolderView([entry(1, delete(b"f", ((ONE, 1),), V1)), entry(2, update(b"f", ((ONE, 2),), V2))])
        self.assertEqual([v.version for v in view.versions("home", b"f")], [V2])
        self.assertEqual(view.folders(), ["home"])

    def test_a_move_is_a_deletion_here_and_a_version_there(self) -> None:
        """Both in one entry; the content stands at the new path only."""
        moved = update(b"new", ((ONE, 3),), V3, kind=OperationKind.MOVE)
        view = FolderView([entry(1, update(b"old", ((ONE, 1),), V1)), entry(2, delete(b"old", ((ONE, 2),), V2), moved)])
        self.assertEqual(list(view.tree("home")), [b"new"])
        self.assertEqual(view.tree("home")[b"new"].version, V3)

    def test_the_tree_is_sorted(self) -> None:
        """By path, as bytes."""
        changes = [
            update(path, ((ONE, at + 1),), version_id(at)) for at, path in enumerate((b"b", b"a/x", b"\xff", b"a"))
        ]
        self.assertEqual(list(FolderView([entry(1, *changes)]).tree("home")), [b"a", b"a/x", b"b", b"\xff"])

    def test_folders_do_not_mix(self) -> None:
        """The same path in two folders is two paths."""
        view = FolderView(
            [entry(1, update(b"f", ((ONE, 1),), V1, folder="x"), update(b"f", ((ONE, 2),), V2, folder="y"))]
        )
        self.assertEqual(view.folders(), ["x", "y"])
        self.assertEqual([view.tree(name)[b"f"].version for name in ("x", "y")], [V1, V2])

    def test_what_nobody_told_of(self) -> None:
        """Empty answers, no errors."""
        view = FolderView()
        self.assertEqual((view.folders(), view.paths("x"), view.tree("x"), view.versions("x", b"f")), ([], [], {}, []))
        self.assertIsNone(view.last_writer("x"))
        self.assertIsNone(view.current("x", b"f"))

    def test_the_last_writer_is_the_one_of_the_latest_entry(self) -> None:
        """In the order of the log, not of arrival, and folder by folder."""
        late = entry(1, update(b"f", ((TWO, 1),), V2), device=TWO, clock=9)
        early = entry(1, update(b"f", ((ONE, 1),), V1), device=ONE, clock=3)
        self.assertEqual(FolderView([late, early]).last_writer("home"), TWO)
        self.assertIsNone(FolderView([late]).last_writer("other"))

    def test_other_kinds_of_operations_change_no_path(self) -> None:
        """Snapshots, settings and the like are not the view's."""
        others = [
            Operation(kind, bytes(20), bytes(32), (), 0, b"anything") for kind in OperationKind if kind not in CONTENT
        ]
        view = FolderView()
        self.assertEqual(view.add(entry(1, *others)), [])
        self.assertEqual((view.folders(), view.unread), ([], 0))


class UnreadableTests(SynchronousTestCase):
    """One operation that says nothing must not hide all the others."""

    def unreadable(self) -> list[Operation]:
        """Garbage, a kind from the future, and names at odds with their kind."""
        good = update(b"f", ((ONE, 1),), V1)
        record = unpack_name(good.sealed)
        future = pack_name(msgspec.structs.replace(record, kind=9))
        gone = delete(b"f", ((ONE, 1),), V1)
        return [
            msgspec.structs.replace(good, sealed=b""),
            msgspec.structs.replace(good, sealed=b"\xc1\xc1"),
            msgspec.structs.replace(good, sealed=future),
            msgspec.structs.replace(good, kind=OperationKind.DELETE),
            msgspec.structs.replace(gone, kind=OperationKind.UPDATE),
        ]

    def test_the_rest_of_the_entry_stands(self) -> None:
        """Also what comes after it, in the entry and in the log."""
        for bad in self.unreadable():
            view = FolderView([entry(1, update(b"a", ((ONE, 2),), V2), bad, update(b"b", ((ONE, 3),), V3))])
            self.assertEqual(list(view.tree("home")), [b"a", b"b"])
            self.assertEqual(view.unread, 1)

    def test_it_is_counted_once(self) -> None:
        """However often the entry is told."""
        view = FolderView()
        for _ in range(3):
            self.assertEqual(view.add(entry(1, *self.unreadable())), [])
        self.assertEqual(view.unread, len(self.unreadable()))


class VersionTests(SynchronousTestCase):
    """What ``add`` tells."""

    def test_all_that_an_entry_holds(self) -> None:
        """Every field as it was logged."""
        change = update(b"f", ((ONE, 1),), V1, clock=4)
        (version,) = FolderView().add(entry(1, change, clock=6, wall_ns=77))
        name = NameRecord("home", b"f", 1, 3, 0, 0o644, bytes(32))
        self.assertEqual(version, PathVersion(change.resource, V1, ((ONE, 1),), name, 4, ONE, 77))

    def test_what_is_history_already_is_told_too(self) -> None:
        """The caller may want to know of it."""
        view = FolderView([entry(2, update(b"f", ((ONE, 2),), V2))])
        self.assertEqual([v.version for v in view.add(entry(1, update(b"f", ((ONE, 1),), V1)))], [V1])
