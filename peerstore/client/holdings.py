"""Which of a file's chunks lie where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from twisted.internet.defer import Deferred

from peerstore import ids
from peerstore.errors import LookupFailed, PeerError, RemoteError
from peerstore.gateway.locate import Locator
from peerstore.interfaces import IPeerPool
from peerstore.ring.member import Member
from peerstore.ring.placement import replica_hosts
from peerstore.wire import bodies

__all__ = ["Holding", "holdings"]

#: Chunks asked for in one request.
BATCH = 4096
CALL_TIMEOUT = 5.0


class Holding(NamedTuple):
    """One chunk: its 32-byte hash, the hosts that are to keep it, and of
    those who has it and who did not answer.  No keepers: nobody was found."""

    hash: bytes
    keepers: tuple[Member, ...]
    present: frozenset[bytes]
    silent: frozenset[bytes]

    @property
    def lacking(self) -> list[Member]:
        """Keepers that said they do not have it."""
        return [member for member in self.keepers if member.fp not in self.present | self.silent]

    @property
    def everywhere(self) -> bool:
        """Whether all of its keepers have it."""
        return bool(self.keepers) and len(self.present) == len(self.keepers)


async def holdings(
    pool: IPeerPool, locator: Locator, copies: int, owner: bytes, hashes: Sequence[bytes]
) -> list[Holding]:
    """Ask the keepers of each chunk; one holding for each hash, in order.

    :param copies: the ring's k.
    :param owner: 20 bytes.
    """
    keepers: dict[bytes, tuple[Member, ...]] = {}
    wanted: dict[Member, list[bytes]] = {}
    for digest in dict.fromkeys(hashes):
        try:
            route = await locator.locate(ids.from_bytes(ids.chunk_ring_id(digest)))
        except LookupFailed:
            keepers[digest] = ()
            continue
        keepers[digest] = replica_hosts(route.members, copies)
    by_host: dict[bytes, Member] = {}
    for digest, members in keepers.items():
        for member in members:
            wanted.setdefault(by_host.setdefault(member.fp, member), []).append(digest)
    present: dict[bytes, set[bytes]] = {digest: set() for digest in keepers}
    silent: set[bytes] = set()

    async def ask(member: Member, batch: Sequence[bytes]) -> None:
        question = bodies.HaveChunks(owner, tuple(batch), 0)
        try:
            had: bodies.Had = await pool.call(member.address, "have-chunks", question, CALL_TIMEOUT, member.fp)
        except (PeerError, RemoteError):
            silent.add(member.fp)
            return
        for digest, there in zip(batch, had.present, strict=False):
            if there:
                present[digest].add(member.fp)

    asking = [
        Deferred.fromCoroutine(ask(member, digests[at : at + BATCH]))
        for member, digests in wanted.items()
        for at in range(0, len(digests), BATCH)
    ]
    for one in asking:
        await one
    found = []
    for digest in hashes:
        members = keepers[digest]
        quiet = frozenset(member.fp for member in members if member.fp in silent)
        found.append(Holding(digest, members, frozenset(present[digest]), quiet))
    return found
