"""Which simulated disk has what, and where it should be."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.items import ItemKey
from peerstore.sim.clock import SimClock
from peerstore.sim.data_places import Places, key_on_disk, misplaced, wanted_at
from peerstore.sim.disk import SimDisk
from peerstore.storage.memory_store import MemoryNodeStore
from tests.support.things import a_chunk, a_head

HEAD = a_head(1)
KEY = HEAD.key
NAMES = "abcd"
#: Four machines at a quarter of the circle each, after the key.
AROUND = [((ids.from_bytes(KEY.ring_id) + (place << 158)) % ids.RING_SIZE, name) for place, name in enumerate(NAMES)]


class PlacesTests(SynchronousTestCase):
    """Watched disks with the shipped memory store on them."""

    def setUp(self) -> None:
        """Four disks, each with a store."""
        self.clock = SimClock()
        self.breaches: list[str] = []
        self.places = Places(lambda promise, what: self.breaches.append(promise), 3)
        self.disks = {name: SimDisk(self.clock, lambda: 1.0) for name in NAMES}
        self.stores = {name: MemoryNodeStore(disk) for name, disk in self.disks.items()}
        for name, disk in self.disks.items():
            disk.watch = self.places.watcher(name)
            self.stores[name].start()

    def put(self, names: str) -> None:
        """These machines keep the head."""
        for name in names:
            self.stores[name].put([HEAD])
        self.clock.advance(2)

    def remove(self, name: str) -> None:
        """This one forgets it."""
        self.stores[name].remove([KEY])
        self.clock.advance(2)

    def test_what_is_durable_is_there(self) -> None:
        """And not before."""
        self.stores["a"].put([HEAD])
        self.assertEqual(self.places.held(), [])
        self.clock.advance(1)
        self.assertEqual((self.places.held(), self.places.there(KEY)), ([KEY], {"a"}))

    def test_settings_are_no_items(self) -> None:
        """They are on disks, too."""
        self.stores["a"].keep_setting("hosts", b"x" * 73)
        self.clock.advance(1)
        self.assertEqual(self.places.held(), [])

    def test_keys_are_read_back_from_disk(self) -> None:
        """Of each kind, byte for byte."""
        for item in (HEAD, a_chunk(1)):
            self.stores["a"].put([item])
        self.clock.advance(2)
        found = {key_on_disk(raw) for raw in self.disks["a"].load()}
        self.assertEqual(found, {HEAD.key, a_chunk(1).key})

    def test_a_copy_too_many_may_go(self) -> None:
        """Three others have it."""
        self.put("abcd")
        self.remove("a")
        self.assertEqual((self.breaches, self.places.there(KEY)), ([], set("bcd")))
        self.assertEqual(self.places.checks["dropped"], 1)

    def test_one_of_k_may_not(self) -> None:
        """Two others are not enough."""
        self.put("abc")
        self.remove("a")
        self.assertEqual(self.breaches, ["dropped"])

    def test_who_confirmed_it_may_have_lost_its_disk_since(self) -> None:
        """That is nobody's fault."""
        self.put("abcd")
        self.places.lose(lambda: self.disks["b"].restore({}))
        self.remove("a")
        self.assertEqual(self.breaches, [])

    def test_the_last_copy_never_goes(self) -> None:
        """Whatever was lost before."""
        self.put("abc")
        for name in "bc":
            self.places.lose(lambda name=name: self.disks[name].restore({}))  # type: ignore[misc]
        self.remove("a")
        self.assertEqual(self.breaches, ["dropped"])

    def test_a_lost_disk_removes_nothing(self) -> None:
        """It is counted instead."""
        self.put("ab")
        self.places.lose(lambda: self.disks["a"].restore({}))
        self.assertEqual((self.breaches, self.places.lost, self.places.there(KEY)), ([], 1, {"b"}))

    def test_an_older_disk_has_what_it_had(self) -> None:
        """Items come back with a backup, too."""
        self.put("a")
        backup = self.disks["a"].snapshot()
        self.places.lose(lambda: self.disks["a"].restore({}))
        self.places.lose(lambda: self.disks["a"].restore(backup))
        self.assertEqual(self.places.there(KEY), {"a"})

    def test_who_is_gone_for_good_holds_nothing(self) -> None:
        """Its disk is no longer counted."""
        self.put("ab")
        self.places.gone("a")
        self.assertEqual(self.places.there(KEY), {"b"})

    def test_a_node_retires_when_others_have_it_all(self) -> None:
        """As many as there are, k at most."""
        self.put("abcd")
        self.places.retired("a", 3)
        self.assertEqual((self.breaches, self.places.there(KEY)), ([], set("bcd")))
        self.places.retired("b", 2)
        self.assertEqual((self.breaches, self.places.there(KEY)), ([], set("cd")))

    def test_a_node_that_retires_early_is_noticed(self) -> None:
        """Others could have had it, and have not."""
        self.put("ab")
        self.places.retired("a", 3)
        self.assertEqual(self.breaches, ["retired"])

    def test_a_node_that_met_few_must_not_go_with_the_only_copy(self) -> None:
        """One other is the least."""
        self.put("ab")
        self.places.retired("a", 1)
        self.assertEqual(self.breaches, [])
        self.places.retired("b", 1)
        self.assertEqual(self.breaches, ["retired"])


class MisplacedTests(SynchronousTestCase):
    """Where k copies belong."""

    def compare(self, machines: str, copies: int = 3) -> tuple[str, str]:
        """The machines on which it is missing, and left over."""
        missing, over = misplaced({KEY: set(machines)}, AROUND, copies)
        return "".join(name for _, name in missing), "".join(name for _, name in over)

    def test_the_first_k_from_the_key(self) -> None:
        """Those and no others."""
        self.assertEqual(self.compare("abc"), ("", ""))
        self.assertEqual(self.compare("abcd"), ("", "d"))
        self.assertEqual(self.compare("bd"), ("ac", "d"))

    def test_a_position_at_the_key_is_its_owner(self) -> None:
        """And the one just before it is the last."""
        key = ItemKey(ids.to_bytes(AROUND[1][0]), KEY.owner, KEY.kind, KEY.element)
        self.assertEqual(wanted_at(key, AROUND, 4), list("bcda"))

    def test_several_positions_are_one_machine(self) -> None:
        """Two copies on one disk are one copy."""
        double = [*AROUND, (AROUND[0][0] + 1, "a"), (AROUND[0][0] + 2, "b")]
        self.assertEqual(wanted_at(KEY, double, 3), list("abc"))

    def test_fewer_machines_than_copies(self) -> None:
        """All of them."""
        self.assertEqual(wanted_at(KEY, AROUND[:2], 3), list("ab"))
