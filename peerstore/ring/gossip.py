"""Every host comes to know all hosts: tables are compared in pairs.

Now and then a host asks a random other one what it knows, in short: a digest
for each share of all fingerprints, and where digests differ, the hosts in
that share.  It fetches the records that it lacks.  Whoever is asked and sees
a difference asks back in its turn.  So news reaches everybody in a number of
exchanges that grows with the logarithm of the number of hosts, and a table
that everybody has costs a few bytes a second.

Records are not signed in this version, so a host believes of others what
their peers say, within the bounds of ``HostTable.learn``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from peerstore.errors import BadMessage, PeerError, RemoteError
from peerstore.ring.hosts import ALIVE, RETIRED
from peerstore.ring.lookup import fetch_records
from peerstore.util.periodic import Periodic
from peerstore.wire import bodies

if TYPE_CHECKING:
    from peerstore.ring.host import RingHost

__all__ = ["Gossip", "MAX_MARKS", "shares_for"]

#: Seconds between exchanges: after news, and when nothing has been new for long.
FIRST_PERIOD = 1.0
LONGEST_PERIOD = 30.0
SLOWER = 1.5
TIMEOUT = 5.0
MAX_MARKS = 512
#: About so many hosts in each share that is compared.
HOSTS_PER_SHARE = 4
MAX_SHARES = 256
#: How many hosts may wait to be asked back.
MAX_ASK_BACK = 16


def shares_for(hosts: int) -> int:
    """Into how many shares *hosts* hosts are divided: a power of two."""
    shares = 1
    while shares < MAX_SHARES and shares * HOSTS_PER_SHARE < hosts:
        shares *= 2
    return shares


class Gossip:
    """Compares our table of hosts with others'.

    :param host: ours.
    """

    _log = Logger()

    def __init__(self, host: RingHost) -> None:
        self._host = host
        self._period = FIRST_PERIOD
        self._complete = False
        self._ask_back: dict[bytes, None] = {}
        self._rounds = Periodic(host.clock, self._round, self._interval, "comparing the known hosts")

    def start(self) -> None:
        """Begin."""
        self._rounds.start(now=False)

    def stop(self) -> Deferred[None]:
        """End; fires when the exchange in flight is over."""
        return self._rounds.stop()

    def news(self) -> None:
        """Something changed: spread it soon."""
        self._period = FIRST_PERIOD
        self._rounds.hurry(FIRST_PERIOD)

    def renew(self) -> None:
        """Somebody who was gone is back, and probably not alone: the next time
        ask for everything, who lives included."""
        self._complete = False
        self.news()

    async def exchange(self, address: str, everything: bool = False) -> None:
        """Learn what the node at *address* knows of hosts.

        :param everything: ask for all it knows, our own record included.
        :raises peerstore.errors.PeerError: when it does not answer.
        :raises peerstore.errors.RemoteError: when it does not want to.
        """
        hosts = self._host.hosts
        digests = () if everything else hosts.digests(shares_for(len(hosts)))
        told: bodies.HostMarks = await self._host.pool.call(
            address, "compare-hosts", bodies.CompareHosts(digests), TIMEOUT
        )
        before = hosts.changes
        marks = told.marks[: MAX_MARKS + 1]
        for mark in marks:
            if mark.state == RETIRED:
                self._host.retire(mark.fp)
        lacking = self._lacking(marks, everything)
        await fetch_records(self._host.pool, hosts, address, list(lacking))
        for mark in marks:
            # Hearsay is as good a hint as any about hosts that are news to us.
            # Of others we know better ourselves, unless we ask for it.
            if mark.state == ALIVE and (everything or mark.fp in lacking):
                hosts.said_alive(mark.fp)
        if hosts.changes != before:
            # Perhaps one of them belongs between us and a neighbour.
            self._host.wake()

    def answer(self, caller: Any, body: bodies.CompareHosts) -> bodies.HostMarks:
        """What to tell a host that compares.

        :raises peerstore.errors.BadMessage: for digests that are none.
        """
        hosts = self._host.hosts
        shares = len(body.digests)
        if shares > MAX_SHARES or shares & (shares - 1):
            raise BadMessage("digests are for 1, 2, 4 ... 256 shares.")
        ours = hosts.digests(shares) if shares else ()
        different = [share for share in range(shares) if body.digests[share] != ours[share]]
        marks = hosts.marks(different, shares) if shares else hosts.marks([0], 1)
        if different and len(self._ask_back) < MAX_ASK_BACK and caller.fp in hosts:
            self._ask_back[caller.fp] = None
            self.news()
        more = len(marks) > MAX_MARKS
        if more:
            start = self._host.rng.randrange(len(marks))
            marks = (marks[start:] + marks[:start])[:MAX_MARKS]
        own = hosts.mark(caller.fp)
        if own is not None:
            marks = [own, *(mark for mark in marks if mark.fp != caller.fp)]
        return bodies.HostMarks(tuple(marks), more)

    # -- inside ----------------------------------------------------------------

    def _interval(self) -> float:
        period = self._period
        self._period = min(LONGEST_PERIOD, period * SLOWER)
        return period * self._host.rng.uniform(0.75, 1.25)

    async def _round(self) -> None:
        address = self._partner()
        if address is None or not self._host.serving:
            return
        try:
            await self.exchange(address, everything=not self._complete)
        except (PeerError, RemoteError) as error:
            self._log.debug("comparing hosts with {address}: {why}", address=address, why=error.what)
            return
        self._complete = True

    def _partner(self) -> str | None:
        """Somebody who saw a difference, or else anybody who lives."""
        hosts = self._host.hosts
        while self._ask_back:
            fp = next(iter(self._ask_back))
            del self._ask_back[fp]
            if hosts.is_alive(fp):
                return hosts.position(fp, 0).address
        alive = hosts.fps(alive=True)
        return hosts.position(self._host.rng.choice(alive), 0).address if alive else None

    def _lacking(self, marks: Sequence[bodies.HostMark], everything: bool) -> Mapping[bytes, None]:
        """Of whom the other has a record that we have not, or not so new.

        What it has of ourselves is asked for as well: it may be another's,
        who has our key.
        """
        lacking: dict[bytes, None] = {}
        for mark in marks:
            record = self._host.hosts.record(mark.fp)
            if mark.state == RETIRED or len(mark.fp) != 32:
                continue
            if record is None or mark.incarnation > record.incarnation or (everything and mark.fp == self._host.fp):
                lacking[mark.fp] = None
        return lacking
