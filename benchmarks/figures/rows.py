"""What is published, what we get, and whether the two agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Row", "mean", "percentile", "upper_bound", "within"]


class Row(NamedTuple):
    """One figure of one case.

    *theirs* and *ours* are None where there is none; *rule* says what *ours*
    is held against, and *holds* whether it keeps to that, None where nothing
    was asked.
    """

    figure: str
    case: str
    what: str
    theirs: float | None
    ours: float
    rule: str = ""
    holds: bool | None = None
    digits: int = 2

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.holds is None:
            return ""
        return "yes" if self.holds else "NO"

    def cells(self) -> tuple[str, ...]:
        """As text: case, what, theirs, ours, rule, verdict."""
        theirs = "" if self.theirs is None else f"{self.theirs:.{self.digits}f}"
        return self.case, self.what, theirs, f"{self.ours:.{self.digits}f}", self.rule, self.verdict


def within(figure: str, case: str, what: str, theirs: float, ours: float, most: float, digits: int = 2) -> Row:
    """A row that holds if the two differ by *most* at the most."""
    # What is told is rounded, and is what is judged.
    difference = abs(round(ours, digits) - theirs)
    return Row(figure, case, what, theirs, ours, f"within {most:g}", difference <= most + 1e-9, digits)


def mean(values: Sequence[float]) -> float:
    """The mean; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def upper_bound(count: int) -> float:
    """The largest mean for which so few events would be seen once in forty
    times: the upper end of the 95 % interval of a Poisson count."""
    low, high = float(count), 10.0 + 3.0 * count
    for _ in range(60):
        middle = (low + high) / 2
        below = sum(math.exp(-middle + k * math.log(middle) - math.lgamma(k + 1)) for k in range(count + 1))
        low, high = (middle, high) if below > 0.025 else (low, middle)
    return high
