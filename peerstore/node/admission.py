"""Who judges what comes in: shape, hash, claim and place of every item.

A node has no keys.  It can check that a thing is what its name says: that a
chunk hashes to its id, that a head's leaf, owner and manifest fit, that an
entry is of the log it is put into.  That is done once, before anything is
written, for posts and for pushes alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, execute

from peerstore.errors import BadMessage
from peerstore.files.chunk import verify_chunk
from peerstore.files.head import decode_head
from peerstore.interfaces import IBlockingRunner
from peerstore.items import Item, Kind
from peerstore.transactions.entry import entry_of

__all__ = ["Admission", "IN_THREAD", "MAX_MANIFEST", "judge"]

#: A manifest that is larger is itself chunked by whoever writes it.
MAX_MANIFEST = 1024 * 1024 + 64 * 1024
#: Above this many bytes, hashing would be felt by everybody else.
IN_THREAD = 64 * 1024


def judge(item: Item) -> str:
    """Why *item* cannot be kept, or an empty string when it can."""
    try:
        _check(item)
    except BadMessage as error:
        return error.what
    return ""


def _check(item: Item) -> Any:
    if not item.key.well_formed():
        raise BadMessage("an item's key is malformed.")
    if item.key.kind is Kind.CHUNK:
        return verify_chunk(item)
    if item.key.kind is Kind.HEAD:
        if len(item.data) > MAX_MANIFEST:
            raise BadMessage("a manifest is larger than a manifest can be.")
        return decode_head(item)
    if item.key.kind is Kind.LOG:
        return entry_of(item)
    raise BadMessage("this version keeps no records.")


def _judge_all(items: Sequence[Item]) -> list[str]:
    return [judge(item) for item in items]


class Admission:
    """Judges items, in a thread where there is much to hash.

    :param runner: provides ``IBlockingRunner``.
    """

    def __init__(self, runner: IBlockingRunner) -> None:
        self._runner = runner

    def judge(self, items: Sequence[Item]) -> Deferred[list[str]]:
        """For each item why it cannot be kept, empty where it can."""
        if sum(item.size for item in items) <= IN_THREAD:
            return execute(_judge_all, items)
        judged: Deferred[list[str]] = self._runner.run(_judge_all, items)
        return judged
