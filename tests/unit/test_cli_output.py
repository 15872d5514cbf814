"""What the command line says in small."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from peerstore.cli.output import counted, human


class WordTests(SynchronousTestCase):
    """Numbers in words."""

    def test_one_thing_and_more(self) -> None:
        """One is no plural; none is."""
        self.assertEqual([counted(n, "file") for n in (0, 1, 2)], ["0 files", "1 file", "2 files"])

    def test_sizes(self) -> None:
        """Whole bytes, and one decimal above."""
        sizes = [0, 1023, 1024, 1536, 2**20, 5 * 2**30, 2**42]
        self.assertEqual(
            [human(size) for size in sizes],
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "5.0 GiB", "4096.0 GiB"],
        )
