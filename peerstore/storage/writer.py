"""One thread that writes, and commits all waiting puts at once.

A commit costs an fsync, whether it holds one put or a hundred; so whatever
has gathered while the last commit ran goes into the next one.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from peerstore.errors import StorageError
from peerstore.storage.schema import database_error
from peerstore.util.durable import disk_error, sync_directory

__all__ = ["Writer"]

#: The most jobs in one transaction.
BATCH = 512


class _Job(NamedTuple):
    work: Callable[[sqlite3.Connection], Any]
    folders: tuple[Path, ...]
    done: Deferred[Any]


class Writer:
    """Runs jobs on the writing connection, many in one transaction.

    :param reactor: results are handed back in its thread.
    :param db: the writing connection; this thread's alone from now on.
    """

    def __init__(self, reactor: IReactorFromThreads, db: sqlite3.Connection, path: Path) -> None:
        self._reactor = reactor
        self._db = db
        self._path = path
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="peerstore-writer", daemon=True)
        self._ended: Deferred[None] = Deferred()
        self.commits = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, work: Callable[[sqlite3.Connection], Any], folders: Iterable[Path] = ()) -> Deferred[Any]:
        """Do *work* in the next transaction, after syncing *folders*.

        :return: a Deferred of its result, which fires once it is committed,
            or fails with a StorageError, and then nothing of it was kept.
        """
        done: Deferred[Any] = Deferred()
        self._jobs.put(_Job(work, tuple(folders), done))
        return done

    def stop(self) -> Deferred[None]:
        """Commit what waits, close the connection, end the thread."""
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

    def _commit(self, batch: list[_Job]) -> list[tuple[Deferred[Any], Any]]:
        results: list[tuple[Deferred[Any], Any]] = []
        try:
            for folder in sorted({folder for job in batch for folder in job.folders}):
                sync_directory(folder)
            self._db.execute("BEGIN IMMEDIATE")
            for job in batch:
                results.append((job.done, self._one(job)))
            self._db.execute("COMMIT")
            self.commits += 1
        except (sqlite3.Error, OSError) as error:
            # Nothing of the batch was kept, and everybody is told so.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            failure = Failure(
                database_error(error, self._path) if isinstance(error, sqlite3.Error) else disk_error(error, self._path)
            )
            return [(job.done, failure) for job in batch]
        return results

    def _one(self, job: _Job) -> Any:
        """One job in a savepoint: its failure is its own."""
        self._db.execute("SAVEPOINT job")
        try:
            result = job.work(self._db)
        except StorageError:
            self._db.execute("ROLLBACK TO job")
            self._db.execute("RELEASE job")
            return Failure()
        except sqlite3.OperationalError:
            raise
        except Exception:  # noqa: BLE001 - whatever it was, its caller is told
            self._db.execute("ROLLBACK TO job")
            self._db.execute("RELEASE job")
            return Failure()
        self._db.execute("RELEASE job")
        return result


def _deliver(results: list[tuple[Deferred[Any], Any]]) -> None:
    for done, result in results:
        done.callback(result)
