"""One typed question to one member of the ring."""

from __future__ import annotations

from typing import TypeVar, cast

import msgspec
from twisted.internet.defer import Deferred

from peerstore.errors import PeerError, PeerStoreError, RemoteError
from peerstore.interfaces import IPeerPool
from peerstore.ring.member import Member
from peerstore.wire.messages import METHODS, Status

__all__ = ["BULK_TIMEOUT", "ask", "moved", "PASSING", "status_of"]

#: Seconds for what writes to disks or carries chunks.
BULK_TIMEOUT = 30.0

_S = TypeVar("_S", bound=msgspec.Struct)

#: Statuses that say "not here" or "not now", never "not at all".
PASSING = frozenset(
    {Status.BUSY, Status.NOT_RESPONSIBLE, Status.NOT_READY, Status.UNAVAILABLE, Status.INTERNAL, Status.LATER}
)


def ask(
    pool: IPeerPool, member: Member, method: str, body: msgspec.Struct, answer: type[_S], timeout: float
) -> Deferred[_S]:
    """Call *method* on the member's host; a Deferred of the *answer* type.

    Fails with a PeerError or a RemoteError.
    """
    assert METHODS[method].response is answer
    return cast("Deferred[_S]", pool.call(member.address, method, body, timeout, member.fp))


def moved(error: PeerStoreError) -> bool:
    """Whether the error says that our idea of the ring is out of date."""
    if isinstance(error, RemoteError):
        return error.status in (Status.NOT_RESPONSIBLE, Status.NOT_READY)
    return isinstance(error, PeerError)


def status_of(error: PeerStoreError) -> Status:
    """The status under which callers of the gateway see this error."""
    if isinstance(error, RemoteError) and error.status in Status._value2member_map_ and error.status:
        return Status(error.status)
    return Status.UNAVAILABLE
