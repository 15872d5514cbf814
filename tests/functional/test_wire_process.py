"""Strangers at the port of a real node: each is refused clearly, and the node
goes on serving others throughout."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall

from peerstore.net.network import EndpointNetwork
from peerstore.wire.bodies import GetNeighbours, GetUsage, Neighbours, Ping, Pong
from peerstore.wire.framing import FRAME_LIMIT, GREETING_LIMIT, encode_frame, frame_header
from peerstore.wire.messages import Status, decode_body
from tests.support.peers import RawPeer
from tests.support.processes import NodeProcess, ProcessTestCase, RingClient, pause, until
from tests.support.things import a_chunk
from tests.support.wire import a_greeting, greeting_frame

RUBBISH = random.Random(4).randbytes(5000)


class Raw(RawPeer):
    """A raw socket; *drip* set, it sends that, a byte at a time."""

    def __init__(self, number: int) -> None:
        super().__init__(a_greeting(b"raw %d" % number, "user"))
        self._dripping: LoopingCall | None = None

    @property
    def greeted(self) -> bool:
        """Whether the node's greeting has come."""
        return bool(self.payloads)

    def drip(self, data: bytes) -> None:
        """Ten bytes a second."""
        rest = list(data)
        self._dripping = LoopingCall(lambda: self.send(bytes([rest.pop(0)])))
        self._dripping.start(0.1)

    def connectionLost(self, reason: Any = None) -> None:
        super().connectionLost(reason)
        if self._dripping is not None and self._dripping.running:
            self._dripping.stop()

    def ended(self) -> bool:
        """Whether the node has ended the connection."""
        return self.lost is not None


class Witness:
    """Another client, served all the while: over a connection that it keeps,
    and over a fresh one each time."""

    def __init__(self, kept: RingClient, fresh: Callable[[], RingClient], address: str) -> None:
        self._kept = kept
        self._fresh = fresh
        self._address = address
        self.served = 0
        self._going = LoopingCall(self._ask)

    def start(self) -> Deferred[Any]:
        """Until stopped; fails when it is not served."""
        return self._going.start(0.2)

    @property
    def going(self) -> bool:
        """Whether it was served up to now."""
        return self._going.running

    def stop(self) -> None:
        """Served long enough."""
        if self.going:
            self._going.stop()

    async def _ask(self) -> None:
        pong: Pong = await self._kept.pool.call(self._address, "ping", Ping(), 5.0)
        assert pong.incarnation == 1
        newcomer = self._fresh()
        await newcomer.pool.call(self._address, "usage", GetUsage(bytes(20)), 5.0)
        await newcomer.pool.stop()
        self.served += 1


class StrangersTests(ProcessTestCase):
    """One node, one good client, and everybody else."""

    async def connect(self, node: NodeProcess, greet: bool = False) -> Raw:
        """A raw socket, once it has been greeted."""
        self.count = getattr(self, "count", 0) + 1
        raw = Raw(self.count)
        factory = Factory.forProtocol(lambda: raw)
        factory.noisy = False
        await EndpointNetwork(reactor).connect(node.address, factory)
        self.addCleanup(self._hang_up, raw)
        await until("the node's greeting", lambda: raw.greeted)
        self.assertEqual(raw.greeting.fp, node.key.fp)
        if greet:
            raw.greet()
        return raw

    async def _hang_up(self, raw: Raw) -> None:
        if raw.transport is not None and not raw.ended():
            raw.transport.abortConnection()  # type: ignore[attr-defined]
            await until("the end", raw.ended)

    async def refused(self, raw: Raw, status: Status | None = None) -> None:
        """The connection ends, after a word of why if there was a greeting."""
        await until("the end of a connection", raw.ended, 90)
        if status is None:
            self.assertEqual(len(raw.payloads), 1, "more than a greeting was said to a stranger")
        else:
            self.assertEqual(raw.status(0), status)
            self.assertTrue(raw.refusal(0).what)

    async def test_strangers(self) -> None:
        """Garbage, oversize and half frames, drips, and 200 silent ones."""
        node = self.node()
        node.start()
        await node.ready()
        client = self.client(node)
        chunk = a_chunk(1, 200_000)
        (outcome,) = await client.gateway.put_chunks([chunk])
        self.assertTrue(outcome.certain)
        witness = Witness(client, lambda: self.client(node), node.address)
        watching = witness.start()

        endings: list[Awaitable[None]] = []
        endings += await self._before_the_greeting(node)
        endings += await self._after_the_greeting(node)
        crowd = [await self.connect(node) for _ in range(200)]
        served = witness.served
        await self._small_mistakes(node)
        for ending in endings:
            await ending
        await until("the end of the silent ones", lambda: all(raw.ended() for raw in crowd))
        await until("another who is served", lambda: witness.served > served or not witness.going)
        witness.stop()
        await watching

        found = await client.gateway.get_chunks([chunk.key.element])
        self.assertEqual(found, {chunk.key.element: chunk})
        self.assertGreater(witness.served, 20)
        assert node.process is not None
        self.assertIsNone(node.process.poll())
        log = node.text()
        self.assertNotIn("Traceback", log)
        self.assertNotIn("Unhandled", log)
        for words in ("greeting is none", "was announced", "no message", "does not come in"):
            self.assertIn(words, log)

    async def _before_the_greeting(self, node: NodeProcess) -> list[Awaitable[None]]:
        """Those who never greet; each is closed without another word."""
        endings: list[Awaitable[None]] = []
        for data in (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            encode_frame(RUBBISH[:200]),
            frame_header(GREETING_LIMIT + 1),
        ):
            raw = await self.connect(node)
            raw.send(data)
            await self.refused(raw)
        self.assertNotIn("Traceback", node.text())
        half = await self.connect(node)
        half.send(greeting_frame()[:50])
        endings.append(self.refused(half))
        drip = await self.connect(node)
        drip.drip(frame_header(8000) + bytes(8000))
        endings.append(self.refused(drip))
        return endings

    async def _after_the_greeting(self, node: NodeProcess) -> list[Awaitable[None]]:
        """Those who greet, and then break the rules; each is told why."""
        endings: list[Awaitable[None]] = []
        for data, status in (
            (encode_frame(RUBBISH), Status.BAD_REQUEST),
            (encode_frame(b""), Status.BAD_REQUEST),
            (greeting_frame(), Status.BAD_REQUEST),
            (frame_header(FRAME_LIMIT + 1), Status.TOO_LARGE),
            (b"\xff" * 100_000, Status.TOO_LARGE),
        ):
            raw = await self.connect(node, greet=True)
            raw.send(data)
            await self.refused(raw, status)
        half = await self.connect(node, greet=True)
        half.send(half.asking(1)[:30])
        endings.append(self.refused(half, Status.BAD_REQUEST))
        drip = await self.connect(node, greet=True)
        drip.drip(frame_header(FRAME_LIMIT) + bytes(8000))
        endings.append(self.refused(drip, Status.BAD_REQUEST))
        return endings

    async def _small_mistakes(self, node: NodeProcess) -> None:
        """What costs an answer, and no connection; and one that hangs up in
        the middle of a question."""
        raw = await self.connect(node, greet=True)
        raw.ask(1, "no-such-method")
        raw.ask(2, "get-neighbours", b"\xc1")
        raw.ask(3, "get-neighbours", GetNeighbours(99))
        raw.ask(4, "get-neighbours", GetNeighbours(0))
        await until("four answers", lambda: len(raw.answers) == 4)
        self.assertEqual([raw.status(number) for number in (1, 2, 3)], [Status.BAD_REQUEST] * 3)
        neighbours = decode_body(raw.answers[4][0].body, Neighbours)
        self.assertEqual(neighbours.position.fp, node.key.fp)
        raw.send(raw.asking(5)[:20])
        await pause(0)
        await self._hang_up(raw)
