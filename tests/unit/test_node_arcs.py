"""Values over the arcs of the circle, against a plain table of keys."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.node.arcs import Arc, ArcMap

#: Ends of arcs, among them both sides of zero.
POINTS = (0, 1, 5, 1 << 80, (1 << 159) + 3, ids.RING_SIZE - 1)
#: Keys at, just before and just after each of them.
KEYS = tuple(sorted({(point + step) % ids.RING_SIZE for point in POINTS for step in (-1, 0, 1)}))
points = st.sampled_from(POINTS)


class ArcMapTests(SynchronousTestCase):
    """One arc map and one table, changed alike."""

    @given(st.lists(st.tuples(points, points, st.integers(0, 3)), max_size=12), points, points)
    def test_like_a_table_of_keys(self, changes: list[tuple[int, int, int]], after: int, through: int) -> None:
        """Every key has its value, arcs tile the circle, equal neighbours are one, and parts fit."""
        arcs, table = ArcMap(0), dict.fromkeys(KEYS, 0)
        for low, high, step in changes:
            arcs.change(low, high, lambda old, step=step: (old + step) % 4)
            for key in KEYS:
                if ids.in_half_open(low, key, high):
                    table[key] = (table[key] + step) % 4
        for key in KEYS:
            arc = arcs.at(key)
            self.assertEqual(arc.value, table[key])
            self.assertTrue(ids.in_half_open(arc.after, key, arc.through))
        whole = arcs.arcs()
        self.assertEqual([arc.after for arc in whole], [arc.through for arc in whole[-1:] + whole[:-1]])
        if len(whole) > 1:
            self.assertTrue(all(a.value != b.value for a, b in zip(whole, whole[-1:] + whole[:-1], strict=True)))
        parts = arcs.between(after, through)
        self.assertEqual((parts[0].after, parts[-1].through), (after, through))
        for key in KEYS:
            inside = [arc.value for arc in parts if ids.in_half_open(arc.after, key, arc.through)]
            self.assertEqual(inside, [table[key]] if ids.in_half_open(after, key, through) else [])

    def test_the_whole_circle(self) -> None:
        """To begin with there is one arc, and every key is in it."""
        arcs = ArcMap("x")
        self.assertEqual(len(arcs), 1)
        self.assertEqual(arcs.between(7, 7), [Arc(7, 7, "x")])

    def test_replacing_arcs(self) -> None:
        """Arcs that are given take the place of what was there."""
        arcs = ArcMap("x")
        arcs.replace([Arc(10, 20, "y"), Arc(15, 30, "z")])
        self.assertEqual(arcs.arcs(), [Arc(30, 10, "x"), Arc(10, 15, "y"), Arc(15, 30, "z")])
