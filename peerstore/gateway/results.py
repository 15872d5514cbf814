"""What the gateway tells its callers."""

from __future__ import annotations

from typing import NamedTuple

from peerstore.items import Item
from peerstore.wire.messages import Status

__all__ = ["LogRead", "Outcome", "SetRead", "UNSENT"]


class Outcome(NamedTuple):
    """What became of one item that was to be stored.

    *status* is a ``wire.messages.Status``: OK also when too few hosts have it
    so far; UNAVAILABLE when no host took it before patience ran out; REJECTED
    and GAP as the owner judged.  *holders* hosts have it on disk, *needed*
    make it certain; *why* is a sentence for a person, empty when all is well.
    """

    status: Status
    holders: tuple[bytes, ...]
    needed: int
    certain: bool
    why: str = ""


UNSENT = Outcome(Status.UNAVAILABLE, (), 1, False, "No node took it in time.")


class SetRead(NamedTuple):
    """The union of what the voters of one key said.

    *complete* is false when fewer than a majority answered: the newest may be
    missing, and absence means nothing.
    """

    items: tuple[Item, ...]
    complete: bool


class LogRead(NamedTuple):
    """Entries of a log, chain by chain; *heads* is the highest number that
    any voter named for each device; *more* says that the page was full."""

    items: tuple[Item, ...]
    heads: dict[bytes, int]
    complete: bool
    more: bool
