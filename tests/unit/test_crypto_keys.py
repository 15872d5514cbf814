"""Key files: made once, for one account, and never guessed at."""

from __future__ import annotations

import errno
import hmac
import os
import stat
import threading
from pathlib import Path
from typing import Any

from Crypto.PublicKey import ECC, RSA
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.crypto.keys import DEFAULT_BITS, KeyPair, check_public
from peerstore.errors import KeyFileError
from tests.support.properties import check
from tests.support.storage import PATIENCE
from tests.support.vectors import frozen, test_key

PEM = test_key()
KEY = RSA.import_key(PEM.strip())


def fixed(key: RSA.RsaKey = KEY) -> Any:
    """A ``generate`` that takes no time."""
    return classmethod(lambda cls, bits=DEFAULT_BITS: cls(key))


def unusual() -> list[tuple[str, RSA.RsaKey]]:
    """(the word that says why, key) of sound keys that are not accepted."""
    found = []
    for key in frozen("refused_keys")["keys"]:
        p, q, e = int(key["p"], 16), int(key["q"], 16), key["e"]
        numbers = (p * q, e, pow(e, -1, (p - 1) * (q - 1)), p, q)
        found.append((key["why"], RSA.construct(numbers, consistency_check=False)))
    return found


class KeyTestCase(SynchronousTestCase):
    """A folder for key files."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = self.folder / "key.pem"

    def put(self, data: bytes, mode: int = 0o600, name: str = "key.pem") -> Path:
        """A file in it."""
        path = self.folder / name
        path.write_bytes(data)
        path.chmod(mode)
        return path

    def refused(self, path: Path, *words: str) -> KeyFileError:
        """Why a file is not loaded: in words, naming it, with a next step."""
        with self.assertRaises(KeyFileError) as caught:
            KeyPair.load(path)
        error = caught.exception
        self.assertIn(str(path), error.what)
        self.assertTrue(error.next_step)
        for word in words:
            self.assertIn(word, str(error))
        return error

    def left(self) -> list[str]:
        """What is in the folder."""
        return sorted(os.listdir(self.folder))


class FrozenTests(KeyTestCase):
    """``tests/vectors/keys.json``: who a key is never changes."""

    def test_ids(self) -> None:
        """SPKI, fingerprint, id, log and positions of each test key."""
        keys = frozen("keys")["keys"]
        self.assertEqual(len(keys), 2)
        for key in keys:
            pair = KeyPair.load(self.put(test_key(key["bits"])))
            self.assertEqual(pair.spki.hex(), key["spki"])
            self.assertEqual((pair.fp.hex(), pair.id.hex()), (key["fp"], key["id"]))
            self.assertEqual(ids.log_ring_id(pair.spki).hex(), key["log_id"])
            self.assertEqual([f"{ids.position_id(pair.spki, at):040x}" for at in range(3)], key["positions"])

    def test_root_secret(self) -> None:
        """Everything that a user stored follows from it."""
        for key in frozen("keys")["keys"]:
            pair = KeyPair.load(self.put(test_key(key["bits"])))
            self.assertEqual(pair.root_secret().hex(), key["root"])


class RootTests(KeyTestCase):
    """The root secret follows from the key, not from its file."""

    def test_by_the_definition(self) -> None:
        """HKDF of both primes, the smaller first, each half the modulus long."""
        for bits, width in ((2048, 128), (2049, 129)):
            key = RSA.import_key(test_key(bits).strip())
            low, high = sorted((int(key.p), int(key.q)))
            prk = hmac.digest(bytes(32), low.to_bytes(width, "big") + high.to_bytes(width, "big"), "sha256")
            self.assertEqual(KeyPair(key).root_secret(), hmac.digest(prk, b"peerstore/v1 root\x01", "sha256"))

    def test_the_order_of_the_primes_does_not_matter(self) -> None:
        """Another tool may write them the other way round."""
        other = RSA.construct((KEY.n, KEY.e, KEY.d, KEY.q, KEY.p))
        self.assertNotEqual(other.p, KEY.p)
        self.assertEqual(KeyPair(other).root_secret(), KeyPair(KEY).root_secret())

    def test_nor_does_the_form_of_the_file(self) -> None:
        """PKCS#1, PKCS#8, line ends of another system, blank lines around."""
        for pem in (
            KEY.export_key("PEM", pkcs=8),
            KEY.export_key("PEM", pkcs=1),
            PEM.replace(b"\n", b"\r\n"),
            b"\n\n" + PEM + b"\n\n",
        ):
            pair = KeyPair.load(self.put(pem))
            self.assertEqual((pair.id, pair.root_secret()), (KeyPair(KEY).id, KeyPair(KEY).root_secret()))


class AcceptTests(KeyTestCase):
    """Sizes and exponents."""

    def test_what_is_accepted(self) -> None:
        """2048 bits and more, also an odd number of them."""
        for bits in (2048, 2049):
            self.assertEqual(KeyPair.load(self.put(test_key(bits))).spki[:2], b"\x30\x82")

    def test_what_is_not(self) -> None:
        """Too short, too long, an unusual exponent; and primes so different in
        size that no root secret follows: when it is read, not when it is used."""
        reasons = []
        for why, key in unusual():
            self.refused(self.put(key.export_key("PEM")), why)
            reasons.append((key.size_in_bits(), why))
        self.assertEqual(
            reasons, [(1024, "bits"), (2046, "bits"), (4098, "bits"), (2048, "exponent"), (2048, "primes")]
        )

    def test_check_public_judges_public_keys_too(self) -> None:
        """By the same rules, naming where it came from."""
        check_public(KEY.public_key(), "there")
        for _, key in unusual()[:4]:
            with self.assertRaises(KeyFileError) as caught:
                check_public(key.public_key(), "there")
            self.assertIn("there", caught.exception.what)

    def test_generated_sizes(self) -> None:
        """Only those are made that would be accepted."""
        made: list[tuple[int, int]] = []

        def generate(bits: int, e: int = 0) -> RSA.RsaKey:
            made.append((bits, e))
            return KEY

        self.patch(RSA, "generate", generate)
        for bits in (0, 1024, 2047, 4097):
            self.assertRaises(KeyFileError, KeyPair.generate, bits)
        for bits in (2048, 4096):
            KeyPair.generate(bits)
        KeyPair.generate()
        self.assertEqual(made, [(2048, 65537), (4096, 65537), (3072, 65537)])

    def test_a_generated_key_comes_back(self) -> None:
        """A real one, through its file."""
        pair = KeyPair.generate(2048)
        pair.save(self.path)
        again = KeyPair.load(self.path)
        self.assertEqual((again.spki, again.root_secret()), (pair.spki, pair.root_secret()))

    def test_it_does_not_show_its_secrets(self) -> None:
        """Nor where it is printed."""
        self.assertNotIn(str(KEY.d)[:12], repr(KeyPair(KEY)) + str(vars(KeyPair(KEY)).keys()))


class RefusalTests(KeyTestCase):
    """What is no key file of ours, each with its reason."""

    def test_others_can_read_it(self) -> None:
        """Group or world, in any way; the command that mends it is given."""
        for mode in (0o640, 0o604, 0o660, 0o601, 0o610, 0o644, 0o777):
            error = self.refused(self.put(PEM, mode), "Others")
            self.assertIn(f"chmod 600 {self.path}", error.next_step)
        for mode in (0o600, 0o400, 0o700):
            self.assertEqual(KeyPair.load(self.put(PEM, 0o600)).spki, KeyPair(KEY).spki)
            self.path.chmod(mode)
            KeyPair.load(self.path)
            self.path.chmod(0o600)

    def test_a_path_with_spaces_can_be_pasted(self) -> None:
        """The command quotes it."""
        error = self.refused(self.put(PEM, 0o644, "my key.pem"))
        self.assertIn(f"'{self.folder}/my key.pem'", error.next_step)

    def test_missing(self) -> None:
        """Also a link to nowhere."""
        self.refused(self.path, "no key file")
        self.path.symlink_to("nowhere")
        self.refused(self.path, "no key file")

    def test_a_link_is_followed_and_its_target_judged(self) -> None:
        """A key may be kept elsewhere; its mode counts."""
        self.path.symlink_to(self.put(PEM, 0o644, "elsewhere").name)
        self.refused(self.path, "Others")
        (self.folder / "elsewhere").chmod(0o600)
        self.assertEqual(KeyPair.load(self.path).spki, KeyPair(KEY).spki)

    def test_folders_pipes_and_devices(self) -> None:
        """Refused at once: a pipe that nobody writes to is not waited for."""
        os.mkfifo(self.path, 0o600)
        self.refused(self.path)
        self.path.unlink()
        self.path.mkdir(0o700)
        self.refused(self.path, "no key file")
        self.refused(Path("/dev/zero"))

    def test_huge_files(self) -> None:
        """Not read."""
        self.put(b"")
        os.truncate(self.path, 1 << 40)
        self.refused(self.path, "no key file")
        self.refused(self.put(PEM + b"\n" * (16 * 1024)), "no key file")

    def test_a_file_that_cannot_be_read(self) -> None:
        """The system's reason is told."""
        self.put(PEM)

        def refuse(*_: Any, **__: Any) -> int:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        self.patch(os, "open", refuse)
        self.refused(self.path, "Permission denied")

    def test_a_public_key(self) -> None:
        """Says what it is."""
        self.refused(self.put(KEY.public_key().export_key("PEM")), "public key only")

    def test_a_passphrase(self) -> None:
        """Says that it is protected, and how to make a copy that is not."""
        for pkcs in (1, 8):
            pem = KEY.export_key("PEM", pkcs=pkcs, passphrase="secret", protection=None if pkcs == 1 else FAST)
            error = self.refused(self.put(pem), "passphrase")
            self.assertIn("openssl pkey", error.next_step)

    def test_other_forms(self) -> None:
        """DER, OpenSSH, another algorithm: named as what they are not."""
        ec = ECC.construct(curve="P-256", d=5)
        for data in (
            KEY.export_key("DER", pkcs=8),
            KEY.export_key("DER", pkcs=1),
            KEY.public_key().export_key("DER"),
            KEY.public_key().export_key("OpenSSH"),
            ec.export_key(format="PEM").encode(),
        ):
            self.refused(self.put(data), "PEM")

    def test_damage(self) -> None:
        """Cut anywhere, or with a character changed, it is no key: a root
        secret that is slightly other would lose everything."""
        body = PEM.strip()
        for end in range(0, len(body), 97):
            self.refused(self.put(body[:end]))
        start, stop = body.index(b"\n") + 1, body.rindex(b"\n")
        for at in range(start, stop, 53):
            if body[at : at + 1] == b"\n":
                continue
            other = b"A" if body[at : at + 1] != b"A" else b"B"
            path = self.put(body[:at] + other + body[at + 1 :])
            try:
                pair = KeyPair.load(path)
            except KeyFileError:
                continue
            # The private exponents for the primes are worked out anew.
            self.assertEqual((pair.spki, pair.root_secret()), (KeyPair(KEY).spki, KeyPair(KEY).root_secret()))

    @check(st.binary(max_size=200), st.booleans())
    def test_garbage(self, data: bytes, pem: bool) -> None:
        """Whatever it is, the reason is one of ours."""
        if pem:
            data = b"-----BEGIN PRIVATE KEY-----\n" + data + b"\n-----END PRIVATE KEY-----\n"
        folder = Path(self.mktemp())
        folder.mkdir()
        path = folder / "key.pem"
        path.write_bytes(data)
        path.chmod(0o600)
        self.assertRaises(KeyFileError, KeyPair.load, path)


#: A protection that takes no time to apply; how strong it is does not matter.
FAST = "PBKDF2WithHMAC-SHA256AndAES256-CBC"


class SaveTests(KeyTestCase):
    """A key is written once."""

    def test_mode_and_content(self) -> None:
        """0600 whatever the umask lets through, PKCS#8, nothing beside it."""
        self.addCleanup(os.umask, os.umask(0))
        KeyPair(KEY).save(self.path)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertTrue(self.path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n"))
        self.assertEqual(self.left(), ["key.pem"])

    def test_never_over_another(self) -> None:
        """A file, a link, even one to nowhere."""
        self.put(b"precious")
        self.assertRaises(KeyFileError, KeyPair(KEY).save, self.path)
        self.assertEqual(self.path.read_bytes(), b"precious")
        self.path.unlink()
        self.path.symlink_to("nowhere")
        self.assertRaises(KeyFileError, KeyPair(KEY).save, self.path)
        self.assertEqual(self.left(), ["key.pem"])

    def test_folders_that_are_missing_are_private(self) -> None:
        """0700 each, whatever the umask."""
        path = self.folder / "a" / "b" / "key.pem"
        KeyPair(KEY).save(path)
        for folder in (path.parent, path.parent.parent):
            self.assertEqual(stat.S_IMODE(folder.stat().st_mode), 0o700)

    def test_a_disk_that_takes_little_at_a_time(self) -> None:
        """A short write is no whole key."""
        real = os.write
        self.patch(os, "write", lambda descriptor, data: real(descriptor, bytes(data)[:100]))
        KeyPair(KEY).save(self.path)
        self.assertEqual(KeyPair.load(self.path).spki, KeyPair(KEY).spki)

    def test_a_full_disk(self) -> None:
        """Told in words; nothing is left, and so the next run makes one."""
        self.patch(os, "fsync", _no_room)
        with self.assertRaises(KeyFileError) as caught:
            KeyPair(KEY).save(self.path)
        self.assertIn(os.strerror(errno.ENOSPC), caught.exception.what)
        self.assertEqual(self.left(), [])

    def test_it_is_on_the_disk_before_it_has_its_name(self) -> None:
        """A power cut leaves a whole key or none."""
        steps: list[str] = []
        for name in ("fsync", "link"):
            real = getattr(os, name)
            self.patch(os, name, lambda *args, real=real, name=name: (steps.append(name), real(*args))[1])
        KeyPair(KEY).save(self.path)
        self.assertEqual(steps, ["fsync", "link", "fsync"])


def _no_room(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class CreateTests(KeyTestCase):
    """Made when missing."""

    def setUp(self) -> None:
        super().setUp()
        self.public = self.folder / "publickey.pem"

    def test_made_once(self) -> None:
        """The second time it is the same key, and nothing is generated."""
        self.patch(KeyPair, "generate", fixed())
        first = KeyPair.load_or_create(self.path, self.public)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

        def never(bits: int) -> KeyPair:
            raise AssertionError("a key was made although there was one")

        self.patch(KeyPair, "generate", never)
        self.assertEqual(KeyPair.load_or_create(self.path, self.public).spki, first.spki)
        self.assertEqual(self.left(), ["key.pem", "publickey.pem"])

    def test_the_public_half_is_for_others(self) -> None:
        """SPKI in PEM, readable as far as the umask lets it, no private key."""
        self.addCleanup(os.umask, os.umask(0o022))
        self.patch(KeyPair, "generate", fixed())
        pair = KeyPair.load_or_create(self.path, self.public)
        self.assertEqual(RSA.import_key(self.public.read_bytes().strip()), KEY.public_key())
        self.assertEqual(self.public.read_bytes(), pair.public_pem())
        self.assertEqual(stat.S_IMODE(self.public.stat().st_mode), 0o644)
        self.refused(self.public)

    def test_an_old_public_half_is_replaced(self) -> None:
        """One that does not belong to the key would only mislead others."""
        self.put(PEM)
        for old in (b"", KeyPair(RSA.import_key(test_key(2049).strip())).public_pem()):
            self.public.write_bytes(old)
            pair = KeyPair.load_or_create(self.path, self.public)
            self.assertEqual(self.public.read_bytes(), pair.public_pem())
        self.assertEqual(self.left(), ["key.pem", "publickey.pem"])

    def test_something_else_in_the_way_of_the_public_half(self) -> None:
        """Is told, and left."""
        self.put(PEM)
        self.public.mkdir()
        self.assertRaises(KeyFileError, KeyPair.load_or_create, self.path, self.public)

    def test_a_bad_file_is_not_replaced(self) -> None:
        """Whatever is at the name, no new key is made in its stead."""
        self.patch(KeyPair, "generate", fixed())
        for data, mode in ((b"", 0o600), (b"garbage", 0o600), (PEM, 0o644)):
            self.put(data, mode)
            self.assertRaises(KeyFileError, KeyPair.load_or_create, self.path)
            self.assertEqual(self.path.read_bytes(), data)
        self.path.unlink()
        self.path.symlink_to("nowhere")
        self.assertRaises(KeyFileError, KeyPair.load_or_create, self.path)
        self.assertEqual(self.left(), ["key.pem"])

    def test_a_place_that_cannot_be_written(self) -> None:
        """Told in words."""
        self.patch(KeyPair, "generate", fixed())
        (self.folder / "file").write_bytes(b"")
        with self.assertRaises(KeyFileError) as caught:
            KeyPair.load_or_create(self.folder / "file" / "key.pem")
        self.assertTrue(caught.exception.next_step)


class RaceTests(KeyTestCase):
    """Two processes that find no key at the same time."""

    def setUp(self) -> None:
        super().setUp()
        self.keys = [KEY, RSA.import_key(test_key(2049).strip())]

    def test_the_second_takes_the_first_ones_key(self) -> None:
        """Whoever comes later has the key that is on the disk, not its own."""
        other = KeyPair(self.keys[1])

        def slow(bits: int) -> KeyPair:
            other.save(self.path)
            return KeyPair(KEY)

        self.patch(KeyPair, "generate", slow)
        self.assertEqual(KeyPair.load_or_create(self.path).spki, other.spki)
        self.assertEqual(self.left(), ["key.pem"])

    def test_in_step(self) -> None:
        """Even when both have written theirs before either has its name."""
        meet, real, mine = threading.Barrier(2, timeout=PATIENCE), os.link, threading.local()

        def link(source: Any, target: Any) -> None:
            meet.wait()
            real(source, target)

        self.patch(os, "link", link)
        self.patch(KeyPair, "generate", classmethod(lambda cls, bits: cls(mine.key)))
        found: list[bytes] = []

        def make(key: RSA.RsaKey) -> None:
            mine.key = key
            found.append(KeyPair.load_or_create(self.path, self.folder / "publickey.pem").spki)

        threads = [threading.Thread(target=make, args=(key,)) for key in self.keys]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(found, [KeyPair.load(self.path).spki] * 2)
        self.assertEqual(self.left(), ["key.pem", "publickey.pem"])
