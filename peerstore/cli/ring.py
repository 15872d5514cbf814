"""``peerstore ring``: who is on the ring, and whether it is as it should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from peerstore import ids
from peerstore.cli.context import Options, Verb, peer_option, with_client
from peerstore.cli.output import ago, counted, paragraph, print_json, say, where
from peerstore.client.assemble import OpenClient
from peerstore.client.survey import HostSeen, Survey, survey
from peerstore.errors import PeerMismatch

__all__ = ["as_json", "as_text", "ring"]

#: Seconds after which it is no news any more who is whose neighbour.
SPREAD = 60
#: Cells of the picture.
CELLS = 64
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@click.command(cls=Verb, short_help="Show who is in the ring, and who is ill.")
@click.option("--ranges", is_flag=True, help="List each range, and who keeps what is in it.")
@peer_option
@click.pass_obj
def ring(options: Options, ranges: bool, peers: tuple[str, ...]) -> None:
    """Show the ring: its hosts, what each is responsible for, and who is ill.

    The exit status is 0 when all hosts that the ring knows answered, 1 when some did not.
    """

    async def work(opened: OpenClient) -> int:
        seen = await survey(opened.pool, opened.hosts, opened.clock)
        if options.as_json:
            print_json(as_json(seen))
        else:
            for line in as_text(seen, ranges):
                say(line)
        return 0 if seen.complete else 1

    raise SystemExit(with_client(options, peers, work, writing=False, new_key=True))


def as_text(seen: Survey, ranges: bool = False) -> list[str]:
    """The ring in lines of at most 80 columns.

    :param ranges: with a line for each range.
    """
    labels = _labels(seen)
    shares = seen.shares()
    lines = [_heading(seen), ""]
    lines += [_row(labels[host.fp], host, shares.get(host.fp)) for host in seen.hosts]
    lines += [picture(seen, labels), ""]
    if ranges:
        lines += [*_range_rows(seen, labels), ""]
    lines += [line for note in _notes(seen, labels) for line in paragraph(note)]
    return [*lines, *paragraph(_verdict(seen))]


def _labels(seen: Survey) -> dict[bytes, str]:
    """A letter for each host, and numbers where letters do not suffice."""
    return {host.fp: _LETTERS[at] if at < len(_LETTERS) else str(at + 1) for at, host in enumerate(seen.hosts)}


def _heading(seen: Survey) -> str:
    hosts, each = len(seen.hosts), {len(host.positions) for host in seen.hosts}
    positions = f" with {counted(each.pop(), 'position')}{' each' if hosts > 1 else ''}" if len(each) == 1 else ""
    if hosts > seen.copies:
        keepers = "one of them keeps" if seen.copies == 1 else f"{seen.copies} of them keep"
        keep = f"{keepers} each thing"
    else:
        keep = "it keeps everything" if hosts == 1 else "each of them keeps everything"
    return f"{counted(hosts, 'host')}{positions}; {keep}."


def _row(label: str, host: HostSeen, share: float | None) -> str:
    part = f"{share:6.1%}" if share is not None else ""
    return f"{label:>3}  {ids.short(host.fp)}  {where(host.address):21}  {part:>6}  {_state(host)}"


def _state(host: HostSeen) -> str:
    """What a host is at, in a few words."""
    if not host.answers:
        return "does not answer"
    if host.status == "LEAVING":
        return "is leaving"
    if not host.places:
        return "is joining"
    if len(host.places) < len(host.positions):
        return f"is joining, {len(host.places)} of {len(host.positions)} done"
    if host.syncing:
        return f"syncing {host.syncing} of {counted(len(host.places), 'range')}"
    return "synced"


def _notes(seen: Survey, labels: Mapping[bytes, str]) -> list[str]:
    """What is to be said of hosts that are not well: of several that are ill
    alike, once."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for host in seen.hosts:
        words = _ills(host, seen)
        if words is not None:
            kinds.setdefault(words, []).append(labels[host.fp])
    return [f"{_joined(alike)} {words[len(alike) > 1]}" for words, alike in kinds.items()]


def _ills(host: HostSeen, seen: Survey) -> tuple[str, str] | None:
    """What follows a host's name in a sentence, and what several names."""
    others = sum(other.answers for other in seen.hosts if other is not host)
    if host.answers:
        # News takes a while to get around.
        if host.status != "MEMBER" or host.listed_by or not others or (seen.quiet or 0) < SPREAD:
            return None
        rest = "here, but no other host has"
        return f"answers {rest} it as a neighbour.", f"answer {rest} them as neighbours."
    if isinstance(host.trouble, PeerMismatch):
        text = "cannot be asked: at that address another node answers."
        return text, text
    if not host.listed_by:
        rest = "not answer, and the others have left"
        return f"does {rest} it out. They go on looking for it.", f"do {rest} them out. They go on looking for them."
    still = f"{host.listed_by} of {counted(others, 'other')} still {'has' if host.listed_by == 1 else 'have'}"
    return f"does not answer, but {still} it as a neighbour.", f"do not answer, but {still} them as neighbours."


def _joined(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def picture(seen: Survey, labels: Mapping[bytes, str]) -> str:
    """The ring, cut open at zero: whose range each stretch of it is."""
    places = seen.places
    line = []
    for cell in range(CELLS):
        key = (2 * cell + 1) * ids.RING_SIZE // (2 * CELLS)
        owner = next((place for place in places if place.member.id >= key), places[0]) if places else None
        label = labels[owner.member.fp] if owner is not None else "?"
        line.append(label if len(label) == 1 else "#")
    return "  0 [" + "".join(line) + "] 2^160"


def _range_rows(seen: Survey, labels: Mapping[bytes, str]) -> list[str]:
    rows = ["  after     up to      share  kept by"]
    for one in seen.ranges():
        keepers = " ".join(labels.get(member.fp, "?") for member in one.keepers)
        syncing = f"  ({labels[one.place.member.fp]} is syncing it)" if one.place.syncing else ""
        rows.append(f"  {ids.short(one.after)}  {ids.short(one.through)}  {one.share:6.1%}  {keepers}{syncing}")
    return rows


def _verdict(seen: Survey) -> str:
    """How it stands, and since when."""
    places = counted(len(seen.places), "position")
    if seen.ideal:
        order = f"{places}, in perfect order."
    elif seen.disorder:
        do = "does not have its" if seen.disorder == 1 else "do not have their"
        order = f"{places}, still settling: {seen.disorder} of them {do} neighbours right yet."
    else:
        order = f"{places}, still settling."
    return order if seen.quiet is None else f"{order} The last change was {ago(seen.quiet)}."


def as_json(seen: Survey) -> dict[str, Any]:
    """The ring as one document; docs/operations.md explains the fields."""
    shares = seen.shares()
    return {
        "ideal": seen.ideal,
        "complete": seen.complete,
        "positions": len(seen.places),
        "copies": seen.copies,
        "last_change": seen.quiet,
        "hosts": [_host_json(host, shares.get(host.fp)) for host in seen.hosts],
        "ranges": _ranges_json(seen),
    }


def _host_json(host: HostSeen, share: float | None) -> dict[str, Any]:
    return {
        "fingerprint": host.fp.hex(),
        "address": host.address,
        "answers": host.answers,
        "trouble": host.trouble.what if host.trouble is not None else None,
        "status": host.status.lower() if host.answers else None,
        "latency_ms": round(host.latency * 1000, 3) if host.answers else None,
        "last_change": host.quiet if host.answers else None,
        "syncing": host.syncing if host.answers else None,
        "listed_by": host.listed_by,
        "positions": sorted(ids.to_bytes(member.id).hex() for member in host.positions),
        "share": round(share, 4) if share is not None else None,
    }


def _ranges_json(seen: Survey) -> Sequence[dict[str, Any]]:
    return [
        {
            "after": ids.to_bytes(one.after).hex(),
            "through": ids.to_bytes(one.through).hex(),
            "fingerprint": one.place.member.fp.hex(),
            "share": round(one.share, 6),
            "syncing": one.place.syncing,
            "keepers": [member.fp.hex() for member in one.keepers],
        }
        for one in seen.ranges()
    ]
