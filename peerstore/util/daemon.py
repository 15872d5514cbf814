"""What a daemon says in its log: everything from level info on, or all of it.

twistd writes every line, whatever its level, and has no option to change
that.  It does take an observer from the application that it runs, so the one
that it would have made itself is put there, behind a filter.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LegacyLogObserverWrapper,
    LogLevel,
    LogLevelFilterPredicate,
    textFileLogObserver,
)
from twisted.python.logfile import LogFile

from peerstore.util.options import PlainOptions

__all__ = ["Daemon", "quiet_observer"]


class Daemon(MultiService):
    """A service as twistd runs it.

    :param options: its options; with ``--verbose`` all is logged.
    :param reactor: provides ``IReactorFromThreads``.
    """

    def __init__(self, options: PlainOptions, service: IService, reactor: Any) -> None:
        super().__init__()
        self._options = options
        self._reactor = reactor
        self.addService(service)

    def setServiceParent(self, parent: Any) -> None:
        """Be run by an application, whose log begins right after this."""
        if not self._options["verbose"]:
            observer = quiet_observer(self._options.parent or {}, self._reactor)
            if observer is not None:
                parent.setComponent(ILogObserver, observer)
        super().setServiceParent(parent)


def quiet_observer(options: Mapping[str, Any], reactor: Any) -> ILogObserver | None:
    """Where twistd's options let the log go, from level info on; None where
    twistd is to decide by itself.

    :param options: those of twistd.
    """
    if options.get("logger"):
        return None
    quiet = LogLevelFilterPredicate(LogLevel.info)
    if options.get("syslog"):
        from twisted.python.syslog import SyslogObserver

        emit: Any = SyslogObserver(options.get("prefix", "")).emit
        return FilteringLogObserver(LegacyLogObserverWrapper(emit), [quiet])
    name, in_front = options.get("logfile"), options.get("nodaemon")
    if in_front and (not name or name == "-"):
        return FilteringLogObserver(textFileLogObserver(sys.stdout), [quiet])
    if name == "-":
        # Which is a mistake, and twistd says so.
        return None
    return FilteringLogObserver(textFileLogObserver(_log_file(name or "twistd.log", reactor)), [quiet])


def _log_file(name: str, reactor: Any) -> Any:
    """A log file that begins anew when it is large, and at SIGUSR1."""
    file = LogFile.fromFullPath(name)
    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(file.rotate))
    return file
