"""How long until nodes that are started at once are an ideal ring.

The clock starts when the last node's process is started; the nodes' keys are
there already.  Ideal: every position's predecessor and whole list are right,
asked from all of them over the wire.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table
from twisted.internet import defer, task

from peerstore.cli.cluster import Cluster
from peerstore.client.assemble import open_client
from peerstore.client.survey import survey
from peerstore.errors import PeerStoreError


async def watch(reactor, cluster: Cluster, home: Path, began: float, timeout: float) -> float | None:
    """Seconds until the ring is ideal, or None."""
    wanted = len(cluster.nodes)
    while time.monotonic() - began < timeout:
        try:
            opened = await open_client(reactor, home, None, [f"tcp:{peer}" for peer in cluster.peers[:1]])
        except PeerStoreError:
            await task.deferLater(reactor, 0.02)
            continue
        try:
            seen = await survey(opened.pool, opened.hosts, reactor)
        finally:
            await opened.close()
        if seen.ideal and seen.complete and len(seen.hosts) == wanted:
            return time.monotonic() - began
        await task.deferLater(reactor, 0.02)
    return None


async def main(reactor) -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--positions", type=int, default=8)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--timeout", type=float, default=60.0)
    options = parser.parse_args()
    results = []
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory(prefix="peerstore-bench-") as folder:
            cluster = Cluster(Path(folder))
            cluster.prepare(options.nodes)
            try:
                cluster.start(options.nodes, "--virtual-nodes", str(options.positions))
                results.append(await watch(reactor, cluster, Path(folder) / "home", time.monotonic(), options.timeout))
            finally:
                cluster.stop()
    table = Table(title=f"{options.nodes} nodes of {options.positions} positions, started at once")
    for name in ("runs", "ideal after (median)", "worst", "not within the timeout"):
        table.add_column(name, justify="right")
    good = [result for result in results if result is not None]
    table.add_row(
        str(len(results)),
        f"{statistics.median(good):.2f} s" if good else "-",
        f"{max(good):.2f} s" if good else "-",
        str(len(results) - len(good)),
    )
    Console().print(table)


if __name__ == "__main__":
    task.react(lambda reactor: defer.ensureDeferred(main(reactor)))
