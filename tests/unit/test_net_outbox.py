"""What waits for a slow reader: counted, small frames first, in pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore.net.limits import Budget
from peerstore.net.outbox import KEPT, PIECE, URGENT, Outbox
from peerstore.wire.framing import FRAME_LIMIT, FrameDecoder, frame_header
from tests.support.wire import PROPERTY


class Sink:
    """A transport that asks to pause after each write that it is told to."""

    def __init__(self) -> None:
        self.outbox: Outbox | None = None
        self.written: list[bytes] = []
        self.full = False

    def writeSequence(self, data: list[bytes]) -> None:
        self.written.append(b"".join(data))
        if self.full:
            assert self.outbox is not None
            self.outbox.pause()


class OutboxTests(SynchronousTestCase):
    """An outbox, a sink, a budget."""

    def setUp(self) -> None:
        self.sink, self.budget = Sink(), Budget(1 << 30)
        self.outbox = self.sink.outbox = Outbox(self.sink, self.budget)

    def put(self, payload: bytes, tag: object = None) -> None:
        """One frame."""
        self.outbox.put(frame_header(len(payload)), payload, tag)

    def frames(self) -> list[bytes]:
        """The frames that have been written whole."""
        return list(FrameDecoder(FRAME_LIMIT).feed(b"".join(self.sink.written)))

    def test_written_at_once_while_the_reader_keeps_up(self) -> None:
        """In order, and nothing is left waiting."""
        payloads = [b"a", b"b" * (URGENT + 1), b"", b"c"]
        for payload in payloads:
            self.put(payload)
        self.assertEqual(self.frames(), payloads)
        self.assertEqual((self.outbox.unsent, self.budget.used, self.outbox.empty), (0, 0, True))

    def test_kept_while_paused(self) -> None:
        """Nothing is written, everything is counted, here and in the budget."""
        self.outbox.pause()
        self.put(b"x" * 10)
        self.put(b"y" * 9000)
        self.assertEqual(self.sink.written, [])
        self.assertEqual(self.outbox.unsent, 9010 + 2 * KEPT)
        self.assertEqual(self.budget.used, self.outbox.unsent)
        self.assertFalse(self.outbox.empty)

    def test_small_frames_first(self) -> None:
        """What was put later, but is small, overtakes what is large; each
        kind stays in its order."""
        self.outbox.pause()
        large, larger = b"L" * (URGENT + 1), b"M" * 20_000
        for payload in (large, b"one", larger, b"two", b"u" * URGENT):
            self.put(payload)
        self.outbox.resume()
        self.assertEqual(self.frames(), [b"one", b"two", b"u" * URGENT, large, larger])
        self.assertEqual((self.outbox.unsent, self.budget.used), (0, 0))

    def test_small_frames_never_cut_into_a_large_one(self) -> None:
        """A frame that has begun goes out whole before any other."""
        self.sink.full = True
        self.put(b"L" * (3 * PIECE))
        self.put(b"urgent")
        for _ in range(4):
            self.outbox.resume()
        self.assertEqual(self.frames(), [b"L" * (3 * PIECE), b"urgent"])

    def test_large_frames_go_in_pieces(self) -> None:
        """One piece each time that the reader has caught up."""
        self.sink.full = True
        self.put(b"L" * (2 * PIECE + 5))
        self.assertEqual([len(part) for part in self.sink.written], [PIECE + 4])
        self.assertEqual(self.outbox.unsent, PIECE + 5)
        self.outbox.resume()
        self.assertEqual(self.outbox.unsent, 5)
        self.assertFalse(self.outbox.empty)
        self.outbox.resume()
        self.assertEqual([len(part) for part in self.sink.written], [PIECE + 4, PIECE, 5])
        self.assertEqual((self.outbox.unsent, self.outbox.empty), (0, True))

    def test_resume_stops_when_asked_again(self) -> None:
        """The transport may pause after any write."""
        self.outbox.pause()
        for _ in range(3):
            self.put(b"x")
        self.sink.full = True
        self.outbox.resume()
        self.assertEqual(len(self.sink.written), 1)
        self.outbox.resume()
        self.assertEqual(len(self.sink.written), 2)

    def test_pausing_and_resuming_twice(self) -> None:
        """Neither does more than once."""
        self.outbox.pause()
        self.outbox.pause()
        self.put(b"x")
        self.outbox.resume()
        self.outbox.resume()
        self.assertEqual(self.frames(), [b"x"])

    def test_withdraw(self) -> None:
        """A frame that nobody needs any more does not go out, large or small."""
        self.outbox.pause()
        self.put(b"keep")
        self.put(b"small", 7)
        self.put(b"L" * 9000, 8)
        self.assertTrue(self.outbox.withdraw(7))
        self.assertTrue(self.outbox.withdraw(8))
        self.assertEqual(self.outbox.unsent, 4 + KEPT)
        self.outbox.resume()
        self.assertEqual(self.frames(), [b"keep"])

    def test_withdraw_comes_too_late(self) -> None:
        """A frame that has begun stays, and unknown ones are told apart."""
        self.sink.full = True
        self.put(b"L" * (2 * PIECE), 7)
        self.assertFalse(self.outbox.withdraw(7))
        self.assertFalse(self.outbox.withdraw(99))
        self.outbox.resume()
        self.assertEqual(len(self.frames()), 1)

    def test_clear(self) -> None:
        """The connection is gone: nothing is held or written any more."""
        self.sink.full = True
        self.put(b"L" * (2 * PIECE))
        self.put(b"x")
        before = len(self.sink.written)
        self.outbox.clear()
        self.outbox.resume()
        self.put(b"after")
        self.assertEqual(len(self.sink.written), before)
        self.assertEqual((self.outbox.unsent, self.budget.used, self.outbox.empty), (0, 0, True))

    @PROPERTY
    @given(
        st.lists(
            st.one_of(
                st.sampled_from([0, 1, URGENT, URGENT + 1, PIECE, PIECE + 1, 3 * PIECE]),
                st.sampled_from(["pause", "resume"]),
            ),
            max_size=30,
        )
    )
    def test_every_frame_arrives_whole(self, steps: list[int | str]) -> None:
        """Whatever is put and paused, each frame goes out once, whole, and
        the count ends at nothing."""
        sink, budget = Sink(), Budget(1 << 30)
        outbox = sink.outbox = Outbox(sink, budget)
        put = []
        for number, step in enumerate(steps):
            if step == "pause":
                outbox.pause()
            elif step == "resume":
                outbox.resume()
            elif isinstance(step, int):
                put.append(bytes([number]) * step)
                outbox.put(frame_header(step), put[-1])
            self.assertEqual(outbox.unsent, budget.used)
            self.assertGreaterEqual(outbox.unsent, 0)
        outbox.resume()
        frames = list(FrameDecoder(FRAME_LIMIT).feed(b"".join(sink.written)))
        self.assertEqual(sorted(frames), sorted(put))
        self.assertEqual((outbox.unsent, outbox.empty), (0, True))
