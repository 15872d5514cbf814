"""There is one of us: what a host does about others that have its key.

Two processes with one key are two copies of one data folder, or one that was
set back to an earlier day.  Others cannot tell them apart but by incarnation
and address, and would find now the one and now the other.  So whoever hears
of a host with its own key at another place looks there itself:

- Nobody with our key answers: the place is an old one of ours.  If it was
  known with an incarnation as high as ours, our folder is older than what the
  ring remembers; we take a higher one, on disk before anybody hears of it.
- Somebody does: one of the two has to end.  A member stays and a newcomer
  ends; among equals the lower incarnation ends, and then the lower address.
  Both come to the same result, each by itself.

Whoever ends says so plainly and touches nothing that it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from peerstore import ids
from peerstore.errors import KeyInUse, PeerError, RemoteError
from peerstore.ring.claims import MAX_INCARNATION, Claim
from peerstore.wire import bodies
from peerstore.wire.session import Greeting

if TYPE_CHECKING:
    from peerstore.ring.host import RingHost

__all__ = ["Identity", "Keep"]

TIMEOUT = 3.0
#: A place where nobody was is not looked at again for so long (s).
LOOK_AGAIN = 30.0
#: Further along the same life a host outranks one that is not.
RANKS = {"JOINING": 1, "MEMBER": 2}

#: Makes a new incarnation durable; the Deferred fires when it is.
Keep = Callable[[int], "Deferred[None]"]


class _Twin(NamedTuple):
    """A host with our key; the greater one stays."""

    rank: int
    incarnation: int
    address: str


class Identity:
    """Settles what others claim of us.

    :param host: ours.
    :param keep: makes an incarnation durable.
    """

    _log = Logger()

    def __init__(self, host: RingHost, keep: Keep) -> None:
        self._host = host
        self._keep = keep
        self._empty: dict[str, float] = {}

    async def check(self) -> None:
        """Look into every claim that came in since the last time."""
        for claim in self._host.hosts.take_claims():
            if not self._host.serving:
                return
            await self._look_into(claim)

    async def _look_into(self, claim: Claim) -> None:
        own = self._own()
        if claim.address != own.addresses[0]:
            now = self._host.clock.seconds()
            recently = now < self._empty.get(claim.address, 0.0)
            if recently and claim.incarnation < own.incarnation:
                return
            twin = await self._at(claim.address)
            if twin is not None:
                self._meet_twin(twin)
                return
            self._empty = {at: until for at, until in self._empty.items() if until > now}
            self._empty[claim.address] = now + LOOK_AGAIN
        if self._host.serving and claim.incarnation >= self._own().incarnation:
            await self._outlive(claim.incarnation)

    async def _at(self, address: str) -> _Twin | None:
        """Who with our key is there, if it is not ourselves."""
        try:
            self._host.pool.forget_backoff(address)
            peer = await self._host.pool.peer(address, self._host.fp)
            pong: bodies.Pong = await peer.call("ping", bodies.Ping(), TIMEOUT)
        except (PeerError, RemoteError):
            return None
        greeting: Greeting = peer.greeting
        twin = _Twin(RANKS.get(pong.status, 0), pong.incarnation, greeting.address or address)
        own = self._own()
        # An address that we had before may still lead to us.
        ourselves = (twin.incarnation, twin.address) == (own.incarnation, own.addresses[0])
        return None if ourselves or not twin.rank else twin

    def _meet_twin(self, twin: _Twin) -> None:
        own = self._own()
        if twin < _Twin(RANKS.get(self._host.status, 0), own.incarnation, own.addresses[0]):
            self._log.warn(
                "a second node with our key {fp} is at {address}, and will end: two data folders are copies of one",
                fp=ids.short(self._host.fp),
                address=twin.address,
            )
            return
        self._host.give_up(
            KeyInUse(
                f"Another node with this node's key is at work at {twin.address}. "
                "This one ends, and what it holds is kept.",
                "Two data folders are copies of one. Stop that node before you start this one, or give this one "
                "a data folder of its own.",
            )
        )

    async def _outlive(self, incarnation: int) -> None:
        """The ring remembers a later start of ours than we do."""
        higher = incarnation + 1
        if higher >= MAX_INCARNATION:
            return
        self._log.warn(
            "the ring remembers start {theirs} of this node, and the data folder start {ours}: is it an older copy?",
            theirs=incarnation,
            ours=self._own().incarnation,
        )
        await self._keep(higher)
        self._host.hosts.set_own(msgspec.structs.replace(self._own(), incarnation=higher))
        self._host.changed()

    def _own(self) -> bodies.HostRecord:
        own = self._host.hosts.record(self._host.fp)
        assert own is not None, "a host knows itself"
        return own
