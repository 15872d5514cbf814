"""append, read-since, watch: one node, whole chains."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from peerstore.items import Item, ItemKey, Kind
from peerstore.node.handlers.common import ANSWER_BYTES
from peerstore.transactions.entry import entry_of
from peerstore.wire.bodies import Append, DeviceHead, LogPage, Posted, ReadSince, Watch
from peerstore.wire.messages import Status, decode_body, encode_body, status_for
from tests.support.rings import Ring, greeting
from tests.support.things import DEVICE, OWNER, a_chain, a_chunk, a_head, a_large_entry, an_entry, log_id

OTHER_DEVICE = b"E" * 16
LOG = log_id()


def heads(**numbers: int) -> tuple[DeviceHead, ...]:
    """What was seen of the devices D and E."""
    return tuple(DeviceHead(name.encode() * 16, number) for name, number in sorted(numbers.items()))


def said(page: LogPage) -> tuple[object, ...]:
    """A page without the vote that goes with it."""
    return page.entries, page.heads, page.more


class LogTestCase(SynchronousTestCase):
    """A lone node, asked by a user."""

    def setUp(self) -> None:
        self.ring = Ring("a")

    def append(self, *items: Item) -> list[Status]:
        """How each entry was judged."""
        answer: Posted = self.ring.ask("a", "append", Append(items))
        return [Status(told.status) for told in answer.outcomes]

    def read(self, seen: tuple[DeviceHead, ...] = (), limit: int = 1024) -> LogPage:
        """The log after what was seen."""
        page: LogPage = self.ring.ask("a", "read-since", ReadSince(LOG, OWNER, seen, limit))
        return page


class AppendTests(LogTestCase):
    """What follows on what."""

    def test_a_chain(self) -> None:
        """All at once, durable when answered."""
        chain = a_chain(50)
        self.assertEqual(self.append(*chain), [Status.OK] * 50)
        self.ring.world.hosts["a"].crash()
        self.ring.world.start("a")
        self.ring.run(2.0)
        self.assertEqual(self.read().entries, tuple(chain))

    def test_one_after_the_other(self) -> None:
        """Each request follows on the last."""
        for entry in a_chain(5):
            self.assertEqual(self.append(entry), [Status.OK])

    def test_in_any_order_within_a_request(self) -> None:
        """A node sorts what comes together."""
        chain = a_chain(5)
        self.assertEqual(self.append(*reversed(chain)), [Status.OK] * 5)
        self.assertEqual(self.read().entries, tuple(chain))

    def test_several_devices(self) -> None:
        """Each has a chain of its own."""
        one, two = a_chain(3), a_chain(3, OTHER_DEVICE)
        self.assertEqual(self.append(two[0], one[0], one[1], two[1], two[2], one[2]), [Status.OK] * 6)
        self.assertEqual(self.read().heads, heads(D=3, E=3))

    def test_again(self) -> None:
        """The same entry is there already: OK."""
        chain = a_chain(3)
        self.append(*chain)
        self.assertEqual(self.append(*chain, *chain), [Status.OK] * 6)
        self.assertEqual(len(self.ring.held("a")), 3)

    def test_a_gap(self) -> None:
        """GAP for what does not follow on; nothing of it is stored."""
        chain = a_chain(6)
        self.append(*chain[:2])
        self.assertEqual(self.append(chain[4], chain[5], chain[2]), [Status.GAP, Status.GAP, Status.OK])
        self.assertEqual(self.read().entries, tuple(chain[:3]))

    def test_the_first_has_none_before_it(self) -> None:
        """Number 2 in an empty log is a gap."""
        self.assertEqual(self.append(a_chain(2)[1]), [Status.GAP])

    def test_another_entry_at_that_number(self) -> None:
        """REJECTED, whether it comes later or together."""
        chain = a_chain(2)
        other = an_entry(2, chain[0].key.element, wall=9)
        self.assertEqual(sorted(self.append(chain[0], chain[1], other)), [Status.OK, Status.OK, Status.REJECTED])
        (kept,) = self.read(heads(D=1)).entries
        for entry in (chain[1], other):
            self.assertEqual(self.append(entry), [Status.OK if entry == kept else Status.REJECTED])
        self.assertEqual(len(self.ring.held("a")), 2)

    def test_an_entry_that_follows_on_another(self) -> None:
        """Its previous is not the entry before: REJECTED, and so is what follows it."""
        self.append(*a_chain(1))
        astray = an_entry(2, b"\x07" * 32)
        self.assertEqual(self.append(astray), [Status.REJECTED])
        after = an_entry(3, astray.key.element)
        self.assertEqual(self.append(astray, after), [Status.REJECTED, Status.GAP])

    def test_what_is_no_entry(self) -> None:
        """Other kinds, other names, no statement: REJECTED each."""
        (entry,) = a_chain(1)
        key = entry.key
        bad = [
            a_chunk(1),
            a_head(1),
            Item(ItemKey(LOG, OWNER, Kind.RECORD, key.element), entry.statement, b""),
            Item(ItemKey(LOG, b"o" * 20, Kind.LOG, key.element), entry.statement, b""),
            Item(ItemKey(LOG, OWNER, Kind.LOG, bytes(32)), entry.statement, b""),
            Item(ItemKey(LOG[:5], OWNER, Kind.LOG, key.element), entry.statement, b""),
            Item(ItemKey(LOG, OWNER, Kind.LOG, key.element[:5]), entry.statement, b""),
            Item(key, b"\xc1", b""),
            Item(key, a_head(1).statement, b""),
            Item(key, entry.statement, b"data"),
        ]
        self.assertEqual(self.append(*bad), [Status.REJECTED] * len(bad))
        self.assertEqual(self.ring.held("a"), set())

    def test_the_bad_do_not_spoil_the_good(self) -> None:
        """Outcomes are in the order of the request."""
        chain = a_chain(2)
        self.assertEqual(
            self.append(a_head(1), chain[1], a_chunk(1), chain[0]),
            [Status.REJECTED, Status.OK, Status.REJECTED, Status.OK],
        )

    def test_too_many(self) -> None:
        """More than 1,024 in one request: refused whole."""
        body = Append((a_chain(1)[0],) * 1025)
        self.assertEqual(self.ring.refused("a", "append", body), Status.BAD_REQUEST)

    def test_two_at_once(self) -> None:
        """Of two writers at one number one wins, and the other is told."""
        (first,) = a_chain(1)
        self.append(first)
        rivals = [an_entry(2, first.key.element, wall=wall) for wall in range(8)]
        asked = [
            self.ring.node("a").dispatcher.dispatch(greeting(), "append", encode_body(Append((rival,))))
            for rival in rivals
        ]
        told = [decode_body(self.ring.wait(answer), Posted).outcomes[0].status for answer in asked]
        self.assertEqual(sorted(told), [Status.OK] + [Status.REJECTED] * 7)
        self.assertEqual(len(self.ring.held("a")), 2)

    def test_many_that_are_refused_at_once(self) -> None:
        """Writers that come and go leave no lock behind, nor take another's."""
        node = self.ring.node("a")
        bad = Item(ItemKey(LOG, OWNER, Kind.LOG, bytes(32)), b"", b"")
        chain = a_chain(30)
        asked = []
        for entry in chain:
            for item in (bad, entry, bad):
                asked.append(node.dispatcher.dispatch(greeting(), "append", encode_body(Append((item,)))))
        told = [decode_body(self.ring.wait(answer), Posted).outcomes[0].status for answer in asked]
        self.assertEqual(told, [Status.REJECTED, Status.OK, Status.REJECTED] * 30)
        self.assertEqual(self.read().entries, tuple(chain))

    def test_a_full_disk(self) -> None:
        """UNAVAILABLE, and nothing is there."""
        self.ring.world.hosts["a"].disk.full = True
        self.assertEqual(self.append(*a_chain(1)), [Status.UNAVAILABLE])
        self.assertEqual(self.ring.held("a"), set())

    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=6), max_size=8))
    def test_no_gap_and_no_fork_is_ever_stored(self, requests: list[list[int]]) -> None:
        """Whatever comes in whatever order: what is there is one whole chain."""
        ring = Ring("a")
        chain = a_chain(6)
        forks = [an_entry(n + 1, chain[n - 1].key.element if n else bytes(32), wall=1) for n in range(6)]
        every = [*chain, *forks]
        for request in requests:
            ring.ask("a", "append", Append(tuple(every[which] for which in request)))
        page = ring.ask("a", "read-since", ReadSince(LOG, OWNER, (), 100))
        entries = [entry_of(item) for item in page.entries]
        self.assertEqual([entry.number for entry in entries], list(range(1, len(entries) + 1)))
        for before, after in zip(page.entries, entries[1:], strict=False):
            self.assertEqual(after.previous, before.key.element)


class LongChainTests(LogTestCase):
    """A chain that is longer than memory should notice."""

    def test_only_the_neighbours_are_looked_at(self) -> None:
        """Appending to a long chain reads a few entries, wherever it begins."""
        chain = a_chain(600)
        for at in range(0, 600, 200):
            self.append(*chain[at : at + 200])
        store = self.ring.node("a").store
        read = 0
        real = store.logs.read_since

        def count(*args: Any) -> Any:
            def seen(found: tuple[list[Item], bool]) -> tuple[list[Item], bool]:
                nonlocal read
                read += len(found[0])
                return found

            return real(*args).addCallback(seen)

        self.patch(store.logs, "read_since", count)
        more = a_chain(1, start=chain)
        self.assertEqual(self.append(chain[0], *more, chain[300]), [Status.OK] * 3)
        self.assertLess(read, 60)


class NotOursTests(SynchronousTestCase):
    """A log that belongs to another node."""

    def test_append_elsewhere(self) -> None:
        """NOT_RESPONSIBLE, and not kept."""
        ring = Ring("abcde")
        (entry,) = a_chain(1)
        for name in ring.around(LOG)[1:]:
            (told,) = ring.ask(name, "append", Append((entry,))).outcomes
            self.assertEqual((told.status, told.holders), (Status.NOT_RESPONSIBLE, ()))
        self.assertEqual(ring.holders(entry.key), "")


class ReadSinceTests(LogTestCase):
    """Pages."""

    def test_an_empty_log(self) -> None:
        """Nothing, and no more of it."""
        self.assertEqual(said(self.read()), ((), (), False))

    def test_with_a_vote(self) -> None:
        """A node that is alone answers for all there are."""
        vote = self.read().vote
        self.assertEqual((len(vote.name), vote.voters, vote.needed), (16, (self.ring.fp("a"),), 1))

    def test_after_what_was_seen(self) -> None:
        """Devices that were not named begin at 1."""
        one, two = a_chain(5), a_chain(5, OTHER_DEVICE)
        self.append(*one, *two)
        page = self.read(heads(D=3))
        self.assertEqual(said(page), ((*one[3:], *two), heads(D=5, E=5), False))

    def test_pages(self) -> None:
        """Each is full and says so, until the last."""
        chain = a_chain(70)
        self.append(*chain)
        self.assertEqual(said(self.read(limit=33)), (tuple(chain[:33]), heads(D=70), True))
        self.assertEqual(said(self.read(heads(D=33), 37)), (tuple(chain[33:]), heads(D=70), False))

    def test_a_limit_of_none(self) -> None:
        """Where the chains end, and nothing else."""
        self.append(*a_chain(3))
        self.assertEqual(said(self.read(limit=0)), ((), heads(D=3), False))

    def test_more_than_is_there_was_seen(self) -> None:
        """A reader that is ahead of us gets nothing, and sees that we are behind."""
        self.append(*a_chain(3))
        self.assertEqual(said(self.read(heads(D=9))), ((), heads(D=3), False))

    def test_an_answer_has_a_bound(self) -> None:
        """4 MiB, with at least one entry."""
        first = a_large_entry(1, size=2_900_000)
        second = a_large_entry(2, first.key.element, size=2_900_000)
        self.append(first)
        self.append(second)
        page = self.read()
        self.assertEqual((page.entries, page.more), ((first,), True))
        self.assertLess(len(encode_body(page)), ANSWER_BYTES)

    def test_another_owner_s_log(self) -> None:
        """At the same address under another owner there is nothing."""
        self.append(*a_chain(3))
        page = self.ring.ask("a", "read-since", ReadSince(LOG, b"o" * 20, (), 9))
        self.assertEqual(said(page), ((), (), False))

    def test_wrong_questions(self) -> None:
        """Lengths, limits, numbers and too many devices; for watch as well."""
        for fields in (
            {"ring_id": b""},
            {"owner": bytes(32)},
            {"limit": 1025},
            {"limit": -1},
            {"seen": (DeviceHead(b"D", 1),)},
            {"seen": (DeviceHead(DEVICE, -1),)},
            {"seen": (DeviceHead(DEVICE, 1),) * 4097},
        ):
            read = msgspec.structs.replace(ReadSince(LOG, OWNER, (), 9), **fields)
            self.assertEqual(self.ring.refused("a", "read-since", read), Status.BAD_REQUEST, fields)
            watch = msgspec.structs.replace(Watch(LOG, OWNER, (), 9, 1000), **fields)
            self.assertEqual(self.ring.refused("a", "watch", watch), Status.BAD_REQUEST, fields)

    def test_numbers_that_no_database_holds(self) -> None:
        """They are refused, not passed to the disk."""
        body = ReadSince(LOG, OWNER, (DeviceHead(DEVICE, 1 << 63),), 9)
        self.assertEqual(self.ring.refused("a", "read-since", body), Status.BAD_REQUEST)


class WatchTests(LogTestCase):
    """Long polls."""

    def watch(self, seen: tuple[DeviceHead, ...] = (), wait: int = 30_000, limit: int = 9) -> list[Any]:
        """Begin one; its page or failure, once there is one."""
        body = Watch(LOG, OWNER, seen, limit, wait)
        self.poll = self.ring.node("a").dispatcher.dispatch(greeting(), "watch", encode_body(body))
        results: list[Any] = []
        self.poll.addCallback(decode_body, LogPage).addBoth(results.append)
        return results

    @property
    def waiting(self) -> int:
        """How many wait at the node."""
        return self.ring.node("a").watchers.count

    def test_news_that_is_there(self) -> None:
        """Answered without waiting."""
        chain = a_chain(3)
        self.append(*chain)
        answered = self.watch(heads(D=1))
        self.ring.run(0.1)
        self.assertEqual([said(page) for page in answered], [(tuple(chain[1:]), heads(D=3), False)])
        self.assertEqual(self.waiting, 0)

    def test_news_that_comes(self) -> None:
        """Answered with it, once it is on disk."""
        answered = self.watch()
        self.ring.run(5.0)
        self.assertEqual((answered, self.waiting), ([], 1))
        chain = a_chain(2)
        self.append(*chain)
        self.ring.run(0.1)
        self.assertEqual([said(page) for page in answered], [(tuple(chain), heads(D=2), False)])
        self.assertEqual(self.waiting, 0)

    def test_news_of_other_logs(self) -> None:
        """They wake nobody."""
        answered = self.watch()
        self.ring.put([a_chunk(1), a_head(1)])
        self.ring.run(5.0)
        self.assertEqual((answered, self.waiting), ([], 1))

    def test_what_was_there_already_is_no_news(self) -> None:
        """The same entry again wakes nobody."""
        chain = a_chain(2)
        self.append(*chain)
        answered = self.watch(heads(D=2))
        self.append(*chain)
        self.ring.run(5.0)
        self.assertEqual(answered, [])

    def test_the_wait_ends(self) -> None:
        """An empty page when the time is over, and not before."""
        self.append(*a_chain(1))
        answered = self.watch(heads(D=1), wait=10_000)
        self.ring.run(9.9)
        self.assertEqual(answered, [])
        self.ring.run(0.2)
        self.assertEqual([said(page) for page in answered], [((), heads(D=1), False)])

    def test_no_wait_at_all(self) -> None:
        """Zero is a mere read."""
        answered = self.watch(wait=0)
        self.ring.run(0.1)
        self.assertEqual([said(page) for page in answered], [((), (), False)])

    def test_nobody_waits_for_ever(self) -> None:
        """Two minutes at most, whatever was asked for."""
        answered = self.watch(wait=1 << 40)
        self.ring.run(119.0)
        self.assertEqual(answered, [])
        self.ring.run(2.0)
        self.assertEqual(len(answered), 1)

    def test_many_on_one_log(self) -> None:
        """All are answered by one entry."""
        polls = [self.watch() for _ in range(50)]
        self.ring.run(1.0)
        self.append(*a_chain(1))
        self.ring.run(0.1)
        self.assertEqual({len(page.entries) for (page,) in polls}, {1})

    def test_cancelled(self) -> None:
        """Who does not wait any more is not kept."""
        answered = self.watch()
        self.ring.run(1.0)
        self.poll.cancel()
        self.ring.run(0.1)
        self.assertTrue(answered[0].check(CancelledError))
        self.assertEqual(self.waiting, 0)

    def test_the_node_stops(self) -> None:
        """Everybody gets an empty page."""
        answered = self.watch()
        self.ring.run(1.0)
        stopped = self.ring.world.hosts["a"].leave()
        self.assertEqual([said(page) for page in answered], [((), (), False)])
        self.ring.wait(stopped)

    def test_too_many(self) -> None:
        """The one beyond the limit is told BUSY at once; the others wait on."""
        polls = [self.watch() for _ in range(1024)]
        last = self.watch()
        self.ring.run(0.1)
        self.assertEqual(status_for(last[0].value)[0], Status.BUSY)
        self.append(*a_chain(1))
        self.ring.run(0.5)
        self.assertTrue(all(len(poll) == 1 for poll in polls))

    def test_no_worker_is_held(self) -> None:
        """However many wait, reads and writes go on."""
        for _ in range(500):
            self.watch()
        self.ring.run(0.1)
        pools = self.ring.node("a").dispatcher.pools
        self.assertEqual((pools["local"].active, pools["relay"].active), (0, 0))
        self.assertEqual(self.append(*a_chain(1)), [Status.OK])

    def test_news_between_the_look_and_the_wait(self) -> None:
        """An entry that is stored while the node looks is not missed."""
        store = self.ring.node("a").store
        real = store.logs.read_since
        (entry,) = a_chain(1)
        slow: list[Deferred[Any]] = []

        def read_since(*args: Any) -> Any:
            found = real(*args)
            if slow:
                return found
            slow.append(Deferred())
            return slow[0].addCallback(lambda _: found)

        self.patch(store.logs, "read_since", read_since)
        answered = self.watch()
        self.ring.run(0.1)
        self.ring.wait(store.put([entry]))
        self.ring.node("a").watchers.stored([entry.key])
        slow[0].callback(None)
        self.ring.run(0.1)
        self.assertEqual([said(page) for page in answered], [((entry,), heads(D=1), False)])
