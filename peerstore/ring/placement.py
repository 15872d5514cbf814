"""Which hosts keep what; pure."""

from __future__ import annotations

from collections.abc import Iterable

from peerstore.ring.member import Member

__all__ = ["needed", "replica_hosts"]


def replica_hosts(members: Iterable[Member], count: int) -> tuple[Member, ...]:
    """The first *count* distinct hosts, walking the ring from the owner on.

    :param members: the owner, then its successor list.  One host's further
        positions are passed by: two copies on one disk are one copy.
    """
    chosen: dict[bytes, Member] = {}
    for member in members:
        if len(chosen) >= count:
            break
        chosen.setdefault(member.fp, member)
    return tuple(chosen.values())


def needed(copies: int, hosts: int) -> int:
    """How many holders make a thing certain: W = floor(min(k, n) / 2) + 1.

    :param hosts: n, the hosts ever admitted and not retired; at least 1.
    """
    return min(copies, max(1, hosts)) // 2 + 1
