"""RSA keys in PEM files: who a node or a user is.

3072 bits unless asked otherwise, 2048 to 4096 accepted, e = 65537 only
(reference: RFC 8017).  A private key file belongs to one account: it is made
with mode 0600 and refused when others can read it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from Crypto import PassphraseRequiredError
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
        """The key in a PEM file, PKCS#8 or PKCS#1.

        :raises peerstore.errors.KeyFileError: when it is missing, can be
            read by others, or holds anything but an RSA key that we accept.
        """
        try:
            pem = _read(path, 0o077)
        except FileNotFoundError as error:
            raise KeyFileError(f"There is no key file {path}.", "Check the path.") from error
        except OSError as error:
            raise KeyFileError(f"The key file {path} cannot be read ({error.strerror}).", "Check its owner.") from error
        try:
            # Anything else is taken for PEM only: the library reads much more.
            key = RSA.import_key(pem.strip()) if pem.lstrip().startswith(b"-----BEGIN ") else None
        except PassphraseRequiredError as error:
            raise KeyFileError(
                f"The key in {path} is protected by a passphrase, and this version cannot ask for it.",
                f"Name a copy without one; to make it: openssl pkey -in {shlex.quote(str(path))} -out COPY",
            ) from error
        except (ValueError, IndexError, TypeError) as error:
            raise _no_key(path) from error
        if key is None:
            raise _no_key(path)
        if not key.has_private():
            raise KeyFileError(f"{path} holds a public key only.", "Name the private key's file.")
        check_public(key, str(path))
        if max(int(key.p), int(key.q)).bit_length() > 8 * _prime_bytes(key):
            raise KeyFileError(f"The primes of the key in {path} differ too much in size.", "Make a new key.")
        return cls(key)

    @classmethod
    def load_or_create(cls, path: Path, public_path: Path | None = None, bits: int = DEFAULT_BITS) -> KeyPair:
        """The key in *path*, made and kept there when there is none yet.

        *public_path* gets the public half, for others to take along.

        :raises peerstore.errors.KeyFileError: as :meth:`load` and :meth:`save`.
        """
        if not os.path.lexists(path):
            made = cls.generate(bits)
            # Somebody else may have made one meanwhile: then that is the key.
            with _told(path), contextlib.suppress(FileExistsError):
                _write(path, made._private_pem(), 0o600, os.link)
        pair = cls.load(path)
        if public_path is not None:
            with _told(public_path):
                pair._keep_public(public_path)
        return pair

    def save(self, path: Path) -> None:
        """Keep the private key in a new file, mode 0600.

        :raises peerstore.errors.KeyFileError: when there is a file already:
            a key is never written over.
        """
        with _told(path):
            _write(path, self._private_pem(), 0o600, os.link)

    def public_pem(self) -> bytes:
        """The public half in PEM."""
        pem: bytes = self._key.public_key().export_key("PEM")
        return pem + b"\n"

    def root_secret(self) -> bytes:
        """32 bytes that follow from the key alone: who has the PEM has
        everything, also without a ring.  HKDF(min(p, q) || max(p, q)), each
        of them half as long as the modulus."""
        width = _prime_bytes(self._key)
        low, high = sorted((int(self._key.p), int(self._key.q)))
        return hkdf(low.to_bytes(width, "big") + high.to_bytes(width, "big"), b"peerstore/v1 root")

    def _private_pem(self) -> bytes:
        pem: bytes = self._key.export_key("PEM", pkcs=8)
        return pem + b"\n"

    def _keep_public(self, path: Path) -> None:
        """Unlike the private half, an old one is replaced: it follows from
        the key, and one that does not would only mislead others."""
        pem = self.public_pem()
        try:
            there = _read(path, 0)
        except FileNotFoundError:
            there = b""
        if there != pem:
            _write(path, pem, 0o644, os.replace)


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


def _prime_bytes(key: RSA.RsaKey) -> int:
    return (int(key.size_in_bits()) + 15) // 16


def _no_key(path: Path) -> KeyFileError:
    return KeyFileError(
        f"{path} holds no RSA key that can be read.", "Name a file with an RSA private key in PEM (PKCS#8 or PKCS#1)."
    )


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """A disk's refusal, in our words."""
    try:
        yield
    except OSError as error:
        raise KeyFileError(f"The key file {path} cannot be written ({error.strerror}).", "Check the folder.") from error


def _read(path: Path, forbidden: int) -> bytes:
    """A key file's bytes, if it looks like one before anything is read.

    :param forbidden: mode bits that it must not have.
    :raises OSError: when it cannot be opened.
    """
    # A pipe is opened without waiting for its other end, and then refused.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE:
            raise KeyFileError(f"{path} is no key file.", "Name a PEM file with an RSA private key.")
        if status.st_mode & forbidden:
            raise KeyFileError(f"Others can read the private key {path}.", f"Run: chmod 600 {shlex.quote(str(path))}")
        data = b""
        while piece := os.read(descriptor, MAX_FILE + 1 - len(data)):
            data += piece
        return data
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes, mode: int, place: Callable[[Path, Path], None]) -> None:
    """Bring *data* onto the disk under a name that nobody else uses, and then
    *place* it: ``os.link`` refuses a name that is taken, ``os.replace`` does
    not.  Folders that are missing are made, for their owner only."""
    _make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        place(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    _sync_folder(path.parent)


def _make_folder(path: Path) -> None:
    missing = [folder for folder in (path.absolute(), *path.absolute().parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
