"""Options of twistd's plugins, whose mistakes are told in one line."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.python import usage

import peerstore
import twisted

__all__ = ["PlainOptions"]


class PlainOptions(usage.Options):
    """Like every Options, but without twistd's help before each complaint."""

    #: What the plugin is called in messages.
    program = ""
    optFlags = [["verbose", None, "Log lines of level debug, too."]]

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read a command line.

        :raises SystemExit: with one line, for what cannot be meant.
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            text = str(error).removeprefix("Parameter type enforcement failed: ")
            raise SystemExit(f"{self.program}: {text} (--help explains the options)") from error

    def opt_version(self) -> None:
        """Display the version and exit."""
        print(f"{self.program} {peerstore.__version__} (Twisted {twisted.__version__})")
        raise SystemExit(0)

    def parseArgs(self, *stray: str) -> None:
        """There are options only."""
        if stray:
            raise usage.UsageError(f"{stray[0]!r} belongs to no option")
