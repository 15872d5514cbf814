"""Samples of everything that goes over the wire, and Hypothesis strategies.

``SAMPLES`` has one value of each body type, with every optional part filled
in, so that the frozen bytes of ``tests/vectors/wire_*.json`` cover each field.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from msgspec import inspect as shapes

from peerstore.items import Item, ItemKey, Kind
from peerstore.wire import bodies, voting
from peerstore.wire.framing import encode_frame
from peerstore.wire.messages import Cancel, Message, Request, Response, encode_message
from peerstore.wire.session import SUITE_CLEAR, VERSION, Greeting

__all__ = [
    "GREETINGS",
    "MESSAGES",
    "NUMBERS",
    "PROPERTY",
    "SAMPLES",
    "a_greeting",
    "body_types",
    "chunked",
    "frame_of",
    "greeting_frame",
    "values_of",
]

#: The same examples each time, and no clock: a slow machine fails nothing.
PROPERTY = settings(
    derandomize=True, deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow], database=None
)

#: What an id or clock on the wire may be.
NUMBERS = st.integers(0, (1 << 63) - 1)

FP = bytes(range(32))
RING_ID = bytes(range(100, 120))
OWNER = bytes(range(20))
DEVICE = bytes(range(16))
KEY = ItemKey(RING_ID, OWNER, Kind.HEAD, FP[::-1])
ITEM = Item(KEY, b"a statement", b"some data")
PLACE = bodies.PositionRef(FP, 7, 3, "tcp:127.0.0.1:3001")
OTHER = bodies.PositionRef(FP[::-1], 0, 1, "")
RECORD = bodies.HostRecord(b"\x30" * 70, ("tcp:127.0.0.1:3001", "tcp:10.0.0.1:9"), 3, 3, 8, b"signed")
OUTCOME = bodies.ItemOutcome(0, (FP,), (FP, FP[::-1]), 2)
ENDS = (bodies.DeviceHead(DEVICE, 12),)
VOTE = bodies.Vote(bytes(range(50, 66)), (FP, FP[::-1]), 2)
STANDING = voting.HostStanding(FP, 1_700_000_000, 2)
VOTERS = voting.VoterList(DEVICE, 70000, ((FP, 3), (FP[::-1], 1_700_000_000)))
ARC = voting.ArcTold(
    OWNER, RING_ID, VOTERS, (voting.VoterList(DEVICE[::-1], 2, ((FP, 1),)),), ((DEVICE, 69999),), True, False
)

#: One value of every type of body, by the type's name.
SAMPLES: dict[str, msgspec.Struct] = {
    type(sample).__name__: sample
    for sample in (
        bodies.Refusal("What happened.", "What to do.", 0.5),
        bodies.Done(),
        PLACE,
        RECORD,
        bodies.Ping(),
        bodies.Pong(3, "member", 70000),
        bodies.GetNeighbours(7),
        bodies.Neighbours(PLACE, 70000, OTHER, (OTHER, PLACE)),
        bodies.FindSuccessor(RING_ID, -1),
        bodies.Found(PLACE, 255, None, True, False, (OTHER,), (PLACE, OTHER)),
        bodies.Notify(2, OTHER, True),
        bodies.Leaving(3, False),
        bodies.GetNodeRecords((FP,)),
        bodies.NodeRecords((RECORD,)),
        bodies.HostMark(FP, 70000, 1),
        bodies.CompareHosts((bytes(range(8)), bytes(range(8, 16)))),
        bodies.HostMarks((bodies.HostMark(FP, 3, 1), bodies.HostMark(FP[::-1], 0, 2)), True),
        OUTCOME,
        bodies.Posted((OUTCOME,)),
        bodies.PostChunks((ITEM,)),
        bodies.HaveChunks(OWNER, (FP,), 9),
        bodies.Had((True, False)),
        bodies.GetChunks((FP,)),
        bodies.Items((ITEM,), True, VOTE),
        bodies.PostHeads((ITEM,), (ITEM,)),
        bodies.GetHeads(RING_ID, OWNER, (FP,)),
        bodies.GetUsage(OWNER),
        bodies.Usage(1 << 40, 17, 1 << 30),
        ENDS[0],
        bodies.Append((ITEM,)),
        bodies.ReadSince(RING_ID, OWNER, ENDS, 100),
        bodies.Watch(RING_ID, OWNER, ENDS, 100, 30000),
        bodies.LogPage((ITEM,), ENDS, True, VOTE),
        bodies.GetRangeDigest(OWNER, RING_ID, (Kind.CHUNK, Kind.RECORD)),
        bodies.RangeDigest(3, FP),
        bodies.ListRange(OWNER, RING_ID, (Kind.LOG,), KEY, 512),
        bodies.KeyPage((KEY,), None),
        bodies.Fetch((KEY,)),
        bodies.Push((ITEM,)),
        bodies.Pushed((0, 2), (bytes(range(16)), bytes(range(16, 32))), 2),
        bodies.Confirm((KEY,)),
        bodies.Confirmed((True, False)),
        VOTE,
        STANDING,
        VOTERS,
        ARC,
        voting.Attach((STANDING,), (ARC,), (RECORD,)),
        voting.Attached((FP,), 1_700_000_000, (STANDING,), (ARC,)),
    )
}

#: One of each message, by name.
MESSAGES: dict[str, Message] = {
    "request": Request(1, "ping", OWNER, 70000, 15000, b"\x90"),
    "response": Response(1, 0, 70001, b"\x92\x03\xa6member"),
    "refusal": Response(200, 5, 0, b"\x93\xa5Busy.\xa0\xcb\x3f\xe0\0\0\0\0\0\0"),
    "cancel": Cancel((1 << 63) - 1),
}


#: A node's and a user's greeting.
GREETINGS: dict[str, Greeting] = {
    "node": Greeting((1, 2), (0, 1), b"\x30" * 70, "node", 3, 8, "tcp:127.0.0.1:3001", 70000, bytes(range(32))),
    "user": Greeting((1,), (0,), b"\x30" * 270, "user", 0, 0, "", 0, bytes(range(32, 64))),
}


def a_greeting(key: bytes = b"a key", role: str = "node", address: str = "", copies: int = 3) -> Greeting:
    """A sound greeting; another *key* is another peer."""
    spki = b"\x30" + key.ljust(100, b"-")
    ring = (copies, 8) if role == "node" else (0, 0)
    return Greeting((VERSION,), (SUITE_CLEAR,), spki, role, *ring, address, 1, bytes(32))


def frame_of(message: Message) -> bytes:
    """One message as bytes on the wire."""
    return encode_frame(encode_message(message))


def greeting_frame(greeting: Greeting | None = None) -> bytes:
    """One greeting as bytes on the wire."""
    return encode_frame(msgspec.msgpack.encode(greeting or a_greeting()))


def body_types() -> Iterator[type[msgspec.Struct]]:
    """Every type that ``wire.bodies`` and ``wire.voting`` define."""
    for module in (bodies, voting):
        for name in module.__all__:
            if isinstance(getattr(module, name), type):
                yield getattr(module, name)


def chunked(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """*data* in pieces of these sizes, the last one whatever is left."""
    place = 0
    for size in sizes:
        yield data[place : place + size]
        place += size
    yield data[place:]


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Any value that a type of the wire can have."""
    return _values(kind if isinstance(kind, shapes.Type) else shapes.type_info(kind))


def _values(shape: shapes.Type) -> st.SearchStrategy[Any]:
    match shape:
        case shapes.IntType():
            return st.integers(shape.ge if shape.ge is not None else -(1 << 63), shape.le or (1 << 64) - 1)
        case shapes.FloatType():
            return st.floats(shape.ge, shape.le, allow_nan=False)
        case shapes.BoolType():
            return st.booleans()
        case shapes.StrType():
            return st.text(st.characters(codec="utf-8"), max_size=20)
        case shapes.BytesType():
            return st.binary(max_size=40)
        case shapes.NoneType():
            return st.none()
        case shapes.EnumType():
            return st.sampled_from(list(shape.cls))
        case shapes.UnionType():
            return st.one_of([_values(part) for part in shape.types])
        case shapes.VarTupleType():
            return st.lists(_values(shape.item_type), max_size=4).map(tuple)
        case shapes.TupleType():
            return st.tuples(*map(_values, shape.item_types))
        case shapes.StructType():
            return st.builds(shape.cls, *(_values(field.type) for field in shape.fields))
    raise AssertionError(f"no strategy for {shape}")
