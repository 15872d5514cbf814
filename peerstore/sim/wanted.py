"""What a command line asks of the simulator: which seeds, which events."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence

import click

from peerstore.sim.network import Faults

__all__ = ["chosen_events", "only_words", "told_faults", "wanted_seeds"]


def wanted_seeds(
    seeds: str | None, minutes: float | None, first: int | None
) -> tuple[Iterable[int], Callable[[], bool]]:
    """The seeds to run, and whether there is still time for one more.

    :param seeds: "A-B"; None: all from *first* on, by default from the clock's.
    :raises click.BadParameter: when *seeds* is nothing of the kind.
    """
    limit = None if minutes is None else time.monotonic() + 60 * minutes

    def is_time() -> bool:
        return limit is None or time.monotonic() < limit

    if seeds is not None:
        low, _, high = seeds.partition("-")
        try:
            return range(int(low), int(high or low) + 1), is_time
        except ValueError:
            raise click.BadParameter("say it like 1-200.", param_hint="--seeds") from None
    first = int(time.time()) if first is None else first
    click.echo(f"from seed {first} on", err=True)
    return itertools.count(first), is_time


def chosen_events(only: str | None) -> list[int] | None:
    """The numbers in "N,N,...", sorted; None for all.

    :raises click.BadParameter: when they are none.
    """
    if only is None:
        return None
    try:
        return sorted({int(number) for number in only.split(",") if number})
    except ValueError:
        raise click.BadParameter("say it like 0,3,17.", param_hint="--only") from None


def only_words(chosen: Sequence[int] | None) -> str:
    """The option that names these events again."""
    return f" --only {','.join(map(str, chosen))}" if chosen is not None else ""


def told_faults(faults: Faults) -> str:
    """Those faults of the network that there are."""
    return ", ".join(f"{name} {value:g}" for name, value in faults._asdict().items() if value)
