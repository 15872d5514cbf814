"""The ring's code alone, many hosts: a small run has all its numbers."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import NotReady
from tests.support.benchmarks import load

bare_ring, scale = load("bare_ring"), load("scale")


class ScaleTests(SynchronousTestCase):
    """Few hosts, little time."""

    def test_a_small_run(self) -> None:
        """The ring forms; bytes at rest are the sum of their parts, and fewer
        than while it formed."""
        found = scale.scale(8, 60.0, rest=60.0)
        self.assertEqual(found.hosts, 8)
        self.assertGreater(found.events, 0)
        self.assertGreater(found.bytes_at_rest, 0)
        self.assertAlmostEqual(sum(found.parts.values()), found.bytes_at_rest)
        self.assertLess(found.bytes_at_rest, found.bytes_forming)
        self.assertIn("get-neighbours", found.parts)

    def test_all_have_joined(self) -> None:
        """Each through one that was there."""
        net = bare_ring.BareNet(2, knows_all=True, trip=lambda: 0.002)
        hosts = scale.grow(net, 6)
        net.clock.advance(20)
        self.assertEqual([host.ring.status for host in hosts], ["MEMBER"] * 6)
        self.assertEqual(net.wrong(), 0)

    def test_bytes_are_those_of_the_wire(self) -> None:
        """A ping weighs what its question and answer do, and their headers."""
        net = bare_ring.BareNet(2, trip=lambda: 0.002, weigh=True)
        one, two = net.stand(2)
        one.pool.call(two.address, "ping", bare_ring.bodies.Ping())
        net.clock.advance(1)
        self.assertEqual(net.calls["ping"], 1)
        self.assertTrue(40 < net.weights["ping"] < 120, net.weights)
        self.assertEqual(one.pool.asked_for, net.weights["ping"])


class SilenceTests(SynchronousTestCase):
    """Hosts that are gone."""

    def test_a_question_to_the_dead_times_out(self) -> None:
        """After the network's own time, however long the asker would wait."""
        net = bare_ring.BareNet(2, trip=lambda: 0.05, timeout=0.5)
        one, two = net.stand(2)
        net.kill(two)
        asking = one.pool.call(two.address, "ping", bare_ring.bodies.Ping(), 30.0)
        net.clock.advance(0.4)
        self.assertNoResult(asking)
        net.clock.advance(0.2)
        self.failureResultOf(asking, bare_ring.PeerTimeout)
        self.assertEqual(net.unanswered["ping"], 1)

    def test_nobody_or_another(self) -> None:
        """An address without a host, and one with another host."""
        net = bare_ring.BareNet(2, trip=lambda: 0.05)
        one, two = net.stand(2)
        self.failureResultOf(one.pool.peer("tcp:nowhere:1"), bare_ring.PeerUnreachable)
        self.failureResultOf(one.pool.call(two.address, "ping", None, None, one.fp), bare_ring.PeerMismatch)

    def test_errors_of_handlers_are_told(self) -> None:
        """A host that has not joined says so, as over the wire."""
        net = bare_ring.BareNet(2, trip=lambda: 0.05)
        one = net.stand(1)[0]
        new = net.add(one)
        asking = one.pool.call(new.address, "get-neighbours", bare_ring.bodies.GetNeighbours(0))
        net.clock.advance(1)
        self.failureResultOf(asking, NotReady)
