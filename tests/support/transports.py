"""Connections in memory, moved by hand: deterministic, with real back-pressure.

The ends are Twisted's own ``FileDescriptor``, so that buffering, pausing of
producers, ``loseConnection`` and ``abortConnection`` are those of its sockets;
only the socket beneath is made of two bounded buffers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectError, ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from peerstore.interfaces import INetwork

__all__ = ["MemoryEnd", "MemoryNetwork", "Wire"]

#: Like a small socket buffer.
CAPACITY = 64 * 1024


class MemoryEnd(FileDescriptor):
    """One end of a wire.

    *deaf* set, whoever is at this end does not read; *written* counts the
    bytes that have left this end.
    """

    def __init__(self, wire: Wire, capacity: int) -> None:
        super().__init__(reactor=wire)  # type: ignore[arg-type]
        self.wire = wire
        self.capacity = capacity
        self.inbox = bytearray()
        self.other: MemoryEnd = self
        self.protocol: Protocol | None = None
        self.over: Exception | None = None
        self.deaf = False
        self.written = 0
        self.connected = 1
        self._aborting = False

    @property
    def waiting(self) -> int:
        """Bytes that this end's transport holds, not yet on the wire."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen

    def room(self) -> int:
        """Bytes that the wire takes from this end now."""
        return CAPACITY if self.other.protocol is None else self.other.capacity - len(self.other.inbox)

    def writeSomeData(self, data: bytes) -> int:
        taken = bytes(data[: self.room()])
        if self.other.protocol is not None:
            self.other.inbox += taken
        self.written += len(taken)
        return len(taken)

    def abortConnection(self) -> None:
        if not self.disconnected and not self._aborting:
            self._aborting = True
            self.stopReading()
            self.stopWriting()
            self.wire.soon(self.connectionLost, Failure(ConnectionAborted()))

    def connectionLost(self, reason: Failure) -> None:
        if self.protocol is None:
            return
        super().connectionLost(reason)
        protocol, self.protocol = self.protocol, None
        if self.other.over is None:
            reset = self._aborting or bool(self.inbox)
            self.other.over = ConnectionLost() if reset else ConnectionDone()
            if reset:
                self.other.inbox.clear()
        protocol.connectionLost(reason)

    def getPeer(self) -> Any:
        return "memory"

    def getHost(self) -> Any:
        return "memory"


class Wire:
    """Two protocols and the bytes between them.

    :param capacity: bytes that are on their way at most, in each direction.
    :param chunk: bytes that arrive at a time; a number or a function of
        nothing that returns one.
    """

    def __init__(
        self, left: Protocol, right: Protocol, capacity: int = CAPACITY, chunk: int | Callable[[], int] = CAPACITY
    ) -> None:
        self.ends = (MemoryEnd(self, capacity), MemoryEnd(self, capacity))
        self.chunk: Callable[[], int] = chunk if callable(chunk) else lambda: chunk
        self._readers: set[MemoryEnd] = set()
        self._writers: set[MemoryEnd] = set()
        self._soon: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        for end, protocol in zip(self.ends, (left, right), strict=True):
            end.other = self.ends[1 - self.ends.index(end)]
            end.protocol = protocol
            end.startReading()
        for end, protocol in zip(self.ends, (left, right), strict=True):
            protocol.makeConnection(end)

    # -- what a reactor does for its descriptors ------------------------------

    def addReader(self, reader: Any) -> None:
        self._readers.add(reader)

    def removeReader(self, reader: Any) -> None:
        self._readers.discard(reader)

    def addWriter(self, writer: Any) -> None:
        self._writers.add(writer)

    def removeWriter(self, writer: Any) -> None:
        self._writers.discard(writer)

    def soon(self, call: Callable[..., Any], *args: Any) -> None:
        """On the next turn."""
        self._soon.append((call, args))

    # -- what tests do -----------------------------------------------------------

    def turn(self) -> bool:
        """One turn of the reactor; whether anything happened."""
        calls, self._soon = self._soon, []
        for call, args in calls:
            call(*args)
        moved = bool(calls)
        for end in self.ends:
            if end in self._writers and end.room() > 0:
                moved = True
                why = end.doWrite()
                if why is not None:
                    end.connectionLost(Failure(why))
        for end in self.ends:
            if end in self._readers and not end.deaf:
                moved = self._read(end) or moved
        return moved

    def pump(self, turns: int = 1_000_000) -> None:
        """Turn until nothing happens any more."""
        for _ in range(turns):
            if not self.turn():
                return

    def cut(self) -> None:
        """The network broke: what is on its way is lost, and both ends know."""
        for end in self.ends:
            end.inbox.clear()
            end.over = ConnectionLost()
        self.pump()

    def _read(self, end: MemoryEnd) -> bool:
        if end.inbox:
            size = max(1, min(len(end.inbox), self.chunk()))
            data = bytes(end.inbox[:size])
            del end.inbox[:size]
            assert end.protocol is not None
            end.protocol.dataReceived(data)
            return True
        if end.over is not None:
            end.connectionLost(Failure(end.over))
            return True
        return False


class _Dial:
    """One attempt to connect that is under way."""

    def __init__(self, address: str, factory: Any) -> None:
        self.address = address
        self.factory = factory
        self.cancelled = False
        self.done: Deferred[Any] = Deferred(self._cancel)

    def _cancel(self, _: Deferred[Any]) -> None:
        self.cancelled = True


@implementer(INetwork)
class MemoryNetwork:
    """Listeners and dials in memory; nothing moves but by :meth:`pump`.

    *dials* lists every address that was dialled, in order; dials to an
    address in *silent* stay under way; *wires* are those ever made, the
    dialling end first.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.dials: list[str] = []
        self.silent: set[str] = set()
        self.wires: list[Wire] = []
        self._listening: dict[str, Any] = {}
        self._dialling: list[_Dial] = []

    @property
    def dialling(self) -> list[str]:
        """Addresses of dials that are under way."""
        return [dial.address for dial in self._dialling if not dial.cancelled]

    def listen(self, address: str, factory: Any) -> Deferred[Any]:
        """Accept connections to *address*."""
        self._listening[address] = factory
        return succeed(address)

    def unlisten(self, address: str) -> None:
        """Refuse connections to *address* from now on."""
        del self._listening[address]

    def connect(self, address: str, factory: Any) -> Deferred[Any]:
        """Fires, or fails, with the next turns; cancel it to give up."""
        self.dials.append(address)
        if not address:
            return fail(ValueError("no address"))
        dial = _Dial(address, factory)
        self._dialling.append(dial)
        return dial.done

    def client_address(self, listening_port: Any, listen_address: str) -> str:
        """The same."""
        return listen_address

    def turn(self) -> bool:
        """One turn of everything; whether anything happened."""
        due = [dial for dial in self._dialling if dial.cancelled or dial.address not in self.silent]
        self._dialling = [dial for dial in self._dialling if dial not in due]
        for dial in due:
            if not dial.cancelled:
                self._connected(dial)
        return any([bool(due), *(wire.turn() for wire in self.wires)])

    def pump(self) -> None:
        """Turn until nothing happens any more."""
        while self.turn():
            pass

    def advance(self, seconds: float, step: float = 0.25) -> None:
        """Let time pass, everything moving meanwhile."""
        self.pump()
        ends = self._clock.seconds() + seconds
        while self._clock.seconds() < ends:
            self._clock.advance(min(step, ends - self._clock.seconds()))
            self.pump()

    def _connected(self, dial: _Dial) -> None:
        listener = self._listening.get(dial.address)
        if listener is None:
            dial.done.errback(ConnectError(string="Connection was refused"))
            return
        dialled = dial.factory.buildProtocol("memory")
        accepted = listener.buildProtocol("memory")
        if accepted is None:
            accepted = _Refusing()
        self.wires.append(Wire(dialled, accepted))
        dial.done.callback(dialled)


class _Refusing(Protocol):
    """What Twisted does with a connection that the factory does not want."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.abortConnection()  # type: ignore[attr-defined]
