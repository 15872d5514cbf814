"""Ports for processes on loopback."""

from __future__ import annotations

import socket

from twisted.trial.unittest import SynchronousTestCase

from peerstore.cli import cluster as module
from peerstore.cli.cluster import PORTS, free_port
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
