"""Many seeds of simulated data, and one table."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from peerstore.sim.data_run import run_data
from peerstore.sim.data_schedule import LOSSES, setting_for
from peerstore.sim.many import in_columns

__all__ = ["DataRow", "DataTally", "data_row", "data_table"]


class DataRow(NamedTuple):
    """One seed's share of the table."""

    seed: int
    kind: str
    sums: Counter[str]
    slowest: float
    problems: list[str]
    violated: list[str]


class DataTally:
    """Sums of rows, by kind and over all."""

    def __init__(self) -> None:
        self.sums: dict[str, Counter[str]] = {}
        self.slowest = 0.0
        self.failures: list[DataRow] = []

    def add(self, row: DataRow) -> None:
        """One more seed."""
        for kind in (row.kind, "all"):
            self.sums.setdefault(kind, Counter()).update(row.sums)
        self.slowest = max(self.slowest, row.slowest)
        if row.problems:
            self.failures.append(row)


def data_row(seed: int) -> DataRow:
    """Run one seed."""
    result, setting = run_data(seed), setting_for(seed)
    sums = Counter(
        {
            "seeds": 1,
            "seconds": round(result.virtual_seconds),
            "faults": sum(count for kind, count in result.faults.items() if kind != "start"),
            "disks lost": sum(result.faults[kind] for kind in LOSSES),
            "operations": sum(result.operations[kind] for kind in ("save", "delete", "leave_behind", "have"))
            + result.operations["complete"]
            + result.operations["unknown"],
            "complete": result.operations["complete"],
            "unknown": result.operations["unknown"],
            "certain": result.things["certain"],
            "checks": sum(result.checks.values()),
            "failures": bool(result.problems),
        }
    )
    kind = f"{'grows' if setting.first < 3 else 'full'}, {'v = 1' if setting.virtual_nodes == 1 else 'v > 1'}"
    return DataRow(seed, kind, sums, result.slowest, result.problems, result.violated)


#: What the table shows of the sums, and what it calls it.
COLUMNS = {
    "faults": "faults",
    "disks lost": "disks lost",
    "operations": "operations",
    "certain": "things certain",
    "complete": "reads complete",
    "unknown": "unknown",
    "checks": "checks",
    "failures": "failures",
}


def data_table(tally: DataTally) -> list[str]:
    """The sums, a line each."""
    lines: list[tuple[str, ...]] = [("", "seeds", "virtual hours", *COLUMNS.values())]
    for kind in sorted(tally.sums, key=lambda kind: (kind == "all", kind)):
        sums = tally.sums[kind]
        cells = [f"{sums[name]:,}" for name in COLUMNS]
        lines.append((kind, f"{sums['seeds']:,}", f"{sums['seconds'] / 3600:.1f}", *cells))
    return in_columns(lines)
