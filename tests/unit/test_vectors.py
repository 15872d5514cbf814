"""Version vectors: a lattice, and the counters that feed it."""

from __future__ import annotations

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore import vectors
from tests.support.properties import DEVICES, check, device_vectors

ONE, TWO, THREE = DEVICES
VECTORS = device_vectors()


class OrderTests(SynchronousTestCase):
    """``covers`` and ``compare``."""

    def test_a_missing_device_stands_at_zero(self) -> None:
        """Everything covers the empty vector, which covers only itself."""
        self.assertTrue(vectors.covers(((ONE, 1),), vectors.EMPTY))
        self.assertFalse(vectors.covers(vectors.EMPTY, ((ONE, 1),)))
        self.assertTrue(vectors.covers(vectors.EMPTY, vectors.EMPTY))

    def test_every_entry_counts(self) -> None:
        """One device ahead does not make up for another behind."""
        self.assertFalse(vectors.covers(((ONE, 9), (TWO, 1)), ((ONE, 1), (TWO, 2))))

    def test_the_four_outcomes(self) -> None:
        """Equal, after, before, concurrent."""
        a, b = ((ONE, 2), (TWO, 1)), ((ONE, 1), (TWO, 1))
        self.assertEqual(vectors.compare(a, a), "equal")
        self.assertEqual(vectors.compare(a, b), "after")
        self.assertEqual(vectors.compare(b, a), "before")
        self.assertEqual(vectors.compare(((ONE, 1),), ((TWO, 1),)), "concurrent")

    @check(VECTORS, VECTORS)
    def test_compare_is_the_mirror_of_itself(self, a: vectors.Vector, b: vectors.Vector) -> None:
        """What is after one way is before the other way."""
        mirror = {"equal": "equal", "concurrent": "concurrent", "after": "before", "before": "after"}
        self.assertEqual(vectors.compare(a, b), mirror[vectors.compare(b, a)])

    @check(VECTORS, VECTORS)
    def test_only_equal_vectors_cover_each_other(self, a: vectors.Vector, b: vectors.Vector) -> None:
        """The order is a partial order: nothing replaces what replaces it."""
        self.assertEqual(vectors.covers(a, b) and vectors.covers(b, a), a == b)


class JoinTests(SynchronousTestCase):
    """``join`` is the least upper bound."""

    def test_nothing_joined_is_empty(self) -> None:
        """The neutral element."""
        self.assertEqual(vectors.join([]), vectors.EMPTY)

    @check(VECTORS, VECTORS, VECTORS)
    def test_it_is_the_least_that_covers_both(self, a: vectors.Vector, b: vectors.Vector, c: vectors.Vector) -> None:
        """A join covers its parts, and whatever covers both covers it."""
        joined = vectors.join([a, b])
        self.assertTrue(vectors.covers(joined, a) and vectors.covers(joined, b))
        if vectors.covers(c, a) and vectors.covers(c, b):
            self.assertTrue(vectors.covers(c, joined))

    @check(VECTORS, VECTORS, VECTORS)
    def test_order_and_repetition_do_not_matter(self, a: vectors.Vector, b: vectors.Vector, c: vectors.Vector) -> None:
        """Commutative, associative, idempotent, and sorted as it comes."""
        together = vectors.join([a, b, c])
        self.assertEqual(vectors.join([c, a, b, a]), together)
        self.assertEqual(vectors.join([vectors.join([a, b]), c]), together)
        self.assertTrue(vectors.well_formed(together))


class AdvanceTests(SynchronousTestCase):
    """A device's next number."""

    def test_it_replaces_what_it_was_derived_from(self) -> None:
        """The new vector is after the old one, and after no other."""
        base = ((ONE, 4), (TWO, 7))
        self.assertEqual(vectors.advance(base, TWO, 9), ((ONE, 4), (TWO, 9)))
        self.assertEqual(vectors.advance(base, THREE, 1), ((ONE, 4), (TWO, 7), (THREE, 1)))

    def test_a_number_is_never_used_again(self) -> None:
        """The same number, or a lower one, is refused."""
        for counter in (7, 6, 0, -1):
            with self.assertRaises(ValueError):
                vectors.advance(((TWO, 7),), TWO, counter)

    @check(VECTORS, st.sampled_from(DEVICES), st.integers(4, 9))
    def test_the_result_is_well_formed(self, base: vectors.Vector, device: bytes, counter: int) -> None:
        """Sorted, each device once, and strictly after its base."""
        advanced = vectors.advance(base, device, counter)
        self.assertTrue(vectors.well_formed(advanced))
        self.assertEqual(vectors.compare(advanced, base), "after")


class FormTests(SynchronousTestCase):
    """What is taken from others."""

    def test_what_is_in_order_is_taken(self) -> None:
        """Empty, one, many, the highest counter."""
        for vector in ((), ((ONE, 1),), ((ONE, 5), (TWO, 1)), ((ONE, (1 << 63) - 1),)):
            self.assertTrue(vectors.well_formed(vector), vector)

    def test_what_is_not_is_refused(self) -> None:
        """Unsorted, twice, short or long devices, counters out of range."""
        for vector in (
            ((TWO, 1), (ONE, 1)),
            ((ONE, 1), (ONE, 1)),
            ((ONE, 1), (ONE, 2)),
            ((ONE[:15], 1),),
            ((ONE + b"x", 1),),
            ((b"", 1),),
            ((ONE, 0),),
            ((ONE, -1),),
            ((ONE, 1 << 63),),
        ):
            self.assertFalse(vectors.well_formed(vector), vector)

    def test_a_crowd_of_devices_is_refused(self) -> None:
        """As many as the limit, and one more."""
        many = tuple((number.to_bytes(16, "big"), 1) for number in range(vectors.MAX_DEVICES + 1))
        self.assertTrue(vectors.well_formed(many[:-1]))
        self.assertFalse(vectors.well_formed(many))
