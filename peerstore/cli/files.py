"""``peerstore ls``, ``rm`` and ``put``."""

from __future__ import annotations

import os
import stat
import sys
import time
from typing import IO

import click
from rich.text import Text

from peerstore.cli.context import Options, peer_option, with_client
from peerstore.cli.output import Meter, counted, human, out, print_json, say_note
from peerstore.cli.restore import BEHIND, place_of
from peerstore.client.assemble import OpenClient
from peerstore.client.client import require_complete
from peerstore.client.source import show
from peerstore.errors import UsageError
from peerstore.files.manifest import NodeKind
from peerstore.files.names import check_folder
from peerstore.files.safepath import check_path
from peerstore.transactions.view import FolderView, PathVersion

__all__ = ["ls", "put", "rm"]

_TYPE = {NodeKind.FILE: stat.S_IFREG, NodeKind.FOLDER: stat.S_IFDIR, NodeKind.SYMLINK: stat.S_IFLNK}


@click.command()
@click.argument("name", metavar="[NAME[/PATH]]", required=False)
@peer_option
@click.pass_obj
def ls(options: Options, name: str | None, peers: tuple[str, ...]) -> None:
    """List folders, or what is in one."""

    async def work(opened: OpenClient) -> int:
        if name is None:
            complete = await opened.client.refresh()
            _list_folders(options, opened.client.view)
        else:
            place, complete = await place_of(opened, name)
            tree = opened.client.view.tree(place.folder)
            prefix = place.path + b"/" if place.path else b""
            rows = [v for path, v in tree.items() if path == place.path or path.startswith(prefix)]
            _list_versions(options, [version for version in rows if version.name.path])
        if not complete:
            say_note(BEHIND)
        return 0

    raise SystemExit(with_client(options, peers, work))


def _list_folders(options: Options, view: FolderView) -> None:
    rows: list[tuple[str, int, int]] = []
    for folder in view.folders():
        files = [v for v in view.tree(folder).values() if v.name.kind != NodeKind.FOLDER]
        rows.append((folder, len(files), sum(version.name.size for version in files)))
    if options.as_json:
        print_json([{"folder": folder, "files": count, "bytes": size} for folder, count, size in rows])
        return
    for folder, count, size in rows:
        out.print(Text(f"{counted(count, 'file'):>14}  {human(size):>10}  {folder}"))
    if not rows:
        say_note("Nothing is stored yet. Try: peerstore backup DIR")


def _list_versions(options: Options, versions: list[PathVersion]) -> None:
    if options.as_json:
        print_json(
            [
                {
                    "path": show(version.name.path),
                    "kind": NodeKind(version.name.kind).name.lower(),
                    "bytes": version.name.size,
                    "mode": f"{version.name.mode:04o}",
                    "mtime_ns": version.name.mtime_ns,
                    "sha256": version.name.sha256.hex(),
                }
                for version in versions
            ]
        )
        return
    for version in versions:
        name = version.name
        mode = stat.filemode(_TYPE[NodeKind(name.kind)] | name.mode)
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(name.mtime_ns // 10**9))
        out.print(Text(f"{mode} {human(name.size):>10}  {when}  {show(name.path)}"))


@click.command()
@click.argument("name", metavar="NAME/PATH")
@click.option("--recursive", "-r", is_flag=True, help="A folder, with everything in it.")
@click.option("--dry-run", "-n", is_flag=True, help="Only say what would be removed.")
@peer_option
@click.pass_obj
def rm(options: Options, name: str, recursive: bool, dry_run: bool, peers: tuple[str, ...]) -> None:
    """Remove a file from the ring's folder; it stays in the history."""

    async def work(opened: OpenClient) -> int:
        client = opened.client
        place, complete = await place_of(opened, name)
        require_complete(complete)
        tree = client.view.tree(place.folder)
        below = [path for path in tree if not place.path or path.startswith(place.path + b"/")]
        itself = [place.path] if place.path in tree else []
        paths = sorted({*below, *itself}, reverse=True)
        if below and not recursive:
            raise UsageError(f"{name} is a folder with {len(below)} entries.", "Use -r to remove it with all of them.")
        if not dry_run:
            changes = []
            for path in paths:
                standing = [version.vector for version in client.view.versions(place.folder, path)]
                changes.append(await client.deletion(place.folder, path, standing))
            await client.publish(changes)
            await client.database.run(client.state.agree, place.folder, [(path, None) for path in paths])
        if options.as_json:
            print_json({"removed": [show(path) for path in paths], "dry_run": dry_run})
        elif not options.quiet:
            verb = "would be removed" if dry_run else "removed"
            out.print(Text(f"{len(paths)} {verb} from {place.folder}"))
        return 0

    raise SystemExit(with_client(options, peers, work))


@click.command()
@click.argument("file", metavar="FILE|-")
@click.option("--as", "name", metavar="NAME/PATH", required=True, help="Where to keep it.")
@peer_option
@click.pass_obj
def put(options: Options, file: str, name: str, peers: tuple[str, ...]) -> None:
    """Store one file, or what comes on standard input."""
    folder, _, rest = name.strip("/").partition("/")
    path = os.fsencode(rest)
    if not folder or not path:
        raise UsageError(f"{name!r} names no file.", "Write it as NAME/path, for example: --as notes/today.txt")
    check_folder(folder)
    check_path(path)

    async def work(opened: OpenClient) -> int:
        client = opened.client
        require_complete(await client.refresh())
        stream: IO[bytes] = sys.stdin.buffer if file == "-" else _open(file)
        mode, mtime_ns = 0o644, client.wall_ns()
        if file != "-":
            status = os.fstat(stream.fileno())
            mode, mtime_ns = stat.S_IMODE(status.st_mode), status.st_mtime_ns
        with Meter("storing", options.quiet or options.as_json) as meter:
            uploaded = await client.uploader.upload_stream(stream, mode, mtime_ns, meter.done)
        standing = [version.vector for version in client.view.versions(folder, path)]
        await client.publish([await client.change(folder, path, uploaded, standing)])
        if options.as_json:
            print_json({"path": f"{folder}/{show(path)}", "bytes": uploaded.manifest.size, "sent": uploaded.sent})
        elif not options.quiet:
            out.print(Text(f"{folder}/{show(path)}: {human(uploaded.manifest.size)}"))
        return 0

    raise SystemExit(with_client(options, peers, work))


def _open(file: str) -> IO[bytes]:
    try:
        return open(os.path.expanduser(file), "rb", buffering=0)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}.", "Name a file that you can read.") from error
