"""Statements: their id, their form, and what this version refuses."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore.crypto import statements
from peerstore.crypto.statements import StatementType, decode_exactly, leaf, pack_statement, unpack_statement
from peerstore.errors import BadMessage
from tests.support.properties import check


def packed(*fields: Any) -> bytes:
    """An array, packed."""
    return msgspec.msgpack.encode(fields)


class LeafTests(SynchronousTestCase):
    """A statement's id."""

    def test_it_is_the_hash_of_type_and_body(self) -> None:
        """SHA-256(00 || u16 type || body)."""
        self.assertEqual(leaf(0x0102, b"body"), hashlib.sha256(b"\x00\x01\x02body").digest())

    def test_the_type_is_part_of_it(self) -> None:
        """One body as two types is two statements."""
        self.assertEqual(len({leaf(kind, b"body") for kind in StatementType}), len(StatementType))

    def test_a_leaf_is_no_node_of_a_tree(self) -> None:
        """Its first byte says so: inner nodes of a batch begin with 01."""
        self.assertNotEqual(leaf(0, b""), hashlib.sha256(b"\x01\x00\x00").digest())

    def test_the_numbers_of_types(self) -> None:
        """They are signed, so they never change."""
        self.assertEqual(
            {kind.name: int(kind) for kind in StatementType},
            {"CHUNK": 1, "HEAD": 2, "LOG_ENTRY": 3, "NODE": 4, "USER": 5},
        )


class FormTests(SynchronousTestCase):
    """[type, body, index, count, path, signature]."""

    @check(st.sampled_from(StatementType), st.binary(max_size=300))
    def test_round_trip(self, kind: StatementType, body: bytes) -> None:
        """Any body of any type."""
        self.assertEqual(unpack_statement(pack_statement(kind, body), kind), body)

    def test_an_unsigned_one_is_a_batch_of_one(self) -> None:
        """Number 0 of 1, without path and signature."""
        self.assertEqual(pack_statement(2, b"body"), packed(2, b"body", 0, 1, (), b""))

    def test_another_type_than_expected(self) -> None:
        """A chunk's claim is no head."""
        for kind in StatementType:
            for other in StatementType:
                if other != kind:
                    self.assertRaises(BadMessage, unpack_statement, pack_statement(kind, b"x"), other)

    def test_a_proof_that_nobody_checks_is_refused(self) -> None:
        """Or it would be taken for proven."""
        for index, count, path, signature in (
            (1, 2, (), b""),
            (0, 2, (), b""),
            (0, 0, (), b""),
            (1, 1, (), b""),
            (-1, 1, (), b""),
            (0, 1, (bytes(32),), b""),
            (0, 1, (), b"signature"),
        ):
            self.assertRaises(BadMessage, unpack_statement, packed(1, b"x", index, count, path, signature), 1)

    def test_a_body_that_is_too_large(self) -> None:
        """Larger than any frame could carry."""
        self.patch(statements, "MAX_BODY", 10)
        self.assertEqual(unpack_statement(pack_statement(1, bytes(10)), 1), bytes(10))
        self.assertRaises(BadMessage, unpack_statement, pack_statement(1, bytes(11)), 1)


class ShortestFormTests(SynchronousTestCase):
    """One value, one encoding."""

    def test_longer_encodings_of_the_same(self) -> None:
        """Wider numbers, wider lengths, wider arrays, fields left out."""
        good = pack_statement(1, b"a")
        self.assertEqual(good, b"\x96\x01\xc4\x01a\x00\x01\x90\xc4\x00")
        for raw in (
            b"\x96\xcc\x01\xc4\x01a\x00\x01\x90\xc4\x00",
            b"\x96\x01\xc5\x00\x01a\x00\x01\x90\xc4\x00",
            b"\x96\x01\xc4\x01a\xd0\x00\x01\x90\xc4\x00",
            b"\x96\x01\xc4\x01a\x00\x01\xdc\x00\x00\xc4\x00",
            b"\xdc\x00\x06\x01\xc4\x01a\x00\x01\x90\xc4\x00",
            b"\x95\x01\xc4\x01a\x00\x01\x90",
            b"\x92\x01\xc4\x01a",
        ):
            with self.assertRaises(BadMessage, msg=raw.hex()):
                unpack_statement(raw, 1)

    def test_other_types_than_declared(self) -> None:
        """Text for bytes, a float or a truth value for a number, nil, a map."""
        for raw in (
            packed(1, "a", 0, 1, (), b""),
            packed(1.0, b"a", 0, 1, (), b""),
            packed(True, b"a", 0, 1, (), b""),
            packed(None, b"a", 0, 1, (), b""),
            packed(1, b"a", 0, 1, (b"x", "y"), b""),
            packed(1, b"a", 0, 1, (), b"", 0),
            msgspec.msgpack.encode({"type": 1}),
            b"",
            b"\xc1",
            pack_statement(1, b"a") + b"\0",
        ):
            with self.assertRaises(BadMessage, msg=raw.hex()):
                unpack_statement(raw, 1)

    def test_nesting_without_end(self) -> None:
        """Does not exhaust the stack."""
        for raw in (b"\x91" * 200_000, b"\x96\x01\xc4\x01a\x00\x01" + b"\x91" * 200_000):
            self.assertRaises(BadMessage, unpack_statement, raw, 1)

    @check(st.binary(max_size=40))
    def test_garbage(self, raw: bytes) -> None:
        """Refused, or what encodes to the same bytes."""
        try:
            body = unpack_statement(raw, 1)
        except BadMessage:
            return
        self.assertEqual(pack_statement(1, body), raw)

    def test_errors_name_the_thing(self) -> None:
        """And say what is wrong with it."""
        decoder = msgspec.msgpack.Decoder(int, strict=True)
        with self.assertRaises(BadMessage) as caught:
            decode_exactly(decoder, b"\xcc\x01", "a number")
        self.assertIn("a number", caught.exception.what)
        self.assertEqual(decode_exactly(decoder, b"\x01", "a number"), 1)
