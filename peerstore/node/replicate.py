"""Copies follow the ring: each gets to where it belongs.

For each share of the circle whose first live holder we are, we compare digests
with the other holders, one after the other, fetch what is missing here and push
what is missing there: now and then, and soon after any change.  What is not ours to hold is
handed over, and dropped in the end (``strays``).  All of it keeps to a rate,
so that people notice nothing of it.  Who is to vote does not wait for this:
see ``canvass``.
"""

from __future__ import annotations

import math

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from peerstore import ids
from peerstore.errors import PeerStoreError, StorageError
from peerstore.items import ALL_KINDS
from peerstore.node.debts import Debts
from peerstore.node.duties import Duties
from peerstore.node.duty import Share
from peerstore.node.exchange import Exchange, Task
from peerstore.node.progress import Progress
from peerstore.node.rounds import Rounds
from peerstore.node.strays import Strays
from peerstore.ring.hosts import HostTable
from peerstore.util.complaint import Complaint

__all__ = ["Replicator"]


class Replicator:
    """Keeps our shares and their other holders equal.

    :param exchange: compares one share with one host.
    :param strays: takes care of what is not ours.
    :param debts: what too few others have.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        duties: Duties,
        exchange: Exchange,
        strays: Strays,
        debts: Debts,
        hosts: HostTable,
        fp: bytes,
        copies: int,
    ) -> None:
        self._clock = clock
        self._duties = duties
        self._exchange = exchange
        self._strays = strays
        self._debts = debts
        self._hosts = hosts
        self._fp = fp
        self._copies = copies
        self._rounds = Rounds(clock, self._begin, "replication", look=self._look)
        self._working: Deferred[bool] | None = None
        #: When the next host that is away has been so for too long.
        self._grace: IDelayedCall | None = None
        self._seen: list[Share] = []
        self._disk_failed = False
        #: Of our own disk, which fails every attempt while it is full.
        self._complaint = Complaint(clock.seconds)
        #: Shares that were once brought together with all their holders.
        self._done: set[Share] = set()
        #: Of what the first holders push to us.
        self._progress = Progress(clock)

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    def stop(self) -> Deferred[None]:
        """End; what is in flight is given up."""
        ended = self._rounds.stop()
        self._wait_for_nobody()
        self._interrupt()
        return ended

    def ring_changed(self) -> None:
        """Hosts came or went: look again soon."""
        self._rounds.changed()

    def round(self) -> Deferred[None]:
        """Compare everything once; fires when done, whatever failed."""
        return self._rounds.run()

    def _begin(self) -> Deferred[bool]:
        self._wait_for_nobody()
        patience = self._duties.patience()
        if patience < math.inf:
            # Also while a round is under way, which knows only those who held
            # things when it began.
            self._grace = self._clock.callLater(max(0.0, patience), self._rounds.changed)
        done: Deferred[bool] = Deferred()
        self._working = work = Deferred.fromCoroutine(self._round())
        work.addErrback(self._given_up)
        work.addBoth(done.callback)
        return done

    def _look(self) -> None:
        # What is under way may take hours: not for those who hold it no more.
        # Elsewhere on the circle something always changes.
        if self._ours(self._duties.shares()) != self._seen:
            self._interrupt()

    def _interrupt(self) -> None:
        if self._working is not None:
            self._working.cancel()

    def _given_up(self, failure: Failure) -> bool:
        failure.trap(CancelledError)
        return False

    def _wait_for_nobody(self) -> None:
        if self._grace is not None and self._grace.active():
            self._grace.cancel()

    async def _round(self) -> bool:
        self._disk_failed = False
        self._seen = found = self._ours(self._duties.shares())
        self._done.intersection_update(found)
        self._progress.only(set(found))
        fine = True
        for share in found:
            fine = await self._level(share) and fine
        left = await self._hand_over()
        if not self._disk_failed and self._complaint.over():
            self._log.info("replication: the disk takes copies again")
        return fine and not left

    def _ours(self, found: list[Share]) -> list[Share]:
        return [share for share in found if self._fp in share.now]

    async def _hand_over(self) -> int:
        try:
            return await self._strays.round(self._copies, drop=True)
        except StorageError as error:
            self._complain("handing over", error)
            return 1

    def _complain(self, doing: str, error: StorageError) -> None:
        self._disk_failed = True
        if self._complaint.due():
            self._log.error("{doing}: {why} This is said every ten minutes.", doing=doing, why=str(error))

    async def _level(self, share: Share) -> bool:
        """One share; whether all its holders agree.

        Its first holder fetches what it lacks, and pushes what the others
        lack; the host behind the last holder is asked once, too, since it was
        the last one before, and never pushed to.  The other holders see
        whether they have the same as the first, once; they fetch for
        themselves only where nothing comes.  So everything is sent once.
        """
        new = share not in self._done
        first = share.now[0] == self._fp
        if not (first or new):
            return True
        if not first and not await self._is_missed(share):
            return share in self._done
        others = [fp for fp in share.now if fp != self._fp]
        tasks = [Task(self._hosts.position(fp, 0), ALL_KINDS, True, first) for fp in others if fp in self._hosts]
        if new and share.next in self._hosts and share.next != self._fp:
            tasks.append(Task(self._hosts.position(share.next, 0), ALL_KINDS, True, False))
        fine = True
        for number, task in enumerate(tasks):
            fetched = await self._one(share, task)
            # What comes from the second, the one before it may lack.
            fine = fine and fetched is not None and not (fetched and number)
        if fine:
            self._done.add(share)
            if first and self._duties.are_enough(share):
                self._debts.paid_in(share)
        return fine

    async def _is_missed(self, share: Share) -> bool:
        """Whether we are to fetch what the first holder should have pushed."""
        first, count = share.now[0], -1
        if first in self._hosts:
            try:
                count, _, same = await self._exchange.alike(
                    self._hosts.position(first, 0), ALL_KINDS, share.after, share.through
                )
            except PeerStoreError as error:
                self._failed(first, error)
            else:
                if same:
                    self._done.add(share)
                    return False
        return self._progress.is_stuck(share, count)

    async def _one(self, share: Share, task: Task) -> int | None:
        """How many items came; None when not all was done."""
        try:
            return await self._exchange.run(task, share.after, share.through)
        except PeerStoreError as error:
            self._failed(task.member.fp, error)
            return None

    def _failed(self, fp: bytes, error: PeerStoreError) -> None:
        if isinstance(error, StorageError):
            self._complain("replication", error)
        else:
            self._log.debug("replication with {host}: {why}", host=ids.short(fp), why=error.what)
