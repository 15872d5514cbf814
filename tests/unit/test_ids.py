"""Ring arithmetic: the circle, and how keys become places on it."""

from __future__ import annotations

import hashlib
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from tests.support.ring import EIGHT, eight

POINTS = st.integers(0, ids.RING_SIZE - 1)
quick = settings(deadline=None, derandomize=True, max_examples=200)


def walk(low: int, high: int) -> list[int]:
    """The numbers met strictly between two of the eight, one step at a time."""
    met, at = [], (low + 1) % EIGHT
    while at != high:
        if at != low:
            met.append(at)
        at = (at + 1) % EIGHT
        if at == (low + 1) % EIGHT:
            break
    return met


class BetweenTests(SynchronousTestCase):
    """The three-place comparison, for all of 8 x 8 x 8."""

    def test_all_triples(self) -> None:
        """It says what walking clockwise one step at a time says."""
        for low, x, high in itertools.product(range(EIGHT), repeat=3):
            expected = x in walk(low, high)
            self.assertEqual(ids.between(eight(low), eight(x), eight(high)), expected, (low, x, high))

    def test_equal_ends_are_the_whole_circle_but_one(self) -> None:
        """between(a, x, a) for every x except a."""
        for a, x in itertools.product(range(EIGHT), repeat=2):
            self.assertEqual(ids.between(eight(a), eight(x), eight(a)), x != a)

    def test_ends_are_outside(self) -> None:
        """Neither end lies between itself and the other."""
        for a, b in itertools.product(range(EIGHT), repeat=2):
            self.assertFalse(ids.between(eight(a), eight(a), eight(b)))
            self.assertFalse(ids.between(eight(a), eight(b), eight(b)))

    def test_half_open_ranges_tile_the_circle(self) -> None:
        """For every set of members each key is in just one range."""
        for count in range(1, 5):
            for present in itertools.combinations(range(EIGHT), count):
                for key in range(EIGHT):
                    owners = [
                        high
                        for low, high in zip((present[-1], *present), present, strict=False)
                        if ids.in_half_open(eight(low), eight(key), eight(high))
                    ]
                    self.assertEqual(len(owners), 1, (present, key))

    @quick
    @given(POINTS, POINTS, POINTS)
    def test_turning_the_circle_changes_nothing(self, low: int, x: int, high: int) -> None:
        """No point of the circle is special, zero and the largest included."""
        expected = ids.between(low, x, high)
        for turn in (1, ids.RING_SIZE // 2, ids.RING_SIZE - x):
            turned = [(point + turn) % ids.RING_SIZE for point in (low, x, high)]
            self.assertEqual(ids.between(*turned), expected)

    @quick
    @given(POINTS, POINTS, POINTS)
    def test_between_is_being_nearer(self, low: int, x: int, high: int) -> None:
        """x is between low and high when it is met before high."""
        if low != high:
            nearer = 0 < ids.distance(low, x) < ids.distance(low, high)
            self.assertEqual(ids.between(low, x, high), nearer)

    def test_distance_goes_round(self) -> None:
        """From the largest id to zero it is one step."""
        self.assertEqual(ids.distance(ids.RING_SIZE - 1, 0), 1)
        self.assertEqual(ids.distance(0, ids.RING_SIZE - 1), ids.RING_SIZE - 1)
        self.assertEqual(ids.distance(5, 5), 0)


class KeyTests(SynchronousTestCase):
    """How keys become ids."""

    def test_ids_have_160_bits_and_are_never_reduced(self) -> None:
        """The Go program took SHA-1 modulo 160: of 1,000 keys most shared an
        id with another.  Ours are the whole digest."""
        keys = [number.to_bytes(4, "big") for number in range(1000)]
        places = [ids.position_id(key, 0) for key in keys]
        self.assertEqual(len(set(places)), 1000)
        for key, place in zip(keys, places, strict=True):
            self.assertEqual(place, int(hashlib.sha1(key).hexdigest(), 16))
        self.assertGreater(max(places), 1 << 159)

    def test_positions(self) -> None:
        """Position 0 is at SHA-1(SPKI), position i at SHA-1(SPKI || u32 i)."""
        self.assertEqual(ids.position_id(b"key", 0), ids.from_bytes(ids.key_id(b"key")))
        expected = int(hashlib.sha1(b"key\x00\x00\x00\x07").hexdigest(), 16)
        self.assertEqual(ids.position_id(b"key", 7), expected)

    def test_log_address(self) -> None:
        """SHA-1(SPKI || "-transaction-log"), as in the user's document."""
        self.assertEqual(ids.log_ring_id(b"key"), hashlib.sha1(b"key-transaction-log").digest())

    def test_fingerprint_and_label(self) -> None:
        """32 bytes for trust, 20 for the ring."""
        self.assertEqual(ids.fingerprint(b"key"), hashlib.sha256(b"key").digest())
        self.assertEqual(ids.key_id(b"key"), hashlib.sha1(b"key").digest())

    def test_bytes_and_back(self) -> None:
        """20 bytes, big-endian; nothing else is taken."""
        self.assertEqual(ids.to_bytes(1), bytes(19) + b"\x01")
        self.assertEqual(ids.from_bytes(b"\xff" * 20), ids.RING_SIZE - 1)
        for wrong in (b"", bytes(19), bytes(21)):
            self.assertRaises(ValueError, ids.from_bytes, wrong)
        self.assertRaises(OverflowError, ids.to_bytes, ids.RING_SIZE)

    def test_chunks_live_at_the_head_of_their_hash(self) -> None:
        """20 of the 32 bytes."""
        self.assertEqual(ids.chunk_ring_id(bytes(range(32))), bytes(range(20)))

    def test_short(self) -> None:
        """8 hex digits, of either form."""
        self.assertEqual(ids.short(b"\x01\x02\x03\x04\x05"), "01020304")
        self.assertEqual(ids.short(ids.RING_SIZE - 1), "ffffffff")
