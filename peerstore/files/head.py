"""Heads: the record of one version of one path, immutable.

A head is a statement (``crypto.statements``) whose body is a msgpack array of
the fields of :class:`Head`, in order.  Its id is its leaf.  The manifest it
names by hash is stored beside it, as the item's data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from peerstore import vectors
from peerstore.crypto.secrets import NO_EPOCH
from peerstore.crypto.statements import StatementType, decode_exactly, leaf, pack_statement, unpack_statement
from peerstore.errors import BadMessage
from peerstore.items import Item, ItemKey, Kind

__all__ = ["Head", "MovedFrom", "Recipient", "Version", "decode_head", "head_item", "newest", "replaces", "winner"]

MAX_RECIPIENTS = 256
#: A file key wrapped for the largest key that is accepted.
MAX_WRAPPED = 512
MAX_STATEMENT = 256 * 1024
_LIMIT = 1 << 63


class Recipient(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Somebody else who may read: 20-byte id, fingerprint, wrapped file key."""

    id: bytes
    fp: bytes
    wrapped_key: bytes


class MovedFrom(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where the content was before it was renamed: resource and version."""

    resource: bytes
    version: bytes


class Head(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One version.  *owner* (20 bytes) comes first in everything stored.

    *device* is the 16-byte device that wrote it; *wall_ns* is shown to people
    and never orders anything; *epoch* is 16 bytes; *commitment* (32 bytes, to
    the file key), *salt* (32 bytes, for the manifest's key) and *recipients*
    (in the order of their fingerprints, without the owner) are empty while
    nothing is sealed; *manifest* is SHA-256 of the manifest blob, empty for a
    tombstone.
    """

    owner: bytes
    resource: bytes
    vector: vectors.Vector
    clock: int
    device: bytes
    wall_ns: int
    moved_from: MovedFrom | None
    epoch: bytes
    commitment: bytes
    salt: bytes
    recipients: tuple[Recipient, ...]
    manifest: bytes
    tombstone: bool


class Version(NamedTuple):
    """A head with its 32-byte id."""

    id: bytes
    head: Head


_heads = msgspec.msgpack.Decoder(Head, strict=True)


def head_item(
    owner: bytes,
    resource: bytes,
    vector: vectors.Vector,
    clock: int,
    device: bytes,
    wall_ns: int,
    manifest: bytes | None,
    moved_from: MovedFrom | None = None,
) -> Item:
    """A new version, ready to be posted; *manifest* None makes a tombstone."""
    blob = b"" if manifest is None else manifest
    digest = b"" if manifest is None else hashlib.sha256(blob).digest()
    head = Head(
        owner, resource, vector, clock, device, wall_ns, moved_from, NO_EPOCH, b"", b"", (), digest, manifest is None
    )
    body = msgspec.msgpack.encode(head)
    key = ItemKey(resource, owner, Kind.HEAD, leaf(StatementType.HEAD, body))
    return Item(key, pack_statement(StatementType.HEAD, body), blob)


def decode_head(item: Item) -> Version:
    """Check a head against its name and its manifest, and read it.

    :raises peerstore.errors.BadMessage: saying what does not fit.
    """
    if len(item.statement) > MAX_STATEMENT:
        raise BadMessage("a head is larger than a head can be.")
    body = unpack_statement(item.statement, StatementType.HEAD)
    head = decode_exactly(_heads, body, "a head")
    key = item.key
    if key.kind is not Kind.HEAD or (head.owner, head.resource) != (key.owner, key.ring_id):
        raise BadMessage("a head is stored in another's place.")
    if leaf(StatementType.HEAD, body) != key.element:
        raise BadMessage("a head is stored under another's name.")
    if not vectors.well_formed(head.vector) or head.device not in dict(head.vector):
        raise BadMessage("a head's version vector is not in order.")
    if not _sound(head):
        raise BadMessage("a head has fields out of range.")
    if head.tombstone:
        if head.manifest or item.data:
            raise BadMessage("a tombstone has content.")
    elif hashlib.sha256(item.data).digest() != head.manifest:
        raise BadMessage("a head's manifest is not the one it names.")
    return Version(key.element, head)


def replaces(a: Version, b: Version) -> bool:
    """Whether *a* was made by somebody who had seen *b*."""
    return a.head.vector != b.head.vector and vectors.covers(a.head.vector, b.head.vector)


def newest(versions: Iterable[Version]) -> list[Version]:
    """Those that no other replaces; more than one when edits crossed.

    In the order in which they get the name: the first keeps it.
    """
    distinct = {version.id: version for version in versions}
    # Those that have seen most come first: what replaces a version has seen
    # more, so it is kept by then, or something is that replaces it in turn.
    # Years of versions, each derived from the one before, cost one look each.
    kept: list[Version] = []
    for version in sorted(distinct.values(), key=_seen_by, reverse=True):
        if not any(replaces(newer, version) for newer in kept):
            kept.append(version)
    return sorted(kept, key=_precedence, reverse=True)


def winner(versions: Iterable[Version]) -> Version | None:
    """The version that has the name: file before tombstone, then the highest
    (clock, device, id).  None when there is no version."""
    kept = newest(versions)
    return kept[0] if kept else None


def _seen_by(version: Version) -> int:
    return sum(counter for _, counter in version.head.vector)


def _sound(head: Head) -> bool:
    """Whether every field is as long, and as large, as it may be."""
    moved, readers = head.moved_from, [recipient.fp for recipient in head.recipients]
    return (
        len(head.owner) == 20
        and len(head.resource) == 20
        and 0 <= head.clock < _LIMIT
        and 0 <= head.wall_ns < _LIMIT
        and (moved is None or (len(moved.resource) == 20 and len(moved.version) == 32))
        and len(head.epoch) == 16
        and len(head.commitment) in (0, 32)
        and len(head.salt) in (0, 32)
        and len(readers) <= MAX_RECIPIENTS
        and readers == sorted(set(readers))
        and all(
            len(one.id) == 20 and one.id != head.owner and len(one.fp) == 32 and 0 < len(one.wrapped_key) <= MAX_WRAPPED
            for one in head.recipients
        )
    )


def _precedence(version: Version) -> tuple[bool, int, bytes, bytes]:
    head = version.head
    return (not head.tombstone, head.clock, head.device, version.id)
