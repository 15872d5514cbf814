"""The simulator's clock, beside Twisted's."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from peerstore.sim.clock import SimClock

#: A programme for a clock.  Times are multiples of 1/8 s, exact in floats,
#: and each call gets a moment of its own, since the two clocks may differ in
#: whom they call first of those that are due together.
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("later"), st.integers(0, 40)),
        st.tuples(st.just("cancel"), st.integers(0, 12)),
        st.tuples(st.just("reset"), st.integers(0, 12), st.integers(0, 40)),
        st.tuples(st.just("delay"), st.integers(0, 12), st.integers(0, 20)),
        st.tuples(st.just("chain"), st.integers(0, 40), st.integers(1, 20)),
        st.tuples(st.just("advance"), st.integers(0, 24)),
    ),
    max_size=30,
)


class Player:
    """Plays one programme on one clock, and writes down what happens."""

    def __init__(self, clock: Any, fine: bool) -> None:
        self.clock = clock
        self.fine = fine
        self.calls: list[Any] = []
        self.happened: list[tuple[float, int]] = []
        self.refusals: list[tuple[int, str]] = []
        self.count = 0

    def later(self, eighths: int, then: int = 0) -> None:
        """One more call."""
        number = self.count
        self.count += 1
        self.calls.append(self.clock.callLater(eighths / 8 + number / 65536, self.called, number, then=then))

    def called(self, number: int, then: int) -> None:
        """It is made, and asks for another if it is to."""
        self.happened.append((self.clock.seconds(), number))
        if then:
            self.later(then)

    def advance(self, eighths: int) -> None:
        """Twisted's clock tells calls the end of the step as the time, so it
        goes in steps so small that at most one call falls into each."""
        if self.fine:
            self.clock.advance(eighths / 8)
            return
        end = self.clock.seconds() + eighths / 8
        while True:
            due = sorted(call.getTime() for call in self.clock.getDelayedCalls() if call.getTime() <= end)
            if not due:
                break
            self.clock.advance(max(0.0, due[0] - self.clock.seconds()))
        self.clock.advance(end - self.clock.seconds())

    def play(self, action: tuple[Any, ...]) -> None:
        """One action; what it refuses is written down, too."""
        kind, *numbers = action
        if kind == "later":
            self.later(numbers[0])
        elif kind == "chain":
            self.later(*numbers)
        elif kind == "advance":
            self.advance(numbers[0])
        elif numbers[0] < len(self.calls):
            call = self.calls[numbers[0]]
            try:
                {"cancel": call.cancel, "reset": call.reset, "delay": call.delay}[kind](
                    *(eighths / 8 + numbers[0] / 65536 for eighths in numbers[1:])
                )
            except (AlreadyCalled, AlreadyCancelled) as error:
                self.refusals.append((numbers[0], type(error).__name__))


class OracleTests(SynchronousTestCase):
    """Twisted's own clock is right, if slow."""

    @settings(derandomize=True, deadline=None, max_examples=200)
    @given(ACTIONS)
    def test_it_does_what_twisteds_clock_does(self, actions: list[tuple[Any, ...]]) -> None:
        """The same calls are made at the same times, the same are pending,
        and the same are refused."""
        ours, oracle = Player(SimClock(), True), Player(Clock(), False)
        for action in actions:
            ours.play(action)
            oracle.play(action)
            self.assertEqual(sorted(ours.happened), sorted(oracle.happened))
            self.assertEqual(ours.refusals, oracle.refusals)
            self.assertEqual([call.active() for call in ours.calls], [call.active() for call in oracle.calls])
            self.assertEqual(
                [call.getTime() for call in ours.clock.getDelayedCalls()],
                sorted(call.getTime() for call in oracle.clock.getDelayedCalls()),
            )
            self.assertEqual(ours.clock.seconds(), oracle.clock.seconds())
        self.assertEqual(ours.happened, sorted(ours.happened))


class ClockTests(SynchronousTestCase):
    """What the oracle does not say."""

    def setUp(self) -> None:
        """A new clock, and what has been called."""
        self.clock = SimClock()
        self.seen: list[Any] = []

    def test_it_provides_the_interfaces(self) -> None:
        """Whatever takes an IReactorTime takes it."""
        verifyObject(IReactorTime, self.clock)
        verifyObject(IDelayedCall, self.clock.callLater(1, self.seen.append))

    def test_calls_due_together_are_made_in_the_order_asked(self) -> None:
        """First asked, first called."""
        for number in range(20):
            self.clock.callLater(1.0, self.seen.append, number)
        self.clock.advance(1.0)
        self.assertEqual(self.seen, list(range(20)))

    def test_calls_see_their_own_time(self) -> None:
        """seconds() within a call is when the call was due, however far the
        clock is being advanced."""
        for moment in (0.5, 2.0, 7.25):
            self.clock.callLater(moment, lambda: self.seen.append(self.clock.seconds()))
        self.clock.advance(100.0)
        self.assertEqual(self.seen, [0.5, 2.0, 7.25])
        self.assertEqual(self.clock.seconds(), 100.0)

    def test_a_call_asked_for_now_is_made_in_a_later_step(self) -> None:
        """As with a reactor, never within the asking call."""
        self.clock.callLater(0, lambda: self.clock.callLater(0, self.seen.append, "second"))
        self.assertTrue(self.clock.step(0.0))
        self.assertEqual(self.seen, [])
        self.assertTrue(self.clock.step(0.0))
        self.assertEqual(self.seen, ["second"])

    def test_a_step_makes_one_call(self) -> None:
        """So that the world can be looked at between any two."""
        self.clock.callLater(1, self.seen.append, 1)
        self.clock.callLater(1, self.seen.append, 2)
        self.assertTrue(self.clock.step(5))
        self.assertEqual((self.seen, self.clock.seconds()), ([1], 1))
        self.assertTrue(self.clock.step(5))
        self.assertFalse(self.clock.step(5))
        self.assertEqual((self.seen, self.clock.seconds()), ([1, 2], 5))

    def test_nothing_is_asked_for_in_the_past(self) -> None:
        """A negative delay is a mistake of the caller."""
        self.assertRaises(AssertionError, self.clock.callLater, -0.1, self.seen.append)

    def test_a_failing_call_does_not_stop_time(self) -> None:
        """The error reaches whoever steps; the rest is still to come."""
        self.clock.callLater(1, lambda: [][0])
        self.clock.callLater(2, self.seen.append, "after")
        self.assertRaises(IndexError, self.clock.advance, 5)
        self.clock.advance(5)
        self.assertEqual(self.seen, ["after"])


class ViewTests(SynchronousTestCase):
    """A machine's own idea of the time."""

    def test_a_view_is_ahead_and_calls_at_the_same_moment(self) -> None:
        """Its seconds differ, its delays do not."""
        clock, seen = SimClock(), []
        view = clock.view(1000.0, lambda function: function())
        clock.advance(3)
        self.assertEqual(view.seconds(), 1003.0)
        call = view.callLater(2, lambda: seen.append((clock.seconds(), view.seconds())))
        self.assertEqual(call.getTime(), 1005.0)
        clock.advance(10)
        self.assertEqual(seen, [(5.0, 1005.0)])

    def test_a_call_of_a_view_is_moved_in_its_own_time(self) -> None:
        """reset and delay count from what the view says."""
        clock, seen = SimClock(), []
        view = clock.view(-500.0, lambda function: function())
        call = view.callLater(1, lambda: seen.append(clock.seconds()))
        call.reset(4)
        call.delay(2)
        clock.advance(10)
        self.assertEqual(seen, [6.0])

    def test_a_view_lists_its_own_calls(self) -> None:
        """Not those of others."""
        clock = SimClock()
        one, two = (clock.view(offset, lambda function: function()) for offset in (0.0, 7.0))
        first, second = one.callLater(2, int), two.callLater(1, int)
        self.assertEqual((one.getDelayedCalls(), two.getDelayedCalls()), ([first], [second]))
        self.assertEqual(clock.pending(), [second, first])
