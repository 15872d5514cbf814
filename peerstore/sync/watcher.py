"""inotify as one of the reactor's readers, by way of pyinotify."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import pyinotify
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from peerstore.files.safepath import RESERVED

__all__ = ["FolderWatcher"]

# pyinotify prints to stderr by a handler of its own; we report what matters.
for _handler in list(pyinotify.log.handlers):
    pyinotify.log.removeHandler(_handler)
pyinotify.log.addHandler(logging.NullHandler())

MASK = (
    pyinotify.IN_CREATE
    | pyinotify.IN_CLOSE_WRITE
    | pyinotify.IN_MODIFY
    | pyinotify.IN_ATTRIB
    | pyinotify.IN_DELETE
    | pyinotify.IN_MOVED_FROM
    | pyinotify.IN_MOVED_TO
    | pyinotify.IN_DELETE_SELF
    | pyinotify.IN_MOVE_SELF
    | pyinotify.IN_ONLYDIR
    | pyinotify.IN_DONT_FOLLOW
)


@implementer(IReadDescriptor)
class FolderWatcher:
    """Tells which paths below a folder may have changed.

    :param reactor: provides ``IReactorFDSet``.
    :param root: the folder, raw bytes.
    :param touched: called with a relative path (raw bytes).
    :param rescan: called when events were lost: look at everything again.
    """

    _log = Logger()

    def __init__(
        self, reactor: IReactorFDSet, root: bytes, touched: Callable[[bytes], None], rescan: Callable[[], None]
    ) -> None:
        self._reactor = reactor
        self._root = root
        self._touched = touched
        self._rescan = rescan
        self._manager: Any = None
        self._notifier: Any = None
        self._stopped = False

    def start(self) -> None:
        """Watch the folder and all below it; then look at everything once."""
        self._manager = pyinotify.WatchManager()
        self._notifier = pyinotify.Notifier(self._manager, self._event, read_freq=0, timeout=0)
        # A read that finds nothing must not block the reactor.
        os.set_blocking(self._manager.get_fd(), False)
        self._watch(self._root)
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Watch no more; more than once does no harm."""
        if self._notifier is None or self._stopped:
            return
        self._stopped = True
        self._reactor.removeReader(self)
        self._notifier.stop()

    # -- IReadDescriptor -----------------------------------------------------------

    def fileno(self) -> int:
        """The inotify descriptor, or -1 once stopped."""
        return -1 if self._stopped or self._manager is None else int(self._manager.get_fd())

    def doRead(self) -> None:
        """Take in what the kernel has to tell."""
        try:
            self._notifier.read_events()
            self._notifier.process_events()
        except (UnicodeDecodeError, pyinotify.NotifierError, OSError) as error:
            # pyinotify cannot tell names that are no text: so look ourselves.
            self._log.debug("events were lost ({why}): looking at everything", why=str(error))
            self._rescan()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor lets go of the descriptor."""
        self.stop()

    def logPrefix(self) -> str:
        """What the reactor calls us."""
        return "peerstore-watcher"

    # -- inside ----------------------------------------------------------------

    def _watch(self, folder: bytes) -> None:
        """Watch a folder and those below it; names that are no text go
        through the file system's own encoding and back."""
        places = [folder]
        while places:
            place = places.pop()
            try:
                self._manager.add_watch(os.fsdecode(place), MASK, rec=False, auto_add=False, quiet=False)
            except (pyinotify.WatchManagerError, UnicodeError) as error:
                self._log.warn("a folder cannot be watched ({why}); it is looked at now and then", why=str(error))
            try:
                with os.scandir(place) as listing:
                    below = [entry.path for entry in listing if entry.is_dir(follow_symlinks=False)]
            except OSError:
                # It went away again; its deletion is an event of its own.
                continue
            places.extend(path for path in below if not os.path.basename(path).startswith(RESERVED))

    def _event(self, event: Any) -> None:
        if event.mask & (pyinotify.IN_Q_OVERFLOW | pyinotify.IN_UNMOUNT):
            self._rescan()
            return
        path = os.fsencode(event.pathname)
        if event.mask & (pyinotify.IN_DELETE_SELF | pyinotify.IN_MOVE_SELF):
            if path == self._root:
                self._rescan()
            return
        if event.mask & pyinotify.IN_IGNORED:
            return
        relative = path[len(self._root) :].strip(b"/")
        if any(part.startswith(RESERVED) for part in relative.split(b"/")):
            return
        if event.mask & pyinotify.IN_ISDIR and event.mask & (pyinotify.IN_CREATE | pyinotify.IN_MOVED_TO):
            # Whatever was put into it before we watched it has no events.
            self._watch(path)
        self._touched(relative)
