"""The figures as tables and plots, for a terminal and for docs/ring."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.table import Table

from figures.rows import Row
from figures.svg import Series, plot

__all__ = ["ABOUT", "markdown", "plots", "table", "write_pages"]

#: Figure: what it is.
ABOUT: Mapping[str, str] = {
    "P1": "Path length (SIGCOMM 2001, Fig. 10a): steps to the predecessor; fingers and one successor, no short cut",
    "L3": "Keys per host (SIGCOMM 2001, Fig. 9): 10,000 hosts, 100 keys each in the mean; placement alone",
    "F1": "Many die (SIGCOMM 2001, Fig. 11): lookups that do not lead to whoever has the thing, once the ring is right",
    "F2": "Many die, nobody notices (TON 2003, Table II): 1,000 hosts, lists of 20, no stabilization",
    "C2": "Coming and going (TON 2003, Table III): 1,000 hosts, R joins and R leaves a second, lists of 20",
    "all peers known": "Where all peers are known: questions of a lookup",
    "shares": "Share of the circle that the host with the most has, over the mean",
}
COLUMNS = ("case", "figure", "theirs", "ours", "asked for", "holds")
#: File: (figure, title, name of x, name of y, log x, [(what, name of ours)]).
_PLOTS: Mapping[str, tuple[str, str, str, str, bool, tuple[tuple[str, str], ...]]] = {
    "ring-figure-p1.svg": (
        "P1",
        "Path length by size of the ring",
        "hosts",
        "mean steps to the predecessor",
        True,
        (("mean path length", "PeerStore, the paper's rule"),),
    ),
    "ring-figure-l3.svg": (
        "L3",
        "Keys per host by positions of a host",
        "positions of each host",
        "keys: 1st and 99th percentile",
        False,
        (("99th percentile, keys", "PeerStore, 99th"), ("1st percentile, keys", "PeerStore, 1st")),
    ),
    "ring-figure-f1.svg": (
        "F1",
        "Lookups that fail after a mass death",
        "share of hosts that died",
        "share of lookups",
        False,
        (("failed lookups", "PeerStore, after mending"),),
    ),
    "ring-figure-f2.svg": (
        "F2",
        "Hops and timeouts after a mass death that nobody noticed",
        "share of hosts that died",
        "per lookup",
        False,
        (("mean hops", "PeerStore, hops"), ("mean timeouts", "PeerStore, timeouts")),
    ),
    "ring-figure-c2.svg": (
        "C2",
        "Lookups that fail while hosts come and go",
        "joins, and leaves, per second",
        "failures of 10,000, at the first attempt",
        False,
        (("failures of 10,000", "PeerStore, their timers and hints"),),
    ),
}


def table(figure: str, rows: Sequence[Row]) -> Table:
    """One figure, for a terminal."""
    made = Table(title=f"{figure}. {ABOUT[figure]}" if figure in ABOUT else figure)
    for column in COLUMNS:
        made.add_column(column, justify="right" if column in ("theirs", "ours") else "left")
    for row in rows:
        made.add_row(*row.cells())
    return made


def markdown(rows: Sequence[Row], shown: Iterable[str] = ()) -> str:
    """All figures, as tables of MyST.

    :param shown: names of plots; each stands above its figure's table.
    """
    parts = []
    for figure in dict.fromkeys(row.figure for row in rows):
        mine = [row.cells() for row in rows if row.figure == figure]
        parts.append(f"**{figure}.** {ABOUT[figure]}.\n")
        parts += [f"![{_PLOTS[name][1]}]({name})\n" for name in shown if _PLOTS[name][0] == figure]
        parts.append("| " + " | ".join(COLUMNS) + " |\n|---|---|--:|--:|---|---|")
        parts += ["| " + " | ".join(cells) + " |" for cells in mine]
        parts.append("")
    return "\n".join(parts)


def plots(rows: Sequence[Row]) -> dict[str, str]:
    """SVG by file name, of the figures that there are rows of."""
    made = {}
    for name, (figure, title, x_name, y_name, log_x, shown) in _PLOTS.items():
        series = []
        for what, ours in shown:
            mine = [row for row in rows if (row.figure, row.what) == (figure, what)]
            points = [(_x(row), row.theirs, row.ours) for row in mine]
            known = [(x, theirs) for x, theirs, _ in points if theirs is not None]
            if known:
                series.append(Series("published" if len(shown) == 1 else f"published, {what}", known, True))
            if points:
                series.append(Series(ours, [(x, value) for x, _, value in points]))
        if series:
            made[name] = plot(title, x_name, y_name, series, log_x)
    return made


def write_pages(rows: Sequence[Row], folder: Path) -> list[Path]:
    """The plots, and the tables as ``ring-figures.txt`` to be included."""
    written = []
    made = plots(rows)
    for name, text in {**made, "ring-figures.txt": markdown(rows, made)}.items():
        (folder / name).write_text(text, encoding="utf-8")
        written.append(folder / name)
    return written


def _x(row: Row) -> float:
    """The number in "n = 128"."""
    return float(row.case.rpartition("=")[2].replace(",", ""))
