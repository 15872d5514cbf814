"""A process that stores numbered items and says which ones are acknowledged.

``python -m tests.support.storage_child FOLDER FIRST COUNT WINDOW [WITHOUT]``
puts items FIRST to FIRST + COUNT - 1, WINDOW at a time, and writes each one's
number on a line of its own as soon as its put has been answered.  WITHOUT
takes one of the syncs out (``file``, ``folder``, ``journal``), for tests that
are to notice it.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import cooperate, react

from peerstore.items import Item
from peerstore.storage import sqlite_store
from peerstore.storage.sqlite_store import SqliteNodeStore
from tests.support.storage import chunk, entry, head, large_chunk


def numbered(number: int) -> Item:
    """Of four items one is a large chunk, one a small, one a head, one an entry."""
    make = (large_chunk, chunk, head, entry)[number % 4]
    return make(number + 1)


def _take_out(what: str) -> None:
    """Let one kind of sync do nothing."""
    real_sync, real_open = os.fsync, sqlite_store.open_database

    def fsync(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        if kind != what:
            real_sync(descriptor)

    def open_database(path: Path) -> sqlite3.Connection:
        db = real_open(path)
        if what == "journal":
            db.execute("PRAGMA synchronous = NORMAL")
        return db

    os.fsync = fsync
    sqlite_store.open_database = open_database


async def _run(reactor: Any, folder: str, first: str, count: str, window: str, without: str = "") -> None:
    _take_out(without)
    store = SqliteNodeStore(Path(folder), reactor)
    await store.start()

    def puts() -> Iterator[Deferred[None]]:
        for number in range(int(first), int(first) + int(count)):
            put = store.put([numbered(number)])
            yield put.addCallback(lambda _, number=number: os.write(1, b"%d\n" % number))

    work = puts()
    for task in [cooperate(work) for _ in range(int(window))]:
        await task.whenDone()
    await store.stop()


if __name__ == "__main__":
    react(lambda reactor, *arguments: Deferred.fromCoroutine(_run(reactor, *arguments)), sys.argv[1:])
