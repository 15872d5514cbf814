"""A session in the clear: greetings, and what counts before and after."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import BadMessage
from peerstore.wire.framing import FRAME_LIMIT, GREETING_LIMIT
from peerstore.wire.session import (
    SUITE_CLEAR,
    VERSION,
    ClearSession,
    Greeted,
    Greeting,
    Received,
    decode_greeting,
)
from tests.support.wire import PROPERTY, a_greeting

pack = msgspec.msgpack.encode

GREETINGS = st.builds(
    Greeting,
    st.lists(st.integers(0, 1 << 40), max_size=5).map(lambda more: (*more, VERSION)),
    st.lists(st.integers(0, 1 << 40), max_size=5).map(lambda more: (SUITE_CLEAR, *more)),
    st.binary(min_size=64, max_size=1024),
    st.just("node"),
    st.integers(0, 64),
    st.integers(0, 64),
    st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=255),
    st.integers(0, (1 << 63) - 1),
    st.binary(min_size=32, max_size=32),
)


class GreetingTests(SynchronousTestCase):
    """What a greeting may say."""

    def changed(self, **fields: Any) -> bytes:
        """A sound greeting with other fields."""
        return pack(msgspec.structs.replace(a_greeting(), **fields))

    def refused(self, raw: bytes) -> BadMessage:
        """This is no greeting."""
        error = self.assertRaises(BadMessage, decode_greeting, raw)
        assert isinstance(error, BadMessage)
        return error

    @PROPERTY
    @given(GREETINGS)
    def test_round_trip(self, greeting: Greeting) -> None:
        """Any sound greeting, through bytes and back, and within the limit."""
        raw = pack(greeting)
        self.assertEqual(decode_greeting(raw), greeting)
        self.assertLessEqual(len(raw), GREETING_LIMIT)

    def test_fp_and_id(self) -> None:
        """SHA-256 of the key is what trust compares, SHA-1 a label."""
        greeting = a_greeting()
        self.assertEqual(greeting.fp, hashlib.sha256(greeting.spki).digest())
        self.assertEqual(greeting.id, hashlib.sha1(greeting.spki).digest())

    def test_users(self) -> None:
        """A user greets with neither copies nor positions, nor an address."""
        user = a_greeting(role="user")
        self.assertEqual(decode_greeting(pack(user)), user)
        for field in ({"copies": 3}, {"virtual_nodes": 8}, {"address": "tcp:127.0.0.1:1"}):
            self.refused(pack(msgspec.structs.replace(user, **field)))

    def test_versions(self) -> None:
        """Ours must be among those that the peer speaks; others are ignored."""
        self.assertEqual(decode_greeting(self.changed(versions=(7, VERSION, 9))).versions, (7, VERSION, 9))
        for versions in ((), (VERSION + 1,), (0, 2, 3)):
            error = self.refused(self.changed(versions=versions))
            self.assertIn("version", error.what)
            self.assertIn("Update", error.next_step)

    def test_suites(self) -> None:
        """Ours must be among those that the peer offers; others are ignored."""
        self.assertEqual(decode_greeting(self.changed(suites=(1, SUITE_CLEAR))).suites, (1, SUITE_CLEAR))
        for suites in ((), (1, 2)):
            self.assertIn("version", self.refused(self.changed(suites=suites)).what)

    def test_roles(self) -> None:
        """Node or user."""
        for role in ("", "Node", "admin", "node ", "x" * 5000):
            self.refused(self.changed(role=role))

    def test_the_edges_of_the_ranges(self) -> None:
        """The outermost values that are allowed."""
        decode_greeting(self.changed(copies=64, virtual_nodes=64, incarnation=(1 << 63) - 1, address="a" * 255))
        decode_greeting(self.changed(copies=0, virtual_nodes=0, incarnation=0, address=""))
        decode_greeting(self.changed(spki=bytes(64)))
        decode_greeting(self.changed(spki=bytes(1024)))

    def test_fields_out_of_range(self) -> None:
        """One step beyond each edge."""
        for fields in (
            {"copies": -1},
            {"copies": 65},
            {"virtual_nodes": -1},
            {"virtual_nodes": 65},
            {"incarnation": -1},
            {"incarnation": 1 << 63},
            {"spki": bytes(63)},
            {"spki": bytes(1025)},
            {"nonce": bytes(31)},
            {"nonce": bytes(33)},
            {"address": "a" * 256},
        ):
            self.refused(self.changed(**fields))

    def test_addresses_that_do_not_print(self) -> None:
        """An address ends up in logs: no line breaks, no escapes."""
        for address in ("tcp:\n:1", "tcp:\x1b[2J:1", "tcp:\x00:1", "tcp:\u202e:1"):
            self.refused(self.changed(address=address))

    def test_fields_missing_or_added(self) -> None:
        """Exactly nine."""
        fields = msgspec.msgpack.decode(pack(a_greeting()))
        self.refused(pack(fields[:-1]))
        self.refused(pack([*fields, b""]))
        self.refused(pack([]))

    def test_wrong_types(self) -> None:
        """No field takes a value of another type."""
        fields = msgspec.msgpack.decode(pack(a_greeting(address="tcp:h:1")))
        for place, field in enumerate(fields):
            for value in (None, True, 1, 1.0, "node", b"node", [1.0], {}):
                if type(value) is not type(field) or isinstance(field, list):
                    self.refused(pack([*fields[:place], value, *fields[place + 1 :]]))

    def test_what_is_no_greeting(self) -> None:
        """Rubbish, text that is not UTF-8, brackets without end."""
        good = pack(a_greeting(address="tcp:h:1"))
        brackets, announced = b"\x91" * GREETING_LIMIT, b"\xdd\xff\xff\xff\xff"
        for raw in (b"", b"GET / HTTP/1.1\r\n\r\n", bytes(100), brackets, announced, good + b"\0"):
            self.refused(raw)
        self.refused(good.replace(b"tcp:h:1", b"tcp:\xff:1"))

    def test_truncated_at_every_byte(self) -> None:
        """No beginning of a greeting is one."""
        raw = pack(a_greeting(address="tcp:h:1"))
        for end in range(len(raw)):
            self.refused(raw[:end])

    @PROPERTY
    @given(st.data())
    def test_damaged(self, data: st.DataObject) -> None:
        """A byte changed anywhere: a sound greeting, or BadMessage."""
        raw = bytearray(pack(a_greeting(address="tcp:127.0.0.1:1")))
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] ^= data.draw(st.integers(1, 255))
        try:
            greeting = decode_greeting(bytes(raw))
        except BadMessage:
            return
        self.assertEqual(pack(greeting), bytes(raw))


class SessionTests(SynchronousTestCase):
    """The states of one end."""

    def setUp(self) -> None:
        self.ours, self.theirs = a_greeting(b"ours"), a_greeting(b"theirs")
        self.session = ClearSession(self.ours)

    def greet(self) -> Any:
        """The other end's greeting arrives."""
        return self.session.receive(pack(self.theirs))

    def test_the_greeting_is_sent_first(self) -> None:
        """Ours, whole, before anything has arrived."""
        self.assertEqual(decode_greeting(self.session.start()), self.ours)
        self.assertLessEqual(len(self.session.start()), GREETING_LIMIT)

    def test_limits(self) -> None:
        """8 KiB until the greeting has arrived, 4 MiB + 192 KiB afterwards."""
        self.assertEqual((self.session.frame_limit, GREETING_LIMIT), (8192, 8192))
        self.greet()
        self.assertEqual((self.session.frame_limit, FRAME_LIMIT), ((4096 + 192) * 1024,) * 2)

    def test_established(self) -> None:
        """Once, and only once, a sound greeting has arrived."""
        self.assertFalse(self.session.established)
        self.assertRaises(BadMessage, self.session.receive, b"rubbish")
        self.assertFalse(self.session.established)
        self.assertEqual(self.session.frame_limit, GREETING_LIMIT)
        self.assertEqual(self.greet(), Greeted(self.theirs))
        self.assertTrue(self.session.established)

    def test_payloads_pass(self) -> None:
        """After the greeting each payload is a message as it is."""
        self.greet()
        self.assertEqual(self.session.receive(b"payload"), Received(b"payload"))
        self.assertEqual(self.session.seal(b"payload"), b"payload")

    def test_a_second_greeting_is_no_greeting(self) -> None:
        """It is a payload like any other, and no message."""
        self.greet()
        self.assertEqual(self.greet(), Received(pack(self.theirs)))
