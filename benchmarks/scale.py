"""The ring's code alone, with many hosts, in virtual time.

Hosts join one after the other, each through a random one that is there.
When their ring is ideal and has come to rest, one virtual hour passes.  All
hosts know all hosts, as shipped.  Told are the real seconds that it took, the
memory of the whole program, and what upkeep costs each host on the wire:
bytes of all questions and answers as they are packed, frame headers included,
in an hour at rest.
"""

from __future__ import annotations

import argparse
import random
import resource
import time
from typing import NamedTuple

from bare_ring import BareHost, BareNet
from rich.console import Console
from rich.table import Table

from peerstore.ring.host import MEMBER

SIZES = (10, 100, 1000)
HOUR = 3600.0
#: Virtual seconds from one join to the next.
JOIN_EVERY = 0.25
#: After the last change everybody's rounds have slowed down by then.
REST = 180.0


class Scale(NamedTuple):
    """What so many hosts cost.  *bytes_at_rest* are per host and second; so
    are *questions*; *ideal* is virtual seconds after the last join; memory
    is in MiB, the interpreter's included."""

    hosts: int
    forming: float
    ideal: float
    hour: float
    real: float
    events: int
    bytes_forming: float
    bytes_at_rest: float
    questions: float
    memory: float
    parts: dict[str, float]


def grow(net: BareNet, count: int) -> list[BareHost]:
    """*count* hosts join one after the other."""
    rng = random.Random(f"{net.seed}/grow")
    hosts = [net.add()]
    hosts[0].ring.start()
    while len(hosts) < count:
        net.clock.advance(JOIN_EVERY)
        host = net.add(rng.choice(hosts))
        host.ring.start()
        hosts.append(host)
    return hosts


def scale(count: int, seconds: float = HOUR, seed: int = 1, rest: float = REST) -> Scale:
    """Let a ring of *count* hosts form, and so much virtual time pass at rest."""
    trips = random.Random(f"{seed}/trips")
    net = BareNet(seed, knows_all=True, trip=lambda: trips.uniform(0.001, 0.004), weigh=True)
    began = time.process_time()
    hosts = grow(net, count)
    last = net.clock.now
    while net.wrong() or any(host.ring.status != MEMBER for host in hosts):
        net.clock.advance(0.25)
    ideal = net.clock.now - last
    net.clock.advance(rest)
    forming = time.process_time() - began
    formed = sum(net.weights.values()) / count / max(net.clock.now, 1.0)
    net.weights.clear()
    net.calls.clear()
    events, began, real = net.clock.events, time.process_time(), time.monotonic()
    net.clock.advance(seconds)
    each = count * seconds
    return Scale(
        count,
        forming,
        ideal,
        time.process_time() - began,
        time.monotonic() - real,
        net.clock.events - events,
        formed,
        sum(net.weights.values()) / each,
        sum(net.calls.values()) / each,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        {method: weight / each for method, weight in net.weights.most_common()},
    )


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, action="append", help="may be given more than once")
    parser.add_argument("--seconds", type=float, default=HOUR, help="virtual seconds at rest")
    parser.add_argument("--quick", action="store_true", help="10, 30 and 100 hosts, ten virtual minutes")
    options = parser.parse_args()
    sizes = options.hosts or ((10, 30, 100) if options.quick else SIZES)
    seconds = 600.0 if options.quick else options.seconds
    found = [scale(count, seconds) for count in sorted(sizes)]
    table = Table(title=f"one position a host; {seconds:.0f} virtual seconds at rest")
    for column in ("", *(f"{one.hosts} hosts" for one in found)):
        table.add_column(column, justify="right" if column else "left")

    def row(name: str, form: str, field: str) -> None:
        table.add_row(name, *(form.format(getattr(one, field)) for one in found))

    row("CPU seconds until it stands and rests", "{:.1f}", "forming")
    row("virtual seconds from the last join to ideal", "{:.1f}", "ideal")
    row("CPU seconds for the time at rest", "{:.1f}", "hour")
    row("real seconds for it", "{:.1f}", "real")
    row("events in it", "{:,}", "events")
    row("most memory so far, MiB", "{:.0f}", "memory")
    row("bytes per host and second, at rest", "{:.1f}", "bytes_at_rest")
    row("questions per host and second, at rest", "{:.2f}", "questions")
    row("bytes per host and second, while forming", "{:.0f}", "bytes_forming")
    for method in found[-1].parts:
        table.add_row(f"  of the bytes at rest: {method}", *(f"{one.parts.get(method, 0.0):.1f}" for one in found))
    Console().print(table)


if __name__ == "__main__":
    main()
