"""What a host answers to the ring's questions, from its present state.

No handler asks anybody: questions inside answers would wait for each other
round the ring.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from peerstore import ids
from peerstore.errors import BadMessage, NotReady
from peerstore.ring import position as steps
from peerstore.ring.hosts import MAX_RECORDS
from peerstore.ring.member import Member
from peerstore.wire import bodies

if TYPE_CHECKING:
    from peerstore.ring.host import RingHost
    from peerstore.ring.upkeep import PositionUpkeep

__all__ = ["RingAnswers"]

CANDIDATES = 8


class RingAnswers:
    """The handlers of the ring's methods.

    :param host: ours.
    """

    def __init__(self, host: RingHost) -> None:
        self._host = host

    def handlers(self) -> Mapping[str, Callable[[Any, Any], Any]]:
        """By method."""
        return {
            "ping": self.ping,
            "get-neighbours": self.get_neighbours,
            "find-successor": self.find_successor,
            "notify": self.notify,
            "leaving": self.leaving,
            "get-node-records": self.get_node_records,
            "compare-hosts": self.compare_hosts,
        }

    def ping(self, caller: Any, body: bodies.Ping) -> bodies.Pong:
        """Alive, in this incarnation."""
        self._note_twin(caller)
        record = self._host.hosts.record(self._host.fp)
        quiet = int(self._host.clock.seconds() - self._host.last_change)
        return bodies.Pong(record.incarnation if record else 0, self._host.status, max(0, quiet))

    def get_neighbours(self, caller: Any, body: bodies.GetNeighbours) -> bodies.Neighbours:
        """One position's predecessor and list."""
        self._meet(caller)
        return self._position(body.index).neighbours_body()

    def find_successor(self, caller: Any, body: bodies.FindSuccessor) -> bodies.Found:
        """One step of a lookup."""
        self._meet(caller)
        return self._found(body, CANDIDATES)

    def find_successor_here(self, body: bodies.FindSuccessor) -> bodies.Found:
        """One step of a lookup of our own: no message limits how many of
        those we know may turn out to be dead.

        :raises peerstore.errors.PeerStoreError: as :meth:`find_successor`.
        """
        return self._found(body, None)

    def _found(self, body: bodies.FindSuccessor, most: int | None) -> bodies.Found:
        """One step of a lookup.

        :param most: candidates that it names at most.
        :raises peerstore.errors.NotReady: while the position has not joined.
        :raises peerstore.errors.BadMessage: for what is no key or position.
        """
        if len(body.key) != ids.ID_BYTES:
            raise BadMessage("a key has 20 bytes.")
        key = ids.from_bytes(body.key)
        place = self._best(key) if body.index == -1 else self._position(body.index)
        state = place.state
        mine = steps.owns(state, key)
        # Where a range is claimed, its end is told even if it is suspected.
        before = state.predecessor if mine else state.told_predecessor
        final = not mine and state.first is not None and ids.in_half_open(state.me, key, state.first.id)
        behind = state.successors if mine or final else steps.behind(state, key)
        return bodies.Found(
            place.member.ref,
            state.epoch,
            before.ref if before is not None else None,
            mine,
            final,
            tuple(entry.ref for entry in behind),
            () if mine or final else tuple(member.ref for member in self.nearest(place, key, most)),
        )

    def notify(self, caller: Any, body: bodies.Notify) -> bodies.Done:
        """A hint, kept for the next round of the position it concerns."""
        self._meet(caller)
        place = self._position(body.index)
        if body.candidate.fp != caller.fp:
            raise BadMessage("a notification speaks for another host.")
        candidate = self._host.hosts.member(body.candidate)
        if candidate is not None:
            self._host.liveness.alive(candidate.fp)
            self._host.contacted(candidate.address)
            if not body.list_changed:
                place.notified(candidate)
            # Our predecessor says so in each of its rounds: no news, and if it
            # hurried us, no ring would ever come to rest.
            if body.list_changed or place.state.told_predecessor != candidate:
                self._host.hurry()
        return bodies.Done()

    def leaving(self, caller: Any, body: bodies.Leaving) -> bodies.Done:
        """A host goes: drop its positions now rather than after timeouts."""
        record = self._host.hosts.record(caller.fp)
        if record is not None and caller.fp != self._host.fp and body.incarnation >= record.incarnation:
            self._host.liveness.drop(caller.fp, "is leaving")
            if body.retired:
                self._host.retire(caller.fp)
        return bodies.Done()

    def get_node_records(self, caller: Any, body: bodies.GetNodeRecords) -> bodies.NodeRecords:
        """Records of hosts, so that their positions can be computed."""
        return bodies.NodeRecords(self._host.hosts.records(body.fps[:MAX_RECORDS]))

    def compare_hosts(self, caller: Any, body: bodies.CompareHosts) -> bodies.HostMarks:
        """What we know of hosts and the caller does not, or the other way
        round: in that case we ask it in our turn.

        :raises peerstore.errors.BadMessage: when one that is no host compares
            rather than just asks for everything.
        """
        if caller.role == "node":
            self._check_settings(caller)
        elif body.digests:
            raise BadMessage("only members of the ring compare what they know.")
        return self._host.gossip.answer(caller, body)

    def _meet(self, caller: Any) -> None:
        """A node that asks is a node that lives; of our ring, if k and v agree."""
        if caller.role != "node" or not caller.address:
            return
        if caller.fp == self._host.fp:
            self._note_twin(caller)
            return
        self._check_settings(caller)
        if self._host.hosts.is_retired(caller.fp):
            raise NotReady("That node was retired from this ring.")
        known = self._host.hosts.record(caller.fp)
        if known is None or caller.incarnation > known.incarnation:
            record = bodies.HostRecord(
                caller.spki, (caller.address,), caller.incarnation, caller.copies, caller.virtual_nodes
            )
            self._host.hosts.learn(record)

    def _check_settings(self, caller: Any) -> None:
        """Rings that differ in k or v do not merge."""
        if (caller.copies, caller.virtual_nodes) != (self._host.copies, len(self._host.positions)):
            raise NotReady("That node belongs to a ring with other settings.")

    def _note_twin(self, caller: Any) -> None:
        """Who greets us with our own key is ourselves, or a copy of us."""
        if caller.fp == self._host.fp and caller.role == "node":
            self._host.hosts.claimed(caller.incarnation, caller.address)

    def _position(self, index: int) -> PositionUpkeep:
        if not 0 <= index < len(self._host.positions):
            raise BadMessage("there is no such position here.")
        place = self._host.positions[index]
        # One that has joined answers, even while its siblings still join.
        if not self._host.serving or not place.is_member:
            raise NotReady("This node has not joined the ring yet, or is leaving it.")
        return place

    def _best(self, key: int) -> PositionUpkeep:
        """Our position that owns the key, or else the last one before it."""
        standing = [place for place in self._host.positions if place.is_member]
        if not self._host.serving or not standing:
            raise NotReady("This node has not joined the ring yet, or is leaving it.")
        mine = self._host.own_position(key)
        return mine or min(standing, key=lambda place: ids.distance(place.state.me, key))

    def nearest(self, place: PositionUpkeep, key: int, most: int | None = CANDIDATES) -> list[Member]:
        """Members nearest before the key, of all that we know, nearest first;
        *most* of them, or all."""
        hosts = self._host.hosts
        fingers = [hosts.position(finger.fp, finger.index) for finger in place.fingers.members() if finger.fp in hosts]
        standing = [other.member for other in self._host.positions if other.is_member]
        near = [*place.state.successors, *fingers, *standing, *_around(hosts.ring(), key)]
        here = ids.distance(place.state.me, key)
        better = {member.id: member for member in near if ids.distance(member.id, key) < here}
        return sorted(better.values(), key=lambda member: ids.distance(member.id, key))[:most]


def _around(ring: list[Member], key: int) -> list[Member]:
    if not ring:
        return []
    where = bisect_left(ring, key, key=lambda member: member.id)
    return [ring[(where - back) % len(ring)] for back in range(min(len(ring), CANDIDATES))]
