"""What two ends say before anything else, and how payloads travel after it.

In this version a session is in the clear: each side sends one greeting at
once, and every later frame is a message as it is.  An encrypted session has
the same four verbs (start, receive, seal, and the limit that goes with the
state), so it can take this one's place in ``net.protocol``.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from peerstore import ids
from peerstore.errors import BadMessage
from peerstore.wire.framing import FRAME_LIMIT, GREETING_LIMIT

__all__ = ["ClearSession", "Greeted", "Greeting", "Received", "VERSION"]

VERSION = 1
SUITE_CLEAR = 0
ROLES = ("node", "user")


class Greeting(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Who speaks, and what ring they are of.

    *spki* is DER; *copies* and *virtual_nodes* are 0 from users; *address*
    is where the sender can be dialled (empty: nowhere, as from users);
    *nonce* has 32 bytes.
    """

    versions: tuple[int, ...]
    suites: tuple[int, ...]
    spki: bytes
    role: str
    copies: int
    virtual_nodes: int
    address: str
    incarnation: int
    nonce: bytes

    @property
    def fp(self) -> bytes:
        """SHA-256 of the key: 32 bytes."""
        return ids.fingerprint(self.spki)

    @property
    def id(self) -> bytes:
        """SHA-1 of the key: 20 bytes, a label."""
        return ids.key_id(self.spki)


class Greeted(NamedTuple):
    """The peer's greeting has arrived and is sound."""

    greeting: Greeting


class Received(NamedTuple):
    """One message payload, ready for ``wire.messages``."""

    payload: bytes


_decoder = msgspec.msgpack.Decoder(Greeting, strict=True)


def decode_greeting(payload: bytes) -> Greeting:
    """A greeting, strictly.

    :raises peerstore.errors.BadMessage: when it is none, or speaks no
        version or suite of ours.
    """
    try:
        greeting = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(f"the peer's greeting is none: {error}.") from error
    if VERSION not in greeting.versions or SUITE_CLEAR not in greeting.suites:
        raise BadMessage("the peer speaks no version of the protocol that we do.", "Update the older of the two.")
    sound = (
        greeting.role in ROLES
        and 64 <= len(greeting.spki) <= 1024
        and len(greeting.nonce) == 32
        and 0 <= greeting.copies <= 64
        and 0 <= greeting.virtual_nodes <= 64
        and 0 <= greeting.incarnation < 1 << 63
        and len(greeting.address) <= 255
        and greeting.address.isprintable()
        and (greeting.role == "node" or (greeting.copies, greeting.virtual_nodes, greeting.address) == (0, 0, ""))
    )
    if not sound:
        raise BadMessage("the peer's greeting has fields out of range.")
    return greeting


class ClearSession:
    """One end of a session in the clear.

    :param greeting: what we say of ourselves.
    """

    def __init__(self, greeting: Greeting) -> None:
        self._greeting = greeting
        self._greeted = False

    @property
    def established(self) -> bool:
        """Whether the peer's greeting has arrived."""
        return self._greeted

    @property
    def frame_limit(self) -> int:
        """The largest payload that the present state accepts, in bytes."""
        return FRAME_LIMIT if self._greeted else GREETING_LIMIT

    def start(self) -> bytes:
        """The first payload, sent at once by both ends."""
        return msgspec.msgpack.encode(self._greeting)

    def receive(self, payload: bytes) -> Greeted | Received:
        """What one arrived payload means.

        :raises peerstore.errors.BadMessage: when the first is no greeting.
        """
        if self._greeted:
            return Received(payload)
        greeting = decode_greeting(payload)
        self._greeted = True
        return Greeted(greeting)

    def seal(self, payload: bytes) -> bytes:
        """A message payload as it goes into a frame."""
        return payload
