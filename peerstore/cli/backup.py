"""``peerstore backup``."""

from __future__ import annotations

import os

import click

from peerstore.cli.context import Options, Verb, given, peer_option, with_client
from peerstore.cli.output import Meter, counted, human, print_json, say, say_lines, say_note, text_of
from peerstore.client.assemble import OpenClient
from peerstore.client.backup import Backup, BackupReport
from peerstore.client.client import Client
from peerstore.client.names import name_of
from peerstore.client.source import show
from peerstore.errors import PeerStoreError
from peerstore.files.names import check_folder

__all__ = ["backup", "say_healed"]


@click.command(cls=Verb)
@click.argument("folder", metavar="DIR", type=given)
@click.option("--as", "name", metavar="NAME", help="The name to keep it under [DIR's last component].")
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help='Leave out what matches, as a name or as a path below DIR, like "*.tmp" or "cache/*"; '
    "may be given more than once.",
)
@click.option("--into", is_flag=True, help="Add to a NAME that another computer or folder wrote last.")
@click.option("--anew", is_flag=True, help="Read every file, and send whatever the nodes have lost.")
@click.option("--dry-run", "-n", is_flag=True, help="Only say what would be stored and removed.")
@peer_option
@click.pass_obj
def backup(
    options: Options,
    folder: str,
    name: str | None,
    exclude: tuple[str, ...],
    into: bool,
    anew: bool,
    dry_run: bool,
    peers: tuple[str, ...],
) -> None:
    """Store what changed in DIR since the last time.

    What is gone from DIR is removed from NAME, and stays in its history. Owners, hard links, extended attributes,
    pipes, sockets and devices are not kept, and each is named.
    """
    kept_as = check_folder(name_of(folder) if name is None else name)
    patterns = [os.fsencode(pattern) for pattern in exclude if pattern]

    async def work(opened: OpenClient) -> int:
        with Meter("backing up", options.quiet or options.as_json or dry_run) as meter:
            run = Backup(
                opened.client,
                os.fsencode(os.path.expanduser(folder)),
                kept_as,
                patterns,
                into,
                meter,
                anew=anew,
                dry_run=dry_run,
                skip=[os.fsencode(options.home)],
            )
            try:
                await run.run()
            except PeerStoreError:
                _say_how_far(options, run.report)
                raise
        say_healed(options, opened.client)
        _tell(options, run.report)
        return 1 if run.report.problems else 0

    raise SystemExit(with_client(options, peers, work, new_key=True))


def say_healed(options: Options, client: Client) -> None:
    """That the ring had lost some of the log, if so."""
    if client.healed and not options.as_json:
        lost = counted(client.healed, "entry", "entries")
        say_note(f"The nodes had lost {lost} of your log, and were given what was lost again.")


def _say_how_far(options: Options, report: BackupReport) -> None:
    done = report.unchanged + report.changed
    if done and not (options.quiet or options.as_json):
        say_note(f"It came as far as {done:,} of {counted(report.files, 'file')}.")


def _tell(options: Options, report: BackupReport) -> None:
    if options.as_json:
        print_json(
            {
                "folder": report.folder,
                "files": report.files,
                "folders": report.folders,
                "bytes": report.size,
                "changed": report.changed,
                "changed_folders": report.changed_folders,
                "removed": report.removed,
                "unchanged": report.unchanged,
                "sent": report.sent,
                "notes": report.notes,
                "problems": report.problems,
                "dry_run": report.dry_run,
                "would_store": [text_of(path) for path in report.planned],
                "would_remove": [text_of(path) for path in report.gone],
            }
        )
        return
    if not options.quiet:
        say_lines(report.notes)
    say_lines(report.problems, "not stored: ")
    for path in report.planned:
        say(f"would store   {show(path)}")
    for path in report.gone:
        say(f"would remove  {show(path)}")
    if not options.quiet:
        say(
            f"{report.folder}: {counted(report.files, 'file')} in {counted(report.folders, 'folder')}, "
            f"{human(report.size)}; {report.changed:,} new or changed, {report.removed:,} removed, "
            f"{report.unchanged:,} unchanged; "
            + ("nothing was sent (dry run)" if report.dry_run else f"{human(report.sent)} sent")
        )
