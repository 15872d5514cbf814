"""Names that tell nothing: folders and resources, by keyed hashes."""

from __future__ import annotations

import unicodedata

from peerstore.crypto.kdf import hmac_sha256
from peerstore.errors import UsageError

__all__ = ["check_folder", "folder_id", "resource_id"]

MAX_FOLDER = 255


def check_folder(name: str) -> str:
    """A folder's NAME, if it can be one: text without control characters and the
    slash that ends it in NAME/path, not empty and at most 255 bytes, and not
    what begins a local path.

    :raises peerstore.errors.UsageError: when it cannot.
    """
    try:
        raw = name.encode()
    except UnicodeEncodeError as error:
        shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        raise UsageError(f"The name {shown} is no text.", "Give it another with --as NAME.") from error
    local = name in (".", "..") or name[:1] == "~"
    control = any(unicodedata.category(char) == "Cc" for char in name)
    if not raw or b"/" in raw or control or local or len(raw) > MAX_FOLDER:
        raise UsageError(
            f"{name!r} cannot be a folder's name.",
            f"Give it one with --as NAME: up to {MAX_FOLDER} bytes, no slash, and not beginning like a local path.",
        )
    return name


def folder_id(name_secret: bytes, name: str) -> bytes:
    """The 16-byte id of the folder that its owner calls *name*."""
    return hmac_sha256(name_secret, b"folder" + name.encode())[:16]


def resource_id(name_secret: bytes, folder: bytes, path: bytes) -> bytes:
    """The 20-byte id, and ring id, of one path in a folder.

    :param folder: 16 bytes, from :func:`folder_id`.
    :param path: raw bytes, "/" between components, relative.
    """
    return hmac_sha256(name_secret, folder + path)[:20]
