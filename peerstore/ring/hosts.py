"""What is known of every host: key, address, incarnation, whether it lives.

Keys come with records, and the fingerprint of a record is computed, never
believed; so a position named on the wire as (fingerprint, index) gets its
ring id from a key that was checked.

Whether a host is *alive* is no more than a hint here: where to ask first, and
whom to look for again.  Nobody is forgotten for being dead: a host counts
until it is retired, because a majority is one of all hosts that ever were
admitted.  When it was last seen is kept beside it.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from twisted.internet.interfaces import IReactorTime

from peerstore import ids
from peerstore.ring.claims import MAX_ADDRESS, MAX_INCARNATION, Claim, Claims
from peerstore.ring.member import Member
from peerstore.wire.bodies import HostMark, HostRecord, PositionRef

__all__ = ["ALIVE", "HostTable", "KNOWN", "MAX_HOSTS", "MAX_JUMP", "MAX_RECORDS", "RETIRED"]

#: The most records that one answer carries.
MAX_RECORDS = 256
#: The most hosts that are remembered, and the most retired ones.
MAX_HOSTS = 10_000
MAX_POSITIONS = 64
#: An incarnation counts starts.  One that leaps further ahead than this is
#: made up, and would silence the host for good if it were believed.
MAX_JUMP = 1 << 20
DIGEST_BYTES = 8
#: For so long (s) what we found out ourselves outweighs what others say.
SURE = 30.0

#: The state in a HostMark.
KNOWN, ALIVE, RETIRED = 0, 1, 2


class _Host:
    __slots__ = ("_members", "alive", "lost", "record", "seen")

    def __init__(self, record: HostRecord) -> None:
        self.record = record
        self.alive = False
        #: When it was last found not to answer.
        self.lost = -math.inf
        #: When it was last known to live; 0 for never.
        self.seen = 0.0
        self._members: tuple[Member, ...] = ()

    def renew(self, record: HostRecord) -> None:
        """It has started again, or moved."""
        self.record = record
        self._members = ()

    def members(self, fp: bytes) -> tuple[Member, ...]:
        """Its positions, in the order of their indices; made once."""
        if not self._members:
            record = self.record
            self._members = tuple(
                Member(ids.position_id(record.spki, index), fp, index, record.incarnation, record.addresses[0])
                for index in range(record.virtual_nodes)
            )
        return self._members


class _Saved(NamedTuple):
    records: tuple[HostRecord, ...]
    retired: tuple[bytes, ...] = ()
    #: For each record when that host was last seen, in whole seconds; 0 for never.
    seen: tuple[int, ...] = ()


class HostTable:
    """Hosts by fingerprint.

    :param clock: provides ``IReactorTime``.
    :param own: our own record; None for a client, which is no host.
    """

    def __init__(self, clock: IReactorTime, own: HostRecord | None = None) -> None:
        self._clock = clock
        self._hosts: dict[bytes, _Host] = {}
        self._retired: set[bytes] = set()
        #: Fingerprints of all hosts and of all that are retired, sorted.
        self._known: list[bytes] = []
        #: Of foreign hosts those that are alive, and the others, sorted: asked
        #: for with each round of everything.
        self._live: list[bytes] = []
        self._dead: list[bytes] = []
        #: What :meth:`ring` gives; None where it has to be made anew.
        self._ring: list[Member] | None = None
        #: By number of shares; b"" for one that has to be made anew.
        self._digests: dict[int, list[bytes]] = {}
        self._claims = Claims()
        self.own_fp = b""
        #: Raised whenever a host is learned, changes or dies; to know when to save.
        self.version = 0
        #: Raised whenever a host is learned or changes; to know what is news.
        self.changes = 0
        if own is not None:
            self.set_own(own)

    def __len__(self) -> int:
        return len(self._hosts)

    def __contains__(self, fp: bytes) -> bool:
        return fp in self._hosts

    def known_count(self) -> int:
        """n: hosts ever met and not retired, ourselves included."""
        return len(self._hosts)

    # -- learning ------------------------------------------------------------------

    def learn(self, record: HostRecord) -> bool:
        """Take a record in; true when it told anything new.

        The higher incarnation wins, and the retired stay retired.  Our own
        record is ours alone: what others say of us is kept as a claim.
        """
        fp = ids.fingerprint(record.spki)
        if not self._sound(record) or fp in self._retired:
            return False
        if fp == self.own_fp:
            self.claimed(record.incarnation, record.addresses[0])
            return False
        host = self._hosts.get(fp)
        if host is None:
            if len(self._hosts) >= MAX_HOSTS:
                return False
            self._hosts[fp] = _Host(record)
            insort(self._known, fp)
            insort(self._dead, fp)
        elif _is_newer(record.incarnation, host.record.incarnation):
            self._renew(host, record)
        else:
            return False
        self._changed(fp)
        return True

    def _renew(self, host: _Host, record: HostRecord) -> None:
        host.renew(record)
        if host.alive:
            self._ring = None

    def _sound(self, record: HostRecord) -> bool:
        """Whether a record can be one of our ring's: fields within bounds,
        and the settings that we have."""
        fine = (
            64 <= len(record.spki) <= 1024
            and 1 <= len(record.addresses) <= 8
            and all(0 < len(address) <= MAX_ADDRESS for address in record.addresses)
            and 0 <= record.incarnation < MAX_INCARNATION
            and 1 <= record.copies <= MAX_POSITIONS
            and 1 <= record.virtual_nodes <= MAX_POSITIONS
        )
        own = self.record(self.own_fp)
        ours = own is None or (record.copies, record.virtual_nodes) == (own.copies, own.virtual_nodes)
        return fine and ours

    def set_own(self, record: HostRecord) -> None:
        """Our own record, once address and incarnation are known."""
        self.own_fp = ids.fingerprint(record.spki)
        own = self._hosts.setdefault(self.own_fp, _Host(record))
        own.renew(record)
        own.alive = True
        # Met before our own settings were known: hosts of some other ring.
        self._hosts = {fp: host for fp, host in self._hosts.items() if fp == self.own_fp or self._sound(host.record)}
        self._known = sorted(self._retired.union(self._hosts))
        foreign = [fp for fp in sorted(self._hosts) if fp != self.own_fp]
        self._live = [fp for fp in foreign if self._hosts[fp].alive]
        self._dead = [fp for fp in foreign if not self._hosts[fp].alive]
        self._ring = None
        self._digests.clear()
        self._changed(self.own_fp)

    def alive(self, fp: bytes) -> None:
        """This host answered just now."""
        host = self._hosts.get(fp)
        if host is None:
            return
        host.seen = self._clock.seconds()
        if not host.alive:
            host.alive = True
            _move(fp, self._dead, self._live)
            if self._ring is not None:
                # Whoever was given the old list keeps it as it was.
                self._ring = list(self._ring)
                for member in host.members(fp):
                    insort(self._ring, member)

    def said_alive(self, fp: bytes) -> None:
        """Others say that it lives: believed, unless we have just found out
        that it does not answer."""
        host = self._hosts.get(fp)
        if host is not None and self._clock.seconds() - host.lost > SURE:
            self.alive(fp)

    def dead(self, fp: bytes) -> None:
        """This host did not answer; it is kept, counted, and looked for again."""
        host = self._hosts.get(fp)
        if host is None or fp == self.own_fp:
            return
        host.lost = self._clock.seconds()
        if host.alive:
            host.alive = False
            _move(fp, self._live, self._dead)
            self._leave_ring(fp)
            # When it was last seen outlives us.
            self.version += 1

    def retire(self, fp: bytes) -> bool:
        """This host is gone for good and counts no more; true when that is
        new.  Our own retirement is for the ring host to act upon."""
        if fp in self._retired or len(fp) != 32 or len(self._retired) >= MAX_HOSTS:
            return False
        self._retired.add(fp)
        if fp not in self._hosts:
            insort(self._known, fp)
        elif fp != self.own_fp:
            _take(fp, self._live if self._hosts[fp].alive else self._dead)
            del self._hosts[fp]
            self._leave_ring(fp)
        self._changed(fp)
        return True

    def is_retired(self, fp: bytes) -> bool:
        """Whether that host has been retired."""
        return fp in self._retired

    def retired(self) -> frozenset[bytes]:
        """Fingerprints of all that are."""
        return frozenset(self._retired)

    def _changed(self, fp: bytes) -> None:
        self.version += 1
        self.changes += 1
        for shares, digests in self._digests.items():
            digests[_share(fp, shares)] = b""

    def _leave_ring(self, fp: bytes) -> None:
        if self._ring is not None:
            self._ring = [member for member in self._ring if member.fp != fp]

    # -- what others say of us -----------------------------------------------------

    def claimed(self, incarnation: int, address: str) -> None:
        """Somebody knows a host with our key: kept if it is not just as we
        are, or were at this address."""
        own = self.record(self.own_fp)
        if own is not None:
            self._claims.note(own, Claim(incarnation, address))

    def take_claims(self) -> list[Claim]:
        """What was claimed since this was last asked."""
        return self._claims.take()

    # -- telling -----------------------------------------------------------------

    def is_alive(self, fp: bytes) -> bool:
        """Whether the host is believed alive."""
        host = self._hosts.get(fp)
        return host is not None and host.alive

    def last_seen(self, fp: bytes) -> float | None:
        """When that host was last known to live, as the clock counts (a
        node's clock: seconds since 1970): it answered, or somebody who had
        met it said so.  None for never, and for nobody we know."""
        host = self._hosts.get(fp)
        return host.seen or None if host else None

    def positions_of(self, fp: bytes) -> tuple[Member, ...]:
        """All positions of one host; none for one that we do not know."""
        host = self._hosts.get(fp)
        return host.members(fp) if host else ()

    def record(self, fp: bytes) -> HostRecord | None:
        """The record of a host."""
        host = self._hosts.get(fp)
        return host.record if host else None

    def records(self, fps: Iterable[bytes] = ()) -> tuple[HostRecord, ...]:
        """These hosts' records, or for none given those of live hosts."""
        wanted = list(fps)[:MAX_RECORDS]
        if wanted:
            return tuple(self._hosts[fp].record for fp in wanted if fp in self._hosts)
        live = [fp for fp in sorted(self._hosts) if self._hosts[fp].alive]
        return tuple(self._hosts[fp].record for fp in live[:MAX_RECORDS])

    def fps(self, alive: bool | None = None) -> list[bytes]:
        """All foreign fingerprints, sorted; only the live or dead ones if asked."""
        if alive is None:
            return sorted(self._live + self._dead)
        return list(self._live if alive else self._dead)

    def gone(self, most: int) -> list[Member]:
        """One position each of foreign hosts believed dead, those that were
        seen last first."""
        dead = sorted(self.fps(alive=False), key=lambda fp: -self._hosts[fp].seen)
        return [self.position(fp, 0) for fp in dead[:most]]

    def unknown(self, refs: Iterable[PositionRef]) -> tuple[bytes, ...]:
        """Fingerprints among *refs* whose keys we have not seen, once each."""
        fps = (ref.fp for ref in refs)
        return tuple(dict.fromkeys(fp for fp in fps if fp not in self._hosts and fp not in self._retired))

    def member(self, ref: PositionRef) -> Member | None:
        """The member that a reference names, or None while its key is unknown.

        A reference with a higher incarnation than we know brings a newer
        address; one with a lower is old news and gets ours.
        """
        host = self._hosts.get(ref.fp)
        if host is None or not 0 <= ref.index < host.record.virtual_nodes:
            return None
        record = host.record
        if ref.fp == self.own_fp:
            self.claimed(ref.incarnation, ref.address)
        elif _is_newer(ref.incarnation, record.incarnation) and 0 < len(ref.address) <= MAX_ADDRESS:
            self._renew(host, msgspec.structs.replace(record, incarnation=ref.incarnation, addresses=(ref.address,)))
            self._changed(ref.fp)
        return host.members(ref.fp)[ref.index]

    def members(self, refs: Iterable[PositionRef]) -> tuple[Member, ...]:
        """Those of *refs* whose keys are known, in order."""
        found = (self.member(ref) for ref in refs)
        return tuple(member for member in found if member is not None)

    def position(self, fp: bytes, index: int) -> Member:
        """A position of a host that we know.  ``KeyError`` for one we do not."""
        host = self._hosts[fp]
        members = host.members(fp)
        if index < len(members):
            return members[index]
        # Not one of its own; there may be a story about it all the same.
        return msgspec.structs.replace(members[0], id=ids.position_id(host.record.spki, index), index=index)

    def whereabouts(self, fp: bytes) -> Member | None:
        """One position of a host, if it is known: where to reach it."""
        return self.position(fp, 0) if fp in self._hosts else None

    def ring(self) -> list[Member]:
        """All positions of foreign hosts believed alive, sorted by id.

        A hint: a position may not have joined yet.
        """
        if self._ring is None:
            self._ring = sorted(member for fp in self.fps(alive=True) for member in self._hosts[fp].members(fp))
        return self._ring

    def next_after(self, place: int) -> Member | None:
        """The first of :meth:`ring` after a place on the circle."""
        ring = self.ring()
        if not ring:
            return None
        return ring[bisect_right(ring, place, key=lambda member: member.id) % len(ring)]

    # -- comparing -----------------------------------------------------------------

    def digests(self, shares: int) -> tuple[bytes, ...]:
        """What is known of the hosts in each of *shares* (a power of two, at
        most 256) equal shares of all fingerprints: 8 bytes each.

        Who is known, in which incarnation, and who is retired; not who is
        alive, which everybody sees for himself.
        """
        digests = self._digests.setdefault(shares, [b""] * shares)
        for share, digest in enumerate(digests):
            if not digest:
                digests[share] = self._digest(share, shares)
        return tuple(digests)

    def _digest(self, share: int, shares: int) -> bytes:
        whole = hashlib.sha256()
        for mark in self._marks(share, shares):
            state = RETIRED if mark.state == RETIRED else KNOWN
            whole.update(mark.fp + mark.incarnation.to_bytes(8, "big") + bytes((state,)))
        return whole.digest()[:DIGEST_BYTES]

    def marks(self, different: Iterable[int], shares: int) -> list[HostMark]:
        """All hosts in these of *shares* shares, sorted by fingerprint."""
        return [mark for share in sorted(set(different)) for mark in self._marks(share, shares)]

    def mark(self, fp: bytes) -> HostMark | None:
        """What we know of one host, in short."""
        if fp in self._retired:
            return HostMark(fp, 0, RETIRED)
        host = self._hosts.get(fp)
        return HostMark(fp, host.record.incarnation, ALIVE if host.alive else KNOWN) if host else None

    def _marks(self, share: int, shares: int) -> list[HostMark]:
        """The hosts in one share, sorted by fingerprint."""
        begin = bisect_left(self._known, share, key=lambda fp: _share(fp, shares))
        end = bisect_right(self._known, share, key=lambda fp: _share(fp, shares))
        found = [self.mark(fp) for fp in self._known[begin:end]]
        return [mark for mark in found if mark is not None]

    # -- keeping -------------------------------------------------------------------

    def pack(self) -> bytes:
        """All foreign records, the retired, and when each host was last seen,
        to be kept on disk."""
        hosts = [self._hosts[fp] for fp in self.fps()]
        saved = _Saved(
            tuple(host.record for host in hosts), tuple(sorted(self._retired)), tuple(int(host.seen) for host in hosts)
        )
        return msgspec.msgpack.encode(saved)

    def unpack(self, raw: bytes) -> None:
        """Learn what :meth:`pack` gave.  ``ValueError`` for anything else."""
        saved = msgspec.msgpack.decode(raw, type=_Saved)
        for fp in saved.retired:
            self.retire(fp)
        now = self._clock.seconds()
        never = (0,) * len(saved.records)
        for record, seen in zip(saved.records, (*saved.seen, *never), strict=False):
            self.learn(record)
            host = self._hosts.get(ids.fingerprint(record.spki))
            if host is not None and host.seen < seen <= now:
                host.seen = float(seen)


def _take(fp: bytes, fps: list[bytes]) -> None:
    """Out of a sorted list."""
    del fps[bisect_left(fps, fp)]


def _move(fp: bytes, old: list[bytes], new: list[bytes]) -> None:
    """From one sorted list into another."""
    _take(fp, old)
    insort(new, fp)


def _is_newer(incarnation: int, known: int) -> bool:
    return known < incarnation <= known + MAX_JUMP


def _share(fp: bytes, shares: int) -> int:
    return fp[0] * shares // 256
