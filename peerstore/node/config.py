"""What a node is started with."""

from __future__ import annotations

import errno
from typing import NamedTuple

from twisted.internet.error import CannotListenError

from peerstore.errors import CorruptData, RingMismatch, UsageError

__all__ = [
    "DEFAULT_COPIES",
    "DEFAULT_SCRUB_DAYS",
    "DEFAULT_SCRUB_RATE",
    "DEFAULT_REPAIR_GRACE",
    "DEFAULT_REPAIR_RATE",
    "DEFAULT_VIRTUAL_NODES",
    "NodeConfig",
    "agree",
    "read_number",
    "read_settings",
    "why_not_listening",
]

DEFAULT_COPIES = 3
DEFAULT_VIRTUAL_NODES = 8
DEFAULT_REPAIR_RATE = 25_000_000
DEFAULT_REPAIR_GRACE = 1200.0
DEFAULT_SCRUB_RATE = 4_000_000
DEFAULT_SCRUB_DAYS = 7.0


class NodeConfig(NamedTuple):
    """Options of one node.

    *listen* is a server endpoint, *join* client endpoints of the ring (none:
    the first node), *advertise* how others reach us if that is not what we
    listen at.  *copies* and *virtual_nodes* belong to the ring: None takes
    what the data folder or the ring says.  *workers* and *queue* bound each
    of the two handler pools.  *repair_rate* bounds what is copied in the
    background (bytes/s; 0: no bound), *repair_grace* is for how long (s) a host
    may be away before others take its place.  *scrub_rate* bounds how fast the
    disk is looked at for rot (bytes/s; 0: not at all), and *scrub_days* says how
    long a pass over all of it takes.  *list_size*, *longest_period* and *knows_all*
    (whether tables of all hosts are exchanged) are for tests and simulations.
    """

    listen: str
    join: tuple[str, ...] = ()
    advertise: str | None = None
    copies: int | None = None
    virtual_nodes: int | None = None
    workers: int = 32
    queue: int = 256
    repair_rate: int = DEFAULT_REPAIR_RATE
    repair_grace: float = DEFAULT_REPAIR_GRACE
    scrub_rate: int = DEFAULT_SCRUB_RATE
    scrub_days: float = DEFAULT_SCRUB_DAYS
    list_size: int | None = None
    longest_period: float = 30.0
    knows_all: bool = True


def read_settings(copies: bytes | None, virtual_nodes: bytes | None) -> tuple[int, int] | None:
    """(k, v) as a data folder keeps them; None where they are not settled.

    :raises peerstore.errors.CorruptData: when they are no numbers.
    """
    if not copies or not virtual_nodes:
        return None
    return read_number(copies), read_number(virtual_nodes)


def read_number(raw: bytes) -> int:
    """A number from 1 as a data folder keeps it.

    :raises peerstore.errors.CorruptData: when it is none.
    """
    if not raw.isdigit() or int(raw) < 1:
        raise CorruptData(
            "A setting in the data folder is damaged.", "Move the folder aside and start with a new one: it is filled."
        )
    return int(raw)


def agree(kept: tuple[int, int] | None, copies: int | None, virtual_nodes: int | None) -> None:
    """Check what was asked for against what a data folder says.

    :raises peerstore.errors.RingMismatch: when they differ.
    """
    if kept is not None and (copies or kept[0], virtual_nodes or kept[1]) != kept:
        raise RingMismatch(
            f"This data folder belongs to a ring with {kept[0]} copies and {kept[1]} positions a host.",
            "Leave --copies and --virtual-nodes away, or use another data folder.",
        )


def why_not_listening(description: str, error: CannotListenError) -> UsageError:
    """The system's refusal, in words, and what helps against it."""
    reason = getattr(error.socketError, "strerror", None) or str(error.socketError)
    step = "Stop what listens there, or choose another port."
    number = getattr(error.socketError, "errno", None)
    if number == errno.EADDRNOTAVAIL:
        step = "Name an address that this machine has: `ip address` lists them."
    elif number in (errno.EACCES, errno.EPERM):
        step = "Choose a port from 1024 on: those below are for root."
    return UsageError(f"Cannot listen at {description} ({reason}).", step)
