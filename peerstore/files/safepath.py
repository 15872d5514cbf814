"""Which paths we take from others: names are bytes, and few are refused."""

from __future__ import annotations

from peerstore.errors import BadMessage

__all__ = ["MAX_DEPTH", "RESERVED", "check_name", "check_path", "is_safe"]

#: Names that begin like this are ours, in every folder.
RESERVED = b".peerstore-"
MAX_NAME = 255
MAX_PATH = 4096
MAX_DEPTH = 256


def check_name(name: bytes) -> None:
    """Refuse a component that could mean something other than itself.

    :raises peerstore.errors.BadMessage: for the empty name, ``.``, ``..``,
        a slash or NUL inside, over 255 bytes, and our own prefix.
    """
    if not name or name in (b".", b"..") or b"/" in name or b"\0" in name:
        raise BadMessage("a stored name is no name of a file.")
    if len(name) > MAX_NAME:
        raise BadMessage("a stored name is longer than file systems take.")
    if name.startswith(RESERVED):
        raise BadMessage("a stored name is one of our own.")


def check_path(path: bytes) -> tuple[bytes, ...]:
    """The components of a relative path; the empty path is the folder itself.

    :raises peerstore.errors.BadMessage: when any component is refused, or
        there are too many.
    """
    if not path:
        return ()
    if len(path) > MAX_PATH:
        raise BadMessage("a stored path is longer than systems take.")
    parts = tuple(path.split(b"/"))
    if len(parts) > MAX_DEPTH:
        raise BadMessage("a stored path is too deep.")
    for part in parts:
        check_name(part)
    return parts


def is_safe(path: bytes) -> bool:
    """Whether :func:`check_path` would take it."""
    try:
        check_path(path)
    except BadMessage:
        return False
    return True
