"""Options of twistd's plugins, whose mistakes are told in one line."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.python import usage

__all__ = ["PlainOptions"]


class PlainOptions(usage.Options):
    """Like every Options, but without twistd's help before each complaint."""

    #: What the plugin is called in messages.
    program = ""

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read a command line.

        :raises SystemExit: with one line, for what cannot be meant.
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise SystemExit(f"{self.program}: {error} (--help explains the options)") from error
