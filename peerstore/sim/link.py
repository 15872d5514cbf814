"""One simulated connection: two ends, and what is on its way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IDelayedCall, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from peerstore.sim.process import Process

if TYPE_CHECKING:
    from peerstore.sim.network import SimNetwork

__all__ = ["GIVE_UP", "Link"]

#: After so many seconds without any acknowledgement an end is given up.
GIVE_UP = 6.0


class Link:
    """One connection.

    :param processes: who dialled, and who was dialled; side 0 and side 1.
    """

    def __init__(self, network: SimNetwork, processes: tuple[Process, Process]) -> None:
        self._network = network
        self._processes = processes
        self.names = (processes[0].name, processes[1].name)
        self.protocols: list[Any] = [None, None]
        #: By side: whether that end has been told that it is over.
        self.over = [False, False]
        self._held: list[tuple[int, bytes | None]] = []
        self._free_at = [0.0, 0.0]
        self._doubts: list[IDelayedCall | None] = [None, None]

    # -- its life ----------------------------------------------------------------

    def dialled(self, factory: Any) -> None:
        """The end that dialled is ready."""
        self._made(0, factory)

    def accept(self, factory: Any) -> None:
        """The end that listened is ready, or refuses."""
        self._made(1, factory)

    def died(self, process: Process, silent: bool) -> None:
        """One of the programs has ended."""
        for side in (0, 1):
            if self._processes[side] is process and not self.over[side]:
                self.over[side] = True
                if silent:
                    continue
                self._send(side, None)
        self._tidy()

    def release(self) -> None:
        """The network has changed: what was held back may go on its way."""
        for side in (0, 1):
            doubt = self._doubts[side]
            if doubt is not None and self._network.joined(*self.names):
                doubt.cancel()
                self._doubts[side] = None
        held, self._held = self._held, []
        for side, data in held:
            self._send(side, data)

    # -- what an end does ----------------------------------------------------------

    def write(self, side: int, data: bytes) -> None:
        """Bytes from one end, to arrive at the other in order."""
        if not self.over[side]:
            self._send(side, data)

    def close(self, side: int, reason: Exception) -> None:
        """One end closes; the other learns of it after what was written."""
        if not self.over[side]:
            self._send(side, None)
            # Whoever closes hears of it soon, but not while he is closing.
            self._network.clock.callLater(0, self.finish, side, reason)

    def finish(self, side: int, reason: Exception) -> None:
        """Tell one end that it is over."""
        if self.over[side]:
            return
        self.over[side] = True
        doubt, self._doubts[side] = self._doubts[side], None
        if doubt is not None:
            doubt.cancel()
        if self.protocols[side] is not None:
            self._processes[side].call(self.protocols[side].connectionLost, Failure(reason))
        self._tidy()

    # -- inside ----------------------------------------------------------------

    def _made(self, side: int, factory: Any) -> None:
        protocol = factory.buildProtocol(None)
        if protocol is None:
            self.close(side, ConnectionDone())
            return
        self.protocols[side] = protocol
        protocol.makeConnection(_End(self, side))

    def _send(self, side: int, data: bytes | None) -> None:
        """Put bytes, or the news of the end (None), on their way."""
        network, a, b = self._network, self.names[side], self.names[1 - side]
        if not network.joined(a, b) and data is not None and self._doubts[side] is None:
            self._doubts[side] = network.clock.callLater(GIVE_UP, self._give_up, side)
        if not network.passes(a, b):
            self._held.append((side, data))
            return
        place, now = f"{a}>{b}", network.clock.seconds()
        at = now + network.delay(a, b)
        if data is None or not network.decisions.chance(place, "reorder", network.faults.reordering):
            at = max(at, self._free_at[side])
            self._free_at[side] = at
        if data is None:
            network.clock.callLater(at - now, self.finish, 1 - side, ConnectionDone())
            return
        network.clock.callLater(at - now, self._arrive, side, data)
        if network.decisions.chance(place, "duplicate", network.faults.duplication):
            network.clock.callLater(at - now + network.faults.jitter, self._arrive, side, data)

    def _arrive(self, side: int, data: bytes) -> None:
        other = 1 - side
        a, b = self.names[side], self.names[other]
        self._network.arrived(a, b, data)
        if not self.over[other]:
            self._processes[other].call(self._take, other, data)
        elif self._network.passes(b, a):
            # Nobody is there any more: the system says so.
            at = self._network.delay(b, a)
            self._network.clock.callLater(at, self.finish, side, ConnectionLost("reset by the other end"))

    def _take(self, side: int, data: bytes) -> None:
        if not self.over[side] and self.protocols[side] is not None:
            self.protocols[side].dataReceived(data)

    def _give_up(self, side: int) -> None:
        self._doubts[side] = None
        self._held = [entry for entry in self._held if entry[0] != side]
        self.finish(side, ConnectionLost("nothing was acknowledged"))

    def _tidy(self) -> None:
        if all(self.over):
            self._held.clear()
            self._network.forget(self)


@implementer(ITransport, IConsumer)
class _End:
    """The transport of one end.  It never asks its producer to pause."""

    def __init__(self, link: Link, side: int) -> None:
        self._link = link
        self._side = side
        self._closing = False

    def write(self, data: bytes) -> None:
        if not self._closing:
            self._link.write(self._side, data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if not self._closing:
            self._closing = True
            self._link.close(self._side, ConnectionDone())

    def abortConnection(self) -> None:
        if not self._closing:
            self._closing = True
            self._link.close(self._side, ConnectionLost("aborted"))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass

    def getPeer(self) -> Any:
        return self._link.names[1 - self._side]

    def getHost(self) -> Any:
        return self._link.names[self._side]
