"""Errors become statuses, and statuses errors; nothing private leaves."""

from __future__ import annotations

from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from peerstore import errors
from peerstore.wire.bodies import Refusal
from peerstore.wire.messages import Status, decode_body, encode_body, error_for, status_for

WORDS = Refusal("What happened.", "What to do.", 0.5)


def tree(kind: type[errors.PeerStoreError] = errors.PeerStoreError) -> Iterator[type[errors.PeerStoreError]]:
    """Every error there is."""
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from tree(below)


class StatusTests(SynchronousTestCase):
    """What an asker is told of a handler's error."""

    def test_each_error_of_the_tree(self) -> None:
        """The status of every class; one that is new has to be placed here."""
        expected = {
            Status.NOT_FOUND: {"NotFound"},
            Status.REJECTED: {"DataRefused"},
            Status.TOO_LARGE: {"FrameTooLarge"},
            Status.BUSY: {"Busy"},
            Status.BAD_REQUEST: {"BadMessage"},
            Status.NOT_READY: {"NotReady"},
            Status.UNAVAILABLE: {
                "ConnectionLost",
                "CorruptData",
                "DiskFull",
                "Incomplete",
                "LookupFailed",
                "NewerSchema",
                "PeerError",
                "PeerMismatch",
                "PeerTimeout",
                "PeerUnreachable",
                "ProtocolViolation",
                "ReadOnly",
                "StorageError",
            },
            Status.INTERNAL: {
                "Conflict",
                "HostRetired",
                "KeyFileError",
                "KeyInUse",
                "PeerStoreError",
                "RemoteError",
                "RingMismatch",
                "UsageError",
            },
        }
        found: dict[Status, set[str]] = {}
        for kind in tree():
            found.setdefault(status_for(kind("what"))[0], set()).add(kind.__name__)
        self.assertEqual(found, expected)

    def test_own_words(self) -> None:
        """An error about the request or the ring is told in its own words."""
        for kind in (errors.Busy, errors.NotReady, errors.DataRefused, errors.NotFound, errors.BadMessage):
            _, refusal = status_for(kind("What happened.", "What to do."))
            self.assertEqual((refusal.what, refusal.next_step), ("What happened.", "What to do."))

    def test_retry_time(self) -> None:
        """BUSY says when to come again, and nothing else does."""
        self.assertEqual(status_for(errors.Busy("Full.", retry_after=2.5))[1].retry_after, 2.5)
        self.assertEqual(status_for(errors.NotReady("Not yet."))[1].retry_after, 0.0)

    def test_retry_times_that_cannot_be_sent(self) -> None:
        """Whatever a handler says, the refusal can be read at the other end."""
        for seconds in (float("nan"), float("inf"), -1.0, 1e9):
            _, refusal = status_for(errors.Busy("Full.", retry_after=seconds))
            self.assertEqual(decode_body(encode_body(refusal), Refusal), refusal)

    def test_faults_keep_their_text(self) -> None:
        """What is no error of ours is INTERNAL, and its text stays here."""
        for error in (ValueError("/home/secret"), KeyError("secret"), RecursionError("secret"), KeyboardInterrupt()):
            status, refusal = status_for(error)
            self.assertIs(status, Status.INTERNAL)
            self.assertNotIn("secret", refusal.what + refusal.next_step)

    def test_disks_keep_their_paths(self) -> None:
        """A disk's error names a folder here; the asker is told its kind."""
        for kind in (errors.StorageError, errors.DiskFull, errors.ReadOnly, errors.CorruptData, errors.NewerSchema):
            status, refusal = status_for(kind("No room left for /home/ann/data/node.sqlite.", "Free some in /home."))
            self.assertIs(status, Status.UNAVAILABLE)
            self.assertNotIn("/home", refusal.what + refusal.next_step)
            self.assertIn("disk", refusal.what)
        self.assertIn("full", status_for(errors.DiskFull("No room left for /x."))[1].what)

    def test_local_mistakes_are_not_the_askers(self) -> None:
        """An option or key file of this node is no business of the asker's."""
        for kind in (errors.UsageError, errors.KeyFileError):
            status, refusal = status_for(kind("/home/ann/key.pem can be read by others."))
            self.assertIs(status, Status.INTERNAL)
            self.assertNotIn("key.pem", refusal.what)

    def test_another_nodes_answer_is_passed_on(self) -> None:
        """What a further node answered keeps its status."""
        for status in Status:
            if status is not Status.OK:
                told, refusal = status_for(error_for(status, WORDS))
                self.assertIs(told, status)
                self.assertEqual(refusal.what, WORDS.what)

    def test_statuses_that_are_none(self) -> None:
        """An error that names an unknown status, or OK, is not passed on so."""
        for number in (0, 99, -1):
            self.assertIs(status_for(errors.RemoteError("What.", status=number))[0], Status.INTERNAL)
            self.assertIs(status_for(errors.Busy("Full.", status=number))[0], Status.BUSY)


class ErrorTests(SynchronousTestCase):
    """What an answer other than OK becomes where it was asked."""

    def test_each_status(self) -> None:
        """Its class, with status and words."""
        classes = {Status.BUSY: errors.Busy, Status.NOT_READY: errors.NotReady, Status.REJECTED: errors.DataRefused}
        for status in Status:
            if status is Status.OK:
                continue
            error = error_for(status, WORDS)
            self.assertIs(type(error), classes.get(status, errors.RemoteError), status)
            self.assertEqual((error.what, error.next_step), (WORDS.what, WORDS.next_step))
            self.assertEqual(getattr(error, "status", None), status)

    def test_busy_says_when(self) -> None:
        """The retry time arrives."""
        error = error_for(Status.BUSY, WORDS)
        assert isinstance(error, errors.Busy)
        self.assertEqual(error.retry_after, 0.5)

    def test_both_ways_for_every_error(self) -> None:
        """Once told and once understood, an error keeps its status for ever."""
        for kind in tree():
            status, refusal = status_for(kind("what", "step"))
            self.assertIs(status_for(error_for(status, decode_body(encode_body(refusal), Refusal)))[0], status)

    def test_words_of_a_peer_are_harmless(self) -> None:
        """A peer's text is shown on a terminal: no control characters, no
        line breaks, not without end."""
        error = error_for(Status.REJECTED, Refusal("red \x1b[31m\r\n\x00 line\u202e" + "x" * 100_000, "\x07" * 9, 0.0))
        for text in (error.what, error.next_step):
            self.assertTrue(text.isprintable(), text[:60])
            self.assertLessEqual(len(text), 600)
        self.assertIn("red", error.what)

    def test_plain_words_are_kept(self) -> None:
        """Any language, and every sign that prints."""
        words = "Größe: 3 µm, 名前 «a», 100 %"
        self.assertEqual(error_for(Status.QUOTA, Refusal(words, "", 0.0)).what, words)
