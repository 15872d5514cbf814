"""What people see: errors, sizes, progress, tables."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.table import Column
from rich.text import Text

from peerstore.client.backup import Progress as Watcher

__all__ = [
    "Meter",
    "ago",
    "counted",
    "human",
    "milliseconds",
    "out",
    "paragraph",
    "print_json",
    "say",
    "say_error",
    "say_lines",
    "say_note",
    "text_of",
    "where",
]

#: Lines of a kind that are shown before the rest is only counted.
ALIKE = 5
#: Columns of a terminal from which on there is a bar; tables fit into them.
WIDE = 80
#: Columns for an address in a table.
ADDRESS = 21

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """One line of what was asked for, on standard output."""
    out.print(Text(line))


def say_error(what: str, next_step: str = "") -> None:
    """What happened, and on its own line the safe next step."""
    err.print(Text(f"peerstore: {what}", style="bold red"))
    if next_step:
        err.print(Text(f"  {next_step}"))


def say_note(line: str) -> None:
    """One line on the side; it does not disturb what is piped."""
    err.print(Text(line, style="yellow"))


def say_lines(lines: Sequence[str], before: str = "") -> None:
    """Lines of the form ``PATH: what`` on the side.  Of many that say the
    same, the first few, and how many more there are."""
    kinds: dict[str, list[str]] = {}
    for line in lines:
        kinds.setdefault(line.rpartition(": ")[2], []).append(line)
    for what, alike in kinds.items():
        shown = alike if len(alike) <= ALIKE + 1 else alike[:ALIKE]
        for line in shown:
            say_note(before + line)
        if len(alike) > len(shown):
            say_note(f"{before}{len(alike) - len(shown)} more: {what} (--json names all)")


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, sort_keys=True) + "\n")


def text_of(path: bytes) -> str:
    """A path in JSON: bytes that are no text as \\xNN, nothing else changed."""
    return path.decode("utf-8", "backslashreplace")


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun: 1 file, 1,200 files."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def human(size: float) -> str:
    """Bytes in words: 512 B, 3.4 KiB, 1.2 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1023.95 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("there is a unit for every size")


def milliseconds(seconds: float) -> str:
    """How long an answer took: 0.4 ms, 27 ms, 1.3 s."""
    if seconds >= 0.9995:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.1f} ms" if seconds < 0.00995 else f"{seconds * 1000:.0f} ms"


def ago(seconds: float) -> str:
    """How long something is past: just now, 12 seconds ago, 3 days ago."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds >= size * (2 if unit in ("minute", "second") else 1):
            return f"{counted(int(seconds // size), unit)} ago"
    return "just now"


def where(address: str) -> str:
    """An address in a table: without "tcp:", and with its middle left out
    where it is long."""
    short = address.removeprefix("tcp:")
    if len(short) <= ADDRESS:
        return short
    return f"{short[: ADDRESS - 10]}…{short[-9:]}"


def paragraph(text: str, indent: str = "") -> list[str]:
    """Words in lines that fit a terminal."""
    return textwrap.wrap(text, WIDE, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


class _Rate(ProgressColumn):
    """Bytes in a second, in the units of everything else."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{human(speed)}/s" if speed else "", style="progress.data.speed")


class _Left(ProgressColumn):
    """The time that is left at that rate."""

    # Once a second is often enough to be read.
    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        left = task.time_remaining
        return Text(f"{timedelta(seconds=int(left))} left" if left else "", style="progress.remaining")


class Meter(Watcher):
    """A progress bar with rate and time left, on a terminal only.

    :param quiet: no bar at all.
    """

    def __init__(self, verb: str, quiet: bool) -> None:
        self._shown = not quiet and err.is_terminal
        # Numbers say more than a bar where there is no room for both.
        bar = [BarColumn(bar_width=None)] if err.width >= WIDE else []
        self._bar = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            *bar,
            DownloadColumn(binary_units=True, table_column=Column(no_wrap=True)),
            _Rate(table_column=Column(no_wrap=True)),
            _Left(table_column=Column(no_wrap=True)),
            console=err,
            transient=True,
            expand=True,
        )
        self._task: TaskID = self._bar.add_task(verb, total=None)
        self._verb = verb
        self._files = 0
        self._of = 0

    def __enter__(self) -> Meter:
        if self._shown:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._bar.stop()

    def total(self, files: int, size: int) -> None:
        """What is to be done in all."""
        self._of = files
        self._bar.update(self._task, total=size)

    def done(self, size: int) -> None:
        """Bytes that are done."""
        self._bar.advance(self._task, size)

    def file(self, path: bytes) -> None:
        """A file that is done."""
        self._files += 1
        self._bar.update(self._task, description=f"{self._verb} {self._files}/{self._of}")
