"""Rounds of upkeep: soon while something is behind, seldom when all is well."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from peerstore.util.periodic import Periodic

__all__ = ["DEBOUNCE", "QUIET", "Rounds", "SOON"]

#: The first wait (s) while something is behind.  Each further one is longer:
#: others may be down for days, and every round in vain costs them something.
SOON = 1.0
LATER = 1.5
#: The longest wait of those who name no other.
QUIET = 30.0
#: After a change of the ring, which seldom comes alone.
DEBOUNCE = 0.25


class Rounds:
    """Runs *work* over and over, one at a time.

    :param work: one round; fires with whether nothing is left to do.  When it
        fails, something is.
    :param longest: asked for the longest wait (s), which is the one when all
        is well.
    :param look: called when a change has been waited for, before the round.
    """

    def __init__(
        self,
        clock: IReactorTime,
        work: Callable[[], Deferred[bool]],
        name: str,
        longest: Callable[[], float] = lambda: QUIET,
        look: Callable[[], None] | None = None,
    ) -> None:
        self._clock = clock
        self._work = work
        self._longest = longest
        self._look = look
        self._periodic = Periodic(clock, self.run, self._interval, name)
        self._soon: IDelayedCall | None = None
        self._gap = SOON
        self._behind = True
        self._stopped = False

    def start(self, now: bool = True) -> None:
        """Begin; the first round comes at once, or after a while."""
        self._periodic.start(now)

    def stop(self) -> Deferred[None]:
        """End, for good; fires when the round in flight is over."""
        self._stopped = True
        if self._soon is not None and self._soon.active():
            self._soon.cancel()
        return self._periodic.stop()

    def hurry(self) -> None:
        """The next round comes now."""
        self._gap = SOON
        self._periodic.hurry()

    def changed(self) -> None:
        """Something changed: look again when it has come to rest."""
        self._gap = SOON
        if not self._stopped and (self._soon is None or not self._soon.active()):
            self._soon = self._clock.callLater(DEBOUNCE, self._rested)

    def run(self) -> Deferred[None]:
        """One round; fires when it is over."""
        self._behind = True
        return self._work().addCallback(self._ran)

    def _ran(self, is_done: bool) -> None:
        self._behind = not is_done

    def _rested(self) -> None:
        if self._look is not None:
            self._look()
        self._periodic.hurry()

    def _interval(self) -> float:
        longest = self._longest()
        if not self._behind:
            self._gap = SOON
            return longest
        gap, self._gap = min(self._gap, longest), self._gap * LATER
        return gap
