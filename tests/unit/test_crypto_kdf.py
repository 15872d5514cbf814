"""Key derivation and keyed hashes, against the published vectors."""

from __future__ import annotations

import hashlib
import hmac

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore.crypto.kdf import hkdf, hmac_sha256
from tests.support.properties import check

#: RFC 5869, appendix A.1 to A.3: secret, salt, info, length, output.
RFC_5869 = (
    (
        b"\x0b" * 22,
        bytes(range(13)),
        bytes(range(0xF0, 0xFA)),
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x50)),
        bytes(range(0x60, 0xB0)),
        bytes(range(0xB0, 0x100)),
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
        "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    (b"\x0b" * 22, b"", b"", "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"),
)

#: RFC 4231, section 4.2 to 4.8: key, data, output (4.6 is truncated there).
RFC_4231 = (
    (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    (b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    (bytes(range(1, 26)), b"\xcd" * 50, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
    (b"\x0c" * 20, b"Test With Truncation", "a3b6167473100ee06e0c796c2955552b"),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    (
        b"\xaa" * 131,
        b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be"
        b" hashed before being used by the HMAC algorithm.",
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    ),
)


class HkdfTests(SynchronousTestCase):
    """RFC 5869 with SHA-256."""

    def test_published_vectors(self) -> None:
        """Appendix A.1, A.2 and A.3."""
        for secret, salt, info, output in RFC_5869:
            self.assertEqual(hkdf(secret, info, len(output) // 2, salt).hex(), output)

    def test_32_bytes_unless_said_otherwise(self) -> None:
        """And shorter output is the start of longer."""
        self.assertEqual(hkdf(b"secret", b"label"), hkdf(b"secret", b"label", 64)[:32])

    def test_labels_part(self) -> None:
        """One secret, two purposes: nothing in common."""
        self.assertNotEqual(hkdf(b"secret", b"one")[:8], hkdf(b"secret", b"two")[:8])

    @check(st.binary(min_size=1, max_size=80), st.binary(max_size=80), st.binary(max_size=80), st.integers(1, 100))
    def test_by_the_definition(self, secret: bytes, label: bytes, salt: bytes, length: int) -> None:
        """Extract, then expand, with another library's HMAC."""
        prk = hmac.digest(salt or bytes(32), secret, "sha256")
        block, output = b"", b""
        for count in range(1, 5):
            block = hmac.digest(prk, block + label + bytes([count]), "sha256")
            output += block
        self.assertEqual(hkdf(secret, label, length, salt), output[:length])


class HmacTests(SynchronousTestCase):
    """RFC 2104 with SHA-256."""

    def test_published_vectors(self) -> None:
        """RFC 4231, all seven; ours is never truncated."""
        for key, data, output in RFC_4231:
            self.assertEqual(hmac_sha256(key, data).hex()[: len(output)], output)
            self.assertEqual(len(hmac_sha256(key, data)), 32)

    @check(st.binary(max_size=200), st.binary(max_size=200))
    def test_as_the_standard_library_has_it(self, key: bytes, data: bytes) -> None:
        """For any key and data."""
        self.assertEqual(hmac_sha256(key, data), hmac.new(key, data, hashlib.sha256).digest())
