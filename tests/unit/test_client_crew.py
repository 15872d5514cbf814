"""Several coroutines that end together, bytes that wait for room, and threads
that are not left behind."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from peerstore.client.budget import ByteBudget
from peerstore.client.crew import Crew, in_thread
from peerstore.util.blocking import InlineRunner


class Boom(Exception):
    """Something unexpected."""


class CrewTests(SynchronousTestCase):
    """``Crew``."""

    def setUp(self) -> None:
        self.jobs: list[Deferred[None]] = []
        self.ended: list[int] = []

    async def job(self, number: int) -> None:
        try:
            self.jobs.append(Deferred())
            await self.jobs[-1]
        finally:
            self.ended.append(number)

    def crew(self, count: int, turns: int = 2, each: int = 1, body: Any = None) -> Deferred[None]:
        async def run() -> None:
            async with Crew(turns) as crew:
                for number in range(count):
                    await crew.start(each, self.job, number)
                if body is not None:
                    await body

        return Deferred.fromCoroutine(run())

    def test_a_few_at_a_time(self) -> None:
        """The next begins when one has ended; all have when it is over."""
        running = self.crew(3)
        self.assertEqual(len(self.jobs), 2)
        self.jobs[1].callback(None)
        self.assertEqual(len(self.jobs), 3)
        self.jobs[0].callback(None)
        self.assertNoResult(running)
        self.jobs[2].callback(None)
        self.successResultOf(running)
        self.assertEqual(self.ended, [1, 0, 2])

    def test_several_turns(self) -> None:
        """A large one takes the place of several."""
        running = self.crew(2, turns=3, each=2)
        self.assertEqual(len(self.jobs), 1)
        self.jobs[0].callback(None)
        self.jobs[1].callback(None)
        self.successResultOf(running)

    def test_nothing_to_do(self) -> None:
        """No job is no problem."""
        self.successResultOf(self.crew(0))

    def test_one_fails(self) -> None:
        """The others are ended, no more begin, and its error comes out."""
        running = self.crew(5)
        self.jobs[0].errback(Boom())
        self.failureResultOf(running, Boom)
        self.assertEqual((len(self.jobs), sorted(self.ended)), (2, [0, 1]))

    def test_one_fails_at_the_end(self) -> None:
        """Also when all have begun."""
        running = self.crew(2)
        self.jobs[1].errback(Boom())
        self.failureResultOf(running, Boom)
        self.assertEqual(sorted(self.ended), [0, 1])

    def test_cancelled_anywhere(self) -> None:
        """While waiting for a turn, in the body, or for the end: everybody is
        cancelled, and waited for."""
        for count, body in ((5, None), (2, None), (1, Deferred())):
            self.setUp()
            running = self.crew(count, body=body)
            running.cancel()
            self.failureResultOf(running, CancelledError)
            self.assertEqual(sorted(self.ended), list(range(len(self.jobs))))

    def test_one_that_takes_its_time_to_end(self) -> None:
        """It is waited for after a cancel."""
        last: Deferred[None] = Deferred()

        async def slow() -> None:
            try:
                await Deferred()
            except CancelledError:
                await last
                raise

        async def run() -> None:
            async with Crew(2) as crew:
                await crew.start(1, slow)

        running = Deferred.fromCoroutine(run())
        running.cancel()
        self.assertNoResult(running)
        last.callback(None)
        self.failureResultOf(running, CancelledError)

    def test_a_cancel_that_nobody_asked_for(self) -> None:
        """Is a failure like others."""
        running = self.crew(2)
        self.jobs[0].cancel()
        self.failureResultOf(running, CancelledError)
        self.assertEqual(sorted(self.ended), [0, 1])

    def test_the_body_fails(self) -> None:
        """Its error comes out once everybody has ended."""
        body: Deferred[None] = Deferred()
        running = self.crew(1, body=body)
        body.errback(Boom())
        self.failureResultOf(running, Boom)
        self.assertEqual(self.ended, [0])


class Threads(InlineRunner):
    """Threads that end when the test says so."""

    def __init__(self) -> None:
        self.running: list[Deferred[Any]] = []

    def run(self, function: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
        self.running.append(Deferred())
        return self.running[-1]


class ThreadTests(SynchronousTestCase):
    """``in_thread``."""

    def setUp(self) -> None:
        self.threads = Threads()
        self.working = Deferred.fromCoroutine(in_thread(self.threads, print))

    def test_its_result(self) -> None:
        """Comes out, and so does its error."""
        self.threads.running[0].callback(5)
        self.assertEqual(self.successResultOf(self.working), 5)
        self.setUp()
        self.threads.running[0].errback(Boom())
        self.failureResultOf(self.working, Boom)

    def test_cancelled(self) -> None:
        """It ends when the thread has, whatever that then says."""
        for end in (lambda thread: thread.callback(5), lambda thread: thread.errback(Boom())):
            self.setUp()
            self.working.cancel()
            self.assertNoResult(self.working)
            end(self.threads.running[0])
            self.failureResultOf(self.working, CancelledError)

    def test_one_that_waits(self) -> None:
        """Is told to give up, and only when nobody wants it any more."""
        told: list[bool] = []
        threads = Threads()
        working = Deferred.fromCoroutine(in_thread(threads, print, give_up=lambda: told.append(True)))
        self.assertEqual(told, [])
        working.cancel()
        self.assertEqual(told, [True])
        threads.running[0].callback(None)
        self.failureResultOf(working, CancelledError)


class BudgetTests(SynchronousTestCase):
    """``ByteBudget``."""

    def test_in_order(self) -> None:
        """Who comes first goes first, even if a later one would fit."""
        budget = ByteBudget(10)
        turns = [budget.take(count) for count in (8, 5, 1)]
        self.assertEqual([turn.called for turn in turns], [True, False, False])
        budget.give_back(8)
        self.assertEqual([turn.called for turn in turns], [True, True, True])

    def test_more_than_all_of_it(self) -> None:
        """Passes alone."""
        budget = ByteBudget(10)
        self.assertTrue(budget.take(25).called)
        other = budget.take(1)
        self.assertFalse(other.called)
        budget.give_back(25)
        self.assertTrue(other.called)

    def test_one_that_waits_no_longer(self) -> None:
        """Leaves, takes nothing, and lets those behind it pass."""
        budget = ByteBudget(10)
        budget.take(8)
        large, small = budget.take(9), budget.take(2)
        large.cancel()
        self.failureResultOf(large, CancelledError)
        self.assertTrue(small.called)
        budget.give_back(8)
        budget.give_back(2)
        self.assertEqual(budget._used, 0)

    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.tuples(st.sampled_from(["take", "give", "leave"]), st.integers(1, 15)), max_size=40))
    def test_never_above_the_limit(self, steps: list[tuple[str, int]]) -> None:
        """Whatever happens: at most the limit, or one alone; and in the end
        everybody who stayed has had a turn."""
        budget = ByteBudget(10)
        waiting: list[tuple[int, Deferred[None]]] = []
        holding: list[int] = []
        given_up: list[Deferred[None]] = []

        def look() -> None:
            for entry in [entry for entry in waiting if entry[1].called]:
                waiting.remove(entry)
                holding.append(entry[0])
            self.assertTrue(sum(holding) <= 10 or len(holding) == 1)

        for what, number in steps:
            if what == "take":
                waiting.append((number, budget.take(number)))
            elif what == "give" and holding:
                budget.give_back(holding.pop(number % len(holding)))
            elif what == "leave" and waiting:
                _, turn = waiting.pop(number % len(waiting))
                turn.addErrback(lambda failure: failure.trap(CancelledError))
                turn.cancel()
                given_up.append(turn)
            look()
        while holding:
            budget.give_back(holding.pop())
            look()
        self.assertEqual((waiting, budget._used), ([], 0))
