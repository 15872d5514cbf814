"""What the command line says in small, and what it remembers."""

from __future__ import annotations

import io
import json
import os
import threading
from pathlib import Path
from typing import Any

from rich.console import Console
from twisted.trial.unittest import SynchronousTestCase

from peerstore.cli import output
from peerstore.cli.context import Options
from peerstore.cli.output import Meter, counted, human, say_lines, text_of
from peerstore.cli.stdin import InterruptibleInput
from peerstore.errors import UsageError


class WordTests(SynchronousTestCase):
    """Numbers in words."""

    def test_one_thing_and_more(self) -> None:
        """One is no plural; none is."""
        self.assertEqual([counted(n, "file") for n in (0, 1, 2)], ["0 files", "1 file", "2 files"])
        self.assertEqual(counted(1500, "entry", "entries"), "1,500 entries")

    def test_sizes(self) -> None:
        """Whole bytes, and one decimal above."""
        sizes = [0, 1023, 1024, 1536, 2**20 - 1, 2**20, 5 * 2**30, 2**42]
        self.assertEqual(
            [human(size) for size in sizes],
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "1.0 MiB", "5.0 GiB", "4096.0 GiB"],
        )

    def test_paths_in_json(self) -> None:
        """Only bytes that are no text are escaped."""
        self.assertEqual(text_of("ä\n\\".encode() + b"\xff"), "ä\n\\\\xff")


class LineTests(SynchronousTestCase):
    """Lines on the side."""

    def setUp(self) -> None:
        self.text = io.StringIO()
        self.patch(output, "err", Console(file=self.text, soft_wrap=True))

    def lines(self) -> list[str]:
        return self.text.getvalue().splitlines()

    def test_few_lines(self) -> None:
        """All of them, those of a kind together."""
        say_lines(["a: a pipe", "b: a link", "c: d: a pipe"], "not: ")
        self.assertEqual(self.lines(), ["not: a: a pipe", "not: c: d: a pipe", "not: b: a link"])

    def test_many_of_a_kind(self) -> None:
        """The first few, and how many more; never "1 more"."""
        say_lines([f"{number}: a link" for number in range(output.ALIKE + 1)])
        self.assertEqual(len(self.lines()), output.ALIKE + 1)
        say_lines([f"{number}: a pipe" for number in range(1000)])
        self.assertEqual(len(self.lines()), 2 * output.ALIKE + 2)
        self.assertIn(f"{1000 - output.ALIKE} more: a pipe", self.lines()[-1])

    def test_nothing_is_taken_for_markup(self) -> None:
        """Names may look like a style or an emoji."""
        say_lines(["[red]: :smile: [/red] x"])
        self.assertEqual(self.lines(), ["[red]: :smile: [/red] x"])


class MeterTests(SynchronousTestCase):
    """Progress."""

    def shown(self, terminal: bool, quiet: bool) -> str:
        text = io.StringIO()
        self.patch(output, "err", Console(file=text, force_terminal=terminal, width=100, height=20, _environ={}))
        with Meter("backing up", quiet) as meter:
            meter.total(2, 3_000_000)
            meter.done(1_000_000)
            meter.file(b"a")
            meter._bar.refresh()
        return text.getvalue()

    def test_on_a_terminal(self) -> None:
        """Which of how many files, bytes of all, rate and time left."""
        shown = self.shown(True, False)
        self.assertIn("backing up 1/2", shown)
        self.assertRegex(shown, r"1\.0/2\.9 MiB")

    def test_elsewhere(self) -> None:
        """Nothing in a pipe or a file, and nothing if quiet."""
        self.assertEqual((self.shown(False, False), self.shown(True, True)), ("", ""))


class RememberTests(SynchronousTestCase):
    """Addresses from one command to the next."""

    def setUp(self) -> None:
        self.home = Path(self.mktemp()).absolute()
        self.home.mkdir()
        self.options = Options(self.home, None, False, False, lambda work: 0)

    def test_what_was_given_comes_first(self) -> None:
        """Then the nodes that were met; what is given again replaces it."""
        self.options.remember(["127.0.0.1:1"], ["tcp:127.0.0.1:3", "tcp:127.0.0.1:1", "tcp:127.0.0.1:2"])
        self.assertEqual(self.options.peers([]), [f"tcp:127.0.0.1:{port}" for port in (1, 2, 3)])
        self.options.remember([], ["tcp:127.0.0.1:4"])
        self.assertEqual(self.options.peers([]), ["tcp:127.0.0.1:1", "tcp:127.0.0.1:4"])
        self.assertEqual(self.options.peers(["host:9"]), ["tcp:host:9"])

    def test_nothing_known(self) -> None:
        """It says how to name one."""
        self.assertIn("--peer", self.assertRaises(UsageError, self.options.peers, []).next_step)

    def test_a_config_that_is_none(self) -> None:
        """It is told, unless a peer is given; and then it is mended."""
        for content in ("{", "[]", '{"peers": 5}', '"x"'):
            (self.home / "config.json").write_text(content)
            error = self.assertRaises(UsageError, self.options.peers, [])
            self.assertIn("config.json", error.what)
            self.options.remember(["host:9"], [])
            self.assertEqual(self.options.peers([]), ["tcp:host:9"])

    def test_other_settings_stay(self) -> None:
        """What somebody else wrote there is kept."""
        (self.home / "config.json").write_text('{"colour": "blue"}')
        self.options.remember(["host:9"], [])
        self.assertEqual(json.loads((self.home / "config.json").read_text())["colour"], "blue")

    def test_a_home_that_cannot_be_written(self) -> None:
        """No reason to fail at the end of a command that did its work."""
        nowhere = self.home / "no"
        self.assertIsNone(Options(nowhere, None, False, False, lambda work: 0).remember(["host:9"], []))
        self.assertFalse(nowhere.exists())


class InputTests(SynchronousTestCase):
    """Standard input that can be given up."""

    def setUp(self) -> None:
        self.out, self.into = os.pipe()
        self.addCleanup(os.close, self.out)

    def test_all_of_it(self) -> None:
        """Piece by piece, to its end."""
        with InterruptibleInput(self.out) as stream:
            os.write(self.into, b"abcde")
            self.assertEqual([stream.read(3), stream.read()], [b"abc", b"de"])
            os.close(self.into)
            self.assertEqual(stream.read(), b"")

    def test_given_up(self) -> None:
        """A thread that waits for input is let go."""
        self.addCleanup(os.close, self.into)
        got: list[Any] = []
        with InterruptibleInput(self.out) as stream:
            waiting = threading.Thread(target=lambda: got.append(stream.read(1)))
            waiting.start()
        waiting.join(20)
        self.assertEqual((got, waiting.is_alive(), stream.read()), ([b""], False, b""))
