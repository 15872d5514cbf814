"""Ports for processes on loopback, and starting them without losing any."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from types import FrameType

from twisted.trial.unittest import SynchronousTestCase

from peerstore.cli import cluster as module
from peerstore.cli.cluster import PORTS, free_port, uninterrupted
from peerstore.errors import PeerStoreError


class PortTests(SynchronousTestCase):
    """A port to listen at soon."""

    def test_it_is_free_and_stays_so(self) -> None:
        """Nobody listens there, and no outgoing connection gets it."""
        port = free_port()
        self.assertTrue(PORTS[0] <= port < PORTS[1])
        with socket.create_server(("127.0.0.1", port)):
            pass

    def test_one_in_use_is_passed_by(self) -> None:
        """And when all are, that is said."""
        with socket.create_server(("127.0.0.1", free_port())) as used:
            port = used.getsockname()[1]
            self.patch(module, "PORTS", (port, port + 1))
            self.assertRaises(PeerStoreError, free_port)


class InterruptTests(SynchronousTestCase):
    """Signals that come while something is started."""

    def setUp(self) -> None:
        self.got: list[int] = []
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self.addCleanup(signal.signal, number, signal.signal(number, self.handle))

    def handle(self, number: int, frame: FrameType | None) -> None:
        self.got.append(number)
        raise KeyboardInterrupt

    def test_they_are_put_off(self) -> None:
        """Until the block is over, and one is as good as many."""
        steps = []

        def start() -> None:
            with uninterrupted():
                signal.raise_signal(signal.SIGTERM)
                signal.raise_signal(signal.SIGINT)
                steps.append(list(self.got))

        self.assertRaises(KeyboardInterrupt, start)
        self.assertEqual((steps, self.got), ([[]], [signal.SIGTERM]))

    def test_nothing_happens(self) -> None:
        """All is as it was before."""
        with uninterrupted():
            pass
        self.assertEqual(signal.getsignal(signal.SIGHUP), self.handle)
        self.assertRaises(KeyboardInterrupt, signal.raise_signal, signal.SIGHUP)

    def test_what_is_ignored(self) -> None:
        """Is ignored by what is started, too; the rest ends it."""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        ask = "import signal; print(*(signal.getsignal(n).name for n in (signal.SIGHUP, signal.SIGTERM)))"
        with uninterrupted():
            signal.raise_signal(signal.SIGHUP)
            told = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
        self.assertEqual((told.stdout, self.got), ("SIG_IGN SIG_DFL\n", []))

    def test_other_threads(self) -> None:
        """Get no signals, and change nothing."""
        done = []

        def start() -> None:
            with uninterrupted():
                done.append(True)

        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
        self.assertEqual(done, [True])
