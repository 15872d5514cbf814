"""One process writes as a device at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from peerstore.errors import UsageError
from peerstore.util.durable import disk_error

__all__ = ["HomeLock"]


class HomeLock:
    """An exclusive lock on a home folder, released when the process ends.

    :param home: the folder with key and state.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._descriptor = -1

    def take(self) -> None:
        """Lock, or fail at once.

        :raises peerstore.errors.UsageError: when another process has it.
        """
        self.make_home()
        try:
            self._descriptor = os.open(self._home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise disk_error(error, self._home) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            raise UsageError(
                f"Another peerstore is at work with {self._home}.",
                "Wait until it is done, or use a home of your own with --home.",
            ) from error

    def make_home(self) -> None:
        """Make the folder, for ourselves alone.

        :raises peerstore.errors.StorageError: with the reason in words.
        """
        try:
            self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        except FileExistsError as error:
            raise UsageError(f"{self._home} is no folder.", "Name another with --home.") from error
        except OSError as error:
            raise disk_error(error, self._home) from error

    def release(self) -> None:
        """Unlock; more than once does no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
