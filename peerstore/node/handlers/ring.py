"""The ring family: answered by the ring itself.

What is added here is only that a stranger (a client) may ask where things
are and not take part: a notice that changes who is whose neighbour comes from
nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peerstore.errors import BadMessage
from peerstore.net.dispatch import Handler
from peerstore.wire.session import Greeting

__all__ = ["NODES_ONLY", "ring_handlers"]

NODES_ONLY = ("notify", "leaving")


def ring_handlers(methods: Mapping[str, Handler]) -> dict[str, Handler]:
    """The ring host's own handlers, with those of ``NODES_ONLY`` guarded."""
    handlers = dict(methods)
    for name in NODES_ONLY:
        if name in handlers:
            handlers[name] = _guarded(name, handlers[name])
    return handlers


def _guarded(name: str, handler: Handler) -> Handler:
    def guard(caller: Greeting, body: Any) -> Any:
        if caller.role != "node":
            raise BadMessage(f"{name} is for members of the ring.")
        return handler(caller, body)

    return guard
