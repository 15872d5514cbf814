"""From a failing run to the shortest that fails in the same way.

ddmin (Zeller and Hildebrandt 2002) over the list of events, then fewer hosts.
Since every decision of chance is a hash of what it is for, taking one event
out does not change what the others mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from peerstore.sim.schedule import Event

__all__ = ["ddmin", "fewer_hosts", "without_hosts"]

_T = TypeVar("_T")


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


def without_hosts(events: Iterable[Event], hosts: Iterable[str]) -> list[Event]:
    """The events without these hosts; what then concerns nobody is left out.

    Who is told of a host that there is not goes on without it.
    """
    gone = set(hosts)
    kept = []
    for event in events:
        groups = tuple(tuple(name for name in group if name not in gone) for group in event.groups)
        starts = event.kind == "start" or event.kind.startswith("restart")
        if event.groups and (not groups[0] or (not starts and not all(groups))):
            continue
        kept.append(event._replace(groups=groups))
    return kept


def fewer_hosts(events: Sequence[Event], fails: Callable[[Sequence[Event]], bool]) -> list[str]:
    """Hosts that can be left out, one after the other, without it holding."""
    gone: list[str] = []
    for name in sorted({name for event in events for name in event.hosts}, reverse=True):
        if fails(without_hosts(events, [*gone, name])):
            gone.append(name)
    return gone
