"""Devices with trees in dicts, and a log: what a plan means, in a few lines.

Each step of a plan is carried out the way ``sync.carry`` does it: it looks
first, and leaves alone what is not as the plan saw it.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from peerstore import vectors
from peerstore.client.source import Found
from peerstore.client.state import Agreed
from peerstore.files.manifest import NodeKind
from peerstore.sync.naming import conflict_name
from peerstore.sync.plan import Action, Do, above, differs, plan, same_content
from peerstore.transactions.chain import LoggedEntry
from peerstore.transactions.entry import NameRecord, Operation, OperationKind, pack_name
from peerstore.transactions.view import FolderView, PathVersion
from peerstore.vectors import Vector
from tests.support.logs import entry, version_id

__all__ = ["FOLDER", "ModelDevice", "ModelRing", "Node"]

FOLDER = "home"


class Later(Exception):
    """A step that has to wait for the next plan."""


@dataclass(frozen=True)
class Node:
    """One path on a disk; *stamp* stands for inode and time."""

    kind: NodeKind
    content: bytes
    mode: int
    stamp: int


@dataclass
class ModelRing:
    """The log of one user, the contents that were stored, and what the users
    did: *written* contents, and *superseded* ones, which somebody who had
    them replaced or deleted."""

    entries: list[LoggedEntry] = field(default_factory=list)
    contents: dict[bytes, bytes] = field(default_factory=dict)
    written: set[bytes] = field(default_factory=set)
    superseded: set[bytes] = field(default_factory=set)
    stamps: int = 0

    def stamp(self) -> int:
        """A number that was never used."""
        self.stamps += 1
        return self.stamps


class ModelDevice:
    """One computer: a tree, what was agreed, and a copy of the log."""

    def __init__(self, ring: ModelRing, device: bytes) -> None:
        self.ring = ring
        self.device = device
        self.tree: dict[bytes, Node] = {}
        self.agreed: dict[bytes, Agreed] = {}
        self.view = FolderView()
        self._history: set[tuple[bytes, int, bytes]] = set()
        self._seen = 0
        self._number = 0
        self._counter = 0
        self._clock = 0

    # -- what the user does -------------------------------------------------------------

    def write(self, path: bytes, content: bytes, kind: NodeKind = NodeKind.FILE) -> None:
        """Save a file (or a link's text), where that is possible."""
        there = self.tree.get(path)
        if (there is not None and there.kind == NodeKind.FOLDER) or not self._have_folders(path):
            return
        if there is not None:
            self._supersede(there)
        self.tree[path] = Node(kind, content, there.mode if there else 0o644, self.ring.stamp())
        self.ring.written.add(content)

    def make_folder(self, path: bytes) -> None:
        """mkdir; a file there is replaced."""
        there = self.tree.get(path)
        if (there is None or there.kind != NodeKind.FOLDER) and self._have_folders(path):
            if there is not None:
                self._supersede(there)
            self.tree[path] = Node(NodeKind.FOLDER, b"", 0o755, self.ring.stamp())

    def delete(self, path: bytes) -> None:
        """rm -r."""
        for name in [name for name in self.tree if name == path or name.startswith(path + b"/")]:
            self._supersede(self.tree.pop(name))

    def rename(self, old: bytes, new: bytes) -> None:
        """mv, with everything in it; what is there makes way if it is a file."""
        if old not in self.tree or old == new or new.startswith(old + b"/") or old.startswith(new + b"/"):
            return
        there = self.tree.get(new)
        if (there is not None and there.kind == NodeKind.FOLDER) or not self._have_folders(new):
            return
        if there is not None:
            self._supersede(there)
        for name in [name for name in self.tree if name == old or name.startswith(old + b"/")]:
            self.tree[new + name[len(old) :]] = self.tree.pop(name)

    def change_mode(self, path: bytes, mode: int) -> None:
        """chmod."""
        if path in self.tree and self.tree[path].kind != NodeKind.SYMLINK:
            self.tree[path] = replace(self.tree[path], mode=mode)

    def touch(self, path: bytes) -> None:
        """A new time, and the same content."""
        if path in self.tree:
            self.tree[path] = replace(self.tree[path], stamp=self.ring.stamp())

    def _have_folders(self, path: bytes) -> bool:
        for folder in reversed(above(path)):
            there = self.tree.get(folder)
            if there is None:
                self.tree[folder] = Node(NodeKind.FOLDER, b"", 0o755, self.ring.stamp())
            elif there.kind != NodeKind.FOLDER:
                return False
        return True

    def _supersede(self, node: Node) -> None:
        if node.kind != NodeKind.FOLDER:
            self.ring.superseded.add(node.content)

    # -- sync ---------------------------------------------------------------------------

    def contents(self) -> dict[bytes, tuple[NodeKind, bytes, int]]:
        """What two trees are compared by."""
        return {path: (node.kind, node.content, node.mode) for path, node in self.tree.items()}

    def pull(self, most: int = sys.maxsize) -> None:
        """Read the log, or its next few entries."""
        for logged in self.ring.entries[self._seen : self._seen + most]:
            self._seen += 1
            self._see(logged)

    def _see(self, logged: LoggedEntry) -> None:
        self._clock = max(self._clock, logged.entry.clock)
        for version in self.view.add(logged):
            self._history.add((version.name.path, version.name.kind, version.name.sha256))

    def start_anew(self, device: bytes) -> None:
        """The same folder with a fresh home: another device, nothing agreed."""
        self.device, self.agreed, self.view, self._history = device, {}, FolderView(), set()
        self._seen = self._number = self._counter = self._clock = 0

    def plan(self, unread: Iterable[bytes] = ()) -> list[Action]:
        """What there is to do now."""
        local = {path: found(path, node) for path, node in self.tree.items()}
        remote = {path: self.view.versions(FOLDER, path) for path in self.view.paths(FOLDER)}
        return plan(local, dict(self.agreed), remote, self.device, frozenset(unread))

    def sync(self) -> int:
        """One round; how many steps there were."""
        self.pull()
        actions = self.plan()
        self.carry(actions)
        return len(actions)

    def carry(self, actions: Iterable[Action]) -> None:
        """Carry steps out, those that still fit."""
        for action in actions:
            try:
                self._carry(action)
            except Later:
                continue

    def crash(self, actions: Iterable[Action]) -> None:
        """Carry steps out and end before what they agree on was kept; only
        what goes with an entry is kept with it."""
        for action in actions:
            before = dict(self.agreed)
            self.carry([action])
            if action.do not in (Do.UPLOAD, Do.DELETE):
                self.agreed = before

    def _carry(self, action: Action) -> None:
        path, there = action.path, self.tree.get(action.path)
        if action.do == Do.FORGET:
            self.agreed.pop(path, None)
            return
        if action.do == Do.RESOLVE:
            self._resolve(action)
            return
        if (found(path, there) if there else None) != action.found:
            raise Later
        if action.do == Do.DELETE:
            self._log(action, None)
            self.agreed.pop(path)
        elif action.do == Do.REMOVE:
            self._take_away(path)
            self.agreed.pop(path, None)
        elif action.do == Do.UPLOAD:
            assert there is not None
            self._upload(action, there)
        elif action.do == Do.YIELD:
            assert there is not None
            self._yield(action, there)
        else:
            self._fetch(action, there)

    def _upload(self, action: Action, there: Node) -> None:
        same = action.version
        if same is not None and same_content(same, there.kind, digest(there)) and same.name.mode == there.mode:
            self._agree(action.path, there, same, action.vector)
            return
        version = self._log(action, there)
        self._agree(action.path, there, version, version.vector)

    def _yield(self, action: Action, there: Node) -> None:
        version = action.version
        if version is not None and same_content(version, there.kind, digest(there)):
            self.tree[action.path] = there = replace(there, mode=version.name.mode)
            self._agree(action.path, there, version, action.vector)
            return
        if (action.path, there.kind, digest(there)) not in self._history:
            number = 1
            while conflict_name(action.path, self.device, digest(there), number) in self.tree:
                number += 1
            self.tree[conflict_name(action.path, self.device, digest(there), number)] = there
            del self.tree[action.path]
            there = None  # type: ignore[assignment]
        elif version is None:
            self._take_away(action.path)
        if version is not None:
            self._fetch(action, there)

    def _fetch(self, action: Action, there: Node | None) -> None:
        path, version = action.path, action.version
        assert version is not None
        kind = NodeKind(version.name.kind)
        for folder in reversed(above(path)):
            if self.tree.setdefault(folder, Node(NodeKind.FOLDER, b"", 0o700, 0)).kind != NodeKind.FOLDER:
                raise Later
        unchanged = there is not None and not differs(found(path, there), action.agreed)
        known = unchanged or kind == NodeKind.FOLDER
        if there is not None and known and same_content(version, there.kind, digest(there)):
            self.tree[path] = there = replace(there, mode=version.name.mode)
            self._agree(path, there, version, action.vector)
            return
        if there is not None:
            self._take_away(path)
        content = b"" if kind == NodeKind.FOLDER else self.ring.contents[version.name.sha256]
        self.tree[path] = Node(kind, content, version.name.mode, self.ring.stamp())
        self._agree(path, self.tree[path], version, action.vector)

    def _take_away(self, path: bytes) -> None:
        if any(name.startswith(path + b"/") for name in self.tree):
            raise Later
        self.tree.pop(path, None)

    def _resolve(self, action: Action) -> None:
        operations = [self._again(copy.version, copy.path, ()) for copy in action.copies]
        if action.version is not None:
            operations.append(self._again(action.version, action.path, action.vector))
        else:
            folder = Node(NodeKind.FOLDER, b"", 0o755, 0)
            operations.append(self._operation(action.path, folder, action.vector))
        self._publish(operations)

    def _again(self, version: PathVersion, path: bytes, vector: Vector) -> Operation:
        content = self.ring.contents.get(version.name.sha256, b"")
        return self._operation(path, Node(NodeKind(version.name.kind), content, version.name.mode, 0), vector)

    def _log(self, action: Action, node: Node | None) -> PathVersion:
        copies = [self._again(copy.version, copy.path, ()) for copy in action.copies]
        operation = self._operation(action.path, node, action.vector)
        self._publish([*copies, operation])
        return next(v for v in self.view.versions(FOLDER, action.path) if v.version == operation.version)

    def _operation(self, path: bytes, node: Node | None, vector: Vector) -> Operation:
        self._counter += 1
        self._clock += 1
        after = vectors.advance(vector, self.device, self._counter)
        if node is None:
            kind, name = OperationKind.DELETE, NameRecord(FOLDER, path, 0, 0, 0, 0, b"")
        else:
            kind, sha256 = OperationKind.UPDATE, digest(node)
            name = NameRecord(FOLDER, path, int(node.kind), len(node.content), 0, node.mode, sha256)
            if node.kind != NodeKind.FOLDER:
                self.ring.contents[sha256] = node.content
        return Operation(kind, b"r" * 20, version_id(self.ring.stamp()), after, self._clock, pack_name(name))

    def _publish(self, operations: list[Operation]) -> None:
        self._number += 1
        logged = entry(self._number, *operations, device=self.device, clock=self._clock)
        self.ring.entries.append(logged)
        self._see(logged)

    def _agree(self, path: bytes, node: Node, version: PathVersion, vector: Vector) -> None:
        self.agreed[path] = Agreed(
            version.version,
            vectors.join([vector, version.vector]),
            int(node.kind),
            len(node.content),
            node.stamp,
            node.stamp,
            node.stamp,
            node.mode,
            digest(node),
        )


def found(path: bytes, node: Node) -> Found:
    """A node as a scan sees it."""
    return Found(path, node.kind, len(node.content), node.stamp, node.stamp, node.stamp, node.mode)


def digest(node: Node) -> bytes:
    """SHA-256 of the content; empty for a folder."""
    return b"" if node.kind == NodeKind.FOLDER else hashlib.sha256(node.content).digest()
