"""``peerstore ring``: who is on the ring, and whether it is as it should be."""

from __future__ import annotations

from typing import Any, NamedTuple

import click
from rich.text import Text
from twisted.internet.defer import Deferred, gatherResults

from peerstore import ids
from peerstore.cli.context import Options, Verb, peer_option, with_client
from peerstore.cli.output import out, print_json
from peerstore.client.assemble import OpenClient
from peerstore.errors import PeerError, RemoteError
from peerstore.ring.hosts import HostTable
from peerstore.ring.member import Member
from peerstore.wire import bodies

__all__ = ["ring"]

WIDTH = 64


class Seen(NamedTuple):
    """One position and what it says of its neighbours, as ring ids."""

    member: Member
    predecessor: int | None
    successors: tuple[int, ...]


async def look_around(opened: OpenClient) -> list[Seen]:
    """Ask every position of every host that can be reached."""
    hosts: HostTable = opened.hosts

    async def one(member: Member) -> Seen | None:
        try:
            answer: bodies.Neighbours = await opened.pool.call(
                member.address, "get-neighbours", bodies.GetNeighbours(member.index), 3.0, member.fp
            )
        except (PeerError, RemoteError):
            return None
        before = hosts.member(answer.predecessor) if answer.predecessor is not None else None
        behind = tuple(entry.id for entry in hosts.members(answer.successors))
        return Seen(member, before.id if before else None, behind)

    found = await gatherResults([Deferred.fromCoroutine(one(member)) for member in hosts.ring()])
    return [seen for seen in found if seen is not None]


def is_ideal(seen: list[Seen]) -> bool:
    """Whether every member knows just those that follow it, and the one
    before it."""
    members = sorted(place.member.id for place in seen)
    where = {member: place for place, member in enumerate(members)}
    for place in seen:
        at = where[place.member.id]
        following = tuple(members[(at + step) % len(members)] for step in range(1, len(members)))
        if place.successors != following[: len(place.successors)]:
            return False
        if len(members) > 1 and (not place.successors or place.predecessor != members[at - 1]):
            return False
    return bool(seen)


@click.command(cls=Verb)
@peer_option
@click.pass_obj
def ring(options: Options, peers: tuple[str, ...]) -> None:
    """Show the ring: its hosts, and where they sit."""

    async def work(opened: OpenClient) -> int:
        seen = await look_around(opened)
        ideal = is_ideal(seen)
        shares = _shares(seen)
        rows = []
        for fp in sorted({place.member.fp for place in seen}):
            places = [place.member for place in seen if place.member.fp == fp]
            rows.append((fp, places, shares[fp]))
        if options.as_json:
            print_json({"ideal": ideal, "positions": len(seen), "hosts": [_as_json(*row) for row in rows]})
            return 0
        for letter, (fp, places, share) in zip(_letters(), rows, strict=False):
            out.print(
                Text(f"  {letter}  {ids.short(fp)}  {places[0].address:28} {len(places)} positions  {share:5.1%}")
            )
        out.print(Text(picture(seen)))
        out.print(Text(f"{len(seen)} positions, {'in perfect order' if ideal else 'still settling'}"))
        return 0

    raise SystemExit(with_client(options, peers, work, writing=False, new_key=True))


def picture(seen: list[Seen]) -> str:
    """The ring, cut open at zero: whose range each stretch of it is."""
    fps = sorted({place.member.fp for place in seen})
    letter = dict(zip(fps, _letters(), strict=False))
    members = sorted(place.member for place in seen)
    line = []
    for cell in range(WIDTH):
        key = (2 * cell + 1) * ids.RING_SIZE // (2 * WIDTH)
        owner = next((member for member in members if member.id >= key), members[0]) if members else None
        line.append(letter[owner.fp] if owner else "?")
    return "  0 [" + "".join(line) + "] 2^160"


def _shares(seen: list[Seen]) -> dict[bytes, float]:
    """How much of the ring each host owns."""
    shares: dict[bytes, float] = {}
    members = sorted(place.member for place in seen)
    for at, member in enumerate(members):
        span = ids.distance(members[at - 1].id, member.id) or ids.RING_SIZE
        shares[member.fp] = shares.get(member.fp, 0.0) + span / ids.RING_SIZE
    return shares


def _letters() -> str:
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _as_json(fp: bytes, places: list[Member], share: float) -> dict[str, Any]:
    return {
        "fingerprint": fp.hex(),
        "address": places[0].address,
        "positions": [ids.to_bytes(place.id).hex() for place in sorted(places)],
        "share": round(share, 4),
    }
