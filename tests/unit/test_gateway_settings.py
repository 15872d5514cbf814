"""How many copies a ring keeps, as a client finds out."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import PeerUnreachable
from peerstore.gateway.settings import RingSettings
from peerstore.ring.member import Member
from tests.support.rings import greeting

MEMBER = Member(1, b"f" * 32, 0, 1, "sim:a")


class Peers:
    """A pool of one peer, whose greeting says how many copies there are."""

    def __init__(self, copies: int) -> None:
        self.greeting = msgspec.structs.replace(greeting("node"), copies=copies)
        self.asked: list[Any] = []
        self.down = False

    def peer(self, *arguments: Any) -> Deferred[Any]:
        """The peer."""
        self.asked.append(arguments)
        return fail(PeerUnreachable("Nobody there.")) if self.down else succeed(self)


class SettingsTests(SynchronousTestCase):
    """Told, learned, or supposed."""

    def copies(self, settings: RingSettings, member: Member | None = MEMBER) -> int:
        """What it says."""
        found: int = self.successResultOf(Deferred.fromCoroutine(settings.copies(member)))
        return found

    def test_a_node_knows(self) -> None:
        """Nobody is asked."""
        peers = Peers(5)
        self.assertEqual(self.copies(RingSettings(peers, 2, lambda: 9)), 2)  # type: ignore[arg-type]
        self.assertEqual(peers.asked, [])

    def test_a_client_learns_it_once(self) -> None:
        """From the greeting of the first member, by its key."""
        peers = Peers(5)
        settings = RingSettings(peers, 0, lambda: 9)  # type: ignore[arg-type]
        self.assertEqual([self.copies(settings) for _ in range(3)], [5, 5, 5])
        self.assertEqual(peers.asked, [("sim:a", b"f" * 32)])
        self.assertEqual(self.copies(settings, None), 5)

    def test_before_anybody_was_met(self) -> None:
        """Three, as rings have by default; and that is no knowledge."""
        settings = RingSettings(Peers(5), 0, lambda: 9)  # type: ignore[arg-type]
        self.assertEqual(self.copies(settings, None), 3)
        self.assertEqual(self.copies(settings), 5)

    def test_a_member_that_is_down(self) -> None:
        """The error is the caller's; the next member is asked again."""
        peers = Peers(5)
        peers.down = True
        settings = RingSettings(peers, 0, lambda: 9)  # type: ignore[arg-type]
        self.failureResultOf(Deferred.fromCoroutine(settings.copies(MEMBER)), PeerUnreachable)
        peers.down = False
        self.assertEqual(self.copies(settings), 5)
