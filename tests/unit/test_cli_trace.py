"""What ``peerstore trace`` prints."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.cli.output import WIDE
from peerstore.cli.trace import Subject, as_json, as_text, is_id, status_of
from peerstore.client.holdings import Holding
from peerstore.client.trace import Holder, Hop, Trace
from peerstore.errors import LookupFailed, PeerUnreachable
from peerstore.files.manifest import Manifest, NodeKind
from peerstore.items import ItemKey, Kind
from peerstore.ring.lookup import Located
from peerstore.ring.member import Member
from peerstore.transactions.entry import NameRecord
from peerstore.transactions.view import PathVersion
from peerstore.wire.bodies import Vote

KEY = bytes.fromhex("95") + bytes(19)
VERSION = b"v" * 32
MUTE = Vote(b"", (), 2)
SILENT = PeerUnreachable("Nobody answers there.")


def member(number: int, place: int = 0) -> Member:
    """A position of host *number*."""
    return Member(place or number << 156, bytes([number]) * 32, 0, 1, f"tcp:192.168.100.{100 + number}:30001")


def key(element: bytes, kind: Kind = Kind.HEAD) -> ItemKey:
    """Something that lies at the key."""
    return ItemKey(KEY, b"o" * 20, kind, element)


def holder(number: int, *keys: ItemKey, keeper: bool = True, **more: Any) -> Holder:
    """A host that has these."""
    vote = Vote(b"n" * 16, (member(number).fp,), 2)
    return Holder(member(number), keeper, frozenset(keys), None, vote if keeper else None, 0.0123)._replace(**more)


def silent(number: int) -> Holder:
    """A keeper that does not answer."""
    return Holder(member(number), True, None, SILENT)


def found(*holders: Holder, hops: tuple[Hop, ...] = ()) -> Trace:
    """A way that led to these."""
    owner, place = member(10), ids.from_bytes(KEY)
    named = (member(3), member(4))
    way = (
        Hop("tcp:192.168.100.101:30001", b"\1" * 32, 0.0004, None, member(1), named=named),
        Hop("tcp:192.168.100.110:30001", owner.fp, 1.26, None, owner, True, 9 << 156),
    )
    located = Located(place, owner, 9 << 156, tuple(one.member for one in holders))
    return Trace(place, hops or way, located, None, 3, holders)


def file(*chunks: Holding, manifest: Manifest | None = None, kind: NodeKind = NodeKind.FILE) -> Subject:
    """A file that is looked for."""
    name = NameRecord("papers", b"letters/first \xff.txt", int(kind), 5_000_000, 0, 0o644, b"s" * 32)
    version = PathVersion(KEY, VERSION, (), name, 1, b"d" * 16, 0)
    made = Manifest(NodeKind.FILE, 5_000_000, 0, 0o644, b"s" * 32, b"", ())
    return Subject(KEY, version, made if manifest is None else manifest, chunks)


def chunk(number: int, present: str = "abc", quiet: str = "") -> Holding:
    """One whose keepers are a, b and c."""
    hosts = {letter: member(at) for at, letter in enumerate("abc", 1)}
    there = frozenset(hosts[letter].fp for letter in present)
    return Holding(bytes([number]) * 32, tuple(hosts.values()), there, frozenset(hosts[letter].fp for letter in quiet))


class KindTests(SynchronousTestCase):
    """How a KEY is told from a path."""

    def test_ids(self) -> None:
        """40 or 64 hex digits, and nothing else."""
        for text in ("0" * 40, "aB" * 32):
            self.assertTrue(is_id(text), text)
        for text in ("0" * 39, "0" * 41, "g" * 40, "0" * 40 + "/", "papers/note", "", "0" * 40 + "\n", "0x" + "0" * 38):
            self.assertFalse(is_id(text), text)


class TextTests(SynchronousTestCase):
    """Lines for a person."""

    def text(self, subject: Subject, trace: Trace) -> str:
        """All of it, each line checked."""
        lines = as_text(subject, trace)
        for line in lines:
            self.assertLessEqual(len(line), WIDE, line)
            self.assertEqual(line, line.rstrip())
        return "\n".join(lines)

    def test_all_is_well(self) -> None:
        """The way, the keepers, and that each has it."""
        text = self.text(file(), found(*(holder(number, key(VERSION)) for number in (10, 3, 4))))
        self.assertEqual(
            text.splitlines(),
            [
                r"papers/letters/first \xff.txt",
                f"key {KEY.hex()}, version 76767676",
                "",
                "The way there:",
                "  1  01010101  192.168.100.101:30001   0.4 ms  sends on to 03030303",
                "  2  0a0a0a0a  192.168.100.110:30001    1.3 s  claims 90000000…a0000000",
                "",
                "Its keepers, the first 3 hosts from there:",
                "     0a0a0a0a  192.168.100.110:30001    12 ms  has it",
                "     03030303  192.168.100.103:30001    12 ms  has it",
                "     04040404  192.168.100.104:30001    12 ms  has it",
                "",
                "Each of them has all of it.",
                "Its content: 4.8 MiB, kept in the version itself.",
            ],
        )

    def test_who_lacks_it(self) -> None:
        """And who does not answer; how many have it."""
        other = key(b"w" * 32)
        text = self.text(file(), found(holder(3, key(VERSION), other), holder(4, other), silent(5)))
        self.assertIn("  12 ms  has it, and 1 other version\n", text)
        self.assertIn("  12 ms  lacks it, has 1 other version\n", text)
        self.assertIn("     05050505  192.168.100.105:30001           does not answer\n", text)
        self.assertIn("1 of 3 keepers has all of it. 1 keeper did not answer.", text)
        text = self.text(file(), found(holder(3, key(VERSION)), holder(4, vote=MUTE), holder(5)))
        self.assertIn("does not have it, syncing\n", text)
        self.assertIn("1 of 3 keepers has all of it.\n", text)

    def test_an_id(self) -> None:
        """What lies there is counted by kind, and what one lacks."""
        chunks = [key(bytes([number]) * 32, Kind.CHUNK) for number in range(2)]
        entries = [key(bytes([number]) * 32, Kind.LOG) for number in range(14)]
        text = self.text(Subject(KEY), found(holder(3, *chunks, *entries), holder(4, *entries), holder(5)))
        self.assertTrue(text.startswith(f"Key {KEY.hex()}\n"))
        self.assertIn("has 2 chunks and 14 log entries\n", text)
        self.assertIn("has 14 log entries, lacks 2\n", text)
        self.assertIn("has nothing there\n", text)
        self.assertNotIn("content", text)

    def test_nothing_there(self) -> None:
        """As far as anybody knows who answered."""
        text = self.text(Subject(KEY), found(holder(3), holder(4), silent(5)))
        self.assertIn("Nothing is stored there, as far as those who answered know. 1 keeper did not\nanswer.", text)

    def test_too_few_that_vote(self) -> None:
        """Is said: what is missing may be somewhere."""
        text = self.text(file(), found(holder(3, key(VERSION), vote=MUTE), holder(4), silent(5)))
        self.assertIn("1 of them votes on it just now, and 2 must", text.replace("\n", " "))
        text = self.text(file(), found(holder(3, key(VERSION), vote=MUTE)))
        self.assertIn("None of them votes on it just now", text.replace("\n", " "))
        text = self.text(file(), found(holder(3, key(VERSION)), holder(4)))
        self.assertNotIn("just now", text)

    def test_beyond_the_keepers(self) -> None:
        """Hosts that have something are shown, the others are not."""
        beyond = holder(6, key(VERSION), keeper=False)
        text = self.text(file(), found(holder(3, key(VERSION)), holder(4), beyond, holder(7, keeper=False)))
        self.assertIn("Beyond them", text)
        self.assertIn("06060606", text)
        self.assertNotIn("07070707", text)

    def test_one_keeper(self) -> None:
        """Of a ring of one."""
        text = self.text(file(), found(holder(3, key(VERSION)))._replace(copies=1))
        self.assertIn("Its keeper:\n", text)
        self.assertIn("It has all there is.", text)

    def test_chunks(self) -> None:
        """A line where all is well, and a few more where it is not."""
        trace = found(holder(3, key(VERSION)))
        self.assertIn(
            "Its content: 4.8 MiB in 2 chunks, each on all of its keepers.", self.text(file(chunk(1), chunk(2)), trace)
        )
        text = self.text(file(chunk(1), chunk(2, "b"), chunk(3, "a", "bc")), trace)
        self.assertIn("in 3 chunks, 1 of them on all of their keepers.", text)
        self.assertIn("  02020202 is on 1 of 3 keepers: 01010101 and 03030303 lack it.", text)
        self.assertIn("  03030303 is on 1 of 3 keepers: 02020202 and 03030303 do not answer.", text)
        text = self.text(file(*(chunk(number, "") for number in range(9))), trace)
        self.assertIn("none of them on all of their keepers", text)
        self.assertIn("4 more are not on all of their keepers (--json names all).", text)
        lost = Holding(b"l" * 32, (), frozenset(), frozenset())
        self.assertIn("6c6c6c6c: its keepers could not be found.", self.text(file(lost), trace))

    def test_a_content_that_nobody_tells(self) -> None:
        """Is said; of a folder nothing is."""
        trace = found(holder(3))
        text = self.text(file()._replace(manifest=None), trace)
        self.assertIn("nobody who answers could say what it consists of", text)
        self.assertNotIn("content", self.text(file(kind=NodeKind.FOLDER), trace))

    def test_a_way_that_ends(self) -> None:
        """With the steps that were taken, and what to do."""
        hops = (
            Hop("tcp:192.168.100.101:30001", None, 5.0, SILENT),
            Hop("tcp:192.168.100.102:30001", b"\2" * 32, 0.0004, None, member(2)),
        )
        trace = Trace(5, hops, None, LookupFailed("Nobody claims 95000000 just now."), 0)
        text = self.text(Subject(KEY), trace)
        self.assertIn("  1  ?         192.168.100.101:30001    5.0 s  does not answer\n", text)
        self.assertIn("  2  02020202  192.168.100.102:30001   0.4 ms  knows nobody nearer\n", text)
        self.assertIn("The way ends there. Nobody claims 95000000 just now. Try again in a moment.", text)

    def test_the_whole_ring(self) -> None:
        """Is claimed by a node alone."""
        alone = member(3)
        hop = Hop(alone.address, alone.fp, 0.001, None, alone, True, alone.id)
        self.assertIn("claims the whole ring", self.text(Subject(KEY), found(holder(3), hops=(hop,))))


class StatusTests(SynchronousTestCase):
    """How the command ends."""

    def test_all_have_it(self) -> None:
        """0, for a file only if its chunks are everywhere, too."""
        whole = found(holder(3, key(VERSION)), holder(4, key(VERSION)))
        self.assertEqual(status_of(Subject(KEY), whole), 0)
        self.assertEqual(status_of(file(chunk(1)), whole), 0)
        self.assertEqual(status_of(file(chunk(1, "ab")), whole), 1)
        self.assertEqual(status_of(file()._replace(manifest=None), whole), 1)
        self.assertEqual(status_of(file(kind=NodeKind.FOLDER)._replace(manifest=None), whole), 0)

    def test_some_do_not(self) -> None:
        """1: somebody lacks something, or does not answer."""
        for other in (holder(4), silent(4), holder(4, key(b"w" * 32))):
            self.assertEqual(status_of(Subject(KEY), found(holder(3, key(VERSION)), other)), 1)
        self.assertEqual(status_of(file(), found(holder(3, key(b"w" * 32)), holder(4, key(b"w" * 32)))), 1)
        self.assertEqual(status_of(Subject(KEY), found(holder(3), silent(4))), 1)

    def test_nothing_by_those_who_do_not_know_yet(self) -> None:
        """1: keepers that are still fetching cannot say that there is nothing."""
        for more in ({"vote": MUTE}, {"vote": None}):
            self.assertEqual(status_of(Subject(KEY), found(holder(3), holder(4, **more))), 1)
            self.assertEqual(status_of(Subject(KEY), found(holder(3), holder(4), holder(5, **more))), 4)

    def test_nothing(self) -> None:
        """4, if all keepers say so; 3, if they cannot be found."""
        self.assertEqual(status_of(Subject(KEY), found(holder(3), holder(4))), 4)
        self.assertEqual(status_of(Subject(KEY), Trace(5, (), None, LookupFailed("no"), 0)), 3)


class JsonTests(SynchronousTestCase):
    """The same for programs."""

    def test_a_file(self) -> None:
        """All fields, as docs/operations.md lists them."""
        trace = found(holder(3, key(VERSION), key(b"w" * 32)), holder(4), silent(5), holder(6, keeper=False))
        document = json.loads(json.dumps(as_json(file(chunk(1, "ab", "c")), trace)))
        names = "bytes chunks copies error folder holders hops key needed owner path version votes"
        self.assertEqual(sorted(document), names.split())
        self.assertEqual((document["key"], document["version"], document["copies"]), (KEY.hex(), VERSION.hex(), 3))
        self.assertEqual((document["folder"], document["path"]), ("papers", r"letters/first \xff.txt"))
        self.assertEqual(
            document["owner"],
            {
                "fingerprint": "0a" * 32,
                "address": "tcp:192.168.100.110:30001",
                "after": "90" + "00" * 19,
                "through": "a0" + "00" * 19,
            },
        )
        first, last = document["hops"]
        self.assertEqual((first["owns"], first["after"], first["named"]), (False, None, ["03" * 32, "04" * 32]))
        self.assertEqual((last["owns"], last["after"], last["latency_ms"]), (True, "90" + "00" * 19, 1260.0))
        has, lacks, quiet, beyond = document["holders"]
        self.assertEqual((has["versions"], has["lacks"]), (sorted([VERSION.hex(), "77" * 32]), 0))
        self.assertEqual((lacks["versions"], lacks["lacks"], lacks["syncing"]), ([], 2, False))
        self.assertEqual((quiet["answers"], quiet["error"], quiet["lacks"]), (False, "Nobody answers there.", None))
        self.assertEqual((beyond["keeper"], beyond["syncing"]), (False, None))
        (one,) = document["chunks"]
        self.assertEqual((one["hash"], one["holders"], one["silent"]), ("01" * 32, ["01" * 32, "02" * 32], ["03" * 32]))

    def test_an_id_that_leads_nowhere(self) -> None:
        """What is not known is null."""
        document = as_json(Subject(KEY), Trace(5, (), None, LookupFailed("Nobody."), 0))
        self.assertEqual(
            document,
            {
                "key": KEY.hex(),
                "copies": None,
                "owner": None,
                "hops": [],
                "holders": [],
                "error": "Nobody.",
                "votes": 0,
                "needed": None,
            },
        )
