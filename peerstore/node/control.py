"""What whoever owns the data folder may ask of the node that runs on it.

A socket in the data folder, open to nobody else; one JSON object a line:

    -> {"do": "retire"}                      <- {"left": 12} ... {"done": true}
                                                with "trouble": WORDS while something stands in the way
    -> {"do": "retire-lost", "host": HEX}    <- {"done": true}
    anything that cannot be done             <- {"error": WHAT, "next": STEP}
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from peerstore.errors import PeerStoreError, StorageError

__all__ = ["Control", "NAME", "Say", "short_path"]

NAME = "control"

Say = Callable[[dict[str, Any]], None]
Command = Callable[[dict[str, Any], Say], Any]


def short_path(folder: Path) -> tuple[str, int]:
    """A path of the socket that is short enough for one, whatever the
    folder's is, and the open descriptor that it goes through.

    :raises OSError: when the folder cannot be opened.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    return f"/proc/self/fd/{handle}/{NAME}", handle


class _Conversation(LineOnlyReceiver):
    delimiter = b"\n"
    MAX_LENGTH = 4096
    _log = Logger()

    def __init__(self, commands: Mapping[str, Command]) -> None:
        self._commands = commands
        self._open = False

    def connectionMade(self) -> None:
        """Somebody asks."""
        self._open = True

    def connectionLost(self, reason: Any = None) -> None:
        """Whoever asked is gone; what was begun goes on."""
        self._open = False

    def lineReceived(self, line: bytes) -> None:
        """One request."""
        try:
            asked = json.loads(line)
            command = self._commands[asked["do"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            self._say({"error": "This node does not know that request.", "next": "Use the version that it runs."})
            return
        working: Deferred[Any] = maybeDeferred(command, asked, self._say)
        working.addCallbacks(lambda _: self._say({"done": True}), self._failed)

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, PeerStoreError):
            self._log.failure("a request at the data folder's socket failed", failure=failure)
            error = PeerStoreError("The node met a fault of its own.", "Its log has more.")
        self._say({"error": error.what, "next": error.next_step})

    def _say(self, answer: dict[str, Any]) -> None:
        if self._open:
            self.sendLine(json.dumps(answer).encode())


class Control:
    """Listens in the data folder.

    :param reactor: provides ``IReactorUNIX``.
    :param commands: by name; each is called with the request and a function
        that tells how it goes, and may return a Deferred.
    """

    def __init__(self, reactor: Any, folder: Path, commands: Mapping[str, Command]) -> None:
        self._reactor = reactor
        self._folder = folder
        self._commands = commands
        self._port: Any = None
        self._handle = -1

    def start(self) -> None:
        """Listen.  The folder is ours alone by now, so a socket that is there
        was left by a process that is gone.

        :raises peerstore.errors.StorageError: when it cannot be made.
        """
        try:
            path, self._handle = short_path(self._folder)
            (self._folder / NAME).unlink(missing_ok=True)
            factory = Factory.forProtocol(lambda: _Conversation(self._commands))  # type: ignore[arg-type]
            factory.noisy = False
            self._port = self._reactor.listenUNIX(path, factory, mode=0o600)
        except OSError as error:
            raise StorageError(
                f"The socket {NAME} in the data folder cannot be made ({error.strerror}).",
                "Put the data folder on a local file system.",
            ) from error

    async def stop(self) -> None:
        """Listen no more, and take the socket away."""
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)
            self._port = None
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
