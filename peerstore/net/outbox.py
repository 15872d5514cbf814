"""Frames that wait for a slow reader, small ones first."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple
from typing import Protocol as TypingProtocol

from peerstore.net.limits import Budget

__all__ = ["Outbox"]

#: Frames up to this size go before larger ones: a ping must not wait behind
#: four megabytes of somebody's file.
URGENT = 4096
#: Larger frames are written in pieces of this size, so that the transport
#: never holds much, and tells by asking for the next that bytes do move.
PIECE = 256 * 1024
#: What a frame that waits costs beside its bytes.
KEPT = 256


class _Sink(TypingProtocol):
    def writeSequence(self, data: list[bytes]) -> None: ...


class _Frame(NamedTuple):
    header: bytes
    payload: bytes
    tag: object


class Outbox:
    """What is to be written while the transport asks us to pause.

    The transport holds at most one piece beyond its own high-water mark; the
    rest stays here, counted, so that the protocol can say BUSY in time.

    :param sink: the transport.
    :param budget: what waits here is counted there, too.
    """

    def __init__(self, sink: _Sink, budget: Budget) -> None:
        self._sink = sink
        self._budget = budget
        self._urgent: deque[_Frame] = deque()
        self._bulk: deque[_Frame] = deque()
        self._begun: memoryview | None = None
        self._paused = False
        self._closed = False
        self.unsent = 0

    @property
    def empty(self) -> bool:
        """Nothing waits here any more."""
        return self._begun is None and not self._urgent and not self._bulk

    def put(self, header: bytes, payload: bytes, tag: object = None) -> None:
        """Write one frame now, or as soon as the reader has caught up.

        :param tag: names the frame for :meth:`withdraw`.
        """
        if self._closed:
            return
        self._count(len(payload) + KEPT)
        (self._urgent if len(payload) <= URGENT else self._bulk).append(_Frame(header, payload, tag))
        self._write()

    def withdraw(self, tag: object) -> bool:
        """Take a frame back; false when it has begun to go out already."""
        for waiting in (self._urgent, self._bulk):
            for frame in waiting:
                if frame.tag == tag:
                    waiting.remove(frame)
                    self._count(-len(frame.payload) - KEPT)
                    return True
        return False

    def pause(self) -> None:
        """The transport is full."""
        self._paused = True

    def resume(self) -> None:
        """The transport takes more; it may pause us again after any piece."""
        self._paused = False
        self._write()

    def clear(self) -> None:
        """The connection is gone."""
        self._urgent.clear()
        self._bulk.clear()
        self._begun = None
        self._closed = True
        self._count(-self.unsent)

    def _write(self) -> None:
        while not self._paused and not self._closed:
            if self._begun is not None:
                piece = bytes(self._begun[:PIECE])
                rest = self._begun[PIECE:]
                self._begun = rest if len(rest) else None
                self._count(-len(piece))
                self._sink.writeSequence([piece])
                continue
            waiting = self._urgent or self._bulk
            if not waiting:
                return
            header, payload, _ = waiting.popleft()
            if len(payload) > PIECE:
                self._begun = memoryview(payload)[PIECE:]
                payload = payload[:PIECE]
            self._count(-len(payload) - KEPT)
            self._sink.writeSequence([header, payload])

    def _count(self, change: int) -> None:
        self.unsent += change
        self._budget.hold(change)
