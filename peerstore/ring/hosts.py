"""What is known of every host: key, address, incarnation, whether it lives.

Keys come with records, and the fingerprint of a record is computed, never
believed; so a position named on the wire as (fingerprint, index) gets its
ring id from a key that was checked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from twisted.internet.interfaces import IReactorTime

from peerstore import ids
from peerstore.ring.member import Member
from peerstore.wire.bodies import HostRecord, PositionRef

__all__ = ["HostTable", "MAX_RECORDS"]

#: The most records that one answer carries.
MAX_RECORDS = 256
#: The most hosts that are remembered.
MAX_HOSTS = 10_000
MAX_POSITIONS = 64


class _Host:
    __slots__ = ("alive", "ids", "record", "seen")

    def __init__(self, record: HostRecord, seen: float) -> None:
        self.record = record
        self.alive = False
        self.seen = seen
        self.ids: dict[int, int] = {}


class _Saved(NamedTuple):
    records: tuple[HostRecord, ...]


class HostTable:
    """Hosts by fingerprint.

    :param clock: provides ``IReactorTime``.
    :param own: our own record; None for a client, which is no host.
    """

    def __init__(self, clock: IReactorTime, own: HostRecord | None = None) -> None:
        self._clock = clock
        self._hosts: dict[bytes, _Host] = {}
        self._sorted: list[Member] | None = None
        self.own_fp = b""
        #: Raised whenever a host is learned or changes; to know when to save.
        self.version = 0
        if own is not None:
            self.own_fp = ids.fingerprint(own.spki)
            self._hosts[self.own_fp] = _Host(own, clock.seconds())
            self._hosts[self.own_fp].alive = True

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

        The higher incarnation wins; our own record is ours alone.
        """
        fp = ids.fingerprint(record.spki)
        if fp == self.own_fp or not record.addresses or len(self._hosts) >= MAX_HOSTS:
            return False
        host = self._hosts.get(fp)
        if host is None:
            self._hosts[fp] = _Host(record, self._clock.seconds())
        elif record.incarnation > host.record.incarnation:
            host.record = record
        else:
            return False
        self._changed()
        return True

    def set_own(self, record: HostRecord) -> None:
        """Our own record, once address and incarnation are known."""
        self.own_fp = ids.fingerprint(record.spki)
        own = self._hosts.setdefault(self.own_fp, _Host(record, self._clock.seconds()))
        own.record = record
        own.alive = True
        self._changed()

    def alive(self, fp: bytes) -> None:
        """This host answered just now."""
        host = self._hosts.get(fp)
        if host is not None:
            host.seen = self._clock.seconds()
            if not host.alive:
                host.alive = True
                self._sorted = None

    def dead(self, fp: bytes) -> None:
        """This host did not answer; it is kept, and looked for again."""
        host = self._hosts.get(fp)
        if host is not None and fp != self.own_fp and host.alive:
            host.alive = False
            self._sorted = None

    def forget(self, fp: bytes) -> None:
        """This host is retired and counts no more."""
        if fp != self.own_fp and self._hosts.pop(fp, None) is not None:
            self._changed()

    def _changed(self) -> None:
        self.version += 1
        self._sorted = None

    # -- telling -----------------------------------------------------------------

    def is_alive(self, fp: bytes) -> bool:
        """Whether the host is believed alive."""
        host = self._hosts.get(fp)
        return host is not None and host.alive

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
        return [
            fp for fp in sorted(self._hosts) if fp != self.own_fp and (alive is None or self._hosts[fp].alive == alive)
        ]

    def unknown(self, refs: Iterable[PositionRef]) -> tuple[bytes, ...]:
        """Fingerprints among *refs* whose keys we have not seen, once each."""
        return tuple(dict.fromkeys(ref.fp for ref in refs if ref.fp not in self._hosts))

    def member(self, ref: PositionRef) -> Member | None:
        """The member that a reference names, or None while its key is unknown.

        A reference with a higher incarnation than we know brings a newer
        address; one with a lower is old news and gets ours.
        """
        host = self._hosts.get(ref.fp)
        if host is None or not 0 <= ref.index < MAX_POSITIONS:
            return None
        record = host.record
        if ref.incarnation > record.incarnation and ref.fp != self.own_fp and ref.address:
            host.record = msgspec.structs.replace(record, incarnation=ref.incarnation, addresses=(ref.address,))
            self._changed()
        return self.position(ref.fp, ref.index)

    def members(self, refs: Iterable[PositionRef]) -> tuple[Member, ...]:
        """Those of *refs* whose keys are known, in order."""
        found = (self.member(ref) for ref in refs)
        return tuple(member for member in found if member is not None)

    def position(self, fp: bytes, index: int) -> Member:
        """A position of a host that we know.  ``KeyError`` for one we do not."""
        host = self._hosts[fp]
        if index not in host.ids:
            host.ids[index] = ids.position_id(host.record.spki, index)
        record = host.record
        return Member(host.ids[index], fp, index, record.incarnation, record.addresses[0])

    def ring(self) -> list[Member]:
        """All positions of foreign hosts believed alive, sorted by id.

        A hint: a position may not have joined yet.
        """
        if self._sorted is None:
            live = self.fps(alive=True)
            every = [self.position(fp, i) for fp in live for i in range(self._hosts[fp].record.virtual_nodes)]
            self._sorted = sorted(every)
        return self._sorted

    # -- keeping -------------------------------------------------------------------

    def pack(self) -> bytes:
        """All foreign records, to be kept on disk."""
        return msgspec.msgpack.encode(_Saved(tuple(self._hosts[fp].record for fp in self.fps())))

    def unpack(self, raw: bytes) -> None:
        """Learn what :meth:`pack` gave."""
        for record in msgspec.msgpack.decode(raw, type=_Saved).records:
            self.learn(record)
