"""What a storage node keeps: immutable elements of sets.

Nothing is ever overwritten.  The state of every key ``(ring id, owner, kind)``
is a *set* of elements, replicas merge by union, and two replicas that differ
are never in conflict, only behind.  What an element is depends on its kind:

=======  ==========================  ==========================  =================
kind     ring id                     element (32 bytes)          data
=======  ==========================  ==========================  =================
CHUNK    first 20 of the hash        SHA-256 of the data         the sealed chunk
HEAD     resource id                 leaf of the head            its manifest
LOG      SHA-1(SPKI, log label)      leaf of the entry           empty
RECORD   SHA-1(SPKI)                 leaf of the record          empty
=======  ==========================  ==========================  =================

``statement`` is the owner's packed statement (``crypto.statements``): for a
chunk the claim (owner, hash, length), for the others the thing itself.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

__all__ = ["ALL_KINDS", "Item", "ItemKey", "Kind"]


class Kind(IntEnum):
    """The four families of stored things; the numbers are a wire format."""

    CHUNK = 1
    HEAD = 2
    LOG = 3
    RECORD = 4


ALL_KINDS: tuple[Kind, ...] = tuple(Kind)


class ItemKey(msgspec.Struct, frozen=True, array_like=True, order=True, forbid_unknown_fields=True):
    """The name of one element: 20-byte ring id and owner, 32-byte element.

    Fields are in the order in which range digests sort them.
    """

    ring_id: bytes
    owner: bytes
    kind: Kind
    element: bytes

    def well_formed(self) -> bool:
        """Whether the lengths are right; the content is judged elsewhere."""
        return len(self.ring_id) == 20 and len(self.owner) == 20 and len(self.element) == 32


class Item(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One element with its owner's statement and its data."""

    key: ItemKey
    statement: bytes
    data: bytes

    @property
    def size(self) -> int:
        """Bytes that count towards the owner's quota."""
        return len(self.statement) + len(self.data)
