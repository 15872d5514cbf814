"""The bytes of frames, greetings, messages and bodies, frozen.

Each file in ``tests/vectors`` maps a name to the hex of its bytes; what the
names stand for is in ``tests.support.wire``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from peerstore.wire.bodies import Body
from peerstore.wire.framing import FrameDecoder, encode_frame
from peerstore.wire.messages import (
    METHODS,
    Status,
    decode_body,
    decode_message,
    encode_body,
    encode_message,
)
from peerstore.wire.session import ClearSession, Greeting, decode_greeting
from tests.support.wire import GREETINGS, MESSAGES, SAMPLES, body_types

VECTORS = Path(__file__).parent.parent / "vectors"


def frozen(name: str) -> Mapping[str, bytes]:
    """One file of vectors."""
    found: dict[str, str] = json.loads((VECTORS / f"wire_{name}.json").read_text())
    return {key: bytes.fromhex(value) for key, value in found.items()}


class WireVectors(SynchronousTestCase):
    """``tests/vectors/wire_*.json``, both ways."""

    def test_frames(self) -> None:
        """The length of a payload, and the payload."""
        for name, raw in frozen("frames").items():
            payload = name.encode()
            self.assertEqual(encode_frame(payload), raw)
            self.assertEqual(list(FrameDecoder(100).feed(raw)), [payload])

    def test_greetings(self) -> None:
        """A node's and a user's."""
        vectors = frozen("greetings")
        self.assertEqual(vectors.keys(), GREETINGS.keys())
        for name, raw in vectors.items():
            self.assertEqual(ClearSession(GREETINGS[name]).start(), raw)
            self.assertEqual(decode_greeting(raw), GREETINGS[name])

    def test_messages(self) -> None:
        """One of each kind."""
        vectors = frozen("messages")
        self.assertEqual(vectors.keys(), MESSAGES.keys())
        for name, raw in vectors.items():
            self.assertEqual(encode_message(MESSAGES[name]), raw, name)
            self.assertEqual(decode_message(raw), MESSAGES[name], name)

    def test_bodies(self) -> None:
        """One of each type."""
        vectors = frozen("bodies")
        self.assertEqual(vectors.keys(), SAMPLES.keys())
        for name, raw in vectors.items():
            self.assertEqual(encode_body(SAMPLES[name]), raw, name)
            self.assertEqual(decode_body(raw, type(SAMPLES[name])), SAMPLES[name], name)

    def test_every_type_has_a_vector(self) -> None:
        """No body is left out, exported or not."""
        names = {kind.__name__ for kind in body_types()}
        self.assertEqual(names, SAMPLES.keys())
        self.assertEqual({kind.__name__ for kind in Body.__subclasses__()}, SAMPLES.keys())
        for spec in METHODS.values():
            self.assertLessEqual({spec.request.__name__, spec.response.__name__}, names)

    def test_statuses(self) -> None:
        """Their numbers never move."""
        names = """
            OK NOT_FOUND REJECTED GAP TOO_LARGE BUSY BAD_REQUEST
            QUOTA NOT_RESPONSIBLE NOT_READY LATER UNAVAILABLE INTERNAL
        """
        self.assertEqual(
            {status.name: int(status) for status in Status}, dict(zip(names.split(), range(13), strict=True))
        )

    def test_samples_fill_every_field(self) -> None:
        """A field that is empty in its sample would not be frozen."""
        for name, sample in {**SAMPLES, **GREETINGS}.items():
            for field in msgspec.structs.fields(sample):
                value = getattr(sample, field.name)
                hollow = isinstance(value, tuple | bytes | str) and not value and name != "user"
                self.assertFalse(hollow, f"{name}.{field.name}")
        self.assertIsInstance(GREETINGS["node"], Greeting)
