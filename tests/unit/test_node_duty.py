"""Who holds what: every key has its hosts, whoever is away."""

from __future__ import annotations

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.node.duty import Place, Share, in_order, share_of, shares
from tests.support.properties import check

HOSTS = [bytes([letter]) * 32 for letter in b"ABCDEFG"]

#: A few hosts with one to three positions each, sorted; no two at one place.
circles = (
    st.lists(
        st.tuples(st.integers(0, ids.RING_SIZE - 1), st.sampled_from(HOSTS)),
        min_size=1,
        max_size=16,
        unique_by=lambda place: place[0],
    )
).map(sorted)
keys = st.integers(0, ids.RING_SIZE - 1)
sizes = st.integers(1, 5)


def walk(places: list[Place], key: int) -> list[bytes]:
    """All hosts from a key on, in order: written down a second time."""
    behind = sorted(places, key=lambda place: ids.distance(key, place[0]))
    return list(dict.fromkeys(fp for _, fp in behind))


class ShareTests(SynchronousTestCase):
    """Against a walk from the key."""

    @check(circles, keys, sizes, st.sets(st.sampled_from(HOSTS)), examples=300)
    def test_every_key(self, places: list[Place], key: int, copies: int, gone: set[bytes]) -> None:
        """The first k hosts are its holders; those of them that live have it, and where they are fewer
        than W, the first k that live; the one behind them is next."""
        needed = min(copies, len({fp for _, fp in places})) // 2 + 1
        found = shares(places, frozenset(gone), copies, needed)
        share = share_of(found, key)
        assert share is not None
        order = walk(places, key)
        live = [fp for fp in order if fp not in gone]
        now = [fp for fp in order[:copies] if fp not in gone]
        if len(now) < needed:
            now = live[:copies]
        self.assertTrue(ids.in_half_open(share.after, key, share.through))
        self.assertEqual(share.holders, tuple(order[:copies]))
        self.assertEqual(share.now, tuple(now))
        # Only who is behind the first k + 1 live ones at most is looked for.
        expected = next((fp for fp in live[: copies + 1] if fp not in now), b"")
        self.assertEqual(share.next, expected)

    @check(circles, keys, sizes)
    def test_exactly_k(self, places: list[Place], key: int, copies: int) -> None:
        """With nobody away a key has min(k, hosts) holders, each another host, and all of them have it."""
        hosts = {fp for _, fp in places}
        share = share_of(shares(places, frozenset(), copies, 1), key)
        assert share is not None
        self.assertEqual(len(set(share.holders)), min(copies, len(hosts)))
        self.assertEqual(share.holders, share.now)
        self.assertEqual({fp for fp in hosts if share.concerns(fp)}, set(share.now))

    @check(circles, sizes, st.sets(st.sampled_from(HOSTS)))
    def test_they_tile_the_circle(self, places: list[Place], copies: int, gone: set[bytes]) -> None:
        """Each begins where the one before ends."""
        found = shares(places, frozenset(gone), copies, 1)
        self.assertEqual([share.after for share in found[1:] + found[:1]], [share.through for share in found])

    def test_nobody(self) -> None:
        """There are no shares of nothing."""
        self.assertEqual(shares([], frozenset(), 3, 1), [])
        self.assertIsNone(share_of([], 5))

    def test_nearly_all_are_away(self) -> None:
        """A walk past a thousand hosts that are away is not made for each of their positions."""
        steps = 0

        class Counted(list[Place]):
            def __getitem__(self, place: object) -> object:  # type: ignore[override]
                nonlocal steps
                steps += 1
                return super().__getitem__(place)  # type: ignore[index]

        places = Counted((number << 100, number.to_bytes(32, "big")) for number in range(1000))
        away = frozenset(fp for _, fp in places[1:])
        found = shares(places, away, 3, 2)
        self.assertTrue(all(share.now == (bytes(32),) for share in found))
        self.assertLess(steps, 10_000)


class OrderTests(SynchronousTestCase):
    """Arcs that follow on each other become one."""

    @check(circles, st.sets(st.integers(0, 15)), st.lists(keys, max_size=8))
    def test_they_cover_the_same(self, places: list[Place], chosen: set[int], some: list[int]) -> None:
        """Just the keys of the shares that were given, each once."""
        found = [share for number, share in enumerate(shares(places, frozenset(), 3, 1)) if number in chosen]
        joined = in_order(found)
        ends = [end for share in found for end in (share.after, share.through)]
        for key in [*some, *ends, *((end + 1) % ids.RING_SIZE for end in ends)]:
            wanted = sum(ids.in_half_open(share.after, key, share.through) for share in found)
            self.assertEqual(sum(ids.in_half_open(after, key, through) for after, through in joined), wanted)

    def test_joined(self) -> None:
        """Neighbours are one question."""
        places = [(number, bytes([number]) * 32) for number in range(1, 6)]
        found: list[Share] = shares(places, frozenset(), 3, 1)
        self.assertEqual(in_order(found[1:4]), [(1, 4)])
        self.assertEqual(in_order([found[1], found[3]]), [(1, 2), (3, 4)])
