"""What is known of one part of a simulated network, between two looks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from peerstore.sim.invariants import Measure, Violation

__all__ = ["Standing", "parts_of"]


class Standing:
    """Whether F* was kept in a part, and what it was like when last seen.

    :param since: virtual seconds of the last failure, or of its beginning.
    """

    def __init__(self, since: float) -> None:
        self.since = since
        self.why = "the beginning"
        #: F* has been kept: the invariants must hold at every moment.
        self.held = False
        #: It has had r + 1 principals: of these, too, it may lose none for nothing.
        self.grown = False
        #: They did hold at some moment after the last failure.
        self.fine = False
        #: Everybody in it reaches everybody.
        self.whole = True
        self.violations: Sequence[Violation] = ()
        self.principals: Sequence[int] | None = None
        self.error: Measure | None = None
        #: Somebody who is gone was still listed somewhere.
        self.haunted = False
        #: An answer of somebody who is gone was still on its way.
        self.ghosts = False

    @property
    def time(self) -> str:
        """What the time counts as that passes now."""
        return "suspended" if not self.held else "held" if self.grown else "held while small"

    @classmethod
    def after(cls, origins: Sequence[Standing], now: float) -> Standing:
        """Of a part that came from these."""
        if not origins:
            return cls(now)
        last = max(origins, key=lambda origin: origin.since)
        standing = cls(last.since)
        standing.why = last.why
        standing.held = all(origin.held for origin in origins)
        standing.grown = all(origin.grown for origin in origins)
        standing.fine = all(origin.fine for origin in origins)
        if len(origins) == 1:
            standing.principals, standing.error = last.principals, last.error
            standing.haunted, standing.ghosts = last.haunted, last.ghosts
        return standing


def parts_of(joined: Callable[[str, str], bool], names: Sequence[str]) -> list[frozenset[str]]:
    """Machines in groups that reach each other, at least through others.

    :param joined: whether two can talk.
    """
    parts: list[frozenset[str]] = []
    left = list(names)
    while left:
        part, edge = [left[0]], [left.pop(0)]
        while edge:
            at = edge.pop()
            near = [name for name in left if joined(at, name)]
            left = [name for name in left if name not in near]
            part += near
            edge += near
        parts.append(frozenset(part))
    return parts
