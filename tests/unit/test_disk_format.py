"""``docs/disk-format.md`` says what the code does: fields, tables, limits."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
from twisted.trial.unittest import SkipTest, SynchronousTestCase

import tests
from peerstore.client import state
from peerstore.files.chunk import Claim
from peerstore.files.head import Head, Recipient
from peerstore.files.manifest import ChunkRef, Manifest
from peerstore.items import ItemKey
from peerstore.storage import schema
from peerstore.transactions.entry import Entry, NameRecord, Operation, Seen

PAGE = Path(tests.__file__).resolve().parent.parent / "docs" / "disk-format.md"
#: In the order of the page.
STRUCTS: tuple[type[msgspec.Struct], ...] = (
    ItemKey,
    Claim,
    Manifest,
    ChunkRef,
    Head,
    Recipient,
    Entry,
    Seen,
    Operation,
    NameRecord,
)


class PageTests(SynchronousTestCase):
    """The page and the code."""

    def setUp(self) -> None:
        if not PAGE.exists():
            raise SkipTest("the documentation is not part of an installed package")
        self.text = PAGE.read_text(encoding="utf-8")

    def test_every_array_has_the_fields_that_the_page_lists(self) -> None:
        """In the same order, counted from 0."""
        listed: list[list[str]] = []
        for place, field in re.findall(r"^\| (\d+) \| (\w+) \|", self.text, re.M):
            if place == "0":
                listed.append([])
            self.assertEqual(int(place), len(listed[-1]))
            listed[-1].append(field)
        self.assertEqual(listed, [list(struct.__struct_fields__) for struct in STRUCTS])

    def test_the_tables_are_the_databases_own(self) -> None:
        """Word for word, of the node and of the client."""
        for tables in (schema.TABLES, state.TABLES):
            self.assertIn(f"```sql\n{tables.strip()}\n```", self.text)

    def test_the_versions_of_the_databases(self) -> None:
        """As the page says."""
        self.assertEqual(self.text.count("`user_version` 2"), 2)
        self.assertEqual((schema.VERSION, state.VERSION), (2, 2))
