"""Range digests are a wire format: frozen bytes, for both providers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from peerstore.items import Item, ItemKey, Kind
from peerstore.storage.digests import pack_key
from tests.support.storage import MemoryMedium, SqliteMedium

VECTORS = Path(__file__).parent.parent / "vectors" / "range_digest.json"


class RangeDigestVectors(SynchronousTestCase):
    """``tests/vectors/range_digest.json``."""

    def setUp(self) -> None:
        self.vectors: dict[str, Any] = json.loads(VECTORS.read_text())
        self.keys = [
            ItemKey(bytes.fromhex(ring_id), bytes.fromhex(owner), Kind(kind), bytes.fromhex(element))
            for ring_id, owner, kind, element in self.vectors["keys"]
        ]

    def test_packed_keys(self) -> None:
        """73 bytes each, in this order."""
        self.assertEqual([pack_key(key).hex() for key in self.keys], self.vectors["packed"])
        self.assertEqual({len(pack_key(key)) for key in self.keys}, {73})

    def test_digests(self) -> None:
        """Count and hash of every range in the file, from both providers."""
        items = [Item(key, b"", b"") for key in self.keys]
        for medium in (SqliteMedium(Path(self.mktemp())), MemoryMedium()):
            store = medium.open()
            self.addCleanup(medium.close, store)
            medium.wait(store.put(items))
            for after, through, kinds, count, digest in self.vectors["ranges"]:
                found = medium.wait(
                    store.range_digest(bytes.fromhex(after), bytes.fromhex(through), [Kind(kind) for kind in kinds])
                )
                self.assertEqual(found, (count, bytes.fromhex(digest)))
