"""What to do about a folder; pure.

Three things are compared path by path: the local tree as it is, the tree on
which this device and the log last agreed, and what the log says stands
there.  What differs from the agreed tree on one side only is carried to the
other; where both differ, both contents stay.

- An edit beats a deletion, whichever side it is on.
- The version that was in the log first keeps the name; the local file steps
  aside under a name that says so, and goes up under that name.
- Equal content is no conflict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from peerstore import ids
from peerstore.client.source import Found
from peerstore.client.state import Agreed
from peerstore.files.manifest import NodeKind
from peerstore.transactions.view import PathVersion

__all__ = ["Action", "Do", "conflict_name", "differs", "plan"]


class Do(IntEnum):
    """What is to be done, in the order in which it is done."""

    STEP_ASIDE = 1
    FETCH = 2
    UPLOAD = 3
    DELETE = 4
    REMOVE = 5
    MERGE = 6
    FORGET = 7


class Action(NamedTuple):
    """One step for one path.

    ======== =========================================================
    action   meaning
    ======== =========================================================
    ASIDE    rename the local file to *other*
    FETCH    write *version* here, in place of *found*
    UPLOAD   store *found* as a new version, derived from *agreed*
    DELETE   log a tombstone for what was *agreed*
    REMOVE   take *found* away here, since it was deleted elsewhere
    MERGE    log that *version* was chosen, having seen all that stand
    FORGET   gone on both sides
    ======== =========================================================
    """

    do: Do
    path: bytes
    found: Found | None = None
    agreed: Agreed | None = None
    version: PathVersion | None = None
    other: bytes = b""


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


def conflict_name(path: bytes, device: bytes, taken: Iterable[bytes]) -> bytes:
    """Where a local edit steps aside to: "name.conflict-DEVICE.ext", and a
    number behind it where that is taken."""
    folder, slash, name = path.rpartition(b"/")
    stem, dot, ending = name.rpartition(b".")
    if not stem:
        stem, dot, ending = name, b"", b""
    there = set(taken)
    number = 1
    while True:
        mark = b".conflict-" + ids.short(device).encode() + (b"-%d" % number if number > 1 else b"")
        candidate = folder + slash + stem[: 255 - len(mark) - len(dot + ending)] + mark + dot + ending
        if candidate not in there:
            return candidate
        number += 1


def plan(
    local: Mapping[bytes, Found],
    agreed: Mapping[bytes, Agreed],
    remote: Mapping[bytes, Sequence[PathVersion]],
    device: bytes,
) -> list[Action]:
    """All steps that bring the three trees together, in order.

    :param local: {path: what lies there}.
    :param agreed: {path: what was agreed}.
    :param remote: {path: what no other version replaces}; the first has the
        name, tombstones last.
    :param device: ours, for the names of conflict copies.
    """
    actions: list[Action] = []
    for path in sorted({*local, *agreed, *remote} - {b""}):
        actions.extend(_one(path, local.get(path), agreed.get(path), remote.get(path, ()), device, local))

    def order(action: Action) -> tuple[int, tuple[bytes, ...]]:
        # Folders before what is in them, and after it where things go away.
        parts = tuple(action.path.split(b"/"))
        if action.do in (Do.DELETE, Do.REMOVE):
            backwards = tuple(bytes(255 - byte for byte in part) for part in parts)
            return (action.do, (*backwards, b"\xff" * 256))
        return (action.do, parts)

    return sorted(actions, key=order)


def _one(
    path: bytes,
    found: Found | None,
    agreed: Agreed | None,
    standing: Sequence[PathVersion],
    device: bytes,
    local: Mapping[bytes, Found],
) -> list[Action]:
    winner = standing[0] if standing and not standing[0].deleted else None
    here = differs(found, agreed)
    there = (winner.version if winner else None) != (agreed.version if agreed else None)
    if not there:
        if here and found is not None:
            return [Action(Do.UPLOAD, path, found, agreed)]
        return [Action(Do.DELETE, path, None, agreed)] if here else []
    if winner is None:
        # Deleted elsewhere.
        if found is None:
            return [Action(Do.FORGET, path)]
        return [Action(Do.UPLOAD, path, found, agreed)] if here else [Action(Do.REMOVE, path, found, agreed)]
    if found is None:
        # Never here, or deleted here while it was edited elsewhere.
        return [Action(Do.FETCH, path, None, agreed, winner)]
    if found.kind == NodeKind.FOLDER == winner.name.kind:
        return [Action(Do.FETCH, path, found, agreed, winner)]
    ours_lost = agreed is not None and any(version.version == agreed.version for version in standing[1:])
    if not here and not ours_lost:
        return [Action(Do.FETCH, path, found, agreed, winner)]
    # Both sides have something of their own.  (Whether the contents are equal
    # is only known after reading; whoever carries this out looks first.)
    aside = conflict_name(path, device, local)
    steps = [
        Action(Do.STEP_ASIDE, path, found, agreed, winner, aside),
        Action(Do.FETCH, path, None, agreed, winner, aside),
    ]
    if ours_lost:
        steps.append(Action(Do.MERGE, path, None, agreed, winner))
    return steps
