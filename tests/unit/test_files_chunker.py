"""Content-defined cuts: where they are, and that they stay there."""

from __future__ import annotations

import itertools
import json
import random
import threading
import tracemalloc
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from peerstore.files.chunker import AVERAGE, MAXIMUM, MINIMUM, Chunker
from tests.support.streams import ByteStream, noise

VECTORS = Path(__file__).parent.parent / "vectors" / "chunker.json"
MIB = 1024 * 1024
SEED = 0x0123456789ABCDEF


def cut(data: bytes, seed: int = SEED, **stream: Any) -> list[bytes]:
    """All chunks of *data*."""
    return list(Chunker(seed).split(ByteStream(data, **stream)))


def lengths(data: bytes, seed: int = SEED) -> list[int]:
    """How long they are."""
    return [len(chunk) for chunk in cut(data, seed)]


class FrozenTests(SynchronousTestCase):
    """``tests/vectors/chunker.json``: a new library must cut as the old one,
    or every backup sends everything again."""

    def test_cut_points(self) -> None:
        """The same input and seed, the same cuts."""
        vectors = json.loads(VECTORS.read_text())
        self.assertGreater(len(vectors["cuts"]), 3)
        for case in vectors["cuts"]:
            data = noise(case["input"], case["size"])
            found = list(itertools.accumulate(lengths(data, int(case["seed"], 16))))
            self.assertEqual(found, case["ends"], case)

    def test_limits(self) -> None:
        """256 KiB, 1 MiB, 4 MiB."""
        self.assertEqual((MINIMUM, AVERAGE, MAXIMUM), (256 * 1024, MIB, 4 * MIB))


class CutTests(SynchronousTestCase):
    """What a cut depends on."""

    def setUp(self) -> None:
        self.data = noise("cuts", 12 * MIB)
        self.chunks = cut(self.data)

    def test_nothing_is_lost(self) -> None:
        """The chunks in order are the stream."""
        self.assertEqual(b"".join(self.chunks), self.data)

    def test_sizes_are_within_bounds(self) -> None:
        """Only the last may be shorter."""
        self.assertTrue(all(MINIMUM <= len(chunk) <= MAXIMUM for chunk in self.chunks[:-1]))
        self.assertTrue(0 < len(self.chunks[-1]) <= MAXIMUM)
        self.assertGreater(len(self.chunks), 4)

    def test_short_reads_change_nothing(self) -> None:
        """A pipe gives what it has; the cuts are the content's."""
        rng = random.Random(7)
        self.assertEqual(cut(self.data, most=lambda asked: rng.randrange(1, 200_000)), self.chunks)

    def test_a_byte_at_a_time(self) -> None:
        """Even so."""
        data = self.data[: MINIMUM + 3]
        self.assertEqual(cut(data, most=lambda asked: 1), cut(data))

    def test_another_seed_cuts_elsewhere(self) -> None:
        """Where somebody's chunks are cut tells others nothing."""
        ends, others = (set(itertools.accumulate(lengths(self.data, seed))) for seed in (SEED, SEED + 2))
        self.assertEqual(ends & others, {len(self.data)})

    def test_any_seed_of_64_bits(self) -> None:
        """The largest and the smallest are seeds like others."""
        for seed in (0, 1, (1 << 63), (1 << 64) - 1):
            self.assertEqual(sum(lengths(self.data[:MIB], seed)), MIB)

    def test_one_chunker_for_many_streams_at_once(self) -> None:
        """Streams that are split in different threads do not disturb each other."""
        chunker = Chunker(SEED)
        results: dict[int, list[bytes]] = {}

        def work(number: int) -> None:
            results[number] = list(chunker.split(ByteStream(self.data[number:])))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number, chunks in results.items():
            self.assertEqual(chunks, cut(self.data[number:]))

    def test_what_does_not_vary_is_cut_at_the_maximum(self) -> None:
        """Zeros have no content to cut by."""
        self.assertEqual(lengths(bytes(9 * MIB)), [MAXIMUM, MAXIMUM, MIB])

    def test_small_streams(self) -> None:
        """None for an empty one, one for a small one."""
        self.assertEqual(cut(b""), [])
        for size in (1, 2, MINIMUM - 1, MINIMUM):
            self.assertEqual(lengths(self.data[:size]), [size])

    def test_an_error_of_the_stream_is_the_readers(self) -> None:
        """It is not taken for the end."""

        class Broken:
            def read(self, size: int, /) -> bytes:
                raise OSError("the disk is gone")

        self.assertRaises(OSError, list, Chunker(SEED).split(Broken()))


class ShiftTests(SynchronousTestCase):
    """Ten bytes more do not make everything new."""

    def test_bytes_put_in_at_the_start(self) -> None:
        """All but the first few chunks are chunks that were there before."""
        data = noise("shift", 24 * MIB)
        before, after = set(cut(data)), cut(b"ten bytes!" + data)
        new = [chunk for chunk in after if chunk not in before]
        self.assertLessEqual(sum(map(len, new)), 6 * MIB)
        self.assertGreater(len(after) - len(new), 10)

    def test_bytes_taken_out_in_the_middle(self) -> None:
        """The chunks before are as they were, and those some way behind."""
        data = noise("shift", 24 * MIB)
        before, after = cut(data), cut(data[: 12 * MIB] + data[12 * MIB + 100 :])
        new = [chunk for chunk in after if chunk not in set(before)]
        self.assertLessEqual(sum(map(len, new)), 8 * MIB)
        self.assertEqual(after[0], before[0])
        self.assertEqual(after[-1], before[-1])


class MemoryTests(SynchronousTestCase):
    """However long the stream."""

    def test_it_is_bounded(self) -> None:
        """Less than three chunks of the largest size, whatever is read."""

        class Endless:
            left = 64
            piece = noise("memory", MIB)

            def read(self, size: int, /) -> bytes:
                Endless.left -= 1
                return self.piece[:size] if Endless.left >= 0 else b""

        tracemalloc.start()
        try:
            total = sum(len(chunk) for chunk in Chunker(SEED).split(Endless()))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        self.assertGreater(total, 6 * MAXIMUM)
        self.assertLess(peak, 3 * MAXIMUM)

    def test_no_read_is_larger_than_a_chunk(self) -> None:
        """A stream is never asked for more than can be held."""
        stream = ByteStream(noise("reads", 6 * MIB))
        for _ in Chunker(SEED).split(stream):
            pass
        self.assertLessEqual(stream.largest, MAXIMUM)
