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
from peerstore.crypto.statements import StatementType, leaf, pack_statement, unpack_statement
from peerstore.errors import BadMessage
from peerstore.items import Item, ItemKey, Kind

__all__ = ["Head", "MovedFrom", "Recipient", "Version", "decode_head", "head_item", "newest", "replaces", "winner"]

MAX_DEVICES = 1024
MAX_RECIPIENTS = 1024
MAX_STATEMENT = 256 * 1024


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

    *wall_ns* is shown to people and never orders anything; *commitment* and
    *recipients* are empty while nothing is sealed; *manifest* is SHA-256 of
    the manifest blob, empty for a tombstone.
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
        owner, resource, vector, clock, device, wall_ns, moved_from, NO_EPOCH, b"", (), digest, manifest is None
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
    try:
        head = _heads.decode(body)
    except msgspec.DecodeError as error:
        raise BadMessage(f"a head cannot be read: {error}.") from error
    key = item.key
    if head.owner != key.owner or head.resource != key.ring_id or leaf(StatementType.HEAD, body) != key.element:
        raise BadMessage("a head is stored under another's name.")
    devices = [device for device, _ in head.vector]
    if devices != sorted(set(devices)) or not 0 < len(devices) <= MAX_DEVICES:
        raise BadMessage("a head's version vector is not in order.")
    if any(len(device) != 16 or not 0 < count < 1 << 63 for device, count in head.vector):
        raise BadMessage("a head's version vector has entries out of range.")
    if head.device not in devices or not 0 <= head.clock < 1 << 63 or len(head.recipients) > MAX_RECIPIENTS:
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
    every = [distinct[key] for key in sorted(distinct)]
    kept = [a for a in every if not any(replaces(b, a) for b in every)]
    return sorted(kept, key=_precedence, reverse=True)


def winner(versions: Iterable[Version]) -> Version | None:
    """The version that has the name: file before tombstone, then the highest
    (clock, device, id).  None when there is no version."""
    kept = newest(versions)
    return kept[0] if kept else None


def _precedence(version: Version) -> tuple[bool, int, bytes, bytes]:
    head = version.head
    return (not head.tombstone, head.clock, head.device, version.id)
