"""``peerstore demo``: the whole thing, with real processes, in a minute."""

from __future__ import annotations

import filecmp
import os
import random
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import NamedTuple, NoReturn

import click
from rich.text import Text

from peerstore.cli.cluster import STOPPING, Cluster, Process, peerstore, shown, twistd, uninterrupted
from peerstore.cli.context import Options, Verb
from peerstore.cli.output import counted, human, out, print_json, say_note, text_of
from peerstore.client.source import show
from peerstore.errors import PeerStoreError
from peerstore.files.safepath import RESERVED

__all__ = ["Compared", "compare", "demo"]

NODES = 5
SYNC_TIMEOUT = 25.0
#: Seconds until it is tried again to end.
AGAIN = 0.01


@click.command(cls=Verb)
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(exists=True, file_okay=False))
@click.option("--keep", is_flag=True, help="Leave nodes' folders and logs behind, and say where.")
@click.pass_obj
def demo(options: Options, folder: str | None, keep: bool) -> None:
    """Show that it works: five real nodes, one killed, nothing lost.

    DIR is backed up and restored elsewhere; it is only read. Without one, a folder is made up. Everything runs on this
    computer's loopback, in a temporary folder, and is cleaned up. The exit status is 0 if everything held, 1 if not.
    """
    place = Path(tempfile.mkdtemp(prefix="peerstore-demo-"))
    cluster = Cluster(place)
    others: list[Process] = []
    for number in STOPPING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    signal.signal(signal.SIGALRM, _interrupt)
    error: PeerStoreError | None = None
    run = _Demo(place, cluster, others, options.quiet or options.as_json)
    try:
        run.run(Path(folder) if folder else None)
    except PeerStoreError as caught:
        error = caught
    except KeyboardInterrupt:
        error = _Stopped("Stopped.")
    finally:
        # What was started is ended, however impatient somebody is.
        for number in (*STOPPING, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        for process in others:
            process.stop()
        cluster.stop()
        if keep:
            say_note(f"Everything is left in {place}")
        else:
            shutil.rmtree(place, ignore_errors=True)
    if options.as_json:
        print_json(run.report(error))
    if error is not None:
        raise error


class _Stopped(PeerStoreError):
    """Ctrl-C, or its like."""

    exit_status = 130


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End the demo, wherever it is; but not in the middle of a finalizer,
    where Python would print the exception and go on."""
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            signal.setitimer(signal.ITIMER_REAL, AGAIN)
            return
        frame = frame.f_back
    raise KeyboardInterrupt


class _Demo:
    """The steps, in order; each says what it does."""

    def __init__(self, place: Path, cluster: Cluster, others: list[Process], quiet: bool) -> None:
        self.place = place
        self.cluster = cluster
        self.others = others
        self.quiet = quiet
        self.home = place / "home"
        self.began = time.monotonic()
        self.compared = Compared()

    def run(self, folder: Path | None) -> None:
        self.say(f"Starting {NODES} storage nodes, each a process of its own, on loopback.")
        self.cluster.start(NODES)
        source = folder or self.make_up()
        began_ns = time.time_ns()
        ring = self.cluster.wait_ideal(self.home)
        self.say(f"They have found each other: {ring['positions']} positions on one ring.")
        self.command("ring")
        self.say(f"Backing up {'a made-up folder' if folder is None else show(os.fsencode(folder))}.")
        # A folder may hold this very demo, and things that may not be read.
        inside = source.resolve() in self.place.resolve().parents
        without = ("--exclude", self.place.name) if inside else ()
        self.command("backup", str(source), "--as", "demo", *without, status=(0, 1))
        victim = 2
        self.say(f"kill -9 of node {victim} ({self.cluster.peers[victim]}): no goodbye, its disk is gone.")
        self.cluster.nodes[victim].kill()
        shutil.rmtree(self.place / f"node-{victim}")
        self.say("Restoring everything to a second folder from the four that are left.")
        restored = self.place / "restored"
        self.command("restore", "demo", "--to", str(restored))
        # Nobody but us knows of a folder that was made up.
        self.compared = compare(source, restored, began_ns if folder else None, self.place.name)
        paths, size = counted(self.compared.paths, "path"), human(self.compared.size)
        self.say(f"Compared byte for byte: {paths}, {size}, all equal.", "green")
        for path in self.compared.passed_over[:10]:
            self.say(f"Not compared, because it changed meanwhile or may not be read: {show(path)}", "yellow")
        self.sync()
        self.say(f"Done in {time.monotonic() - self.began:.0f} s: nothing was lost.", "bold green")

    def report(self, error: PeerStoreError | None) -> dict[str, object]:
        """What it came to, for ``--json``."""
        return {
            "held": error is None,
            "paths": self.compared.paths,
            "bytes": self.compared.size,
            "not_compared": [text_of(path) for path in self.compared.passed_over],
            "seconds": round(time.monotonic() - self.began, 1),
        }

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
            with uninterrupted():
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

    def command(self, *arguments: str, status: tuple[int, ...] = (0,)) -> None:
        """Run a peerstore command, and show what it printed."""
        command = peerstore("--home", str(self.home), *arguments)
        for peer in self.cluster.peers:
            command += ["--peer", peer]
        short = show(os.fsencode(shown(peerstore(*arguments))))
        with uninterrupted():
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="backslashreplace"
            )
        try:
            printed, complained = process.communicate()
        except BaseException:
            process.kill()
            process.wait()
            raise
        if not self.quiet:
            out.print(Text(f"  $ {short}", style="cyan"))
            for line in (printed + complained).splitlines():
                out.print(Text(f"    {line}"))
        if process.returncode not in status:
            said = complained.strip() if self.quiet else ""
            self.fail(f"{short} ended with status {process.returncode}. {said}".strip())

    def say(self, line: str, style: str = "bold") -> None:
        """One line, with the seconds since the start."""
        if not self.quiet:
            out.print(Text(f"[{time.monotonic() - self.began:4.1f} s] {line}", style=style))

    def fail(self, why: str) -> NoReturn:
        """It did not hold."""
        raise PeerStoreError(f"The demo failed. {why}", "Run it with --keep and look at the logs.")


class Compared(NamedTuple):
    """How many paths and bytes are equal, and which paths were not compared."""

    paths: int = 0
    size: int = 0
    passed_over: tuple[bytes, ...] = ()


def compare(source: Path, copy: Path, began_ns: int | None = None, skip: str = "") -> Compared:
    """Compare two folders in every respect that is kept.

    :param began_ns: what changed in *source* after this time of day, and what
        may not be read there, is passed over.
    :param skip: a name that is left out, wherever it is.
    :raises peerstore.errors.PeerStoreError: naming the first difference.
    """
    top, other = os.fsencode(source), os.fsencode(copy)
    left, right = _listed(top, os.fsencode(skip)), _listed(other, os.fsencode(skip))
    paths = size = 0
    passed_over: list[bytes] = []
    closed: list[bytes] = []
    for path in sorted({*left, *right}):
        a, b = left.get(path), right.get(path)
        place = os.path.join(top, path)
        if began_ns is not None:
            if a is not None and not _may_read(place, a):
                closed.append(path + b"/")
            if path + b"/" in closed or path.startswith(tuple(closed)) or _moved(place, a, began_ns):
                passed_over.append(path)
                continue
        if a is None or b is None:
            raise PeerStoreError(f"{show(path)} is on one side only.")
        _compare(path, place, os.path.join(other, path), a, b)
        paths += 1
        size += a.st_size if stat.S_ISREG(a.st_mode) else 0
    return Compared(paths, size, tuple(passed_over))


def _listed(top: bytes, skip: bytes) -> dict[bytes, os.stat_result]:
    """{relative path: status} of what is kept below a folder."""
    found: dict[bytes, os.stat_result] = {}
    for place, folders, files in os.walk(top):
        folders[:] = [name for name in folders if name != skip and not name.startswith(RESERVED)]
        for name in [*folders, *files]:
            path = os.path.relpath(os.path.join(place, name), top)
            status = os.lstat(os.path.join(place, name))
            if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode):
                found[path] = status
    return found


def _may_read(place: bytes, status: os.stat_result) -> bool:
    if stat.S_ISLNK(status.st_mode):
        return True
    return os.access(place, os.R_OK | os.X_OK if stat.S_ISDIR(status.st_mode) else os.R_OK)


def _moved(place: bytes, status: os.stat_result | None, began_ns: int) -> bool:
    """Whether a path of the source changed, or went away, meanwhile."""
    if status is None:
        return os.stat(os.path.dirname(place)).st_ctime_ns > began_ns
    return status.st_ctime_ns > began_ns


def _compare(path: bytes, source: bytes, copy: bytes, a: os.stat_result, b: os.stat_result) -> None:
    if a.st_mode != b.st_mode:
        raise PeerStoreError(f"{show(path)} has another mode.")
    if stat.S_ISLNK(a.st_mode):
        if os.readlink(source) != os.readlink(copy):
            raise PeerStoreError(f"{show(path)} points elsewhere.")
        return
    if a.st_mtime_ns != b.st_mtime_ns:
        raise PeerStoreError(f"{show(path)} has another time.")
    if stat.S_ISREG(a.st_mode) and not filecmp.cmp(source, copy, shallow=False):
        raise PeerStoreError(f"{show(path)} has other bytes.")
