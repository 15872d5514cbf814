"""The ring's story: it forms, loses a node, takes one in, gives files back."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from peerstore.errors import PeerStoreError
from peerstore.sim.network import Faults
from peerstore.sim.world import World

__all__ = ["RingResult", "run_ring"]

CONTENTS = 40
#: Virtual seconds within which a ring must be ideal after a change.
PATIENCE = 120.0


class RingResult(NamedTuple):
    """How a run ended: *problems* is empty when everything held."""

    problems: list[str]
    trace: str
    events: int
    virtual_seconds: float
    checks: int


def run_ring(
    seed: int,
    hosts: int = 10,
    virtual_nodes: int = 1,
    list_size: int = 4,
    faults: Faults | None = None,
    partition: bool = True,
    say: Callable[[str], None] | None = None,
) -> RingResult:
    """Run one seed from start to end."""
    world = World(seed, virtual_nodes, list_size, faults or Faults(loss=0.01), say)
    try:
        _story(world, hosts, partition)
    except PeerStoreError as error:
        world.problem(str(error))
    return RingResult(world.problems, world.trace.digest(), world.trace.events, world.clock.seconds(), world.checks)


def _story(world: World, hosts: int, partition: bool) -> None:
    names = [f"host-{number}" for number in range(hosts)]
    world.start(names[0])
    for name in names[1:]:
        world.run(world.decisions.fraction("story", "gap"))
        world.start(name, names[0])
    _settle(world, "the ring forms")
    rng = world.decisions.rng("story", "contents")
    gateway = world.client("user", names[:3])
    stored = world.put(gateway, [rng.randbytes(rng.randrange(1, 20_000)) for _ in range(CONTENTS)])
    if len(stored) < CONTENTS:
        world.problem("a quiet ring did not take everything")

    # One is lost, without a word, while files are read.
    lost = names[1 + world.decisions.number("story", "lost") % (hosts - 1)]
    world.hosts[lost].crash()
    world.get(gateway, stored)
    _settle(world, f"{lost} is lost")
    world.get(gateway, stored)

    # One is taken in, and one that knows nothing of the past.
    world.start("newcomer", names[0] if names[0] != lost else names[2])
    _settle(world, "a newcomer joins")
    world.run(40.0)
    world.get(gateway, stored)
    world.start(lost, names[0])
    _settle(world, f"{lost} comes back")
    if partition:
        _partition(world)
    world.run(40.0)
    world.get(gateway, stored)
    leaver = next(host for host in world.running() if host.name not in (names[0], lost))
    world.wait(leaver.leave(), 30.0)
    _settle(world, f"{leaver.name} leaves")
    world.get(gateway, stored)
    for violation in world.check():
        world.problem(str(violation))


def _partition(world: World) -> None:
    """The network is cut in two, and mended."""
    names = [host.name for host in world.running()]
    half = len(names) // 2
    cut = world.cut(names[:half], names[half:])
    world.run(30.0)
    world.mend(cut)
    _settle(world, "the network is mended")


def _settle(world: World, what: str) -> None:
    seconds = world.until_ideal(PATIENCE)
    if seconds is None:
        world.problem(f"{what}: the ring is not ideal after {PATIENCE:.0f} virtual seconds")
    else:
        world.trace.event("ideal", f"{what}: ideal after {seconds:.2f} s", quiet=False)
