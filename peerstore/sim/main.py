"""``peerstore-sim``: runs of the shipped code in virtual time."""

from __future__ import annotations

import sys
import time

import click
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogBeginner
from zope.interface import implementer

from peerstore.sim.network import Faults
from peerstore.sim.ring_run import run_ring

__all__ = ["cli", "main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """The shipped code in virtual time, with seeded faults."""


@cli.command()
@click.option("--seed", type=int, default=1, show_default=True, help="Decides everything; the same run every time.")
@click.option("--hosts", type=click.IntRange(4, 200), default=10, show_default=True, help="Hosts at the start.")
@click.option("--virtual-nodes", type=click.IntRange(1, 8), default=1, show_default=True, help="Positions of each.")
@click.option(
    "--list-size", type=click.IntRange(2, 64), default=4, show_default=True, help="Length of successor lists."
)
@click.option("--loss", type=click.FloatRange(0, 0.5), default=0.01, show_default=True, help="Lost writes, sent again.")
@click.option("--duplication", type=click.FloatRange(0, 0.5), default=0.0, help="Writes that arrive twice.")
@click.option("--reordering", type=click.FloatRange(0, 0.5), default=0.0, help="Writes that overtake others.")
@click.option("--partition/--no-partition", default=True, show_default=True, help="Cut the network, and mend it.")
@click.option("--verbose", "-v", is_flag=True, help="Say what the nodes log, too.")
def ring(
    seed: int,
    hosts: int,
    virtual_nodes: int,
    list_size: int,
    loss: float,
    duplication: float,
    reordering: float,
    partition: bool,
    verbose: bool,
) -> None:
    """A ring forms, loses a node, takes one in, is cut and mended, and gives files back."""

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if verbose or event.get("log_level") == LogLevel.critical:
            click.echo(f"    {formatEvent(event)}")

    globalLogBeginner.beginLoggingTo([observe], redirectStandardIO=False, discardBuffer=True)
    faults = Faults(loss=loss, duplication=duplication, reordering=reordering)
    began = time.monotonic()
    result = run_ring(seed, hosts, virtual_nodes, list_size, faults, partition, click.echo)
    click.echo(
        f"{result.virtual_seconds:.0f} virtual seconds, {result.events} events, {result.checks} checks, "
        f"in {time.monotonic() - began:.1f} s; trace {result.trace}"
    )
    if result.problems:
        for problem in result.problems:
            click.echo(f"FAILED: {problem}")
        options = f"--hosts {hosts} --virtual-nodes {virtual_nodes} --list-size {list_size} --loss {loss}"
        options += f" --duplication {duplication} --reordering {reordering}" + ("" if partition else " --no-partition")
        click.echo(f"Replay it with: peerstore-sim ring --seed {seed} {options}")
        sys.exit(1)
    click.echo("everything held")


def main() -> None:
    """The console script."""
    cli()
