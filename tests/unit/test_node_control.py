"""The socket in the data folder: requests, rubbish, and what goes wrong."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactor, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import StorageError, UsageError
from peerstore.node.control import NAME, Control, Say


class Talk:
    """One connection to it."""

    def __init__(self, factory: Any) -> None:
        self.transport = StringTransport()
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        """Bytes come in."""
        self.protocol.dataReceived(data)

    def ask(self, **asked: Any) -> None:
        """One request."""
        self.send(json.dumps(asked).encode() + b"\n")

    @property
    def said(self) -> list[Any]:
        """What was answered, line by line."""
        return [json.loads(line) for line in self.transport.value().splitlines()]


class ControlTestCase(SynchronousTestCase):
    """A node that can "work", which takes as long as the test wants."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.reactor = MemoryReactor()
        self.jobs: list[tuple[dict[str, Any], Say, Deferred[None]]] = []
        self.control = Control(self.reactor, self.folder, {"work": self.work, "fail": self.fail_at_once})
        self.control.start()
        self.addCleanup(lambda: self.successResultOf(Deferred.fromCoroutine(self.control.stop())))
        self.path, self.factory, *_ = self.reactor.unixServers[0]

    def work(self, asked: dict[str, Any], say: Say) -> Deferred[None]:
        """A command."""
        done: Deferred[None] = Deferred()
        self.jobs.append((asked, say, done))
        return done

    def fail_at_once(self, asked: dict[str, Any], say: Say) -> None:
        """A command that cannot be done."""
        if asked.get("why"):
            raise UsageError(asked["why"], "Do something else.")
        raise ZeroDivisionError("nobody thought of that")


class RequestTests(ControlTestCase):
    """One JSON object a line."""

    def test_a_request(self) -> None:
        """It is told how it goes, and that it is done."""
        talk = Talk(self.factory)
        talk.ask(do="work", host="x")
        asked, say, done = self.jobs[0]
        self.assertEqual(asked, {"do": "work", "host": "x"})
        say({"left": 3})
        self.assertEqual(talk.said, [{"left": 3}])
        done.callback(None)
        self.assertEqual(talk.said, [{"left": 3}, {"done": True}])

    def test_two_at_once(self) -> None:
        """Each is told of its own."""
        one, other = Talk(self.factory), Talk(self.factory)
        one.ask(do="work")
        other.ask(do="work")
        self.jobs[1][2].callback(None)
        self.jobs[0][1]({"left": 1})
        self.assertEqual((one.said, other.said), ([{"left": 1}], [{"done": True}]))

    def test_in_pieces(self) -> None:
        """A line may come byte by byte."""
        talk = Talk(self.factory)
        for byte in b'{"do": "work"}\n':
            talk.send(bytes([byte]))
        self.assertEqual(len(self.jobs), 1)

    def test_what_cannot_be_done(self) -> None:
        """In words, with the next step."""
        talk = Talk(self.factory)
        talk.ask(do="fail", why="That is not possible.")
        self.assertEqual(talk.said, [{"error": "That is not possible.", "next": "Do something else."}])

    def test_a_fault(self) -> None:
        """It is logged, whoever asked is told no more than that, and the next request is served."""
        talk = Talk(self.factory)
        talk.ask(do="fail")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertIn("fault of its own", talk.said[0]["error"])
        talk.ask(do="work")
        self.assertEqual(len(self.jobs), 1)

    def test_somebody_left(self) -> None:
        """What was begun goes on, and nobody is told."""
        talk = Talk(self.factory)
        talk.ask(do="work")
        talk.protocol.connectionLost()
        self.jobs[0][1]({"left": 1})
        self.jobs[0][2].callback(None)
        self.assertEqual(talk.said, [])


class RubbishTests(ControlTestCase):
    """What is no request is answered as such, and the next one is served."""

    def test_lines_that_are_no_requests(self) -> None:
        """Not JSON, not an object, without a word or with one that is not known."""
        for line in (
            b"",
            b"retire",
            b"\xff\xfe",
            b"[]",
            b"17",
            b"null",
            b"{}",
            b'{"do": null}',
            b'{"do": ["work"]}',
            b'{"do": "Work"}',
            b"[" * 4000,
        ):
            talk = Talk(self.factory)
            talk.send(line + b"\n")
            self.assertEqual([set(answer) for answer in talk.said], [{"error", "next"}], line[:20])
            talk.ask(do="work")
        self.assertEqual(len(self.jobs), 11)

    def test_a_line_without_an_end(self) -> None:
        """The connection is closed, and nothing is kept of it."""
        talk = Talk(self.factory)
        talk.send(b"x" * 5000)
        self.assertTrue(talk.transport.disconnecting)
        self.assertEqual(self.jobs, [])


class FolderTests(SynchronousTestCase):
    """Where it listens."""

    def test_a_deep_folder(self) -> None:
        """A socket's path has about a hundred bytes; a folder's may have more."""
        folder = Path(self.mktemp()) / ("x" * 200)
        folder.mkdir(parents=True)
        reactor = MemoryReactor()
        control = Control(reactor, folder, {})
        control.start()
        path, _, _, mode, *_ = reactor.unixServers[0]
        self.assertLess(len(path), 100)
        self.assertEqual(stat.S_IMODE(mode), 0o600)
        self.assertTrue(path.endswith(f"/{NAME}"))
        self.successResultOf(Deferred.fromCoroutine(control.stop()))

    def test_what_an_earlier_process_left(self) -> None:
        """It is taken away."""
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / NAME).write_bytes(b"")
        control = Control(MemoryReactor(), folder, {})
        control.start()
        self.assertFalse((folder / NAME).exists())
        self.successResultOf(Deferred.fromCoroutine(control.stop()))

    def test_no_folder(self) -> None:
        """It says so, and can be stopped all the same."""
        control = Control(MemoryReactor(), Path(self.mktemp()), {})
        self.assertRaises(StorageError, control.start)
        self.successResultOf(Deferred.fromCoroutine(control.stop()))
