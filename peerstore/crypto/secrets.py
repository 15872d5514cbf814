"""What follows from a user's root secret, label by label."""

from __future__ import annotations

from typing import NamedTuple

from peerstore.crypto.kdf import hkdf

__all__ = ["NO_EPOCH", "UserSecrets"]

#: The epoch of everything that was never unshared.
NO_EPOCH = bytes(16)


class UserSecrets(NamedTuple):
    """A user's secrets, 32 bytes each unless said otherwise, and never shown.

    *chunker_seed* is an unsigned 64-bit number: where a user's chunks are
    cut tells others nothing about what was cut.
    """

    root: bytes
    chunk: bytes
    name: bytes
    log: bytes
    chunker_seed: int

    @classmethod
    def from_root(cls, root: bytes) -> UserSecrets:
        """All of them, from ``KeyPair.root_secret()``."""
        return cls(
            root,
            hkdf(root, b"peerstore/v1 chunk"),
            hkdf(root, b"peerstore/v1 name"),
            hkdf(root, b"peerstore/v1 log"),
            int.from_bytes(hkdf(root, b"peerstore/v1 chunker", 8), "big"),
        )

    def __repr__(self) -> str:
        return "<UserSecrets>"

    def file_key(self, resource: bytes, epoch: bytes = NO_EPOCH) -> bytes:
        """The key of one file (20-byte resource id) in one 16-byte epoch.

        :raises ValueError: for other lengths: two files might share a key.
        """
        if len(resource) != 20 or len(epoch) != len(NO_EPOCH):
            raise ValueError("a file's key follows from 20 bytes of resource id and 16 of epoch")
        return hkdf(self.root, b"peerstore/v1 file" + resource + epoch)
