"""All commands together: their help, and how wrong words end."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from peerstore.cli.commands import cli, run

VERBS = ("backup", "demo", "get", "ls", "node", "put", "restore", "ring", "rm", "trace")


class WordTests(SynchronousTestCase):
    """What is typed, without any node."""

    def setUp(self) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)

    def status(self, *words: str) -> int:
        """How a command line ends that never comes to ask a node."""
        self.patch(sys, "argv", ["peerstore", *words])
        return run(self.never)

    def never(self, work: Callable[[Any], Coroutine[Any, Any, int]]) -> int:
        """No command here has a node to ask."""
        raise AssertionError("a node was asked")

    def test_all_are_there(self) -> None:
        """And no other."""
        self.assertEqual(tuple(sorted(cli.commands)), VERBS)

    def test_help(self) -> None:
        """Of each verb, with the options that all have."""
        for verb in VERBS:
            self.assertEqual(self.status(verb, "--help"), 0, verb)
        for verb in VERBS:
            if verb != "node":
                self.out.truncate(0)
                self.status(verb, "--help")
                for option in ("--json", "--home", "--key", "--quiet"):
                    self.assertIn(option, self.out.getvalue(), verb)

    def test_wrong_words(self) -> None:
        """Status 2: an option that is none, no verb, a verb that is none, too
        few words, too many."""
        for verb in VERBS:
            self.assertEqual(self.status(verb, "--no-such-option"), 2, verb)
        for words in ((), ("bakup",), ("get",), ("trace",), ("ring", "more"), ("put", "file"), ("node", "keys")):
            self.assertEqual(self.status(*words), 2, words)

    def test_empty_words(self) -> None:
        """A variable that is not set names no place: neither the current folder nor all there is."""
        for words in (
            ("backup", ""),
            ("restore", "docs", "--to", ""),
            ("restore", ""),
            ("get", "docs/a", "--to", ""),
            ("get", ""),
            ("ls", ""),
            ("rm", "-r", ""),
            ("put", "", "--as", "docs/"),
            ("trace", ""),
            ("node", "keys", ""),
            ("node", "retire", ""),
        ):
            self.err.truncate(0)
            self.assertEqual(self.status(*words), 2, words)
            self.assertIn("it is empty", self.err.getvalue(), words)

    def test_wrong_words_in_json(self) -> None:
        """One document, like any other error."""
        for words in (("bakup", "--json"), ("--json", "get"), ("backup", "--json", "--no-such-option")):
            self.err.truncate(0)
            self.err.seek(0)
            self.assertEqual(self.status(*words), 2, words)
            told = json.loads(self.err.getvalue())
            self.assertEqual(sorted(told), ["error", "exit_status", "next_step"])
            self.assertEqual(told["exit_status"], 2)

    def test_the_list_fits(self) -> None:
        """No verb is explained in half a sentence."""
        self.status("--help")
        verbs = self.out.getvalue().partition("Commands:")[2].partition("Exit status:")[0]
        self.assertIn("ring ", verbs)
        self.assertNotIn("...", verbs)
