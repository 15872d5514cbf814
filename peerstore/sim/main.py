"""``peerstore-sim``: runs of the shipped code in virtual time."""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogBeginner
from zope.interface import implementer

from peerstore.sim.churn_run import ChurnResult, run_churn
from peerstore.sim.data_command import data
from peerstore.sim.many import Tally, run_rings, table
from peerstore.sim.network import Faults
from peerstore.sim.ring_run import run_ring
from peerstore.sim.schedule import Setting, make_schedule, setting_for
from peerstore.sim.shrink import shrink as shrink_run
from peerstore.sim.shrink import some_of
from peerstore.sim.wanted import chosen_events, only_words, told_faults, wanted_seeds

__all__ = ["cli", "main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """The shipped code in virtual time, with seeded faults."""


cli.add_command(data)


@cli.command()
@click.option("--seed", type=int, help="One run; decides everything, the same every time.")
@click.option("--seeds", metavar="A-B", help="Many runs, one table.")
@click.option("--minutes", type=click.FloatRange(min=0), help="As many runs as that allows, one table.")
@click.option("--first", type=int, help="The first seed with --minutes.  [default: by the clock]")
@click.option("--cores", type=click.IntRange(1), help="Processes for many runs.  [default: all cores]")
@click.option("--large", is_flag=True, help="Up to forty positions and an hour, not twelve and ten minutes.")
@click.option("--shrink", is_flag=True, help="Find the shortest schedule that fails in the same way.")
@click.option("--only", metavar="N,N,...", help="Only these events of the seed's schedule.")
@click.option("--without", metavar="HOST,...", help="Without these hosts.")
@click.option("--hosts", type=click.IntRange(2, 200), help="Hosts at most.  [default: the seed's]")
@click.option("--virtual-nodes", type=click.IntRange(1, 8), help="Positions of each.  [default: the seed's]")
@click.option("--list-size", type=click.IntRange(2, 64), help="Length of successor lists.  [default: the seed's]")
@click.option("--table/--no-table", "knows_all", default=None, help="Whether hosts tell each other of all hosts.")
@click.option("--schedule", "only_schedule", is_flag=True, help="Print what would happen, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="The outcome as one line of JSON.")
@click.option("--verbose", "-v", is_flag=True, help="Say what the nodes log, too.")
def ring(
    seed: int | None,
    seeds: str | None,
    minutes: float | None,
    first: int | None,
    cores: int | None,
    large: bool,
    shrink: bool,
    only: str | None,
    without: str | None,
    hosts: int | None,
    virtual_nodes: int | None,
    list_size: int | None,
    knows_all: bool | None,
    only_schedule: bool,
    as_json: bool,
    verbose: bool,
) -> None:
    """A ring under random faults: hosts come, crash, return and leave, the
    network is cut and mended, and after every event the invariants are looked
    at.  The exit status says whether everything held."""
    _log_to_screen(verbose)
    if seeds is not None or minutes is not None:
        _many(seeds, minutes, first, cores or multiprocessing.cpu_count(), large, as_json)
        return
    seed = 1 if seed is None else seed
    changes: dict[str, Any] = {
        "hosts": hosts,
        "virtual_nodes": virtual_nodes,
        "list_size": list_size,
        "knows_all": knows_all,
    }
    setting = setting_for(seed, large)._replace(**{name: value for name, value in changes.items() if value is not None})
    events = make_schedule(seed, setting)
    chosen = chosen_events(only)
    gone = without.split(",") if without else []
    options = " --large" * large + _options(changes)
    if shrink:
        shrunk = shrink_run(seed, setting, events, chosen, gone, lambda what: click.echo(what, err=as_json))
        if shrunk is None:
            raise click.ClickException("Everything held; there is nothing to shrink.")
        chosen, gone = shrunk.chosen, shrunk.gone
    left = some_of(events, chosen, gone)
    if shrink or only_schedule:
        for number in range(len(events)) if chosen is None else chosen:
            for event in some_of(events, [number], gone):
                click.echo(f"{number:4} {event}", err=as_json)
    if only_schedule:
        return
    if not as_json:
        click.echo(_told(setting))
    result = run_churn(seed, setting, left, None if as_json else click.echo)
    _tell(result, as_json, _command(seed, options, chosen, gone))


@cli.command()
@click.option("--seed", type=int, default=1, show_default=True, help="Decides everything; the same run every time.")
@click.option("--hosts", type=click.IntRange(4, 200), default=10, show_default=True, help="Hosts at the start.")
@click.option("--virtual-nodes", type=click.IntRange(1, 8), default=1, show_default=True, help="Positions of each.")
@click.option(
    "--list-size", type=click.IntRange(2, 64), default=4, show_default=True, help="Length of successor lists."
)
@click.option("--loss", type=click.FloatRange(0, 0.5), default=0.01, show_default=True, help="Lost writes, sent again.")
@click.option("--partition/--no-partition", default=True, show_default=True, help="Cut the network, and mend it.")
@click.option("--json", "as_json", is_flag=True, help="The outcome as one line of JSON.")
@click.option("--verbose", "-v", is_flag=True, help="Say what the nodes log, too.")
def story(
    seed: int,
    hosts: int,
    virtual_nodes: int,
    list_size: int,
    loss: float,
    partition: bool,
    as_json: bool,
    verbose: bool,
) -> None:
    """A ring forms, loses a node, takes one in, is cut and mended, and gives files back."""
    _log_to_screen(verbose)
    result = run_ring(
        seed, hosts, virtual_nodes, list_size, Faults(loss=loss), partition, None if as_json else click.echo
    )
    if as_json:
        click.echo(json.dumps({"seed": seed, "held": not result.problems, **result._asdict()}))
    else:
        click.echo(f"{result.virtual_seconds:.0f} virtual seconds, {result.events} events, trace {result.trace}")
        for problem in result.problems:
            click.echo(f"FAILED: {problem}")
        if not result.problems:
            click.echo("everything held")
    sys.exit(1 if result.problems else 0)


# -- one seed ---------------------------------------------------------------------


def _options(changes: dict[str, Any]) -> str:
    words = []
    for name, value in changes.items():
        if value is not None and name == "knows_all":
            words.append("--table" if value else "--no-table")
        elif value is not None:
            words.append(f"--{name.replace('_', '-')} {value}")
    return "".join(f" {word}" for word in words)


def _command(seed: int, options: str, chosen: Sequence[int] | None, gone: Sequence[str]) -> str:
    without = f" --without {','.join(gone)}" if gone else ""
    return f"peerstore-sim ring --seed {seed}{options}{only_words(chosen)}{without}"


def _told(setting: Setting) -> str:
    return (
        f"at most {setting.hosts} hosts of {setting.virtual_nodes}, lists of {setting.list_size}, "
        f"{'with' if setting.knows_all else 'without'} tables of all hosts, "
        f"upkeep at least each {setting.longest_period:.0f} s, a failure each {setting.gap:.0f} s; "
        f"{told_faults(setting.faults)}"
    )


def _tell(result: ChurnResult, as_json: bool, command: str) -> None:
    if as_json:
        click.echo(json.dumps({"held": not result.problems, "command": command, **result._asdict()}))
        sys.exit(1 if result.problems else 0)
    lookups = ", ".join(f"{count} {kind}" for kind, count in sorted(result.lookups.items()))
    click.echo(f"happened:  {_faults(result.faults)}")
    click.echo(f"checks:    {sum(result.checks.values()):,} ({_counted(result.checks)})")
    click.echo(f"suspended: {sum(result.suspended.values()):,} ({_counted(result.suspended)})")
    click.echo(
        f"F* was kept for {result.seconds['held']} s by rings that had more than r members, for "
        f"{result.seconds['held while small']} s by smaller ones, and broken for {result.seconds['suspended']} s; "
        f"at the latest {result.slowest:.1f} s after a failure all held again"
    )
    click.echo(f"lookups meanwhile: {lookups}")
    click.echo(f"{result.virtual_seconds:.0f} virtual seconds, {result.events:,} events; trace {result.trace}")
    for problem in result.problems:
        click.echo(f"FAILED: {problem}")
    if result.problems:
        click.echo(f"Replay it with: {command}")
        sys.exit(1)
    click.echo("everything held")


def _faults(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[kind]:,} {kind}" for kind in sorted(counts))


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {counts[name]:,}" for name in sorted(counts, key=lambda name: (len(name), name)))


# -- many seeds ----------------------------------------------------------------------


def _many(seeds: str | None, minutes: float | None, first: int | None, cores: int, large: bool, as_json: bool) -> None:
    began = time.monotonic()
    wanted, is_time = wanted_seeds(seeds, minutes, first)
    tally = Tally()
    for row in run_rings(wanted, cores, is_time, large):
        tally.add(row)
        for problem in row.problems[:1]:
            click.echo(f"FAILED: seed {row.seed}: {problem}", err=as_json)
    if as_json:
        failures = {row.seed: row.problems for row in tally.failures}
        click.echo(json.dumps({"held": not failures, "sums": tally.sums, "failures": failures}))
    else:
        for line in table(tally):
            click.echo(line)
        click.echo(f"happened: {_faults(tally.kinds)}")
        click.echo(
            f"at the latest {tally.slowest:.1f} s after a failure all held again; "
            f"{time.monotonic() - began:.0f} s on {cores} cores"
        )
        for row in tally.failures:
            click.echo(
                f"Replay it with: peerstore-sim ring --seed {row.seed}{' --large' * large}; shrink it with --shrink"
            )
        click.echo("everything held" if not tally.failures else f"{len(tally.failures)} seeds FAILED")
    sys.exit(1 if tally.failures or not tally.sums else 0)


def _log_to_screen(verbose: bool) -> None:
    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if verbose or event.get("log_level") == LogLevel.critical:
            click.echo(f"    {formatEvent(event)}", err=True)

    globalLogBeginner.beginLoggingTo([observe], redirectStandardIO=False, discardBuffer=True)


def main() -> None:
    """The console script."""
    cli()
