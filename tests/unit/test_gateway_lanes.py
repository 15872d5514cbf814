"""Bounds on what is in flight: never exceeded, nobody left waiting."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from peerstore.gateway.lanes import Lane, Lanes

LIMIT, SLOTS = 100, 4
STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "ask", "finish", "cancel"]), st.integers(0, 160), st.integers(0, 30)),
    max_size=80,
)


class Requests:
    """Requests through Lanes, each held until it is told to end."""

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes
        self.running: list[tuple[bytes, int, Deferred[None]]] = []
        self.jobs: list[Deferred[Any]] = []
        self.order: list[int] = []

    def begin(self, fp: bytes, size: int) -> Deferred[Any]:
        """Ask for room."""
        job = Deferred.fromCoroutine(self._one(fp, size, len(self.jobs)))
        job.addErrback(lambda failure: failure.trap(CancelledError))
        self.jobs.append(job)
        return job

    async def _one(self, fp: bytes, size: int, number: int) -> None:
        async with self.lanes.room(fp, size):
            held: Deferred[None] = Deferred()
            entry = (fp, size, held)
            self.running.append(entry)
            self.order.append(number)
            try:
                await held
            finally:
                self.running.remove(entry)

    def finish(self, which: int) -> None:
        """End one that runs, if any does."""
        if self.running:
            self.running[which % len(self.running)][2].callback(None)


class LaneTests(SynchronousTestCase):
    """One gate."""

    def test_bytes_are_bounded(self) -> None:
        """What does not fit waits until enough was given back."""
        lane = Lane(LIMIT, SLOTS)
        self.successResultOf(lane.acquire(60))
        second = lane.acquire(60)
        self.assertNoResult(second)
        lane.release(60)
        self.successResultOf(second)
        self.assertEqual((lane.used, lane.busy), (60, 1))

    def test_requests_are_bounded(self) -> None:
        """However small they are."""
        lane = Lane(LIMIT, SLOTS)
        waiting = [lane.acquire(0) for _ in range(SLOTS + 1)]
        self.assertNoResult(waiting.pop())
        for done in waiting:
            self.successResultOf(done)

    def test_one_that_is_larger_than_all_passes_alone(self) -> None:
        """It waits for the lane to be empty, and then it goes."""
        lane = Lane(LIMIT, SLOTS)
        self.successResultOf(lane.acquire(1))
        large = lane.acquire(10 * LIMIT)
        self.assertNoResult(large)
        lane.release(1)
        self.successResultOf(large)
        self.assertNoResult(small := lane.acquire(1))
        lane.release(10 * LIMIT)
        self.successResultOf(small)

    def test_first_come_first_served(self) -> None:
        """A small one does not overtake a large one that waits."""
        lane = Lane(LIMIT, SLOTS)
        self.successResultOf(lane.acquire(90))
        self.assertNoResult(large := lane.acquire(50))
        self.assertNoResult(small := lane.acquire(1))
        lane.release(90)
        self.successResultOf(large)
        self.successResultOf(small)

    def test_leaving_the_queue(self) -> None:
        """Who gives up is passed by, and lets those behind go."""
        lane = Lane(LIMIT, SLOTS)
        self.successResultOf(lane.acquire(90))
        large, small = lane.acquire(50), lane.acquire(5)
        large.cancel()
        self.failureResultOf(large, CancelledError)
        self.successResultOf(small)
        self.assertEqual((lane.used, lane.busy), (95, 2))

    def test_thousands_that_are_done_at_once(self) -> None:
        """Each goes after the one before it, not inside it."""
        lane = Lane(LIMIT, SLOTS)
        self.successResultOf(lane.acquire(LIMIT))
        done = []
        for number in range(5000):
            lane.acquire(LIMIT).addCallback(lambda _, number=number: (lane.release(LIMIT), done.append(number)))
        lane.release(LIMIT)
        self.assertEqual((done, lane.busy), (list(range(5000)), 0))


class LanesTests(SynchronousTestCase):
    """All gates together."""

    def test_hosts_do_not_wait_for_each_other(self) -> None:
        """One host's full lane is no other's."""
        requests = Requests(Lanes(LIMIT, 100, 40, 100))
        requests.begin(b"a", 40)
        requests.begin(b"a", 40)
        requests.begin(b"b", 40)
        self.assertEqual(requests.order, [0, 2])

    def test_an_error_inside_gives_the_room_back(self) -> None:
        """However it ended, the room is free again."""
        lanes = Lanes(LIMIT, SLOTS, LIMIT, SLOTS)

        async def fails() -> None:
            async with lanes.room(b"a", LIMIT):
                raise ValueError("on purpose")

        for _ in range(3):
            self.failureResultOf(Deferred.fromCoroutine(fails()), ValueError)

    def test_many_hosts_are_forgotten(self) -> None:
        """Lanes of hosts that nothing is sent to do not pile up."""
        requests = Requests(Lanes(10**9, 10**6, LIMIT, SLOTS))
        for number in range(3000):
            requests.begin(b"%d" % number, 1)
            requests.finish(0)
        self.assertLess(len(requests.lanes._hosts), 1500)

    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(STEPS)
    def test_never_exceeded_and_never_stuck(self, steps: list[tuple[str, int, int]]) -> None:
        """Whatever comes, ends or gives up: bounds hold, and all get their turn."""
        requests = Requests(Lanes(LIMIT, 6, 60, SLOTS))
        for what, size, which in steps:
            if what == "ask":
                requests.begin(b"abc"[which % 3 : which % 3 + 1], size)
            elif what == "finish":
                requests.finish(which)
            elif requests.jobs:
                requests.jobs[which % len(requests.jobs)].cancel()
            self._check(requests)
        for _ in range(len(requests.jobs)):
            requests.finish(0)
        self.assertEqual(requests.running, [])
        self.assertTrue(all(job.called for job in requests.jobs))

    def _check(self, requests: Requests) -> None:
        sizes = [size for _, size, _ in requests.running]
        self.assertLessEqual(len(sizes), 6)
        # One that is larger than a bound counts as the bound, and is alone there.
        self.assertLessEqual(sum(min(size, LIMIT) for size in sizes), LIMIT)
        for host in (b"a", b"b", b"c"):
            mine = [min(size, 60) for fp, size, _ in requests.running if fp == host]
            self.assertLessEqual(len(mine), SLOTS)
            self.assertLessEqual(sum(mine), 60)
