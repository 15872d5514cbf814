"""Every benchmark finds what it uses of the product."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.benchmarks import FOLDER, load


class StartTests(SynchronousTestCase):
    """They are run by hand, and seldom: what has moved away would be noticed late."""

    def test_each_can_be_loaded(self) -> None:
        """With all that it imports when it starts."""
        names = sorted(path.stem for path in FOLDER.glob("*.py"))
        self.assertGreater(len(names), 5)
        for name in names:
            self.assertTrue(load(name).__doc__, name)
