"""What the benchmark of repair makes of what it measured."""

from __future__ import annotations

import argparse
import contextlib
import io

from twisted.trial.unittest import SynchronousTestCase

from tests.support.benchmarks import load

repair = load("repair")
OPTIONS = argparse.Namespace(nodes=7, backup=64, grace=5)


class TableTests(SynchronousTestCase):
    """Losses and rates, as printed."""

    def printed(self, *words: object) -> str:
        """What is printed of rates."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            repair.print_rates(OPTIONS, *words)
        return out.getvalue()

    def test_medians_of_all_turns_are_compared(self) -> None:
        """Not those of one turn, and no outlier decides."""
        text = self.printed([[20e6, 1e6], [21e6, 20e6]], [[10e6, 9e6, 90e6]])
        self.assertIn("medians: 10.0 of 20.0 MB/s: 50%", text)
        self.assertIn("while node 6 is missed", text)

    def test_a_loss_that_was_over_too_soon(self) -> None:
        """Nothing was measured meanwhile, and that is said."""
        self.assertIn("no backup began and ended", self.printed([[20e6], [21e6]], [[]]))

    def test_bytes_at_rest_are_taken_off(self) -> None:
        """Of the loss during which nobody worked."""
        losses = [repair.Loss(3, 1000, 1.0, 10.0, 1200, []), repair.Loss(3, 1000, 1.0, 10.0, 9999, [1e6])]
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            repair.print_losses(OPTIONS, losses, 10.0)
        lines = [line for line in out.getvalue().splitlines() if "node " in line]
        self.assertIn("1.100", lines[0])
        self.assertTrue(lines[1].endswith(" - │"), lines[1])
        self.assertIn("with it: 1.200 of what was lost", out.getvalue())
