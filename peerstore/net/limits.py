"""The bounds of one node's connections."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Budget", "Limits"]


class Limits(NamedTuple):
    """How much one connection, and one process, takes on at a time.

    Bytes are those of request payloads in work; *unsent* those of answers
    and requests that a slow reader has not taken yet.
    """

    requests: int = 32
    bytes_per_connection: int = 8 * 1024 * 1024
    bytes_per_node: int = 64 * 1024 * 1024
    unsent: int = 8 * 1024 * 1024
    greeting_timeout: float = 10.0
    idle: float = 300.0
    connect_timeout: float = 10.0
    call_timeout: float = 15.0


class Budget:
    """Bytes of requests in work, over all connections of a node.

    :param limit: bytes; a request that would pass it is answered BUSY.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, count: int) -> bool:
        """Reserve; false when that would pass the limit.  One request always
        fits an empty budget, so that nothing is too large for ever."""
        if self.used and self.used + count > self.limit:
            return False
        self.used += count
        return True

    def give_back(self, count: int) -> None:
        """Release what *take* reserved."""
        self.used -= count
