"""What everybody in a ring has to agree on, as far as readers need it."""

from __future__ import annotations

from collections.abc import Callable

from peerstore.interfaces import IPeerPool
from peerstore.ring.member import Member

__all__ = ["DEFAULT_COPIES", "RingSettings"]

DEFAULT_COPIES = 3


class RingSettings:
    """How many copies the ring keeps, and of how many hosts we know.

    A node knows the number of copies; a client learns it from the greeting of
    the first node that it reads from.

    :param copies: the number, or 0 to learn it.
    :param known_hosts: how many hosts have been heard of.
    """

    def __init__(self, pool: IPeerPool, copies: int, known_hosts: Callable[[], int]) -> None:
        self._pool = pool
        self._copies = copies
        self.known_hosts = known_hosts

    async def copies(self, member: Member | None = None) -> int:
        """The ring's number of copies; *member* is asked if it is not known.

        :raises peerstore.errors.PeerError: when the member cannot be asked.
        """
        if self._copies <= 0 and member is not None:
            peer = await self._pool.peer(member.address, member.fp)
            self._copies = int(peer.greeting.copies)
        return self._copies or DEFAULT_COPIES
