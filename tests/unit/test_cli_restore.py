"""What is said of names that are not found."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from peerstore.cli.context import Options
from peerstore.cli.files import list_folders
from peerstore.cli.restore import place_of
from peerstore.client.backup import Backup
from peerstore.client.names import Place
from peerstore.errors import Incomplete, NotFound
from peerstore.transactions.view import FolderView
from tests.support.memory_ring import ClientTestCase


class PlaceTests(ClientTestCase):
    """``place_of``: whether something is there, and whether that is known."""

    def setUp(self) -> None:
        super().setUp()
        self.err = io.StringIO()
        self.patch(sys, "stderr", self.err)
        folder = self.folder("docs", a=b"text")
        self.result(Backup(self.client(self.device("writer")), self.raw(folder), "docs").run())
        self.reader = self.client(self.device("reader"), writing=False)

    def look(self, text: str, as_json: bool = False) -> Any:
        """What a person meant."""
        options = Options(Path("home"), None, as_json, False, lambda _: 0)
        return place_of(options, SimpleNamespace(client=self.reader), text)  # type: ignore[arg-type]

    def test_a_complete_look(self) -> None:
        """What is there is found, and of the rest it is said that it is not."""
        self.assertEqual(self.result(self.look("docs/a")), (Place("docs", b"a"), True))
        self.error(self.look("docs/b"), NotFound)

    def test_too_few_answer(self) -> None:
        """It may be there all the same: nobody is told that it is not, in words or as JSON."""
        self.gateway.down = True
        for as_json in (False, True):
            for text in ("docs/a", "docs", "./docs/a"):
                error = self.error(self.look(text, as_json), Incomplete)
                self.assertIn(repr(text), error.what)
                self.assertIn("nodes", error.next_step)

    def test_what_was_known_before(self) -> None:
        """It is given, and that it may not be the newest is told."""
        self.result(self.look("docs/a"))
        self.gateway.down = True
        self.assertEqual(self.result(self.look("docs/a")), (Place("docs", b"a"), False))

    def test_an_empty_list(self) -> None:
        """Nothing is stored; but not if that is not known."""
        options = Options(Path("home"), None, False, False, lambda _: 0)
        list_folders(options, FolderView(), complete=False)
        self.assertEqual(self.err.getvalue(), "")
        list_folders(options, FolderView(), complete=True)
        self.assertIn("Nothing is stored yet", self.err.getvalue())
