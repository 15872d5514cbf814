"""From a method's name to its handler, through two bounded pools.

*Local* work makes no remote call; *relaying* work may.  Apart from each
other, because relays wait for other nodes' local work: in one pool, nodes
full of relays would wait for each other for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred
from zope.interface import implementer

from peerstore.errors import BadMessage, Busy
from peerstore.interfaces import IDispatcher
from peerstore.wire.messages import METHODS, decode_body, encode_body
from peerstore.wire.session import Greeting

__all__ = ["Dispatcher", "Handler", "WorkPool"]

Handler = Callable[[Greeting, Any], Any]


class _Place:
    """One piece of work that waits for a worker, or has one."""

    def __init__(self, work: Callable[[], Any], cancelled: Callable[[_Place], None]) -> None:
        self.work = work
        self.running: Deferred[Any] | None = None
        self.done: Deferred[Any] = Deferred(lambda _: cancelled(self))


class WorkPool:
    """At most *workers* at a time; at most *queue* wait; the rest is Busy."""

    def __init__(self, workers: int, queue: int) -> None:
        self.workers = workers
        self.queue = queue
        self.active = 0
        self._waiting: deque[_Place] = deque()
        self._handing_out = False

    @property
    def waiting(self) -> int:
        """How many wait for a worker."""
        return len(self._waiting)

    def submit(self, work: Callable[[], Any]) -> Deferred[Any]:
        """Do *work* when a worker is free; a Deferred of its result.

        Cancelling it takes it out of the queue, or cancels the work.
        """
        if self.active < self.workers and not self._waiting:
            return self._begin(work)
        if len(self._waiting) >= self.queue:
            return fail(Busy("The peer's queue is full.", retry_after=0.5))
        place = _Place(work, self._cancelled)
        self._waiting.append(place)
        return place.done

    def _cancelled(self, place: _Place) -> None:
        if place.running is not None:
            place.running.cancel()
        else:
            self._waiting.remove(place)

    def _begin(self, work: Callable[[], Any]) -> Deferred[Any]:
        self.active += 1
        return maybeDeferred(work).addBoth(self._ended)

    def _ended(self, result: Any) -> Any:
        self.active -= 1
        # One loop, however deep we are: work that is done at once ends within
        # it, and a queue full of such work must not nest.
        if not self._handing_out:
            self._handing_out = True
            try:
                self._hand_out()
            finally:
                self._handing_out = False
        return result

    def _hand_out(self) -> None:
        while self._waiting and self.active < self.workers:
            place = self._waiting.popleft()
            place.running = self._begin(place.work)
            place.running.addBoth(_pass_on, place.done)


def _pass_on(result: Any, done: Deferred[Any]) -> None:
    # Cancelled work may end after whoever cancelled it was told.
    if not done.called:
        done.callback(result)


@implementer(IDispatcher)
class Dispatcher:
    """Checks method and body, and hands them to a handler.

    :param handlers: by method; a method without one is refused.
    :param workers: of each of the two pools.
    :param queue: of each of the two pools.
    :param idle: how many long polls at most.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        workers: int = 32,
        queue: int = 256,
        idle: int = 1024,
    ) -> None:
        self._handlers = dict(handlers)
        self.pools = {"local": WorkPool(workers, queue), "relay": WorkPool(workers, queue), "idle": WorkPool(idle, 0)}

    def serve(self, handlers: Mapping[str, Handler]) -> None:
        """Answer these methods, too, from now on."""
        self._handlers.update(handlers)

    def dispatch(self, caller: Any, method: str, body: bytes) -> Deferred[bytes]:
        """Answer one request; fails with errors that have a status."""
        spec = METHODS.get(method)
        handler = self._handlers.get(method)
        if spec is None or handler is None:
            return fail(BadMessage(f"There is no method {method[:64]!r} here.", "Is one of the two programs older?"))
        try:
            typed = decode_body(body, spec.request)
        except BadMessage as error:
            return fail(error)

        def work() -> Any:
            return handler(caller, typed)

        def packed(answer: Any) -> bytes:
            if not isinstance(answer, spec.response):
                raise TypeError(f"{method} answered with a {type(answer).__name__}")
            return encode_body(answer)

        return self.pools[spec.pool].submit(work).addCallback(packed)
