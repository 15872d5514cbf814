"""Where a key lives: ranges that were learned, believed, and forgotten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.errors import LookupFailed
from peerstore.gateway.locate import CACHE_LIMIT, LIFETIME, PARALLEL, Locator, Route
from peerstore.ring.lookup import Located
from peerstore.ring.member import Member


def member(where: int) -> Member:
    """A member whose fingerprint says where it sits."""
    return Member(where, b"%032x" % (where % 2**64), 0, 1, f"sim:{where}")


class FakeRing:
    """A ring of the given ids, whose lookups are counted, and held if asked."""

    def __init__(self, *places: int) -> None:
        self.places = sorted(places)
        self.asked: list[int] = []
        self.held: list[Callable[[], None]] | None = None
        self.broken = False

    def answer(self, key: int) -> Located:
        """What the ring says just now."""
        place = next((at for at in self.places if at >= key), self.places[0])
        where = self.places.index(place)
        order = self.places[where:] + self.places[:where]
        before = order[-1] if len(order) > 1 else None
        return Located(key, member(place), before, tuple(member(at) for at in order))

    def lookup(self, key: int) -> Deferred[Located]:
        """Answer, now or when told to."""
        self.asked.append(key)
        if self.broken:
            return fail(LookupFailed("Nobody claims it."))
        if self.held is None:
            return succeed(self.answer(key))
        done: Deferred[Located] = Deferred()
        self.held.append(lambda: done.callback(self.answer(key)))
        return done


class LocatorTests(SynchronousTestCase):
    """What is asked again, and what is not."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.ring = FakeRing(100, 200, 300)
        self.locator = Locator(self.ring, self.clock)  # type: ignore[arg-type]

    def locate(self, key: int, **options: Any) -> Route:
        """The route of one key."""
        route: Route = self.successResultOf(Deferred.fromCoroutine(self.locator.locate(key, **options)))
        return route

    def test_a_range_answers_for_all_its_keys(self) -> None:
        """(100, 200] is asked for once, whichever of its keys come."""
        owners = {self.locate(key).owner.id for key in (150, 101, 200, 199)}
        self.assertEqual((owners, self.ring.asked), ({200}, [150]))

    def test_the_ends_of_a_range(self) -> None:
        """The start is the one before's, the end is its own."""
        self.locate(150)
        self.assertEqual(self.locate(100).owner.id, 100)
        self.assertEqual(self.locate(201).owner.id, 300)

    def test_the_range_over_zero(self) -> None:
        """The last range goes round the end of the circle, and is cached."""
        keys = (301, ids.RING_SIZE - 1, 0, 99, 100)
        self.assertEqual({self.locate(key).owner.id for key in keys}, {100})
        self.assertEqual(self.ring.asked, [301])

    def test_owner_first_then_its_list(self) -> None:
        """A route names the members in ring order, the owner first."""
        self.assertEqual([found.id for found in self.locate(150).members], [200, 300, 100])

    def test_belief_ends(self) -> None:
        """After its lifetime a range is asked for again."""
        self.locate(150)
        self.clock.advance(LIFETIME)
        self.locate(150)
        self.assertEqual(len(self.ring.asked), 1)
        self.clock.advance(0.1)
        self.locate(150)
        self.assertEqual(len(self.ring.asked), 2)

    def test_an_impatient_reader_asks_sooner(self) -> None:
        """A caller may believe only what is younger than it says."""
        self.locate(150)
        self.clock.advance(3)
        self.locate(150, max_age=2.0)
        self.locate(150, max_age=2.0)
        self.assertEqual(len(self.ring.asked), 2)

    def test_forget(self) -> None:
        """A range that turned out wrong is asked for again; others are not."""
        route = self.locate(150)
        self.locate(250)
        self.locator.forget(route)
        self.locate(150)
        self.locate(250)
        self.assertEqual(self.ring.asked, [150, 250, 150])

    def test_forgetting_twice_and_late(self) -> None:
        """What was learned since is not forgotten with the old."""
        old = self.locate(150)
        self.locator.forget(old)
        self.locator.forget(old)
        new = self.locate(150)
        self.locator.forget(old)
        self.assertIs(self.locator.cached(150), new)

    def test_forget_host(self) -> None:
        """All that one host owned is asked for again, and nothing else."""
        for key in (50, 150, 250):
            self.locate(key)
        self.locator.forget_host(member(200).fp)
        self.assertIsNone(self.locator.cached(150))
        self.assertIsNotNone(self.locator.cached(50))
        self.assertIsNotNone(self.locator.cached(250))

    def test_a_lone_node(self) -> None:
        """It owns all, and is asked each time: it may not be alone for long."""
        self.ring.places = [200]
        self.assertEqual(self.locate(5).owner.id, 200)
        self.assertIsNone(self.locator.cached(5))

    def test_a_newcomer_splits_a_range(self) -> None:
        """The part that it took is its own, the rest stays with the old owner."""
        self.locate(150)
        self.ring.places.insert(1, 160)
        self.clock.advance(LIFETIME + 1)
        self.assertEqual(self.locate(150).owner.id, 160)
        self.assertEqual(self.locate(170).owner.id, 200)

    def test_a_host_that_left_is_not_remembered_for_ever(self) -> None:
        """Once somebody else owns its range, keys in it are cached again."""
        self.locate(150)
        self.ring.places.remove(200)
        self.clock.advance(LIFETIME + 1)
        for _ in range(3):
            self.assertEqual(self.locate(150).owner.id, 300)
        self.assertEqual(len(self.ring.asked), 2)

    def test_nor_one_whose_range_went_over_zero(self) -> None:
        """The same where the circle closes."""
        self.locate(50)
        self.ring.places.remove(100)
        self.clock.advance(LIFETIME + 1)
        for key in (50, 50, 301, 150):
            self.assertEqual(self.locate(key).owner.id, 200)
        self.assertEqual(len(self.ring.asked), 2)

    def test_a_failed_lookup_is_not_remembered(self) -> None:
        """The error goes to whoever asked; the next one asks anew."""
        self.ring.broken = True
        self.failureResultOf(Deferred.fromCoroutine(self.locator.locate(150)), LookupFailed)
        self.ring.broken = False
        self.assertEqual(self.locate(150).owner.id, 200)

    def test_many_at_once_are_few_lookups(self) -> None:
        """Some lookups at a time, and who waited finds the answer cached."""
        self.ring.held = []
        waiting = [Deferred.fromCoroutine(self.locator.locate(150)) for _ in range(50)]
        self.assertEqual(len(self.ring.asked), PARALLEL)
        while self.ring.held:
            self.ring.held.pop(0)()
        self.assertEqual({self.successResultOf(done).owner.id for done in waiting}, {200})
        self.assertEqual(len(self.ring.asked), PARALLEL)

    def test_thousands_for_one_key(self) -> None:
        """A long chain's entries all have one: none waits inside another."""
        self.ring.held = []
        waiting = [Deferred.fromCoroutine(self.locator.locate(150)) for _ in range(5000)]
        while self.ring.held:
            self.ring.held.pop(0)()
        self.assertEqual({self.successResultOf(done).owner.id for done in waiting}, {200})

    def test_thousands_that_fail(self) -> None:
        """So do failures reach everybody, each after a lookup of its own."""
        self.ring.held = []
        waiting = [Deferred.fromCoroutine(self.locator.locate(150)) for _ in range(3000)]
        self.ring.broken = True
        self.ring.answer = lambda key: None  # type: ignore[assignment, method-assign, return-value]
        while self.ring.held:
            self.ring.held.pop(0)()
        self.assertTrue(all(done.called for done in waiting))
        for done in waiting:
            self.failureResultOf(done)

    def test_giving_up_while_waiting_for_a_turn(self) -> None:
        """Who is cancelled leaves the queue; the others get theirs."""
        self.ring.held = []
        waiting = [Deferred.fromCoroutine(self.locator.locate(100 * place + 50)) for place in range(3)]
        waiting += [Deferred.fromCoroutine(self.locator.locate(150)) for _ in range(PARALLEL)]
        waiting[-1].cancel()
        self.failureResultOf(waiting.pop(), CancelledError)
        while self.ring.held:
            self.ring.held.pop(0)()
        for done in waiting:
            self.successResultOf(done)

    def test_giving_up_during_a_lookup(self) -> None:
        """The turn of one that is cancelled goes to the next."""
        self.ring.held = []
        waiting = [Deferred.fromCoroutine(self.locator.locate(150)) for _ in range(PARALLEL + 1)]
        for done in waiting[:PARALLEL]:
            done.cancel()
            self.failureResultOf(done, CancelledError)
        self.assertEqual(len(self.ring.asked), PARALLEL + 1)
        self.ring.held[-1]()
        self.assertEqual(self.successResultOf(waiting[-1]).owner.id, 200)

    def test_failures_give_their_turns_back(self) -> None:
        """However many lookups failed, the next one is made."""
        self.ring.broken = True
        for _ in range(3 * PARALLEL):
            self.failureResultOf(Deferred.fromCoroutine(self.locator.locate(150)), LookupFailed)
        self.ring.broken = False
        self.assertEqual(self.locate(150).owner.id, 200)

    def test_the_cache_is_bounded(self) -> None:
        """More ranges than any ring we know of do not pile up."""
        step = ids.RING_SIZE // (CACHE_LIMIT + 100)
        self.ring.places = [step * place for place in range(1, CACHE_LIMIT + 100)]
        members = [member(place) for place in self.ring.places]
        self.ring.answer = lambda key: Located(  # type: ignore[method-assign]
            key, members[key // step], members[key // step - 1].id, (members[key // step],)
        )
        for place in range(len(members)):
            self.locate(step * place + 1)
        kept = sum(self.locator.cached(step * place + 1) is not None for place in range(len(members)))
        self.assertLessEqual(kept, CACHE_LIMIT)
        self.assertGreater(kept, 0)


class LocatorPropertyTests(SynchronousTestCase):
    """However a ring changes, a fresh answer is the ring's."""

    @settings(max_examples=100, deadline=None, derandomize=True, database=None)
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("join"), st.integers(0, 63)),
                st.tuples(st.just("leave"), st.integers(0, 63)),
                st.tuples(st.just("ask"), st.integers(0, 63)),
                st.tuples(st.just("wait"), st.integers(0, 40)),
            ),
            max_size=60,
        )
    )
    def test_never_older_than_asked_for(self, steps: list[tuple[str, int]]) -> None:
        """An answer is what the ring said within the age that was allowed."""
        clock, ring = Clock(), FakeRing(7, 40)
        locator = Locator(ring, clock)  # type: ignore[arg-type]
        history: list[tuple[float, list[int]]] = [(0.0, list(ring.places))]
        for what, number in steps:
            if what == "join" and number not in ring.places:
                ring.places = sorted([*ring.places, number])
            elif what == "leave" and number in ring.places and len(ring.places) > 1:
                ring.places.remove(number)
            elif what == "wait":
                clock.advance(number)
            history.append((clock.seconds(), list(ring.places)))
            if what != "ask":
                continue
            route = self.successResultOf(Deferred.fromCoroutine(locator.locate(number, 30.0)))
            since = clock.seconds() - 30.0
            last_before = max((time for time, _ in history if time <= since), default=0.0)
            allowed = set()
            for time, places in history:
                if time >= last_before:
                    allowed.add(next((at for at in sorted(places) if at >= number), min(places)))
            self.assertIn(route.owner.id, allowed)
            self.assertIs(locator.cached(number), route if len(route.members) > 1 else None)
