"""The figures that the Chord papers published, by our code, beside theirs.

P1, L3 and F1 are of "Chord: A Scalable Peer-to-peer Lookup Service for
Internet Applications" (SIGCOMM 2001), F2 and C2 of the longer version (IEEE
Transactions on Networking, 2003).  Each has the paper's own number of hosts,
length of lists, positions and rule of lookup; the code is the shipped
``peerstore.ring``, in virtual time where time matters.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
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

Make = Callable[[], list[Row]]
Kept = dict[str, dict[str, list[Row]]]

FIGURES = ("P1", "L3", "F1", "F2", "C2", "all peers known", "shares")


def parts(size: Size) -> dict[str, dict[str, Make]]:
    """{figure: {part: what makes its rows}}, in the order of the tables: the
    long ones in parts, each of which is kept as soon as it is there."""
    churning = (size.churn_lookups, size.churn_every, size.warm_up, size.crash_nodes)
    return {
        "P1": {"all": partial(standing.rows_of_p1, size.lookups, size.rings, size.largest)},
        "L3": {"all": partial(keys.rows_of_l3, size.keys // 100, size.keys, size.tries)},
        "F1": {
            f"p = {share:g}": partial(churn.rows_of_f1, share, size.death_lookups, size.death_nodes)
            for share in churn.F1
        },
        "F2": {"all": partial(standing.rows_of_f2, size.lookups, size.crash_nodes)},
        "C2": {
            f"R = {rate:.2f}{how}": partial(rows, rate, *churning)
            for rate in size.rates
            for how, rows in (("", churn.rows_of_c2), (", shipped", churn.rows_of_c2_shipped))
        },
        "all peers known": {"all": partial(standing.known_rows, size.lookups // 5)},
        "shares": {"all": partial(keys.rows_of_shares, size.small_rings)},
    }


def main() -> None:
    """Run, print the tables, and write what docs/ring shows if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer lookups, smaller rings: minutes")
    parser.add_argument("--only", help="figures, with commas between them")
    parser.add_argument("--docs", type=Path, help="write plots and tables into this folder")
    parser.add_argument("--keep", type=Path, help="add the rows to this JSON file; what is already there is not run")
    parser.add_argument("--again", action="store_true", help="run also what the JSON file has")
    parser.add_argument("--cores", type=int, default=1, help="so many parts at a time, each in a process of its own")
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    wanted = options.only.split(",") if options.only else list(FIGURES)
    kept = _kept(options.keep)
    console = Console()
    every = parts(size)
    jobs = {
        (figure, part): make
        for figure in wanted
        for part, make in every[figure].items()
        if options.again or part not in kept.get(figure, {})
    }
    for (figure, part), rows, seconds in _run(jobs, options.cores):
        kept.setdefault(figure, {})[part] = rows
        if options.keep is not None:
            options.keep.write_text(json.dumps(kept, indent=1), encoding="utf-8")
        console.print(f"{figure}, {part}: {seconds:.0f} s")
    for figure in wanted:
        console.print(table(figure, _rows(figure, kept, every)))
    # In the docs stands all that is kept, also what was not asked for this time.
    rows = [row for figure in FIGURES for row in _rows(figure, kept, every)]
    if options.docs is not None:
        for path in write_pages(rows, options.docs):
            console.print(f"wrote {path}")
    judged = [row for row in rows if row.holds is not None]
    missed = [row for row in judged if not row.holds]
    console.print(f"{len(judged) - len(missed)} of {len(judged)} figures hold")
    for row in missed:
        console.print(f"  missed: {row.figure}, {row.case}, {row.what}: {row.cells()[3]}, asked for: {row.rule}")


def _run(jobs: Mapping[tuple[str, str], Make], cores: int) -> Iterator[tuple[tuple[str, str], list[Row], float]]:
    """Each job's rows and seconds, as they come."""
    # A process for each: a ring of thousands leaves nothing behind for the next.
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        running = {pool.submit(_timed, make): name for name, make in jobs.items()}
        for done in as_completed(running):
            rows, seconds = done.result()
            yield running[done], rows, seconds


def _timed(make: Make) -> tuple[list[Row], float]:
    # Nearly all of what a ring of thousands makes stays for long: looking
    # for garbage every 700 objects takes a third of the time.
    gc.set_threshold(200_000, 20, 20)
    began = time.monotonic()
    return make(), time.monotonic() - began


def _rows(figure: str, kept: Kept, every: Mapping[str, Mapping[str, Make]]) -> list[Row]:
    """A figure's rows in the order of its parts, as far as there are any."""
    found = kept.get(figure, {})
    return [row for part in every[figure] if part in found for row in found[part]]


def _kept(path: Path | None) -> Kept:
    if path is None or not path.exists():
        return {}
    raw = json.loads(path.read_text("utf-8"))
    return {
        figure: {part: [Row(*row) for row in rows] for part, rows in found.items()} for figure, found in raw.items()
    }


if __name__ == "__main__":
    main()
