"""``peerstore ls``, ``rm`` and ``put``."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Sequence

import click

from peerstore.cli.context import Options, Verb, given, peer_option, with_client
from peerstore.cli.output import Meter, counted, human, print_json, say, say_note, text_of
from peerstore.cli.restore import place_of, read_log
from peerstore.cli.stdin import InterruptibleInput
from peerstore.client.assemble import OpenClient
from peerstore.client.client import Client, require_complete
from peerstore.client.names import Place, find_place, parse_place
from peerstore.client.source import look, show
from peerstore.client.upload import PATIENT, Uploaded
from peerstore.errors import UsageError
from peerstore.files.manifest import NodeKind
from peerstore.transactions.view import FolderView, PathVersion

__all__ = ["list_folders", "ls", "put", "rm"]

_TYPE = {NodeKind.FILE: stat.S_IFREG, NodeKind.FOLDER: stat.S_IFDIR, NodeKind.SYMLINK: stat.S_IFLNK}


@click.command(cls=Verb)
@click.argument("name", metavar="[NAME[/PATH]]", required=False, type=given)
@peer_option
@click.pass_obj
def ls(options: Options, name: str | None, peers: tuple[str, ...]) -> None:
    """List folders, or everything that is in one.

    NAME/PATH may also be the local path that was backed up.
    """

    async def work(opened: OpenClient) -> int:
        if name is None:
            complete = await read_log(options, opened)
            list_folders(options, opened.client.view, complete)
        else:
            place, complete = await place_of(options, opened, name)
            tree = opened.client.view.tree(place.folder)
            prefix = place.path + b"/" if place.path else b""
            rows = [v for path, v in tree.items() if path == place.path or path.startswith(prefix)]
            _list_versions(options, place, [version for version in rows if version.name.path], complete)
        return 0

    raise SystemExit(with_client(options, peers, work, writing=False))


def list_folders(options: Options, view: FolderView, complete: bool) -> None:
    """Say which folders there are.

    :param complete: whether *view* is all that the ring has.
    """
    rows: list[tuple[str, int, int]] = []
    for folder in view.folders():
        files = [v for v in view.tree(folder).values() if v.name.kind != NodeKind.FOLDER]
        rows.append((folder, len(files), sum(version.name.size for version in files)))
    if options.as_json:
        folders = [{"folder": folder, "files": files, "bytes": size} for folder, files, size in rows]
        print_json({"folders": folders, "complete": complete})
        return
    for folder, number, size in rows:
        say(f"{counted(number, 'file'):>14}  {human(size):>10}  {folder}")
    if not rows and complete:
        say_note("Nothing is stored yet. Try: peerstore backup DIR")


def _list_versions(options: Options, place: Place, versions: list[PathVersion], complete: bool) -> None:
    if options.as_json:
        entries = [
            {
                "path": text_of(version.name.path),
                "path_hex": version.name.path.hex(),
                "kind": NodeKind(version.name.kind).name.lower(),
                "bytes": version.name.size,
                "mode": f"{version.name.mode:04o}",
                "mtime_ns": version.name.mtime_ns,
                "sha256": version.name.sha256.hex(),
            }
            for version in versions
        ]
        print_json({"folder": place.folder, "path": text_of(place.path), "entries": entries, "complete": complete})
        return
    for version in versions:
        name = version.name
        mode = stat.filemode(_TYPE[NodeKind(name.kind)] | name.mode)
        size = human(name.size) if name.kind != NodeKind.FOLDER else ""
        say(f"{mode} {size:>10}  {_when(name.mtime_ns)}  {show(name.path)}")


def _when(mtime_ns: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(mtime_ns // 10**9))
    except (OverflowError, ValueError, OSError):
        return f"{mtime_ns // 10**9:>16}"


@click.command(cls=Verb)
@click.argument("name", metavar="NAME[/PATH]", type=given)
@click.option("--recursive", "-r", is_flag=True, help="A folder, with everything in it.")
@click.option("--dry-run", "-n", is_flag=True, help="Only say what would be removed.")
@peer_option
@click.pass_obj
def rm(options: Options, name: str, recursive: bool, dry_run: bool, peers: tuple[str, ...]) -> None:
    """Remove a file from a stored folder; it stays in the history.

    What still lies in the local folder is stored again by its next backup.
    """
    asked = parse_place(name)

    async def work(opened: OpenClient) -> int:
        client = opened.client
        require_complete(await client.refresh())
        # By its stored name only: a local path might mean several of them.
        place = find_place(f"{asked.folder}/{os.fsdecode(asked.path)}".rstrip("/"), client.view, {})
        tree = client.view.tree(place.folder)
        below = [path for path in tree if path and (not place.path or path.startswith(place.path + b"/"))]
        itself = [place.path] if place.path in tree else []
        paths = sorted({*below, *itself}, reverse=True)
        if (below or tree[place.path].name.kind == NodeKind.FOLDER) and not recursive:
            inside = counted(len(below), "entry", "entries")
            raise UsageError(f"{name} is a folder with {inside}.", "Use -r to remove it with all of them.")
        if not dry_run:
            await _remove(client, place.folder, paths)
        _tell_removed(options, place, [tree[path] for path in reversed(paths)], dry_run)
        return 0

    raise SystemExit(with_client(options, peers, work))


async def _remove(client: Client, folder: str, paths: Sequence[bytes]) -> None:
    changes = []
    for path in paths:
        standing = [version.vector for version in client.view.versions(folder, path)]
        changes.append(await client.deletion(folder, path, standing))
    await client.publish(changes)
    source: bytes | None = await client.database.run(client.state.meta, f"source:{folder}")
    for root in {b"", source or b""}:
        await client.database.run(client.state.agree, folder, [(path, None) for path in paths], root)


def _tell_removed(options: Options, place: Place, gone: Sequence[PathVersion], dry_run: bool) -> None:
    if options.as_json:
        print_json(
            {"folder": place.folder, "removed": [text_of(version.name.path) for version in gone], "dry_run": dry_run}
        )
        return
    if dry_run:
        for version in gone:
            say(f"would remove  {show(version.name.path)}")
    if not options.quiet:
        folders = sum(version.name.kind == NodeKind.FOLDER for version in gone)
        what = [counted(len(gone) - folders, "file")] if len(gone) > folders else []
        what += [counted(folders, "folder")] if folders else []
        say(f"{place.folder}: {' and '.join(what)} {'would be ' if dry_run else ''}removed")


@click.command(cls=Verb)
@click.argument("file", metavar="FILE|-", type=given)
@click.option("--as", "name", metavar="NAME/PATH", required=True, help='Where to keep it; "NAME/" keeps its own name.')
@peer_option
@click.pass_obj
def put(options: Options, file: str, name: str, peers: tuple[str, ...]) -> None:
    """Store one file, or what comes on standard input."""
    if name.endswith("/") and file != "-":
        name += os.path.basename(file)
    place = parse_place(name)
    if not place.path:
        raise UsageError(f"{name!r} names no file.", "Write it as NAME/path, for example: --as notes/today.txt")

    async def work(opened: OpenClient) -> int:
        client = opened.client
        require_complete(await client.refresh())
        _check_room(client.view, place)
        with Meter("storing", options.quiet or options.as_json) as meter:
            uploaded = await (_stdin(client, meter) if file == "-" else _file(client, file, meter))
        standing = [version.vector for version in client.view.versions(place.folder, place.path)]
        await client.publish([await client.change(place.folder, place.path, uploaded, standing)])
        shown = f"{place.folder}/{show(place.path)}"
        if options.as_json:
            report = {"folder": place.folder, "path": text_of(place.path)}
            print_json({**report, "bytes": uploaded.manifest.size, "sent": uploaded.sent})
        elif not options.quiet:
            say(f"{shown}: {human(uploaded.manifest.size)} stored")
        return 0

    raise SystemExit(with_client(options, peers, work, new_key=True))


def _check_room(view: FolderView, place: Place) -> None:
    """A file cannot stand where a folder does, nor below another file."""
    tree = view.tree(place.folder)
    standing = tree.get(place.path)
    is_folder = standing is not None and standing.name.kind == NodeKind.FOLDER
    if is_folder or any(path.startswith(place.path + b"/") for path in tree):
        raise UsageError(
            f"{place.folder}/{show(place.path)} is a folder.",
            f"Name a file in it: --as {place.folder}/{show(place.path)}/NAME",
        )
    parts = place.path.split(b"/")
    for depth in range(1, len(parts)):
        above = tree.get(b"/".join(parts[:depth]))
        if above is not None and above.name.kind != NodeKind.FOLDER:
            raise UsageError(
                f"{place.folder}/{show(above.name.path)} is a file, so nothing can be in it.",
                "Choose another path with --as.",
            )


async def _file(client: Client, file: str, meter: Meter) -> Uploaded:
    place = os.path.realpath(os.fsencode(os.path.expanduser(file)))
    root, name = os.path.split(place)
    if not os.path.lexists(place):
        raise UsageError(f"{show(os.fsencode(file))}: no such file.", "Name a file that you can read.")
    found = look(root, name)
    if found is None or found.kind != NodeKind.FILE:
        what = "a folder" if os.path.isdir(place) else "no file"
        hint = (
            "For a folder use: peerstore backup DIR" if os.path.isdir(place) else 'Use "-" for what comes from a pipe.'
        )
        raise UsageError(f"{show(os.fsencode(file))} is {what}.", hint)
    meter.total(1, found.size)
    return await client.upload(root, found, meter.done, PATIENT)


async def _stdin(client: Client, meter: Meter) -> Uploaded:
    with InterruptibleInput(0) as stream:
        return await client.uploader.upload_stream(stream, 0o644, client.wall_ns(), meter.done, stream.give_up)
