"""What follows from a user's key, label by label."""

from __future__ import annotations

import hmac

from twisted.trial.unittest import SynchronousTestCase

from peerstore.crypto.secrets import NO_EPOCH, UserSecrets
from tests.support.vectors import frozen

ROOT = bytes(range(32))


def expanded(label: bytes, length: int) -> bytes:
    """HKDF (RFC 5869) by the definition, up to 32 bytes."""
    prk = hmac.digest(bytes(32), ROOT, "sha256")
    return hmac.digest(prk, label + b"\x01", "sha256")[:length]


class SecretsTests(SynchronousTestCase):
    """All of them, from the root secret."""

    def setUp(self) -> None:
        self.secrets = UserSecrets.from_root(ROOT)

    def test_each_has_a_label_of_its_own(self) -> None:
        """By the definition of HKDF, with the labels written out."""
        self.assertEqual(self.secrets.root, ROOT)
        self.assertEqual(self.secrets.chunk, expanded(b"peerstore/v1 chunk", 32))
        self.assertEqual(self.secrets.name, expanded(b"peerstore/v1 name", 32))
        self.assertEqual(self.secrets.log, expanded(b"peerstore/v1 log", 32))
        self.assertEqual(self.secrets.chunker_seed, int.from_bytes(expanded(b"peerstore/v1 chunker", 8), "big"))

    def test_a_files_key(self) -> None:
        """By label, resource and epoch."""
        resource, epoch = b"\x01" * 20, b"\x02" * 16
        key = self.secrets.file_key(resource, epoch)
        self.assertEqual(key, expanded(b"peerstore/v1 file" + resource + epoch, 32))
        self.assertEqual(self.secrets.file_key(resource), self.secrets.file_key(resource, bytes(16)))

    def test_each_file_and_each_epoch_has_another(self) -> None:
        """Nothing that was shared opens anything else."""
        keys = {
            self.secrets.file_key(resource, epoch)
            for resource in (b"\x01" * 20, b"\x02" * 20)
            for epoch in (NO_EPOCH, b"\x01" * 16)
        }
        self.assertEqual(len(keys), 4)

    def test_lengths_are_fixed(self) -> None:
        """A longer resource with a shorter epoch would be another file's key."""
        for resource, epoch in ((b"x" * 19, b"y" * 17), (b"x" * 21, b"y" * 15), (b"", NO_EPOCH), (b"x" * 20, b"")):
            self.assertRaises(ValueError, self.secrets.file_key, resource, epoch)

    def test_they_are_not_shown(self) -> None:
        """Neither in text nor in a log line."""
        for text in (repr(self.secrets), str(self.secrets), f"{self.secrets}", f"{[self.secrets]}"):
            self.assertIn("UserSecrets", text)
            self.assertNotIn("=", text)
            self.assertNotIn("x01", text)

    def test_frozen(self) -> None:
        """``tests/vectors/keys.json``: the test key's root and all below it."""
        for key in frozen("keys")["keys"]:
            secrets = UserSecrets.from_root(bytes.fromhex(key["root"]))
            self.assertEqual(secrets.chunk.hex(), key["chunk"])
            self.assertEqual(secrets.name.hex(), key["name"])
            self.assertEqual(secrets.log.hex(), key["log"])
            self.assertEqual(f"{secrets.chunker_seed:016x}", key["chunker_seed"])
            for resource, epoch, file_key in key["file_keys"]:
                self.assertEqual(secrets.file_key(bytes.fromhex(resource), bytes.fromhex(epoch)).hex(), file_key)
