"""The table over many seeds of simulated data."""

from __future__ import annotations

from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from peerstore.sim.data_many import DataRow, DataTally, data_table


def a_row(seed: int, kind: str, problems: list[str], slowest: float = 1.0) -> DataRow:
    """One seed of half a virtual hour."""
    sums = Counter({"seeds": 1, "seconds": 1800, "checks": 1500, "failures": len(problems)})
    return DataRow(seed, kind, sums, slowest, problems, ["certain"] * len(problems))


class TallyTests(SynchronousTestCase):
    """Rows are added up."""

    def test_sums_by_kind_and_over_all(self) -> None:
        """Each kind has a line, and all together the last."""
        tally = DataTally()
        for row in (a_row(1, "full", []), a_row(2, "grows", ["lost"], 7.5), a_row(3, "full", [])):
            tally.add(row)
        lines = [line.split() for line in data_table(tally)]
        self.assertEqual([line[0] for line in lines[1:]], ["full", "grows", "all"])
        self.assertEqual(lines[-1], ["all", "3", "1.5", "0", "0", "0", "0", "0", "0", "4,500", "1"])

    def test_failures_are_kept(self) -> None:
        """With their seeds, for whoever replays them; and the slowest rest."""
        tally = DataTally()
        for row in (a_row(1, "full", []), a_row(2, "full", ["lost"], 7.5)):
            tally.add(row)
        self.assertEqual(([row.seed for row in tally.failures], tally.slowest), ([2], 7.5))
