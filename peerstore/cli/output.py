"""What people see: errors, sizes, progress, tables."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from peerstore.client.backup import Progress as Watcher

__all__ = ["Meter", "counted", "human", "out", "print_json", "say_error", "say_note"]

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def say_error(what: str, next_step: str = "") -> None:
    """What happened, and on its own line the safe next step."""
    err.print(Text(f"peerstore: {what}", style="bold red"))
    if next_step:
        err.print(Text(f"  {next_step}"))


def say_note(line: str) -> None:
    """One line on the side; it does not disturb what is piped."""
    err.print(Text(line, style="yellow"))


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, sort_keys=True) + "\n")


def human(size: float) -> str:
    """Bytes in words: 512 B, 3.4 KiB, 1.2 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("there is a unit for every size")


def counted(number: int, noun: str) -> str:
    """A number of things: 1 file, 2 files."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class Meter(Watcher):
    """A progress bar with rate and time left, on a terminal only.

    :param quiet: no bar at all.
    """

    def __init__(self, verb: str, quiet: bool) -> None:
        self._shown = not quiet and err.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=err,
            transient=True,
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
