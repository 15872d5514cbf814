"""Bugs that simulated data must notice, put in one at a time.

::

    python -m tests.support.data_bugs [--seeds 1-9] [--bug NAME] [--first]

prints which seeds catch which bug, and ends with status 1 when one of them is
caught by none.  A bug is a function or method of the shipped code that is
replaced while a seed runs; where there is no such thing any more, the bug is
out of date, and that is an error, too.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import click
from twisted.internet.defer import Deferred, succeed

from peerstore.gateway import union
from peerstore.items import Item, ItemKey
from peerstore.node.electorate import Electorate
from peerstore.node.exchange import Exchange, Task
from peerstore.node.farewell import Farewell
from peerstore.node.keeper import Keeper, Verdict
from peerstore.node.strays import Strays
from peerstore.sim.data_run import run_data
from peerstore.sim.many import in_columns, run_many
from peerstore.storage.memory_store import MemoryNodeStore
from peerstore.wire.messages import Status

__all__ = ["BUGS", "SEEDS", "Bug", "Caught", "caught_by", "hunt", "replaced"]

#: The fixed list: each bug is caught by some of these.
SEEDS = range(1, 10)


class Bug(NamedTuple):
    """One bug: what it does wrong, and how it is put in."""

    what: str
    put_in: Callable[[], contextlib.AbstractContextManager[None]]


class Caught(NamedTuple):
    """One seed with one bug in it: the promises that were not kept."""

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


# -- the bugs -----------------------------------------------------------------------


def retire_that_exits_early() -> contextlib.AbstractContextManager[None]:
    """It hands over what it can, once, and goes."""

    def make(real: Any) -> Any:
        async def once(self: Any, say: Any) -> None:
            say(await self._strays.round(1, drop=False))

        return once

    return replaced(Farewell, "_all_with_others", make)


def ack_before_fsync() -> contextlib.AbstractContextManager[None]:
    """What was written counts at once; the disk follows when it can."""

    def make(real: Any) -> Any:
        def put(self: Any, items: Any) -> Deferred[list[bool]]:
            pending: list[Item] = list(items)
            real(self, pending).addErrback(lambda failure: None)
            return succeed([self._index(item) for item in pending])

        return put

    return replaced(MemoryNodeStore, "put", make)


def not_found_from_one_answer() -> contextlib.AbstractContextManager[None]:
    """One voter speaks for all."""
    return replaced(union._Count, "complete", lambda real: property(lambda self: bool(self._names)))


def syncing_counted_as_a_vote() -> contextlib.AbstractContextManager[None]:
    """Whoever is on the list of voters votes, whatever it knows."""
    return replaced(Electorate, "is_voter", lambda real: lambda self, arc: self.fp in arc.named.hosts)


def drop_before_confirm() -> contextlib.AbstractContextManager[None]:
    """Who should have a copy has one, no doubt."""

    def make(real: Any) -> Any:
        async def has(self: Any, fp: bytes, keys: Sequence[ItemKey]) -> frozenset[ItemKey]:
            return frozenset(keys)

        return has

    return replaced(Strays, "_with", make)


def repair_that_trusts_a_digest() -> contextlib.AbstractContextManager[None]:
    """What two hosts once had alike is alike for ever."""
    alike: set[tuple[Any, ...]] = set()

    def make(real: Any) -> Any:
        async def run(self: Any, task: Task, after: int, through: int) -> None:
            place = (id(self), task.member.fp, task.kinds, task.fetch, task.push, after, through)
            if place not in alike:
                await real(self, task, after, through)
                alike.add(place)

        return run

    return replaced(Exchange, "run", make)


def refused_after_acknowledged() -> contextlib.AbstractContextManager[None]:
    """A quota is judged by each host that is given a copy, too."""

    def make(real: Any) -> Any:
        async def keep(self: Any, items: Any) -> list[Verdict]:
            verdicts = []
            for item in items:
                _, count = await self.store.usage(item.key.owner)
                if count >= 60:
                    verdicts.append(Verdict(Status.QUOTA, "the owner's quota is used up"))
                else:
                    verdicts += await real(self, [item])
            return verdicts

        return keep

    return replaced(Keeper, "keep", make)


BUGS = {
    "drop before confirm": Bug("copies go without asking who else has them", drop_before_confirm),
    "ack before fsync": Bug("a write is acknowledged before it is on the disk", ack_before_fsync),
    "SYNCING counted as a vote": Bug("a voter votes before it knows everything", syncing_counted_as_a_vote),
    "not-found from one answer": Bug("one voter's answer makes a read complete", not_found_from_one_answer),
    "repair that trusts a digest": Bug("what was alike once is not compared again", repair_that_trusts_a_digest),
    "refused after acknowledged": Bug("a copy of what another acknowledged is refused", refused_after_acknowledged),
    "retire that exits early": Bug("a node goes before others have what it had", retire_that_exits_early),
}


# -- the table ----------------------------------------------------------------------


def caught_by(bug: str, seed: int) -> Caught:
    """Run one seed with one bug in it; with "" as it is shipped."""
    with BUGS[bug].put_in() if bug else contextlib.nullcontext():
        result = run_data(seed)
    problems = ("another problem",) if result.problems and not result.violated else ()
    return Caught(bug, seed, tuple(dict.fromkeys(result.violated)) or problems)


def hunt(bug: str, seeds: Iterable[int], cores: int, first: bool) -> list[Caught]:
    """What these seeds make of a bug; *first* stops at one that catches it."""
    told: list[Caught] = []
    for caught in run_many(
        functools.partial(caught_by, bug), seeds, cores, lambda: not (first and any(one.violated for one in told))
    ):
        told.append(caught)
    return told


def _line(name: str, what: str, told: Sequence[Caught]) -> tuple[str, ...]:
    caught = [one for one in told if one.violated]
    kinds = Counter(one.violated[0] for one in caught)
    seeds = " ".join(str(one.seed) for one in caught[:8]) + (" ..." if len(caught) > 8 else "")
    how = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
    return name, what, f"{len(caught)} of {len(told)}", seeds or "-", how or "-"


@click.command()
@click.option("--seeds", default=f"{SEEDS[0]}-{SEEDS[-1]}", show_default=True, metavar="A-B", help="The seeds to run.")
@click.option("--bug", "names", multiple=True, type=click.Choice(sorted(BUGS)), help="Only this one.")
@click.option("--first", is_flag=True, help="Stop at the first seed that catches a bug.")
@click.option("--cores", type=click.IntRange(1), help="Processes.  [default: all cores]")
def main(seeds: str, names: tuple[str, ...], first: bool, cores: int | None) -> None:
    """Put each bug in, and print which seeds catch it."""
    low, _, high = seeds.partition("-")
    wanted, cores = range(int(low), int(high or low) + 1), cores or multiprocessing.cpu_count()
    lines = [("bug", "what it does", "caught by", "seeds", "as")]
    missed = []
    for name in names or BUGS:
        told = hunt(name, wanted, cores, first)
        click.echo(f"{name}: {sum(bool(one.violated) for one in told)} of {len(told)}", err=True)
        lines.append(_line(name, BUGS[name].what, told))
        if not any(one.violated for one in told):
            missed.append(name)
    for line in in_columns(lines):
        click.echo(line)
    if missed:
        click.echo(f"NOT CAUGHT: {', '.join(missed)}")
        sys.exit(1)
    click.echo("every bug is caught")


if __name__ == "__main__":
    main()
