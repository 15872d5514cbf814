"""House rules that no linter knows, checked on the tree itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import peerstore

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(peerstore.__file__).parent
MAX_LINES = 450
MAX_FUNCTION = 72


def modules() -> Iterator[tuple[str, str, ast.Module]]:
    """Name, text and tree of every module of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        yield path.relative_to(PACKAGE).as_posix(), text, ast.parse(text)


class SourceTests(SynchronousTestCase):
    """Sizes, docstrings and honest error handling."""

    def test_modules_hold_one_noun(self) -> None:
        """No module has outgrown what one can read in a sitting."""
        long = [name for name, text, _ in modules() if text.count("\n") > MAX_LINES]
        self.assertEqual(long, [])

    def test_functions_are_short(self) -> None:
        """No function is longer than a screen and a half."""
        long = [
            f"{name}:{node.lineno} {node.name}"
            for name, _, tree in modules()
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and (node.end_lineno or node.lineno) - node.lineno > MAX_FUNCTION
        ]
        self.assertEqual(long, [])

    def test_everything_public_has_a_docstring(self) -> None:
        """Modules and public classes say what they are."""
        silent = []
        for name, _, tree in modules():
            if not ast.get_docstring(tree):
                silent.append(name)
            silent.extend(
                f"{name}: {node.name}"
                for node in ast.walk(tree)
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node)
            )
        self.assertEqual(silent, [])

    def test_nothing_is_swallowed(self) -> None:
        """No broad handler drops an error without a word."""
        swallowed = []
        for name, _, tree in modules():
            for node in ast.walk(tree):
                if not isinstance(node, ast.ExceptHandler):
                    continue
                broad = node.type is None or (
                    isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
                )
                if broad and all(isinstance(step, ast.Pass | ast.Continue) for step in node.body):
                    swallowed.append(f"{name}:{node.lineno}")
        self.assertEqual(swallowed, [])

    def test_nothing_is_left_for_later(self) -> None:
        """No module carries a note of unfinished work."""
        notes = [name for name, text, _ in modules() if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text)]
        self.assertEqual(notes, [])


class ReadmeTests(SynchronousTestCase):
    """The README's two commands are what it says."""

    def setUp(self) -> None:
        if not (ROOT / "README.md").exists():
            raise SkipTest("the README is not part of an installed package")
        self.text = (ROOT / "README.md").read_text(encoding="utf-8")

    def test_it_opens_with_the_two_commands(self) -> None:
        """One command installs and runs the demo, one the tests."""
        blocks = re.findall(r"```sh\n(.*?)```", self.text, re.S)
        self.assertIn("peerstore demo", blocks[0])
        self.assertIn("tox", blocks[1])
        for block in blocks[:2]:
            self.assertEqual(len(block.strip().splitlines()), 1)

    def test_there_is_a_news_fragment(self) -> None:
        """The change log is fed: at least one fragment or a NEWS file."""
        fragments = [p for p in (ROOT / "newsfragments").glob("*.*") if p.name != ".gitignore"]
        expected = bool(fragments) or (ROOT / "NEWS.md").exists()
        self.assertTrue(expected)
