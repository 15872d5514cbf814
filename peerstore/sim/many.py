"""Many seeds, on several cores, and one table."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from peerstore.sim.churn_run import ChurnResult, run_churn
from peerstore.sim.schedule import setting_for

__all__ = ["Row", "Tally", "in_columns", "run_many", "run_rings", "table"]

_R = TypeVar("_R")


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
    kinds: Counter[str]
    violated: list[str]
    problems: list[str]


class Tally:
    """Sums of rows, by kind and over all."""

    def __init__(self) -> None:
        self.sums: dict[str, Counter[str]] = {}
        self.slowest = 0.0
        self.kinds: Counter[str] = Counter()
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
        self.kinds.update(row.kinds)
        if row.problems:
            self.failures.append(row)


def run_rings(
    seeds: Iterable[int], cores: int, go_on: Callable[[], bool] = lambda: True, large: bool = False
) -> Iterator[Row]:
    """Run seeds of rings, see :func:`run_many`."""
    return run_many(_large_row_of if large else _row_of, seeds, cores, go_on)


def run_many(
    run: Callable[[int], _R], seeds: Iterable[int], cores: int, go_on: Callable[[], bool] = lambda: True
) -> Iterator[_R]:
    """Run seeds one after the other on each core, while *go_on* says so.

    :param run: a function of a module: other processes find it by name.
    """
    wanted = iter(seeds)

    def supply() -> Iterator[int]:
        for seed in wanted:
            if not go_on():
                return
            yield seed

    if cores == 1:
        yield from map(run, supply())
        return
    # Forked, so that they begin at once, and run what runs here (a test may have
    # put a bug in); there are no threads to be lost.
    with multiprocessing.get_context("fork").Pool(cores) as pool:
        # A window of a few per core: a supply without an end is taken slowly.
        waiting = []
        for seed in supply():
            waiting.append(pool.apply_async(run, (seed,)))
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
    return in_columns(lines)


def in_columns(lines: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines, each column as wide as it must be."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]


def _large_row_of(seed: int) -> Row:
    return _row_of(seed, large=True)


def _row_of(seed: int, large: bool = False) -> Row:
    setting = setting_for(seed, large)
    result: ChurnResult = run_churn(seed, setting)
    return Row(
        seed,
        f"{'v = 1' if setting.virtual_nodes == 1 else 'v > 1'}, {'' if setting.knows_all else 'no '}table",
        result.virtual_seconds,
        sum(count for kind, count in result.faults.items() if kind != "start"),
        sum(result.checks.values()),
        sum(result.suspended.values()),
        sum(result.lookups.values()),
        result.slowest,
        result.faults,
        result.violated,
        result.problems,
    )
