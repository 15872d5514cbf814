"""Complete reads: what a majority says, united; and long polls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import LookupFailed, StorageError
from peerstore.files.head import head_item
from peerstore.gateway.results import LogRead, SetRead
from peerstore.items import Item
from peerstore.wire.bodies import Items, LogPage
from tests.support.rings import Ring, Wire, items_named
from tests.support.things import DEVICE, OWNER, a_chain, a_head, a_large_entry, log_id

HEAD = a_head(1)
RESOURCE = HEAD.key.ring_id
OTHER_DEVICE = b"E" * 16


def version(counter: int, device: bytes = OTHER_DEVICE, data: bytes = b"another manifest") -> Item:
    """A head of the same resource that replaces none of another device."""
    return head_item(OWNER, RESOURCE, ((device, counter),), counter, device, 0, data)


def refuse(error: Exception) -> Callable[[Any], Any]:
    """An answer that is an error."""

    def answer(body: Any) -> Any:
        raise error

    return answer


class ReadTestCase(SynchronousTestCase):
    """Five nodes; reads through one client."""

    def setUp(self) -> None:
        self.ring = Ring("abcde")
        self.gateway = self.ring.client(name="reader")

    def put_at(self, name: str, *items: Item) -> None:
        """Onto one node's disk, past all others."""
        self.ring.wait(self.ring.node(name).store.put(items))

    def heads(self, *elements: bytes, patience: float = 20.0) -> SetRead:
        """The heads of the resource."""
        read: SetRead = self.ring.wait(self.gateway.get_heads(RESOURCE, OWNER, elements, patience))
        return read

    def log(self, seen: dict[bytes, int] | None = None, limit: int = 256, patience: float = 20.0) -> LogRead:
        """The log."""
        read: LogRead = self.ring.wait(self.gateway.read_log(log_id(), OWNER, seen or {}, limit, patience))
        return read


class HeadsTests(ReadTestCase):
    """One resource's heads."""

    def test_none_for_certain(self) -> None:
        """An empty, complete read: there is none."""
        self.assertEqual(self.heads(), SetRead((), True))

    def test_the_newest_only(self) -> None:
        """A head that another replaces is history."""
        self.ring.put([a_head(1, 1)])
        self.ring.put([a_head(1, 2)])
        self.assertEqual(self.heads().items, (a_head(1, 2),))

    def test_one_that_is_named(self) -> None:
        """History can be asked for by its id."""
        self.ring.put([a_head(1, 1), a_head(1, 2)])
        self.assertEqual(self.heads(HEAD.key.element), SetRead((HEAD,), True))

    def test_one_that_is_named_needs_no_majority(self) -> None:
        """A head never changes: from the last node that has it, it comes at once."""
        self.ring.put([HEAD])
        voters = self.ring.around(RESOURCE)[:3]
        for name in self.ring.names():
            if name != voters[0]:
                self.ring.world.hosts[name].crash()
        self.heads(patience=5.0)
        reading = self.gateway.get_heads(RESOURCE, OWNER, (HEAD.key.element,), 30.0)
        self.ring.run(1.0)
        self.assertEqual(self.successResultOf(reading), SetRead((HEAD,), True))

    def test_one_that_is_named_and_missing(self) -> None:
        """Of what was found nowhere, nothing is known without a majority."""
        self.ring.put([HEAD])
        voters = self.ring.around(RESOURCE)[:3]
        for name in self.ring.names():
            if name != voters[0]:
                self.ring.world.hosts[name].crash()
        missing = version(1).key.element
        self.assertEqual(self.heads(HEAD.key.element, missing, patience=5.0), SetRead((HEAD,), False))

    def test_one_that_is_named_must_be_sound(self) -> None:
        """What somebody gives in its name, and does not fit, ends no search."""
        self.ring.put([HEAD])
        bad = Item(HEAD.key, HEAD.statement, b"not the manifest it names")
        first = self.ring.around(RESOURCE)[0]
        for name in self.ring.names():
            answer = Wire(self.ring.node(name))
            if name == first:
                answer.after("get-heads", lambda body, answer: Items((bad,), False, None))
            else:
                answer.after("get-heads", lambda body, answer: Items(answer.items, False, None))
        self.assertEqual(self.heads(HEAD.key.element), SetRead((HEAD,), True))

    def test_voters_are_united(self) -> None:
        """What only one of them has is found, too."""
        first, second, third = self.ring.around(RESOURCE)[:3]
        self.put_at(first, HEAD)
        self.put_at(second, version(1))
        self.put_at(third, HEAD, version(1))
        self.assertEqual(items_named(self.heads().items), items_named([HEAD, version(1)]))

    def test_crossed_edits_both_come(self) -> None:
        """Two that do not know of each other are both newest."""
        self.ring.put([HEAD, version(1)])
        self.assertEqual(items_named(self.heads().items), items_named([HEAD, version(1)]))

    def test_what_is_not_of_this_resource_is_dropped(self) -> None:
        """A node that answers with something else, or with what does not fit."""
        self.ring.put([HEAD])
        bad = Item(HEAD.key, HEAD.statement, b"not the manifest it names")
        for name in self.ring.names():
            Wire(self.ring.node(name)).after(
                "get-heads", lambda body, answer: Items((bad, a_head(2), *answer.items), False, answer.vote)
            )
        self.assertEqual(self.heads(), SetRead((HEAD,), True))

    def test_one_of_three_is_gone(self) -> None:
        """Two answers are a majority."""
        self.ring.put([HEAD])
        self.ring.world.hosts[self.ring.around(RESOURCE)[2]].crash()
        self.assertEqual(self.heads(), SetRead((HEAD,), True))

    def test_two_of_three_are_gone(self) -> None:
        """Until others have taken their place, what is found may not be the newest."""
        self.ring.put([HEAD])
        voters = self.ring.around(RESOURCE)[:3]
        for name in self.ring.names():
            if name != voters[0]:
                self.ring.world.hosts[name].crash()
        read = self.heads(patience=5.0)
        self.assertEqual(read, SetRead((HEAD,), False))

    def test_waiting_is_told(self) -> None:
        """Once, when it is long enough to be noticed; not when all is well."""
        told: list[float] = []
        self.gateway = self.ring.client(name="patient", on_wait=lambda: told.append(self.ring.world.clock.seconds()))
        self.heads()
        self.assertEqual(told, [])
        voters = self.ring.around(RESOURCE)[:3]
        for name in self.ring.names():
            if name != voters[0]:
                self.ring.world.hosts[name].crash()
        began = self.ring.world.clock.seconds()
        for _ in range(2):
            self.assertFalse(self.heads(patience=20.0).complete)
        self.assertEqual(len(told), 1)
        self.assertLess(told[0] - began, 10.0)

    def test_waiting_in_vain_is_not_done_again(self) -> None:
        """What has all of its time and is not complete leaves others little,
        until enough nodes are back."""
        self.ring.put([HEAD])
        away = [name for name in self.ring.names() if name != self.ring.around(RESOURCE)[0]]
        for name in away:
            self.ring.world.hosts[name].crash()
        clock = self.ring.world.clock
        began = clock.seconds()
        self.assertFalse(self.heads(patience=20.0).complete)
        self.assertGreater(clock.seconds() - began, 19.0)
        began = clock.seconds()
        for _ in range(3):
            self.assertFalse(self.heads(patience=20.0).complete)
        self.assertLess(clock.seconds() - began, 15.0)
        for name in away:
            self.ring.world.hosts[name].start(self.ring.around(RESOURCE)[0])
        self.ring.run(60.0)
        self.assertTrue(self.heads().complete)
        for name in away:
            self.ring.world.hosts[name].crash()
        began = clock.seconds()
        self.assertFalse(self.heads(patience=20.0).complete)
        self.assertGreater(clock.seconds() - began, 19.0)

    def test_nobody_answers(self) -> None:
        """Then nothing is known, and nothing is claimed."""
        self.ring.put([HEAD])
        self.heads()
        for host in self.ring.world.running():
            host.crash()
        self.assertFalse(self.heads(patience=3.0).complete)

    def test_what_was_found_is_not_lost_again(self) -> None:
        """The only voter that answered goes away while we wait for others."""
        self.ring.put([HEAD])
        voters = self.ring.around(RESOURCE)[:3]
        for name in voters[1:]:
            Wire(self.ring.node(name)).instead("get-heads", refuse(StorageError("The disk is away.")))
        reading = self.gateway.get_heads(RESOURCE, OWNER, (), 10.0)
        self.ring.run(3.0)
        self.assertFalse(reading.called)
        for host in self.ring.world.running():
            host.crash()
        self.assertEqual(self.ring.wait(reading), SetRead((HEAD,), False))

    def test_one_that_hangs_delays_little(self) -> None:
        """A majority has answered: the third gets a moment, not its timeout."""
        self.ring.put([HEAD])
        Wire(self.ring.node(self.ring.around(RESOURCE)[1])).instead("get-heads", lambda body: Deferred())
        before = self.ring.world.clock.seconds()
        self.assertEqual(self.heads(), SetRead((HEAD,), True))
        self.assertLess(self.ring.world.clock.seconds() - before, 2.0)

    def test_waited_for(self) -> None:
        """Too few answer just now: asked again until enough do."""
        self.ring.put([HEAD])
        wires = [Wire(self.ring.node(name)) for name in self.ring.names()]
        for wire in wires:
            wire.instead("get-heads", refuse(StorageError("The disk is away.")))
        reading = self.gateway.get_heads(RESOURCE, OWNER)
        self.ring.run(4.0)
        self.assertFalse(reading.called)
        for wire in wires:
            wire.heal()
        self.assertEqual(self.ring.wait(reading), SetRead((HEAD,), True))

    def test_more_than_one_answer_holds(self) -> None:
        """Named versions that do not fit an answer are asked for again."""
        versions = [version(1, b"%016d" % number, b"%d" % number * 1_000_000) for number in range(6)]
        self.assertTrue(all(out.certain for out in self.ring.put(versions)))
        read = self.heads(*[item.key.element for item in versions])
        self.assertEqual((items_named(read.items), read.complete), (items_named(versions), True))

    def test_more_newest_versions_than_one_answer_holds(self) -> None:
        """What is left out is never passed over in silence."""
        versions = [version(1, b"%016d" % number, b"%d" % number * 1_000_000) for number in range(6)]
        self.assertTrue(all(out.certain for out in self.ring.put(versions)))
        read = self.heads(patience=3.0)
        self.assertTrue(len(read.items) == 6 or not read.complete)
        self.assertGreater(len(read.items), 3)


class LogTests(ReadTestCase):
    """One owner's log."""

    def test_an_empty_log(self) -> None:
        """Complete, and nothing in it."""
        self.assertEqual(self.log(), LogRead((), {}, True, False))

    def test_entries_after_what_was_seen(self) -> None:
        """In order, with the chain's end."""
        chain = a_chain(10)
        self.ring.put(chain)
        self.assertEqual(self.log({DEVICE: 7}), LogRead(tuple(chain[7:]), {DEVICE: 10}, True, False))

    def test_page_by_page(self) -> None:
        """Each page says that there is more, until there is not."""
        chain = a_chain(25)
        self.ring.put(chain)
        got: list[Item] = []
        pages = []
        while not pages or pages[-1].more:
            pages.append(self.log({DEVICE: len(got)}, limit=10))
            got += pages[-1].items
        self.assertEqual((got, [len(page.items) for page in pages]), (chain, [10, 10, 5]))

    def test_a_limit_of_none(self) -> None:
        """Only where the chains end."""
        self.ring.put(a_chain(5))
        self.assertEqual(self.log(limit=0), LogRead((), {DEVICE: 5}, True, False))

    def test_voters_are_united(self) -> None:
        """Each has another part; the chain's end is the highest that any names."""
        chain, other = a_chain(6), a_chain(3, OTHER_DEVICE)
        first, second, third = self.ring.around(log_id())[:3]
        self.put_at(first, *chain[:4])
        self.put_at(second, *chain)
        self.put_at(third, *other)
        read = self.log()
        self.assertEqual(items_named(read.items), items_named([*chain, *other]))
        self.assertEqual(read.heads, {DEVICE: 6, OTHER_DEVICE: 3})

    def test_what_is_not_of_this_log_is_dropped(self) -> None:
        """Entries that do not fit their names."""
        chain = a_chain(3)
        self.ring.put(chain)
        bad = Item(chain[0].key, chain[1].statement, b"")
        for name in self.ring.names():
            Wire(self.ring.node(name)).after(
                "read-since", lambda body, page: LogPage((bad, *page.entries), page.heads, page.more, page.vote)
            )
        self.assertEqual(self.log().items, tuple(chain))

    def test_entries_of_full_size(self) -> None:
        """A page ends where the answer is full, and says so."""
        first = a_large_entry(1, size=2_500_000)
        second = a_large_entry(2, first.key.element, size=2_500_000)
        self.assertTrue(all(out.certain for out in self.ring.put([first, second])))
        read = self.log()
        self.assertEqual((read.items, read.more, read.heads), ((first,), True, {DEVICE: 2}))
        self.assertEqual(self.log({DEVICE: 1}).items, (second,))

    def test_two_of_three_are_gone(self) -> None:
        """The rest of the log may be behind, and is told as such."""
        chain = a_chain(4)
        self.ring.put(chain)
        voter = self.ring.around(log_id())[0]
        for name in self.ring.names():
            if name != voter:
                self.ring.world.hosts[name].crash()
        read = self.log(patience=5.0)
        self.assertEqual((read.items, read.complete), (tuple(chain), False))


class WatchTests(ReadTestCase):
    """Waiting for news of a log."""

    def watch(self, seen: dict[bytes, int] | None = None, wait: float = 60.0) -> Deferred[LogRead]:
        """Begin to wait; given up at the latest when the test is over."""
        watching = self.gateway.watch_log(log_id(), OWNER, seen or {}, 256, wait)
        self.addCleanup(watching.addErrback, lambda failure: failure.trap(CancelledError))
        self.addCleanup(watching.cancel)
        return watching

    def waiting(self) -> int:
        """Long polls at all nodes."""
        return sum(self.ring.node(name).watchers.count for name in self.ring.names())

    def test_news_that_is_there_already(self) -> None:
        """Answered at once."""
        chain = a_chain(2)
        self.ring.put(chain)
        before = self.ring.world.clock.seconds()
        self.assertEqual(self.ring.wait(self.watch()).items, tuple(chain))
        self.assertLess(self.ring.world.clock.seconds() - before, 1.0)

    def test_news_that_comes(self) -> None:
        """Answered with it, soon after it is certain; all polls end."""
        watching = self.watch()
        self.ring.run(10.0)
        self.assertFalse(watching.called)
        self.assertEqual(self.waiting(), 3)
        chain = a_chain(1)
        self.ring.put(chain)
        before = self.ring.world.clock.seconds()
        self.assertEqual(self.ring.wait(watching).items, tuple(chain))
        self.assertLess(self.ring.world.clock.seconds() - before, 0.5)
        self.ring.run(1.0)
        self.assertEqual(self.waiting(), 0)

    def test_no_news(self) -> None:
        """An empty page after the time that was named."""
        self.ring.put(a_chain(1))
        watching = self.watch({DEVICE: 1}, wait=20.0)
        self.ring.run(19.0)
        self.assertFalse(watching.called)
        read = self.ring.wait(watching, 3.0)
        self.assertEqual((read.items, read.complete), ((), True))

    def test_what_was_seen_is_no_news(self) -> None:
        """Only entries behind those numbers wake."""
        chain = a_chain(3)
        self.ring.put(chain[:2])
        watching = self.watch({DEVICE: 2})
        self.ring.run(5.0)
        self.assertFalse(watching.called)
        self.ring.put(chain[2:])
        self.assertEqual(self.ring.wait(watching).items, (chain[2],))

    def test_one_voter_s_news_is_enough(self) -> None:
        """The others need not have it yet."""
        watching = self.watch()
        self.ring.run(2.0)
        node = self.ring.node(self.ring.around(log_id())[1])
        entry = a_chain(1)[0]
        self.ring.wait(node.store.put([entry]))
        node.watchers.stored([entry.key])
        self.assertEqual(self.ring.wait(watching, 5.0).items, (entry,))

    def test_cancelling(self) -> None:
        """Nobody is left waiting at the nodes."""
        watching = self.watch()
        self.ring.run(2.0)
        watching.cancel()
        self.failureResultOf(watching, CancelledError)
        self.ring.run(1.0)
        self.assertEqual(self.waiting(), 0)

    def test_nobody_to_ask(self) -> None:
        """An error, so that the caller can pause."""
        for host in self.ring.world.running():
            host.crash()
        with self.assertRaises(LookupFailed):
            self.ring.wait(self.watch(), 300.0)

    def test_voters_that_go_away(self) -> None:
        """When all that were asked are gone, the wait ends with an error."""
        self.ring.put(a_chain(1))
        watching = self.watch({DEVICE: 1})
        self.ring.run(2.0)
        for host in self.ring.world.running():
            host.crash()
        with self.assertRaises(LookupFailed):
            self.ring.wait(watching, 120.0)

    def test_a_node_that_stops(self) -> None:
        """It answers those who wait at it before it goes; the others go on."""
        self.ring.put(a_chain(1))
        watching = self.watch({DEVICE: 1})
        self.ring.run(2.0)
        self.ring.wait(self.ring.world.hosts[self.ring.around(log_id())[1]].leave())
        self.ring.run(2.0)
        self.assertFalse(watching.called)
        self.assertEqual(self.waiting(), 2)
