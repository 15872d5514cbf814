"""Typed messages: round trips, strictness, and errors as statuses."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore import errors
from peerstore.wire import bodies
from peerstore.wire.messages import (
    METHODS,
    Cancel,
    Request,
    Response,
    Status,
    decode_body,
    decode_message,
    encode_body,
    encode_message,
)
from tests.support.wire import MESSAGES, NUMBERS, OWNER, PROPERTY, SAMPLES, body_types, values_of

pack = msgspec.msgpack.encode
TOP = (1 << 63) - 1

MESSAGE = st.one_of(
    st.builds(
        Request,
        NUMBERS,
        st.text(st.characters(codec="utf-8"), max_size=64),
        st.binary(min_size=20, max_size=20),
        NUMBERS,
        NUMBERS,
        st.binary(max_size=50),
    ),
    st.builds(Response, NUMBERS, st.sampled_from([int(status) for status in Status]), NUMBERS, st.binary(max_size=50)),
    st.builds(Cancel, NUMBERS),
)


class RoundTripTests(SynchronousTestCase):
    """decode(encode(x)) is x, and encode(decode(b)) is b."""

    @PROPERTY
    @given(MESSAGE)
    def test_messages(self, message: Any) -> None:
        """Any message, through bytes and back."""
        raw = encode_message(message)
        self.assertEqual(decode_message(raw), message)
        self.assertEqual(encode_message(decode_message(memoryview(raw))), raw)

    @PROPERTY
    @given(st.sampled_from(list(body_types())).flatmap(values_of))
    def test_bodies(self, body: msgspec.Struct) -> None:
        """Any body of any type, through bytes and back."""
        raw = encode_body(body)
        self.assertEqual(decode_body(raw, type(body)), body)
        self.assertEqual(encode_body(decode_body(memoryview(raw), type(body))), raw)

    @PROPERTY
    @given(st.binary(max_size=60))
    def test_any_bytes(self, raw: bytes) -> None:
        """Rubbish is a message or a BadMessage, and nothing else."""
        try:
            message = decode_message(raw)
        except errors.BadMessage:
            return
        self.assertEqual(decode_message(encode_message(message)), message)

    @PROPERTY
    @given(st.sampled_from(list(body_types())), st.data())
    def test_damaged_bodies(self, kind: type[msgspec.Struct], data: st.DataObject) -> None:
        """A byte changed anywhere: a body of that type, or a BadMessage."""
        raw = bytearray(encode_body(SAMPLES[kind.__name__]))
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] ^= data.draw(st.integers(1, 255))
        try:
            body = decode_body(bytes(raw), kind)
        except errors.BadMessage:
            return
        self.assertIsInstance(body, kind)

    def test_truncated_at_every_byte(self) -> None:
        """No beginning of a message or body is one."""
        for message in MESSAGES.values():
            raw = encode_message(message)
            for end in range(len(raw)):
                self.assertRaises(errors.BadMessage, decode_message, raw[:end])
        for body in SAMPLES.values():
            raw = encode_body(body)
            for end in range(len(raw)):
                self.assertRaises(errors.BadMessage, decode_body, raw[:end], type(body))

    def test_bytes_behind_the_end(self) -> None:
        """Nothing may follow."""
        for message in MESSAGES.values():
            self.assertRaises(errors.BadMessage, decode_message, encode_message(message) + b"\0")
        for body in SAMPLES.values():
            self.assertRaises(errors.BadMessage, decode_body, encode_body(body) + b"\xc0", type(body))


class MessageTests(SynchronousTestCase):
    """What is no message ends in BadMessage."""

    def refused(self, *fields: Any) -> None:
        """This array is no message."""
        self.assertRaises(errors.BadMessage, decode_message, pack(fields))

    def test_the_edges_of_the_ranges(self) -> None:
        """0 and 2**63 - 1 are in range."""
        for number in (0, TOP):
            for fields in ((1, number, "ping", OWNER, number, number, b""), (2, number, 0, number, b""), (3, number)):
                self.assertEqual(encode_message(decode_message(pack(fields))), pack(fields))

    def test_numbers_out_of_range(self) -> None:
        """Ids, clocks and deadlines are unsigned and fit 63 bits."""
        for number in (-1, TOP + 1, (1 << 64) - 1):
            self.refused(1, number, "ping", OWNER, 1, 1, b"")
            self.refused(1, 1, "ping", OWNER, number, 1, b"")
            self.refused(1, 1, "ping", OWNER, 1, number, b"")
            self.refused(2, number, 0, 1, b"")
            self.refused(2, 1, 0, number, b"")
            self.refused(3, number)

    def test_senders_and_methods(self) -> None:
        """A sender has 20 bytes, a method at most 64 characters."""
        for length in (0, 19, 21):
            self.refused(1, 1, "ping", bytes(length), 1, 1, b"")
        decode_message(pack((1, 1, "m" * 64, OWNER, 1, 1, b"")))
        self.refused(1, 1, "m" * 65, OWNER, 1, 1, b"")

    def test_unknown_statuses(self) -> None:
        """A response has one of the statuses that there are."""
        for status in Status:
            decode_message(pack((2, 1, int(status), 1, b"")))
        for status in (-1, len(Status), 1 << 40):
            self.refused(2, 1, status, 1, b"")

    def test_unknown_kinds(self) -> None:
        """The first element names one of three kinds, by its number."""
        for kind in (0, 4, -1, 1 << 40, True, 3.0, "3", b"3", None):
            self.refused(kind, 1)

    def test_fields_missing_or_added(self) -> None:
        """Each kind has exactly its fields."""
        for message in MESSAGES.values():
            fields = msgspec.msgpack.decode(encode_message(message))
            self.refused(*fields[:-1])
            self.refused(*fields, 0)

    def test_wrong_types(self) -> None:
        """No field takes a value of another type, however close."""
        wrong: dict[type, tuple[Any, ...]] = {
            int: (1.0, "1", b"1", True, None, [1]),
            str: (b"ping", 1, None, ["ping"]),
            bytes: ("AAAAAAAAAAAAAAAAAAAA", 1, None, [1], "é"),
        }
        for message in MESSAGES.values():
            fields = msgspec.msgpack.decode(encode_message(message))
            for place, field in enumerate(fields):
                for value in wrong[type(field)]:
                    self.refused(*fields[:place], value, *fields[place + 1 :])

    def test_no_array(self) -> None:
        """Other msgpack values, and nothing at all."""
        for value in (None, 1, "ping", b"", {}, {"id": 1}, []):
            self.assertRaises(errors.BadMessage, decode_message, pack(value))
        self.assertRaises(errors.BadMessage, decode_message, b"")

    def test_text_that_is_not_utf8(self) -> None:
        """A method in some other encoding."""
        raw = encode_message(MESSAGES["request"]).replace(b"\xa4ping", b"\xa4p\xffng")
        self.assertRaises(errors.BadMessage, decode_message, raw)


class BodyTests(SynchronousTestCase):
    """A body has the type that its method names, or is refused."""

    def refused(self, kind: type[msgspec.Struct], fields: Any) -> None:
        """These fields are no body of that type."""
        try:
            body = decode_body(pack(fields), kind)
        except errors.BadMessage as error:
            self.assertIn(kind.__name__, error.what)
        else:
            self.fail(f"{fields!r} was taken for {body!r}")

    def test_fields_missing_or_added(self) -> None:
        """Each type has exactly its fields, those with a default excepted."""
        for body in SAMPLES.values():
            fields = msgspec.msgpack.decode(encode_body(body))
            needed = sum(1 for field in msgspec.structs.fields(body) if field.required)
            if needed:
                self.refused(type(body), fields[: needed - 1])
            self.refused(type(body), [*fields, 0])

    def test_wrong_types(self) -> None:
        """No field of any body takes what is of another type."""
        values: tuple[Any, ...] = (
            None,
            True,
            1,
            1.5,
            "AAAA",
            b"AAAA",
            [1.5],
            [[]],
            {"a": 1},
            msgspec.msgpack.Ext(1, b""),
        )
        for body in SAMPLES.values():
            fields = msgspec.msgpack.decode(encode_body(body))
            for place, field in enumerate(fields):
                nullable = type(None) in getattr(msgspec.structs.fields(body)[place].type, "__args__", ())
                for value in values:
                    if isinstance(field, float):
                        fits = type(value) in (int, float)
                    else:
                        fits = type(value) is type(field) and not isinstance(field, list)
                    if not fits and not (value is None and nullable):
                        self.refused(type(body), [*fields[:place], value, *fields[place + 1 :]])

    def test_numbers_out_of_range(self) -> None:
        """No integer of any body is below 0 or above 2**63 - 1, except that
        find-successor asks position -1 for whichever is best."""
        checked = 0
        for body in SAMPLES.values():
            fields = msgspec.msgpack.decode(encode_body(body))
            for place, field in enumerate(fields):
                if type(field) is not int:
                    continue
                checked += 1
                least = -2 if isinstance(body, bodies.FindSuccessor) else -1
                for number in (least, TOP + 1, (1 << 64) - 1):
                    self.refused(type(body), [*fields[:place], number, *fields[place + 1 :]])
        self.assertGreater(checked, 20)

    def test_numbers_out_of_range_in_lists(self) -> None:
        """Also where they come in lists."""
        for number in (-1, TOP + 1):
            self.refused(bodies.Pushed, [[0, number]])
            self.refused(bodies.LogPage, [[], [[b"d", number]], False])

    def test_times_that_are_none(self) -> None:
        """A refusal's retry time is a number of seconds that one can wait."""
        for seconds in (float("nan"), float("inf"), -0.5, 1e300):
            self.refused(bodies.Refusal, ["Busy.", "", seconds])

    def test_unknown_item_kinds(self) -> None:
        """An item is of one of the four kinds."""
        for kind in (0, 5, 1 << 40):
            self.refused(bodies.ListRange, [bytes(20), bytes(20), [kind], None, 1])
            self.refused(bodies.Fetch, [[[bytes(20), bytes(20), kind, bytes(32)]]])

    def test_text_that_is_not_utf8(self) -> None:
        """Text of any body is UTF-8."""
        self.assertRaises(errors.BadMessage, decode_body, b"\x92\x01\xa2\xff\xfe", bodies.Pong)

    def test_deep_nesting(self) -> None:
        """A million brackets are refused, not followed."""
        for kind in (bodies.Pushed, bodies.Push, bodies.Found, bodies.Refusal, bodies.Ping):
            for bracket in (b"\x91", b"\x81", b"\x92\x01", b"\xdd\0\0\0\x01"):
                self.assertRaises(errors.BadMessage, decode_body, bracket * 1_000_000, kind)
        for prefix in (b"", b"\x97\x01", b"\x93\x03\x01"):
            self.assertRaises(errors.BadMessage, decode_message, prefix + b"\x91" * 1_000_000)

    def test_announced_sizes_cost_no_memory(self) -> None:
        """Four thousand million elements are announced; none are allocated."""
        arrays = [b"\x91\xdd\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff\x01", b"\x91\xdd\x00\xff\xff\xff" + b"\x01" * 9]
        lengths = [b"\x91\xc6\xff\xff\xff\xff", b"\x91\xdb\xff\xff\xff\xff", b"\x91\xdf\xff\xff\xff\xff"]
        kinds = [bodies.Pushed, bodies.Push, bodies.GetUsage, bodies.GetNodeRecords]
        for raw in arrays + lengths:
            self.assertRaises(errors.BadMessage, decode_message, raw)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for raw in arrays + lengths:
            for kind in kinds:
                self.assertRaises(errors.BadMessage, decode_body, raw, kind)
            self.assertRaises(errors.BadMessage, decode_message, raw)
        self.assertLess(tracemalloc.get_traced_memory()[1], 1_000_000)

    def test_an_array_of_many(self) -> None:
        """What a list of the smallest elements takes stays in proportion."""
        raw = b"\x93\xdd\x00\x01\x00\x00" + b"\x00" * 0x10000 + b"\x90\x01"
        self.assertEqual(len(decode_body(raw, bodies.Pushed).statuses), 0x10000)


class MethodTests(SynchronousTestCase):
    """The table of methods."""

    def test_the_methods_of_the_design(self) -> None:
        """These, and no other."""
        families = """
            ping get-neighbours find-successor notify leaving get-node-records compare-hosts
            post-chunks have-chunks get-chunks post-heads get-heads usage
            append read-since watch
            attach confirm range-digest range-list fetch push
        """
        self.assertEqual(sorted(METHODS), sorted(families.split()))

    def test_bodies_of_every_method(self) -> None:
        """Each takes and gives types of wire.bodies, in one of three pools."""
        types = set(body_types())
        for name, spec in METHODS.items():
            self.assertIn(spec.request, types, name)
            self.assertIn(spec.response, types, name)
            self.assertIn(spec.pool, ("local", "relay", "idle"), name)
            self.assertLessEqual(len(name), 64)

    def test_no_two_methods_take_the_same(self) -> None:
        """A body sent under another method's name differs in its type."""
        requests = [spec.request for spec in METHODS.values()]
        self.assertEqual(len(set(requests)), len(requests))

    def test_the_table_cannot_be_changed(self) -> None:
        """Nobody adds a method while the program runs."""
        with self.assertRaises(TypeError):
            METHODS["ping"] = METHODS["push"]  # type: ignore[index]
