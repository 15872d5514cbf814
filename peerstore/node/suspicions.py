"""Whom we call dead to others, and how soon we do so again."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["FIRST", "LONGEST", "Suspicions"]

#: After the first suspicion of a host the next one waits so long (s), and
#: each further one twice as long as the one before,
FIRST = 10.0
#: up to this (s).  After twice the pause without any, all begins anew.
LONGEST = 160.0


class Suspicions:
    """Suspicions of this host, passed on at a bounded rate.

    Whoever is called dead, and lives, begins its next life, for which voters
    are named anew wherever it is one of them (``votes``).  Two hosts that do
    not reach each other, while others reach both, would make each other begin
    life after life, as fast as news travels, for as long as that lasts.  So
    one that came back from the dead is believed for a while, and each time
    longer; that it is dead is said only if it does not answer at the end of
    that, either.  A list of voters works with one of them dead.

    :param seconds: a clock.
    :param suspect: *suspect(fp)* makes it known.
    """

    def __init__(self, seconds: Callable[[], float], suspect: Callable[[bytes], None]) -> None:
        self._seconds = seconds
        self._suspect = suspect
        #: {fingerprint: (when it was last called dead, the pause after that)}
        self._last: dict[bytes, tuple[float, float]] = {}
        #: Who was lost meanwhile.
        self._waiting: set[bytes] = set()

    def lost(self, fp: bytes) -> None:
        """A host does not answer, or said that it goes."""
        now = self._seconds()
        when, pause = self._last.get(fp, (-LONGEST * 3, 0.0))
        if now - when < pause:
            self._waiting.add(fp)
            return
        self._waiting.discard(fp)
        again = min(LONGEST, 2 * pause) if now - when < 3 * pause else FIRST
        self._last[fp] = (now, again)
        self._suspect(fp)

    def look_again(self, is_alive: Callable[[bytes], bool]) -> bool:
        """Call those dead whose pause is over, unless they answer again; true
        while some are left."""
        for fp in sorted(self._waiting):
            if is_alive(fp):
                self._waiting.discard(fp)
            else:
                self.lost(fp)
        return bool(self._waiting)
