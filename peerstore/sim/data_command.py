"""``peerstore-sim data``: simulated data, from the command line."""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Sequence

import click
from twisted.logger import globalLogBeginner

from peerstore.sim.data_many import DataTally, data_row, data_table
from peerstore.sim.data_run import DataResult, run_data
from peerstore.sim.data_schedule import DataSetting, Phase, make_phases, numbered, only_events, setting_for
from peerstore.sim.many import run_many
from peerstore.sim.shrink import ddmin
from peerstore.sim.wanted import chosen_events, only_words, told_faults, wanted_seeds

__all__ = ["data"]


@click.command()
@click.option("--seed", type=int, help="One run; decides everything, the same every time.")
@click.option("--seeds", metavar="A-B", help="Many runs, one table.")
@click.option("--minutes", type=click.FloatRange(min=0), help="As many runs as that allows, one table.")
@click.option("--first", type=int, help="The first seed with --minutes.  [default: by the clock]")
@click.option("--cores", type=click.IntRange(1), help="Processes for many runs.  [default: all cores]")
@click.option("--shrink", is_flag=True, help="Find the shortest schedule that fails in the same way.")
@click.option("--only", metavar="N,N,...", help="Only these events of the seed's schedule.")
@click.option("--schedule", "only_schedule", is_flag=True, help="Print what would happen, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="The outcome as one line of JSON.")
def data(
    seed: int | None,
    seeds: str | None,
    minutes: float | None,
    first: int | None,
    cores: int | None,
    shrink: bool,
    only: str | None,
    only_schedule: bool,
    as_json: bool,
) -> None:
    """Users put, replace, delete and read while hosts come, go, lose their
    disks and are cut off.  The exit status says whether every promise was kept."""
    if seeds is not None or minutes is not None:
        _log_to_nobody()
        _many(seeds, minutes, first, cores or multiprocessing.cpu_count(), as_json)
        return
    seed = 1 if seed is None else seed
    setting = setting_for(seed)
    phases = make_phases(seed, setting)
    chosen = chosen_events(only)
    if shrink:
        chosen = _shrink(seed, setting, phases, chosen)
    if only_schedule:
        for number, (place, event) in enumerate(numbered(phases)):
            click.echo(f"{number:4} phase {place + 1} {event}")
        return
    if not as_json:
        click.echo(_told(setting))
    left = phases if chosen is None else only_events(phases, chosen)
    result = run_data(seed, setting, left, None if as_json else click.echo)
    _tell(result, as_json, _command(seed, chosen))


def _shrink(seed: int, setting: DataSetting, phases: Sequence[Phase], chosen: list[int] | None) -> list[int]:
    """The events of the shortest run that was found."""
    numbers = list(range(len(numbered(phases)))) if chosen is None else chosen
    first = run_data(seed, setting, only_events(phases, numbers))
    if not first.problems:
        raise click.ClickException("Everything held; there is nothing to shrink.")
    kind = _kind(first)
    click.echo(f"{len(numbers)} events: {first.problems[0]}")

    def fails(some: Sequence[int]) -> bool:
        result = run_data(seed, setting, only_events(phases, some))
        return bool(result.problems) and _kind(result) == kind

    kept = ddmin(numbers, fails)
    click.echo(f"{len(kept)} events are enough")
    return kept


def _kind(result: DataResult) -> str:
    """What counts as failing in the same way."""
    return result.violated[0] if result.violated else "another problem"


def _command(seed: int, chosen: Sequence[int] | None) -> str:
    return f"peerstore-sim data --seed {seed}{only_words(chosen)}"


def _told(setting: DataSetting) -> str:
    return (
        f"{setting.first} of {setting.hosts} hosts of {setting.virtual_nodes}, lists of {setting.list_size}, "
        f"{setting.phases} phases of {setting.seconds:.0f} s, a failure each {setting.gap:.0f} s, "
        f"an operation each {setting.pause:.0f} s of each device; {told_faults(setting.faults)}"
    )


def _tell(result: DataResult, as_json: bool, command: str) -> None:
    if as_json:
        click.echo(json.dumps({"held": not result.problems, "command": command, **result._asdict()}))
        sys.exit(1 if result.problems else 0)
    for name, counts in (
        ("happened", result.faults),
        ("operations", result.operations),
        ("checks", result.checks),
        ("in the end", result.things),
    ):
        click.echo(f"{name}: " + ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items())))
    click.echo(
        f"at the latest {result.slowest:.1f} s after all faults everything was on its hosts; "
        f"{result.virtual_seconds:.0f} virtual seconds, {result.events:,} events; trace {result.trace}"
    )
    for problem in result.problems:
        click.echo(f"FAILED: {problem}")
    if result.problems:
        click.echo(f"Replay it with: {command}")
        sys.exit(1)
    click.echo("every promise was kept")


def _log_to_nobody() -> None:
    """A node's failures are problems of its run, which is run again, alone,
    to see more of it.  What is logged between runs is of the dead of the last
    one, which were thrown away."""
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)


def _many(seeds: str | None, minutes: float | None, first: int | None, cores: int, as_json: bool) -> None:
    began = time.monotonic()
    wanted, is_time = wanted_seeds(seeds, minutes, first)
    tally = DataTally()
    for row in run_many(data_row, wanted, cores, is_time):
        tally.add(row)
        for problem in row.problems[:1]:
            click.echo(f"FAILED: seed {row.seed}: {problem}", err=as_json)
    if as_json:
        failures = {row.seed: row.problems for row in tally.failures}
        click.echo(json.dumps({"held": not failures, "sums": tally.sums, "failures": failures}))
    else:
        for line in data_table(tally):
            click.echo(line)
        click.echo(
            f"at the latest {tally.slowest:.1f} s after all faults everything was on its hosts; "
            f"{time.monotonic() - began:.0f} s on {cores} cores"
        )
        for row in tally.failures:
            click.echo(f"Replay it with: peerstore-sim data --seed {row.seed}; shrink it with --shrink")
        click.echo("every promise was kept" if not tally.failures else f"{len(tally.failures)} seeds FAILED")
    sys.exit(1 if tally.failures or not tally.sums else 0)
