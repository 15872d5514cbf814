"""The bodies of all requests and responses.

Every body is a msgpack array of its fields in order.  Numbers out of range
are no bodies; lengths of ids are checked by the handlers (``node.handlers``),
sizes by the frame limit.

Shapes used throughout: ``fp`` is a host's 32-byte fingerprint; a ring id and
an owner have 20 bytes; an element 32; addresses are Twisted endpoint strings
("tcp:127.0.0.1:3001").
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from peerstore.items import Item, ItemKey, Kind

__all__ = [
    "Append",
    "CompareHosts",
    "Confirm",
    "Confirmed",
    "DeviceHead",
    "Done",
    "Fetch",
    "FindSuccessor",
    "Found",
    "GetChunks",
    "GetHeads",
    "GetNeighbours",
    "GetNodeRecords",
    "GetRangeDigest",
    "GetUsage",
    "Had",
    "HaveChunks",
    "HostMark",
    "HostMarks",
    "HostRecord",
    "ItemOutcome",
    "Items",
    "KeyPage",
    "Leaving",
    "ListRange",
    "LogPage",
    "Neighbours",
    "NodeRecords",
    "Notify",
    "Ping",
    "Pong",
    "PositionRef",
    "PostChunks",
    "PostHeads",
    "Posted",
    "Push",
    "Pushed",
    "RangeDigest",
    "ReadSince",
    "Refusal",
    "Usage",
    "Vote",
    "Watch",
]


#: The largest number on the wire: unsigned and of 63 bits, so that no peer can
#: make an integer that another peer's database cannot hold.
MAX_NUMBER = (1 << 63) - 1
#: The longest that a peer may ask another to wait (s).
MAX_RETRY = 3600.0

Number = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=MAX_RETRY)]


class Body(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The common shape of all bodies: immutable, an array, nothing extra."""


class Refusal(Body, frozen=True):
    """The body of every response that is not OK: words for a person."""

    what: str
    next_step: str
    retry_after: Seconds


class Done(Body, frozen=True):
    """An answer that says nothing more than that it was done."""


# -- ring ---------------------------------------------------------------------


class PositionRef(Body, frozen=True):
    """One ring member as told by another: who, which position, where.

    The receiver computes the ring id from the key it knows for *fp*; it is
    never told one.
    """

    fp: bytes
    index: Number
    incarnation: Number
    address: str


class HostRecord(Body, frozen=True):
    """What is known of one host.  *signature* is empty while sessions and
    records are in the clear."""

    spki: bytes
    addresses: tuple[str, ...]
    incarnation: Number
    copies: Number
    virtual_nodes: Number
    signature: bytes = b""


class Ping(Body, frozen=True):
    """Are you alive?"""


class Pong(Body, frozen=True):
    """Alive, in this incarnation; *status* is the host's ring status, and
    *quiet* for how many seconds none of its neighbours has changed."""

    incarnation: Number
    status: str
    quiet: Number = 0


class GetNeighbours(Body, frozen=True):
    """The list and predecessor of the host's position *index*."""

    index: Number


class Neighbours(Body, frozen=True):
    """A position's ring state.  *epoch* grows with each change of it."""

    position: PositionRef
    epoch: Number
    predecessor: PositionRef | None
    successors: tuple[PositionRef, ...]


class FindSuccessor(Body, frozen=True):
    """One step of an iterative lookup of a 20-byte *key*.

    *index* names the position asked, -1 whichever of the host's is best.
    """

    key: bytes
    index: Annotated[int, msgspec.Meta(ge=-1, le=MAX_NUMBER)]


class Found(Body, frozen=True):
    """What one position knows about the key's owner.

    *owns*: key lies in (predecessor, position], so this is the owner, and
    *successors* is its whole list.  *final*: key lies in (position, first
    successor], and *successors* is the whole list; otherwise that part of
    the list which comes after the key, if it reaches so far.  *candidates*
    are members that precede the key, closest first.
    """

    position: PositionRef
    epoch: Number
    predecessor: PositionRef | None
    owns: bool
    final: bool
    successors: tuple[PositionRef, ...]
    candidates: tuple[PositionRef, ...]


class Notify(Body, frozen=True):
    """I may be the predecessor (or, with *list_changed*, an interested
    neighbour) of your position *index*.  A hint; the receiver verifies."""

    index: Number
    candidate: PositionRef
    list_changed: bool


class Leaving(Body, frozen=True):
    """The sender's host goes away; *retired* says that it is for good."""

    incarnation: Number
    retired: bool


class GetNodeRecords(Body, frozen=True):
    """Records of these hosts, or of a sample of at most 256 for an empty list."""

    fps: tuple[bytes, ...]


class NodeRecords(Body, frozen=True):
    """The records that the answerer has, in no order."""

    records: tuple[HostRecord, ...]


class HostMark(Body, frozen=True):
    """One host in short: *state* is 0 for known, 1 for believed alive, 2 for
    retired (the incarnation is 0 then)."""

    fp: bytes
    incarnation: Number
    state: Number


class CompareHosts(Body, frozen=True):
    """What the asker knows of the ring's hosts, in short.

    *digests* are 8 bytes for each of 1, 2, 4 ... 256 equal shares of all
    fingerprints; none at all asks for everything.
    """

    digests: tuple[bytes, ...]


class HostMarks(Body, frozen=True):
    """What the answerer knows of the asker itself and of hosts in shares
    whose digests differ, 512 at most; *more* when there were more."""

    marks: tuple[HostMark, ...]
    more: bool


# -- files --------------------------------------------------------------------


class Vote(Body, frozen=True):
    """In whose name an answer is given.

    *name* is 16 bytes that stand for a list of voters and its history, empty
    when the answer does not count; *voters* are their fingerprints; *needed*
    answers with one name are a majority.
    """

    name: bytes
    voters: tuple[bytes, ...]
    needed: Number


class ItemOutcome(Body, frozen=True):
    """What became of one posted item.

    *status* is a ``Status``; *holders* are the hosts that have it on disk, of
    what is voted on those only that said so in one name; *voters* the hosts
    that should, as the answerer sees the ring; *needed* how many holders make
    it certain.
    """

    status: Number
    holders: tuple[bytes, ...]
    voters: tuple[bytes, ...]
    needed: Number


class Posted(Body, frozen=True):
    """One outcome per posted item, in order."""

    outcomes: tuple[ItemOutcome, ...]


class PostChunks(Body, frozen=True):
    """Chunks for the owner of their range to keep and to copy."""

    items: tuple[Item, ...]


class HaveChunks(Body, frozen=True):
    """Which of these 32-byte hashes of *owner* does this host have?
    *touch* is the Lamport clock of a touch, 0 for a mere question."""

    owner: bytes
    hashes: tuple[bytes, ...]
    touch: Number


class Had(Body, frozen=True):
    """One truth value per asked hash, in order."""

    present: tuple[bool, ...]


class GetChunks(Body, frozen=True):
    """Chunks by hash, whoever owns them; as many as fit the answer."""

    hashes: tuple[bytes, ...]


class Items(Body, frozen=True):
    """Items found.  *more*: the answer was full, ask again for the rest.
    *vote* is there where absence means something: for heads."""

    items: tuple[Item, ...]
    more: bool
    vote: Vote | None = None


class PostHeads(Body, frozen=True):
    """Heads to keep and copy; *entries* are log entries to pass on once every
    head here is certain."""

    heads: tuple[Item, ...]
    entries: tuple[Item, ...]


class GetHeads(Body, frozen=True):
    """All heads of one resource of one owner; *elements* narrows it."""

    ring_id: bytes
    owner: bytes
    elements: tuple[bytes, ...]


class GetUsage(Body, frozen=True):
    """How much does this owner use on this host?"""

    owner: bytes


class Usage(Body, frozen=True):
    """Bytes and items of one owner here; *quota* is 0 where there is none."""

    bytes_used: Number
    items: Number
    quota: Number


# -- log ----------------------------------------------------------------------


class DeviceHead(Body, frozen=True):
    """The last number of one device's chain (16-byte device)."""

    device: bytes
    number: Number


class Append(Body, frozen=True):
    """Log entries for the owner of the log's address to keep and copy."""

    items: tuple[Item, ...]


class ReadSince(Body, frozen=True):
    """Entries of a log after the numbers in *seen* (absent devices: from 1)."""

    ring_id: bytes
    owner: bytes
    seen: tuple[DeviceHead, ...]
    limit: Number


class Watch(Body, frozen=True):
    """Like ReadSince, but answers only when there is news, or after *wait* ms
    with an empty page."""

    ring_id: bytes
    owner: bytes
    seen: tuple[DeviceHead, ...]
    limit: Number
    wait: Number


class LogPage(Body, frozen=True):
    """Entries, chain by chain in number order, and where the chains end here."""

    entries: tuple[Item, ...]
    heads: tuple[DeviceHead, ...]
    more: bool
    vote: Vote


# -- replicas -----------------------------------------------------------------


class GetRangeDigest(Body, frozen=True):
    """Digest of all keys of *kinds* in (after, through], 20 bytes each;
    after == through is the whole circle."""

    after: bytes
    through: bytes
    kinds: tuple[Kind, ...]


class RangeDigest(Body, frozen=True):
    """*count* keys, and SHA-256 over them, sorted."""

    count: Number
    digest: bytes


class ListRange(Body, frozen=True):
    """Keys in (after, through] behind *cursor* (None: from the start)."""

    after: bytes
    through: bytes
    kinds: tuple[Kind, ...]
    cursor: ItemKey | None
    limit: Number


class KeyPage(Body, frozen=True):
    """Keys, sorted clockwise from *after*; *cursor* None at the end."""

    keys: tuple[ItemKey, ...]
    cursor: ItemKey | None


class Fetch(Body, frozen=True):
    """Items by key, for replicas."""

    keys: tuple[ItemKey, ...]


class Push(Body, frozen=True):
    """Items from a replica: judged for shape and hash, never for quota."""

    items: tuple[Item, ...]


class Confirm(Body, frozen=True):
    """Do you have these, whole, and mean to keep them?  Asked before a copy
    is dropped."""

    keys: tuple[ItemKey, ...]


class Confirmed(Body, frozen=True):
    """For each key whether the answerer holds it by its own view of the ring,
    and has just read it."""

    has: tuple[bool, ...]


class Pushed(Body, frozen=True):
    """One ``Status`` per pushed item, in order; in whose name each of them was
    taken (empty for chunks, and where the answer does not count); and how
    many answers in one name this host holds for a majority."""

    statuses: tuple[Number, ...]
    names: tuple[bytes, ...]
    needed: Number
