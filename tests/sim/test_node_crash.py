"""One node of five crashes at any moment of a put or a get: whatever was
certain comes back, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase

from peerstore.gateway.gateway import Gateway
from peerstore.items import Item
from tests.support.rings import Ring, items_named
from tests.support.things import OWNER, a_chain, a_chunk, a_head, log_id

CHUNKS = [a_chunk(number, 3000) for number in range(30)]
HEADS = [a_head(number) for number in range(30)]
CHAIN = a_chain(20)
#: Virtual seconds; a put of all that takes about 0.12 s, a get 0.09 s.
MOMENTS = [0.0025 * step for step in range(50)]
STEP = len("abcde")


def put_everything(gateway: Gateway) -> Deferred[list[list[Any]]]:
    """Chunks, heads with an entry, and the rest of the chain after it."""
    return gatherResults(
        [
            gateway.put_chunks(CHUNKS, 60.0),
            gateway.put_heads(HEADS, CHAIN[:1], 60.0),
            gateway.append(CHAIN, 60.0),
        ]
    )


def get_everything(gateway: Gateway) -> Deferred[list[Any]]:
    """All of it, each kind its own way."""
    return gatherResults(
        [
            gateway.get_chunks([chunk.key.element for chunk in CHUNKS], 60.0),
            gateway.read_log(log_id(), OWNER, {}, 256, 60.0),
            *[gateway.get_heads(head.key.ring_id, OWNER, (), 60.0) for head in HEADS],
        ]
    )


class CrashTests(SynchronousTestCase):
    """Each host in turn, at moments spread over the whole operation."""

    def check(self, ring: Ring, found: list[Any], certain: list[Item]) -> None:
        """Everything certain was found, complete, and nothing else but what was put."""
        chunks, log, *heads = found
        self.assertLessEqual(chunks.items(), items_named(CHUNKS).items())
        self.assertTrue(log.complete)
        self.assertTrue(all(read.complete for read in heads))
        there = {**chunks, **items_named(log.items)}
        for read in heads:
            there.update(items_named(read.items))
        self.assertEqual([item.key.kind.name for item in certain if there.get(item.key.element) != item], [])

    def each_moment(self, victim: str, story: Callable[[Ring, str, float], None]) -> None:
        """Run *story* on a fresh ring for every fifth moment, others for each host."""
        first = "abcde".index(victim)
        for moment in MOMENTS[first::STEP]:
            ring = Ring("abcde", seed=int(moment * 10_000))
            try:
                story(ring, victim, moment)
            except AssertionError as error:
                raise AssertionError(f"{victim} crashed {moment:.4f} s into it: {error}") from error

    def during_a_put(self, ring: Ring, victim: str, moment: float) -> None:
        """The client goes on until all is certain."""
        peers = "".join(name for name in "abcde" if name != victim)
        putting = put_everything(ring.client(peers))
        ring.run(moment)
        ring.world.hosts[victim].crash()
        chunks, heads, entries = ring.wait(putting, 240.0)
        self.assertTrue(all(outcome.certain for outcome in [*chunks, *heads, *entries]))
        reading = get_everything(ring.client(peers, "reader"))
        self.check(ring, ring.wait(reading, 240.0), [*CHUNKS, *HEADS, *CHAIN])

    def during_an_impatient_put(self, ring: Ring, victim: str, moment: float) -> None:
        """The client gives up soon: what it was told is certain is there."""
        gateway = ring.client("abcde")
        items = [*CHUNKS, *HEADS, *CHAIN]
        putting = gatherResults(
            [gateway.put_chunks(CHUNKS, 0.0), gateway.put_heads(HEADS, (), 0.0), gateway.append(CHAIN, 0.0)]
        )
        ring.run(moment)
        ring.world.hosts[victim].crash()
        outcomes = [outcome for part in ring.wait(putting, 240.0) for outcome in part]
        certain = [item for item, outcome in zip(items, outcomes, strict=True) if outcome.certain]
        reading = get_everything(ring.client("abcde".replace(victim, ""), "reader"))
        self.check(ring, ring.wait(reading, 240.0), certain)

    def during_a_get(self, ring: Ring, victim: str, moment: float) -> None:
        """The reader notices nothing but a pause."""
        assert all(outcome.certain for outcome in ring.put([*CHUNKS, *HEADS, *CHAIN]))
        reading = get_everything(ring.client("abcde", "reader"))
        ring.run(moment * 0.7)
        ring.world.hosts[victim].crash()
        self.check(ring, ring.wait(reading, 240.0), [*CHUNKS, *HEADS, *CHAIN])

    def and_comes_back(self, ring: Ring, victim: str, moment: float) -> None:
        """It restarts at once, with what its disk had: nothing else is lost."""
        peers = "".join(name for name in "abcde" if name != victim)
        putting = put_everything(ring.client(peers))
        ring.run(moment)
        ring.world.hosts[victim].crash()
        ring.run(0.05)
        ring.world.start(victim, peers[0])
        outcomes = [outcome for part in ring.wait(putting, 240.0) for outcome in part]
        self.assertTrue(all(outcome.certain for outcome in outcomes))
        reading = get_everything(ring.client(victim, "reader"))
        self.check(ring, ring.wait(reading, 240.0), [*CHUNKS, *HEADS, *CHAIN])


def _add(name: str, victim: str) -> None:
    def test(self: CrashTests) -> None:
        self.each_moment(victim, getattr(self, name))

    test.__doc__ = f"Host {victim} crashes {name.replace('_', ' ')}."
    setattr(CrashTests, f"test_{victim}_{name}", test)


for _victim in "abcde":
    for _name in ("during_a_put", "during_an_impatient_put", "during_a_get", "and_comes_back"):
        _add(_name, _victim)
