"""The fingerprint of a run: equal runs have equal traces."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

__all__ = ["Trace"]


class Trace:
    """Hashes everything that happens, in order.

    :param say: told each event too, for people; None says nothing.
    """

    def __init__(self, seconds: Callable[[], float], say: Callable[[str], None] | None = None) -> None:
        self._seconds = seconds
        self._say = say
        self._hash = hashlib.sha256()
        self.events = 0

    def event(self, kind: str, *details: object, quiet: bool = True) -> None:
        """Something happened.  *details* must print alike in every run."""
        line = f"{self._seconds():.6f} {kind} {' '.join(map(str, details))}"
        self._hash.update(line.encode() + b"\n")
        self.events += 1
        if self._say is not None and not quiet:
            self._say(line)

    def digest(self) -> str:
        """The hash so far, 16 hex digits."""
        return self._hash.hexdigest()[:16]
