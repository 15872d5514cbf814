"""What INodeStore promises: all kinds together, ranges, settings, usage."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from peerstore import ids
from peerstore.interfaces import INodeStore
from peerstore.items import ALL_KINDS, Item, ItemKey, Kind
from tests.contracts.item_store import StoreCase
from tests.support.storage import DEVICE, OTHER, OWNER, WHOLE, chunk, large_chunk, some_of_everything

LOW, HIGH = bytes(20), b"\xff" * 20
PLACES = [LOW, LOW[:19] + b"\x01", b"\x40" * 20, b"\x40" * 19 + b"\x41", b"\x80" * 20, HIGH[:19] + b"\xfe", HIGH]


def _thing(place: bytes, owner: bytes, kind: Kind, number: int) -> Item:
    """A small item anywhere on the circle; only ranges look at it."""
    return Item(ItemKey(place, owner, kind, bytes([number]) * 32), b"statement", b"d" * number)


THINGS = st.builds(
    _thing,
    st.sampled_from(PLACES),
    st.sampled_from([OWNER, OTHER]),
    st.sampled_from([Kind.HEAD, Kind.RECORD]),
    st.integers(0, 3),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.lists(THINGS, max_size=6)),
        st.tuples(st.just("remove"), st.lists(THINGS, max_size=3)),
        st.tuples(st.just("reopen"), st.just([])),
    ),
    max_size=8,
)


def in_range(keys: Iterable[ItemKey], after: bytes, through: bytes, kinds: Iterable[Kind]) -> list[ItemKey]:
    """The plain meaning of a range: clockwise from *after*."""
    low, high = ids.from_bytes(after), ids.from_bytes(through)
    wanted = set(kinds) or set(ALL_KINDS)
    chosen = [k for k in keys if k.kind in wanted and ids.in_half_open(low, ids.from_bytes(k.ring_id), high)]
    return sorted(
        chosen,
        key=lambda k: ((ids.from_bytes(k.ring_id) - low - 1) % ids.RING_SIZE, k.owner, k.kind, k.element),
    )


class NodeStoreContract(StoreCase):
    """INodeStore on any medium."""

    def test_provides_the_interface(self) -> None:
        """The store provides its interface, signatures included."""
        self.assertTrue(verifyObject(INodeStore, self.whole))

    def test_all_kinds_in_one_put(self) -> None:
        """Items of all kinds go in and out together, and into their families."""
        items = some_of_everything()
        keys = [item.key for item in items]
        self.assertEqual(self.wait(self.whole.put(items)), [True] * len(items))
        self.reopen()
        self.assertEqual(self.wait(self.whole.get(keys)), items)
        self.assertEqual(self.wait(self.whole.have(keys)), [True] * len(items))
        self.assertEqual(self.wait(self.whole.logs.chain_heads(b"\x0c" * 20, OWNER)), {DEVICE: 2})
        self.assertEqual(self.wait(self.whole.remove(keys)), len(items))
        self.assertEqual(self.wait(self.whole.range_digest(*WHOLE, ())), (0, hashlib.sha256().digest()))

    def test_malformed_keys_are_refused(self) -> None:
        """A key of a wrong length would stand elsewhere on the circle."""
        for ring_id, owner, element in ((19, 20, 32), (20, 21, 32), (20, 20, 31)):
            key = ItemKey(b"r" * ring_id, b"o" * owner, Kind.HEAD, b"e" * element)
            with self.assertRaises(ValueError):
                self.wait(self.whole.put([Item(key, b"", b"")]))

    def test_settings(self) -> None:
        """Settings are kept, replaced, and survive a restart."""
        self.assertIsNone(self.wait(self.whole.setting("copies")))
        self.wait(self.whole.keep_setting("copies", b"3"))
        self.wait(self.whole.keep_setting("incarnation", b""))
        self.wait(self.whole.keep_setting("copies", b"4"))
        self.reopen()
        self.assertEqual(self.wait(self.whole.setting("copies")), b"4")
        self.assertEqual(self.wait(self.whole.setting("incarnation")), b"")

    def test_a_put_and_a_removal_at_once_agree(self) -> None:
        """Whichever of them came last, what is said to be there can be read."""
        items = [large_chunk(0), chunk(1)]
        keys = [item.key for item in items]
        for _ in range(10):
            running = [self.whole.put(items), self.whole.remove(keys), self.whole.put(items), self.whole.remove(keys)]
            for deferred in running:
                self.wait(deferred)
            there = self.wait(self.whole.have(keys))
            found = self.wait(self.whole.get(keys))
            self.assertEqual([item is not None for item in found], there)
            self.wait(self.whole.put(items))
            self.assertEqual(self.wait(self.whole.get(keys)), items)

    def test_a_page_goes_on_behind_a_key_that_was_removed(self) -> None:
        """A cursor is a place, not an item."""
        items = [_thing(place, OWNER, Kind.HEAD, 1) for place in PLACES]
        self.wait(self.whole.put(items))
        page, cursor = self.wait(self.whole.range_list(*WHOLE, (), None, 3))
        self.wait(self.whole.remove([cursor]))
        rest, _ = self.wait(self.whole.range_list(*WHOLE, (), cursor, 100))
        self.assertEqual([*page, *rest], in_range([item.key for item in items], *WHOLE, ()))

    def test_ranges_and_usage_follow_a_model(self) -> None:
        """Any puts, removals and restarts: digests, pages and usage are those
        of a plain set, for ranges across zero as well."""

        @settings(max_examples=20, deadline=None, derandomize=True, database=None)
        @given(STEPS, st.sampled_from(PLACES), st.sampled_from(PLACES), st.integers(1, 5))
        def follows(steps: list[tuple[str, list[Item]]], after: bytes, through: bytes, limit: int) -> None:
            model: dict[ItemKey, Item] = {}
            for what, items in steps:
                if what == "put":
                    expected_new = []
                    for item in items:
                        expected_new.append(item.key not in model)
                        model.setdefault(item.key, item)
                    self.assertEqual(self.wait(self.whole.put(items)), expected_new)
                elif what == "remove":
                    keys = [item.key for item in items]
                    gone = {key for key in keys if model.pop(key, None) is not None}
                    self.assertEqual(self.wait(self.whole.remove(keys)), len(gone))
                else:
                    self.reopen()
            for kinds in ((), (Kind.HEAD,), (Kind.RECORD, Kind.CHUNK)):
                expected = in_range(model, after, through, kinds)
                self.assertEqual(self._pages(after, through, kinds, limit), expected)
                self.assertEqual(self.wait(self.whole.range_digest(after, through, kinds)), _digest(expected))
            for owner in (OWNER, OTHER):
                mine = [item for key, item in model.items() if key.owner == owner]
                self.assertEqual(self.wait(self.whole.usage(owner)), (sum(i.size for i in mine), len(mine)))
            self.wait(self.whole.remove(list(model)))

        follows()

    def _pages(self, after: bytes, through: bytes, kinds: Any, limit: int) -> list[ItemKey]:
        found: list[ItemKey] = []
        cursor = None
        while True:
            page, cursor = self.wait(self.whole.range_list(after, through, kinds, cursor, limit))
            self.assertLessEqual(len(page), limit)
            found.extend(page)
            if cursor is None:
                return found


def _digest(keys: Iterable[ItemKey]) -> tuple[int, bytes]:
    packed = [key.ring_id + key.owner + bytes([key.kind]) + key.element for key in keys]
    return len(packed), hashlib.sha256(b"".join(packed)).digest()
