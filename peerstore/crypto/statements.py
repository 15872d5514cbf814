"""Statements: what an owner says, in a form that can be signed.

::

    [type, body, index, count, path, signature]

``body`` is packed msgpack.  A statement's id is its *leaf*,
SHA-256(00 || u16 type || body), and never depends on the signature, which
RSA-PSS makes different each time.  The rest proves the leaf's place in a
signed batch: number ``index`` of ``count``, with the ``path`` to the root
(tree shape as in RFC 6962), which together with the count is what is signed.
While statements are not signed, each is a batch of one without a signature.

Everything stored is packed in one way only: each number, length and array in
its shortest form, no field left out.  What decodes but does not encode to the
same bytes again is refused, so that equal things have equal names everywhere.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum
from typing import TypeVar

import msgspec

from peerstore.errors import BadMessage

__all__ = ["Statement", "StatementType", "decode_exactly", "leaf", "pack_statement", "unpack_statement"]

MAX_BODY = 4 * 1024 * 1024


class StatementType(IntEnum):
    """What a statement is about; the numbers are part of what is signed."""

    CHUNK = 1
    HEAD = 2
    LOG_ENTRY = 3
    NODE = 4
    USER = 5


class Statement(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One statement with its proof, which is empty for now."""

    type: int
    body: bytes
    index: int = 0
    count: int = 1
    path: tuple[bytes, ...] = ()
    signature: bytes = b""


_T = TypeVar("_T")
_decoder = msgspec.msgpack.Decoder(Statement, strict=True)


def decode_exactly(decoder: msgspec.msgpack.Decoder[_T], raw: bytes, what: str) -> _T:
    """The value in *raw*, if it is packed in the one way that we pack it.

    :param what: names the thing in errors, as in "a head".
    :raises peerstore.errors.BadMessage: when it is anything else.
    """
    try:
        value = decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadMessage(f"{what} cannot be read: {error}.") from error
    if msgspec.msgpack.encode(value) != raw:
        raise BadMessage(f"{what} is not packed in its shortest form.")
    return value


def leaf(kind: int, body: bytes) -> bytes:
    """The 32-byte id of a statement."""
    return hashlib.sha256(b"\x00" + kind.to_bytes(2, "big") + body).digest()


def pack_statement(kind: int, body: bytes) -> bytes:
    """A statement around a packed body."""
    return msgspec.msgpack.encode(Statement(int(kind), body))


def unpack_statement(raw: bytes, expected: int) -> bytes:
    """The body of a statement of the *expected* type.

    :raises peerstore.errors.BadMessage: when it is anything else.
    """
    statement = decode_exactly(_decoder, raw, "a statement")
    if statement.type != expected:
        raise BadMessage(f"a statement of type {statement.type} stands where {int(expected)} belongs.")
    if len(statement.body) > MAX_BODY:
        raise BadMessage("a statement is larger than a statement can be.")
    if statement.index or statement.count != 1 or statement.path or statement.signature:
        raise BadMessage("a statement carries a proof that this version does not know.")
    return statement.body
