"""Nodes die for good: how long until all is on k hosts again, what that sends, and what people notice.

Two nodes of a ring die, one after the other.  After the first nobody works:
that is when bytes are counted.  After the second a client backs up all the
time, and its rate is compared with that from before.

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
from collections.abc import Callable
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
    """What a node held when it died, and what was done until others had it."""

    things: int
    size: int
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

    def wait_for_copies(self, lost: dict[Stored, int]) -> None:
        """Until each of these things is on k of the disks that are left."""
        ends = time.monotonic() + self.options.timeout
        while time.monotonic() < ends:
            found = Counter(key for number in self.alive for key in held(self.disk(number)))
            if all(found[key] >= COPIES for key in lost):
                return
            time.sleep(LOOK)
        missing = sum(found[key] < COPIES for key in lost)
        raise SystemExit(f"after {self.options.timeout} s {missing} of {len(lost)} things have too few copies")

    def quiet(self) -> float:
        """Wait until a loss would find everything on k hosts, and for what
        was sent before to be over; bytes per second that are sent then."""
        everything = {key: size for number in self.alive for key, size in held(self.disk(number)).items()}
        self.wait_for_copies(everything)
        before = sent()
        time.sleep(IDLE)
        return (sent() - before) / IDLE

    def lose(self, number: int, meanwhile: Callable[[threading.Event, list[float]], None] | None) -> Loss:
        """kill -9, for good, and wait until others have what it had."""
        lost = held(self.disk(number))
        rates: list[float] = []
        over = threading.Event()
        worker = threading.Thread(target=meanwhile, args=(over, rates)) if meanwhile else None
        before, began = sent(), time.monotonic()
        self.cluster.nodes[number].kill()
        if worker is not None:
            worker.start()
        self.wait_for_copies(lost)
        seconds, after = time.monotonic() - began, sent()
        over.set()
        if worker is not None:
            worker.join()
        return Loss(len(lost), sum(lost.values()), seconds, after - before, rates)

    def work(self, over: threading.Event, rates: list[float]) -> None:
        """Back up again and again; once at least."""
        while not rates or not over.is_set():
            rates.append(self.backup(self.options.backup))


def run(bench: Bench, counted: bool) -> None:
    """Measure, and print the table."""
    options = bench.options
    rate = ("--repair-rate", str(options.rate)) if options.rate is not None else ()
    bench.cluster.start(options.nodes, "--repair-grace", str(options.grace), *rate)
    bench.cluster.wait_ideal(bench.home)
    bench.fill()
    before = [bench.backup(options.backup) for _ in range(3)]
    idle = bench.quiet()
    alone = bench.lose(options.nodes - 1, None)
    bench.quiet()
    busy = bench.lose(options.nodes - 2, bench.work)
    table = Table(title=f"{options.nodes} nodes, {COPIES} copies, a grace of {options.grace} s, all on this machine")
    for column in ("lost", "things", "MiB", "s until k copies", "bytes sent / lost", "backup MB/s before", "meanwhile"):
        table.add_column(column, justify="right")
    for name, loss in (("a node", alone), ("another", busy)):
        ratio = f"{(loss.sent - idle * loss.seconds) / loss.size:.3f}" if counted and not loss.rates else "-"
        usual = statistics.median(before)
        during = statistics.harmonic_mean(loss.rates) if loss.rates else 0.0
        table.add_row(
            name,
            str(loss.things),
            f"{loss.size / 2**20:.0f}",
            f"{loss.seconds:.1f}",
            ratio,
            f"{usual / 1e6:.1f}" if loss.rates else "-",
            f"{during / 1e6:.1f} ({during / usual:.0%}, {len(loss.rates)} backups)" if loss.rates else "-",
        )
    Console(width=140).print(table)
    if counted:
        everything = alone.sent / alone.size
        print(f"sent all the time, and taken off: {idle / 1e3:.1f} kB/s; with it: {everything:.3f} of what was lost")
    else:
        print("bytes were not counted: that takes root, unshare and ip, for a network of its own")


def main() -> None:
    """Begin in a network of our own, and clean up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=6)
    parser.add_argument("--mib", type=int, default=1024, help="what each node holds")
    parser.add_argument("--backup", type=int, default=128, help="MiB of one backup that is timed")
    parser.add_argument("--quick", action="store_true", help="64 MiB, and backups of 16")
    parser.add_argument("--grace", type=int, default=5)
    parser.add_argument("--rate", type=int, help="--repair-rate of the nodes")
    parser.add_argument("--timeout", type=int, default=1800)
    parser.add_argument("--place", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.mib, options.backup = 64, 16
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
