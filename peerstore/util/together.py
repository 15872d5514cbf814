"""Waiting for many Deferreds at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults

__all__ = ["all_of"]

_T = TypeVar("_T")


async def all_of(jobs: Sequence[Deferred[_T]]) -> list[_T]:
    """All results in order, or the first error as itself.

    The others go on when one fails: their own handlers see to them.
    """
    if len(jobs) == 1:
        # Most often there is one, and a list of Deferreds costs several times as much.
        return [await jobs[0]]
    try:
        return list(await gatherResults(jobs, consumeErrors=True))
    except FirstError as error:
        error.subFailure.raiseException()
        raise AssertionError("a failure without its error") from error
