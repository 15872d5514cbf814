"""Who lives, as far as one host can tell: by asking, and by nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from peerstore import ids
from peerstore.errors import PeerError, PeerMismatch, PeerUnreachable, RemoteError
from peerstore.ring import position as steps
from peerstore.ring.member import Member
from peerstore.util.together import all_of
from peerstore.wire import bodies

if TYPE_CHECKING:
    from peerstore.ring.host import RingHost

__all__ = ["Liveness"]

TIMEOUT = 2.0
#: Neighbours looked at together after a death.
MOST = 64
#: Somebody who was found dead is dialled again after so many seconds, if he
#: is to be asked at all: because a living member names him.
REDIAL = 5.0


class Liveness:
    """Suspicions, deaths and returns.

    :param host: ours.
    """

    _log = Logger()

    def __init__(self, host: RingHost) -> None:
        self._host = host
        #: Hosts that did not answer once, and when that was noted.
        self._suspects: dict[bytes, float] = {}
        #: Hosts that were found dead, and when they were last to be dialled.
        self._dead: dict[bytes, float] = {}
        self._somebody_died = False
        self._said_overlooked = False

    def alive(self, fp: bytes) -> None:
        """A host answered, or greeted us: nobody has to wait until it may be
        dialled again."""
        hosts = self._host.hosts
        self._suspects.pop(fp, None)
        self._dead.pop(fp, None)
        if not hosts.is_alive(fp) and fp in hosts:
            self._host.pool.forget_backoff(hosts.position(fp, 0).address)
        hosts.alive(fp)

    def silent(self, fp: bytes, error: PeerError, since: float) -> bool:
        """A host did not answer; true once it is taken for dead.

        One lost connection or one timeout is an accident, a second in a row a
        death; and so is that no connection comes about, or somebody else
        answers.  A false one mends itself: the host's own upkeep brings it
        back.

        That a dead one is dead is no news: where two hosts do not reach each
        other, and others name the one to the other, it is found out over and
        over.

        :param since: when it was asked.  What was asked before an accident
            was known belongs to that accident.
        """
        if fp == self._host.fp:
            return False
        noted = self._suspects.get(fp)
        certain = isinstance(error, PeerMismatch | PeerUnreachable)
        if not certain and (noted is None or since < noted):
            self._suspects.setdefault(fp, self._host.clock.seconds())
            return False
        if fp not in self._dead:
            self._dead[fp] = since
            self._somebody_died = True
        self.drop(fp)
        return True

    def about_to_ask(self, fp: bytes) -> None:
        """A neighbour is to be asked.  One that was dead, and is named by
        somebody who lives, need not wait until the pool would dial it again,
        which may take half a minute."""
        hosts, now = self._host.hosts, self._host.clock.seconds()
        if now - self._dead.get(fp, now) >= REDIAL and fp in hosts:
            self._dead[fp] = now
            self._host.pool.forget_backoff(hosts.position(fp, 0).address)

    def drop(self, fp: bytes, why: str = "does not answer") -> None:
        """Keep no position of this host; it is looked for again later."""
        host = self._host
        self._suspects.pop(fp, None)
        if host.hosts.is_alive(fp):
            self._log.info("{fp} {why} and is left out of the ring", fp=ids.short(fp), why=why)
        host.hosts.dead(fp)
        # Twice: one that lost everybody goes on from what a sibling knows,
        # which may not have dropped it yet.
        for place in 2 * host.positions:
            place.update(steps.drop_host(place.state, fp))
            place.fingers.drop_host(fp)
        host.tell_drop(fp)

    def overlooked(self, member: Member) -> None:
        """A successor answers us and takes no notice of us.  Said once."""
        if not self._said_overlooked:
            self._said_overlooked = True
            self._log.warn(
                "{fp} at {there} answers this node, but does not seem to reach it at {here}; "
                "is that address right, and open to the others? (--advertise names another)",
                fp=ids.short(member.fp),
                there=member.address,
                here=self._host.address,
            )

    async def look_round(self) -> None:
        """After a death, look at all neighbours at once.

        Deaths seldom come alone where a network is cut or the power goes, and
        to wait for each in its turn would take minutes.
        """
        if not self._somebody_died:
            return
        self._somebody_died = False
        host = self._host
        fps = {member.fp for place in host.positions for member in place.neighbours()} - {host.fp}
        await all_of([Deferred.fromCoroutine(self._look_at(fp)) for fp in sorted(fps)[:MOST]])

    async def _look_at(self, fp: bytes) -> None:
        host = self._host
        since = host.clock.seconds()
        member = host.hosts.whereabouts(fp)
        if member is None:
            # Retired while an answer that names it was on its way.
            self.drop(fp, "was retired")
            return
        self.about_to_ask(fp)
        try:
            await host.pool.call(member.address, "ping", bodies.Ping(), TIMEOUT, fp)
        except PeerError as error:
            self.silent(fp, error, since)
        except RemoteError:
            self.alive(fp)
        else:
            self.alive(fp)
