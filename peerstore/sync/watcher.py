"""inotify as one of the reactor's readers, by way of pyinotify.

What the kernel tells is a hint where to look, never the truth: it may be
late, lost, or about a path that has another name by now.  Whatever cannot be
understood becomes a look at everything.
"""

from __future__ import annotations

import errno
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
pyinotify.log.propagate = False

MASK = (
    pyinotify.IN_CREATE
    | pyinotify.IN_CLOSE_WRITE
    | pyinotify.IN_MODIFY
    | pyinotify.IN_ATTRIB
    | pyinotify.IN_DELETE
    | pyinotify.IN_MOVED_FROM
    | pyinotify.IN_MOVED_TO
    | pyinotify.IN_ONLYDIR
    | pyinotify.IN_DONT_FOLLOW
)
#: Of the root alone we must know that it went: no folder that we watch tells.
ROOT_MASK = (MASK & ~pyinotify.IN_DONT_FOLLOW) | pyinotify.IN_DELETE_SELF | pyinotify.IN_MOVE_SELF
_GONE = pyinotify.IN_DELETE_SELF | pyinotify.IN_MOVE_SELF | pyinotify.IN_UNMOUNT
_LIMITS = {
    errno.ENOSPC: "the limit of watched folders is reached: raise it with sysctl fs.inotify.max_user_watches",
    errno.EMFILE: "the limit of watching programs is reached: raise it with sysctl fs.inotify.max_user_instances",
}


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
        self._reading = False
        # What was told in this turn.
        self._paths: list[bytes] = []
        self._overflown = False
        #: Why some or all of the folder is not watched; empty when all is.
        self.blind = ""

    # -- life --------------------------------------------------------------------

    def open(self) -> None:
        """Watch the folder and all below it.  Blocks; what happens from now
        on is told once :meth:`start` was called."""
        self.blind = ""
        try:
            self._manager = pyinotify.WatchManager()
        except OSError as error:
            # pyinotify tells the reason in words only.
            self._cannot(next((n for n in _LIMITS if os.strerror(n) in str(error)), 0), str(error))
            return
        self._notifier = pyinotify.Notifier(self._manager, self._event, read_freq=0, timeout=0)
        self._notifier.coalesce_events()
        # A read that finds nothing must not block the reactor.
        os.set_blocking(self._manager.get_fd(), False)
        os.set_inheritable(self._manager.get_fd(), False)
        self._watch(self._root)

    def start(self) -> None:
        """Begin to tell."""
        if self._notifier is not None and not self._reading:
            self._reading = True
            self._reactor.addReader(self)

    def stop(self) -> None:
        """Watch no more; more than once does no harm.  It can be opened again."""
        if self._reading:
            self._reading = False
            self._reactor.removeReader(self)
        notifier, self._notifier, self._manager = self._notifier, None, None
        if notifier is not None:
            notifier.stop()

    # -- IReadDescriptor -----------------------------------------------------------

    def fileno(self) -> int:
        """The inotify descriptor, or -1 when not open."""
        return -1 if self._manager is None else int(self._manager.get_fd())

    def doRead(self) -> None:
        """Take in what the kernel has to tell, and then pass it on: whoever
        is told may stop us."""
        lost = ""
        try:
            self._notifier.read_events()
        except UnicodeDecodeError:
            # pyinotify cannot tell names that are no text, and drops what else
            # came with them: so look ourselves.
            lost = "a name that is no text"
        except (pyinotify.NotifierError, OSError) as error:
            if not isinstance(error.__context__, BlockingIOError):
                lost = str(error)
        self._notifier.process_events()
        paths, self._paths = self._paths, []
        if self._overflown:
            lost, self._overflown = "too many at once, or the root itself", False
        if lost:
            self._log.debug("events were lost ({why}): looking at everything", why=lost)
            self._rescan()
        for path in paths:
            if not self._reading:
                break
            self._touched(path)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor lets go of the descriptor."""
        self.stop()
        self.blind = "the reactor let go of it"
        self._rescan()

    def logPrefix(self) -> str:
        """What the reactor calls us."""
        return "peerstore-watcher"

    # -- inside ----------------------------------------------------------------

    def _cannot(self, number: int, why: str) -> None:
        """Say once that we are blind in part, and how to mend it."""
        why = _LIMITS.get(number, why)
        if not self.blind:
            self._log.warn("not all of the folder can be watched ({why}); it is looked at more often", why=why)
        self.blind = why

    def _watch(self, folder: bytes) -> None:
        """Watch a folder and those below it."""
        places = [folder]
        while places:
            place = places.pop()
            self._add(place)
            try:
                with os.scandir(place) as listing:
                    below = [entry.path for entry in listing if entry.is_dir(follow_symlinks=False)]
            except OSError:
                # It went away again; its deletion is an event of its own.
                continue
            places.extend(path for path in below if not os.path.basename(path).startswith(RESERVED))

    def _add(self, place: bytes) -> None:
        mask = ROOT_MASK if place == self._root else MASK
        try:
            self._manager.add_watch(os.fsdecode(place), mask, rec=False, auto_add=False, quiet=False)
        except UnicodeError:
            self._cannot(0, "names that are no text")
        except pyinotify.WatchManagerError as error:
            number = int(self._manager._inotify_wrapper.get_errno() or 0)
            if number not in (errno.ENOENT, errno.ENOTDIR):
                self._cannot(number, str(error))

    def _unwatch(self, folder: bytes) -> None:
        """Forget the watches of a folder that was moved away and of those
        below it: their names are no longer true.  If it comes to rest inside
        the root, it is watched anew."""
        gone = os.fsdecode(folder)
        wds = [wd for wd, w in self._manager.watches.items() if w.path == gone or w.path.startswith(gone + "/")]
        if wds:
            self._manager.rm_watch(wds)

    def _event(self, event: Any) -> None:
        if event.mask & pyinotify.IN_IGNORED:
            return
        if event.mask & (pyinotify.IN_Q_OVERFLOW | _GONE):
            self._overflown = True
            return
        path = os.fsencode(event.pathname)
        relative = path[len(self._root) :].strip(b"/")
        if any(part.startswith(RESERVED) for part in relative.split(b"/")):
            return
        if event.mask & pyinotify.IN_ISDIR:
            if event.mask & pyinotify.IN_MOVED_FROM:
                self._unwatch(path)
            elif event.mask & (pyinotify.IN_CREATE | pyinotify.IN_MOVED_TO):
                # Whatever was put into it before we watched it has no events.
                self._watch(path)
        self._paths.append(relative)
