"""range-digest, range-list, fetch, push, attach: what holders ask of each other; and
who may call what."""

from __future__ import annotations

import hashlib

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.files.chunk import SealedChunk, chunk_item
from peerstore.items import ALL_KINDS, Item, ItemKey, Kind
from peerstore.wire.bodies import (
    Confirm,
    Done,
    Fetch,
    FindSuccessor,
    GetNeighbours,
    GetNodeRecords,
    GetRangeDigest,
    Items,
    KeyPage,
    Leaving,
    ListRange,
    Notify,
    Ping,
    PositionRef,
    Push,
    Pushed,
    RangeDigest,
)
from peerstore.wire.messages import Status, encode_body, status_for
from peerstore.wire.voting import (
    MAX_ARCS,
    MAX_COVERED,
    MAX_EPOCH,
    MAX_LISTS,
    MAX_VIEW,
    MAX_VOTERS,
    ArcTold,
    Attach,
    Attached,
    HostStanding,
    VoterList,
)
from tests.support.rings import Ring, Wire, greeting
from tests.support.storage import record
from tests.support.things import OWNER, a_chain, a_chunk, a_head

CHUNKS = [a_chunk(number) for number in range(20)]
HEADS = [a_head(number) for number in range(20)]
CHAIN = a_chain(20)
EVERYTHING = [*CHUNKS, *HEADS, *CHAIN]
ZERO = bytes(20)


def large(number: int) -> Item:
    """A chunk of 1.5 MB."""
    data = number.to_bytes(4, "big") * 375_000
    return chunk_item(OWNER, SealedChunk(hashlib.sha256(data).digest(), b"", len(data), data), 1)


class ReplicaTestCase(SynchronousTestCase):
    """A lone node, asked by another."""

    def setUp(self) -> None:
        self.ring = Ring("a")

    def push(self, *items: Item, role: str = "node") -> list[Status]:
        """How each item was judged."""
        answer: Pushed = self.ring.ask("a", "push", Push(items), role)
        return [Status(status) for status in answer.statuses]


class PushTests(ReplicaTestCase):
    """Copies that others bring."""

    def test_of_every_kind(self) -> None:
        """On disk when answered."""
        self.assertEqual(self.push(*EVERYTHING), [Status.OK] * 60)
        self.ring.world.hosts["a"].crash()
        self.ring.world.start("a")
        self.ring.run(2.0)
        self.assertEqual(self.ring.held("a"), {item.key for item in EVERYTHING})

    def test_also_what_is_not_ours(self) -> None:
        """A copy is judged for what it is: the ring may have changed."""
        ring = Ring("abcde")
        for name in "abcde":
            self.assertEqual(ring.ask(name, "push", Push((CHUNKS[0],)), "node"), Pushed((0,), (b"",), 2))

    def test_in_a_name(self) -> None:
        """Of what is voted on, a voter says for which list it took it; who
        is none takes it all the same."""
        ring = Ring("abcde")
        head = HEADS[0]
        voters = ring.around(head.key.ring_id)[:3]
        names = {name: ring.ask(name, "push", Push((head,)), "node").names[0] for name in "abcde"}
        self.assertEqual({name for name in names if names[name]}, set(voters))
        self.assertEqual(len({names[name] for name in voters}), 1)
        self.assertEqual(ring.holders(head.key), "abcde")

    def test_a_chain_with_a_gap(self) -> None:
        """Copies come in any order, so entries are taken as they come."""
        self.assertEqual(self.push(CHAIN[3], CHAIN[1]), [Status.OK] * 2)

    def test_again(self) -> None:
        """What is there already is OK."""
        self.push(*EVERYTHING)
        self.assertEqual(self.push(*EVERYTHING), [Status.OK] * 60)

    def test_what_is_not_sound(self) -> None:
        """The same is refused that would be refused of its owner."""
        chunk, head, entry = CHUNKS[0], HEADS[0], CHAIN[0]
        bad = [
            Item(chunk.key, chunk.statement, chunk.data + b"!"),
            Item(msgspec.structs.replace(chunk.key, owner=b"o" * 20), chunk.statement, chunk.data),
            Item(msgspec.structs.replace(chunk.key, ring_id=b""), chunk.statement, chunk.data),
            Item(head.key, head.statement, b"another"),
            Item(msgspec.structs.replace(head.key, element=bytes(31)), head.statement, head.data),
            Item(entry.key, entry.statement, b"data"),
            Item(entry.key, CHAIN[1].statement, b""),
            record(1),
        ]
        self.assertEqual(self.push(*bad, CHUNKS[1]), [Status.REJECTED] * len(bad) + [Status.OK])
        self.assertEqual(self.ring.held("a"), {CHUNKS[1].key})

    def test_too_many(self) -> None:
        """More than 1,024 at a time."""
        body = Push((CHUNKS[0],) * 1025)
        self.assertEqual(self.ring.refused("a", "push", body, "node"), Status.BAD_REQUEST)

    def test_a_full_disk(self) -> None:
        """UNAVAILABLE for each, and nothing is there."""
        self.ring.world.hosts["a"].disk.full = True
        self.assertEqual(self.push(*CHUNKS[:3]), [Status.UNAVAILABLE] * 3)
        self.assertEqual(self.ring.held("a"), set())


class RangeTests(ReplicaTestCase):
    """Digests and lists of ranges."""

    def setUp(self) -> None:
        super().setUp()
        self.push(*EVERYTHING)

    def digest(self, after: bytes = ZERO, through: bytes = ZERO, kinds: tuple[Kind, ...] = ALL_KINDS) -> RangeDigest:
        """Digest of a range, all by default."""
        found: RangeDigest = self.ring.ask("a", "range-digest", GetRangeDigest(after, through, kinds), "node")
        return found

    def listed(self, *fields: object) -> KeyPage:
        """One page of keys."""
        page: KeyPage = self.ring.ask("a", "range-list", ListRange(*fields), "node")  # type: ignore[arg-type]
        return page

    def test_the_parts_are_the_whole(self) -> None:
        """Every key is in just one of two halves, whatever the kind."""
        half = b"\x80" + bytes(19)
        for kinds in (ALL_KINDS, (Kind.HEAD,), (Kind.CHUNK, Kind.LOG)):
            whole = self.digest(kinds=kinds).count
            low, high = self.digest(ZERO, half, kinds).count, self.digest(half, ZERO, kinds).count
            self.assertEqual(low + high, whole)
            self.assertGreater(whole, 0)

    def test_equal_sets_have_equal_digests(self) -> None:
        """In whatever order they came; and another thing more is another digest."""
        other = Ring("b")
        for item in reversed(EVERYTHING):
            other.ask("b", "push", Push((item,)), "node")
        theirs = other.ask("b", "range-digest", GetRangeDigest(ZERO, ZERO, ALL_KINDS), "node")
        self.assertEqual(self.digest(), theirs)
        self.push(a_chunk(99))
        self.assertNotEqual(self.digest(), theirs)

    def test_pages(self) -> None:
        """Clockwise from the start, none twice, and an end."""
        after = b"\x40" + bytes(19)
        keys: list[ItemKey] = []
        cursor = None
        while True:
            page = self.listed(after, after, ALL_KINDS, cursor, 7)
            keys += page.keys
            cursor = page.cursor
            if cursor is None:
                break
            self.assertEqual(len(page.keys), 7)
        self.assertEqual(len(keys), 60)
        self.assertEqual(set(keys), {item.key for item in EVERYTHING})
        distances = [ids.distance(ids.from_bytes(after), ids.from_bytes(key.ring_id)) for key in keys]
        self.assertEqual(distances, sorted(distances))

    def refuses(self, ring: Ring, name: str, after: bytes, through: bytes, kinds: tuple[Kind, ...]) -> list[bool]:
        """Whether a host says that it is not ready to tell what it has there: as a digest, as a list."""
        refused = []
        for method, body in (
            ("range-digest", GetRangeDigest(after, through, kinds)),
            ("range-list", ListRange(after, through, kinds, None, 9)),
        ):
            answers: list[object] = []
            ring.node(name).dispatcher.dispatch(greeting("node"), method, encode_body(body)).addBoth(answers.append)
            ring.until("an answer", lambda answers=answers: answers)
            error = getattr(answers[0], "value", None)
            refused.append(error is not None and status_for(error)[0] is Status.NOT_READY)
        return refused

    def test_of_what_is_voted_on_only_by_who_was_told_of_it(self) -> None:
        """Who asks for that alone takes the answer for all that there is: one who has just lost its disk,
        and knows nothing of any list of voters yet, does not give it.  Of chunks, and of all, it may be told."""
        self.ring.world.start("n", "nobody")
        self.ring.run(1.0)
        for kinds in ((Kind.HEAD,), (Kind.HEAD, Kind.LOG, Kind.RECORD)):
            self.assertEqual(self.refuses(self.ring, "n", ZERO, ZERO, kinds), [True, True])
            self.assertEqual(self.refuses(self.ring, "a", ZERO, ZERO, kinds), [False, False])
        for kinds in ((), (Kind.CHUNK,), ALL_KINDS):
            self.assertEqual(self.refuses(self.ring, "n", ZERO, ZERO, kinds), [False, False])

    def test_of_what_is_voted_on_only_by_who_still_votes(self) -> None:
        """Who left it to others may have dropped what it had there."""
        ring = Ring("abcde")
        place = HEADS[0].key.ring_id
        before = ids.to_bytes((ids.from_bytes(place) - 1) % ids.RING_SIZE)
        told = {name: self.refuses(ring, name, before, place, (Kind.HEAD,)) for name in "abcde"}
        voters = ring.around(place)[:3]
        self.assertEqual(told, {name: [name not in voters] * 2 for name in "abcde"})

    def test_wrong_questions(self) -> None:
        """Ends of other lengths, pages of no or too many keys, cursors that are no keys."""
        key = CHUNKS[0].key
        for body in (
            ListRange(b"", ZERO, ALL_KINDS, None, 9),
            ListRange(ZERO, bytes(32), ALL_KINDS, None, 9),
            ListRange(ZERO, ZERO, ALL_KINDS, None, 0),
            ListRange(ZERO, ZERO, ALL_KINDS, None, 4097),
            ListRange(ZERO, ZERO, ALL_KINDS, msgspec.structs.replace(key, ring_id=b""), 9),
            ListRange(ZERO, ZERO, ALL_KINDS, msgspec.structs.replace(key, element=bytes(64)), 9),
        ):
            self.assertEqual(self.ring.refused("a", "range-list", body, "node"), Status.BAD_REQUEST, body)
        for ends in ((b"", ZERO), (ZERO, b"x")):
            body = GetRangeDigest(*ends, ALL_KINDS)
            self.assertEqual(self.ring.refused("a", "range-digest", body, "node"), Status.BAD_REQUEST)


class FetchTests(ReplicaTestCase):
    """Items by key."""

    def fetch(self, *keys: ItemKey) -> Items:
        """The answer."""
        answer: Items = self.ring.ask("a", "fetch", Fetch(keys), "node")
        return answer

    def test_of_every_kind(self) -> None:
        """In the order asked; what is not here is left out."""
        self.push(*EVERYTHING)
        asked = [CHAIN[0], a_chunk(99), CHUNKS[0], HEADS[0]]
        self.assertEqual(self.fetch(*[item.key for item in asked]), Items((CHAIN[0], CHUNKS[0], HEADS[0]), False))

    def test_another_owner_s(self) -> None:
        """A key names its owner: nobody else's copy is given for it."""
        self.push(CHUNKS[0])
        self.assertEqual(self.fetch(msgspec.structs.replace(CHUNKS[0].key, owner=b"o" * 20)), Items((), False))

    def test_an_answer_has_a_bound(self) -> None:
        """As many as fit 4 MiB."""
        items = [large(number) for number in range(3)]
        for item in items:
            self.push(item)
        self.assertEqual(self.fetch(*[item.key for item in items]), Items(tuple(items[:2]), True))

    def test_wrong_questions(self) -> None:
        """Keys of another shape, wherever they stand, and too many."""
        key = CHUNKS[0].key
        bad = msgspec.structs.replace(key, owner=b"")
        for keys in ((bad,), (key, bad), (key,) * 1025):
            self.assertEqual(self.ring.refused("a", "fetch", Fetch(keys), "node"), Status.BAD_REQUEST)


class RoleTests(SynchronousTestCase):
    """What members may, users may not."""

    def setUp(self) -> None:
        self.ring = Ring("abc")

    def test_users_push_nothing(self) -> None:
        """Refused, and nothing is stored."""
        self.assertEqual(self.ring.refused("a", "push", Push((CHUNKS[0],)), "user"), Status.BAD_REQUEST)
        self.assertEqual(self.ring.held("a"), set())

    def test_users_are_nobody_s_neighbour(self) -> None:
        """A user's notification or farewell changes no list."""
        before = self.ring.world.snapshot()
        caller = greeting("user", "an intruder", "sim:evil")
        ref = PositionRef(caller.fp, 0, 1, "sim:evil")
        for method, body in (("notify", Notify(0, ref, False)), ("leaving", Leaving(1 << 40, True))):
            results: list[object] = []
            self.ring.node("a").dispatcher.dispatch(caller, method, encode_body(body)).addBoth(results.append)
            self.ring.until("an answer", lambda results=results: results)
            self.assertIn("members of the ring", str(results[0]))
        self.ring.run(10.0)
        self.assertEqual(self.ring.world.snapshot(), before)

    def test_nobody_says_goodbye_for_another(self) -> None:
        """A farewell concerns whoever sends it."""
        before = self.ring.world.snapshot()
        self.assertEqual(self.ring.ask("a", "leaving", Leaving(1 << 40, True), "node"), Done())
        self.ring.run(10.0)
        self.assertEqual(self.ring.world.snapshot(), before)

    def test_users_may_look(self) -> None:
        """Where things are is no secret from those who store them."""
        self.assertEqual(self.ring.ask("a", "ping", Ping()).status, "MEMBER")
        self.assertEqual(len(self.ring.ask("a", "get-neighbours", GetNeighbours(0)).successors), 2)
        self.ring.ask("a", "find-successor", FindSuccessor(bytes(20), -1))
        self.assertEqual(len(self.ring.ask("a", "get-node-records", GetNodeRecords(())).records), 3)

    def test_wrong_questions_about_the_ring(self) -> None:
        """Positions that are not there, keys of other lengths."""
        ref = PositionRef(bytes(32), 0, 1, "sim:evil")
        for method, body in (
            ("get-neighbours", GetNeighbours(1)),
            ("get-neighbours", GetNeighbours(-1)),
            ("find-successor", FindSuccessor(b"", 0)),
            ("find-successor", FindSuccessor(bytes(20), 9)),
            ("find-successor", FindSuccessor(bytes(20), -2)),
            ("notify", Notify(0, ref, False)),
            ("notify", Notify(7, ref, False)),
        ):
            self.assertEqual(self.ring.refused("a", method, body, "node"), Status.BAD_REQUEST, (method, body))


LINE = b"L" * 16
NOBODY = VoterList(bytes(16), 0, ())


def told(
    named: VoterList = NOBODY,
    history: tuple[VoterList, ...] = (),
    covered: tuple[tuple[bytes, int], ...] = (),
    after: bytes = ZERO,
    through: bytes = ZERO,
) -> ArcTold:
    """Something that is said of an arc."""
    return ArcTold(after, through, named, history, covered, True, True)


def strangers(count: int) -> tuple[tuple[bytes, int], ...]:
    """Voters that nobody knows."""
    return tuple((number.to_bytes(32, "big"), 1) for number in range(count))


class AttachTests(SynchronousTestCase):
    """Taking a view over: from hosts only, and nothing that no host would say."""

    def setUp(self) -> None:
        self.ring = Ring("abc")

    def attach(self, view: tuple[HostStanding, ...] = (), arcs: tuple[ArcTold, ...] = ()) -> Attached:
        """The answer."""
        answer: Attached = self.ring.ask("a", "attach", Attach(view, arcs, ()), "node")
        return answer

    def test_an_empty_one(self) -> None:
        """It is told the view, and changes nothing."""
        before = self.ring.node("a").holding.electorate.version
        answer = self.attach()
        self.assertEqual(self.ring.named([one.fp for one in answer.view]), "abc")
        self.assertEqual((answer.unknown, answer.arcs), ((), ()))
        self.assertEqual(self.ring.node("a").holding.electorate.version, before)

    def test_strangers(self) -> None:
        """Nothing is done before their records are there."""
        before = self.ring.node("a").holding.electorate.version
        answer = self.attach((HostStanding(b"?" * 32, 1, 0),))
        self.assertEqual((answer.unknown, answer.view), ((b"?" * 32,), ()))
        self.assertEqual(self.ring.node("a").holding.electorate.version, before)

    def test_what_no_host_says(self) -> None:
        """Other lengths, numbers that were never counted up to, voters that come twice, and far too
        much of anything are refused whole: nothing of it is taken over."""
        electorate = self.ring.node("a").holding.electorate
        before = electorate.version
        fp = self.ring.fp("b")
        one = VoterList(LINE, 1, strangers(1))
        for body in (
            Attach((HostStanding(fp[:31], 1, 0),), (), ()),
            Attach((HostStanding(fp, 1, 3),), (), ()),
            Attach((HostStanding(fp, 1, 0),) * (MAX_VIEW + 1), (), ()),
            Attach((), (told(),) * (MAX_ARCS + 1), ()),
            Attach((), (told(after=b""),), ()),
            Attach((), (told(through=bytes(32)),), ()),
            Attach((), (told(VoterList(b"L", 1, strangers(1))),), ()),
            Attach((), (told(VoterList(LINE, MAX_EPOCH + 1, strangers(1))),), ()),
            Attach((), (told(VoterList(LINE, 1, ((fp[:20], 1),))),), ()),
            Attach((), (told(VoterList(LINE, 1, strangers(1) * 2)),), ()),
            Attach((), (told(VoterList(LINE, 1, strangers(MAX_VOTERS + 1))),), ()),
            Attach((), (told(one, (VoterList(LINE, MAX_EPOCH + 1, strangers(2)),)),), ()),
            Attach((), (told(one, (one,) * (MAX_LISTS + 1)),), ()),
            Attach((), (told(one, (), ((LINE, 1),) * (MAX_COVERED + 1)),), ()),
            Attach((), (told(one, (), ((LINE, MAX_EPOCH + 1),)),), ()),
            Attach((), (told(one, (), ((b"", 1),)),), ()),
        ):
            self.assertEqual(self.ring.refused("a", "attach", body, "node"), Status.BAD_REQUEST, str(body)[:200])
        self.assertEqual(electorate.version, before)

    def test_users_attach_nothing(self) -> None:
        """Nor do they ask what a host may drop."""
        self.assertEqual(self.ring.refused("a", "attach", Attach((), (), ())), Status.BAD_REQUEST)
        self.assertEqual(self.ring.refused("a", "confirm", Confirm(())), Status.BAD_REQUEST)

    def test_a_life_that_was_never_lived(self) -> None:
        """The highest number there is does no harm: the ring goes on, and so does its host after a restart."""
        highest = (1 << 63) - 1
        self.attach((HostStanding(self.ring.fp("a"), highest, 1), HostStanding(self.ring.fp("b"), highest, 1)))
        self.ring.run(5.0)
        self.ring.world.hosts["a"].crash()
        self.ring.world.start("a", "b")
        self.ring.settle()
        (outcome,) = self.ring.put([HEADS[0]])
        self.assertTrue(outcome.certain)


class NonsenseTests(SynchronousTestCase):
    """One host whose answers are no use; the others go on."""

    def setUp(self) -> None:
        self.ring = Ring("abc")

    def test_answers_about_votes(self) -> None:
        """Malformed ones are passed over: with the other two, a fourth comes to vote."""
        wire = Wire(self.ring.node("c"))
        wire.after("attach", lambda body, answer: Attached((), 1, answer.view, (told(after=b"x"),) * 3))
        self.ring.world.start("d", "a")
        self.ring.until("they vote", lambda: all(self.votes(name) for name in "abd"), 60.0)
        self.assertGreater(wire.count("attach"), 0)

    def test_more_copies_than_there_can_be(self) -> None:
        """A holder that says how many it takes to be certain is believed no more than k allows."""
        head = HEADS[0]
        owner = self.ring.around(head.key.ring_id)[0]
        for name in self.ring.names():
            if name != owner:
                Wire(self.ring.node(name)).after(
                    "push", lambda body, answer: msgspec.structs.replace(answer, needed=1 << 62)
                )
        (outcome,) = self.ring.put([head], patience=5.0)
        self.assertEqual((outcome.certain, outcome.needed), (True, 2))

    def votes(self, name: str) -> bool:
        """Whether a host votes on all there is."""
        holding = self.ring.node(name).holding
        if holding is None or not holding.electorate.arcs():
            return False
        mine = [arc.value for arc in holding.electorate.arcs() if holding.electorate.fp in arc.value.named.hosts]
        return bool(mine) and all(arc.capable for arc in mine)
