"""``peerstore trace``: the way to a key, and who has what is kept there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import click

from peerstore import ids
from peerstore.cli.context import Options, Verb, given, peer_option, with_client
from peerstore.cli.output import counted, human, milliseconds, paragraph, print_json, say, text_of, where
from peerstore.cli.restore import place_of
from peerstore.client.assemble import OpenClient
from peerstore.client.holdings import Holding, holdings
from peerstore.client.source import show
from peerstore.client.trace import Holder, Hop, Trace
from peerstore.client.trace import trace as follow
from peerstore.errors import Incomplete, LookupFailed, NotFound, UsageError
from peerstore.files.manifest import Manifest, NodeKind
from peerstore.items import Kind
from peerstore.transactions.view import PathVersion

__all__ = ["Subject", "as_json", "as_text", "is_id", "status_of", "trace"]

_ID = re.compile(r"[0-9a-fA-F]{40}|[0-9a-fA-F]{64}")
SILENT = "does not answer"
#: Lines about chunks that are not where they should be.
ALIKE = 5
_WORDS = {Kind.CHUNK: ("chunk", ""), Kind.HEAD: ("version", ""), Kind.LOG: ("log entry", "log entries")}


class Subject(NamedTuple):
    """What is looked for: a key, or the newest *version* of a file; then
    *manifest* and *chunks* say what its content is and where that lies, as
    far as they could be had."""

    key: bytes
    version: PathVersion | None = None
    manifest: Manifest | None = None
    chunks: tuple[Holding, ...] = ()

    @property
    def name(self) -> str:
        """NAME/path as a person writes it."""
        assert self.version is not None
        path = self.version.name.path
        return f"{self.version.name.folder}/{show(path)}" if path else self.version.name.folder

    @property
    def is_file(self) -> bool:
        """Whether it is a file's version."""
        return self.version is not None and self.version.name.kind == NodeKind.FILE


def is_id(text: str) -> bool:
    """Whether a KEY is meant as an id rather than a path: 40 hex digits, a
    place on the ring, or 64, what lies there."""
    return _ID.fullmatch(text) is not None


@click.command(cls=Verb)
@click.argument("wanted", metavar="KEY", type=given)
@peer_option
@click.pass_obj
def trace(options: Options, wanted: str, peers: tuple[str, ...]) -> None:
    """Follow the way to KEY, and ask who has what is kept there.

    KEY is the NAME/PATH of something that is stored, or the local path that was backed up; or an id of 40 hex digits (a
    place on the ring) or 64 (a chunk's hash), which is never taken for a path: to name a folder of such a name, add a
    slash.

    The exit status is 0 when all that keep it have all of it, 1 when some lack something or do not answer, 4 when
    there is nothing.
    """
    starts = options.peers(peers)

    async def work(opened: OpenClient) -> int:
        if is_id(wanted):
            subject = Subject(bytes.fromhex(wanted)[: ids.ID_BYTES])
        else:
            subject = await _subject(options, opened, wanted)
        found = await follow(opened.pool, opened.clock, starts, ids.from_bytes(subject.key))
        if subject.manifest is not None and found.located is not None:
            hashes = [chunk.hash for chunk in subject.manifest.chunks]
            client = opened.client
            where_it_is = await holdings(opened.pool, client.gateway.locator, found.copies, client.owner, hashes)
            subject = subject._replace(chunks=tuple(where_it_is))
        if options.as_json:
            print_json(as_json(subject, found))
        else:
            for line in as_text(subject, found):
                say(line)
        return status_of(subject, found)

    raise SystemExit(with_client(options, peers, work, writing=False, new_key=is_id(wanted)))


async def _subject(options: Options, opened: OpenClient, text: str) -> Subject:
    client = opened.client
    place, _ = await place_of(options, opened, text)
    version = client.view.current(place.folder, place.path)
    if version is None:
        raise UsageError(f"{text} has nothing of its own in the ring.", f"Name what is in it: peerstore ls {text}")
    manifest = None
    if version.name.kind == NodeKind.FILE:
        try:
            manifest = (await client.manifest(version)).manifest
        except (NotFound, Incomplete, LookupFailed):
            # That is what we are about to show.
            manifest = None
    return Subject(version.resource, version, manifest)


def status_of(subject: Subject, found: Trace) -> int:
    """The exit status; see the command."""
    if found.located is None:
        return 3
    voting, needed = found.votes
    if not found.keys and all(holder.keys is not None for holder in found.keepers) and voting >= needed:
        return 4
    whole = bool(found.keys) and all(_has_all(subject, found, holder) for holder in found.keepers)
    if subject.is_file and subject.manifest is None:
        return 1
    return 0 if whole and all(chunk.everywhere for chunk in subject.chunks) else 1


def _has_all(subject: Subject, found: Trace, holder: Holder) -> bool:
    if subject.version is not None and not _has(subject.version, holder):
        return False
    return holder.keys is not None and not found.keys - holder.keys


def _has(version: PathVersion, holder: Holder) -> bool:
    return any(key.element == version.version for key in holder.keys or ())


# -- text -----------------------------------------------------------------------


def as_text(subject: Subject, found: Trace) -> list[str]:
    """The way and its end in lines of at most 80 columns."""
    lines = _title(subject)
    lines += ["", "The way there:"]
    lines += [_hop_line(number, hop) for number, hop in enumerate(found.hops, 1)]
    if found.located is None:
        why = found.error.what if found.error is not None else "Nobody claims it."
        return [*lines, "", *paragraph(f"The way ends there. {why} Try again in a moment.")]
    others = [holder for holder in found.holders if not holder.keeper and holder.keys]
    number = len(found.keepers)
    lines += ["", f"Its keepers, the first {counted(number, 'host')} from there:" if number > 1 else "Its keeper:"]
    lines += [_holder_line(subject, found, holder) for holder in found.keepers]
    if others:
        lines += ["", "Beyond them, because they were full or the ring has changed:"]
        lines += [_holder_line(subject, found, holder) for holder in others]
    lines += ["", *paragraph(f"{_sum(subject, found)} {_vote(found)}")]
    return lines + [line for text in _content(subject) for line in paragraph(text)]


def _title(subject: Subject) -> list[str]:
    if subject.version is None:
        return [f"Key {subject.key.hex()}"]
    version = subject.version
    return [
        *paragraph(subject.name),
        f"key {subject.key.hex()}, version {ids.short(version.version)}",
    ]


def _hop_line(number: int, hop: Hop) -> str:
    who = ids.short(hop.fp) if hop.fp is not None else "?"
    return f"{number:>3}  {who:8}  {where(hop.address):21}  {milliseconds(hop.latency):>7}  {_hop_words(hop)}"


def _hop_words(hop: Hop) -> str:
    if hop.error is not None:
        return SILENT
    if hop.owns and hop.after is not None and hop.position is not None:
        through = hop.position.id
        whole = hop.after == through
        return "claims the whole ring" if whole else f"claims {ids.short(hop.after)}…{ids.short(through)}"
    if hop.named:
        return f"sends on to {ids.short(hop.named[0].fp)}"
    return "knows nobody nearer"


def _holder_line(subject: Subject, found: Trace, holder: Holder) -> str:
    latency = milliseconds(holder.latency) if holder.keys is not None else ""
    start = f"{'':3}  {ids.short(holder.member.fp)}  {where(holder.member.address):21}  {latency:>7}  "
    return start + _holder_words(subject, found, holder)


def _holder_words(subject: Subject, found: Trace, holder: Holder) -> str:
    if holder.keys is None:
        return SILENT
    said = _has_words(subject, holder)
    lacks = len(found.keys - holder.keys)
    if lacks and holder.keys and subject.version is None:
        said += f", lacks {lacks}"
    return said + (", syncing" if holder.syncing else "")


def _has_words(subject: Subject, holder: Holder) -> str:
    if subject.version is not None:
        further = holder.count(Kind.HEAD) - _has(subject.version, holder)
        more = f"{counted(further, 'other version')}" if further else ""
        if _has(subject.version, holder):
            return "has it" + (f", and {more}" if more else "")
        return f"lacks it, has {more}" if more else "does not have it"
    things = [counted(holder.count(kind), *names) for kind, names in _WORDS.items() if holder.count(kind)]
    return f"has {' and '.join(things)}" if things else "has nothing there"


def _sum(subject: Subject, found: Trace) -> str:
    """How many have it, in one sentence."""
    keepers = found.keepers
    silent = sum(holder.keys is None for holder in keepers)
    have = sum(_has_all(subject, found, holder) for holder in keepers)
    quiet = f" {counted(silent, 'keeper')} did not answer." if silent else ""
    if not found.keys:
        return f"Nothing is stored there, as far as those who answered know.{quiet}"
    if have == len(keepers):
        return "Each of them has all of it." if have > 1 else "It has all there is."
    return f"{have} of {counted(len(keepers), 'keeper')} {'has' if have == 1 else 'have'} all of it.{quiet}"


def _vote(found: Trace) -> str:
    """Whether what they say together counts."""
    votes, needed = found.votes
    if votes >= needed:
        return ""
    few = "None of them votes" if not votes else f"{votes} of them {'votes' if votes == 1 else 'vote'}"
    return f"{few} on it just now, and {needed} must: until then what they say is no proof of what is missing."


def _content(subject: Subject) -> Iterator[str]:
    """Where a file's chunks are, in a line where all is well."""
    if not subject.is_file:
        return
    if subject.manifest is None:
        yield "Its content: nobody who answers could say what it consists of."
        return
    size = human(subject.manifest.size)
    if not subject.chunks:
        yield f"Its content: {size}, kept in the version itself."
        return
    chunks = subject.chunks
    ill = [chunk for chunk in chunks if not chunk.everywhere]
    fine = "each" if not ill else f"{len(chunks) - len(ill) or 'none'} of them"
    keepers = "its keepers" if not ill else "their keepers"
    yield f"Its content: {size} in {counted(len(chunks), 'chunk')}, {fine} on all of {keepers}."
    for chunk in ill[:ALIKE]:
        yield _chunk_line(chunk)
    if len(ill) > ALIKE:
        yield f"  {len(ill) - ALIKE} more are not on all of their keepers (--json names all)."


def _chunk_line(chunk: Holding) -> str:
    if not chunk.keepers:
        return f"  {ids.short(chunk.hash)}: its keepers could not be found."
    name = f"  {ids.short(chunk.hash)} is on {len(chunk.present)} of {counted(len(chunk.keepers), 'keeper')}"
    lacking = " and ".join(ids.short(member.fp) for member in chunk.lacking)
    silent = " and ".join(ids.short(fp) for fp in sorted(chunk.silent))
    why = [f"{lacking} {'lacks' if len(chunk.lacking) == 1 else 'lack'} it"] if lacking else []
    why += [f"{silent} {'does' if len(chunk.silent) == 1 else 'do'} not answer"] if silent else []
    return f"{name}: {', '.join(why)}." if why else f"{name}."


# -- JSON -----------------------------------------------------------------------


def as_json(subject: Subject, found: Trace) -> dict[str, Any]:
    """The same as one document; docs/operations.md explains the fields."""
    votes, needed = found.votes
    document: dict[str, Any] = {
        "votes": votes,
        "needed": needed if found.holders else None,
        "key": subject.key.hex(),
        "copies": found.copies or None,
        "owner": None,
        "hops": [_hop_json(hop) for hop in found.hops],
        "holders": [_holder_json(found, holder) for holder in found.holders],
        "error": found.error.what if found.error is not None else None,
    }
    if found.located is not None:
        after = found.located.predecessor_id
        owner = found.located.owner
        document["owner"] = {
            "fingerprint": owner.fp.hex(),
            "address": owner.address,
            "after": ids.to_bytes(owner.id if after is None else after).hex(),
            "through": ids.to_bytes(owner.id).hex(),
        }
    if subject.version is not None:
        name = subject.version.name
        document |= {
            "folder": name.folder,
            "path": text_of(name.path),
            "version": subject.version.version.hex(),
            "bytes": name.size,
            "chunks": _chunks_json(subject),
        }
    return document


def _hop_json(hop: Hop) -> dict[str, Any]:
    return {
        "address": hop.address,
        "fingerprint": hop.fp.hex() if hop.fp is not None else None,
        "latency_ms": round(hop.latency * 1000, 3),
        "error": hop.error.what if hop.error is not None else None,
        "position": ids.to_bytes(hop.position.id).hex() if hop.position is not None else None,
        "owns": hop.owns,
        "after": ids.to_bytes(hop.after).hex() if hop.after is not None else None,
        "named": [member.fp.hex() for member in hop.named],
    }


def _holder_json(found: Trace, holder: Holder) -> dict[str, Any]:
    answered = holder.keys is not None
    return {
        "fingerprint": holder.member.fp.hex(),
        "address": holder.member.address,
        "keeper": holder.keeper,
        "answers": answered,
        "error": holder.error.what if holder.error is not None else None,
        "syncing": holder.syncing,
        "latency_ms": round(holder.latency * 1000, 3) if answered else None,
        "chunks": holder.count(Kind.CHUNK) if answered else None,
        "versions": sorted(key.element.hex() for key in holder.keys or () if key.kind is Kind.HEAD),
        "entries": holder.count(Kind.LOG) if answered else None,
        "lacks": len(found.keys - holder.keys) if holder.keys is not None else None,
    }


def _chunks_json(subject: Subject) -> Sequence[dict[str, Any]] | None:
    if subject.manifest is None:
        return None
    return [
        {
            "hash": chunk.hash.hex(),
            "keepers": [member.fp.hex() for member in chunk.keepers],
            "holders": sorted(fp.hex() for fp in chunk.present),
            "silent": sorted(fp.hex() for fp in chunk.silent),
        }
        for chunk in subject.chunks
    ]
