"""What others are at, and for how long nothing has come of it."""

from __future__ import annotations

from collections.abc import Collection

from twisted.internet.interfaces import IReactorTime

from peerstore.node.duty import Share

__all__ = ["PATIENT", "Progress"]

#: Seconds without progress after which nobody is waited for any more.
PATIENT = 15.0


class Progress:
    """For each share, a measure of how far somebody else has come with it."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._known: dict[Share, tuple[int, float]] = {}

    def is_stuck(self, share: Share, measure: int) -> bool:
        """Whether the measure is what it was ``PATIENT`` seconds ago.

        Who asks for the first time is told to wait.
        """
        now = self._clock.seconds()
        known = self._known.get(share)
        if known is None or known[0] != measure:
            self._known[share] = (measure, now)
            return False
        return now - known[1] >= PATIENT

    def only(self, shares: Collection[Share]) -> None:
        """Forget all but these."""
        self._known = {share: known for share, known in self._known.items() if share in shares}
