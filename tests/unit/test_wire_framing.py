"""Frames: cut out of a stream whatever its chunking, bounded, linear."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport
from twisted.protocols.basic import Int32StringReceiver
from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import FrameTooLarge, ProtocolViolation
from peerstore.wire import framing
from peerstore.wire.framing import FRAME_LIMIT, GREETING_LIMIT, FrameDecoder, encode_frame, frame_header
from tests.support.wire import PROPERTY, chunked

LIMIT = 64

#: Streams of frames and of rubbish, most of them below the limit.
STREAMS = st.lists(
    st.one_of(
        st.binary(max_size=LIMIT).map(encode_frame),
        st.integers(0, LIMIT + 3).map(lambda size: encode_frame(bytes(size))),
        st.binary(max_size=6),
    ),
    max_size=8,
).map(b"".join)


class Oracle(Int32StringReceiver):
    """Twisted's receiver of the same format, and where it gave up."""

    MAX_LENGTH = LIMIT

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.refused: int | None = None

    def stringReceived(self, string: bytes) -> None:
        self.frames.append(string)

    def lengthLimitExceeded(self, length: int) -> None:
        self.refused = length


def decoded(stream: bytes, sizes: list[int]) -> tuple[list[bytes], bool]:
    """What our decoder makes of a stream: frames, and whether it gave up."""
    decoder = FrameDecoder(LIMIT)
    frames: list[bytes] = []
    for chunk in chunked(stream, sizes):
        try:
            frames.extend(decoder.feed(chunk))
        except FrameTooLarge:
            return frames, True
    return frames, False


class Counting(bytearray):
    """A bytearray that counts the bytes which are moved in and out of it."""

    moved = 0

    def __iadd__(self, other: Any) -> Counting:
        Counting.moved += len(other)
        super().__iadd__(other)
        return self

    def extend(self, other: Any) -> None:
        Counting.moved += len(other)
        super().extend(other)

    def __add__(self, other: Any) -> Counting:
        Counting.moved += len(self) + len(other)
        return Counting(super().__add__(other))

    def __setitem__(self, place: Any, other: Any) -> None:
        Counting.moved += len(other) if isinstance(place, slice) else 1
        super().__setitem__(place, other)

    def __delitem__(self, place: Any) -> None:
        Counting.moved += len(self)
        super().__delitem__(place)

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        Counting.moved += len(found) if isinstance(place, slice) else 1
        return found

    def __bytes__(self) -> bytes:
        Counting.moved += len(self)
        return bytes(memoryview(self))


class DecoderTests(SynchronousTestCase):
    """What comes out is what was put in."""

    def test_whole_frames_in_one_chunk(self) -> None:
        """Several frames, empty ones among them, in order."""
        decoder = FrameDecoder(LIMIT)
        frames = [b"one", b"", b"three", b"x" * LIMIT, b""]
        self.assertEqual(list(decoder.feed(b"".join(map(encode_frame, frames)))), frames)
        self.assertEqual(decoder.buffered, 0)

    def test_payloads_are_bytes(self) -> None:
        """Never a view of a buffer that changes later, however they arrived."""
        decoder = FrameDecoder(LIMIT)
        whole = list(decoder.feed(encode_frame(b"abc")))
        stream = encode_frame(b"abc")
        parts = [frame for byte in stream for frame in decoder.feed(bytes([byte]))]
        self.assertEqual([type(frame) for frame in whole + parts], [bytes, bytes])

    def test_a_frame_of_exactly_the_limit(self) -> None:
        """The limit itself is allowed, for both limits that are in use."""
        for limit in (GREETING_LIMIT, FRAME_LIMIT):
            (frame,) = FrameDecoder(limit).feed(encode_frame(bytes(limit)))
            self.assertEqual(len(frame), limit)

    def test_zero_length_frames_byte_by_byte(self) -> None:
        """The fourth byte of a header completes an empty frame."""
        decoder = FrameDecoder(LIMIT)
        self.assertEqual([list(decoder.feed(b"\0")) for _ in range(8)], [[], [], [], [b""]] * 2)

    def test_an_empty_chunk(self) -> None:
        """Nothing comes of nothing, also in the middle of a frame."""
        decoder = FrameDecoder(LIMIT)
        self.assertEqual(list(decoder.feed(b"")), [])
        self.assertEqual(list(decoder.feed(b"\0\0\0\x01")), [])
        self.assertEqual(list(decoder.feed(b"")), [])
        self.assertEqual(list(decoder.feed(b"x")), [b"x"])

    def test_truncated_at_every_byte(self) -> None:
        """A stream that stops anywhere gives the frames before, holds the
        rest, and goes on when the rest comes."""
        frames = [b"", b"a", b"bcd", b"e" * 20]
        stream = b"".join(map(encode_frame, frames))
        for end in range(len(stream)):
            decoder = FrameDecoder(LIMIT)
            before = list(decoder.feed(stream[:end]))
            self.assertEqual(before, frames[: len(before)])
            self.assertEqual(sum(4 + len(frame) for frame in before) + decoder.buffered, end)
            self.assertEqual(before + list(decoder.feed(stream[end:])), frames)

    @PROPERTY
    @given(stream=STREAMS, sizes=st.lists(st.integers(0, 40), max_size=30))
    def test_as_twisted_decodes_it(self, stream: bytes, sizes: list[int]) -> None:
        """The same frames, and the same giving up, as Int32StringReceiver."""
        oracle = Oracle()
        oracle.makeConnection(StringTransport())
        for chunk in chunked(stream, sizes):
            if oracle.refused is None:
                oracle.dataReceived(chunk)
        self.assertEqual(decoded(stream, sizes), (oracle.frames, oracle.refused is not None))

    @PROPERTY
    @given(payload=st.binary(max_size=300))
    def test_as_twisted_encodes_it(self, payload: bytes) -> None:
        """The same bytes as Int32StringReceiver sends."""
        oracle, transport = Oracle(), StringTransport()
        oracle.makeConnection(transport)
        oracle.sendString(payload)
        self.assertEqual(encode_frame(payload), transport.value())
        self.assertEqual(frame_header(len(payload)) + payload, transport.value())


class LimitTests(SynchronousTestCase):
    """Too much is refused before any of it is kept."""

    def test_judged_on_the_length_alone(self) -> None:
        """The fourth length byte is enough, whatever follows or does not."""
        for length in (LIMIT + 1, 1 << 16, (1 << 32) - 1):
            decoder = FrameDecoder(LIMIT)
            header = struct.pack(">I", length)
            self.assertEqual(list(decoder.feed(header[:3])), [])
            error = self.assertRaises(FrameTooLarge, list, decoder.feed(header[3:]))
            self.assertIn(str(length), error.what)
            self.assertIn(str(LIMIT), error.what)
            self.assertIsInstance(error, ProtocolViolation)

    def test_frames_before_it_are_given(self) -> None:
        """What was whole before the refused frame has its effect."""
        stream = encode_frame(b"ok") + encode_frame(b"") + frame_header(LIMIT + 1)
        self.assertEqual(decoded(stream, []), ([b"ok", b""], True))

    def test_the_stream_stays_lost(self) -> None:
        """Nothing that follows a refused length is ever taken for a frame."""
        decoder = FrameDecoder(LIMIT)
        self.assertRaises(FrameTooLarge, list, decoder.feed(frame_header(LIMIT + 1)))
        self.assertRaises(FrameTooLarge, list, decoder.feed(encode_frame(b"fine")))

    def test_a_limit_that_changes_between_frames(self) -> None:
        """A frame in the same chunk is judged by the limit set meanwhile,
        upwards and downwards."""
        decoder = FrameDecoder(3)
        frames = []
        for frame in decoder.feed(encode_frame(b"abc") + encode_frame(b"d" * 50)):
            frames.append(len(frame))
            decoder.limit = 50
        self.assertEqual(frames, [3, 50])
        with self.assertRaises(FrameTooLarge):
            for _ in decoder.feed(encode_frame(b"e" * 50) + encode_frame(b"f" * 4)):
                decoder.limit = 3

    def test_a_limit_that_changes_within_a_header(self) -> None:
        """A frame whose header was split is judged when the header is whole."""
        decoder = FrameDecoder(3)
        header = frame_header(50)
        self.assertEqual(list(decoder.feed(header[:2])), [])
        decoder.limit = 50
        self.assertEqual(list(decoder.feed(header[2:] + b"x" * 50)), [b"x" * 50])

    def test_an_announcement_costs_no_memory(self) -> None:
        """Four bytes that announce four megabytes allocate next to nothing:
        memory is held only for what was sent."""
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        decoders = [FrameDecoder(FRAME_LIMIT) for _ in range(20)]
        for decoder in decoders:
            self.assertEqual(list(decoder.feed(frame_header(FRAME_LIMIT) + b"x")), [])
        held, peak = tracemalloc.get_traced_memory()
        self.assertLess(peak, 100_000)
        self.assertEqual([decoder.buffered for decoder in decoders], [5] * 20)
        self.assertGreater(held, 0)


class LinearTests(SynchronousTestCase):
    """Each byte is moved a fixed number of times, however small the chunks."""

    def moved(self, size: int, chunk: int) -> int:
        """Bytes moved through buffers for one frame that comes in chunks."""
        stream = encode_frame(bytes(size))
        framing.__dict__["bytearray"] = Counting
        self.addCleanup(framing.__dict__.pop, "bytearray", None)
        Counting.moved = 0
        decoder = FrameDecoder(size)
        frames = [
            frame for place in range(0, len(stream), chunk) for frame in decoder.feed(stream[place : place + chunk])
        ]
        self.assertEqual([len(frame) for frame in frames], [size])
        return Counting.moved

    def test_byte_by_byte(self) -> None:
        """A large frame in single bytes: twice its size is moved, at most."""
        size = 100_000
        moved = self.moved(size, 1)
        self.assertGreaterEqual(moved, size)
        self.assertLessEqual(moved, 2 * size + 64)

    def test_any_chunking_moves_the_same(self) -> None:
        """The number of chunks does not matter."""
        size = 500_000
        for chunk in (100, 4_096, 65_536, 400_000):
            self.assertLessEqual(self.moved(size, chunk), 2 * size + 64)

    def test_many_small_frames_in_one_chunk(self) -> None:
        """The rest of a chunk is not copied again for each frame in it."""
        stream = encode_frame(b"0123456789") * 20_000
        framing.__dict__["bytearray"] = Counting
        self.addCleanup(framing.__dict__.pop, "bytearray", None)
        Counting.moved = 0
        self.assertEqual(sum(1 for _ in FrameDecoder(LIMIT).feed(stream)), 20_000)
        self.assertLessEqual(Counting.moved, 2 * len(stream))
