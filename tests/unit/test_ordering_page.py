"""``docs/ordering.md`` names tests that exist, one for each promise."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import tests

PAGE = Path(tests.__file__).resolve().parent.parent / "docs" / "ordering.md"
NAMED = re.compile(r"`((?:tests\.|functional\.|sim\.)?(?:[a-z_]+\.)*[a-z_]+\.[A-Z]\w+(?:\.test_\w+)?)`")


def find(name: str) -> object:
    """What a name on the page stands for.

    :raises AttributeError: when there is no such class or method.
    """
    module, _, rest = name.partition(".")
    while rest and not rest[0].isupper():
        part, _, rest = rest.partition(".")
        module = f"{module}.{part}"
    if not module.startswith("tests."):
        module = f"tests.{module}" if module.startswith(("functional.", "sim.")) else f"tests.unit.{module}"
    found: object = importlib.import_module(module)
    for part in rest.split("."):
        found = getattr(found, part)
    return found


class PageTests(SynchronousTestCase):
    """The part on what is durable when."""

    def setUp(self) -> None:
        if not PAGE.exists():
            raise SkipTest("the documentation is not part of an installed package")
        self.text = PAGE.read_text(encoding="utf-8").split("## What is durable when")[1]

    def test_every_test_that_is_named_exists(self) -> None:
        """Whoever renames one finds it here."""
        names = NAMED.findall(self.text)
        self.assertGreater(len(names), 40)
        for name in names:
            try:
                find(name)
            except (AttributeError, ImportError) as error:
                self.fail(f"{name}: {error}")

    def test_every_promise_names_one(self) -> None:
        """No numbered sentence is without its test."""
        promises = re.findall(r"^\d+\. (.*?)(?=^\d+\. |^\n|^$)", self.text, re.M | re.S)
        self.assertGreater(len(promises), 30)
        self.assertEqual([promise for promise in promises if not NAMED.search(promise)], [])
