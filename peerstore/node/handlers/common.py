"""Checks that several method families share."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from peerstore.errors import BadMessage
from peerstore.gateway.lanes import Lane
from peerstore.items import Item
from peerstore.wire.session import Greeting

__all__ = ["ANSWER_BYTES", "STEP", "Reading", "check_length", "check_lengths", "check_limit", "fill", "started"]

#: What one answer may carry; the frame has 192 KiB more for what surrounds it.
ANSWER_BYTES = 4 * 1024 * 1024
ITEM_OVERHEAD = 128
#: Items that are loaded at a time where it is not known how large they are.
STEP = 8
#: Answers that are put together at a time; as many as the store has readers.
READERS = 4

_B = TypeVar("_B")
_A = TypeVar("_A")


class Reading:
    """``async with``: bounds what is loaded from the store at a time.

    Each of a node's workers could hold an answer of 4 MiB; the disk gives out
    no more by being asked for many at once.
    """

    def __init__(self, slots: int = READERS) -> None:
        self._lane = Lane(slots, slots)

    async def __aenter__(self) -> None:
        await self._lane.acquire(1)

    async def __aexit__(self, *error: object) -> None:
        self._lane.release(1)


def check_length(value: bytes, length: int, name: str) -> None:
    """:raises BadMessage: when *value* has another length."""
    if len(value) != length:
        raise BadMessage(f"{name} has {len(value)} bytes instead of {length}.")


def check_lengths(values: Iterable[bytes], length: int, name: str) -> None:
    """:raises BadMessage: when one of *values* has another length."""
    for value in values:
        check_length(value, length, name)


def check_limit(count: int, most: int, name: str) -> None:
    """:raises BadMessage: when *count* is not in [0, most]."""
    if not 0 <= count <= most:
        raise BadMessage(f"{count} {name} in one request; at most {most} are answered.")


def fill(answer: list[Item], item: Item, used: int) -> int:
    """Add *item* to an answer of *used* bytes if it fits (the first always
    does); the bytes used then, or -1 when it did not."""
    cost = item.size + ITEM_OVERHEAD
    if answer and used + cost > ANSWER_BYTES:
        return -1
    answer.append(item)
    return used + cost


def started(handler: Callable[[Greeting, _B], Coroutine[Any, Any, _A]]) -> Callable[[Greeting, _B], Deferred[_A]]:
    """A coroutine function as a handler that returns a Deferred."""

    def start(caller: Greeting, body: _B) -> Deferred[_A]:
        return Deferred.fromCoroutine(handler(caller, body))

    return start
