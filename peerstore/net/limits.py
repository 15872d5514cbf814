"""The bounds of one node's connections."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Budget", "Limits"]


class Limits(NamedTuple):
    """How much one connection, and one process, takes on at a time.

    Counts and bytes:

    - *requests* and *bytes_per_connection*: requests in work for one peer,
      and the bytes of their payloads; *bytes_per_node*: the same for all
      connections, with the answers that slow readers have not taken yet;
    - *arriving*: what has come in of unfinished frames, over all connections
      that others have dialled;
    - *unsent*: while a reader has more than this to take, its requests are
      BUSY and it gets no large answers;
    - *queued*: while a reader has more than this to take, we ask it nothing
      more; whoever lets *unsent* and *queued* together pile up reads nothing
      at all and is disconnected.

    Times in seconds:

    - *greeting_timeout*: from the start of a connection to its greeting;
    - *window*: how long the *progress* bytes of a frame that has begun may
      take to come in;
    - *stalled*: how long a reader may take none of what waits for it;
    - *closing*: how long what was written last may take to go out;
    - *idle*: a connection that we dialled and nobody uses is closed after
      this, one that was dialled by the other end after twice as long;
    - *connect_timeout*, *call_timeout*: for a dial, and for an answer when
      the caller names no time.
    """

    requests: int = 32
    bytes_per_connection: int = 8 * 1024 * 1024
    bytes_per_node: int = 64 * 1024 * 1024
    arriving: int = 64 * 1024 * 1024
    unsent: int = 8 * 1024 * 1024
    queued: int = 32 * 1024 * 1024
    progress: int = 30 * 1024
    greeting_timeout: float = 10.0
    window: float = 30.0
    stalled: float = 60.0
    closing: float = 10.0
    idle: float = 300.0
    connect_timeout: float = 10.0
    call_timeout: float = 15.0


class Budget:
    """Bytes in work and on their way out, over all connections of a node.

    :param limit: bytes; a request that would pass it is answered BUSY.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @property
    def full(self) -> bool:
        """Whether nothing more should be taken on."""
        return self.used >= self.limit

    def take(self, count: int) -> bool:
        """Reserve; false when that would pass the limit.  One request always
        fits an empty budget, so that nothing is too large for ever."""
        if self.used and self.used + count > self.limit:
            return False
        self.used += count
        return True

    def hold(self, count: int) -> None:
        """Count bytes that are there anyway."""
        self.used += count

    def give_back(self, count: int) -> None:
        """Release what *take* reserved or *hold* counted."""
        self.used -= count
