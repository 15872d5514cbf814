"""Names that tell nothing: folders and resources, by keyed hashes."""

from __future__ import annotations

from peerstore.crypto.kdf import hmac_sha256

__all__ = ["folder_id", "resource_id"]


def folder_id(name_secret: bytes, name: str) -> bytes:
    """The 16-byte id of the folder that its owner calls *name*."""
    return hmac_sha256(name_secret, b"folder" + name.encode("utf-8", "surrogateescape"))[:16]


def resource_id(name_secret: bytes, folder: bytes, path: bytes) -> bytes:
    """The 20-byte id, and ring id, of one path in a folder.

    :param folder: 16 bytes, from :func:`folder_id`.
    :param path: raw bytes, "/" between components, relative.
    """
    return hmac_sha256(name_secret, folder + path)[:20]
