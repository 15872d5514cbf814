"""What a daemon's log has, and where it goes."""

from __future__ import annotations

import io
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.application.service import Application, IService, Service
from twisted.logger import ILogObserver, Logger
from twisted.trial.unittest import SynchronousTestCase

from peerstore.util.daemon import Daemon, quiet_observer
from peerstore.util.options import PlainOptions


class DirectReactor:
    """Calls from threads at once."""

    def callFromThread(self, function: Any) -> None:
        function()


class DaemonTests(SynchronousTestCase):
    """A service below an application, as twistd puts it there."""

    def setUp(self) -> None:
        handler = signal.getsignal(signal.SIGUSR1)
        self.addCleanup(signal.signal, signal.SIGUSR1, handler)
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        self.log = Path(self.mktemp())
        self.said = io.StringIO()
        self.patch(sys, "stdout", self.said)

    def observer(self, *words: str, **twistd: Any) -> Any:
        """What the application is to log to."""
        options = PlainOptions()
        options.parent = {"logfile": str(self.log), **twistd}
        options.parseOptions(list(words))
        application = Application("x")
        Daemon(options, Service(), DirectReactor()).setServiceParent(application)
        return application.getComponent(ILogObserver, None)

    def say_all(self, observer: Any) -> None:
        """A line of each level."""
        log = Logger(observer=observer)
        for level in ("debug", "info", "warn", "error", "critical"):
            getattr(log, level)(f"<{level}>")

    def levels(self, text: str) -> str:
        """Those that were written."""
        return " ".join(line.rpartition("<")[2].rstrip(">") for line in text.splitlines())

    def test_a_log_file(self) -> None:
        """Has everything but lines of level debug."""
        self.say_all(self.observer())
        self.assertEqual(self.levels(self.log.read_text()), "info warn error critical")

    def test_in_the_foreground(self) -> None:
        """So has standard output; a file that is named has it instead."""
        for name in (None, "-"):
            self.say_all(self.observer(logfile=name, nodaemon=True))
        self.assertEqual(self.said.getvalue().count("<warn>"), 2)
        self.assertNotIn("<debug>", self.said.getvalue())
        self.say_all(self.observer(nodaemon=True))
        self.assertEqual(self.levels(self.log.read_text()), "info warn error critical")

    def test_what_twistd_decides(self) -> None:
        """With --verbose, a logger of one's own, and a daemon's standard
        output, which is a mistake."""
        self.assertIsNone(self.observer("--verbose"))
        self.assertIsNone(self.observer(logger="some.logger"))
        self.assertIsNone(self.observer(logfile="-"))
        self.assertFalse(self.log.exists())

    def test_a_signal_begins_a_new_file(self) -> None:
        """As with twistd's own."""
        self.say_all(self.observer())
        signal.raise_signal(signal.SIGUSR1)
        self.assertEqual(self.log.read_text(), "")
        self.assertIn("<info>", Path(f"{self.log}.1").read_text())

    def test_the_default_file(self) -> None:
        """Is twistd.log in the folder where it was started."""
        quiet_observer({"logfile": None}, DirectReactor())
        self.assertTrue(Path("twistd.log").exists())

    def test_the_service(self) -> None:
        """Is started and stopped with the application."""
        inner = Service()
        options = PlainOptions()
        options.parseOptions(["--verbose"])
        daemon = Daemon(options, inner, DirectReactor())
        application = Application("x")
        daemon.setServiceParent(application)
        IService(application).startService()
        self.assertTrue(inner.running)
        self.successResultOf(IService(application).stopService())
        self.assertFalse(inner.running)
