"""What a copy of a file is called whose edit crossed with another.

The name says which device wrote the copy and which content it is, so that
whoever settles the same conflict, wherever and however often, gives the same
content the same name: there is one copy, not one for each computer.
"""

from __future__ import annotations

from collections.abc import Iterable

from peerstore import ids
from peerstore.files.safepath import MAX_NAME

__all__ = ["conflict_name", "has_copy"]

#: An ending longer than this is no ending that a program goes by.
MAX_ENDING = 16
_MARK = b".conflict-"


def conflict_name(path: bytes, device: bytes, sha256: bytes, number: int = 1) -> bytes:
    """``notes.txt`` as ``notes.conflict-DEVICE-CONTENT.txt``, beside it.

    :param device: who wrote the content (16 bytes).
    :param sha256: of the content.
    :param number: from 2 on it is appended, for a name that is taken.
    """
    folder, slash, name = path.rpartition(b"/")
    stem, ending = _split(name)
    mark = _MARK + ids.short(device).encode() + b"-" + ids.short(sha256).encode()
    if number > 1:
        mark += b"-%d" % number
    return folder + slash + _cut(stem, MAX_NAME - len(mark) - len(ending)) + mark + ending


def has_copy(path: bytes, sha256: bytes, names: Iterable[bytes]) -> bool:
    """Whether one of *names* is a copy of *path* with this content, whoever
    is said to have written it."""
    folder, slash, name = path.rpartition(b"/")
    stem, ending = _split(name)
    mark_length = len(conflict_name(b"", bytes(16), sha256))
    start = folder + slash + _cut(stem, MAX_NAME - mark_length - len(ending)) + _MARK
    end = b"-" + ids.short(sha256).encode() + ending
    length = len(start) - len(_MARK) + mark_length + len(ending)
    return any(len(other) == length and other.startswith(start) and other.endswith(end) for other in names)


def _split(name: bytes) -> tuple[bytes, bytes]:
    """(stem, ending with its dot); a leading dot begins no ending."""
    stem, dot, ending = name.rpartition(b".")
    if not stem.strip(b".") or len(ending) > MAX_ENDING:
        return name, b""
    return stem, dot + ending


def _cut(stem: bytes, length: int) -> bytes:
    """At most *length* bytes, without half a character at the end."""
    if len(stem) <= length:
        return stem
    while length > 0 and stem[length] & 0xC0 == 0x80:
        length -= 1
    return stem[:length]
