"""Frames that wait for a slow reader, small ones first."""

from __future__ import annotations

from collections import deque
from typing import Protocol as TypingProtocol

__all__ = ["Outbox"]

#: Frames up to this size go before larger ones: a ping must not wait behind
#: four megabytes of somebody's file.
URGENT = 4096


class _Sink(TypingProtocol):
    def writeSequence(self, data: list[bytes]) -> None: ...


class Outbox:
    """What is to be written while the transport asks us to pause.

    The transport holds at most one frame beyond its own high-water mark; the
    rest stays here, counted, so that the protocol can say BUSY in time.
    """

    def __init__(self, sink: _Sink) -> None:
        self._sink = sink
        self._urgent: deque[tuple[bytes, bytes]] = deque()
        self._bulk: deque[tuple[bytes, bytes]] = deque()
        self._paused = False
        self.unsent = 0

    def put(self, header: bytes, payload: bytes) -> None:
        """Write one frame now, or as soon as the reader has caught up."""
        if not self._paused:
            self._sink.writeSequence([header, payload])
            return
        self.unsent += len(payload)
        (self._urgent if len(payload) <= URGENT else self._bulk).append((header, payload))

    def pause(self) -> None:
        """The transport is full."""
        self._paused = True

    def resume(self) -> None:
        """The transport takes more; it may pause us again after any frame."""
        self._paused = False
        while not self._paused and (self._urgent or self._bulk):
            header, payload = (self._urgent or self._bulk).popleft()
            self.unsent -= len(payload)
            self._sink.writeSequence([header, payload])

    def clear(self) -> None:
        """The connection is gone."""
        self._urgent.clear()
        self._bulk.clear()
        self.unsent = 0
        self._paused = True
