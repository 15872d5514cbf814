"""Addresses that people type, and real sockets on loopback."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError, ConnectError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from peerstore.errors import PeerUnreachable, UsageError
from peerstore.interfaces import INetwork
from peerstore.net.factory import PeerFactory
from peerstore.net.network import EndpointNetwork, parse_client_address
from peerstore.net.pool import PeerPool
from peerstore.util.lamport import LamportClock
from peerstore.wire import bodies
from peerstore.wire.messages import encode_body
from tests.support.peers import Scripted
from tests.support.wire import PROPERTY, a_greeting

#: Descriptions that no version of Twisted can read, of either kind.
UNREADABLE = ("", "tcp", "tpc:1", "tcp:x", "tcp:0:a=b", "nonsense", "tcp:²", "::", "\\", "tls:x:y", "ssl:0")


class ParseTests(SynchronousTestCase):
    """What a person types where a node is meant."""

    def refused(self, text: str) -> None:
        """Is no address, and is named."""
        error = self.assertRaises(UsageError, parse_client_address, text)
        assert isinstance(error, UsageError)
        self.assertIn(repr(text), error.what)
        self.assertIn("host:port", error.next_step)

    def test_host_and_port(self) -> None:
        """TCP is meant."""
        self.assertEqual(parse_client_address("example.org:3001"), "tcp:example.org:3001")
        self.assertEqual(parse_client_address("10.0.0.1:1"), "tcp:10.0.0.1:1")
        self.assertEqual(parse_client_address("node-1_a.lan:65535"), "tcp:node-1_a.lan:65535")
        self.assertEqual(parse_client_address(" localhost:3001\n"), "tcp:localhost:3001")

    def test_port_alone(self) -> None:
        """This machine is meant."""
        self.assertEqual(parse_client_address(":3001"), "tcp:127.0.0.1:3001")

    def test_ipv6(self) -> None:
        """In brackets, as everywhere."""
        self.assertEqual(parse_client_address("[::1]:3001"), r"tcp:\:\:1:3001")
        self.assertEqual(parse_client_address("[fe80::1%eth0]:80"), r"tcp:fe80\:\:1%eth0:80")

    def test_descriptions_are_kept(self) -> None:
        """As they are, with all their options."""
        for text in (
            "tcp:example.org:3001",
            r"tcp:\:\:1:3001",
            "tcp:h:3001:timeout=5",
            "tcp:host=h:port=3001",
            "tcp:h:port=3001",
            "unix:/run/peerstore.sock",
            "unix:path=/x:timeout=3",
            "tls:example.org:443",
        ):
            self.assertEqual(parse_client_address(text), text)

    def test_what_is_no_address(self) -> None:
        """Ports out of range, hosts that are none, other things."""
        for text in (
            "",
            ":",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "host:-1",
            "host:port",
            "host:3 001",
            "host:²",
            "host:٣",
            "ho st:1",
            "ho\x1bst:1",
            "a=b:1",
            "::1:3001",
            "[::1]",
            "[::1]:",
            "[::1]:99999",
            "[zz]:1",
            "[1.2.3.4]:1",
            "[::1:3001",
            "http://example.org:80/",
            "tcp:3001",
            "tcp:h",
            "tcp::3001",
            "tcp:h:0",
            "tcp:h:70000",
            "tcp:h:x",
            "tcp:timeout=3:h",
            "tls:h",
            "unix:",
            "udp:h:1",
        ):
            self.refused(text)

    @PROPERTY
    @given(st.text(max_size=30))
    def test_any_text(self, text: str) -> None:
        """An address or a UsageError, nothing else; and what was understood
        once is understood again as the same."""
        try:
            address = parse_client_address(text)
        except UsageError:
            return
        self.assertEqual(parse_client_address(address), address)


class Remembering(Protocol):
    """Keeps its transport, and tells when it is made and lost."""

    def __init__(self) -> None:
        self.made: Deferred[Remembering] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.made.callback(self)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.callback(None)


class Making(Factory):
    """Makes and keeps such protocols."""

    noisy = False

    def __init__(self) -> None:
        self.protocols: list[Remembering] = []

    def buildProtocol(self, addr: Any) -> Remembering:
        self.protocols.append(Remembering())
        return self.protocols[-1]


class NetworkTests(TestCase):
    """Real sockets, on loopback alone."""

    timeout = 20

    def setUp(self) -> None:
        self.network = EndpointNetwork(reactor)

    async def listen(self, address: str, factory: Any) -> Any:
        """A port that is closed when the test is over."""
        port = await self.network.listen(address, factory)
        self.addCleanup(port.stopListening)
        return port

    async def pair(self, listen: str) -> tuple[Remembering, Remembering]:
        """The two ends of a connection."""
        server, client = Making(), Making()
        port = await self.listen(listen, server)
        await self.network.connect(self.network.client_address(port, listen), client)
        (near,) = client.protocols
        while not server.protocols:
            await deferLater(reactor, 0)  # type: ignore[arg-type]
        (far,) = server.protocols
        self.addCleanup(lambda: near.lost)
        self.addCleanup(lambda: far.lost)
        await near.made
        await far.made
        self.addCleanup(near.transport.abortConnection)  # type: ignore[union-attr]
        return near, far

    def test_it_is_a_network(self) -> None:
        """In every word of the interface."""
        verifyObject(INetwork, self.network)

    async def test_no_delay_on_both_ends(self) -> None:
        """Small requests do not wait for the acknowledgement of others."""
        for end in await self.pair("tcp:0:interface=127.0.0.1"):
            self.assertTrue(end.transport.getTcpNoDelay())  # type: ignore[union-attr]
            there = end.transport.getHandle().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)  # type: ignore[union-attr]
            self.assertNotEqual(there, 0)

    async def test_ipv6(self) -> None:
        """Listening, what others are told, and dialling that."""
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError as error:
            raise SkipTest("this machine has no IPv6 on loopback") from error
        near, _ = await self.pair(r"tcp:0:interface=\:\:1")
        self.assertEqual(near.transport.getPeer().host, "::1")  # type: ignore[union-attr]

    async def test_unix_sockets(self) -> None:
        """Have no TCP options, and work as well."""
        path = self.mktemp()
        near, far = await self.pair(f"unix:{path}")
        self.assertTrue(near.connected and far.connected)

    async def test_client_address(self) -> None:
        """The port that was really opened, at an address that others can use."""
        port = await self.listen("tcp:0:interface=127.0.0.1", Making())
        told = self.network.client_address(port, "tcp:0")
        self.assertEqual(told, f"tcp:127.0.0.1:{port.getHost().port}")
        self.assertEqual(parse_client_address(told), told)

    async def test_a_busy_port(self) -> None:
        """Fails with the system's error."""
        port = await self.listen("tcp:0:interface=127.0.0.1", Making())
        busy = f"tcp:{port.getHost().port}:interface=127.0.0.1"
        await self.assertFailure(self.network.listen(busy, Making()), CannotListenError)

    async def test_nobody_listens(self) -> None:
        """Fails with the system's error."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"tcp:127.0.0.1:{probe.getsockname()[1]}"
            await self.assertFailure(self.network.connect(address, Making()), ConnectError)

    async def test_descriptions_that_cannot_be_read(self) -> None:
        """A UsageError, in the Deferred, for either kind."""
        attempts: list[Callable[[str, Any], Deferred[Any]]] = [self.network.listen, self.network.connect]
        for attempt in attempts:
            for text in UNREADABLE:
                error = await self.assertFailure(attempt(text, Making()), UsageError)
                self.assertIn(repr(text), error.what)

    async def test_ports_that_are_none(self) -> None:
        """Numbers that Twisted reads, and no system has."""
        for text in ("tcp:70000:interface=127.0.0.1", "tcp:-1:interface=127.0.0.1"):
            await self.assertFailure(self.network.listen(text, Making()), UsageError)
        for text in ("tcp:127.0.0.1:70000", "tcp:127.0.0.1:-1"):
            await self.assertFailure(self.network.connect(text, Making()), UsageError)

    async def test_a_factory_that_wants_no_more(self) -> None:
        """The connection is closed, and that is all."""

        class Full(Factory):
            noisy = False

            def buildProtocol(self, addr: Any) -> None:
                return None

        port = await self.listen("tcp:0:interface=127.0.0.1", Full())
        client = Making()
        near = await self.network.connect(self.network.client_address(port, ""), client)
        await near.lost

    async def test_started_and_stopped(self) -> None:
        """Factories hear when their port opens and closes."""
        heard: list[str] = []

        class Listening(Making):
            def startFactory(self) -> None:
                heard.append("start")

            def stopFactory(self) -> None:
                heard.append("stop")

        port = await self.network.listen("tcp:0:interface=127.0.0.1", Listening())
        self.assertEqual(heard, ["start"])
        await port.stopListening()
        self.assertEqual(heard, ["start", "stop"])


class LoopbackTests(TestCase):
    """Pool and factory over real sockets."""

    timeout = 20

    async def test_questions_over_tcp(self) -> None:
        """Small and large, many at once, and everything is closed after."""
        clock: Any = reactor
        dispatcher = Scripted()
        dispatcher.reply = lambda: succeed(encode_body(bodies.Items((), False)))
        factory = PeerFactory(lambda: a_greeting(b"node"), dispatcher, clock, LamportClock())
        network = EndpointNetwork(reactor)
        port = await network.listen("tcp:0:interface=127.0.0.1", factory)
        address = network.client_address(port, "")
        pool = PeerPool(network, clock, random.Random(1), lambda: a_greeting(b"user", "user"), None, LamportClock())
        bulk = bodies.GetChunks((bytes(2_000_000),))
        calls = [
            pool.call(address, "get-chunks", bulk if place % 4 == 0 else bodies.GetChunks(())) for place in range(12)
        ]
        for call in calls:
            self.assertEqual(await call, bodies.Items((), False))
        self.assertEqual(len(factory.connections), 1)
        await pool.stop()
        while factory.connections:
            await deferLater(reactor, 0)  # type: ignore[arg-type]
        await port.stopListening()
        await self.assertFailure(pool.call(address, "ping", bodies.Ping()), PeerUnreachable)
