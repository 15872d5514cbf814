"""``twistd peerstore-node`` as a person meets it: options, mistakes, daemons."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
from pathlib import Path

from peerstore.wire.bodies import Ping, Pong
from tests.support.processes import NodeProcess, ProcessTestCase, free_port, pause, twistd, until
from tests.support.things import a_chunk


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run twistd to its end."""
    return subprocess.run(
        twistd(*arguments), capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL
    )


class MistakeTests(ProcessTestCase):
    """What cannot work is refused in one line, with a status that is not 0."""

    def refused(self, *options: str) -> str:
        """Start a node in the foreground; the one line that it says."""
        result = run("-n", "--pidfile=", "peerstore-node", *options)
        self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        self.assertEqual(len(lines), 1, result.stderr)
        self.assertNotIn("Traceback", result.stdout + result.stderr)
        return lines[0]

    def test_help_explains_each_option(self) -> None:
        """--help names every option with a sentence, and ends well."""
        result = run("peerstore-node", "--help")
        self.assertEqual(result.returncode, 0)
        for option in ("listen", "data", "join", "advertise", "copies", "virtual-nodes", "workers", "queue"):
            self.assertIn(f"--{option}=", result.stdout)

    def test_an_endpoint_that_cannot_be_read(self) -> None:
        """A mistyped --listen is named."""
        for listen in ("tpc:1", "tcp:70000:interface=127.0.0.1", "tls:1:2"):
            self.assertIn(repr(listen), self.refused("--listen", listen, "--data", str(self.folder / "n")))
        self.assertIn("--join", self.refused("--listen", "tcp:0", "--data", "n", "--join", "nowhere"))

    def test_options_that_are_missing_or_out_of_range(self) -> None:
        """Each is told by name."""
        self.assertIn("--data", self.refused("--listen", "tcp:0"))
        self.assertIn("--listen", self.refused("--data", "n"))
        self.assertIn("--copies", self.refused("--listen", "tcp:0", "--data", "n", "--copies", "0"))

    def test_a_busy_port(self) -> None:
        """Somebody else listens there."""
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            listen = f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"
            line = self.refused("--listen", listen, "--data", str(self.folder / "n"))
        self.assertIn("Address already in use", line)
        self.assertFalse((self.folder / "n").exists())

    def test_every_interface_and_no_address_for_others(self) -> None:
        """Listening everywhere, a node must be told what to call itself; its
        own loopback address would lead the others to themselves."""
        for listen in ("tcp:0", "tcp:0:interface=0.0.0.0", r"tcp:0:interface=\:\:"):
            line = self.refused("--listen", listen, "--data", str(self.folder / "n"))
            self.assertIn("--advertise", line)
        self.assertFalse((self.folder / "n").exists())

    def test_a_busy_port_of_a_daemon(self) -> None:
        """Also a daemon is refused before it leaves the shell."""
        pid, log = self.folder / "node.pid", self.folder / "node.log"
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            listen = f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"
            options = ["--listen", listen, "--data", str(self.folder / "n")]
            result = run(f"--pidfile={pid}", f"--logfile={log}", "peerstore-node", *options)
        self.assertEqual(result.returncode, 1)
        self.assertIn("Address already in use", result.stderr)
        self.assertFalse(pid.exists())

    def test_a_folder_that_is_none(self) -> None:
        """A file where the data folder should be."""
        (self.folder / "file").touch()
        self.assertIn("is no folder", self.refused("--listen", "tcp:0", "--data", str(self.folder / "file")))

    def test_a_key_that_others_can_read(self) -> None:
        """A key with loose permissions is not used."""
        node = self.node()
        (node.data / "key.pem").chmod(0o644)
        self.assertIn("chmod 600", self.refused("--listen", "tcp:0", "--data", str(node.data)))

    def test_a_key_that_is_none(self) -> None:
        """A key file with something else in it."""
        node = self.node()
        (node.data / "key.pem").write_text("not a key")
        self.assertIn("no RSA key", self.refused("--listen", "tcp:0", "--data", str(node.data)))

    async def test_a_folder_that_is_in_use(self) -> None:
        """A second node on the same folder, and other settings than it has."""
        node = self.node()
        node.start()
        await node.ready()
        line = self.refused("--listen", "tcp:0:interface=127.0.0.1", "--data", str(node.data))
        self.assertIn("Another", line)
        node.stop()
        line = self.refused("--listen", "tcp:0:interface=127.0.0.1", "--data", str(node.data), "--copies", "2")
        self.assertIn("3 copies and 8 positions", line)

    async def test_a_database_of_a_newer_program(self) -> None:
        """It is refused and left as it was."""
        node = self.node()
        node.start()
        await node.ready()
        node.stop()
        database = sqlite3.connect(node.data / "node.sqlite")
        database.execute("PRAGMA user_version = 99")
        database.commit()
        database.close()
        before = (node.data / "node.sqlite").read_bytes()
        self.assertIn("newer", self.refused("--listen", "tcp:0:interface=127.0.0.1", "--data", str(node.data)))
        self.assertEqual((node.data / "node.sqlite").read_bytes(), before)

    async def test_a_ring_with_other_settings(self) -> None:
        """Who asks for other copies than the ring keeps does not join it."""
        first = self.node(extra=["--copies", "2", "--virtual-nodes", "3"])
        first.start()
        await first.ready()
        other = self.node(join=[first.port], extra=["--copies", "3"])
        other.start()
        assert other.process is not None
        await until("an end", lambda: other.process is None or other.process.poll() is not None)
        self.assertEqual(other.process.returncode, 1)
        self.assertIn("That ring keeps 2 copies, with 3 positions", other.text())
        self.assertNotIn("Traceback", other.text())
        other.extra = []
        other.start()
        await other.ready()
        self.assertIn("has joined the ring with 3 positions", other.text())


class LifeTests(ProcessTestCase):
    """Starting, restarting and stopping."""

    async def ping(self, node: NodeProcess) -> tuple[bytes, int]:
        """Whom a fresh connection meets: fingerprint and incarnation."""
        client = self.client(node)
        peer = await client.pool.peer(node.address)
        pong: Pong = await peer.call("ping", Ping())
        return peer.fp, pong.incarnation

    async def test_restart_keeps_the_identity(self) -> None:
        """Same folder, same key, a higher incarnation, the same content."""
        node = self.node()
        node.start()
        await node.ready()
        fp, first = await self.ping(node)
        self.assertEqual(fp, node.key.fp)
        chunk = a_chunk(1)
        (outcome,) = await self.client(node).gateway.put_chunks([chunk])
        self.assertTrue(outcome.certain)
        node.stop()
        node.start()
        await node.ready()
        again, second = await self.ping(node)
        self.assertEqual((again, second), (fp, first + 1))
        found = await self.client(node).gateway.get_chunks([chunk.key.element])
        self.assertEqual(found, {chunk.key.element: chunk})

    async def test_sigterm_ends_it_in_order(self) -> None:
        """It says goodbye to its neighbours and closes its folder."""
        client = await self.ring(2)
        second = self.nodes[1]
        self.assertIn(second.stop(), (0, -signal.SIGTERM))
        self.assertIn("Server Shut Down", second.text())
        self.assertNotIn("Traceback", second.text())
        await until("a goodbye", lambda: "is leaving" in self.nodes[0].text())
        await self.whole(client, self.nodes[:1])

    async def test_port_0_and_advertise(self) -> None:
        """The log says where it really listens."""
        node = self.node()
        node.port = 0
        node.start()
        await node.ready()
        self.assertRegex(node.text(), r"listens at tcp:127\.0\.0\.1:[1-9][0-9]+")

    async def test_as_a_daemon(self) -> None:
        """With pid and log file, in the background, ended by its pid."""
        port, data = free_port(), self.folder / "daemon"
        pid, log = self.folder / "node.pid", self.folder / "node.log"
        keyed = self.node()
        Path(keyed.data).rename(data)
        listen = f"tcp:{port}:interface=127.0.0.1"
        # Relative on purpose: a daemon works in another directory.
        options = ["--listen", listen, "--data", os.path.relpath(data)]
        result = run(f"--pidfile={pid}", f"--logfile={log}", "--rundir=/", "peerstore-node", *options)
        self.assertEqual(result.returncode, 0, result.stderr)
        number = int(pid.read_text())
        self.addCleanup(_kill, number)
        await until("a member", lambda: log.exists() and "starts alone" in log.read_text())
        os.kill(number, signal.SIGTERM)
        await until("no pid file", lambda: not pid.exists())
        self.assertIn("Server Shut Down", log.read_text())
        await pause(0)


def _kill(number: int) -> None:
    try:
        os.kill(number, signal.SIGKILL)
    except ProcessLookupError:
        return
