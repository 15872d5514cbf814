"""A file of 2 GiB in and out: the most memory that each process had."""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from peerstore.cli.cluster import Cluster, peerstore


def run(command: list[str]) -> tuple[float, int]:
    """(seconds, most resident bytes) of a command that must end well."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command} ended with {status}")
    return time.monotonic() - began, usage.ru_maxrss * 1024


def digest(path: Path) -> str:
    """SHA-256 of a file, in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--place", type=Path)
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="peerstore-bench-", dir=options.place))
    cluster = Cluster(place)
    try:
        cluster.start(options.nodes)
        home = place / "home"
        cluster.wait_ideal(home)
        source = place / "source"
        source.mkdir()
        rng = random.Random(2)
        with (source / "large.bin").open("wb") as file:
            for _ in range(options.mib):
                file.write(rng.randbytes(2**20))
        base = peerstore("--home", str(home), "--quiet")
        peers = [part for peer in cluster.peers for part in ("--peer", peer)]
        into = run([*base, "backup", str(source), "--as", "large", *peers])
        stored = [node.memory() for node in cluster.nodes]
        out = run([*base, "restore", "large", "--to", str(place / "out"), *peers])
        served = [node.memory() for node in cluster.nodes]
        equal = digest(source / "large.bin") == digest(place / "out" / "large.bin")
    finally:
        cluster.stop()
        shutil.rmtree(place, ignore_errors=True)
    table = Table(title=f"one file of {options.mib} MiB, {options.nodes} nodes, three copies")
    for column in ("", "s", "MB/s", "client, most memory", "nodes, most memory so far"):
        table.add_column(column, justify="right")
    for name, (seconds, memory), nodes in (("in", into, stored), ("out", out, served)):
        rate = options.mib * 2**20 / seconds / 1e6
        each = ", ".join(f"{size / 1e6:.0f}" for size in sorted(nodes))
        table.add_row(name, f"{seconds:.1f}", f"{rate:.1f}", f"{memory / 1e6:.0f} MB", f"{each} MB")
    Console().print(table)
    print("the same bytes came back" if equal else "OTHER BYTES CAME BACK")


if __name__ == "__main__":
    main()
