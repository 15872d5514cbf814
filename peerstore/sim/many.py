"""Many seeds, on several cores, and one table."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from twisted.logger import ILogObserver, LogEvent, globalLogBeginner
from zope.interface import implementer

from peerstore.sim.churn_run import ChurnResult, run_churn
from peerstore.sim.schedule import setting_for

__all__ = ["Row", "Tally", "run_many", "table"]


class Row(NamedTuple):
    """One seed's share of the table."""

    seed: int
    kind: str
    virtual_seconds: float
    faults: int
    checks: int
    suspended: int
    lookups: int
    slowest: float
    problems: list[str]


class Tally:
    """Sums of rows, by kind and over all."""

    def __init__(self) -> None:
        self.sums: dict[str, Counter[str]] = {}
        self.slowest = 0.0
        self.failures: list[Row] = []

    def add(self, row: Row) -> None:
        """One more seed."""
        for kind in (row.kind, "all"):
            self.sums.setdefault(kind, Counter()).update(
                seeds=1,
                seconds=round(row.virtual_seconds),
                faults=row.faults,
                checks=row.checks,
                suspended=row.suspended,
                lookups=row.lookups,
                failures=bool(row.problems),
            )
        self.slowest = max(self.slowest, row.slowest)
        if row.problems:
            self.failures.append(row)


def run_many(seeds: Iterable[int], cores: int, go_on: Callable[[], bool] = lambda: True) -> Iterator[Row]:
    """Run seeds one after the other on each core, while *go_on* says so."""
    wanted = iter(seeds)

    def supply() -> Iterator[int]:
        for seed in wanted:
            if not go_on():
                return
            yield seed

    if cores == 1:
        yield from map(_row_of, supply())
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(cores, _be_quiet) as pool:
        # A window of a few per core: a supply without an end is taken slowly.
        waiting = []
        for seed in supply():
            waiting.append(pool.apply_async(_row_of, (seed,)))
            if len(waiting) > 2 * cores:
                yield waiting.pop(0).get()
        for last in waiting:
            yield last.get()


def table(tally: Tally) -> list[str]:
    """The sums, a line each."""
    heads = ("", "seeds", "virtual hours", "faults", "checks", "suspended", "lookups", "failures")
    lines: list[tuple[str, ...]] = [heads]
    for kind in sorted(tally.sums, key=lambda kind: (kind == "all", kind)):
        sums = tally.sums[kind]
        cells = [sums[name] for name in ("faults", "checks", "suspended", "lookups", "failures")]
        hours = f"{sums['seconds'] / 3600:.1f}"
        lines.append((kind, f"{sums['seeds']:,}", hours, *(f"{cell:,}" for cell in cells)))
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]


def _row_of(seed: int) -> Row:
    result: ChurnResult = run_churn(seed)
    setting = setting_for(seed)
    return Row(
        seed,
        f"{'v = 1' if setting.virtual_nodes == 1 else 'v > 1'}, {'' if setting.knows_all else 'no '}table",
        result.virtual_seconds,
        sum(count for kind, count in result.faults.items() if kind != "start"),
        sum(result.checks.values()),
        sum(result.suspended.values()),
        sum(result.lookups.values()),
        result.slowest,
        result.problems,
    )


def _be_quiet() -> None:
    globalLogBeginner.beginLoggingTo([_nowhere], redirectStandardIO=False, discardBuffer=True)


@implementer(ILogObserver)
def _nowhere(event: LogEvent) -> None:
    """Where logs go that nobody reads; failures are observed apart."""
