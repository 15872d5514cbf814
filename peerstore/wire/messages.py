"""Typed requests and responses, and the table of all methods.

One frame carries one message, packed by msgpack as an array::

    [1, id, method, sender, clock, deadline, body]     Request
    [2, id, status, clock, body]                       Response
    [3, id]                                            Cancel

``id`` is chosen by whoever asks and is unique among its requests in flight on
that connection; ``sender`` is the asker's 20-byte key id; ``clock`` its
Lamport clock; ``deadline`` the milliseconds it will wait.  ``body`` is packed
msgpack of the type that the method table names, kept as bytes until the
method is known, so that an unknown method is answered and the connection
lives on.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import msgspec

from peerstore import errors
from peerstore.wire import bodies, voting

__all__ = [
    "Cancel",
    "METHODS",
    "Message",
    "MethodSpec",
    "Request",
    "Response",
    "Status",
    "decode_body",
    "decode_message",
    "encode_body",
    "encode_message",
    "error_for",
    "status_for",
]


class Status(IntEnum):
    """How a request ended; the numbers are a wire format."""

    OK = 0
    NOT_FOUND = 1
    REJECTED = 2
    GAP = 3
    TOO_LARGE = 4
    BUSY = 5
    BAD_REQUEST = 6
    QUOTA = 7
    NOT_RESPONSIBLE = 8
    NOT_READY = 9
    LATER = 10
    UNAVAILABLE = 11
    INTERNAL = 12


class Request(msgspec.Struct, frozen=True, array_like=True, tag=1, forbid_unknown_fields=True):
    """One question.  *body* is packed and still unchecked."""

    id: int
    method: str
    sender: bytes
    clock: int
    deadline: int
    body: bytes


class Response(msgspec.Struct, frozen=True, array_like=True, tag=2, forbid_unknown_fields=True):
    """One answer.  With a status other than OK, *body* is a packed Refusal."""

    id: int
    status: int
    clock: int
    body: bytes


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag=3, forbid_unknown_fields=True):
    """The asker does not wait any more; the answer may be left out."""

    id: int


Message = Request | Response | Cancel


class MethodSpec(NamedTuple):
    """What a method takes and gives, and which handler pool works on it.

    *pool* is ``"local"`` (makes no remote call), ``"relay"`` (may make some)
    or ``"idle"`` (a long poll: holds no worker).
    """

    request: type[msgspec.Struct]
    response: type[msgspec.Struct]
    pool: str


METHODS: Mapping[str, MethodSpec] = MappingProxyType(
    {
        "ping": MethodSpec(bodies.Ping, bodies.Pong, "local"),
        "get-neighbours": MethodSpec(bodies.GetNeighbours, bodies.Neighbours, "local"),
        "find-successor": MethodSpec(bodies.FindSuccessor, bodies.Found, "local"),
        "notify": MethodSpec(bodies.Notify, bodies.Done, "local"),
        "leaving": MethodSpec(bodies.Leaving, bodies.Done, "local"),
        "get-node-records": MethodSpec(bodies.GetNodeRecords, bodies.NodeRecords, "local"),
        "compare-hosts": MethodSpec(bodies.CompareHosts, bodies.HostMarks, "local"),
        "post-chunks": MethodSpec(bodies.PostChunks, bodies.Posted, "relay"),
        "have-chunks": MethodSpec(bodies.HaveChunks, bodies.Had, "local"),
        "get-chunks": MethodSpec(bodies.GetChunks, bodies.Items, "local"),
        "post-heads": MethodSpec(bodies.PostHeads, bodies.Posted, "relay"),
        "get-heads": MethodSpec(bodies.GetHeads, bodies.Items, "local"),
        "usage": MethodSpec(bodies.GetUsage, bodies.Usage, "local"),
        "append": MethodSpec(bodies.Append, bodies.Posted, "relay"),
        "read-since": MethodSpec(bodies.ReadSince, bodies.LogPage, "local"),
        "watch": MethodSpec(bodies.Watch, bodies.LogPage, "idle"),
        "range-digest": MethodSpec(bodies.GetRangeDigest, bodies.RangeDigest, "local"),
        "range-list": MethodSpec(bodies.ListRange, bodies.KeyPage, "local"),
        "fetch": MethodSpec(bodies.Fetch, bodies.Items, "local"),
        "push": MethodSpec(bodies.Push, bodies.Pushed, "local"),
        "confirm": MethodSpec(bodies.Confirm, bodies.Confirmed, "local"),
        "attach": MethodSpec(voting.Attach, voting.Attached, "local"),
    }
)

_S = TypeVar("_S", bound=msgspec.Struct)
_encoder = msgspec.msgpack.Encoder()
_message_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Request | Response | Cancel, strict=True)
_body_decoders: dict[type[msgspec.Struct], msgspec.msgpack.Decoder[Any]] = {}

#: What msgspec raises for bytes that are not what they should be.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
#: How much of a peer's text is shown.
_WORDS = 500


def encode_message(message: Message) -> bytes:
    """The frame payload of one message."""
    return _encoder.encode(message)


def decode_message(payload: bytes | memoryview) -> Message:
    """The message in one frame payload.

    :raises peerstore.errors.BadMessage: when it is none; the connection
        cannot be trusted to mean anything after that and is ended.
    """
    try:
        message = _message_decoder.decode(payload)
    except _UNREADABLE as error:
        raise errors.BadMessage(f"a frame is no message: {error}.") from error
    if not 0 <= message.id <= bodies.MAX_NUMBER:
        raise errors.BadMessage("a message id is out of range.")
    if isinstance(message, Request):
        if len(message.sender) != 20 or len(message.method) > 64:
            raise errors.BadMessage("a request's sender or method is malformed.")
        if not (0 <= message.clock <= bodies.MAX_NUMBER and 0 <= message.deadline <= bodies.MAX_NUMBER):
            raise errors.BadMessage("a request's clock or deadline is out of range.")
    elif isinstance(message, Response) and not (
        0 <= message.clock <= bodies.MAX_NUMBER and message.status in Status._value2member_map_
    ):
        raise errors.BadMessage("a response's clock or status is out of range.")
    return message


def encode_body(body: msgspec.Struct) -> bytes:
    """The packed body of a request or response."""
    return _encoder.encode(body)


def decode_body(raw: bytes | memoryview, kind: type[_S]) -> _S:
    """A body of the given type, strictly: no coercion, no unknown fields.

    :raises peerstore.errors.BadMessage: when it is anything else.  The frame
        was whole, so the request is answered BAD_REQUEST and the connection
        lives on.
    """
    decoder = _body_decoders.get(kind)
    if decoder is None:
        decoder = _body_decoders[kind] = msgspec.msgpack.Decoder(kind, strict=True)
    try:
        body: _S = decoder.decode(raw)
    except _UNREADABLE as error:
        raise errors.BadMessage(f"a body is no {kind.__name__}: {error}.") from error
    return body


_STATUS_OF: tuple[tuple[type[errors.PeerStoreError], Status], ...] = (
    (errors.Busy, Status.BUSY),
    (errors.NotReady, Status.NOT_READY),
    (errors.DataRefused, Status.REJECTED),
    (errors.NotFound, Status.NOT_FOUND),
    (errors.FrameTooLarge, Status.TOO_LARGE),
    (errors.BadMessage, Status.BAD_REQUEST),
    (errors.Incomplete, Status.UNAVAILABLE),
    (errors.LookupFailed, Status.UNAVAILABLE),
    (errors.PeerError, Status.UNAVAILABLE),
)


def status_for(error: BaseException) -> tuple[Status, bodies.Refusal]:
    """What a peer is told of a handler's error.

    Errors about the request or the ring are told in their own words.  Of a
    disk's error only the kind is told, since its words name folders of this
    machine; everything else is INTERNAL, and its text stays here.
    """
    retry = _bounded(error.retry_after) if isinstance(error, errors.Busy) else 0.0
    if isinstance(error, errors.RemoteError) and error.status in Status._value2member_map_ and error.status:
        return Status(error.status), bodies.Refusal(error.what, error.next_step, retry)
    if isinstance(error, errors.StorageError):
        what = "The peer's disk is full." if isinstance(error, errors.DiskFull) else "The peer's disk failed."
        return Status.UNAVAILABLE, bodies.Refusal(what, "Another node may have room, or a copy.", 0.0)
    if isinstance(error, errors.PeerStoreError):
        for kind, status in _STATUS_OF:
            if isinstance(error, kind):
                return status, bodies.Refusal(error.what, error.next_step, retry)
    return Status.INTERNAL, bodies.Refusal("The peer failed to answer; its log says why.", "", 0.0)


def error_for(status: int, refusal: bodies.Refusal) -> errors.PeerStoreError:
    """The error that a response other than OK becomes where it was asked.

    A peer's words end up on somebody's terminal: only what prints is kept.
    """
    what, step = _printable(refusal.what), _printable(refusal.next_step)
    if status == Status.BUSY:
        return errors.Busy(what, step, status=status, retry_after=refusal.retry_after)
    if status == Status.NOT_READY:
        return errors.NotReady(what, step, status=status)
    if status == Status.REJECTED:
        return errors.DataRefused(what, step, status=status)
    return errors.RemoteError(what, step, status=status)


def _bounded(seconds: float) -> float:
    """A retry time that a refusal can carry; 1 s for what is no time."""
    if seconds != seconds:
        return 1.0
    return min(max(0.0, seconds), bodies.MAX_RETRY)


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text[:_WORDS])
