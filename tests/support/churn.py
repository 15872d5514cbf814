"""What is needed to disturb a ring of real nodes for minutes, and to judge it afterwards.

An :class:`Archive` remembers every version of every file that a person ever
had, and which of them the ring has acknowledged; :func:`copies` looks at the
disks themselves.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from peerstore.crypto.keys import KeyPair
from peerstore.storage.listing import ListedKey, list_keys
from peerstore.storage.schema import DATABASE
from tests.support.processes import NodeProcess

__all__ = ["Archive", "Stored", "copies", "resume", "suspend", "wipe"]

#: What is stored, whatever its size is on which disk.
Stored = tuple[bytes, bytes, int, bytes]
GONE = None


def stored(key: ListedKey) -> Stored:
    """A listed key without its size."""
    return key.ring_id, key.owner, int(key.kind), key.element


def copies(nodes: Iterable[NodeProcess]) -> Counter[Stored]:
    """On how many of these nodes' disks each thing is; an empty disk is one, too."""
    filled = [node.data for node in nodes if (node.data / DATABASE).exists()]
    return Counter(stored(key) for data in filled for key in list_keys(data))


def suspend(node: NodeProcess) -> None:
    """SIGSTOP: it holds its port and its connections, and does nothing."""
    assert node.process is not None
    node.process.send_signal(signal.SIGSTOP)


def resume(node: NodeProcess) -> None:
    """SIGCONT."""
    assert node.process is not None
    node.process.send_signal(signal.SIGCONT)


def wipe(node: NodeProcess) -> None:
    """A new, empty disk: the key is gone, too, so it is a new host that
    listens where the old one did."""
    shutil.rmtree(node.data)
    node.data.mkdir()
    node.key = KeyPair.load_or_create(node.data / "key.pem", node.data / "publickey.pem", 2048)


class Archive:
    """Files that change, and what the ring has said of them.

    :param root: the folder that they are in.
    :param rng: decides what changes.
    """

    def __init__(self, root: Path, rng: random.Random) -> None:
        self.root = root
        self.rng = rng
        #: {path: its contents, oldest first; None where it was removed}
        self.versions: dict[str, list[bytes | None]] = {}
        #: {path: the place in its versions of the newest that was acknowledged}
        self.certain: dict[str, int] = {}
        root.mkdir()

    def change(self, count: int) -> None:
        """Write, replace or remove *count* files, large and small."""
        for _ in range(count):
            there = [path for path, known in self.versions.items() if known[-1] is not GONE]
            if len(there) > 8 and self.rng.random() < 0.15:
                self._set(self.rng.choice(there), GONE)
            elif there and self.rng.random() < 0.5:
                self._set(self.rng.choice(there), self._content())
            else:
                self._set(f"{self.rng.randrange(6)}/{len(self.versions)}.bin", self._content())

    def acknowledge(self) -> None:
        """All that is in the folder now is certain, as the ring says."""
        for path, known in self.versions.items():
            self.certain[path] = len(known) - 1

    def files(self) -> list[str]:
        """Paths that were acknowledged at least once."""
        return sorted(self.certain)

    def is_right(self, path: str, content: bytes | None, complete: bool) -> bool:
        """Whether this may be what the ring gives for a path (None: nothing).

        :param complete: whether it was said to be the newest.
        """
        known = self.versions[path]
        if content is None and not complete:
            return True
        return content in known[self.certain.get(path, 0) if complete else 0 :]

    def _content(self) -> bytes:
        return self.rng.randbytes(self.rng.choice((0, 40, 3000, 30_000, 90_000, 400_000)))

    def _set(self, path: str, content: bytes | None) -> None:
        self.versions.setdefault(path, []).append(content)
        place = self.root / path
        if content is None:
            os.unlink(place)
        else:
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(content)
