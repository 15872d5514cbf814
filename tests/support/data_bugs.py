"""Bugs that simulated data must notice, put in one at a time.

::

    python -m tests.support.data_bugs [--seeds 1-40] [--bug NAME] [--first]

prints which seeds catch which bug, and ends with status 1 when one of them is
caught by none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed

from peerstore.gateway import union
from peerstore.items import Item, ItemKey
from peerstore.node.electorate import Electorate
from peerstore.node.exchange import Exchange, Task
from peerstore.node.farewell import Farewell
from peerstore.node.keeper import Keeper, Verdict
from peerstore.node.strays import Strays
from peerstore.sim.data_run import run_data
from peerstore.storage.memory_store import MemoryNodeStore
from peerstore.wire.messages import Status
from tests.support.bugs import Bug, Hunt, replaced

__all__ = ["BUGS", "HUNT", "SEEDS"]

#: The fixed list: each bug is caught by some of these.
SEEDS = range(1, 41)


# -- the bugs -----------------------------------------------------------------------


def retire_that_exits_early() -> contextlib.AbstractContextManager[None]:
    """It hands over what it can, once, and goes."""

    def make(real: Any) -> Any:
        async def once(self: Any, say: Any) -> bool:
            say(await self._strays.round(1, drop=False))
            return True

        return once

    return replaced(Farewell, "_is_all_for_sure", make)


def ack_before_fsync() -> contextlib.AbstractContextManager[None]:
    """What was written counts at once; the disk follows when it can."""

    def make(real: Any) -> Any:
        def put(self: Any, items: Any) -> Deferred[list[bool]]:
            pending: list[Item] = list(items)
            real(self, pending).addErrback(lambda failure: None)
            return succeed([self._index(item) for item in pending])

        return put

    return replaced(MemoryNodeStore, "put", make)


def not_found_from_one_answer() -> contextlib.AbstractContextManager[None]:
    """One voter speaks for all."""
    return replaced(union._Count, "complete", lambda real: property(lambda self: bool(self._names)))


def syncing_counted_as_a_vote() -> contextlib.AbstractContextManager[None]:
    """Whoever is on the list of voters votes, whatever it knows."""
    return replaced(Electorate, "is_voter", lambda real: lambda self, arc: self.fp in arc.named.hosts)


def drop_before_confirm() -> contextlib.AbstractContextManager[None]:
    """Who should have a copy has one, no doubt."""

    def make(real: Any) -> Any:
        async def has(self: Any, fp: bytes, keys: Sequence[ItemKey]) -> frozenset[ItemKey]:
            return frozenset(keys)

        return has

    return replaced(Strays, "_with", make)


def repair_that_trusts_a_digest() -> contextlib.AbstractContextManager[None]:
    """What two hosts once had alike is alike for ever."""
    alike: set[tuple[Any, ...]] = set()

    def make(real: Any) -> Any:
        async def run(self: Any, task: Task, after: int, through: int) -> None:
            place = (id(self), task.member.fp, task.kinds, task.fetch, task.push, after, through)
            if place not in alike:
                await real(self, task, after, through)
                alike.add(place)

        return run

    return replaced(Exchange, "run", make)


def refused_after_acknowledged() -> contextlib.AbstractContextManager[None]:
    """A quota is judged by each host that is given a copy, too."""

    def make(real: Any) -> Any:
        async def keep(self: Any, items: Any) -> list[Verdict]:
            verdicts = []
            for item in items:
                _, count = await self.store.usage(item.key.owner)
                if count >= 60:
                    verdicts.append(Verdict(Status.QUOTA, "the owner's quota is used up"))
                else:
                    verdicts += await real(self, [item])
            return verdicts

        return keep

    return replaced(Keeper, "keep", make)


BUGS = {
    "drop before confirm": Bug("copies go without asking who else has them", drop_before_confirm),
    "ack before fsync": Bug("a write is acknowledged before it is on the disk", ack_before_fsync),
    "SYNCING counted as a vote": Bug("a voter votes before it knows everything", syncing_counted_as_a_vote),
    "not-found from one answer": Bug("one voter's answer makes a read complete", not_found_from_one_answer),
    "repair that trusts a digest": Bug("what was alike once is not compared again", repair_that_trusts_a_digest),
    "refused after acknowledged": Bug("a copy of what another acknowledged is refused", refused_after_acknowledged),
    "retire that exits early": Bug("a node goes before others have what it had", retire_that_exits_early),
}


HUNT = Hunt(run_data, SEEDS, BUGS)

main = HUNT.command("Put each bug in, and print which seeds catch it.")

if __name__ == "__main__":
    main()
