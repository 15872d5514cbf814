"""Key derivation and keyed hashes."""

from __future__ import annotations

from Crypto.Hash import HMAC, SHA256
from Crypto.Protocol.KDF import HKDF

__all__ = ["hkdf", "hmac_sha256"]


def hkdf(secret: bytes, label: bytes, length: int = 32, salt: bytes = b"") -> bytes:
    """*length* bytes that follow from *secret*, for one purpose (RFC 5869,
    with SHA-256; *label* is its info)."""
    derived = HKDF(secret, length, salt, SHA256, 1, label)
    assert isinstance(derived, bytes)
    return derived


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    """HMAC-SHA-256 (RFC 2104), all 32 bytes."""
    digest: bytes = HMAC.new(key, data, SHA256).digest()
    return digest
