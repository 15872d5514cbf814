"""Small trees for tests of the sync plan: what lies there, what was agreed,
what the log says."""

from __future__ import annotations

import hashlib

from peerstore.client.source import Found
from peerstore.client.state import Agreed
from peerstore.files.manifest import NodeKind
from peerstore.transactions.entry import NameRecord
from peerstore.transactions.view import PathVersion
from peerstore.vectors import EMPTY, Vector
from tests.support.properties import DEVICES

__all__ = ["OTHER", "OURS", "THIRD", "agreed_on", "deleted", "found", "sha256", "version"]

OURS, OTHER, THIRD = DEVICES


def sha256(content: bytes, kind: NodeKind = NodeKind.FILE) -> bytes:
    """What a version of that content carries."""
    return b"" if kind == NodeKind.FOLDER else hashlib.sha256(content).digest()


def found(
    path: bytes, content: bytes = b"", kind: NodeKind = NodeKind.FILE, mode: int = 0o644, stamp: int = 1
) -> Found:
    """A path on the disk; *stamp* stands for its time."""
    return Found(path, kind, len(content), stamp, stamp, 7, mode)


def version(
    path: bytes,
    content: bytes = b"",
    vector: Vector = ((OTHER, 1),),
    kind: NodeKind = NodeKind.FILE,
    mode: int = 0o644,
    clock: int = 1,
    device: bytes = OTHER,
) -> PathVersion:
    """A version in the log."""
    name = NameRecord("home", path, int(kind), len(content), 1, mode, sha256(content, kind))
    identity = hashlib.sha256(repr((path, content, vector, kind, mode)).encode()).digest()
    return PathVersion(b"r" * 20, identity, vector, name, clock, device, 0)


def deleted(path: bytes, vector: Vector = ((OTHER, 2),), clock: int = 2, device: bytes = OTHER) -> PathVersion:
    """A tombstone in the log."""
    name = NameRecord("home", path, 0, 0, 0, 0, b"")
    return PathVersion(
        b"r" * 20, hashlib.sha256(repr((path, vector)).encode()).digest(), vector, name, clock, device, 0
    )


def agreed_on(there: Found, last: PathVersion, vector: Vector = EMPTY) -> Agreed:
    """What is agreed when *there* held *last*."""
    return Agreed(
        last.version,
        vector or last.vector,
        int(there.kind),
        there.size,
        there.mtime_ns,
        there.ctime_ns,
        there.inode,
        there.mode,
        last.name.sha256,
    )
