"""``peerstore backup``."""

from __future__ import annotations

import os

import click

from peerstore.cli.context import Options, peer_option, with_client
from peerstore.cli.output import Meter, counted, human, out, print_json, say_note
from peerstore.client.assemble import OpenClient
from peerstore.client.backup import Backup, BackupReport
from peerstore.client.names import name_of
from peerstore.files.names import check_folder

__all__ = ["backup"]


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option("--as", "name", metavar="NAME", help="The name to keep it under [DIR's last component].")
@click.option(
    "--exclude", multiple=True, metavar="PATTERN", help="Leave out what matches; may be given more than once."
)
@click.option("--into", is_flag=True, help="Add to a NAME that another computer or folder wrote last.")
@peer_option
@click.pass_obj
def backup(
    options: Options, folder: str, name: str | None, exclude: tuple[str, ...], into: bool, peers: tuple[str, ...]
) -> None:
    """Store what changed in DIR since the last time."""
    kept_as = check_folder(name or name_of(folder))
    patterns = [os.fsencode(pattern) for pattern in exclude]

    async def work(opened: OpenClient) -> int:
        with Meter("backing up", options.quiet or options.as_json) as meter:
            run = Backup(opened.client, os.fsencode(os.path.expanduser(folder)), kept_as, patterns, into, meter)
            report = await run.run()
        _tell(options, report)
        return 1 if report.problems else 0

    raise SystemExit(with_client(options, peers, work))


def _tell(options: Options, report: BackupReport) -> None:
    if options.as_json:
        print_json(
            {
                "folder": report.folder,
                "files": report.files,
                "bytes": report.size,
                "changed": report.changed,
                "removed": report.removed,
                "unchanged": report.unchanged,
                "sent": report.sent,
                "notes": report.notes,
                "problems": report.problems,
            }
        )
        return
    if not options.quiet:
        for note in report.notes:
            say_note(note)
    for problem in report.problems:
        say_note(f"not stored: {problem}")
    if not options.quiet:
        out.print(
            f"{report.folder}: {counted(report.files, 'file')}, {human(report.size)}; {report.changed} new or changed, "
            f"{report.removed} removed, {report.unchanged} unchanged; {human(report.sent)} sent",
            markup=False,
        )
