"""``peerstore restore`` and ``peerstore get``."""

from __future__ import annotations

import os
import sys

import click

from peerstore.cli.context import Options, Verb, given, peer_option, with_client
from peerstore.cli.output import Meter, counted, human, print_json, say, say_lines, say_note, text_of
from peerstore.client.assemble import OpenClient
from peerstore.client.client import Client
from peerstore.client.names import Place, find_place
from peerstore.client.restore import Restore, RestoreReport
from peerstore.client.source import show
from peerstore.client.target import Target
from peerstore.errors import Incomplete, NotFound, UsageError
from peerstore.files.manifest import NodeKind
from peerstore.transactions.view import PathVersion

__all__ = ["get", "place_of", "read_log", "restore"]

BEHIND = "Too few nodes answered: this may not be the newest state."
UNKNOWN = "Whether there is {name!r} in the ring is not known: too few nodes answered."
STRANGE = "The ring does not have what this computer stored in it: it is another ring, or has lost it. Check --peer."


async def read_log(options: Options, opened: OpenClient) -> bool:
    """Whether the newest state is known; said aloud when it is not."""
    client = opened.client
    complete = await client.refresh()
    if not options.as_json:
        if not complete:
            say_note(BEHIND)
        if not client.known_there:
            say_note(STRANGE)
    return complete and client.known_there


async def place_of(options: Options, opened: OpenClient, text: str) -> tuple[Place, bool]:
    """(what a person meant, whether the newest state is known).

    :raises peerstore.errors.NotFound: when it is known that there is no such thing.
    :raises peerstore.errors.Incomplete: when too few nodes answered to know that.
    """
    complete = await read_log(options, opened)
    client = opened.client
    sources = await client.database.run(client.state.metas, "source:")
    try:
        return find_place(text, client.view, sources), complete
    except NotFound as error:
        if complete:
            raise
        raise Incomplete(
            UNKNOWN.format(name=show(os.fsencode(text))),
            "Start the nodes that are down, or name others with --peer; then try again.",
        ) from error


_force = click.option("--force", is_flag=True, help="Replace files that are there and different.")
_dry_run = click.option("--dry-run", "-n", is_flag=True, help="Only say what would be written.")


@click.command(cls=Verb)
@click.argument("name", metavar="NAME[/PATH]", type=given)
@click.option("--to", "to", metavar="DIR", type=given, help="Where to write [the place it was backed up from].")
@_force
@_dry_run
@peer_option
@click.pass_obj
def restore(options: Options, name: str, to: str | None, force: bool, dry_run: bool, peers: tuple[str, ...]) -> None:
    """Give a folder back, whole, or what is at a PATH in it.

    NAME/PATH may also be the local path that was backed up. Files that are there already and equal are left alone.
    """

    async def work(opened: OpenClient) -> int:
        place, complete = await place_of(options, opened, name)
        version = _file(opened.client, place)
        if to is not None:
            where = _local(to)
            root, last = (where, os.path.basename(place.path)) if version else (where, b"")
        else:
            root, last = await _source(opened.client, place), b""
            if version:
                root, last = os.path.split(root)
        return await _give_back(options, opened, place, version, root, last, force, dry_run, complete)

    raise SystemExit(with_client(options, peers, work, writing=False))


@click.command(cls=Verb)
@click.argument("name", metavar="NAME/PATH", type=given)
@click.option(
    "--to",
    "to",
    metavar="DEST",
    type=given,
    help='Where to write: a name for it, a folder that is there to put a file into, or "-" for standard output '
    "[its own name, here].",
)
@_force
@_dry_run
@peer_option
@click.pass_obj
def get(options: Options, name: str, to: str | None, force: bool, dry_run: bool, peers: tuple[str, ...]) -> None:
    """Give one file back (or a folder, like restore).

    NAME/PATH may also be the local path that was backed up.
    """

    async def work(opened: OpenClient) -> int:
        place, complete = await place_of(options, opened, name)
        version = _file(opened.client, place)
        own = os.path.basename(place.path) or os.fsencode(place.folder)
        if to == "-":
            if version is None:
                raise UsageError(f"{name} is a folder, and standard output takes one file.", "Use --to DIR.")
            await opened.client.content(await opened.client.manifest(version), sys.stdout.buffer.write)
            sys.stdout.buffer.flush()
            return 0
        where = _local(to) if to is not None else own
        if version is None:
            return await _give_back(options, opened, place, None, where, b"", force, dry_run, complete)
        if os.path.isdir(where) or where.endswith(b"/"):
            where = os.path.join(where, own)
        root, last = os.path.split(where)
        return await _give_back(options, opened, place, version, root, last, force, dry_run, complete)

    raise SystemExit(with_client(options, peers, work, writing=False))


def _local(path: str) -> bytes:
    return os.fsencode(os.path.expanduser(path))


def _file(client: Client, place: Place) -> PathVersion | None:
    """The version at a place if that is a file or a link, not a folder."""
    version = client.view.current(place.folder, place.path)
    return version if version is not None and version.name.kind != NodeKind.FOLDER else None


async def _source(client: Client, place: Place) -> bytes:
    source: bytes | None = await client.database.run(client.state.meta, f"source:{place.folder}")
    if source is None:
        raise UsageError(f"{place.folder!r} was not backed up from this computer.", "Name a folder with --to.")
    return os.path.join(source, place.path) if place.path else source


async def _give_back(
    options: Options,
    opened: OpenClient,
    place: Place,
    version: PathVersion | None,
    root: bytes,
    last: bytes,
    force: bool,
    dry_run: bool,
    complete: bool,
) -> int:
    """Write one file as *last* into *root*, or a folder as *root* itself."""
    with Meter("restoring", options.quiet or options.as_json or dry_run) as meter:
        run = Restore(opened.client, Target(os.path.abspath(root), loosen=True), force, meter, dry_run)
        if version is not None:
            report = await run.run_one(version, last)
        else:
            report = await run.run(place.folder, place.path)
    where = os.path.join(root, last) if last else root
    if options.as_json:
        _tell_json(report, place, where, complete)
    else:
        _tell(options, report, where, one=version is not None)
    return 1 if report.problems else 0


def _tell_json(report: RestoreReport, place: Place, where: bytes, complete: bool) -> None:
    print_json(
        {
            "folder": place.folder,
            "path": text_of(place.path),
            "to": text_of(where),
            "files": report.files,
            "bytes": report.size,
            "written": report.written,
            "present": report.present,
            "problems": report.problems,
            "complete": complete,
            "dry_run": report.dry_run,
            "would_write": [text_of(path) for path in report.planned],
        }
    )


def _tell(options: Options, report: RestoreReport, where: bytes, one: bool) -> None:
    say_lines(report.problems, "not restored: ")
    for path in report.planned:
        say(f"would write  {show(path if not one else where)}")
    if options.quiet:
        return
    if one:
        verb = "" if report.written else ", was there already"
        say(f"{show(where)}: {human(report.size)}{verb}")
        return
    verb = "would be written" if report.dry_run else "written"
    say(
        f"{report.folder}: {counted(report.written, 'file')} {verb} to {show(where)}, "
        f"{report.present:,} {'was' if report.present == 1 else 'were'} there already, {human(report.size)} in all"
    )
