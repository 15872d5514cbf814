"""What to do about a folder; pure.

Three things are compared path by path: the local tree as it is, the tree on
which this device and the log last agreed, and what the log says stands
there.  What differs from the agreed tree on one side only is carried to the
other; where both differ, both contents stay.

- An edit beats a deletion, whichever side it is on.
- A version that is in the log keeps the name.  A local edit of something
  older steps aside, under a name that says so, and goes up under that name.
- Where two versions crossed on their way into the log, the log decides who
  has the name, the same for all.  Whoever sees it logs a copy of the other
  content, and that both were seen: in one entry, so that nothing is lost
  between the two.
- A path with something in it is a folder.  A file that has the same name
  becomes a copy beside it.
- Equal content is no conflict, and neither is another mode or time.
- What could not be looked at is not absent: nothing is done about it.

A time alone is no edit and is not carried.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from peerstore import vectors
from peerstore.client.source import Found
from peerstore.client.state import Agreed
from peerstore.files.manifest import NodeKind
from peerstore.files.safepath import is_safe
from peerstore.sync.naming import conflict_name, has_copy
from peerstore.transactions.view import PathVersion
from peerstore.vectors import EMPTY, Vector

__all__ = ["Action", "Copy", "Do", "above", "differs", "plan", "same_content"]


class Do(IntEnum):
    """What is to be done, in the order in which it is done, mostly."""

    YIELD = 1
    FETCH = 2
    UPLOAD = 3
    DELETE = 4
    REMOVE = 5
    RESOLVE = 6
    FORGET = 7


class Copy(NamedTuple):
    """A version to be logged once more, at another path."""

    path: bytes
    version: PathVersion


class Action(NamedTuple):
    """One step for one path.

    ======== ==============================================================
    action   meaning
    ======== ==============================================================
    YIELD    *found* is an edit of ours of something older: keep it under
             another name, and write *version* here (None: nothing)
    FETCH    write *version* here, in place of *found*, which is in the log
    UPLOAD   store *found* as a new version, derived from *vector*
    DELETE   log a tombstone that covers *vector*
    REMOVE   take *found* away here, since it was deleted elsewhere
    RESOLVE  log *copies*, and *version* (None: a folder) once more, covering
             *vector*: all that stand were seen
    FORGET   gone on both sides
    ======== ==============================================================

    What is logged goes into one entry with the *copies* it needs.

    With YIELD and FETCH, *vector* is what is agreed on when it is done.
    """

    do: Do
    path: bytes
    found: Found | None = None
    agreed: Agreed | None = None
    version: PathVersion | None = None
    vector: Vector = EMPTY
    copies: tuple[Copy, ...] = ()


def differs(found: Found | None, agreed: Agreed | None) -> bool:
    """Whether the disk is not what was agreed, as far as can be told without
    reading.  A folder's time changes with its content and does not count."""
    if found is None or agreed is None:
        return (found is None) != (agreed is None)
    if found.kind != agreed.kind or found.mode != agreed.mode:
        return True
    if found.kind == NodeKind.FOLDER:
        return False
    return (found.size, found.mtime_ns, found.inode) != (agreed.size, agreed.mtime_ns, agreed.inode)


def same_content(version: PathVersion, kind: int, sha256: bytes) -> bool:
    """Whether a version is of that kind and content; folders all are alike."""
    return version.name.kind == kind and (kind == NodeKind.FOLDER or version.name.sha256 == sha256)


def above(path: bytes) -> list[bytes]:
    """The folders that hold a path, the nearest first; not the root."""
    folders = []
    while b"/" in path:
        path = path.rpartition(b"/")[0]
        folders.append(path)
    return folders


def plan(
    local: Mapping[bytes, Found],
    agreed: Mapping[bytes, Agreed],
    remote: Mapping[bytes, Sequence[PathVersion]],
    device: bytes,
    unread: Collection[bytes] = frozenset(),
) -> list[Action]:
    """All steps that bring the three trees together, in order.

    :param local: {path: what lies there}.
    :param agreed: {path: what was agreed}.
    :param remote: {path: what no other version replaces}; the first has the
        name, tombstones last.  Paths that could mean something other than
        themselves are left out.
    :param device: ours.
    :param unread: paths where something is that nobody could look at, with
        all that may be below them.
    """
    paths = {path for path in remote if path and is_safe(path)} | local.keys() | agreed.keys()
    return _Planner(local, agreed, remote, device, frozenset(unread)).run(paths - {b""})


class _Standing(NamedTuple):
    """What the log says of one path once it is decided who has the name.

    *vector* joins the versions that agree with the winner: it, those of equal
    content, and tombstones, which an edit beats.
    """

    winner: PathVersion | None
    vector: Vector
    every: Vector
    rivals: tuple[PathVersion, ...]


class _Planner:
    """One plan in the making; goes from the leaves to the root, because what
    a folder's fate is depends on what is in it."""

    def __init__(
        self,
        local: Mapping[bytes, Found],
        agreed: Mapping[bytes, Agreed],
        remote: Mapping[bytes, Sequence[PathVersion]],
        device: bytes,
        unread: frozenset[bytes],
    ) -> None:
        self._local = local
        self._agreed = agreed
        self._remote = remote
        self._device = device
        self._unread = unread
        # Folders in which something lives, or something nobody could read.
        self._needed: set[bytes] = set()
        self._held = {folder for path in unread for folder in above(path)}
        # Files that are still in the way of a folder.
        self._blocked: set[bytes] = set()

    def run(self, paths: set[bytes]) -> list[Action]:
        """The steps for these paths."""
        actions: list[Action] = []
        # A folder's path is a prefix of what is in it, so that comes first.
        for path in sorted(paths, reverse=True):
            standing = _stand(self._remote.get(path, ()), path in self._needed)
            steps = [] if self._is_unread(path) else self._one(path, standing)
            actions += steps
            deleted = any(step.do in (Do.DELETE, Do.REMOVE) for step in steps)
            uploaded = any(step.do in (Do.UPLOAD, Do.YIELD) for step in steps)
            if uploaded or (standing.winner is not None and not deleted):
                self._need_above(path)
        return _ordered([action for action in actions if not self._is_blocked(action)])

    def _is_unread(self, path: bytes) -> bool:
        return bool(self._unread) and (path in self._unread or any(f in self._unread for f in above(path)))

    def _is_blocked(self, action: Action) -> bool:
        if not self._blocked or action.do not in (Do.FETCH, Do.YIELD):
            return False
        return any(folder in self._blocked for folder in above(action.path))

    def _need_above(self, path: bytes) -> None:
        for folder in above(path):
            if folder in self._needed:
                break
            self._needed.add(folder)

    def _one(self, path: bytes, standing: _Standing) -> list[Action]:
        found, agreed = self._local.get(path), self._agreed.get(path)
        needed, here = path in self._needed, differs(found, agreed)
        if needed and found is not None and found.kind != NodeKind.FOLDER:
            steps = self._make_way(path, found, agreed, standing, here)
        elif standing.winner is None:
            steps = self._without_version(path, found, agreed, needed, here)
        else:
            steps = self._with_version(path, found, agreed, standing.winner, standing.vector, here)
        if not standing.rivals:
            return steps
        steps = [self._with_own_rivals(step, standing.rivals) for step in steps]
        settled = not here and all(step.do != Do.UPLOAD for step in steps)
        if settled and (needed or standing.winner is not None):
            copies = self._copies(path, standing.rivals)
            steps.append(Action(Do.RESOLVE, path, None, None, standing.winner, standing.every, copies))
        return steps

    def _with_own_rivals(self, step: Action, rivals: Sequence[PathVersion]) -> Action:
        """A device's next number covers all its earlier ones.  So a rival of
        our own would be replaced by whatever we log at its path next, although
        nothing was derived from it: its copy has to go into the same entry."""
        if step.do not in (Do.UPLOAD, Do.DELETE):
            return step
        seen = dict(step.vector)
        after = {**seen, self._device: vectors.MAX_COUNTER}
        covered = [
            rival
            for rival in rivals
            if all(after.get(device, 0) >= number for device, number in rival.vector)
            and any(seen.get(device, 0) < number for device, number in rival.vector)
        ]
        return step._replace(copies=self._copies(step.path, covered))

    def _make_way(
        self, path: bytes, found: Found, agreed: Agreed | None, standing: _Standing, here: bool
    ) -> list[Action]:
        """A file or link where a folder has to be."""
        if here:
            return [Action(Do.YIELD, path, found, agreed, standing.winner, standing.vector)]
        if standing.winner is not None:
            return [Action(Do.FETCH, path, found, agreed, standing.winner, standing.vector)]
        if standing.rivals:
            # The log settles it first, and what is below waits.
            self._blocked.add(path)
            return []
        return [Action(Do.REMOVE, path, found, agreed)]

    def _without_version(
        self, path: bytes, found: Found | None, agreed: Agreed | None, needed: bool, here: bool
    ) -> list[Action]:
        """Nothing stands in the log, or no folder where one has to be."""
        if found is None:
            return [Action(Do.FORGET, path)] if agreed is not None else []
        if here or needed:
            return [Action(Do.UPLOAD, path, found, agreed, None, agreed.vector if agreed else EMPTY)]
        return [] if path in self._held else [Action(Do.REMOVE, path, found, agreed)]

    def _with_version(
        self,
        path: bytes,
        found: Found | None,
        agreed: Agreed | None,
        winner: PathVersion,
        vector: Vector,
        here: bool,
    ) -> list[Action]:
        fetch = Action(Do.FETCH, path, found, agreed, winner, vector)
        if agreed is None:
            if found is None or found.kind == NodeKind.FOLDER == winner.name.kind:
                return [fetch]
            if found.kind == NodeKind.FOLDER:
                return [] if path in self._held else [fetch]
            return [Action(Do.YIELD, path, found, None, winner, vector)]
        news = agreed.version != winner.version or not vectors.covers(agreed.vector, vector)
        derived = vectors.join([agreed.vector, vector])
        edited = news and not same_content(winner, agreed.kind, agreed.sha256)
        if found is None:
            gone = not edited and path not in self._needed
            return [Action(Do.DELETE, path, None, agreed, winner, derived)] if gone else [fetch]
        if not here or (edited and found.kind == NodeKind.FOLDER):
            flattens = found.kind == NodeKind.FOLDER != winner.name.kind
            return [] if not news or (flattens and path in self._held) else [fetch]
        if edited:
            return [Action(Do.YIELD, path, found, agreed, winner, vector)]
        return [Action(Do.UPLOAD, path, found, agreed, winner, derived)]

    def _copies(self, path: bytes, rivals: Sequence[PathVersion]) -> tuple[Copy, ...]:
        """What is to be logged beside a path; one copy of each content."""
        copies: dict[bytes, Copy] = {}
        for rival in rivals:
            name = conflict_name(path, rival.device, rival.name.sha256)
            if not has_copy(path, rival.name.sha256, [*self._remote, *copies]):
                copies[name] = Copy(name, rival)
        return tuple(copies.values())


def _stand(standing: Sequence[PathVersion], needed: bool) -> _Standing:
    """Who has the name; only a folder can, where something is in it."""
    winner = next((v for v in standing if not v.deleted and (not needed or v.name.kind == NodeKind.FOLDER)), None)
    every = vectors.join(version.vector for version in standing)
    agreeing, rivals = [], []
    for version in standing:
        if version.deleted or (winner and same_content(version, winner.name.kind, winner.name.sha256)):
            agreeing.append(version.vector)
        elif version.name.kind != NodeKind.FOLDER:
            rivals.append(version)
        else:
            # A folder has nothing to lose.
            agreeing.append(version.vector)
    return _Standing(winner, vectors.join(agreeing), every, tuple(rivals))


def _ordered(actions: list[Action]) -> list[Action]:
    """Folders before what is in them, and after it where things go away.

    Things come before others go, so that a rename finds its content here; but
    what is in the way of something that comes goes first, here and in the log.
    """
    comes = {action.path for action in actions if action.do in (Do.FETCH, Do.YIELD)}
    flat = {a.path for a in actions if a.do == Do.FETCH and a.version and a.version.name.kind != NodeKind.FOLDER}
    stored = {a.path for a in actions if a.do == Do.UPLOAD and a.found and a.found.kind != NodeKind.FOLDER}
    below = {folder for path in comes for folder in above(path)}

    def key(action: Action) -> tuple[float, tuple[bytes, ...]]:
        rank, path = float(action.do), action.path
        if action.do == Do.REMOVE and (path in below or any(folder in flat for folder in above(path))):
            rank = Do.FETCH - 0.5
        elif action.do == Do.DELETE and any(folder in stored for folder in above(path)):
            rank = Do.UPLOAD - 0.5
        return rank, tuple(path.split(b"/"))

    going = [action for action in actions if action.do in (Do.DELETE, Do.REMOVE)]
    coming = [action for action in actions if action.do not in (Do.DELETE, Do.REMOVE)]
    going.sort(key=lambda action: action.path, reverse=True)
    return sorted([*going, *sorted(coming, key=key)], key=lambda action: key(action)[0])
