"""Every storage interface, for every provider."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.contracts.chunk_store import ChunkStoreContract
from tests.contracts.head_store import HeadStoreContract
from tests.contracts.log_store import LogStoreContract
from tests.contracts.node_store import NodeStoreContract
from tests.contracts.record_store import RecordStoreContract
from tests.support.storage import MemoryMedium, SqliteMedium


class _OnSqlite(SynchronousTestCase):
    def make_medium(self) -> SqliteMedium:
        """A new folder."""
        return SqliteMedium(Path(self.mktemp()))


class _InMemory(SynchronousTestCase):
    def make_medium(self) -> MemoryMedium:
        """A new disk."""
        return MemoryMedium()


class SqliteChunkTests(ChunkStoreContract, _OnSqlite):
    """IChunkStore on SQLite and files."""


class SqliteHeadTests(HeadStoreContract, _OnSqlite):
    """IHeadStore on SQLite."""


class SqliteLogTests(LogStoreContract, _OnSqlite):
    """ILogStore on SQLite."""


class SqliteRecordTests(RecordStoreContract, _OnSqlite):
    """IRecordStore on SQLite."""


class SqliteNodeTests(NodeStoreContract, _OnSqlite):
    """INodeStore on SQLite and files."""


class MemoryChunkTests(ChunkStoreContract, _InMemory):
    """IChunkStore in memory."""


class MemoryHeadTests(HeadStoreContract, _InMemory):
    """IHeadStore in memory."""


class MemoryLogTests(LogStoreContract, _InMemory):
    """ILogStore in memory."""


class MemoryRecordTests(RecordStoreContract, _InMemory):
    """IRecordStore in memory."""


class MemoryNodeTests(NodeStoreContract, _InMemory):
    """INodeStore in memory."""
