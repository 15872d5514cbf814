"""``tests/vectors/stored.json``: entries and names, byte for byte."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from peerstore.crypto.statements import StatementType, leaf
from peerstore.transactions.entry import (
    Entry,
    NameRecord,
    OperationKind,
    decode_entry,
    entry_item,
    pack_name,
    unpack_name,
)
from tests.support.logs import LOG_ID
from tests.support.vectors import frozen, plain

STORED = frozen("stored")
ORDER = ["UPDATE", "DELETE", "MOVE", "SNAPSHOT", "SETTING", "CHECKPOINT", "RETIRE_DEVICE"]


class EntryVectors(SynchronousTestCase):
    """[owner, device, number, previous, clock, wall, seen, operations]."""

    def test_entries(self) -> None:
        """Packed, named, read back; every kind of operation is in them."""
        kinds = set()
        for case in STORED["entries"]:
            entry = msgspec.convert(plain(case["fields"]), Entry)
            body = msgspec.msgpack.encode(entry)
            self.assertEqual(body, plain(case["packed"]), case["what"])
            self.assertEqual(leaf(StatementType.LOG_ENTRY, body), plain(case["leaf"]))
            item = entry_item(LOG_ID, entry)
            self.assertEqual((item.statement, item.key.element), (plain(case["statement"]), plain(case["leaf"])))
            self.assertEqual(decode_entry(plain(case["statement"])), entry)
            kinds |= {operation.kind for operation in entry.operations}
        self.assertEqual(kinds, set(OperationKind))

    def test_numbers_of_operations(self) -> None:
        """They are on disks."""
        self.assertEqual([kind.name for kind in sorted(OperationKind)], ORDER)
        self.assertEqual([int(kind) for kind in sorted(OperationKind)], list(range(1, 8)))


class NameVectors(SynchronousTestCase):
    """[folder, path, kind, size, mtime_ns, mode, sha256]."""

    def test_names(self) -> None:
        """A file's, a deletion's, the folder's own."""
        self.assertEqual(len(STORED["names"]), 3)
        for case in STORED["names"]:
            name = msgspec.convert(plain(case["fields"]), NameRecord)
            self.assertEqual(pack_name(name), plain(case["packed"]), case["what"])
            self.assertEqual(unpack_name(plain(case["packed"])), name)
