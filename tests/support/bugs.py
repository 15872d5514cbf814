"""Bugs that a list of seeds must notice: put in one at a time, and told in a table.

A bug is a function or method of the shipped code that is replaced while a
seed runs; where there is no such thing any more, the bug is out of date, and
that is an error, too.  The shipped code is run over the same seeds, and
nothing may be noticed.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import click

from peerstore.sim.many import in_columns, run_many

__all__ = ["Bug", "Caught", "Hunt", "Outcome", "replaced", "together"]

#: So many seeds are named in a line.
NAMED = 8


class Outcome(Protocol):
    """What a run of a seed comes to: *problems* is empty when all held."""

    problems: list[str]
    violated: list[str]


class Bug(NamedTuple):
    """One bug: what it does wrong, how it is put in, and what is run with it,
    where that is not what is run with the others."""

    what: str
    put_in: Callable[[], contextlib.AbstractContextManager[None]]
    run: Callable[[int], Any] | None = None


class Caught(NamedTuple):
    """One seed with one bug in it: what was not kept, in the order in which
    that was seen; nothing when it got by."""

    bug: str
    seed: int
    violated: tuple[str, ...]


@contextlib.contextmanager
def replaced(owner: Any, name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """*owner*'s own *name* is what *make* makes of it.

    :raises LookupError: when it has none: the bug is out of date.
    """
    if name not in vars(owner):
        raise LookupError(f"{owner.__name__} has no {name} of its own any more; this bug is out of date")
    real = vars(owner)[name]
    setattr(owner, name, make(real))
    try:
        yield
    finally:
        setattr(owner, name, real)


@contextlib.contextmanager
def together(*parts: contextlib.AbstractContextManager[None]) -> Iterator[None]:
    """One wrong idea that shows in several places."""
    with contextlib.ExitStack() as stack:
        for part in parts:
            stack.enter_context(part)
        yield


class Hunt:
    """Bugs, and what is run to find them.

    :param run: runs one seed; a function of a module.
    :param seeds: the fixed list.
    :param bugs: by name.
    :param untold: bugs that cannot be put in, and why.
    """

    def __init__(
        self,
        run: Callable[[int], Any],
        seeds: range,
        bugs: Mapping[str, Bug],
        untold: Mapping[str, str] | None = None,
    ) -> None:
        self.run = run
        self.seeds = seeds
        self.bugs = bugs
        self.untold = untold or {}

    def caught_by(self, bug: str, seed: int) -> Caught:
        """Run one seed with one bug in it."""
        found = self.bugs[bug]
        with found.put_in():
            return Caught(bug, seed, _told(found.run or self.run, seed))

    def shipped(self, run: Callable[[int], Any], seed: int) -> Caught:
        """Run one seed without any."""
        return Caught("", seed, _told(run, seed))

    def hunt(self, bug: str, seeds: Sequence[int], cores: int, first: bool) -> list[Caught]:
        """What these seeds make of a bug; *first* stops at one that catches it."""
        told: list[Caught] = []
        for caught in run_many(
            functools.partial(self.caught_by, bug),
            seeds,
            cores,
            lambda: not (first and any(one.violated for one in told)),
        ):
            told.append(caught)
        return told

    def all_shipped(self, names: Sequence[str], seeds: Sequence[int], cores: int) -> list[Caught]:
        """What these seeds make of the shipped code, in all that is run for
        these bugs."""
        told: list[Caught] = []
        for run in dict.fromkeys(self.bugs[name].run or self.run for name in names):
            told += run_many(functools.partial(self.shipped, run), seeds, cores)
        return told

    def table(self, names: Sequence[str], seeds: Sequence[int], cores: int, first: bool) -> tuple[list[str], bool]:
        """The table, a line each, and whether all is as it should be."""
        lines: list[tuple[str, ...]] = [("bug", "what it does", "caught by", "seeds", "as")]
        shipped = self.all_shipped(names, seeds, cores)
        lines.append(_line("as shipped", "nothing", shipped))
        fine = not any(one.violated for one in shipped)
        for name in names:
            told = self.hunt(name, seeds, cores, first)
            click.echo(f"{name}: {sum(bool(one.violated) for one in told)} of {len(told)}", err=True)
            lines.append(_line(name, self.bugs[name].what, told))
            fine = fine and any(one.violated for one in told)
        return in_columns(lines), fine

    def command(self, what: str) -> click.Command:
        """The command line; ends with status 1 when a bug is not caught, or
        the shipped code is.

        :param what: its help.
        """

        @click.command(help=what)
        @click.option(
            "--seeds",
            default=f"{self.seeds[0]}-{self.seeds[-1]}",
            show_default=True,
            metavar="A-B",
            help="Seeds to run.",
        )
        @click.option("--bug", "names", multiple=True, type=click.Choice(sorted(self.bugs)), help="Only this one.")
        @click.option("--first", is_flag=True, help="Stop at the first seed that catches a bug.")
        @click.option("--cores", type=click.IntRange(1), help="Processes.  [default: all cores]")
        def main(seeds: str, names: tuple[str, ...], first: bool, cores: int | None) -> None:
            low, _, high = seeds.partition("-")
            wanted = range(int(low), int(high or low) + 1)
            lines, fine = self.table(names or tuple(self.bugs), wanted, cores or multiprocessing.cpu_count(), first)
            for line in lines:
                click.echo(line)
            for name, why in self.untold.items():
                click.echo(f"not put in: {name}: {why}")
            click.echo("every bug is caught, and nothing else" if fine else "NOT ALL IS WELL: see above")
            sys.exit(0 if fine else 1)

        return main


def _told(run: Callable[[int], Any], seed: int) -> tuple[str, ...]:
    """The promises that one run did not keep, or its other problems."""
    result: Outcome = run(seed)
    return tuple(dict.fromkeys(result.violated)) or tuple(map(_in_short, result.problems[:1]))


def _in_short(problem: str) -> str:
    """A problem that is no promise, without what differs from run to run."""
    _, _, what = problem.partition(" s: ")
    words = re.sub(r"\S*\d\S*", "N", what or problem).replace(",", "").split()
    return " ".join(words[:7])


def _line(name: str, what: str, told: Sequence[Caught]) -> tuple[str, ...]:
    caught = [one for one in told if one.violated]
    kinds = Counter(one.violated[0] for one in caught)
    seeds = " ".join(str(one.seed) for one in caught[:NAMED]) + (" ..." if len(caught) > NAMED else "")
    how = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
    return name, what, f"{len(caught)} of {len(told)}", seeds or "-", how or "-"
