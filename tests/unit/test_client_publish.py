"""One device's chain in the log: sent until certain, never forked by us."""

from __future__ import annotations

import shutil
from typing import Any

from twisted.internet.defer import Deferred, succeed

from peerstore.client import client as client_module
from peerstore.client.client import Change, Client
from peerstore.client.upload import Uploaded
from peerstore.errors import Conflict, CorruptData, Incomplete, PeerStoreError
from peerstore.gateway.results import LogRead, Outcome
from peerstore.transactions.entry import entry_of
from peerstore.wire.messages import Status
from tests.support.memory_ring import ClientTestCase, Device


class PublishTestCase(ClientTestCase):
    """Devices that write small files."""

    def change(self, client: Client, name: str, content: bytes = b"text") -> Change:
        """A new version of docs/name, ready to be published."""

        class Once:
            left = content

            def read(self, size: int = -1) -> bytes:
                piece, self.left = self.left, b""
                return piece

        uploaded: Uploaded = self.result(client.uploader.upload_stream(Once(), 0o644, 1, lambda _: None))
        change: Change = self.result(client.change("docs", name.encode(), uploaded, []))
        return change

    def publish(self, client: Client, *names: str) -> None:
        self.result(client.publish([self.change(client, name) for name in names]))

    def numbers(self) -> list[tuple[bytes, int]]:
        """(device, number) of all entries in the ring."""
        return sorted(place for log in self.gateway.logs.values() for place in log)

    def standing(self, device: Device | None = None) -> list[bytes]:
        """What a fresh reader finds in docs."""
        reader = self.client(device or self.device(f"reader {self._given}"), writing=False)
        self.result(reader.refresh())
        found = sorted(reader.view.tree("docs"))
        reader.state.close()
        return found


class ChainTests(PublishTestCase):
    """Entries follow on each other."""

    def test_a_chain_over_several_runs(self) -> None:
        """Each run goes on where the last one ended."""
        device = self.device()
        for number in range(3):
            client = self.client(device)
            self.result(client.refresh())
            self.publish(client, f"{number}")
            client.state.close()
        self.assertEqual([number for _, number in self.numbers()], [1, 2, 3])
        self.assertEqual(self.standing(), [b"0", b"1", b"2"])

    def test_batches(self) -> None:
        """An entry has room for 256 operations and a MiB of names."""
        client = self.client()
        self.result(client.publish([self.change(client, "n" * 200 + f"{number:03}") for number in range(300)]))
        entries = [entry_of(item) for log in self.gateway.logs.values() for _, item in sorted(log.items())]
        self.assertEqual([len(entry.operations) for entry in entries], [256, 44])

    def test_two_devices(self) -> None:
        """Each has a chain, and both are read; what one saw of the other is
        in its entries."""
        one, two = self.client(self.device("one")), self.client(self.device("two"))
        self.publish(one, "a")
        self.result(two.refresh())
        self.publish(two, "b")
        self.result(one.refresh())
        self.assertEqual(sorted(one.view.tree("docs")), [b"a", b"b"])
        (entry,) = [
            entry_of(item)
            for log in self.gateway.logs.values()
            for place, item in log.items()
            if place[0] == two.device
        ]
        self.assertEqual([(seen.device, seen.number) for seen in entry.seen], [(one.device, 1)])

    def test_a_long_log_is_read_page_by_page(self) -> None:
        """To its end, whatever a page has room for."""
        client = self.client(self.device("one"))
        for number in range(7):
            self.publish(client, f"{number}")
        self.gateway.page = 2
        self.assertEqual(len(self.standing()), 7)

    def test_pages_that_never_end(self) -> None:
        """A node that says "more" and gives nothing new is not asked for ever."""
        client = self.client()
        self.gateway.read_log = lambda *_: succeed(LogRead((), {}, True, True))  # type: ignore[method-assign]
        self.assertTrue(self.result(client.refresh()))


class PendingTests(PublishTestCase):
    """What the ring did not take for certain."""

    def failing(self, call: str) -> None:
        """From the next *call* on, nobody answers."""

        def fail(name: str) -> None:
            self.gateway.down = self.gateway.down or name == call

        self.gateway.before = fail

    def works(self) -> None:
        self.gateway.before, self.gateway.down, self.gateway.weak = (lambda name: None), False, False

    def test_an_entry_that_did_not_arrive(self) -> None:
        """The next run sends it, and nothing else has its number."""
        for call in ("put_heads", "append"):
            device = self.device(call)
            client = self.client(device)
            change = self.change(client, call)
            self.failing(call)
            self.error(client.publish([change]), Incomplete)
            client.state.close()
            self.works()
            again = self.client(device)
            self.result(again.refresh())
            self.publish(again, call + " 2")
            again.state.close()
            self.assertIn(call.encode(), self.standing())
        self.assertEqual(sorted(number for _, number in self.numbers()), [1, 1, 2, 2])

    def test_too_few_copies_are_sent_again(self) -> None:
        """One copy is not certain; the same entry is sent, and then is."""
        device = self.device()
        client = self.client(device)
        change = self.change(client, "a")
        self.gateway.weak = True
        self.error(client.publish([change]), Incomplete)
        client.state.close()
        self.works()
        again = self.client(device)
        self.result(again.refresh())
        self.assertEqual(again.state.pending(), [])
        self.assertEqual([number for _, number in self.numbers()], [1])

    def test_the_same_run_goes_on(self) -> None:
        """A daemon that publishes again sends first what still waits: a later
        entry would have a gap before it."""
        client = self.client()
        change = self.change(client, "a")
        self.failing("append")
        self.error(client.publish([change]), Incomplete)
        self.works()
        self.publish(client, "b")
        self.assertEqual([number for _, number in self.numbers()], [1, 2])
        self.assertEqual(self.standing(), [b"a", b"b"])

    def test_killed_before_it_was_sent(self) -> None:
        """The entry was on our disk, so that its number is taken."""
        device = self.device()
        client = self.client(device)
        change = self.change(client, "a")
        self.gateway.put_heads = lambda *_: Deferred()  # type: ignore[method-assign,assignment]
        self.assertNoResult(client.publish([change]))
        client.state.close()
        del self.gateway.put_heads
        again = self.client(device)
        self.result(again.refresh())
        self.publish(again, "b")
        self.assertEqual([number for _, number in self.numbers()], [1, 2])
        self.assertEqual(self.standing(), [b"a", b"b"])

    def test_a_reader_shows_what_the_ring_has(self) -> None:
        """It neither shows nor sends what is still to be sent, and does not
        fail for it; the device's next writer does both."""
        device = self.device()
        client = self.client(device)
        change = self.change(client, "a")
        self.failing("put_heads")
        self.error(client.publish([change]), Incomplete)
        client.state.close()
        self.gateway.before, self.gateway.down = (lambda name: None), False
        self.gateway.calls.clear()
        self.assertEqual(self.standing(device), [])
        self.assertEqual(set(self.gateway.calls), {"read_log"})
        writer = self.client(device)
        self.result(writer.refresh())
        self.assertEqual(sorted(writer.view.tree("docs")), [b"a"])

    def test_a_reader_beside_a_writer(self) -> None:
        """It keeps no device of its own, and what it read is kept."""
        device = self.device()
        reader = self.client(device, writing=False)
        self.assertIs(reader.state.meta("device"), None)
        writer = self.client(device)
        self.publish(writer, "a")
        self.result(reader.refresh())
        self.assertEqual(sorted(reader.view.tree("docs")), [b"a"])
        self.assertEqual(self.client(device).device, writer.device)


class GapTests(PublishTestCase):
    """Nodes that lack earlier entries of the chain."""

    def test_a_gap_is_filled(self) -> None:
        """The whole chain is sent, once."""
        client = self.client()
        self.publish(client, "a")
        self.publish(client, "b")
        (log,) = self.gateway.logs.values()
        log.clear()
        self.publish(client, "c")
        self.assertEqual([number for _, number in self.numbers()], [1, 2, 3])
        self.assertEqual(client.state.pending(), [])

    def test_another_has_written_as_this_device(self) -> None:
        """A copied state is found out, and says what to do."""
        device = self.device("one")
        self.client(device).state.close()
        shutil.copytree(device.home, self.place / "copy")
        copied = self.device("copy")
        one, two = self.client(device), self.client(copied)
        self.assertEqual(one.device, two.device)
        self.publish(one, "a")
        error = self.error(two.publish([self.change(two, "b")]), Conflict)
        self.assertIn("--home", error.next_step)
        self.assertEqual(error.exit_status, 6)

    def test_nodes_of_another_version(self) -> None:
        """What they refuse as malformed is not blamed on their disks."""
        client = self.client()
        refused = Outcome(Status.REJECTED, (), 2, False, "The node judged it malformed or contradicted.")
        change = self.change(client, "a")
        self.gateway.put_heads = lambda *_: succeed([refused])  # type: ignore[method-assign,assignment]
        self.assertIn("of one version", self.error(client.publish([change]), Incomplete).next_step)


class LostTests(PublishTestCase):
    """A ring that has less of the log than this device has seen."""

    def two_devices(self) -> tuple[Client, Client]:
        one, two = self.client(self.device("one")), self.client(self.device("two"))
        self.publish(one, "a")
        self.publish(one, "b")
        self.publish(two, "c")
        self.result(one.refresh())
        return one, two

    def test_nothing_of_our_own_is_there(self) -> None:
        """A writer refuses, a reader says so and shows what it remembers."""
        device = self.device()
        client = self.client(device)
        self.publish(client, "a")
        self.gateway.logs.clear()
        error = self.error(client.refresh(), Incomplete)
        self.assertIn("another ring", error.what)
        reader = self.client(device, writing=False)
        self.assertTrue(self.result(reader.refresh()))
        self.assertFalse(reader.known_there)
        self.assertEqual(sorted(reader.view.tree("docs")), [b"a"])

    def test_only_the_end_of_our_own_is_missing(self) -> None:
        """What is stored with it may be lost as well: also refused."""
        one, _ = self.two_devices()
        (log,) = self.gateway.logs.values()
        del log[(one.device, 2)]
        self.error(one.refresh(), Incomplete)
        self.assertTrue(self.result(one.refresh(anew=True)))
        self.assertIn((one.device, 2), self.numbers())
        self.assertTrue(self.result(one.refresh()))

    def test_anothers_entries_are_given_back(self) -> None:
        """Union: what we have is as good as what they had."""
        one, two = self.two_devices()
        (log,) = self.gateway.logs.values()
        del log[(two.device, 1)]
        self.assertTrue(self.result(one.refresh()))
        self.assertEqual(one.healed, 1)
        self.assertIn((two.device, 1), self.numbers())
        self.assertEqual(one.lacking, {})

    def test_too_few_nodes_to_tell(self) -> None:
        """An incomplete read proves nothing."""
        one, _ = self.two_devices()
        self.gateway.read_log = lambda *_: succeed(LogRead((), {}, False, False))  # type: ignore[method-assign]
        self.assertFalse(self.result(one.refresh()))
        self.assertTrue(one.known_there)

    def test_what_is_pending_is_not_missing(self) -> None:
        """The ring never had it for certain."""
        device = self.device()
        client = self.client(device)
        self.publish(client, "a")
        change = self.change(client, "b")
        self.gateway.weak = True
        self.error(client.publish([change]), Incomplete)
        self.gateway.weak = False
        self.assertEqual(len(self.numbers()), 1)
        client.state.close()
        self.assertTrue(self.result(self.client(device).refresh()))
        self.assertEqual(len(self.numbers()), 2)


class DamageTests(PublishTestCase):
    """A state whose rows are not what was written."""

    def test_rows_that_cannot_be_read(self) -> None:
        """It is damage of the disk, and no fault of a peer's."""
        for table in ("entry", "pending"):
            device = self.device(table)
            client = self.client(device)
            change = self.change(client, "a")
            if table == "pending":
                self.gateway.down = True
                self.error(client.publish([change]), PeerStoreError)
                self.gateway.down = False
            else:
                self.result(client.publish([change]))
            client.state._do(f"UPDATE {table} SET statement = x'00'")
            client.state.close()
            damaged = device.client()
            self.assertIn("is damaged", self.error(damaged.open(), CorruptData).what)
            damaged.state.close()

    def test_a_head_that_cannot_be_read(self) -> None:
        """So is the head that a pending entry goes with."""
        device = self.device()
        client = self.client(device)
        change = self.change(client, "a")
        self.gateway.down = True
        self.error(client.publish([change]), PeerStoreError)
        self.gateway.down = False
        client.state._do("UPDATE pending SET head = x'c1'")
        self.error(client.refresh(), CorruptData)


class WatchTests(PublishTestCase):
    """Waiting for news."""

    def test_news(self) -> None:
        """They are taken in as they come."""
        one, two = self.client(self.device("one")), self.client(self.device("two"))
        self.publish(two, "a")
        self.assertEqual(self.result(one.watch()), 1)
        self.assertEqual(self.result(one.watch()), 0)

    def test_nobody_there(self) -> None:
        """It fails, and whoever waits decides."""
        self.gateway.down = True
        client = self.client()
        self.error(client.watch(), PeerStoreError)
        self.assertFalse(self.result(client.somebody_answers()))
        self.gateway.down = False
        self.assertTrue(self.result(client.somebody_answers()))

    def test_complete_or_not_at_all(self) -> None:
        """Writers do not act on a log that may be behind."""
        client_module.require_complete(True)
        error: Any = self.assertRaises(Incomplete, client_module.require_complete, False)
        self.assertIn("Start the nodes", error.next_step)
