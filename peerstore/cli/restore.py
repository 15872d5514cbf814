"""``peerstore restore`` and ``peerstore get``."""

from __future__ import annotations

import os
import sys

import click

from peerstore.cli.context import Options, peer_option, with_client
from peerstore.cli.output import Meter, counted, human, out, print_json, say_note
from peerstore.client.assemble import OpenClient
from peerstore.client.client import Client
from peerstore.client.names import Place, find_place
from peerstore.client.restore import Restore, RestoreReport
from peerstore.client.source import look, show
from peerstore.client.target import Target
from peerstore.errors import UsageError
from peerstore.files.manifest import NodeKind

__all__ = ["get", "place_of", "restore"]

BEHIND = "Too few nodes answered: this may not be the newest state."


async def place_of(opened: OpenClient, text: str) -> tuple[Place, bool]:
    """(what a person meant, whether the log is known to be complete)."""
    client = opened.client
    complete = await client.refresh()
    sources = await client.database.run(client.state.metas, "source:")
    return find_place(text, client.view, sources), complete


@click.command()
@click.argument("name", metavar="NAME[/PATH]")
@click.option("--to", "to", metavar="DIR", type=click.Path(), help="Where to write [the place it was backed up from].")
@click.option("--force", is_flag=True, help="Replace files that are there and different.")
@peer_option
@click.pass_obj
def restore(options: Options, name: str, to: str | None, force: bool, peers: tuple[str, ...]) -> None:
    """Give a folder back, whole."""

    async def work(opened: OpenClient) -> int:
        place, complete = await place_of(opened, name)
        if not complete:
            say_note(BEHIND)
        root = os.fsencode(os.path.expanduser(to)) if to else await _source(opened.client, place)
        with Meter("restoring", options.quiet or options.as_json) as meter:
            run = Restore(opened.client, Target(os.path.abspath(root)), force, meter)
            report = await run.run(place.folder, place.path)
        _tell(options, report, root)
        return 1 if report.problems else 0

    raise SystemExit(with_client(options, peers, work))


async def _source(client: Client, place: Place) -> bytes:
    source: bytes | None = await client.database.run(client.state.meta, f"source:{place.folder}")
    if source is None:
        raise UsageError(f"{place.folder!r} was not backed up from this computer.", "Name a folder with --to.")
    return os.path.join(source, place.path) if place.path else source


@click.command()
@click.argument("name", metavar="NAME/PATH")
@click.option("--to", "to", metavar="DEST", help='Where to write: a file, a folder, or "-" for standard output.')
@click.option("--force", is_flag=True, help="Replace a file that is there and different.")
@peer_option
@click.pass_obj
def get(options: Options, name: str, to: str | None, force: bool, peers: tuple[str, ...]) -> None:
    """Give one file back (or a folder, like restore)."""

    async def work(opened: OpenClient) -> int:
        place, complete = await place_of(opened, name)
        if not complete:
            say_note(BEHIND)
        version = opened.client.view.current(place.folder, place.path)
        if version is None or version.name.kind == NodeKind.FOLDER:
            where = os.fsencode(os.path.expanduser(to or os.path.basename(show(place.path)) or place.folder))
            report = await Restore(opened.client, Target(os.path.abspath(where)), force).run(place.folder, place.path)
            _tell(options, report, where)
            return 1 if report.problems else 0
        fetched = await opened.client.manifest(version)
        if to == "-":
            await opened.client.content(fetched, sys.stdout.buffer.write)
            sys.stdout.buffer.flush()
            return 0
        dest = _destination(to, place.path)
        target = Target(os.path.dirname(dest))
        target.open()
        try:
            with Meter("getting", options.quiet or options.as_json) as meter:
                meter.total(1, version.name.size)
                there = look(os.path.dirname(dest), os.path.basename(dest))
                run = Restore(opened.client, target, force, meter)
                if there is None or not await run.is_there(os.path.basename(dest), there, version):
                    await run.write(os.path.basename(dest), version, there if force else None)
        finally:
            target.close()
        if options.as_json:
            print_json({"path": show(dest), "bytes": version.name.size, "complete": complete})
        elif not options.quiet:
            out.print(f"{show(dest)}: {human(version.name.size)}", markup=False)
        return 0

    raise SystemExit(with_client(options, peers, work))


def _destination(to: str | None, path: bytes) -> bytes:
    name = path.rsplit(b"/", 1)[-1]
    dest = os.fsencode(os.path.expanduser(to)) if to else name
    if os.path.isdir(dest) or dest.endswith(b"/"):
        dest = os.path.join(dest, name)
    return os.path.abspath(dest)


def _tell(options: Options, report: RestoreReport, root: bytes) -> None:
    if options.as_json:
        print_json(
            {
                "folder": report.folder,
                "files": report.files,
                "bytes": report.size,
                "written": report.written,
                "present": report.present,
                "problems": report.problems,
                "to": show(root),
            }
        )
        return
    for problem in report.problems:
        say_note(f"not restored: {problem}")
    if not options.quiet:
        out.print(
            f"{report.folder}: {counted(report.written, 'file')} written to {show(root)}, "
            f"{report.present} were there already, {human(report.size)} in all",
            markup=False,
        )
