"""Threads for what blocks, and no threads for tests."""

from __future__ import annotations

import threading
import time

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from peerstore.errors import PeerStoreError
from peerstore.interfaces import IBlockingRunner
from peerstore.util.blocking import InlineRunner, ThreadRunner
from tests.support.storage import PATIENCE, ThreadedReactor


class ThreadRunnerTests(SynchronousTestCase):
    """Real threads; results come back in the reactor's."""

    def setUp(self) -> None:
        self.reactor = ThreadedReactor()
        self.wait = self.reactor.wait
        self.runner = ThreadRunner(self.reactor, 2, "test")  # type: ignore[arg-type]
        self.runner.start()
        self.addCleanup(lambda: self.wait(self.runner.stop()))

    def test_it_provides_its_interface(self) -> None:
        """What the seams ask for."""
        self.assertTrue(verifyObject(IBlockingRunner, self.runner))

    def test_a_result(self) -> None:
        """Worked out in another thread, with the arguments that were given."""
        there = self.wait(self.runner.run(lambda a, b: (a + b, threading.get_ident()), 1, b=2))
        self.assertEqual(there[0], 3)
        self.assertNotEqual(there[1], threading.get_ident())

    def test_the_caller_hears_of_it_in_the_reactors_thread(self) -> None:
        """Callbacks never run in a worker."""
        seen: list[int] = []
        done = self.runner.run(lambda: None).addCallback(lambda _: seen.append(threading.get_ident()))
        self.wait(done)
        self.assertEqual(seen, [threading.get_ident()])

    def test_an_error(self) -> None:
        """Is the caller's, and the thread lives on."""
        for _ in range(3):
            self.assertRaises(ZeroDivisionError, self.wait, self.runner.run(lambda: 1 // 0))
        self.assertEqual(self.wait(self.runner.run(lambda: 4)), 4)

    def test_never_more_threads_than_it_was_given(self) -> None:
        """What is over waits its turn, and none is lost."""
        lock, now, most = threading.Lock(), [0], [0]

        def work(number: int) -> int:
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            time.sleep(0.001)
            with lock:
                now[0] -= 1
            return number

        done = gatherResults([self.runner.run(work, number) for number in range(20)])
        self.assertEqual(self.wait(done), list(range(20)))
        self.assertLessEqual(most[0], 2)


class StopTests(SynchronousTestCase):
    """The end of the threads."""

    def setUp(self) -> None:
        self.reactor = ThreadedReactor()
        self.wait = self.reactor.wait
        self.runner = ThreadRunner(self.reactor, 1, "test")  # type: ignore[arg-type]

    def test_what_was_given_is_finished_first(self) -> None:
        """Begun or queued, it ends, and its caller hears before the stopper."""
        self.runner.start()
        gate, order = threading.Event(), []
        for number in range(3):
            self.runner.run(gate.wait, PATIENCE).addCallback(lambda _, n=number: order.append(n))
        stopped = self.runner.stop().addCallback(lambda _: order.append("stopped"))
        self.assertNoResult(stopped)
        gate.set()
        self.wait(stopped)
        self.assertEqual(order, [0, 1, 2, "stopped"])

    def test_the_reactor_is_not_held_up(self) -> None:
        """A thread that takes long to end does not stop the world meanwhile."""
        self.runner.start()
        gate = threading.Event()
        self.addCleanup(gate.set)
        self.runner.run(gate.wait, PATIENCE)
        stopped = self.runner.stop()
        beat: Deferred[str] = Deferred()
        self.reactor.callFromThread(beat.callback, "still alive")
        self.assertEqual(self.wait(beat), "still alive")
        gate.set()
        self.wait(stopped)

    def test_nothing_is_taken_afterwards(self) -> None:
        """It fails; a Deferred that never fires would hang its caller."""
        self.runner.start()
        stopped = self.runner.stop()
        self.failureResultOf(self.runner.run(lambda: None), PeerStoreError)
        self.wait(stopped)
        self.failureResultOf(self.runner.run(lambda: None), PeerStoreError)

    def test_nothing_is_taken_before_the_start(self) -> None:
        """There is no thread yet that would do it."""
        self.failureResultOf(self.runner.run(lambda: None), PeerStoreError)
        self.runner.start()
        self.assertEqual(self.wait(self.runner.run(lambda: 1)), 1)
        self.wait(self.runner.stop())

    def test_stopping_more_than_once(self) -> None:
        """All are told when the threads have ended; later ones at once."""
        self.runner.start()
        stops = [self.runner.stop(), self.runner.stop()]
        for stopped in stops:
            self.wait(stopped)
        self.wait(self.runner.stop())

    def test_stopping_what_never_started(self) -> None:
        """There is nothing to wait for."""
        self.successResultOf(self.runner.stop())

    def test_the_threads_are_gone(self) -> None:
        """None is left behind."""
        before = set(threading.enumerate())
        self.runner.start()
        self.wait(self.runner.run(lambda: None))
        self.assertGreater(len(set(threading.enumerate()) - before), 0)
        self.wait(self.runner.stop())
        left = {thread for thread in set(threading.enumerate()) - before if "stop" not in thread.name}
        self.assertEqual(left, set())


class InlineRunnerTests(SynchronousTestCase):
    """No threads."""

    def test_here_and_now(self) -> None:
        """The result is there when it returns."""
        runner = InlineRunner()
        self.assertTrue(verifyObject(IBlockingRunner, runner))
        runner.start()
        self.assertEqual(self.successResultOf(runner.run(lambda a, b: a - b, 5, b=2)), 3)
        self.failureResultOf(runner.run(lambda: 1 // 0), ZeroDivisionError)
        self.successResultOf(runner.stop())
