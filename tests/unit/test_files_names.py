"""Ids of folders and paths, and what a folder may be called."""

from __future__ import annotations

import hashlib
import hmac

from twisted.trial.unittest import SynchronousTestCase

from peerstore.errors import UsageError
from peerstore.files.names import check_folder, folder_id, resource_id
from tests.support.vectors import frozen

SECRET = bytes(range(32))


class IdTests(SynchronousTestCase):
    """Keyed hashes: who has not the key learns nothing."""

    def test_by_the_definition(self) -> None:
        """HMAC-SHA-256 of "folder" and NAME, and of the folder's id and path."""
        folder = hmac.new(SECRET, "folderphotos é".encode(), hashlib.sha256).digest()[:16]
        self.assertEqual(folder_id(SECRET, "photos é"), folder)
        resource = hmac.new(SECRET, folder + b"2024/\xff.jpg", hashlib.sha256).digest()[:20]
        self.assertEqual(resource_id(SECRET, folder, b"2024/\xff.jpg"), resource)

    def test_frozen(self) -> None:
        """``tests/vectors/names.json``."""
        vectors = frozen("names")
        secret = bytes.fromhex(vectors["name_secret"])
        self.assertGreater(len(vectors["folders"]), 1)
        for case in vectors["folders"]:
            folder = folder_id(secret, case["name"])
            self.assertEqual(folder.hex(), case["id"])
            for path, resource in case["resources"]:
                self.assertEqual(resource_id(secret, folder, bytes.fromhex(path)).hex(), resource)

    def test_every_user_has_others(self) -> None:
        """The same name under another key is another id."""
        self.assertNotEqual(folder_id(SECRET, "home"), folder_id(bytes(32), "home"))
        self.assertNotEqual(resource_id(SECRET, bytes(16), b"a"), resource_id(bytes(32), bytes(16), b"a"))

    def test_every_folder_and_path_has_another(self) -> None:
        """The folder itself included; no normalisation joins two names."""
        folders = [folder_id(SECRET, name) for name in ("a", "b", "A", "é", "e\u0301")]
        found = {resource_id(SECRET, folder, path) for folder in folders for path in (b"", b"a", b"A", b"a/b", b"\xff")}
        self.assertEqual(len(found), 25)


class FolderNameTests(SynchronousTestCase):
    """What can stand before the slash in NAME/path."""

    def test_what_is_taken(self) -> None:
        """Any text of up to 255 bytes, as it is."""
        for name in ("home", "my photos", "é", ".config", "a\\b", "x" * 255, "ü" * 127):
            self.assertEqual(check_folder(name), name)

    def test_what_is_refused(self) -> None:
        """Nothing, a slash, a control character, what begins a local path, too
        long; the way out is named."""
        for name in ("", "a/b", "/", "a\0", "a\nb", ".", "..", "~ann", "x" * 256, "ü" * 128):
            with self.assertRaises(UsageError, msg=repr(name)) as caught:
                check_folder(name)
            self.assertIn("--as", caught.exception.next_step)

    def test_a_folder_whose_name_is_no_text(self) -> None:
        """Its bytes are shown, and the way out is named."""
        with self.assertRaises(UsageError) as caught:
            check_folder(b"caf\xe9".decode("utf-8", "surrogateescape"))
        self.assertIn("caf\\xe9", caught.exception.what)
        self.assertIn("--as", caught.exception.next_step)
        str(caught.exception).encode()
