"""How bugs are put into the shipped code, and taken out again."""

from __future__ import annotations

import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.support import data_bugs, ring_bugs
from tests.support.bugs import replaced


def methods() -> dict[tuple[str, str], int]:
    """What each name of each module and class of the package stands for now."""
    found = {}
    for module in [module for name, module in sorted(sys.modules.items()) if name.startswith("peerstore.")]:
        for owner in (module, *(value for value in vars(module).values() if isinstance(value, type))):
            if getattr(owner, "__module__", module.__name__).startswith("peerstore."):
                where = f"{module.__name__}.{owner.__name__}"
                found.update({(where, name): id(value) for name, value in vars(owner).items()})
    return found


class Something:
    """What a bug is put into."""

    def answer(self) -> int:
        """The right one."""
        return 42


class Derived(Something):
    """It has no answer of its own."""


class BugTests(SynchronousTestCase):
    """Replacing, and undoing it."""

    def test_a_method_is_replaced_and_put_back(self) -> None:
        """Also when something fails meanwhile."""

        def run() -> None:
            with replaced(Something, "answer", lambda real: lambda self: real(self) + 1):
                self.assertEqual(Something().answer(), 43)
                raise ValueError

        self.assertRaises(ValueError, run)
        self.assertEqual(Something().answer(), 42)

    def test_a_bug_without_a_place_fails_loudly(self) -> None:
        """A method that is gone, or has moved to a base class, is said to be."""
        for owner, name in ((Something, "reply"), (Derived, "answer")):
            bug = replaced(owner, name, lambda real: real)
            self.assertRaises(LookupError, bug.__enter__)

    def test_every_bug_still_has_its_place(self) -> None:
        """Each can be put in and taken out, and leaves nothing behind."""
        for bug in (*data_bugs.BUGS.values(), *ring_bugs.BUGS.values()):
            before = methods()
            with bug.put_in():
                self.assertNotEqual(methods(), before)
            self.assertEqual(methods(), before)
