"""``tests/vectors/stored.json``: what clients write, byte for byte.

A test here that fails says that a format has changed, and with it the names
of everything that is stored.
"""

from __future__ import annotations

import hashlib

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from peerstore.crypto.statements import StatementType, leaf, pack_statement, unpack_statement
from peerstore.files.chunk import Claim, chunk_item, open_chunk, seal_chunk, verify_chunk
from peerstore.files.head import Head, decode_head, head_item
from peerstore.files.manifest import Manifest, NodeKind, decode_manifest, encode_manifest
from peerstore.items import Item, ItemKey, Kind
from tests.support.vectors import frozen, plain

STORED = frozen("stored")
OWNER = b"\x0a" * 20


class StatementVectors(SynchronousTestCase):
    """The wrapping of everything."""

    def test_statement(self) -> None:
        """Packed, unpacked, and its leaf."""
        case = {name: plain(value) for name, value in STORED["statement"].items()}
        self.assertEqual(pack_statement(case["type"], case["body"]), case["packed"])
        self.assertEqual(unpack_statement(case["packed"], case["type"]), case["body"])
        self.assertEqual(leaf(case["type"], case["body"]), case["leaf"])


class ChunkVectors(SynchronousTestCase):
    """Sealed chunks and their claims."""

    def test_chunks(self) -> None:
        """Content that is kept as it is: the bytes, their size and hash."""
        self.assertEqual(len(STORED["chunks"]), 3)
        for case in STORED["chunks"]:
            chunk = seal_chunk(plain(case["content"]))
            self.assertEqual(chunk.data, plain(case["head"]).ljust(case["size"], b"\0"))
            self.assertEqual((chunk.hash, chunk.key), (plain(case["hash"]), b""))
            self.assertEqual(open_chunk(chunk.data, chunk.hash, b"", chunk.length), plain(case["content"]))

    def test_claims(self) -> None:
        """[owner, hash, length, clock] in a statement."""
        for case in STORED["chunks"]:
            fields, chunk = plain(case["claim"]["fields"]), seal_chunk(plain(case["content"]))
            claim = msgspec.convert(fields, Claim)
            self.assertEqual(msgspec.msgpack.encode(claim), plain(case["claim"]["packed"]))
            item = chunk_item(OWNER, chunk, fields[3])
            self.assertEqual(item.statement, plain(case["claim"]["statement"]))
            self.assertEqual(verify_chunk(item), claim)

    def test_compressed(self) -> None:
        """What an older library has compressed opens for ever (the same bytes
        need not come out of a newer one)."""
        case = STORED["zstd"]
        content = plain(case["content"]) * case["times"]
        data = plain(case["packed"]).ljust(case["size"], b"\0")
        self.assertEqual(hashlib.sha256(data).digest(), plain(case["hash"]))
        self.assertEqual(open_chunk(data, plain(case["hash"]), b"", len(content)), content)
        again = seal_chunk(content)
        self.assertEqual((len(again.data), again.data[:5]), (case["size"], data[:5]))


class ManifestVectors(SynchronousTestCase):
    """[kind, size, mtime_ns, mode, sha256, inline, chunks, pieces]."""

    def test_every_kind(self) -> None:
        """Folder, link, empty, inline, in chunks, in pieces."""
        self.assertEqual(len(STORED["manifests"]), 6)
        for case in STORED["manifests"]:
            manifest = msgspec.convert(plain(case["fields"]), Manifest)
            self.assertEqual(encode_manifest(manifest)[0], plain(case["packed"]), case["what"])
            self.assertEqual(decode_manifest(plain(case["packed"])), manifest)
            self.assertEqual(hashlib.sha256(plain(case["packed"])).digest(), plain(case["sha256"]))

    def test_numbers_of_kinds(self) -> None:
        """They are on disks."""
        self.assertEqual({kind.name: int(kind) for kind in NodeKind}, {"FILE": 1, "FOLDER": 2, "SYMLINK": 3})


class HeadVectors(SynchronousTestCase):
    """Heads, tombstones, shared and moved ones."""

    def test_heads(self) -> None:
        """Packed, named, read back."""
        self.assertEqual(len(STORED["heads"]), 3)
        for case in STORED["heads"]:
            head = msgspec.convert(plain(case["fields"]), Head)
            body = msgspec.msgpack.encode(head)
            self.assertEqual(body, plain(case["packed"]), case["what"])
            self.assertEqual(leaf(StatementType.HEAD, body), plain(case["leaf"]))
            self.assertEqual(pack_statement(StatementType.HEAD, body), plain(case["statement"]))
            key = ItemKey(head.resource, head.owner, Kind.HEAD, plain(case["leaf"]))
            item = Item(key, plain(case["statement"]), plain(case["data"]))
            self.assertEqual(decode_head(item).head, head)

    def test_what_head_item_makes(self) -> None:
        """A file and a tombstone, from their parts."""
        for case in STORED["heads"][:2]:
            head = msgspec.convert(plain(case["fields"]), Head)
            item = head_item(
                head.owner,
                head.resource,
                head.vector,
                head.clock,
                head.device,
                head.wall_ns,
                None if head.tombstone else plain(case["data"]),
            )
            self.assertEqual((item.key.element, item.statement), (plain(case["leaf"]), plain(case["statement"])))
