"""Real connections, by Twisted's endpoint descriptions."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from peerstore.errors import UsageError
from peerstore.interfaces import INetwork

__all__ = ["EndpointNetwork", "UNREADABLE", "parse_client_address"]


#: What Twisted's parsers raise for descriptions that they cannot read; the
#: last two are for kinds of endpoints whose libraries are not installed.
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RuntimeError, OSError, NameError, ImportError)
_KINDS = ("tcp", "tls", "unix")
_HOST_PORT = re.compile(r"([^\s:\[\]/=\\]*):([0-9]{1,5})")
_IPV6_PORT = re.compile(r"\[([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9_.-]+)?)\]:([0-9]{1,5})")


def parse_client_address(text: str) -> str:
    """An endpoint description for what a person typed.

    "host:port", "[IPv6]:port" and ":port" (this machine) are taken for TCP; a
    description is kept.

    :raises peerstore.errors.UsageError: when it is neither.
    """
    typed = text.strip()
    kind, _, rest = typed.partition(":")
    if kind in _KINDS:
        if typed.isprintable() and _describes(kind, rest):
            return typed
    elif match := _IPV6_PORT.fullmatch(typed):
        if _is_port(match[2]):
            return f"tcp:{_escaped(match[1])}:{match[2]}"
    elif (match := _HOST_PORT.fullmatch(typed)) and typed.isprintable() and _is_port(match[2]):
        return f"tcp:{match[1] or '127.0.0.1'}:{match[2]}"
    raise UsageError(f"{text!r} is no address of a node.", 'Write it as "host:port" or as "tcp:host:port".')


def _describes(kind: str, rest: str) -> bool:
    """Whether *rest* can stand behind *kind* in a client's description."""
    if kind == "unix":
        return bool(rest)
    fields = re.split(r"(?<!\\):", rest)
    named = dict(field.split("=", 1) for field in fields if "=" in field)
    unnamed = [field for field in fields if "=" not in field]
    values = {**dict(zip(("host", "port"), unnamed, strict=False)), **named}
    host = values.get("host", "")
    return bool(host) and not any(sign.isspace() for sign in host) and _is_port(values.get("port", ""))


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < int(text) < 65536


def _escaped(host: str) -> str:
    return host.replace(":", "\\:")


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
        except UNREADABLE as error:
            return fail(_no_endpoint(address, error))
        listening: Deferred[Any] = endpoint.listen(_NoDelayFactory(factory))
        return listening.addErrback(_out_of_range, _no_endpoint, address)

    def connect(self, address: str, factory: Any) -> Deferred[Any]:
        """Connect; a Deferred of the protocol.  Fails with the system's error,
        or with UsageError for a description that cannot be read."""
        try:
            endpoint = clientFromString(self._reactor, address)
        except UNREADABLE as error:
            return fail(_no_address(address, error))
        connecting: Deferred[Any] = endpoint.connect(_NoDelayFactory(factory))
        return connecting.addErrback(_out_of_range, _no_address, address)

    def client_address(self, listening_port: IListeningPort, listen_address: str) -> str:
        """Where others reach a port that listens, as far as it can be told."""
        where = listening_port.getHost()
        host, port = getattr(where, "host", None), getattr(where, "port", None)
        if host is None or port is None:
            return listen_address
        if host in ("0.0.0.0", "::"):
            host = "127.0.0.1" if host == "0.0.0.0" else "::1"
        return f"tcp:{_escaped(host)}:{port}"


def _no_endpoint(address: str, error: BaseException | None) -> UsageError:
    return UsageError(f"{address!r} is no endpoint to listen at ({error}).", "Try tcp:3001.")


def _no_address(address: str, error: BaseException | None) -> UsageError:
    return UsageError(f"{address!r} is no address of a node ({error}).", "Try tcp:host:port.")


def _out_of_range(
    failure: Failure, words: Callable[[str, BaseException | None], UsageError], address: str
) -> Failure | None:
    """A port number that Twisted reads, and no system has."""
    if failure.check(OverflowError):
        raise words(address, failure.value) from failure.value
    return failure


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
