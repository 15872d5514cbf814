"""What can be judged of a node's options before it becomes a daemon.

Once twistd has forked, a failure is seen in a log only, and the shell was
told that all is well.  So ports, folder, key and database are tried out
beforehand, and let go of at once: nothing stays open over the fork.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from peerstore.crypto.keys import KeyPair
from peerstore.errors import ReadOnly, UsageError
from peerstore.net.network import UNREADABLE
from peerstore.node.config import agree, read_settings, why_not_listening
from peerstore.storage.schema import DATABASE, open_reader
from peerstore.storage.tables import setting

__all__ = ["check_data", "check_listen"]


def check_listen(description: str, advertise: str | None = None) -> None:
    """Try a server endpoint: read it, bind its port, let go.

    :param advertise: what others are told, if not that.
    :raises peerstore.errors.UsageError: when it cannot be read, somebody
        listens there, or it says nothing of how others reach us.
    """
    probe = _Probe()
    unreadable = UsageError(
        f"--listen {description!r} is no endpoint that can be read.",
        "Write it like this: tcp:3001:interface=127.0.0.1",
    )
    try:
        endpoint = serverFromString(probe, description)
    except UNREADABLE as error:
        raise unreadable from error
    failures: list[Failure] = []
    tried: Deferred[Any] = endpoint.listen(Factory())
    tried.addErrback(failures.append)
    for failure in failures:
        if isinstance(failure.value, CannotListenError):
            raise why_not_listening(description, failure.value) from failure.value
        if isinstance(failure.value, OverflowError):
            raise unreadable from failure.value
    if probe.everywhere and not advertise:
        raise UsageError(
            f"--listen {description} is every address of this machine, and others must be told one.",
            "Add --advertise tcp:HOST:PORT, or :interface=ADDRESS to --listen.",
        )


def check_data(folder: Path, copies: int | None, virtual_nodes: int | None) -> None:
    """Look at a data folder: that it can be one, that nobody has it open,
    that its key can be read, its database is none of a newer program, and its
    ring has the settings that were asked for, if any.

    A folder that is missing is made later, if its parent lets us.

    :raises peerstore.errors.PeerStoreError: saying which of these fails.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--data {folder} is no folder.", "Name a folder, or one that can be made.")
    there = folder
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ReadOnly(f"--data {folder} cannot be written.", f"Check owner, mode and mount options of {there}.")
    if there != folder:
        return
    _check_lock(folder)
    if (folder / "key.pem").exists():
        KeyPair.load(folder / "key.pem")
    if (folder / DATABASE).exists():
        reader = open_reader(folder / DATABASE)
        try:
            kept = read_settings(setting(reader, "copies"), setting(reader, "virtual-nodes"))
        finally:
            reader.close()
        agree(kept, copies, virtual_nodes)


def _check_lock(folder: Path) -> None:
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ReadOnly(f"--data {folder} cannot be used ({error.strerror}).", "Check its owner and mode.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise ReadOnly(f"--data {folder} cannot be locked ({error.strerror}).") from error
        raise UsageError(
            f"Another process has the data folder {folder} open.", "Stop that one, or choose another folder."
        ) from error
    finally:
        os.close(lock)


class _Probe:
    """A reactor for one purpose: it binds what an endpoint asks for, and
    closes it again.  Kinds of endpoints that it does not know are left to the
    real one."""

    #: Whether what was bound is no single address.
    everywhere = False

    def listenTCP(self, port: int, factory: object, backlog: int = 50, interface: str = "") -> None:
        """Bind and close."""
        self.everywhere = interface in ("", "0.0.0.0", "::")
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((interface, port))
                probe.listen(1)
            except OSError as error:
                raise CannotListenError(interface, port, error) from error
