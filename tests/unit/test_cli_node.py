"""What ``peerstore node`` says."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from peerstore.cli.node import Retiring


class RetiringTests(SynchronousTestCase):
    """A node says each second how far it is; a person wants what is new."""

    def lines(self, *answers: dict[str, Any]) -> list[tuple[str, str]]:
        """What is said of each."""
        progress = Retiring()
        return [progress.told(answer) for answer in answers]

    def test_only_what_changes(self) -> None:
        """The same number is said once."""
        said = self.lines({"left": 60}, {"left": 60}, {"left": 1}, {"left": 1}, {"left": 0}, {"done": True})
        self.assertEqual(
            [line for line, _ in said if line],
            ["60 items are still to be taken over by others", "1 item is still to be taken over by others"],
        )

    def test_what_is_in_the_way(self) -> None:
        """Said when it begins, and again only after it was over."""
        full = {"left": 3, "trouble": "No room."}
        said = self.lines(full, full, {"left": 3}, full)
        words = "It cannot go yet: No room."
        self.assertEqual([trouble for _, trouble in said], [words, "", "", words])

    def test_waiting_for_votes(self) -> None:
        """All is handed over, and it is still there: why, once."""
        said = self.lines({"left": 2}, {"left": 0}, {"left": 0}, {"left": 0})
        self.assertEqual([bool(line) for line, _ in said], [True, False, True, False])
