"""Methods find their handlers, through pools that are bounded and apart."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from peerstore.errors import BadMessage, Busy, NotReady
from peerstore.interfaces import IDispatcher
from peerstore.net.dispatch import Dispatcher, WorkPool
from peerstore.wire import bodies
from peerstore.wire.messages import METHODS, encode_body
from tests.support.wire import SAMPLES, a_greeting

PING, PONG = encode_body(bodies.Ping()), bodies.Pong(1, "member")


class WorkPoolTests(SynchronousTestCase):
    """Two workers, a queue of three."""

    def setUp(self) -> None:
        self.pool = WorkPool(2, 3)
        self.begun: list[Deferred[Any]] = []
        self.cancelled = 0

    def work(self) -> Deferred[Any]:
        """Something that takes until the test says so."""
        self.begun.append(Deferred(self.cancel))
        return self.begun[-1]

    def cancel(self, _: Deferred[Any]) -> None:
        """A handler was cancelled."""
        self.cancelled += 1

    def fill(self, count: int) -> list[Deferred[Any]]:
        """So much work."""
        return [self.pool.submit(self.work) for _ in range(count)]

    def state(self) -> tuple[int, int]:
        """Active, waiting."""
        return self.pool.active, self.pool.waiting

    def test_workers_and_queue(self) -> None:
        """Two begin, three wait, the next is told Busy at once."""
        submitted = self.fill(6)
        self.assertEqual((len(self.begun), self.state()), (2, (2, 3)))
        self.assertGreater(self.failureResultOf(submitted[5], Busy).value.retry_after, 0)
        for waiting in submitted[:5]:
            self.assertNoResult(waiting)

    def test_first_come_first_served(self) -> None:
        """A worker that is free takes what has waited longest."""
        order: list[int] = []
        self.fill(2)
        for number in range(3):
            self.pool.submit(lambda number=number: order.append(number))  # type: ignore[misc]
        self.begun[0].callback(None)
        self.assertEqual(order, [0, 1, 2])

    def test_results_and_failures(self) -> None:
        """Reach whoever submitted the work, whether it waited or not."""
        submitted = self.fill(4)
        self.begun[0].callback("a")
        self.begun[1].errback(NotReady("b"))
        self.begun[2].callback("c")
        self.begun[3].errback(NotReady("d"))
        self.assertEqual((self.successResultOf(submitted[0]), self.successResultOf(submitted[2])), ("a", "c"))
        for place, text in ((1, "b"), (3, "d")):
            self.assertEqual(self.failureResultOf(submitted[place], NotReady).value.what, text)
        self.assertEqual(self.state(), (0, 0))

    def test_work_that_raises(self) -> None:
        """Is a failure, and its worker is free again."""

        def raises() -> None:
            raise ZeroDivisionError

        self.failureResultOf(self.pool.submit(raises), ZeroDivisionError)
        self.fill(2)
        waiting = self.pool.submit(raises)
        self.begun[0].callback(None)
        self.failureResultOf(waiting, ZeroDivisionError)
        self.assertEqual(self.state(), (1, 0))

    def test_cancelled_in_the_queue(self) -> None:
        """It leaves its place, and never begins."""
        submitted = self.fill(5)
        submitted[3].cancel()
        self.failureResultOf(submitted[3], CancelledError)
        self.assertEqual((self.state(), self.cancelled), ((2, 2), 0))
        self.assertNoResult(self.pool.submit(self.work))
        for place in range(5):
            self.begun[place].callback(place)
        self.assertEqual(self.successResultOf(submitted[4]), 3)
        self.assertEqual(self.state(), (0, 0))

    def test_cancelled_while_it_works(self) -> None:
        """The work is cancelled, and its worker takes the next."""
        submitted = self.fill(4)
        submitted[0].cancel()
        self.failureResultOf(submitted[0], CancelledError)
        self.assertEqual((self.cancelled, len(self.begun), self.state()), (1, 3, (2, 1)))

    def test_cancelled_while_it_works_after_waiting(self) -> None:
        """The same for what had to wait for its worker."""
        submitted = self.fill(3)
        self.begun[0].callback(None)
        submitted[2].cancel()
        self.failureResultOf(submitted[2], CancelledError)
        self.assertEqual((self.cancelled, self.state()), (1, (1, 0)))

    def test_work_that_ends_in_its_own_time(self) -> None:
        """Cancelled work that goes on holds its worker until it ends."""
        self.fill(2)
        slow: Deferred[None] = Deferred()

        async def tidy_up() -> str:
            try:
                await Deferred()
            except CancelledError:
                await slow
            return "late"

        waiting = self.pool.submit(lambda: Deferred.fromCoroutine(tidy_up()))
        self.begun[0].callback(None)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(self.state(), (2, 0))
        slow.callback(None)
        self.assertEqual(self.state(), (1, 0))

    def test_a_long_queue_of_quick_work(self) -> None:
        """Work that is done at once does not nest, however much waits."""
        pool = WorkPool(1, 5000)
        first = pool.submit(self.work)
        submitted = [pool.submit(lambda number=number: number) for number in range(5000)]  # type: ignore[misc]
        self.begun[0].callback(None)
        self.assertEqual([self.successResultOf(done) for done in submitted], list(range(5000)))
        self.assertEqual((pool.active, pool.waiting, self.successResultOf(first)), (0, 0, None))

    def test_work_submitted_by_work(self) -> None:
        """Takes its turn behind what waits already."""
        order: list[str] = []
        self.fill(2)

        def outer() -> None:
            order.append("outer")
            self.pool.submit(lambda: order.append("inner"))

        self.pool.submit(outer)
        self.pool.submit(lambda: order.append("next"))
        self.begun[0].callback(None)
        self.assertEqual(order, ["outer", "next", "inner"])


class DispatcherTests(SynchronousTestCase):
    """Handlers by method."""

    def setUp(self) -> None:
        self.caller = a_greeting()
        self.seen: list[tuple[Any, Any]] = []
        self.waiting: list[Deferred[Any]] = []

    def dispatcher(self, *methods: str, **bounds: int) -> Dispatcher:
        """One whose handlers for *methods* wait."""
        return Dispatcher(dict.fromkeys(methods, self.handler), **bounds)

    def handler(self, caller: Any, body: Any) -> Deferred[Any]:
        """Note it, and wait."""
        self.seen.append((caller, body))
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def ask(self, dispatcher: Dispatcher, method: str, body: bytes | None = None) -> Deferred[bytes]:
        """One request, with a sound body by default."""
        packed = encode_body(SAMPLES[METHODS[method].request.__name__]) if body is None else body
        return dispatcher.dispatch(self.caller, method, packed)

    def test_it_is_a_dispatcher(self) -> None:
        """In every word of the interface."""
        verifyObject(IDispatcher, self.dispatcher())

    def test_every_method(self) -> None:
        """Its handler gets caller and typed body; its answer is packed."""
        for method, spec in METHODS.items():
            dispatcher = self.dispatcher(method)
            answer = self.ask(dispatcher, method)
            self.assertEqual(self.seen.pop(), (self.caller, SAMPLES[spec.request.__name__]))
            response = SAMPLES[spec.response.__name__]
            self.waiting.pop().callback(response)
            self.assertEqual(self.successResultOf(answer), encode_body(response))

    def test_unknown_methods(self) -> None:
        """There is none of that name, anywhere or here: refused by name."""
        for method in ("", "no-such-method", "PING", "ping\n", "x" * 5000):
            error = self.failureResultOf(self.dispatcher("ping").dispatch(self.caller, method, PING), BadMessage).value
            self.assertIn("no method", error.what)
            self.assertLess(len(error.what), 200)
        self.failureResultOf(self.dispatcher("ping").dispatch(self.caller, "usage", PING), BadMessage)
        self.assertEqual(self.seen, [])

    def test_wrong_bodies(self) -> None:
        """Refused before any handler, or any worker."""
        dispatcher = self.dispatcher("get-neighbours", workers=1, queue=0)
        for body in (b"", b"\xc1", PING, encode_body(bodies.GetUsage(b"x")), b"\x91\xff"):
            self.failureResultOf(self.ask(dispatcher, "get-neighbours", body), BadMessage)
        self.assertEqual((self.seen, dispatcher.pools["local"].active), ([], 0))

    def test_plain_and_failing_handlers(self) -> None:
        """A handler may answer at once, raise, or fail."""

        def raises(caller: Any, body: Any) -> None:
            raise NotReady("now")

        dispatcher = Dispatcher(
            {
                "ping": lambda caller, body: PONG,
                "usage": raises,
                "leaving": lambda caller, body: fail(NotReady("later")),
            }
        )
        self.assertEqual(self.successResultOf(self.ask(dispatcher, "ping")), encode_body(PONG))
        self.assertEqual(self.failureResultOf(self.ask(dispatcher, "usage"), NotReady).value.what, "now")
        self.assertEqual(self.failureResultOf(self.ask(dispatcher, "leaving"), NotReady).value.what, "later")

    def test_an_answer_of_the_wrong_type(self) -> None:
        """Is a fault of ours, found here and not by the peer."""
        for answer in (None, bodies.Done(), "pong"):
            dispatcher = Dispatcher({"ping": lambda caller, body, answer=answer: succeed(answer)})
            self.failureResultOf(self.ask(dispatcher, "ping"), TypeError)

    def test_methods_that_come_later(self) -> None:
        """serve adds to what is answered."""
        dispatcher = self.dispatcher("usage")
        self.failureResultOf(self.ask(dispatcher, "ping"), BadMessage)
        dispatcher.serve({"ping": lambda caller, body: PONG})
        self.successResultOf(self.ask(dispatcher, "ping"))
        self.assertNoResult(self.ask(dispatcher, "usage"))

    def test_local_and_relay_are_apart(self) -> None:
        """Full of one kind of work, the other still begins."""
        for first, second in (("post-chunks", "ping"), ("ping", "post-chunks")):
            dispatcher = self.dispatcher("ping", "post-chunks", workers=2, queue=1)
            for _ in range(3):
                self.ask(dispatcher, first)
            self.failureResultOf(self.ask(dispatcher, first), Busy)
            begun = len(self.seen)
            self.assertNoResult(self.ask(dispatcher, second))
            self.assertEqual(len(self.seen), begun + 1)

    def test_what_waits_for_each_other(self) -> None:
        """Two nodes full of relays that wait for each other's local work all
        come to their end."""
        nodes: list[Dispatcher] = []

        def relay(other: int) -> Any:
            return lambda caller, body: self.ask(nodes[other], "push").addCallback(lambda _: bodies.Posted(()))

        for number in (0, 1):
            handlers = {"append": relay(1 - number), "push": lambda caller, body: bodies.Pushed((), (), 1)}
            nodes.append(Dispatcher(handlers, workers=1, queue=10))
        answers = [self.ask(nodes[number % 2], "append") for number in range(20)]
        for answer in answers:
            self.assertEqual(self.successResultOf(answer), encode_body(bodies.Posted(())))

    def test_long_polls_hold_no_worker(self) -> None:
        """However many wait, ring and relays work on; and they have an end."""
        dispatcher = self.dispatcher("watch", "ping", "post-heads", workers=1, queue=0, idle=50)
        polls = [self.ask(dispatcher, "watch") for _ in range(50)]
        self.assertNoResult(self.ask(dispatcher, "ping"))
        self.assertNoResult(self.ask(dispatcher, "post-heads"))
        self.failureResultOf(self.ask(dispatcher, "watch"), Busy)
        polls[0].addErrback(lambda failure: failure.trap(CancelledError))
        polls[0].cancel()
        self.assertNoResult(self.ask(dispatcher, "watch"))

    def test_cancelling_a_request(self) -> None:
        """From the queue, or from its handler."""
        dispatcher = self.dispatcher("ping", workers=1, queue=1)
        works, waits = self.ask(dispatcher, "ping"), self.ask(dispatcher, "ping")
        waits.cancel()
        works.cancel()
        self.failureResultOf(waits, CancelledError)
        self.failureResultOf(works, CancelledError)
        self.assertEqual(len(self.seen), 1)
        pool = dispatcher.pools["local"]
        self.assertEqual((pool.active, pool.waiting), (0, 0))
