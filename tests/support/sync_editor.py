"""Somebody who edits folders at random, and remembers what must not be lost."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from pathlib import Path

__all__ = ["RandomEditor"]

NAMES = ("a", "b", "c.txt")


class RandomEditor:
    """Edits of every kind, in several folders that are kept equal.

    *written* are contents that were complete on a disk; *superseded* those
    which somebody who had them replaced or deleted.

    :param folders: one for each computer.
    """

    def __init__(self, rng: random.Random, folders: list[Path]) -> None:
        self._rng = rng
        self._folders = folders
        self._count = 0
        self.written: set[bytes] = set()
        self.superseded: set[bytes] = set()

    def must_stay(self) -> set[bytes]:
        """Contents that have to be in a folder, under whatever name."""
        return self.written - self.superseded

    def edit(self) -> None:
        """One edit, somewhere.  Sync changes the same folders meanwhile, so it
        may well fail."""
        rng, root = self._rng, self._rng.choice(self._folders)
        path = root / "/".join(rng.choice(NAMES) for _ in range(rng.randrange(1, 4)))
        kinds = [self._save] * 5 + [self._append, self._truncate, self._delete, self._delete]
        kinds += [self._rename] * 3 + [self._make_folder, self._remove_folder, self._change_mode, self._link]
        with contextlib.suppress(OSError):
            rng.choice(kinds)(root, path)

    def _content(self) -> bytes:
        self._count += 1
        return b"%d " % self._count + self._rng.randbytes(self._rng.choice([10, 10, 1000, 150_000]))

    def _save(self, root: Path, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        content, new = self._content(), path.with_name(f"{path.name}~")
        new.write_bytes(content)
        # Both are lost if the rename fails; a file of that name may be synced.
        self.superseded.add(content)
        self._supersede(path)
        new.rename(path)
        self.superseded.discard(content)
        self.written.add(content)

    def _append(self, root: Path, path: Path) -> None:
        self._write(path, path.read_bytes() + b"+")

    def _truncate(self, root: Path, path: Path) -> None:
        if path.is_file():
            self._write(path, self._content())

    def _write(self, path: Path, content: bytes) -> None:
        if path.is_symlink():
            return
        self._supersede(path)
        path.write_bytes(content)
        self.written.add(content)

    def _delete(self, root: Path, path: Path) -> None:
        if path.is_symlink() or path.is_file():
            self._supersede(path)
            path.unlink()

    def _rename(self, root: Path, path: Path) -> None:
        other = root / self._rng.choice(NAMES)
        if other.is_symlink() or not other.is_dir():
            self._supersede(other)
            path.rename(other)

    def _make_folder(self, root: Path, path: Path) -> None:
        path.mkdir(parents=True)

    def _remove_folder(self, root: Path, path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            for place, _, names in os.walk(path):
                for name in names:
                    self._supersede(Path(place) / name)
            shutil.rmtree(path)

    def _change_mode(self, root: Path, path: Path) -> None:
        if path.is_file() and not path.is_symlink():
            path.chmod(self._rng.choice([0o600, 0o644, 0o755]))

    def _link(self, root: Path, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(f"nowhere {self._rng.random()}")

    def _supersede(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            if not path.is_symlink():
                self.superseded.add(path.read_bytes())
