"""Backup and restore of three kinds of data, beside ``cp -r`` and ``sync``.

All sides read the same source and write into fresh folders; nothing is ever
made anew where something was deleted before.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from peerstore.cli.cluster import Cluster, peerstore
from peerstore.cli.demo import compare

TEXT = "the quick brown fox jumps over lazy dogs while seven wizards box quietly in many old jars"


class Row(NamedTuple):
    """One kind of data, one action: seconds, bytes, files."""

    data: str
    action: str
    seconds: float
    size: int
    files: int


def one_file(place: Path, rng: random.Random, size: int) -> None:
    """One incompressible file."""
    with (place / "large.bin").open("wb") as file:
        for _ in range(size // 2**20):
            file.write(rng.randbytes(2**20))


def small_files(place: Path, rng: random.Random, count: int) -> None:
    """Files of 4 KiB."""
    for number in range(count):
        (place / f"{number:05}.bin").write_bytes(rng.randbytes(4096))


def source_tree(place: Path, rng: random.Random, count: int) -> None:
    """A tree like that of a program's sources: text, mostly small."""
    for number in range(count):
        folder = place / f"part-{number % 40:02}" / f"module-{number % 7}"
        folder.mkdir(parents=True, exist_ok=True)
        lines = int(min(4000, max(1, rng.lognormvariate(4.2, 1.1))))
        text = "\n".join(" ".join(rng.choices(TEXT.split(), k=rng.randrange(3, 14))) for _ in range(lines))
        (folder / f"file_{number:05}.py").write_text(text)


def timed(command: list[str]) -> float:
    """Seconds that a command takes; it must end well."""
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def measure(name: str, source: Path, place: Path, cluster: Cluster, home: Path) -> list[Row]:
    """All actions on one kind of data."""
    files = [path for path in source.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    peers = [part for peer in cluster.peers for part in ("--peer", peer)]
    base = peerstore("--home", str(home), "--quiet")
    rows = []

    def add(action: str, seconds: float) -> None:
        rows.append(Row(name, action, seconds, size, len(files)))

    copy = place / f"copy-{name}"
    began = time.monotonic()
    subprocess.run(["cp", "-r", str(source), str(copy)], check=True)
    os.sync()
    add("cp -r, sync", time.monotonic() - began)
    add("backup", timed([*base, "backup", str(source), "--as", name, *peers]))
    add("backup again", timed([*base, "backup", str(source), "--as", name, *peers]))
    restored = place / f"restored-{name}"
    add("restore", timed([*base, "restore", name, "--to", str(restored), *peers]))
    compare(source, restored)
    return rows


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--place", type=Path)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--small", type=int, default=1000)
    parser.add_argument("--tree", type=int, default=5000)
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="peerstore-bench-", dir=options.place))
    rng = random.Random(1)
    kinds = (
        (f"{options.mib} MiB file", one_file, options.mib * 2**20),
        (f"{options.small} x 4 KiB", small_files, options.small),
        (f"tree of {options.tree}", source_tree, options.tree),
    )
    cluster = Cluster(place)
    rows: list[Row] = []
    try:
        cluster.start(options.nodes)
        cluster.wait_ideal(place / "home")
        for name, make, amount in kinds:
            source = place / f"source-{name}"
            source.mkdir()
            make(source, rng, amount)
            os.sync()
            rows += measure(name, source, place, cluster, place / "home")
        memory = [node.memory() for node in cluster.nodes]
    finally:
        cluster.stop()
        shutil.rmtree(place, ignore_errors=True)
    table = Table(title=f"{options.nodes} nodes, three copies of everything, all on this machine")
    for column in ("data", "action", "s", "MB/s", "files/s"):
        table.add_column(column, justify="left" if column in ("data", "action") else "right")
    for row in rows:
        rate = row.size / row.seconds / 1e6
        table.add_row(row.data, row.action, f"{row.seconds:.2f}", f"{rate:.1f}", f"{row.files / row.seconds:.0f}")
    Console().print(table)
    print(f"most memory of a node: {max(memory) / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
