"""One tree of errors, each saying what happened and the safe next step.

``str(error)`` is one or two plain sentences for a person.  ``next_step`` is
kept apart so that the command line can set it on its own line.  Nothing here
carries keys, names of files or contents except where the person who reads it
owns them.
"""

from __future__ import annotations

__all__ = [
    "BadMessage",
    "Busy",
    "Conflict",
    "ConnectionLost",
    "CorruptData",
    "DataRefused",
    "DiskFull",
    "FrameTooLarge",
    "HostRetired",
    "Incomplete",
    "KeyFileError",
    "KeyInUse",
    "LookupFailed",
    "NewerSchema",
    "NotFound",
    "NotReady",
    "PeerError",
    "PeerMismatch",
    "PeerStoreError",
    "PeerTimeout",
    "PeerUnreachable",
    "ProtocolViolation",
    "ReadOnly",
    "RemoteError",
    "RingMismatch",
    "StorageError",
    "UsageError",
]


class PeerStoreError(Exception):
    """The root.  *what* happened, and the safe *next_step* (may be empty)."""

    #: The exit status of a command that ends with this error.
    exit_status = 1

    def __init__(self, what: str, next_step: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.what} {self.next_step}".strip()


class UsageError(PeerStoreError):
    """An option, an address or a path that cannot be what was meant."""

    exit_status = 2


class KeyFileError(UsageError):
    """A key file that is missing, unreadable, too open or no RSA key of ours."""


class PeerError(PeerStoreError):
    """Something between us and one peer: the connection, never its answer."""

    exit_status = 3


class PeerUnreachable(PeerError):
    """No connection could be made (refused, no route, back-off)."""


class PeerTimeout(PeerError):
    """No answer within the deadline; the peer may or may not have acted."""


class ConnectionLost(PeerError):
    """The connection ended with the request in flight; it may have acted."""


class PeerMismatch(PeerError):
    """The peer at the address holds another key than the one we wanted."""


class ProtocolViolation(PeerError):
    """The peer sent what the protocol forbids; the connection is ended."""


class FrameTooLarge(ProtocolViolation):
    """A frame's length field is above the limit of the connection's state."""


class BadMessage(ProtocolViolation):
    """A frame that never becomes whole, or is no sound message when it is."""


class RingMismatch(PeerStoreError):
    """A ring with other settings (copies, virtual nodes) than ours."""


class KeyInUse(PeerStoreError):
    """Another node with our key is at work: a data folder was copied."""

    exit_status = 6


class HostRetired(PeerStoreError):
    """This node was retired from its ring, and takes no part in it any more."""

    exit_status = 6


class LookupFailed(PeerStoreError):
    """The owner of a key could not be found and verified in time."""

    exit_status = 3


class RemoteError(PeerStoreError):
    """A peer answered with a status other than OK.

    *status* is the wire's status number.
    """

    exit_status = 3

    def __init__(self, what: str, next_step: str = "", *, status: int = 0) -> None:
        super().__init__(what, next_step)
        self.status = status


class Busy(RemoteError):
    """The peer's queue is full; try again after *retry_after* seconds."""

    def __init__(self, what: str, next_step: str = "", *, status: int = 0, retry_after: float = 1.0) -> None:
        super().__init__(what, next_step, status=status)
        self.retry_after = retry_after


class NotReady(RemoteError):
    """The peer is not yet (or no longer) a member that may answer this."""


class DataRefused(RemoteError):
    """A node judged an item and does not take it (hash, claim, shape)."""


class NotFound(PeerStoreError):
    """A complete look found nothing under that name."""

    exit_status = 4


class Incomplete(PeerStoreError):
    """Too few copies answered to be sure: the result may be behind."""

    exit_status = 5


class Conflict(PeerStoreError):
    """Another writer was there first, and guessing would lose something."""

    exit_status = 6


class StorageError(PeerStoreError):
    """Something about a disk."""

    exit_status = 7


class DiskFull(StorageError):
    """No room; nothing of the write in question was kept."""


class ReadOnly(StorageError):
    """The folder or file system does not take writes."""


class CorruptData(StorageError):
    """Bytes on disk are not what was written; they are never served."""


class NewerSchema(StorageError):
    """The folder was written by a newer program; it is left untouched."""
