"""``peerstore demo``: the whole thing, with real processes, in a minute."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NoReturn

import click
from rich.text import Text

from peerstore.cli.cluster import Cluster, Process, peerstore, shown, twistd
from peerstore.cli.context import Options, Verb
from peerstore.cli.output import out, say_error
from peerstore.errors import PeerStoreError

__all__ = ["demo"]

NODES = 5
SYNC_TIMEOUT = 25.0


@click.command(cls=Verb)
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(exists=True, file_okay=False))
@click.option("--keep", is_flag=True, help="Leave nodes' folders and logs behind, and say where.")
@click.pass_obj
def demo(options: Options, folder: str | None, keep: bool) -> None:
    """Show that it works: five real nodes, one killed, nothing lost.

    DIR is backed up and restored elsewhere; it is only read. Without one, a folder is made up. Everything runs on this
    computer's loopback, in a temporary folder, and is cleaned up.
    """
    place = Path(tempfile.mkdtemp(prefix="peerstore-demo-"))
    cluster = Cluster(place)
    others: list[Process] = []
    try:
        _Demo(place, cluster, others).run(Path(folder) if folder else None)
        status = 0
    except PeerStoreError as error:
        say_error(error.what, error.next_step)
        status = 1
    except KeyboardInterrupt:
        say_error("Stopped.")
        status = 130
    finally:
        for process in others:
            process.stop()
        cluster.stop()
        if keep:
            out.print(Text(f"Everything is left in {place}"))
        else:
            shutil.rmtree(place, ignore_errors=True)
    raise SystemExit(status)


class _Demo:
    """The steps, in order; each says what it does."""

    def __init__(self, place: Path, cluster: Cluster, others: list[Process]) -> None:
        self.place = place
        self.cluster = cluster
        self.others = others
        self.home = place / "home"
        self.began = time.monotonic()

    def run(self, folder: Path | None) -> None:
        self.say(f"Starting {NODES} storage nodes, each a process of its own, on loopback.")
        self.cluster.start(NODES)
        source = folder or self.make_up()
        ring = self.cluster.wait_ideal(self.home)
        self.say(f"They have found each other: {ring['positions']} positions on one ring.")
        self.command("ring")
        self.say(f"Backing up {'a made-up folder' if folder is None else folder}.")
        self.command("backup", str(source), "--as", "demo")
        victim = 2
        self.say(f"kill -9 of node {victim} ({self.cluster.peers[victim]}): no goodbye, its disk is gone.")
        self.cluster.nodes[victim].kill()
        shutil.rmtree(self.place / f"node-{victim}")
        self.say("Restoring everything to a second folder from the four that are left.")
        restored = self.place / "restored"
        self.command("restore", "demo", "--to", str(restored))
        count, size = compare(source, restored)
        self.say(f"Compared byte for byte: {count} paths, {size / 2**20:.1f} MiB, all equal.", "green")
        self.sync()
        self.say(f"Done in {time.monotonic() - self.began:.0f} s: nothing was lost.", "bold green")

    def sync(self) -> None:
        """Two sync daemons, as on two computers, and a file between them."""
        self.say("Two computers of one user: peerstore-sync keeps a folder the same on both.")
        key = self.home / "key.pem"
        folders = []
        for name in ("laptop", "desktop"):
            folder = self.place / name
            folder.mkdir()
            command = twistd("peerstore-sync", "--folder", str(folder), "--key", str(key), "--as", "shared")
            command += ["--home", str(self.place / f"home-{name}"), "--poll", "2"]
            for peer in self.cluster.peers:
                command += ["--peer", f"tcp:{peer}"]
            self.others.append(Process(f"sync on {name}", command, self.place / f"sync-{name}.log"))
            folders.append(folder)
        text = b"written on the laptop, read on the desktop\n"
        (folders[0] / "note.txt").write_bytes(text)
        began = time.monotonic()
        while time.monotonic() < began + SYNC_TIMEOUT:
            there = folders[1] / "note.txt"
            if there.exists() and there.read_bytes() == text:
                self.say("laptop/note.txt is on the desktop, whole.", "green")
                return
            for process in self.others:
                if not process.running:
                    self.fail(f"{process.name} ended by itself:\n{process.tail()}")
            time.sleep(0.1)
        self.fail(f"The file did not arrive within {SYNC_TIMEOUT:.0f} s.\n{self.others[-1].tail()}")

    def make_up(self) -> Path:
        """A folder with a bit of everything that people keep."""
        source = self.place / "made-up"
        rng = random.Random(7)
        (source / "letters" / "old").mkdir(parents=True)
        (source / "empty folder").mkdir()
        for number in range(40):
            text = f"Letter {number}\n" + "All is well here. " * rng.randrange(1, 200)
            (source / "letters" / f"letter {number:02}.txt").write_text(text)
        (source / "film.bin").write_bytes(rng.randbytes(12 * 2**20))
        (source / "empty").touch()
        (source / "größe.txt").write_text("names are bytes\n")
        os.symlink("letters/letter 01.txt", source / "a link")
        (source / "letters" / "old" / "run.sh").write_text("#!/bin/sh\necho hello\n")
        (source / "letters" / "old" / "run.sh").chmod(0o755)
        return source

    def command(self, *arguments: str) -> None:
        """Run a peerstore command, and show what it printed."""
        command = peerstore("--home", str(self.home), *arguments)
        for peer in self.cluster.peers:
            command += ["--peer", peer]
        short = shown(peerstore(*arguments))
        out.print(Text(f"  $ {short}", style="cyan"))
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        for line in (result.stdout + result.stderr).splitlines():
            out.print(Text(f"    {line}"))
        if result.returncode != 0:
            self.fail(f"{short} ended with status {result.returncode}.")

    def say(self, line: str, style: str = "bold") -> None:
        """One line, with the seconds since the start."""
        out.print(Text(f"[{time.monotonic() - self.began:4.1f} s] {line}", style=style))

    def fail(self, why: str) -> NoReturn:
        """It did not hold."""
        raise PeerStoreError(f"The demo failed. {why}", "Run it with --keep and look at the logs.")


def compare(source: Path, copy: Path) -> tuple[int, int]:
    """Compare two folders in every respect that is kept; (paths, bytes).

    :raises peerstore.errors.PeerStoreError: naming the first difference.
    """
    names = {path.relative_to(source) for path in source.rglob("*")}
    others = {path.relative_to(copy) for path in copy.rglob("*")}
    size = 0
    for name in sorted(names ^ others):
        status = (source / name if name in names else copy / name).lstat()
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode):
            raise PeerStoreError(f"{name} is on one side only.")
    for name in sorted(names & others):
        a, b = (source / name).lstat(), (copy / name).lstat()
        if (stat.S_IFMT(a.st_mode), a.st_mode) != (stat.S_IFMT(b.st_mode), b.st_mode):
            raise PeerStoreError(f"{name} has another mode.")
        if stat.S_ISLNK(a.st_mode):
            if os.readlink(source / name) != os.readlink(copy / name):
                raise PeerStoreError(f"{name} points elsewhere.")
            continue
        if a.st_mtime_ns != b.st_mtime_ns:
            raise PeerStoreError(f"{name} has another time.")
        if stat.S_ISREG(a.st_mode):
            if (source / name).read_bytes() != (copy / name).read_bytes():
                raise PeerStoreError(f"{name} has other bytes.")
            size += a.st_size
    return len(names), size
