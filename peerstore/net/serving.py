"""The other end's requests that are in work on one connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from peerstore.errors import BadMessage, Busy, PeerStoreError, RemoteError, StorageError
from peerstore.interfaces import IDispatcher
from peerstore.net.limits import Budget, Limits
from peerstore.net.outbox import URGENT
from peerstore.wire.framing import FRAME_LIMIT
from peerstore.wire.messages import Request, Status, encode_body, status_for
from peerstore.wire.session import Greeting

__all__ = ["ENVELOPE", "Serving", "told"]

#: What a message takes around its body, at most.
ENVELOPE = 256


def told(error: BaseException) -> tuple[Status, bytes]:
    """Status and packed refusal for an error."""
    status, refusal = status_for(error)
    return status, encode_body(refusal)


class Serving:
    """Takes requests on as far as the limits allow, and sees to it that each
    is answered once, unless nobody waits for it any more.

    :param dispatcher: does the work; None refuses everything.
    :param budget: bytes in work over all connections of this process.
    :param answer: sends id, status and body.
    :param slow: whether the other end has much to read already.
    """

    _log = Logger()

    def __init__(
        self,
        dispatcher: IDispatcher | None,
        limits: Limits,
        budget: Budget,
        answer: Callable[[int, Status, bytes], None],
        slow: Callable[[], bool],
    ) -> None:
        self._dispatcher = dispatcher
        self._limits = limits
        self._budget = budget
        self._answer = answer
        self._slow = slow
        self._working: dict[int, Deferred[Any]] = {}
        self._unwanted: set[int] = set()
        self._bytes = 0
        self._ended = False
        self._told = ""

    def __len__(self) -> int:
        return len(self._working)

    def asked(self, caller: Greeting, request: Request, size: int) -> None:
        """Take on a request whose frame had *size* bytes, or answer BUSY.

        :raises peerstore.errors.BadMessage: when it is not this caller's, or
            its id is in use: the peer has lost count.
        """
        if request.id in self._working or request.id == 0:
            raise BadMessage("a request's id is in use already.")
        if request.sender != caller.id:
            raise BadMessage("a request names another sender than the greeting did.")
        if self._dispatcher is None:
            self._refuse(request.id, BadMessage("This peer answers no requests."))
            return
        full = (
            len(self._working) >= self._limits.requests
            or (self._bytes and self._bytes + size > self._limits.bytes_per_connection)
            or self._slow()
        )
        if full or not self._budget.take(size):
            self._refuse(request.id, Busy("The peer has as much to do as it takes on.", retry_after=0.2))
            return
        self._bytes += size
        work = maybeDeferred(self._dispatcher.dispatch, caller, request.method, request.body)
        self._working[request.id] = work
        # Not the request itself: its body is a second copy of what is in work.
        work.addBoth(self._worked, request.id, request.method, size)

    def cancel(self, number: int) -> None:
        """Nobody waits for the answer to request *number*."""
        working = self._working.get(number)
        if working is not None:
            self._unwanted.add(number)
            working.cancel()

    def end(self) -> None:
        """The connection is gone: nobody waits for anything."""
        self._ended = True
        for deferred in list(self._working.values()):
            deferred.cancel()

    def _worked(self, result: Any, number: int, method: str, size: int) -> None:
        self._working.pop(number, None)
        gone = self._ended or number in self._unwanted
        self._unwanted.discard(number)
        self._bytes -= size
        self._budget.give_back(size)
        if isinstance(result, Failure):
            self._failed(result, number, method, gone)
        elif gone:
            return
        elif len(result) > FRAME_LIMIT - ENVELOPE:
            self._log.error("an answer to {method} has {size} bytes", method=method, size=len(result))
            self._refuse(number, RemoteError("The answer is larger than a frame.", status=Status.TOO_LARGE))
        elif len(result) > URGENT and (self._slow() or self._budget.full):
            self._refuse(number, Busy("Earlier answers still wait to be read.", retry_after=0.5))
        else:
            self._answer(number, Status.OK, result)

    def _failed(self, failure: Failure, number: int, method: str, gone: bool) -> None:
        """Tell the asker; and the log, where the asker is sent there."""
        error = failure.value or PeerStoreError("failed")
        if gone and failure.check(CancelledError):
            return
        status, body = told(error)
        if status is Status.INTERNAL and not isinstance(error, RemoteError):
            self._log.failure("{method} failed", failure=failure, method=method)
        elif isinstance(error, StorageError) and error.what != self._told:
            # A disk that fails one request fails the next ones as well.
            self._told = error.what
            self._log.warn("{method} failed: {why}", method=method, why=error.what)
        if not gone:
            self._answer(number, status, body)

    def _refuse(self, number: int, error: PeerStoreError) -> None:
        self._answer(number, *told(error))
