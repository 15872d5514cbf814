"""The oracle of simulated data: each promise, kept and broken."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from peerstore.gateway.results import Outcome
from peerstore.items import Item, ItemKey
from peerstore.sim.data_oracle import Oracle
from peerstore.wire.messages import Status
from tests.support.things import OWNER, a_chain, a_chunk, a_head, log_id

CERTAIN = Outcome(Status.OK, (b"a", b"b"), 2, True)
KEPT = Outcome(Status.OK, (b"a",), 2, False)
NOWHERE = Outcome(Status.UNAVAILABLE, (), 1, False)
GAP = Outcome(Status.GAP, (), 1, False)
REJECTED = Outcome(Status.REJECTED, (), 1, False)


class OracleTests(SynchronousTestCase):
    """What it calls a breach, and what not."""

    def setUp(self) -> None:
        """An oracle whose complaints are collected."""
        self.breaches: list[str] = []
        self.oracle = Oracle(lambda promise, what: self.breaches.append(promise))

    def write(self, item: Item, *outcomes: Outcome) -> Item:
        """A user posts an item, and is told these things of it."""
        self.oracle.writing(item, "something")
        for outcome in outcomes:
            self.oracle.outcome(item, outcome)
        return item

    def read_heads(self, *items: Item, complete: bool = True, elements: tuple[bytes, ...] = ()) -> None:
        """A read of resource 1 that begins now."""
        mark = self.oracle.mark()
        self.oracle.heads_read(mark, a_head(1).key.ring_id, OWNER, elements, items, complete)

    def test_a_certain_head_that_is_read_is_fine(self) -> None:
        """There is nothing to say."""
        self.read_heads(self.write(a_head(1), CERTAIN))
        self.assertEqual(self.breaches, [])
        self.assertEqual(self.oracle.checks["certain"], 1)

    def test_a_certain_head_must_be_in_a_complete_read(self) -> None:
        """It is a breach when it is not, however little else there is."""
        self.write(a_head(1), CERTAIN)
        self.read_heads()
        self.assertEqual(self.breaches, ["certain"])

    def test_what_replaces_it_stands_for_it(self) -> None:
        """Whoever reads is told the newest only, certain or not."""
        self.write(a_head(1, 1), CERTAIN)
        self.read_heads(self.write(a_head(1, 2), KEPT))
        self.assertEqual(self.breaches, [])

    def test_what_is_beside_it_does_not(self) -> None:
        """A version that does not know of it replaces nothing."""
        self.write(a_head(1, 1), CERTAIN)
        self.read_heads(self.write(a_head(1, 2, device=b"E" * 16), CERTAIN))
        self.assertEqual(self.breaches, ["certain"])

    def test_a_version_that_is_named_is_wanted_itself(self) -> None:
        """Then what replaces it does not do."""
        old, new = self.write(a_head(1, 1), CERTAIN), self.write(a_head(1, 2), CERTAIN)
        self.read_heads(new, elements=(old.key.element,))
        self.assertEqual(self.breaches, ["certain"])

    def test_what_became_certain_later_may_be_missing(self) -> None:
        """The read had begun by then."""
        head = self.write(a_head(1))
        mark = self.oracle.mark()
        self.oracle.outcome(head, CERTAIN)
        self.oracle.heads_read(mark, head.key.ring_id, OWNER, (), [], True)
        self.assertEqual(self.breaches, [])

    def test_what_is_only_kept_may_be_missing(self) -> None:
        """One of three is no promise."""
        self.write(a_head(1), KEPT)
        self.read_heads()
        self.assertEqual(self.breaches, [])

    def test_an_incomplete_read_says_nothing(self) -> None:
        """UNKNOWN is never wrong."""
        self.write(a_head(1), CERTAIN)
        self.read_heads(complete=False)
        self.assertEqual(self.breaches, [])

    def test_others_bytes_are_a_breach(self) -> None:
        """Even in a read that is not complete."""
        head = self.write(a_head(1), CERTAIN)
        self.read_heads(msgspec.structs.replace(head, data=b"another manifest"), complete=False)
        self.assertEqual(self.breaches, ["bytes"])

    def test_what_nobody_wrote_is_a_breach(self) -> None:
        """Nothing comes from nowhere."""
        self.read_heads(a_head(1))
        self.assertEqual(self.breaches, ["bytes"])

    def test_a_chunk_may_have_been_claimed_twice(self) -> None:
        """With another clock, it is the same chunk."""
        first = self.write(a_chunk(1), CERTAIN)
        again = msgspec.structs.replace(first, statement=b"a later claim")
        self.oracle.writing(again, "again")
        self.oracle.chunks_read(self.oracle.mark(), OWNER, [first.key.element], [again], True)
        self.assertEqual(self.breaches, [])

    def test_a_certain_chunk_is_there_at_rest(self) -> None:
        """Out of reach is an excuse only before."""
        chunk = self.write(a_chunk(1), CERTAIN)
        mark = self.oracle.mark()
        self.oracle.chunks_read(mark, OWNER, [chunk.key.element], [], False)
        self.assertEqual(self.breaches, [])
        self.oracle.chunks_read(mark, OWNER, [chunk.key.element], [], True)
        self.assertEqual(self.breaches, ["certain"])

    def test_a_certain_entry_must_be_in_a_complete_log(self) -> None:
        """Each of them."""
        first, second = a_chain(2)
        self.write(first, CERTAIN)
        self.write(second, CERTAIN)
        self.oracle.log_read(self.oracle.mark(), log_id(), OWNER, [first], True)
        self.assertEqual(self.breaches, ["certain"])

    def test_a_voter_may_have_missed_an_entry(self) -> None:
        """It says so, whether that is certain elsewhere or not, and is given all."""
        for outcome in (KEPT, CERTAIN):
            first, second = a_chain(2)
            self.write(first, outcome)
            self.write(second, GAP, CERTAIN)
        self.assertEqual(self.breaches, [])

    def test_a_gap_where_there_is_none_is_a_refusal(self) -> None:
        """Before the first entry, or when all that came before went with it."""
        first, second = a_chain(2)
        self.write(first, GAP)
        self.assertEqual(self.breaches, ["refused"])
        self.write(second)
        self.oracle.outcome(second, GAP, whole=True)
        self.assertEqual(self.breaches, ["refused"] * 2)

    def test_nothing_sound_is_rejected(self) -> None:
        """Whether another node took it before or not."""
        self.write(a_head(1), KEPT, REJECTED)
        self.write(a_chunk(1), REJECTED)
        self.assertEqual(self.breaches, ["refused", "refused"])

    def test_what_could_not_be_sent_is_not_refused(self) -> None:
        """Nobody has judged it."""
        self.write(a_head(1), NOWHERE)
        self.assertEqual((self.breaches, self.oracle.counts()), ([], {"unknown": 1}))

    def test_the_first_certain_word_counts(self) -> None:
        """Later ones move nothing, and only the first is told."""
        told: list[ItemKey] = []
        self.oracle.promised = told.append
        head = self.write(a_head(1), KEPT, CERTAIN, CERTAIN, KEPT)
        self.assertEqual((told, self.oracle.counts()), ([head.key], {"certain": 1}))
        self.assertTrue(self.oracle.known[head.key].is_certain(self.oracle.mark()))
