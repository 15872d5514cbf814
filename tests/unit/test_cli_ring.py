"""What ``peerstore ring`` prints."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.cli.output import WIDE, ago, milliseconds, paragraph, where
from peerstore.cli.ring import CELLS, as_json, as_text, picture
from peerstore.client.survey import HostSeen, PlaceSeen, Survey
from peerstore.errors import PeerMismatch, PeerStoreError, PeerTimeout, PeerUnreachable
from peerstore.ring.member import Member

ADDRESS = "tcp:192.168.100.100:30001"


def survey(hosts: int = 5, each: int = 2, quiet: int = 12, copies: int = 3, **changes: dict[str, Any]) -> Survey:
    """A ring in perfect order, its positions dealt out in turn; *changes*
    are by the hosts' letters."""
    total = hosts * each
    members = [
        Member((at + 1) * ids.RING_SIZE // total - 1, bytes([at % hosts + 1]) * 32, at // hosts, 1, ADDRESS)
        for at in range(total)
    ]
    seen = []
    for number in range(hosts):
        mine = tuple(one for at, one in enumerate(members) if at % hosts == number)
        places = [_place(members, at) for at in range(total) if at % hosts == number]
        one = HostSeen(mine[0].fp, ADDRESS, mine, None, "MEMBER", 0.0021, quiet, tuple(places), hosts - 1)
        seen.append(one._replace(**changes.get("ABCDEFGH"[number : number + 1], {})))
    return Survey(tuple(seen), copies)


def _place(members: list[Member], at: int) -> PlaceSeen:
    behind = tuple((members[at + 1 :] + members[:at])[:16])
    return PlaceSeen(members[at], members[at - 1] if len(members) > 1 else None, behind, False)


def gone(error: PeerStoreError | None = None, listed_by: int = 0) -> dict[str, Any]:
    """A host that does not answer."""
    return {"trouble": error or PeerUnreachable("refused"), "places": (), "status": "", "listed_by": listed_by}


class TextTests(SynchronousTestCase):
    """Lines for a person."""

    def text(self, seen: Survey, ranges: bool = False) -> str:
        """All of it, each line checked."""
        lines = as_text(seen, ranges)
        for line in lines:
            self.assertLessEqual(len(line), WIDE, line)
            self.assertEqual(line, line.rstrip())
        return "\n".join(lines)

    def row(self, text: str, label: str) -> str:
        """The row of one host."""
        return next(line for line in text.splitlines() if line.startswith(f"{label:>3}  "))

    def test_all_is_well(self) -> None:
        """A heading, a row for each, a picture, a verdict, and no more."""
        text = self.text(survey())
        lines = text.splitlines()
        self.assertEqual(lines[0], "5 hosts with 2 positions each; 3 of them keep each thing.")
        self.assertEqual(self.row(text, "B"), "  B  02020202  192.168.100.100:30001   20.0%  synced")
        self.assertEqual(lines[-1], "10 positions, in perfect order. The last change was 12 seconds ago.")
        self.assertEqual(len(lines), 10)

    def test_a_node_alone(self) -> None:
        """In words that fit."""
        text = self.text(survey(1, 1))
        self.assertTrue(text.startswith("1 host with 1 position; it keeps everything.\n"), text)
        self.assertIn("1 position, in perfect order", text)
        self.assertIn("2 hosts with 1 position each; each of them keeps everything.", self.text(survey(2, 1)))

    def test_states(self) -> None:
        """Each in a few words."""
        five = survey(each=5)
        syncing = [place._replace(syncing=at < 3) for at, place in enumerate(five.hosts[1].places)]
        states: tuple[tuple[dict[str, Any], str], ...] = (
            ({}, "synced"),
            ({"places": tuple(syncing)}, "syncing 3 of 5 ranges"),
            ({"status": "LEAVING"}, "is leaving"),
            ({"places": (), "status": "JOINING"}, "is joining"),
            ({"places": five.hosts[1].places[:2]}, "is joining, 2 of 5 done"),
            (gone(), "does not answer"),
        )
        for changes, words in states:
            row = self.row(self.text(survey(each=5, B=changes)), "B")
            self.assertTrue(row.endswith(f"  {words}"), row)

    def test_who_does_not_answer(self) -> None:
        """Whether the others have noticed, and of several at once."""
        text = self.text(survey(B=gone(), D=gone(PeerTimeout("late"))))
        self.assertIn("B and D do not answer, and the others have left them out. They go on looking for\nthem.", text)
        text = self.text(survey(C=gone()))
        self.assertIn("C does not answer, and the others have left it out. They go on looking for it.", text)
        text = self.text(survey(C=gone(None, 3)))
        self.assertIn("C does not answer, but 3 of 4 others still have it as a neighbour.", text)
        text = self.text(survey(B=gone(), C=gone(None, 1), D=gone()))
        self.assertIn("C does not answer, but 1 of 2 others still has it as a neighbour.", text)
        self.assertIn("B and D do not answer", text)
        text = self.text(survey(C=gone(PeerMismatch("another"))))
        self.assertIn("C cannot be asked: at that address another node answers.", text)

    def test_who_answers_us_and_not_the_others(self) -> None:
        """Is said once news has had the time to get around."""
        words = "B answers here, but no other host has it as a neighbour."
        self.assertIn(words, self.text(survey(quiet=60, B={"listed_by": 0})))
        self.assertNotIn("answers here", self.text(survey(quiet=59, B={"listed_by": 0})))
        text = self.text(survey(quiet=60, B={"listed_by": 0}, C={"listed_by": 0}))
        self.assertIn("B and C answer here, but no other host has them as neighbours.", text)
        self.assertNotIn("answers here", self.text(survey(1, 1, quiet=60)))

    def test_still_settling(self) -> None:
        """With how many are not in order."""
        whole = survey()
        odd = whole.hosts[1].places[0]._replace(before=None)
        text = self.text(survey(B={"places": (odd, whole.hosts[1].places[1])}))
        self.assertIn("still settling: 1 of them does not have its neighbours right yet.", text)
        odd = whole.hosts[1].places[0]._replace(behind=())
        text = self.text(survey(B={"places": (odd,)}))
        self.assertIn("do not have their neighbours right yet.", text)
        text = self.text(survey(C={"positions": whole.hosts[0].positions * 2}))
        self.assertIn("10 positions, still settling. The last change", text)

    def test_ranges(self) -> None:
        """One line each, with those that keep it; syncing is said."""
        whole = survey()
        syncing = tuple(place._replace(syncing=True) for place in whole.hosts[1].places)
        lines = self.text(survey(B={"places": syncing}), ranges=True).splitlines()
        self.assertIn("  after     up to      share  kept by", lines)
        self.assertEqual(sum(" 10.0%  " in line for line in lines), 10)
        self.assertIn("  ffffffff  19999999   10.0%  A B C", lines)
        self.assertIn("  19999999  33333333   10.0%  B C D  (B is syncing it)", lines)

    def test_long_addresses(self) -> None:
        """Are shortened in the middle, so that host and port are seen."""
        long = "tcp:storage-in-the-cellar.example.org:3001"
        row = self.row(self.text(survey(B={"address": long})), "B")
        self.assertIn("  storage-in-….org:3001  ", row)

    def test_more_hosts_than_letters(self) -> None:
        """All are listed; in the picture those without a letter are a #."""
        text = self.text(survey(60, 1))
        self.assertIn("60 hosts", text)
        self.assertEqual(sum(line.endswith("synced") for line in text.splitlines()), 60)
        self.assertIn(" 60  ", text)
        self.assertIn("#", text)

    def test_the_picture(self) -> None:
        """The circle cut open at zero: whose range each stretch is."""
        seen = survey(2, 1)
        labels = {host.fp: "AB"[at] for at, host in enumerate(seen.hosts)}
        half = CELLS // 2
        self.assertEqual(picture(seen, labels), "  0 [" + "A" * half + "B" * half + "] 2^160")
        self.assertIn("?" * CELLS, picture(Survey((), 3), {}))


class JsonTests(SynchronousTestCase):
    """The same for programs."""

    def test_a_whole_ring(self) -> None:
        """All fields, as docs/operations.md lists them."""
        document = json.loads(json.dumps(as_json(survey())))
        self.assertEqual(
            sorted(document), ["complete", "copies", "hosts", "ideal", "last_change", "positions", "ranges"]
        )
        self.assertEqual((document["complete"], document["ideal"], document["copies"]), (True, True, 3))
        self.assertEqual((document["last_change"], document["positions"], len(document["ranges"])), (12, 10, 10))
        host = document["hosts"][1]
        self.assertEqual(len(host["positions"]), 2)
        del host["positions"]
        self.assertEqual(
            host,
            {
                "fingerprint": "02" * 32,
                "address": ADDRESS,
                "answers": True,
                "trouble": None,
                "status": "member",
                "latency_ms": 2.1,
                "last_change": 12,
                "syncing": 0,
                "listed_by": 4,
                "share": 0.2,
            },
        )
        one = document["ranges"][0]
        self.assertEqual((one["after"], one["through"][:8]), ("ff" * 20, "19999999"))
        self.assertEqual(one["keepers"], ["01" * 32, "02" * 32, "03" * 32])
        self.assertEqual((one["fingerprint"], one["syncing"], one["share"]), ("01" * 32, False, 0.1))

    def test_a_host_that_does_not_answer(self) -> None:
        """Is there, with why, and nothing made up."""
        document = as_json(survey(B=gone()))
        host = document["hosts"][1]
        self.assertEqual((host["answers"], host["trouble"]), (False, "refused"))
        for name in ("status", "latency_ms", "last_change", "syncing", "share"):
            self.assertIsNone(host[name], name)
        self.assertEqual(len(host["positions"]), 2)
        self.assertFalse(document["complete"])


class WordTests(SynchronousTestCase):
    """Times and addresses in few letters."""

    def test_ago(self) -> None:
        """Rounded down, in one unit."""
        for seconds, words in (
            (0, "just now"),
            (1, "just now"),
            (2, "2 seconds ago"),
            (119, "119 seconds ago"),
            (120, "2 minutes ago"),
            (3599, "59 minutes ago"),
            (3600, "1 hour ago"),
            (90000, "1 day ago"),
        ):
            self.assertEqual(ago(seconds), words)

    def test_milliseconds(self) -> None:
        """With a digit more where it matters."""
        for seconds, words in ((0.00042, "0.4 ms"), (0.00994, "9.9 ms"), (0.027, "27 ms"), (1.26, "1.3 s")):
            self.assertEqual(milliseconds(seconds), words)
        self.assertEqual(milliseconds(0.9996), "1.0 s")

    def test_where(self) -> None:
        """Never longer than its column."""
        self.assertEqual(where("tcp:192.168.100.100:30001"), "192.168.100.100:30001")
        self.assertEqual(len(where("tcp:" + "x" * 200)), 21)

    def test_paragraph(self) -> None:
        """No word is cut."""
        lines = paragraph("word " * 50, "  ")
        self.assertTrue(all(len(line) <= WIDE and line.startswith("  word") for line in lines))
