"""The simulated network: each fault can be seen, and only that fault."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from peerstore.interfaces import INetwork
from peerstore.sim.clock import SimClock
from peerstore.sim.decisions import Decisions
from peerstore.sim.link import GIVE_UP
from peerstore.sim.network import CONNECT_TIMEOUT, RETRANSMIT, Faults, SimNetwork
from peerstore.sim.process import Process
from peerstore.sim.trace import Trace

STEADY = Faults(latency=0.010, jitter=0.0)


class Ear(Protocol):
    """Hears what arrives, and when."""

    def __init__(self, clock: SimClock) -> None:
        self.clock = clock
        self.heard: list[tuple[float, bytes]] = []
        self.ended: Failure | None = None

    @property
    def words(self) -> list[bytes]:
        """What was heard, in order."""
        return [data for _, data in self.heard]

    def dataReceived(self, data: bytes) -> None:
        """One write."""
        self.heard.append((round(self.clock.seconds(), 6), data))

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        """It is over."""
        assert self.ended is None, "told twice"
        self.ended = reason


class Ears(Factory):
    """Makes them, and keeps them."""

    noisy = False

    def __init__(self, clock: SimClock) -> None:
        self.clock = clock
        self.made: list[Ear] = []

    def buildProtocol(self, addr: Any) -> Ear:
        """One more."""
        self.made.append(Ear(self.clock))
        return self.made[-1]


class Deaf(Factory):
    """Refuses whoever comes."""

    noisy = False

    def buildProtocol(self, addr: Any) -> None:
        """Nobody is let in."""


class NetworkTestCase(SynchronousTestCase):
    """Three hosts, each of which listens."""

    faults = STEADY

    def setUp(self) -> None:
        """The network, and a program on each host."""
        self.clock = SimClock()
        self.network = SimNetwork(self.clock, Decisions(1), Trace(self.clock.seconds), self.faults)
        self.ears: dict[str, Ears] = {}
        self.programs: dict[str, Process] = {}
        for name in "abc":
            self.start(name)

    def start(self, name: str) -> None:
        """A new program on a host."""
        self.programs[name] = Process(self.clock, name)
        self.ears[name] = Ears(self.clock)
        view = self.network.host(self.programs[name])
        self.successResultOf(view.listen("sim:", self.ears[name]))

    def crash(self, name: str, silent: bool = False) -> None:
        """A program ends."""
        self.programs[name].kill()
        self.network.crash(self.programs[name], silent)

    def dial(self, a: str, b: str) -> Deferred[Any]:
        """a connects to b."""
        view = self.network.host(self.programs[a])
        dialling: Deferred[Any] = view.connect(f"sim:{b}", Ears(self.clock))
        return dialling

    def connect(self, a: str, b: str) -> tuple[Any, Ear]:
        """Both ends of a new connection."""
        dialling = self.dial(a, b)
        self.clock.advance(1.0)
        return self.successResultOf(dialling), self.ears[b].made[-1]


class QuietTests(NetworkTestCase):
    """A network without faults."""

    def test_it_provides_the_interfaces(self) -> None:
        """What nodes are given, and what protocols are."""
        verifyObject(INetwork, self.network.host(self.programs["a"]))
        dialled, _ = self.connect("a", "b")
        verifyObject(ITransport, dialled.transport)

    def test_writes_arrive_whole_in_order_after_the_latency(self) -> None:
        """In both directions."""
        dialled, accepted = self.connect("a", "b")
        now = self.clock.seconds()
        dialled.transport.write(b"one")
        dialled.transport.writeSequence([b"t", b"wo"])
        accepted.transport.write(b"three")
        self.clock.advance(0.009)
        self.assertEqual(accepted.heard, [])
        self.clock.advance(0.002)
        self.assertEqual(accepted.heard, [(now + 0.010, b"one"), (now + 0.010, b"two")])
        self.assertEqual(dialled.heard, [(now + 0.010, b"three")])

    def test_connecting_takes_a_round_trip(self) -> None:
        """And not less."""
        dialling = self.dial("a", "b")
        self.clock.advance(0.019)
        self.assertNoResult(dialling)
        self.clock.advance(0.002)
        self.successResultOf(dialling)

    def test_nobody_listening_is_refused(self) -> None:
        """At once, which is how a node tells a stopped program from a lost
        machine."""
        dialling = self.dial("a", "nowhere")
        self.clock.advance(0.1)
        self.failureResultOf(dialling, ConnectError)

    def test_a_port_that_was_given_up_is_refused(self) -> None:
        """stopListening frees the name."""
        view = self.network.host(self.programs["a"])
        self.failureResultOf(view.listen("sim:", self.ears["a"]), CannotListenError)
        other = Process(self.clock, "d")
        port = self.successResultOf(self.network.host(other).listen("sim:", Ears(self.clock)))
        port.stopListening()
        dialling = self.dial("a", "d")
        self.clock.advance(0.1)
        self.failureResultOf(dialling, ConnectError)

    def test_a_factory_that_takes_nobody_closes(self) -> None:
        """Whoever dialled is connected, and then not."""
        other = Process(self.clock, "d")
        self.successResultOf(self.network.host(other).listen("sim:", Deaf()))
        dialling = self.dial("a", "d")
        self.clock.advance(1)
        self.assertIsNotNone(self.successResultOf(dialling).ended)

    def test_closing_reaches_the_other_end_after_what_was_written(self) -> None:
        """Nothing written before it is lost, nothing written after it goes."""
        dialled, accepted = self.connect("a", "b")
        dialled.transport.write(b"last words")
        dialled.transport.loseConnection()
        dialled.transport.write(b"too late")
        self.clock.advance(1)
        self.assertEqual(accepted.words, [b"last words"])
        self.assertIsInstance(accepted.ended.value, ConnectionDone)
        self.assertIsInstance(dialled.ended.value, ConnectionDone)

    def test_an_abort_ends_both_ends(self) -> None:
        """Once each, and not within the call."""
        dialled, accepted = self.connect("a", "b")
        dialled.transport.abortConnection()
        dialled.transport.abortConnection()
        self.assertIsNone(dialled.ended)
        self.clock.advance(1)
        self.assertIsInstance(dialled.ended.value, ConnectionLost)
        self.assertIsNotNone(accepted.ended)

    def test_addresses_are_names(self) -> None:
        """What a node tells others to dial is where it listens."""
        view = self.network.host(self.programs["a"])
        self.assertEqual(view.client_address(None, "whatever"), "sim:a")


class BadNetworkTests(NetworkTestCase):
    """Latency, loss, duplication, reordering."""

    def send(self, faults: Faults, count: int = 200) -> list[tuple[float, bytes]]:
        """What is heard of so many writes, one each second, and when after
        its own second."""
        self.network.faults = STEADY
        dialled, accepted = self.connect("a", "b")
        self.network.faults = faults
        start = self.clock.seconds()
        for number in range(count):
            dialled.transport.write(b"%d" % number)
            self.clock.advance(1.0)
        self.clock.advance(30)
        return [(round(at - start - int(data), 4), data) for at, data in accepted.heard]

    def test_jitter_spreads_arrivals(self) -> None:
        """Between the latency and the latency with all of the jitter."""
        times = [after for after, _ in self.send(Faults(latency=0.010, jitter=0.020))]
        self.assertTrue(all(0.010 <= after <= 0.030 for after in times))
        self.assertGreater(len(set(times)), 50)

    def test_a_lost_write_is_late_by_its_retransmissions(self) -> None:
        """And arrives: connections are streams."""
        heard = self.send(Faults(latency=0.010, jitter=0.0, loss=0.25))
        self.assertEqual(len(heard), 200)
        tries = [round((after - 0.010) / RETRANSMIT) for after, _ in heard]
        self.assertTrue(30 < sum(count > 0 for count in tries) < 70, tries)
        self.assertEqual([round(0.010 + count * RETRANSMIT, 4) for count in tries], [after for after, _ in heard])

    def test_what_was_written_after_a_lost_write_waits_behind_it(self) -> None:
        """In order, whatever is lost."""
        dialled, accepted = self.connect("a", "b")
        self.network.faults = Faults(latency=0.010, jitter=0.010, loss=0.5)
        for number in range(100):
            dialled.transport.write(b"%d" % number)
        self.clock.advance(60)
        self.assertEqual(accepted.words, [b"%d" % number for number in range(100)])
        self.assertGreater(len({at for at, _ in accepted.heard}), 3)

    def test_a_heavy_tail_delays_some(self) -> None:
        """Few, and by much."""
        times = [after for after, _ in self.send(Faults(latency=0.010, jitter=0.0, tail=0.1))]
        slow = [after for after in times if after > 0.010]
        self.assertTrue(5 < len(slow) < 40)
        self.assertGreater(max(slow), 0.5)

    def test_a_duplicated_write_arrives_twice(self) -> None:
        """Some do, and none three times."""
        words = [data for _, data in self.send(Faults(latency=0.010, jitter=0.001, duplication=0.2))]
        twice = [data for data in set(words) if words.count(data) == 2]
        self.assertTrue(20 < len(twice) < 60, len(twice))
        self.assertEqual(len(words), 200 + len(twice))

    def test_a_reordered_write_overtakes(self) -> None:
        """All arrive, and not in order."""
        dialled, accepted = self.connect("a", "b")
        self.network.faults = Faults(latency=0.010, jitter=0.050, reordering=0.3)
        for number in range(100):
            dialled.transport.write(b"%03d" % number)
        self.clock.advance(60)
        self.assertNotEqual(accepted.words, sorted(accepted.words))
        self.assertEqual(sorted(accepted.words), [b"%03d" % number for number in range(100)])

    def test_a_network_that_behaves_is_a_stream_again(self) -> None:
        """Whatever it did before, and for good."""
        self.network.faults = self.network._usual = STEADY._replace(duplication=1.0, reordering=1.0, loss=0.1)
        self.network.behave()
        self.assertEqual(self.network.faults, STEADY._replace(loss=0.1))
        self.network.heal()
        self.assertEqual(self.network.faults, STEADY._replace(loss=0.1))

    def test_a_slow_host_is_slow_both_ways(self) -> None:
        """So many times slower, to and from it, and nobody else is."""
        dialled, accepted = self.connect("a", "b")
        other, _ = self.connect("c", "b")
        self.network.slow("a", 100)
        now = self.clock.seconds()
        dialled.transport.write(b"out")
        accepted.transport.write(b"in")
        other.transport.write(b"quick")
        self.clock.advance(5)
        self.assertEqual(accepted.heard, [(now + 1.0, b"out")])
        self.assertEqual(dialled.heard, [(now + 1.0, b"in")])
        self.assertEqual(self.ears["b"].made[1].heard, [(now + 0.01, b"quick")])
        self.network.slow("a", 1)
        self.assertFalse(self.network.faulty)

    def test_the_trace_tells_bytes_apart(self) -> None:
        """Writes of one length and other bytes make another digest."""
        digests = set()
        for word in (b"one", b"two"):
            self.setUp()
            dialled, _ = self.connect("a", "b")
            dialled.transport.write(word)
            self.clock.advance(1)
            digests.add(self.network.trace.digest())
        self.assertEqual(len(digests), 2)


class CutTests(NetworkTestCase):
    """Partitions, whole and in part."""

    def test_a_cut_holds_bytes_back_until_it_is_mended(self) -> None:
        """A short one loses nothing and ends nothing."""
        dialled, accepted = self.connect("a", "b")
        cut = self.network.cut("a", "bc")
        dialled.transport.write(b"one")
        accepted.transport.write(b"two")
        self.clock.advance(GIVE_UP - 1)
        self.assertEqual(accepted.words + dialled.words, [])
        self.network.mend(cut)
        dialled.transport.write(b"three")
        self.clock.advance(60)
        self.assertEqual(accepted.words, [b"one", b"three"])
        self.assertEqual(dialled.words, [b"two"])
        self.assertIsNone(dialled.ended)

    def test_a_long_cut_ends_the_connection_for_whoever_writes(self) -> None:
        """The end that said nothing knows nothing, until it writes."""
        dialled, accepted = self.connect("a", "b")
        cut = self.network.cut("a", "b")
        dialled.transport.write(b"lost")
        self.clock.advance(GIVE_UP + 1)
        self.assertIsInstance(dialled.ended.value, ConnectionLost)
        self.assertIsNone(accepted.ended)
        self.network.mend(cut)
        self.clock.advance(10)
        self.assertIsNone(accepted.ended)
        accepted.transport.write(b"anybody there?")
        self.clock.advance(1)
        self.assertIsInstance(accepted.ended.value, ConnectionLost)
        self.assertEqual(accepted.words, [])

    def test_those_on_one_side_still_talk(self) -> None:
        """A partition is between groups."""
        dialled, accepted = self.connect("b", "c")
        self.network.cut("a", "bc")
        dialled.transport.write(b"hello")
        self.clock.advance(1)
        self.assertEqual(accepted.words, [b"hello"])

    def test_connecting_through_a_cut_times_out(self) -> None:
        """As it does to a machine that is not there, and later than a refusal."""
        self.network.cut("a", "b")
        dialling = self.dial("a", "b")
        self.clock.advance(1)
        self.assertNoResult(dialling)
        self.clock.advance(CONNECT_TIMEOUT)
        self.failureResultOf(dialling, ConnectTimeout)

    def test_a_one_way_cut_lets_the_other_way_pass(self) -> None:
        """Bytes from a are held back; those from b arrive, but b is never
        told so and gives up."""
        dialled, accepted = self.connect("a", "b")
        self.network.cut("a", "b", one_way=True)
        self.assertEqual((self.network.passes("a", "b"), self.network.passes("b", "a")), (False, True))
        self.assertFalse(self.network.joined("a", "b"))
        dialled.transport.write(b"held")
        accepted.transport.write(b"arrives")
        self.clock.advance(1)
        self.assertEqual((accepted.words, dialled.words), ([], [b"arrives"]))
        self.clock.advance(GIVE_UP)
        self.assertIsNotNone(accepted.ended)

    def test_nobody_connects_through_a_one_way_cut(self) -> None:
        """A handshake needs both directions, whoever dials."""
        self.network.cut("a", "b", one_way=True)
        dialling = [self.dial("a", "b"), self.dial("b", "a")]
        self.clock.advance(CONNECT_TIMEOUT + 1)
        for deferred in dialling:
            self.failureResultOf(deferred, ConnectTimeout)

    def test_links_need_not_be_transitive(self) -> None:
        """a and b both reach c, and not each other."""
        self.network.cut("a", "b")
        pairs = [("a", "b"), ("b", "c"), ("a", "c")]
        self.assertEqual([self.network.joined(*pair) for pair in pairs], [False, True, True])

    def test_overlapping_cuts_are_mended_one_by_one(self) -> None:
        """What two cuts forbid passes only when both are gone."""
        first = self.network.cut("a", "bc")
        second = self.network.cut("b", "ac")
        self.network.mend(first)
        pairs = [("a", "b"), ("a", "c"), ("b", "c")]
        self.assertEqual([self.network.joined(*pair) for pair in pairs], [False, True, False])
        self.assertTrue(self.network.faulty)
        self.network.mend(second)
        self.assertTrue(all(self.network.joined(*pair) for pair in pairs))
        self.assertFalse(self.network.faulty)

    def test_healing_takes_everything_back(self) -> None:
        """All cuts, and slowness."""
        self.network.cut("a", "bc")
        self.network.cut("b", "c", one_way=True)
        self.network.slow("c", 50)
        self.network.heal()
        self.assertFalse(self.network.faulty)
        self.assertTrue(self.network.joined("a", "b") and self.network.joined("b", "c"))


class CrashTests(NetworkTestCase):
    """Programs that end, machines that stop."""

    def test_a_programs_end_ends_its_connections(self) -> None:
        """Its system tells the others, and refuses new connections."""
        dialled, accepted = self.connect("a", "b")
        self.crash("b")
        self.clock.advance(0.1)
        self.assertIsNotNone(dialled.ended)
        self.assertIsNone(accepted.ended)
        dialling = self.dial("a", "b")
        self.clock.advance(0.1)
        self.failureResultOf(dialling, ConnectError)

    def test_a_power_cut_is_silent(self) -> None:
        """Nobody is told; who writes waits in vain, who dials waits, too."""
        dialled, _ = self.connect("a", "b")
        self.crash("b", silent=True)
        self.clock.advance(60)
        self.assertIsNone(dialled.ended)
        dialled.transport.write(b"hello?")
        dialling = self.dial("a", "b")
        self.clock.advance(1)
        self.assertIsNone(dialled.ended)
        self.assertNoResult(dialling)
        self.clock.advance(GIVE_UP)
        self.assertIsInstance(dialled.ended.value, ConnectionLost)
        self.failureResultOf(dialling, ConnectTimeout)

    def test_a_machine_that_is_back_knows_nothing_of_old_connections(self) -> None:
        """What was held back for it is answered by a reset."""
        dialled, _ = self.connect("a", "b")
        self.crash("b", silent=True)
        dialled.transport.write(b"hello?")
        self.clock.advance(1)
        self.start("b")
        self.clock.advance(1)
        self.assertIsInstance(dialled.ended.value, ConnectionLost)
        self.assertEqual(self.ears["b"].made, [])
        self.connect("a", "b")

    def test_a_reset_ends_a_hosts_connections_at_both_ends(self) -> None:
        """And nobody else's; the next one is as good as ever."""
        ends = [*self.connect("a", "b"), *self.connect("c", "a")]
        others = self.connect("b", "c")
        self.network.reset("a")
        for end in ends:
            assert end.ended is not None
            self.assertTrue(end.ended.check(ConnectionLost))
        self.assertEqual([end.ended for end in others], [None, None])
        self.connect("a", "b")

    def test_a_dead_program_writes_and_dials_no_more(self) -> None:
        """What it had begun comes to nothing."""
        dialled, accepted = self.connect("a", "b")
        dialling = self.dial("a", "c")
        self.crash("a")
        dialled.transport.write(b"from the grave")
        self.clock.advance(60)
        self.assertEqual(accepted.words, [])
        self.assertNoResult(dialling)
        self.assertEqual(self.ears["c"].made, [])

    def test_a_stopped_program_hears_later(self) -> None:
        """Its system takes bytes and connections for it meanwhile."""
        dialled, accepted = self.connect("a", "b")
        self.programs["b"].pause()
        dialled.transport.write(b"one")
        second = self.dial("c", "b")
        self.clock.advance(30)
        self.assertEqual(accepted.words, [])
        self.successResultOf(second).transport.write(b"two")
        self.clock.advance(30)
        self.assertIsNone(dialled.ended)
        self.assertEqual(len(self.ears["b"].made), 1)
        self.programs["b"].resume()
        self.clock.advance(1)
        self.assertEqual([ear.words for ear in self.ears["b"].made], [[b"one"], [b"two"]])
