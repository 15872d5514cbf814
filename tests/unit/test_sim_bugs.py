"""How bugs are put into the shipped code, and taken out again."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support import data_bugs, ring_bugs
from tests.support.bugs import replaced


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
            with bug.put_in():
                pass
            with bug.put_in():
                pass
