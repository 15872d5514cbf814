"""The tree of errors: what happened, the next step, the exit status."""

from __future__ import annotations

import copy
import inspect

from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from peerstore import errors
from peerstore.errors import Busy, PeerStoreError, RemoteError

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == errors.__name__
}

#: Documented for scripts: a number that changes breaks them.
EXIT_STATUS = {
    "PeerStoreError": 1,
    "UsageError": 2,
    "PeerError": 3,
    "LookupFailed": 3,
    "RemoteError": 3,
    "NotFound": 4,
    "Incomplete": 5,
    "Conflict": 6,
    "KeyInUse": 6,
    "HostRetired": 6,
    "StorageError": 7,
}


class TreeTests(SynchronousTestCase):
    """One tree, all of it public."""

    def test_all_are_in_it_and_listed(self) -> None:
        """Whoever catches the root catches everything of ours."""
        self.assertEqual(sorted(CLASSES), sorted(errors.__all__))
        for error in CLASSES.values():
            self.assertTrue(issubclass(error, PeerStoreError))

    def test_exit_statuses(self) -> None:
        """Each is its nearest ancestor's in the table; none is 0."""
        for name, error in CLASSES.items():
            expected = next(EXIT_STATUS[base.__name__] for base in error.__mro__ if base.__name__ in EXIT_STATUS)
            self.assertEqual(error.exit_status, expected, name)
        self.assertNotIn(0, EXIT_STATUS.values())

    def test_who_is_whose(self) -> None:
        """What callers rely on when they catch a family."""
        for family, members in (
            (errors.PeerError, "PeerUnreachable PeerTimeout ConnectionLost PeerMismatch ProtocolViolation BadMessage"),
            (errors.ProtocolViolation, "FrameTooLarge BadMessage"),
            (errors.RemoteError, "Busy NotReady DataRefused"),
            (errors.StorageError, "DiskFull ReadOnly CorruptData NewerSchema"),
            (errors.UsageError, "KeyFileError"),
        ):
            for member in members.split():
                self.assertTrue(issubclass(CLASSES[member], family), member)


class TextTests(SynchronousTestCase):
    """For a person."""

    def test_what_and_next_step(self) -> None:
        """Two sentences together, and each alone."""
        for error in CLASSES.values():
            made = error("It happened.", "Do this.")
            self.assertEqual(
                (str(made), made.what, made.next_step), ("It happened. Do this.", "It happened.", "Do this.")
            )

    def test_without_a_next_step(self) -> None:
        """No blank at the end."""
        for error in CLASSES.values():
            self.assertEqual(str(error("It happened.")), "It happened.")

    def test_a_failure_shows_it(self) -> None:
        """In Twisted's words, too."""
        self.assertEqual(Failure(PeerStoreError("It happened.", "Do this.")).getErrorMessage(), "It happened. Do this.")

    def test_a_copy_says_the_same(self) -> None:
        """Errors are handed from thread to thread and kept."""
        made = copy.copy(Busy("It happened.", "Do this.", status=5, retry_after=2.5))
        self.assertEqual((str(made), made.status, made.retry_after), ("It happened. Do this.", 5, 2.5))


class RemoteTests(SynchronousTestCase):
    """Answers other than OK."""

    def test_the_status_is_kept(self) -> None:
        """0 when it is not known."""
        for error in (RemoteError, errors.NotReady, errors.DataRefused, Busy):
            self.assertEqual((error("x", status=9).status, error("x").status), (9, 0))

    def test_when_to_try_again(self) -> None:
        """A second unless the peer said otherwise."""
        self.assertEqual((Busy("x").retry_after, Busy("x", retry_after=0.25).retry_after), (1.0, 0.25))
