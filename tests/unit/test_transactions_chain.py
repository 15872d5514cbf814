"""The log: a set of chains, merged by union."""

from __future__ import annotations

import random

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import BadMessage
from peerstore.items import Item, ItemKey
from peerstore.transactions.chain import Log, LoggedEntry, order
from peerstore.transactions.entry import NO_ENTRY, Entry, entry_item
from tests.support.logs import LOG_ID, OWNER, entry, logs
from tests.support.properties import DEVICES, check

ONE, TWO, _ = DEVICES


def leaves(log: Log) -> list[bytes]:
    """Everything in a log, in its order."""
    return [logged.leaf for logged in log.ordered()]


def merged(*parts: list[LoggedEntry]) -> Log:
    """One log after the other, into an empty one."""
    return Log(logged for part in parts for logged in part)


class MergeTests(SynchronousTestCase):
    """Union: the same log, whoever met whom first."""

    @check(logs(), logs())
    def test_it_is_commutative(self, a: list[LoggedEntry], b: list[LoggedEntry]) -> None:
        """Yours into mine is mine into yours."""
        self.assertEqual(leaves(merged(a, b)), leaves(merged(b, a)))

    @check(logs(), logs(), logs())
    def test_it_is_associative(self, a: list[LoggedEntry], b: list[LoggedEntry], c: list[LoggedEntry]) -> None:
        """Which two of three meet first does not matter."""
        left = merged(merged(a, b).ordered(), c)
        right = merged(a, merged(b, c).ordered())
        self.assertEqual(leaves(left), leaves(right))

    @check(logs())
    def test_it_is_idempotent(self, a: list[LoggedEntry]) -> None:
        """What is there already changes nothing, and add() says so."""
        log = merged(a)
        before = leaves(log)
        self.assertFalse(any(log.add(logged) for logged in a))
        self.assertEqual(leaves(log), before)

    @check(logs(), logs())
    def test_no_entry_is_lost(self, a: list[LoggedEntry], b: list[LoggedEntry]) -> None:
        """Gaps and forks included, each entry is there, once."""
        log = merged(a, b)
        wanted = {logged.leaf for logged in a + b}
        self.assertEqual(set(leaves(log)), wanted)
        self.assertEqual(len(log), len(wanted))
        self.assertTrue(all(leaf in log for leaf in wanted))
        self.assertNotIn(b"\0" * 32, log)

    @check(logs(), st.randoms(use_true_random=False))
    def test_everything_told_is_the_same_in_any_order(self, a: list[LoggedEntry], rng: random.Random) -> None:
        """Order, heads, forks and what comes next do not depend on arrival."""
        shuffled = list(a)
        rng.shuffle(shuffled)
        one, other = merged(a), merged(shuffled)
        self.assertEqual(one.ordered(), other.ordered())
        self.assertEqual(one.heads(), other.heads())
        self.assertEqual(one.forks(), other.forks())
        self.assertEqual([one.head_leaf(device) for device in DEVICES], [other.head_leaf(d) for d in DEVICES])


class OrderTests(SynchronousTestCase):
    """The total order: (clock, device, number, leaf)."""

    def test_clock_first(self) -> None:
        """A later clock comes later, whatever the device and the wall say."""
        early, late = entry(1, device=TWO, clock=1, wall_ns=99), entry(1, device=ONE, clock=2, wall_ns=1)
        self.assertEqual(Log([late, early]).ordered(), [early, late])

    def test_then_device_then_number_then_leaf(self) -> None:
        """Ties are broken the same way everywhere."""
        first, second = entry(1, device=ONE, clock=7), entry(2, device=ONE, clock=7)
        third = entry(1, device=TWO, clock=7)
        self.assertEqual(Log([third, second, first]).ordered(), [first, second, third])
        twins = sorted((entry(1, clock=7, wall_ns=n) for n in range(1, 6)), key=lambda logged: logged.leaf)
        self.assertEqual(Log(reversed(twins)).ordered(), twins)

    @check(logs())
    def test_no_two_entries_are_equal_in_it(self, a: list[LoggedEntry]) -> None:
        """It is total: the leaf decides in the end."""
        found = [order(logged) for logged in Log(a).ordered()]
        self.assertEqual(len(set(found)), len(found))
        self.assertEqual(found, sorted(found))


class ChainTests(SynchronousTestCase):
    """Heads, gaps and forks."""

    def test_an_empty_log(self) -> None:
        """No heads; the first entry follows on nothing."""
        log = Log()
        self.assertEqual(dict(log.heads()), {})
        self.assertEqual(log.head_leaf(ONE), NO_ENTRY)
        self.assertEqual((len(log), log.ordered(), log.forks()), (0, [], []))

    def test_heads_and_their_leaves(self) -> None:
        """Each device's last number, and the leaf to follow on."""
        first, second, other = entry(1), entry(2), entry(1, device=TWO)
        log = Log([second, other, first])
        self.assertEqual(dict(log.heads()), {ONE: 2, TWO: 1})
        self.assertEqual(list(log.heads()), [ONE, TWO])
        self.assertEqual(log.head_leaf(ONE), second.leaf)
        self.assertEqual(log.head_leaf(TWO), other.leaf)

    def test_a_gap_ends_what_is_told(self) -> None:
        """Entries behind a gap are kept, and asked for again from the gap on."""
        late = [entry(3), entry(4)]
        log = Log(late)
        self.assertEqual(dict(log.heads()), {ONE: 0})
        self.assertEqual(log.head_leaf(ONE), NO_ENTRY)
        log.add(entry(1))
        self.assertEqual(dict(log.heads()), {ONE: 1})
        log.add(entry(2))
        self.assertEqual(dict(log.heads()), {ONE: 4})
        self.assertEqual(log.head_leaf(ONE), late[1].leaf)

    def test_a_fork_is_kept_and_told(self) -> None:
        """Two entries at one number both stay, and are named."""
        twins = [entry(2, wall_ns=1), entry(2, wall_ns=2)]
        log = Log([entry(1), *twins, entry(3)])
        self.assertEqual(len(log), 4)
        (fork,) = log.forks()
        self.assertEqual((fork.device, fork.number), (ONE, 2))
        self.assertEqual(fork.leaves, tuple(sorted(logged.leaf for logged in twins)))
        self.assertEqual(dict(log.heads()), {ONE: 3})

    def test_the_same_number_of_two_devices_is_no_fork(self) -> None:
        """Chains have nothing to do with each other."""
        self.assertEqual(Log([entry(1), entry(1, device=TWO)]).forks(), [])

    def test_a_long_chain_costs_no_walk(self) -> None:
        """Asking for heads after each entry is not quadratic: the end moves on
        with what is added, in either direction."""
        forwards, backwards = Log(), Log()
        chain = [entry(number) for number in range(1, 301)]
        for logged in chain:
            forwards.add(logged)
            self.assertEqual(forwards.heads()[ONE], logged.entry.number)
        for logged in reversed(chain):
            self.assertEqual(backwards.heads().get(ONE, 0), 0)
            backwards.add(logged)
        self.assertEqual(backwards.heads()[ONE], 300)


class ItemTests(SynchronousTestCase):
    """Taking in what nodes hold."""

    def setUp(self) -> None:
        first = entry_item(LOG_ID, Entry(OWNER, ONE, 1, NO_ENTRY, 1, 0, (), ()))
        second = entry_item(LOG_ID, Entry(OWNER, ONE, 2, first.key.element, 2, 0, (), ()))
        self.items = [first, second]

    def test_only_new_ones_are_told(self) -> None:
        """The second time, none is."""
        log = Log()
        self.assertEqual([logged.leaf for logged in log.add_items(self.items)], [i.key.element for i in self.items])
        self.assertEqual(log.add_items(self.items), [])

    def test_a_bad_one_leaves_the_log_as_it_was(self) -> None:
        """Or what came before it would be in the log, and told to nobody."""
        key = self.items[1].key
        forged = Item(ItemKey(key.ring_id, key.owner, key.kind, b"\x01" * 32), self.items[1].statement, b"")
        log = Log()
        with self.assertRaises(BadMessage):
            log.add_items([self.items[0], forged])
        self.assertEqual(len(log), 0)
        self.assertEqual(len(log.add_items(self.items)), 2)
