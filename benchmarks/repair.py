"""Nodes die for good: how long until all is on k hosts again, what that sends, and what people notice.

Three nodes of a ring die, one after the other.  After the first nobody works:
that is when bytes are counted.  After the others one client backs up all the
time.  Before and after each of those it does the same in a ring at rest, so
that the two take turns: medians of both are compared.

With root's rights on Linux everything runs in a network namespace of its own,
where the bytes that went over loopback are those of this ring, headers
included, and of nothing else.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from peerstore.cli.cluster import Cluster, peerstore
from peerstore.storage.listing import list_keys

COPIES = 3
INSIDE = "PEERSTORE_BENCH_NAMESPACE"
#: Seconds between two looks at the disks.
LOOK = 0.25
#: Seconds of nothing, to see what a ring sends all the time.
IDLE = 20.0

Stored = tuple[bytes, bytes, int, bytes]


class Loss(NamedTuple):
    """What a node held when it died, and what was done until others had it.

    *began* is when the first copy of what was lost appeared elsewhere, in
    seconds after the death; *rates* are those of backups that were made
    meanwhile, in bytes per second.
    """

    things: int
    size: int
    began: float
    seconds: float
    sent: int
    rates: list[float]


def own_network() -> bool:
    """Begin again in a network of our own, if we may; whether this is one."""
    if INSIDE in os.environ:
        return True
    line = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    try:
        subprocess.run([*line, "true"], check=True, capture_output=True)
        os.environ[INSIDE] = "1"
        os.execvp(line[0], [*line, sys.executable, *sys.argv])
    except (OSError, subprocess.CalledProcessError):
        return False


def sent() -> int:
    """Bytes that went over loopback so far."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[8])
    return 0


def held(data: Path) -> dict[Stored, int]:
    """What is on one disk: sizes in bytes."""
    return {(key.ring_id, key.owner, int(key.kind), key.element): key.size for key in list_keys(data)}


class Bench:
    """A ring, a client, and its disks."""

    def __init__(self, place: Path, options: argparse.Namespace) -> None:
        self.place = place
        self.options = options
        self.cluster = Cluster(place)
        self.home = place / "home"
        self.rng = random.Random(1)
        self.backups = 0
        #: Copies of what was lost are being made; and all were made.
        self.repairing = threading.Event()
        self.over = threading.Event()

    @property
    def alive(self) -> list[int]:
        """Numbers of the nodes that run."""
        return [number for number, node in enumerate(self.cluster.nodes) if node.running]

    def disk(self, number: int) -> Path:
        """The data folder of a node."""
        return self.place / f"node-{number}"

    def backup(self, mib: int) -> float:
        """Make a file, and back it up; bytes per second of the backup alone."""
        self.backups += 1
        source = self.place / f"source-{self.backups}"
        source.mkdir()
        with (source / "new.bin").open("wb") as file:
            for _ in range(mib):
                file.write(self.rng.randbytes(2**20))
        command = peerstore("--home", str(self.home), "--quiet", "backup", str(source))
        for peer in self.cluster.peers:
            command += ["--peer", peer]
        began = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - began
        shutil.rmtree(source)
        return mib * 2**20 / seconds

    def fill(self) -> None:
        """Until each node has about as much as it is to lose."""
        total = self.options.mib * self.options.nodes // COPIES
        while total > 0:
            some = min(total, 256)
            self.backup(some)
            total -= some

    def lacking(self, wanted: dict[Stored, int]) -> tuple[int, int]:
        """How many of these things are on fewer than k of the disks that are
        left, and how many copies those lack."""
        found = Counter(key for number in self.alive for key in held(self.disk(number)))
        few = [COPIES - found[key] for key in wanted if found[key] < COPIES]
        return len(few), sum(few)

    def wait_for_copies(self, wanted: dict[Stored, int]) -> float:
        """Until each of these things is on k of the disks that are left; when
        the first copy was made (seconds after this was called)."""
        start = time.monotonic()
        began, at_first = 0.0, -1
        while time.monotonic() < start + self.options.timeout:
            things, copies = self.lacking(wanted)
            at_first = copies if at_first < 0 else at_first
            if copies < at_first and not began:
                began = time.monotonic() - start
                self.repairing.set()
            if not things:
                return began
            time.sleep(LOOK)
        raise SystemExit(f"after {self.options.timeout} s {things} of {len(wanted)} things have too few copies")

    def quiet(self) -> float:
        """Wait until a loss would find everything on k hosts, and for what
        was sent before to be over; bytes per second that are sent then."""
        everything = {key: size for number in self.alive for key, size in held(self.disk(number)).items()}
        self.wait_for_copies(everything)
        before = sent()
        time.sleep(IDLE)
        return (sent() - before) / IDLE

    def lose(self, number: int, busy: bool) -> Loss:
        """kill -9, for good, and wait until others have what it had.

        :param busy: a client backs up meanwhile.
        """
        lost = held(self.disk(number))
        rates: list[float] = []
        self.repairing.clear()
        self.over.clear()
        worker = threading.Thread(target=self.work, args=(rates,)) if busy else None
        before, start = sent(), time.monotonic()
        self.cluster.nodes[number].kill()
        if worker is not None:
            worker.start()
        began = self.wait_for_copies(lost)
        seconds, after = time.monotonic() - start, sent()
        self.over.set()
        if worker is not None:
            worker.join()
        shutil.rmtree(self.disk(number))
        return Loss(len(lost), sum(lost.values()), began, seconds, after - before, rates)

    def work(self, rates: list[float]) -> None:
        """Back up again and again while copies are made: what began before
        the first, or ended after the last, does not count."""
        while not self.over.is_set():
            counts = self.repairing.is_set()
            rate = self.backup(self.options.backup)
            if counts and not self.over.is_set():
                rates.append(rate)

    def undisturbed(self) -> list[float]:
        """Rates of backups while nothing is to be repaired."""
        self.backup(self.options.backup)
        return [self.backup(self.options.backup) for _ in range(self.options.samples)]


def run(bench: Bench, counted: bool) -> None:
    """Measure, and print the tables."""
    options = bench.options
    rate = ("--repair-rate", str(options.rate)) if options.rate is not None else ()
    bench.cluster.start(options.nodes, "--repair-grace", str(options.grace), *rate)
    bench.cluster.wait_ideal(bench.home)
    bench.fill()
    idle = bench.quiet()
    alone = bench.lose(options.nodes - 1, False)
    usual, during, losses = [bench.undisturbed()], [], [alone]
    for number in range(options.nodes - 2, options.nodes - 2 - options.busy, -1):
        bench.quiet()
        losses.append(bench.lose(number, True))
        during.append(losses[-1].rates)
        bench.quiet()
        usual.append(bench.undisturbed())
    print_losses(options, losses, idle if counted else None)
    print_rates(options, usual, during)


def print_losses(options: argparse.Namespace, losses: list[Loss], idle: float | None) -> None:
    """What each loss took."""
    table = Table(title=f"{options.nodes} nodes, {COPIES} copies, a grace of {options.grace} s, all on this machine")
    columns = ("lost", "meanwhile", "things", "MiB", "s to the first copy", "s to k copies", "bytes sent / lost")
    for column in columns:
        table.add_column(column, justify="right")
    for number, loss in enumerate(losses):
        ratio = "-"
        if idle is not None and not number:
            ratio = f"{(loss.sent - idle * loss.seconds) / loss.size:.3f}"
        table.add_row(
            f"node {options.nodes - number}",
            "a client backs up" if number else "nothing",
            str(loss.things),
            f"{loss.size / 2**20:.0f}",
            f"{loss.began:.1f}",
            f"{loss.seconds:.1f}",
            ratio,
        )
    Console(width=140).print(table)
    if idle is None:
        print("bytes were not counted: that takes root, unshare and ip, for a network of its own")
    else:
        whole = losses[0].sent / losses[0].size
        print(f"sent all the time, and taken off: {idle / 1e3:.1f} kB/s; with it: {whole:.3f} of what was lost")


def print_rates(options: argparse.Namespace, usual: list[list[float]], during: list[list[float]]) -> None:
    """What the client had, in the order in which it was measured."""
    table = Table(title=f"one client backs up {options.backup} MiB again and again, MB/s")
    for column in ("", "backups", "slowest", "median", "fastest"):
        table.add_column(column, justify="right" if column else "left")

    def row(name: str, rates: list[float]) -> None:
        shown = (min(rates), statistics.median(rates), max(rates)) if rates else ()
        table.add_row(name, str(len(rates)), *(f"{rate / 1e6:.1f}" for rate in shown))

    for number, rates in enumerate(usual):
        row("at rest", rates)
        if number < len(during):
            row(f"while node {options.nodes - 1 - number} is missed", during[number])
    Console(width=140).print(table)
    rest = [rate for rates in usual for rate in rates]
    busy = [rate for rates in during for rate in rates]
    if rest and busy:
        share = statistics.median(busy) / statistics.median(rest)
        print(f"medians: {statistics.median(busy) / 1e6:.1f} of {statistics.median(rest) / 1e6:.1f} MB/s: {share:.0%}")
    else:
        print(
            "no backup began and ended while copies were made: smaller ones (--backup) or a larger loss (--mib) would"
        )


def main() -> None:
    """Begin in a network of our own, and clean up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=7)
    parser.add_argument("--busy", type=int, default=2, help="losses with a client at work, after one without")
    parser.add_argument("--samples", type=int, default=4, help="backups at rest, each time")
    parser.add_argument("--mib", type=int, default=1024, help="what each node holds")
    parser.add_argument("--backup", type=int, default=64, help="MiB of one backup that is timed")
    parser.add_argument("--quick", action="store_true", help="128 MiB, and backups of 8")
    parser.add_argument("--grace", type=int, default=5)
    parser.add_argument("--rate", type=int, help="--repair-rate of the nodes")
    parser.add_argument("--timeout", type=int, default=1800)
    parser.add_argument("--place", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.mib, options.backup = 128, 8
    counted = own_network()
    place = Path(tempfile.mkdtemp(prefix="peerstore-bench-", dir=options.place))
    bench = Bench(place, options)
    try:
        run(bench, counted)
    finally:
        bench.cluster.stop()
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
