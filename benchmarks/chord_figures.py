"""The figures that the Chord papers published, by our code, beside theirs.

P1, L3 and F1 are of "Chord: A Scalable Peer-to-peer Lookup Service for
Internet Applications" (SIGCOMM 2001), F2 and C2 of the longer version (IEEE
Transactions on Networking, 2003).  Each has the paper's own number of hosts,
length of lists, positions and rule of lookup; the code is the shipped
``peerstore.ring``, in virtual time where time matters.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from figures import churn, keys, standing
from figures.pages import table, write_pages
from figures.rows import Row
from rich.console import Console


class Size(NamedTuple):
    """How much of everything is done."""

    lookups: int
    rings: int
    largest: int
    crash_nodes: int
    death_nodes: int
    death_lookups: int
    keys: int
    tries: int
    churn_lookups: int
    churn_every: float
    warm_up: float
    rates: Sequence[float]
    small_rings: int


FULL = Size(10_000, 2, 4096, 1000, 10_000, 5_000, 1_000_000, 5, 10_000, 0.1, 600.0, tuple(churn.C2), 2000)
QUICK = Size(800, 1, 512, 1000, 500, 1_000, 200_000, 2, 1_000, 0.1, 60.0, (0.05, 0.2, 0.4), 200)
#: For the tests: each part runs, and that is all.
TINY = Size(40, 1, 16, 60, 40, 30, 20_000, 1, 30, 0.05, 5.0, (0.4,), 20)

#: Figure: how its rows are made.
MAKERS: Mapping[str, Callable[[Size], list[Row]]] = {
    "P1": lambda size: standing.rows_of_p1(size.lookups, size.rings, size.largest),
    "L3": lambda size: keys.rows_of_l3(size.keys // 100, size.keys, size.tries),
    "F1": lambda size: churn.rows_of_f1(size.death_lookups, size.death_nodes),
    "F2": lambda size: standing.rows_of_f2(size.lookups, size.crash_nodes),
    "C2": lambda size: churn.rows_of_c2(
        size.churn_lookups, size.churn_every, size.warm_up, size.rates, size.crash_nodes
    ),
    "all peers known": lambda size: standing.known_rows(size.lookups // 5),
    "shares": lambda size: keys.rows_of_shares(size.small_rings),
}


def main() -> None:
    """Run, print the tables, and write what docs/ring shows if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer lookups, smaller rings: minutes")
    parser.add_argument("--only", help="figures, with commas between them")
    parser.add_argument("--docs", type=Path, help="write plots and tables into this folder")
    parser.add_argument("--keep", type=Path, help="add the rows to this JSON file; figures already there are not run")
    parser.add_argument("--again", action="store_true", help="run also what the JSON file has")
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    wanted = options.only.split(",") if options.only else list(MAKERS)
    kept = _kept(options.keep)
    console = Console()
    for figure in wanted:
        if figure not in kept or options.again:
            began = time.monotonic()
            kept[figure] = MAKERS[figure](size)
            if options.keep is not None:
                options.keep.write_text(json.dumps(kept, indent=1), encoding="utf-8")
            console.print(table(figure, kept[figure]))
            console.print(f"{figure} took {time.monotonic() - began:.0f} s\n")
        else:
            console.print(table(figure, kept[figure]))
    # In the docs stands all that is kept, also what was not asked for this time.
    rows = [row for figure in MAKERS if figure in kept for row in kept[figure]]
    if options.docs is not None:
        for path in write_pages(rows, options.docs):
            console.print(f"wrote {path}")
    judged = [row for row in rows if row.holds is not None]
    missed = [row for row in judged if not row.holds]
    console.print(f"{len(judged) - len(missed)} of {len(judged)} figures hold")
    for row in missed:
        console.print(f"  missed: {row.figure}, {row.case}, {row.what}: {row.cells()[3]}, asked for: {row.rule}")


def _kept(path: Path | None) -> dict[str, list[Row]]:
    if path is None or not path.exists():
        return {}
    return {figure: [Row(*row) for row in rows] for figure, rows in json.loads(path.read_text("utf-8")).items()}


if __name__ == "__main__":
    main()
