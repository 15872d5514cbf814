"""Nodes of rings with other settings: never merged with, and never silently.

k and v belong to a ring.  A node that was told to join a ring, found nobody
there and began alone has settings of its own; if they turn out not to be
those of the ring that it was meant for, it would sit alone for ever, and the
person who started it would think that all is well.  So it says what is wrong
and what to do, and says so again as long as that lasts.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from twisted.logger import Logger

if TYPE_CHECKING:
    from peerstore.ring.host import RingHost

__all__ = ["Strangers"]

#: Seconds between two reminders of a node that is alone because of this.
REPEAT = 600.0
#: Addresses that are remembered; peers can make them up.
MOST = 32


class Strangers:
    """Says whom we do not merge with, and why.

    :param host: ours.
    """

    _log = Logger()

    def __init__(self, host: RingHost) -> None:
        self._host = host
        #: Where one was found, and when that was said last.
        self._found: dict[str, float] = {}

    @property
    def met(self) -> bool:
        """Whether a node of such a ring was found where we looked for ours."""
        return any(at in self._found for at in self._host.bootstrap)

    def found(self, address: str, copies: int, positions: int) -> None:
        """A node that we dialled at *address* belongs to a ring that keeps
        *copies* copies, with *positions* positions a host: not ours."""
        if not self._due(address):
            return
        text = (
            "The ring at {address} keeps {copies} copies, with {positions} positions a host, and this node {own}, "
            "with {v}: they cannot be one ring. "
        )
        if self._host.alone:
            text += (
                "So this node is alone, and what it is sent is on one machine only. Start it again without --copies "
                "and --virtual-nodes, and it takes over those of that ring; if its data folder is said to belong to "
                "another, give it a new one."
            )
        else:
            text += "That one is left alone."
        self._log.warn(
            text,
            address=address,
            copies=copies,
            positions=positions,
            own=self._host.copies,
            v=len(self._host.positions),
        )

    def _due(self, address: str) -> bool:
        """Whether to say so: once we are a member, and once; while we are
        alone, now and then."""
        if address not in self._found:
            if len(self._found) >= MOST:
                return False
            self._found[address] = -math.inf
        now, said = self._host.clock.seconds(), self._found[address]
        due = said == -math.inf or (self._host.alone and now - said >= REPEAT)
        if due and self._host.status == "MEMBER":
            self._found[address] = now
            return True
        return False
