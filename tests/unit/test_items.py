"""Items and their names."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore.items import ALL_KINDS, Item, ItemKey, Kind
from peerstore.storage.digests import pack_key
from tests.support.properties import check

KEY = ItemKey(b"\x01" * 20, b"\x02" * 20, Kind.HEAD, b"\x03" * 32)
_keys = st.builds(
    ItemKey,
    st.sampled_from([bytes(20), b"\x01" * 20, b"\xff" * 20]),
    st.sampled_from([bytes(20), b"\x01" * 20]),
    st.sampled_from(Kind),
    st.sampled_from([bytes(32), b"\x01" * 32, b"\xff" * 32]),
)


class KindTests(SynchronousTestCase):
    """The four families."""

    def test_numbers(self) -> None:
        """They are on wires and disks."""
        self.assertEqual({kind.name: int(kind) for kind in ALL_KINDS}, {"CHUNK": 1, "HEAD": 2, "LOG": 3, "RECORD": 4})


class KeyTests(SynchronousTestCase):
    """(ring id, owner, kind, element)."""

    def test_lengths(self) -> None:
        """20, 20 and 32 bytes, and nothing else."""
        self.assertTrue(KEY.well_formed())
        wrong: list[dict[str, Any]] = [
            {"ring_id": b"x" * 19},
            {"ring_id": b"x" * 21},
            {"owner": b""},
            {"owner": b"x" * 32},
            {"element": b"x" * 20},
            {"element": b"x" * 33},
        ]
        for fields in wrong:
            self.assertFalse(msgspec.structs.replace(KEY, **fields).well_formed(), fields)

    @check(st.lists(_keys, max_size=10))
    def test_they_sort_as_their_packed_bytes_do(self, keys: list[ItemKey]) -> None:
        """So that range digests agree with the order in memory."""
        self.assertEqual(sorted(keys), sorted(keys, key=pack_key))

    def test_they_are_names(self) -> None:
        """Equal ones are one key of a mapping, and nobody can change one."""
        self.assertEqual(len({KEY, msgspec.structs.replace(KEY)}), 1)
        with self.assertRaises(AttributeError):
            KEY.owner = bytes(20)  # type: ignore[misc]


class ItemTests(SynchronousTestCase):
    """An element with its statement and data."""

    def test_size(self) -> None:
        """What counts towards a quota: both of its parts."""
        self.assertEqual(Item(KEY, b"12345", b"678").size, 8)

    def test_packed(self) -> None:
        """An array of a key, which is an array, and two byte strings."""
        item = Item(KEY, b"s", b"d")
        packed = msgspec.msgpack.encode(item)
        self.assertEqual(packed, msgspec.msgpack.encode([[b"\x01" * 20, b"\x02" * 20, 2, b"\x03" * 32], b"s", b"d"]))
        self.assertEqual(msgspec.msgpack.decode(packed, type=Item), item)

    def test_an_unknown_kind(self) -> None:
        """Is no item of ours."""
        for kind in (0, 5):
            packed = msgspec.msgpack.encode([[b"\x01" * 20, b"\x02" * 20, kind, b"\x03" * 32], b"", b""])
            with self.assertRaises(msgspec.ValidationError):
                msgspec.msgpack.decode(packed, type=Item)
