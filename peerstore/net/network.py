"""Real connections, by Twisted's endpoint descriptions."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from peerstore.errors import UsageError
from peerstore.interfaces import INetwork

__all__ = ["EndpointNetwork", "parse_client_address"]


def parse_client_address(text: str) -> str:
    """An endpoint description for what a person typed.

    "host:port" and ":port" are taken for TCP; a description is kept.

    :raises peerstore.errors.UsageError: when it is neither.
    """
    parts = text.split(":")
    if len(parts) == 2 and parts[1].isdigit():
        host, port = parts[0] or "127.0.0.1", int(parts[1])
        if 0 < port < 65536:
            return f"tcp:{host}:{port}"
    elif (len(parts) >= 3 and parts[0] in ("tcp", "tls", "unix")) or (len(parts) == 2 and parts[0] == "unix"):
        return text
    raise UsageError(f"{text!r} is no address of a node.", 'Write it as "host:port" or as "tcp:host:port".')


@implementer(INetwork)
class EndpointNetwork:
    """Listens and connects through a reactor's endpoints.

    TCP_NODELAY is set on both ends: without it a small request waits 40 ms
    for the acknowledgement of the one before.

    :param reactor: the reactor.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def listen(self, address: str, factory: Any) -> Deferred[Any]:
        """Listen; a Deferred of the port.  Fails with the system's error, or
        with UsageError for a description that cannot be read."""
        try:
            endpoint = serverFromString(self._reactor, address)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            return fail(UsageError(f"{address!r} is no endpoint to listen at ({error}).", "Try tcp:3001."))
        listening: Deferred[Any] = endpoint.listen(_NoDelayFactory(factory))
        return listening

    def connect(self, address: str, factory: Any) -> Deferred[Any]:
        """Connect; a Deferred of the protocol."""
        try:
            endpoint = clientFromString(self._reactor, address)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            return fail(UsageError(f"{address!r} is no address of a node ({error}).", "Try tcp:host:port."))
        connecting: Deferred[Any] = endpoint.connect(_NoDelayFactory(factory))
        return connecting

    def client_address(self, listening_port: IListeningPort, listen_address: str) -> str:
        """Where others reach a port that listens, as far as it can be told."""
        where = listening_port.getHost()
        host, port = getattr(where, "host", None), getattr(where, "port", None)
        if host is None or port is None:
            return listen_address
        if host in ("0.0.0.0", "::"):
            host = "127.0.0.1" if host == "0.0.0.0" else "::1"
        return f"tcp:{host.replace(':', chr(92) + ':')}:{port}"


@implementer(IProtocolFactory)
class _NoDelayFactory:
    """Passes everything on, and sets TCP_NODELAY where there is TCP."""

    def __init__(self, factory: Any) -> None:
        self._factory = factory

    def doStart(self) -> None:
        self._factory.doStart()

    def doStop(self) -> None:
        self._factory.doStop()

    def buildProtocol(self, addr: Any) -> Protocol | None:
        protocol: Protocol | None = self._factory.buildProtocol(addr)
        if protocol is None:
            return None
        made = protocol.makeConnection

        def with_no_delay(transport: Any) -> None:
            if hasattr(transport, "setTcpNoDelay"):
                transport.setTcpNoDelay(True)
            made(transport)

        protocol.makeConnection = with_no_delay  # type: ignore[method-assign]
        return protocol
