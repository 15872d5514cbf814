"""What ``twistd peerstore-node`` takes, before anything is opened."""

from __future__ import annotations

import errno
import os
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.trial.unittest import SynchronousTestCase

from peerstore.node.config import why_not_listening
from peerstore.node.tap import Options

NEEDED = ["--listen", "tcp:3001:interface=127.0.0.1", "--data", "n"]


class OptionsTests(SynchronousTestCase):
    """Parsed, with defaults and bounds."""

    def parsed(self, *options: str) -> Options:
        """The options of a command line that is complete."""
        parsed = Options()
        parsed.parseOptions([*NEEDED, *options])
        return parsed

    def refused(self, *options: str) -> str:
        """The one line that is said."""
        with self.assertRaises(SystemExit) as caught:
            Options().parseOptions(list(options))
        self.assertNotIn("\n", str(caught.exception))
        return str(caught.exception)

    def test_defaults(self) -> None:
        """What belongs to the ring is left to it."""
        options = self.parsed()
        expected: dict[str, Any] = {
            "join": [],
            "advertise": None,
            "copies": None,
            "virtual-nodes": None,
            "workers": 32,
            "queue": 256,
        }
        self.assertEqual({name: options[name] for name in expected}, expected)

    def test_everything(self) -> None:
        """Long and short names; more than one --join."""
        options = self.parsed("-j", "127.0.0.1:1", "--join", "tcp:host:2", "-k", "2", "-v", "4", "-w", "5", "-q", "0")
        self.assertEqual(options["join"], ["tcp:127.0.0.1:1", "tcp:host:2"])
        self.assertEqual([options[name] for name in ("copies", "virtual-nodes", "workers", "queue")], [2, 4, 5, 0])

    def test_the_data_folder_is_absolute(self) -> None:
        """A daemon works in another directory."""
        self.assertEqual(self.parsed()["data"], os.path.abspath("n"))

    def test_the_ends_of_each_range(self) -> None:
        """Just inside is taken, just outside is refused by name."""
        for name, least, most in (
            ("--copies", 1, 16),
            ("--virtual-nodes", 1, 8),
            ("--workers", 2, 1024),
            ("--queue", 0, 65536),
        ):
            for number in (least, most):
                self.assertEqual(self.parsed(name, str(number))[name[2:]], number)
            for number in (least - 1, most + 1):
                self.assertIn(name, self.refused(*NEEDED, f"{name}={number}"))
            self.assertIn(name[2:], self.refused(*NEEDED, name, "many"))

    def test_what_is_missing_or_unknown(self) -> None:
        """Told by name."""
        self.assertIn("--listen", self.refused("--data", "n"))
        self.assertIn("--data", self.refused("--listen", "tcp:1"))
        self.assertIn("nonsense", self.refused(*NEEDED, "--nonsense"))
        self.assertIn("stray", self.refused(*NEEDED, "stray"))

    def test_addresses_that_are_none(self) -> None:
        """Of --join and --advertise."""
        self.assertIn("--join", self.refused(*NEEDED, "--join", "nowhere"))
        self.assertIn("--advertise", self.refused(*NEEDED, "--advertise", "nowhere"))


class ListenTests(SynchronousTestCase):
    """Why a port cannot be had, and what helps."""

    def step(self, number: int) -> str:
        """The next step after a refusal of the system's."""
        refused = CannotListenError("127.0.0.1", 3001, OSError(number, os.strerror(number)))
        error = why_not_listening("tcp:3001:interface=127.0.0.1", refused)
        self.assertIn(os.strerror(number), error.what)
        return error.next_step

    def test_each_refusal_has_its_remedy(self) -> None:
        """A port in use, an address of another machine, a port of root's."""
        self.assertIn("another port", self.step(errno.EADDRINUSE))
        self.assertIn("address that this machine has", self.step(errno.EADDRNOTAVAIL))
        self.assertIn("1024", self.step(errno.EACCES))
