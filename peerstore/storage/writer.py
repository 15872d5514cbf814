"""One thread that writes, and commits all waiting puts at once.

A commit costs an fsync, whether it holds one put or a hundred; so whatever
has gathered while the last commit ran goes into the next one.  Being alone,
the thread also puts files where they belong and takes them away: what it
sees in the tables is what is there.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python.failure import Failure

from peerstore.storage.schema import database_error
from peerstore.util.durable import disk_error, sync_directory

__all__ = ["Transaction", "Writer"]

#: The most jobs in one transaction.
BATCH = 512


class Transaction:
    """What jobs work in.

    *db* is the connection; *folders* are synced before the commit;
    *afterwards* is called once it is committed, *otherwise* when it is not.
    A job may be run again after a transaction that failed.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        self.folders: set[Path] = set()
        self.afterwards: list[Callable[[], None]] = []
        self.otherwise: list[Callable[[], None]] = []


class _Job(NamedTuple):
    work: Callable[[Transaction], Any]
    done: Deferred[Any]


class Writer:
    """Runs jobs on the writing connection, many in one transaction.

    :param reactor: results are handed back in its thread.
    :param db: the writing connection; this thread's alone from now on.
    :param path: its file, for errors.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorFromThreads, db: sqlite3.Connection, path: Path) -> None:
        self._reactor = reactor
        self._db = db
        self._path = path
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="peerstore-writer", daemon=True)
        self._ended: Deferred[None] = Deferred()
        #: How many transactions were committed.
        self.commits = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, work: Callable[[Transaction], Any]) -> Deferred[Any]:
        """Do *work* in the next transaction.

        :return: a Deferred of its result, which fires once it is committed,
            or fails with a StorageError, and then nothing of it was kept.
        """
        done: Deferred[Any] = Deferred()
        self._jobs.put(_Job(work, done))
        return done

    def stop(self) -> Deferred[None]:
        """Commit what waits, close the connection, end the thread.  Nothing
        may be submitted from now on."""
        self._jobs.put(None)
        return self._ended

    def _run(self) -> None:
        ending = False
        while not ending:
            batch = []
            job = self._jobs.get()
            while job is not None:
                batch.append(job)
                if len(batch) >= BATCH or self._jobs.empty():
                    break
                job = self._jobs.get()
            ending = job is None
            if batch:
                results = self._commit(batch)
                self._reactor.callFromThread(_deliver, results)
        self._db.close()
        self._reactor.callFromThread(self._ended.callback, None)

    def _commit(self, batch: Sequence[_Job]) -> list[tuple[Deferred[Any], Any]]:
        transaction = Transaction(self._db)
        try:
            self._db.execute("BEGIN IMMEDIATE")
            results = [(job.done, self._one(transaction, job)) for job in batch]
            for folder in sorted(transaction.folders):
                sync_directory(folder)
            self._db.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            self._roll_back("ROLLBACK")
            if len(batch) > 1:
                # Perhaps only one of them does not fit on the disk.
                return [result for job in batch for result in self._commit([job])]
            self._tidy(transaction.otherwise)
            return [(batch[0].done, Failure(self._told(error)))]
        self.commits += 1
        self._tidy(transaction.afterwards)
        return results

    def _one(self, transaction: Transaction, job: _Job) -> Any:
        """One job in a savepoint: its failure is its own, the disk's is not."""
        afterwards, otherwise = len(transaction.afterwards), len(transaction.otherwise)
        self._db.execute("SAVEPOINT job")
        try:
            result = job.work(transaction)
        except (sqlite3.OperationalError, sqlite3.InternalError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, its caller is told
            self._roll_back("ROLLBACK TO job")
            self._db.execute("RELEASE job")
            self._tidy(transaction.otherwise[otherwise:])
            del transaction.afterwards[afterwards:], transaction.otherwise[otherwise:]
            return Failure(self._told(error))
        self._db.execute("RELEASE job")
        return result

    def _roll_back(self, statement: str) -> None:
        if self._db.in_transaction:
            self._db.execute(statement)

    def _told(self, error: Exception) -> Exception:
        if isinstance(error, sqlite3.Error):
            return database_error(error, self._path)
        if isinstance(error, OSError):
            return disk_error(error, error.filename or self._path)
        return error

    def _tidy(self, actions: Sequence[Callable[[], None]]) -> None:
        """What may fail without harm: it is found again at the next start."""
        for action in actions:
            try:
                action()
            except (sqlite3.Error, OSError) as error:
                self._log.warn("a chunk's file was left behind: {why}", why=str(error))


def _deliver(results: Sequence[tuple[Deferred[Any], Any]]) -> None:
    for done, result in results:
        done.callback(result)
