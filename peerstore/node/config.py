"""What a node is started with."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["DEFAULT_COPIES", "DEFAULT_VIRTUAL_NODES", "NodeConfig"]

DEFAULT_COPIES = 3
DEFAULT_VIRTUAL_NODES = 8


class NodeConfig(NamedTuple):
    """Options of one node.

    *listen* is a server endpoint, *join* client endpoints of the ring (none:
    the first node), *advertise* how others reach us if that is not what we
    listen at.  *copies* and *virtual_nodes* belong to the ring: None takes
    what the data folder or the ring says.  *workers* and *queue* bound each
    of the two handler pools.  *list_size* and *longest_period* are for tests
    and simulations.
    """

    listen: str
    join: tuple[str, ...] = ()
    advertise: str | None = None
    copies: int | None = None
    virtual_nodes: int | None = None
    workers: int = 32
    queue: int = 256
    list_size: int | None = None
    longest_period: float = 30.0
