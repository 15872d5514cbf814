"""From a failing run to the shortest that fails in the same way.

ddmin (Zeller and Hildebrandt 2002) over the list of events, then fewer hosts.
Since every decision of chance is a hash of what it is for, taking one event
out does not change what the others mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from peerstore.sim.churn_run import ChurnResult, run_churn
from peerstore.sim.schedule import Event, Setting

__all__ = ["Shrunk", "ddmin", "kind_of", "shrink", "some_of", "without_hosts"]

#: A shorter schedule may fail so much later (virtual seconds) than the whole.
LATER = 30.0

_T = TypeVar("_T")


class Shrunk(NamedTuple):
    """What is left of a schedule: the numbers of its events, and the hosts
    without which they are; *runs* is what it took."""

    chosen: list[int]
    gone: list[str]
    runs: int


def kind_of(result: ChurnResult) -> str:
    """What counts as failing in the same way: the first invariant that did
    not hold; "" when everything did."""
    if not result.problems:
        return ""
    return result.violated[0] if result.violated else "another problem"


def shrink(
    seed: int,
    setting: Setting,
    events: Sequence[Event],
    chosen: Sequence[int] | None = None,
    gone: Sequence[str] = (),
    say: Callable[[str], None] = lambda what: None,
) -> Shrunk | None:
    """The shortest schedule found that fails as the whole does; None when
    that does not fail.

    :param chosen: begin with these events only, and without the hosts *gone*.
    """
    numbers = list(range(len(events)) if chosen is None else chosen)
    first = run_churn(seed, setting, some_of(events, numbers, gone))
    kind = kind_of(first)
    if not kind or first.failed_at is None:
        return None
    say(f"{len(numbers)} events: {first.problems[0]}")
    runs, until = 1, first.failed_at + LATER

    def fails(left: Sequence[Event]) -> bool:
        nonlocal runs
        runs += 1
        return kind_of(run_churn(seed, setting, left, until=until)) == kind

    # What was to happen later did not happen.
    numbers = [number for number in numbers if events[number].at <= first.failed_at]
    kept = ddmin(numbers, lambda some: fails(some_of(events, some, gone)))
    say(f"{len(kept)} events are enough, after {runs} runs")
    missing = list(gone)
    for name in sorted({name for event in some_of(events, kept, gone) for name in event.hosts}, reverse=True):
        if fails(some_of(events, kept, [*missing, name])):
            missing.append(name)
    present = [number for number in kept if some_of(events, [number], missing)]
    left = ddmin(present, lambda some: fails(some_of(events, some, missing)))
    say(f"{len(left)} events without {len(missing)} of the hosts are enough, after {runs} runs")
    return Shrunk(left, sorted(missing), runs)


def ddmin(items: Sequence[_T], fails: Callable[[Sequence[_T]], bool]) -> list[_T]:
    """A sublist that still fails, of which no single item can be left out.

    :param fails: whether a sublist fails; it does for all of *items*.
    """
    kept, parts = list(items), 2
    while len(kept) >= 2:
        size = -(-len(kept) // parts)
        chunks = [kept[start : start + size] for start in range(0, len(kept), size)]
        for place, chunk in enumerate(chunks):
            rest = [item for other, some in enumerate(chunks) if other != place for item in some]
            if parts > 2 and len(chunk) < len(rest) and fails(chunk):
                kept, parts = chunk, 2
                break
            if fails(rest):
                kept, parts = rest, max(2, parts - 1)
                break
        else:
            if parts >= len(kept):
                break
            parts = min(len(kept), 2 * parts)
    if len(kept) == 1 and fails([]):
        return []
    return kept


def some_of(events: Sequence[Event], chosen: Iterable[int] | None, gone: Iterable[str]) -> list[Event]:
    """The events with these numbers, by default all, without the hosts *gone*."""
    left = list(events) if chosen is None else [events[number] for number in chosen if 0 <= number < len(events)]
    return without_hosts(left, gone)


def without_hosts(events: Iterable[Event], hosts: Iterable[str]) -> list[Event]:
    """The events without these hosts; what then concerns nobody is left out.

    Who is told of a host that there is not goes on without it.
    """
    gone = set(hosts)
    kept = []
    for event in events:
        groups = tuple(tuple(name for name in group if name not in gone) for group in event.groups)
        if event.kind == "copy":
            needed = len(groups[0]) == len(event.groups[0])
        elif event.kind == "start" or event.kind.startswith("restart"):
            needed = bool(groups[0])
        else:
            needed = all(groups)
        if needed:
            kept.append(event._replace(groups=groups))
    return kept
