"""Asking ourselves without a connection.

What a node passes on may belong to itself.  Dialling its own advertised
address would cost a connection, and does not work from behind every router.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from peerstore.errors import PeerStoreError, PeerTimeout
from peerstore.interfaces import IDispatcher, IPeerPool
from peerstore.wire.messages import METHODS, decode_body, encode_body, error_for, status_for
from peerstore.wire.session import Greeting

__all__ = ["LoopbackPool"]


@implementer(IPeerPool)
class LoopbackPool:
    """A pool that answers calls to our own fingerprint right here.

    :param pool: reaches everybody else.
    :param dispatcher: answers us as it answers others, bounds included.
    :param make_greeting: who we are; called for each call.
    """

    def __init__(
        self,
        pool: IPeerPool,
        dispatcher: IDispatcher,
        fp: bytes,
        make_greeting: Callable[[], Greeting],
        clock: IReactorTime,
    ) -> None:
        self._pool = pool
        self._dispatcher = dispatcher
        self._fp = fp
        self._make_greeting = make_greeting
        self._clock = clock

    def call(
        self, address: str, method: str, body: Any, timeout: float | None = None, fp: bytes | None = None
    ) -> Deferred[Any]:
        """Ask; fails with the errors that a peer's answer would become."""
        if fp != self._fp:
            answer: Deferred[Any] = self._pool.call(address, method, body, timeout, fp)
            return answer
        packed: Deferred[bytes] = self._dispatcher.dispatch(self._make_greeting(), method, encode_body(body))
        answered: Deferred[Any] = packed.addCallbacks(decode_body, _as_told, callbackArgs=(METHODS[method].response,))
        return answered if timeout is None else answered.addTimeout(timeout, self._clock, _late)

    def peer(self, address: str, fp: bytes | None = None) -> Deferred[Any]:
        """The connected peer; ourselves, too, over a connection."""
        peer: Deferred[Any] = self._pool.peer(address, fp)
        return peer

    def drop(self, address: str) -> None:
        """Close the connection to *address*."""
        self._pool.drop(address)

    def forget_backoff(self, address: str) -> None:
        """Let the next call to *address* dial at once."""
        self._pool.forget_backoff(address)

    def watch_losses(self, callback: Callable[[bytes], None]) -> None:
        """*callback(fp)* when a connection to a peer has ended."""
        self._pool.watch_losses(callback)

    def stop(self) -> Deferred[None]:
        """Close all connections."""
        stopped: Deferred[None] = self._pool.stop()
        return stopped


def _late(result: object, timeout: float) -> Failure:
    return Failure(PeerTimeout(f"This node did not answer itself within {timeout:g} s."))


def _as_told(failure: Failure) -> Failure:
    if not isinstance(failure.value, PeerStoreError):
        return failure
    return Failure(error_for(*status_for(failure.value)))
