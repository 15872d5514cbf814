"""``twistd`` finds both services, and finding them opens nothing."""

from __future__ import annotations

import io
import subprocess
import sys

from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

import peerstore

NAMES = ("peerstore-node", "peerstore-sync")


class DropinTests(SynchronousTestCase):
    """The plugins in twisted/plugins/peerstore_dropin.py."""

    def test_twistd_lists_both_services(self) -> None:
        """Both names are found by Twisted's plugin system, once each."""
        found = [maker.tapname for maker in getPlugins(IServiceMaker)]
        for name in NAMES:
            self.assertEqual(found.count(name), 1)

    def test_each_service_has_options_and_a_description(self) -> None:
        """Each tap loads, has Options, and says what it is for."""
        makers = {maker.tapname: maker for maker in getPlugins(IServiceMaker)}
        for name in NAMES:
            self.assertTrue(issubclass(makers[name].options, usage.Options))
            self.assertTrue(makers[name].description.endswith("."))

    def test_help_names_every_option_with_a_word_on_it(self) -> None:
        """``twistd NAME --help`` ends well and explains each option."""
        for name in NAMES:
            run = subprocess.run(
                [sys.executable, "-m", "twisted", "--help"], capture_output=True, text=True, check=False, timeout=60
            )
            self.assertIn(name, run.stdout)
        makers = {maker.tapname: maker for maker in getPlugins(IServiceMaker)}
        for name in NAMES:
            options = makers[name].options()
            for line in str(options).splitlines():
                stripped = line.strip()
                if stripped.startswith("--") and stripped.rstrip("=").count(" ") == 0:
                    following = str(options).split(stripped, 1)[1].strip()
                    self.assertFalse(following.startswith("--"), f"{name} {stripped} has no explanation")

    def test_nothing_is_promised_that_is_not_there(self) -> None:
        """The README says that nothing is encrypted yet; twistd's list must not say otherwise."""
        for maker in getPlugins(IServiceMaker):
            if maker.tapname in NAMES:
                self.assertNotIn("encrypt", maker.description)

    def test_the_version_is_ours(self) -> None:
        """Not Twisted's alone."""
        makers = {maker.tapname: maker for maker in getPlugins(IServiceMaker)}
        for name in NAMES:
            out = io.StringIO()
            self.patch(sys, "stdout", out)
            with self.assertRaises(SystemExit) as ended:
                makers[name].options().parseOptions(["--version"])
            self.assertEqual(ended.exception.code, 0)
            self.assertEqual(out.getvalue().split()[:2], [name, peerstore.__version__])
