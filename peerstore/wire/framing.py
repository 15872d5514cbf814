"""Length-prefixed frames::

    +----------------+---------------------------+
    | u32 length, BE | payload, `length` bytes   |
    +----------------+---------------------------+

Twisted's ``Int32StringReceiver`` copies what it has for every chunk that
arrives, which is quadratic in the size of a frame; here every byte is copied
into a buffer and out of it, whatever the chunking, and the buffer grows with
what arrives: a length that is only announced costs no memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from peerstore.errors import FrameTooLarge

__all__ = ["FRAME_LIMIT", "FrameDecoder", "GREETING_LIMIT", "encode_frame", "frame_header"]

#: Until the peer's greeting has arrived.
GREETING_LIMIT = 8 * 1024
#: Afterwards: the largest chunk, its statement, and a message around them.
FRAME_LIMIT = 4 * 1024 * 1024 + 192 * 1024

_LENGTH = struct.Struct(">I")


def frame_header(length: int) -> bytes:
    """The four bytes before a payload of *length* bytes."""
    return _LENGTH.pack(length)


def encode_frame(payload: bytes) -> bytes:
    """One whole frame."""
    return _LENGTH.pack(len(payload)) + payload


class FrameDecoder:
    """Cuts a stream of bytes into frame payloads.

    :param limit: the largest payload accepted; judged on the four length
        bytes, before any of the payload is kept.  May be set between frames:
        a frame that follows in the same chunk is judged by the new limit.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._header = bytearray()
        self._payload = bytearray()
        self._missing = 0

    @property
    def buffered(self) -> int:
        """Bytes of an unfinished frame that are held now."""
        return len(self._header) + len(self._payload)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield each payload that *data* completes.

        The iterator must be used up before the next call.  Payloads are
        ``bytes``; one that arrives within one chunk is copied once, any other
        twice.

        :raises peerstore.errors.FrameTooLarge: the stream is lost, since
            where its next frame starts can no longer be known.
        """
        view = memoryview(data)
        position = 0
        end = len(data)
        while position < end:
            if not self._missing:
                take = min(_LENGTH.size - len(self._header), end - position)
                self._header += view[position : position + take]
                position += take
                if len(self._header) < _LENGTH.size:
                    return
                length = self._length()
                if end - position >= length:
                    self._header.clear()
                    payload = bytes(view[position : position + length])
                    position += length
                    yield payload
                    continue
                self._missing = length
            take = min(self._missing, end - position)
            self._payload += view[position : position + take]
            self._missing -= take
            position += take
            if not self._missing:
                payload = bytes(self._payload)
                self._payload = bytearray()
                self._header.clear()
                yield payload

    def _length(self) -> int:
        length: int = _LENGTH.unpack(self._header)[0]
        if length > self.limit:
            raise FrameTooLarge(f"a frame of {length} bytes was announced, and {self.limit} is the limit here.")
        return length
