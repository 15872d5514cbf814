"""One ring member as this host sees it: a position of some host."""

from __future__ import annotations

import msgspec

from peerstore import ids
from peerstore.wire.bodies import PositionRef

__all__ = ["Member"]


class Member(msgspec.Struct, frozen=True, order=True):
    """A position whose ring id was computed from the key we know.

    *fp* has 32 bytes; *address* is an endpoint description.  Liveness,
    incarnation and address belong to the host, not to the position.
    """

    id: int
    fp: bytes
    index: int
    incarnation: int
    address: str

    @property
    def ref(self) -> PositionRef:
        """As it goes over the wire, without the id: nobody is told one."""
        return PositionRef(self.fp, self.index, self.incarnation, self.address)

    def __str__(self) -> str:
        return f"{ids.short(self.id)}/{self.index}@{self.address}"
