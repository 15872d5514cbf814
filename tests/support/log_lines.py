"""What is logged while a test runs, as lines of text."""

from __future__ import annotations

from typing import Any

from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

__all__ = ["LogLines"]


class LogLines:
    """Collects from level info on.

    :param test: it ends with this test.
    """

    def __init__(self, test: SynchronousTestCase) -> None:
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self)
        test.addCleanup(globalLogPublisher.removeObserver, self)

    def __call__(self, event: dict[str, Any]) -> None:
        if event.get("log_level") in (LogLevel.info, LogLevel.warn, LogLevel.error, LogLevel.critical):
            self.lines.append(formatEvent(event))

    def having(self, text: str) -> list[str]:
        """The lines with some text in them."""
        return [line for line in self.lines if text in line]
