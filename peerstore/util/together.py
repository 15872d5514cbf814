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
    try:
        return list(await gatherResults(jobs, consumeErrors=True))
    except FirstError as error:
        error.subFailure.raiseException()
        raise AssertionError("a failure without its error") from error
