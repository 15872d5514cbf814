"""RSA keys in PEM files: who a node or a user is.

3072 bits unless asked otherwise, 2048 to 4096 accepted, e = 65537 only
(reference: RFC 8017).  A private key file belongs to one account: it is made
with mode 0600 and refused when others can read it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from Crypto.PublicKey import RSA

from peerstore import ids
from peerstore.crypto.kdf import hkdf
from peerstore.errors import KeyFileError

__all__ = ["KeyPair", "check_public"]

MIN_BITS, MAX_BITS, DEFAULT_BITS = 2048, 4096, 3072
EXPONENT = 65537
#: The largest key file read; a 4096-bit key takes 3.3 KiB.
MAX_FILE = 16 * 1024


class KeyPair:
    """A private key, its public half, and the ids that come from it.

    :ivar spki: DER SubjectPublicKeyInfo.
    :ivar fp: SHA-256 of it, 32 bytes.
    :ivar id: SHA-1 of it, 20 bytes.
    """

    def __init__(self, key: RSA.RsaKey) -> None:
        self._key = key
        self.spki: bytes = key.public_key().export_key("DER")
        self.fp = ids.fingerprint(self.spki)
        self.id = ids.key_id(self.spki)

    @classmethod
    def generate(cls, bits: int = DEFAULT_BITS) -> KeyPair:
        """A new key; takes a second or several, so call it in a thread.

        :raises peerstore.errors.KeyFileError: for a size outside 2048..4096.
        """
        if not MIN_BITS <= bits <= MAX_BITS:
            raise KeyFileError(f"A key of {bits} bits is not accepted.", f"Use {MIN_BITS} to {MAX_BITS}.")
        return cls(RSA.generate(bits, e=EXPONENT))

    @classmethod
    def load(cls, path: Path) -> KeyPair:
        """The key in a PEM file.

        :raises peerstore.errors.KeyFileError: when it is missing, can be
            read by others, or holds anything but an RSA key that we accept.
        """
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                pem = file.read(MAX_FILE + 1)
        except FileNotFoundError as error:
            raise KeyFileError(f"There is no key file {path}.", "Check the path.") from error
        except OSError as error:
            raise KeyFileError(f"The key file {path} cannot be read ({error.strerror}).", "Check its owner.") from error
        if not stat.S_ISREG(status.st_mode) or len(pem) > MAX_FILE:
            raise KeyFileError(f"{path} is no key file.", "Name a PEM file with an RSA private key.")
        if status.st_mode & 0o077:
            raise KeyFileError(f"Others can read the private key {path}.", f"Run: chmod 600 {path}")
        try:
            key = RSA.import_key(pem)
        except (ValueError, IndexError, TypeError) as error:
            raise KeyFileError(
                f"{path} holds no RSA key that can be read.", "Name a PEM file without passphrase."
            ) from error
        if not key.has_private():
            raise KeyFileError(f"{path} holds a public key only.", "Name the private key's file.")
        check_public(key, str(path))
        return cls(key)

    @classmethod
    def load_or_create(cls, path: Path, public_path: Path | None = None, bits: int = DEFAULT_BITS) -> KeyPair:
        """The key in *path*, made and kept there when there is none yet.

        *public_path* gets the public half, for others to take along.
        """
        if path.exists() or path.is_symlink():
            pair = cls.load(path)
        else:
            pair = cls.generate(bits)
            pair.save(path)
        if public_path is not None and not public_path.exists():
            _write_new(public_path, pair.public_pem(), 0o644)
        return pair

    def save(self, path: Path) -> None:
        """Keep the private key in a new file, mode 0600.

        :raises peerstore.errors.KeyFileError: when there is a file already:
            a key is never written over.
        """
        _write_new(path, self._key.export_key("PEM", pkcs=8), 0o600)

    def public_pem(self) -> bytes:
        """The public half in PEM."""
        pem: bytes = self._key.public_key().export_key("PEM")
        return pem + b"\n"

    def root_secret(self) -> bytes:
        """32 bytes that follow from the key alone: who has the PEM has
        everything, also without a ring.  HKDF(min(p, q) || max(p, q))."""
        width = (self._key.size_in_bits() + 15) // 16
        low, high = sorted((int(self._key.p), int(self._key.q)))
        return hkdf(low.to_bytes(width, "big") + high.to_bytes(width, "big"), b"peerstore/v1 root")


def check_public(key: RSA.RsaKey, where: str) -> None:
    """Refuse sizes and exponents that we do not accept.

    :raises peerstore.errors.KeyFileError: naming *where* it came from.
    """
    if not MIN_BITS <= key.size_in_bits() <= MAX_BITS:
        raise KeyFileError(
            f"The key in {where} has {key.size_in_bits()} bits.", f"{MIN_BITS} to {MAX_BITS} are accepted."
        )
    if int(key.e) != EXPONENT:
        raise KeyFileError(f"The key in {where} has an unusual public exponent.", f"Only {EXPONENT} is accepted.")


def _write_new(path: Path, data: bytes, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            os.write(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        # link() refuses an existing name, where rename() would replace a key.
        os.link(temporary, path)
        temporary.unlink()
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise KeyFileError(f"The key file {path} cannot be written ({error.strerror}).", "Check the folder.") from error
