"""Hypothesis as the unit tests use it: the same examples every time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peerstore import vectors

__all__ = ["DEVICES", "check", "device_vectors"]

#: Few devices, so that histories cross often.
DEVICES = [bytes([number]) * 16 for number in (0xD1, 0xD2, 0xD3)]


def check(*strategies: Any, examples: int = 100, **named: Any) -> Callable[[Any], Any]:
    """``@given`` without randomness and without a deadline: a slow machine
    makes no test fail, and a failure comes again."""

    def decorate(test: Any) -> Any:
        quiet = settings(
            derandomize=True,
            deadline=None,
            database=None,
            max_examples=examples,
            suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
        )
        return quiet(given(*strategies, **named)(test))

    return decorate


def device_vectors(highest: int = 3, least: int = 0) -> st.SearchStrategy[vectors.Vector]:
    """Version vectors over :data:`DEVICES`, counters up to *highest*."""
    return st.dictionaries(st.sampled_from(DEVICES), st.integers(1, highest), min_size=least).map(
        lambda entries: tuple(sorted(entries.items()))
    )
