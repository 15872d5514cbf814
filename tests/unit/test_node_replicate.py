"""Rounds that compare copies: when the next one comes."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed

from peerstore.node.debts import Debts
from peerstore.node.exchange import Task
from peerstore.node.replicate import Replicator
from peerstore.node.rounds import QUIET
from tests.support.voters import fp_of
from tests.unit.test_node_duties import GRACE, LETTERS, DutiesTestCase


class _Exchange:
    """Who was compared with; nothing differs.  *slow* holds answers back."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.slow: list[Deferred[int]] | None = None

    def run(self, task: Task, after: int, through: int) -> Deferred[int]:
        """Compare one share with one host."""
        self.asked.append(task.member.fp)
        if self.slow is None:
            return succeed(0)
        self.slow.append(Deferred())
        return self.slow[-1]

    async def alike(self, *_: Any) -> tuple[int, int, bool]:
        """Two hosts have the same."""
        return 0, 0, True


class _Strays:
    """Nothing here is another's."""

    async def round(self, enough: int, drop: bool) -> int:
        """All is handed over."""
        return 0


class GraceTests(DutiesTestCase):
    """A host is away, and then it has been for too long."""

    def setUp(self) -> None:
        super().setUp()
        self.exchange: Any = _Exchange()
        strays: Any = _Strays()
        self.replicator = Replicator(
            self.hall.clock, self.duties, self.exchange, strays, Debts(), self.table, self.me.fp, 3
        )
        self.replicator.start()
        self.addCleanup(self.replicator.stop)
        self.dies(LETTERS[1])

    def passes(self, seconds: float) -> None:
        """Let time pass, in small steps."""
        self.hall.clock.pump([0.25] * round(seconds / 0.25))

    def heirs_asked(self) -> bool:
        """Whether the host that takes over was given its part since this was asked last."""
        asked, self.exchange.asked = self.exchange.asked, []
        return fp_of(LETTERS[3]) in asked

    def test_soon_when_the_grace_is_over(self) -> None:
        """Not when the next quiet round would have come."""
        self.replicator.ring_changed()
        self.passes(GRACE - 1.0)
        self.heirs_asked()
        self.passes(2.0)
        self.assertTrue(self.heirs_asked())

    def test_a_round_that_lasts_beyond_the_grace(self) -> None:
        """It is broken off, since it began with the holders from before."""
        self.passes(GRACE - QUIET)
        self.exchange.slow = []
        self.replicator.ring_changed()
        self.passes(QUIET - 1.0)
        self.assertTrue(self.exchange.slow)
        self.heirs_asked()
        self.exchange.slow = None
        self.passes(2.0)
        self.assertTrue(self.heirs_asked())

    def test_a_round_that_ends_just_after_the_grace(self) -> None:
        """The next comes at once, and not when all would be well."""
        self.passes(GRACE - 1.0)
        self.exchange.slow = held = []
        self.replicator.ring_changed()
        self.passes(1.0)
        self.hall.clock.advance(0.1)
        self.heirs_asked()
        self.exchange.slow = None
        for answer in held:
            answer.callback(0)
        self.passes(1.0)
        self.assertTrue(self.heirs_asked())

    def test_nothing_is_left_behind(self) -> None:
        """A node that stops waits for no grace."""
        self.replicator.ring_changed()
        self.passes(1.0)
        self.replicator.stop()
        self.assertEqual(self.hall.clock.getDelayedCalls(), [])
