"""What a node asks of itself goes over no connection."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import Busy, DiskFull, NotReady, PeerStoreError, PeerTimeout, RemoteError
from peerstore.node.loopback import LoopbackPool
from peerstore.wire.bodies import Ping, Pong
from peerstore.wire.messages import Status, encode_body
from tests.support.rings import greeting

ME, OTHER = greeting("node", "me"), greeting("node", "other")
PONG = Pong(7, "MEMBER")


class Recorder:
    """A pool and a dispatcher that note what they are asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.answer: Deferred[bytes] = succeed(encode_body(PONG))

    def call(self, *arguments: Any) -> Deferred[Any]:
        """As a pool."""
        self.asked.append(("call", *arguments))
        return succeed(PONG)

    def peer(self, *arguments: Any) -> Deferred[Any]:
        """As a pool."""
        self.asked.append(("peer", *arguments))
        return succeed("a peer")

    def dispatch(self, caller: Any, method: str, body: bytes) -> Deferred[bytes]:
        """As a dispatcher."""
        self.asked.append(("dispatch", caller, method, body))
        return self.answer

    def drop(self, address: str) -> None:
        """As a pool."""
        self.asked.append(("drop", address))

    def forget_backoff(self, address: str) -> None:
        """As a pool."""
        self.asked.append(("forget", address))


class LoopbackTests(SynchronousTestCase):
    """A pool around a pool."""

    def setUp(self) -> None:
        self.under = Recorder()
        self.clock = Clock()
        self.pool = LoopbackPool(self.under, self.under, ME.fp, lambda: ME, self.clock)  # type: ignore[arg-type]

    def test_to_ourselves(self) -> None:
        """Dispatched here, as by a peer with our greeting; the address does not matter."""
        answer = self.pool.call("tcp:nowhere:1", "ping", Ping(), 3.0, ME.fp)
        self.assertEqual(self.successResultOf(answer), PONG)
        self.assertEqual(self.under.asked, [("dispatch", ME, "ping", encode_body(Ping()))])

    def test_to_others(self) -> None:
        """Everybody else is asked over the wire, also when no key was named."""
        for fp in (OTHER.fp, None):
            self.successResultOf(self.pool.call("tcp:there:1", "ping", Ping(), 3.0, fp))
        self.assertEqual([asked[0] for asked in self.under.asked], ["call", "call"])

    def test_errors_are_those_of_a_peer(self) -> None:
        """With the statuses that would have come over the wire."""
        for error, kind, status in (
            (Busy("Full.", retry_after=2.0), Busy, Status.BUSY),
            (NotReady("Soon.", status=Status.NOT_READY), NotReady, Status.NOT_READY),
            (DiskFull("No room."), RemoteError, Status.UNAVAILABLE),
        ):
            self.under.answer = fail(error)
            failure = self.failureResultOf(self.pool.call("", "ping", Ping(), None, ME.fp), kind)
            self.assertEqual(failure.value.status, status)

    def test_no_answer(self) -> None:
        """We wait for ourselves no longer than for others."""
        cancelled: list[object] = []
        self.under.answer = Deferred(cancelled.append)
        answer = self.pool.call("", "ping", Ping(), 3.0, ME.fp)
        self.clock.advance(2.9)
        self.assertNoResult(answer)
        self.clock.advance(0.2)
        self.failureResultOf(answer, PeerTimeout)
        self.assertEqual(len(cancelled), 1)

    def test_our_own_mistakes_stay_our_own(self) -> None:
        """A bug here is no answer of a peer."""
        self.under.answer = fail(ZeroDivisionError())
        self.failureResultOf(self.pool.call("", "ping", Ping(), None, ME.fp), ZeroDivisionError)
        self.assertFalse(issubclass(ZeroDivisionError, PeerStoreError))

    def test_all_else_is_the_pool_s(self) -> None:
        """Peers, drops and back-offs are passed through."""
        self.successResultOf(self.pool.peer("tcp:there:1", ME.fp))
        self.pool.drop("tcp:there:1")
        self.pool.forget_backoff("tcp:there:1")
        self.assertEqual([asked[0] for asked in self.under.asked], ["peer", "drop", "forget"])
