"""Upkeep: what keeps the ring right, and goes on whatever happens."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from peerstore import ids
from peerstore.errors import Busy, NotReady, PeerMismatch, PeerTimeout, PeerUnreachable
from peerstore.ring.host import EAGER_ROUNDS, FIRST_PERIOD, RingHost
from peerstore.ring.upkeep import PositionUpkeep
from peerstore.wire.bodies import Leaving, Notify
from tests.support.ring_net import RingNet


class UpkeepTestCase(SynchronousTestCase):
    """A ring of eight that has come to rest."""

    count = 8

    def setUp(self) -> None:
        self.net = RingNet()
        self.names = self.net.ring(self.count)
        self.net.run(10)
        self.addCleanup(self.flushLoggedErrors, ZeroDivisionError)

    def host(self, name: str) -> RingHost:
        """The host on a machine."""
        return self.net.machines[name].ring

    def place(self, name: str) -> PositionUpkeep:
        """A machine's only position."""
        return self.host(name).positions[0]

    def in_order(self) -> list[str]:
        """Names, going round from zero."""
        return sorted((machine.name for machine in self.net.running()), key=lambda name: self.place(name).id)

    def ideal(self, seconds: float = 60.0, *names: str) -> None:
        """All that run (or these) become one ideal ring in time."""
        self.assertTrue(self.net.until(lambda: self.net.is_ideal(names), seconds), self.net.missing(names))

    def asked(self, name: str, method: str) -> int:
        """How often that machine has asked others so."""
        return sum(1 for source, _, called in self.net.calls if (source, called) == (name, method))


class GoProgramTests(UpkeepTestCase):
    """The five faults because of which the Go program's ring never formed."""

    def test_a_ids_are_not_reduced(self) -> None:
        """(a) Sixteen nodes of 160 identifiers would collide one time in two;
        ours have 2^160, and sixteen nodes make one ring."""
        for number in range(8, 16):
            self.net.start(f"m{number}", "m0")
        self.ideal()
        self.assertEqual(len({self.place(machine.name).id for machine in self.net.running()}), 16)
        self.assertTrue(all(self.place(machine.name).id > 160 for machine in self.net.running()))

    def test_b_a_joiner_gets_the_successor_of_its_id(self) -> None:
        """(b) Not the closest preceding node, nor whom it happened to ask."""
        host = self.net.start("late", "m3")
        self.net.until(lambda: host.status == "MEMBER", 5, 0.001)
        place = host.positions[0]
        order = [self.place(name).id for name in self.in_order()]
        at = order.index(place.id)
        self.assertEqual(place.successors[0].id, order[(at + 1) % len(order)])
        self.assertEqual(place.predecessor.id if place.predecessor else None, order[at - 1])

    def test_c_stabilizing_asks_the_successor_that_it_has(self) -> None:
        """(c) It does not look its own id up: a ring at rest that needs no
        fingers makes no lookups, and wrapped ids are no different."""
        self.net = RingNet(list_size=16)
        self.names = self.net.ring(self.count)
        self.net.run(60)
        before = self.asked("m0", "find-successor"), self.asked("m0", "get-neighbours")
        self.net.run(200)
        # The odd probe for other rings looks our place up there.
        self.assertLessEqual(self.asked("m0", "find-successor") - before[0], 4)
        self.assertGreater(self.asked("m0", "get-neighbours") - before[1], 10)
        order = self.in_order()
        self.assertEqual(self.place(order[-1]).successors[0], self.place(order[0]).member)

    def test_d_the_dead_are_noticed_and_replaced(self) -> None:
        """(d) A list instead of one pointer, and a dead predecessor gives way
        to one that is farther away."""
        order = self.in_order()
        for name in order[2:5]:
            self.net.machines[name].crash()
        self.ideal(30)
        self.assertEqual(self.place(order[5]).predecessor, self.place(order[1]).member)

    def test_e_a_notice_is_a_hint(self) -> None:
        """(e) It changes no state by itself; the receiver checks it."""
        order = self.in_order()
        place = self.place(order[3])
        before = place.state
        for name in order:
            told = Notify(0, self.place(name).member.ref, False)
            self.host(order[3]).handlers()["notify"](self.net.machines[name].greeting(), told)
            self.assertIs(place.state, before)
        self.net.run(5)
        self.assertEqual(place.state.predecessor, before.predecessor)


class LossTests(UpkeepTestCase):
    """Hosts that die."""

    def test_any_one(self) -> None:
        """The ring closes within seconds, wherever it was."""
        for name in self.in_order()[::3]:
            self.net.machines[name].crash()
            self.ideal(15)

    def test_as_many_in_a_row_as_a_list_can_take(self) -> None:
        """r - 1 consecutive ones."""
        for name in self.in_order()[3:6]:
            self.net.machines[name].crash()
        self.ideal(30)

    def test_more_in_a_row_than_a_list_can_take(self) -> None:
        """The member before them has nobody left after it; its predecessor
        knows more, and so does the table."""
        for name in self.in_order()[2:7]:
            self.net.machines[name].crash()
        self.ideal(60)

    def test_the_last_survivor_learns_that_it_is_alone(self) -> None:
        """And owns everything."""
        for name in self.names[1:]:
            self.net.machines[name].crash()
        self.assertTrue(self.net.until(lambda: self.host("m0").alone, 60))
        self.assertTrue(all(self.host("m0").own_position(key) for key in (0, 7, ids.RING_SIZE - 1)))
        self.assertEqual(self.host("m0").status, "MEMBER")

    def test_survivors_come_back_together(self) -> None:
        """An orphan stays a member, serves, and merges back."""
        for name in self.names[1:]:
            self.net.machines[name].crash()
        self.net.until(lambda: self.host("m0").alone, 60)
        self.net.run(300)
        for name in self.names[1:]:
            self.net.start(name)
        self.ideal(60)

    def test_keys_of_a_dead_member_get_one_new_owner(self) -> None:
        """Until then nobody claims them, and never two."""
        order = self.in_order()
        key = self.place(order[4]).id
        self.net.machines[order[4]].crash()
        for _ in range(100):
            self.net.run(0.1)
            self.assertIn(self.net.owners(key), ([], [order[5]]))
        self.assertEqual(self.net.owners(key), [order[5]])

    def test_keys_behind_a_dead_predecessor_keep_their_owner(self) -> None:
        """The member after it goes on claiming what it had, at every moment."""
        order = self.in_order()
        key = self.place(order[5]).id
        self.net.machines[order[4]].crash()
        for _ in range(100):
            self.net.run(0.1)
            self.assertEqual(self.net.owners(key), [order[5]])

    def test_a_leaver_is_let_go_at_once(self) -> None:
        """It says so, and nobody waits for timeouts."""
        order = self.in_order()
        self.net.result(self.net.machines[order[4]].leave())
        self.ideal(3)

    def test_a_leaver_that_lies_about_when_is_not_believed(self) -> None:
        """A goodbye from an earlier life is old news."""
        order = self.in_order()
        self.net.machines[order[4]].crash()
        self.net.start(order[4], order[0])
        self.ideal(20)
        leaving = self.host(order[5]).handlers()["leaving"]
        leaving(self.net.machines[order[4]].greeting(), Leaving(1, False))
        self.assertTrue(self.host(order[5]).hosts.is_alive(self.net.machines[order[4]].fp))


class SuspicionTests(UpkeepTestCase):
    """When a host is taken for dead."""

    def setUp(self) -> None:
        super().setUp()
        order = self.in_order()
        self.one, self.other = self.host(order[1]), self.net.machines[order[2]]

    def silent(self, error: Any, since: float | None = None) -> bool:
        """One hears nothing of the other."""
        return self.one.liveness.silent(self.other.fp, error, self.net.clock.seconds() if since is None else since)

    def test_one_timeout_is_an_accident(self) -> None:
        """The second, of a later question, is a death."""
        self.assertFalse(self.silent(PeerTimeout("slow")))
        self.net.clock.advance(0.01)
        self.assertTrue(self.silent(PeerTimeout("slow")))
        self.assertFalse(self.one.hosts.is_alive(self.other.fp))

    def test_many_questions_at_once_are_one_accident(self) -> None:
        """Eight positions ask the same host: one lost connection fails all
        eight of them, and is still one accident."""
        since = self.net.clock.seconds() - 0.1
        self.assertEqual([self.silent(PeerTimeout("slow"), since) for _ in range(8)], [False] * 8)

    def test_an_answer_clears_it(self) -> None:
        """After that, one timeout is an accident again."""
        self.silent(PeerTimeout("slow"))
        self.one.liveness.alive(self.other.fp)
        self.net.clock.advance(0.01)
        self.assertFalse(self.silent(PeerTimeout("slow")))

    def test_nobody_listening_is_a_death(self) -> None:
        """And so is somebody else's key at its address."""
        self.assertTrue(self.silent(PeerUnreachable("Connection was refused.")))
        self.assertTrue(self.silent(PeerMismatch("another key")))

    def test_we_never_die(self) -> None:
        """Not even of our own silence."""
        self.assertFalse(self.one.liveness.silent(self.one.fp, PeerMismatch("?"), 0.0))

    def test_nobody_waits_to_tell_a_suspected_predecessor(self) -> None:
        """It is not told the news that it is gone: an answer that does not
        come would keep us from hearing whoever takes its place."""
        before, name = self.in_order()[:2]
        self.net.mute.add(before)
        self.host(name).liveness.drop(self.host(before).fp)
        self.net.calls.clear()
        self.net.run(10)
        self.assertTrue(self.asked(name, "notify"))
        self.assertNotIn((name, before, "notify"), self.net.calls)

    def test_it_is_dialled_at_once_when_it_speaks_to_us(self) -> None:
        """However often it was dialled in vain, nobody waits for the next try."""
        self.silent(PeerUnreachable("Connection was refused."))
        self.net.cut([self.net.machines[self.in_order()[1]].name], [self.other.name])
        for _ in range(6):
            self.net.run(40)
            self.assertRaises(PeerUnreachable, self.dialled)
        self.net.heal()
        self.silent(PeerUnreachable("Connection was refused."))
        self.assertRaises(PeerUnreachable, self.dialled)
        self.one.liveness.alive(self.other.fp)
        self.assertEqual(self.dialled().fp, self.other.fp)

    def dialled(self) -> Any:
        """The other, as one reaches it just now."""
        return self.net.result(self.one.pool.peer(self.other.address, self.other.fp))

    def test_after_a_death_whoever_is_busy_is_alive(self) -> None:
        """All neighbours are looked at: an error from one is an answer."""
        busy = self.in_order()[3]
        self.net.errors[busy, "ping"] = Busy("too much to do")
        self.assertTrue(self.silent(PeerUnreachable("Connection was refused.")))
        self.net.result(Deferred.fromCoroutine(self.one.liveness.look_round()))
        self.assertTrue(self.one.hosts.is_alive(self.net.machines[busy].fp))

    def test_who_was_retired_meanwhile_is_not_looked_at(self) -> None:
        """A late answer still named it, so it is in the list; the look at the
        others goes on, and it is in the list no more."""
        retired = self.net.machines[self.in_order()[3]]
        self.one.hosts.retire(retired.fp)
        self.assertTrue(self.silent(PeerUnreachable("Connection was refused.")))
        self.assertIn(retired.fp, [member.fp for member in self.one.positions[0].neighbours()])
        self.net.result(Deferred.fromCoroutine(self.one.liveness.look_round()))
        self.assertNotIn(retired.fp, [member.fp for member in self.one.positions[0].neighbours()])

    def test_the_dead_are_no_hints_any_more(self) -> None:
        """No finger points at one."""
        fingers = self.one.positions[0].fingers
        fingers.put(150, self.other.ring.positions[0].member)
        self.silent(PeerUnreachable("Connection was refused."))
        self.assertFalse([finger for finger in fingers.members() if finger.fp == self.other.fp])

    def test_a_slow_host_comes_back_by_itself(self) -> None:
        """It was silent for ten seconds, and left out; nobody restarts it."""
        name = self.other.name
        self.net.mute.add(name)
        rest = [other for other in self.names if other != name]
        self.ideal(45, *rest)
        self.net.mute.clear()
        self.ideal(40)

    def test_a_busy_host_is_not_dead(self) -> None:
        """It answers that it has too much to do, for a minute."""
        self.net.errors[self.other.name, "get-neighbours"] = Busy("too much to do")
        for _ in range(60):
            self.net.run(1)
            self.assertTrue(self.net.is_ideal())

    def test_a_position_that_does_not_serve_is_left_out(self) -> None:
        """Its host says that it has not joined; and taken back when it has."""
        name = self.other.name
        self.net.errors[name, "get-neighbours"] = NotReady("not yet")
        rest = [other for other in self.names if other != name]
        self.assertTrue(self.net.until(lambda: self.knows_nothing_of(rest, name), 30))
        self.net.errors.clear()
        self.ideal(30)

    def knows_nothing_of(self, names: list[str], name: str) -> bool:
        """Whether none of these has *name* among its neighbours."""
        fp = self.net.machines[name].fp
        told = [
            at for other in names for at in [*self.place(other).successors, self.place(other).state.told_predecessor]
        ]
        return not any(entry is not None and entry.fp == fp for entry in told)

    def test_a_lost_connection_wakes_us(self) -> None:
        """To a neighbour's host; others are nobody's business."""
        self.net.run(200)
        before = self.asked(self.in_order()[1], "get-neighbours")
        self.one.note_lost(self.other.fp)
        self.net.run(0.1)
        self.assertGreater(self.asked(self.in_order()[1], "get-neighbours"), before)


class NoticeTests(UpkeepTestCase):
    """Who says that it may be our predecessor."""

    def setUp(self) -> None:
        super().setUp()
        self.order = self.in_order()
        self.me = self.place(self.order[4])

    def test_the_slot_keeps_the_nearest(self) -> None:
        """Whichever comes first."""
        near, far = (self.place(self.order[at]).member for at in (3, 1))
        for first, second in ((near, far), (far, near)):
            self.me._notifier = None
            self.me.notified(first)
            self.me.notified(second)
            self.assertEqual(self.me._notifier, near)

    def test_a_better_one_that_we_cannot_reach_is_not_taken(self) -> None:
        """It reaches us: but keys of ours that it claimed would be lost."""
        self.net.cut(self.names, ["late"], one_way=True)
        self.net.start("late", "m0")
        self.net.run(60)
        self.assertTrue(self.net.is_ideal(self.names), self.net.missing(self.names))

    def test_nor_does_it_keep_the_ring_awake(self) -> None:
        """However often it says so, the others come to rest."""
        self.net.cut(self.names, ["late"], one_way=True)
        self.net.start("late", "m0")
        self.net.run(300)
        epochs = [self.place(name).state.epoch for name in self.names]
        self.net.run(100)
        self.assertEqual([self.place(name).state.epoch for name in self.names], epochs)

    def test_a_worse_one_while_the_present_lives(self) -> None:
        """The present one is asked, and stays."""
        before = self.me.predecessor
        self.me.notified(self.place(self.order[1]).member)
        self.net.result(self.me.round())
        self.assertEqual(self.me.predecessor, before)

    def test_a_worse_one_while_the_present_is_only_slow(self) -> None:
        """One timeout does not cost it its place."""
        before = self.me.predecessor
        self.net.mute.add(self.order[3])
        self.me.notified(self.place(self.order[1]).member)
        self.net.result(self.me.round())
        self.assertEqual(self.me.state.told_predecessor, before)

    def test_a_position_that_does_not_exist(self) -> None:
        """It is asked for, and there is none."""
        ghost = msgspec.structs.replace(self.place(self.order[3]).member, id=self.me.id - 1, index=5)
        before = self.me.predecessor
        self.me.notified(ghost)
        self.net.result(self.me.round())
        self.assertEqual(self.me.predecessor, before)


class ErrorTests(UpkeepTestCase):
    """Rounds go on."""

    def test_every_kind_of_failure(self) -> None:
        """Errors of ours and of others, raised or fired, in every call."""

        def raises(*arguments: Any, **keywords: Any) -> Any:
            raise ZeroDivisionError("in the call itself")

        def fires(*arguments: Any, **keywords: Any) -> Any:
            return fail(ZeroDivisionError("later"))

        def refuses(*arguments: Any, **keywords: Any) -> Any:
            return fail(PeerUnreachable("Connection was refused."))

        for number, kind in enumerate((raises, fires, refuses)):
            pool: Any = self.host("m0").pool
            call, peer = pool.call, pool.peer
            pool.call = pool.peer = kind
            self.net.run(20)
            pool.call, pool.peer = call, peer
            self.net.run(1)
            self.net.start(f"new{number}", "m1")
            self.ideal(60)

    def test_an_answer_that_never_comes(self) -> None:
        """One position's question hangs; others are asked when it times out."""
        self.net.mute.add(self.in_order()[2])
        self.net.machines[self.in_order()[5]].crash()
        rest = [name for name in self.in_order() if name not in self.net.mute]
        self.ideal(40, *rest)

    def test_answers_that_are_nonsense(self) -> None:
        """Lists in disorder, of strangers, of ourselves: no state is broken,
        and the ring is ideal once they end."""
        order = self.in_order()
        liar = order[2]
        refs = [self.place(name).member.ref for name in order]
        stranger = msgspec.structs.replace(refs[0], fp=bytes(32))
        for successors, predecessor in (
            ((), None),
            (tuple(reversed(refs)), refs[5]),
            ((refs[1], refs[1], refs[1]), refs[2]),
            ((stranger, refs[3]), stranger),
            (tuple(refs * 3), refs[1]),
        ):
            self.net.lies[liar, "get-neighbours"] = lambda told, successors=successors, predecessor=predecessor: (
                msgspec.structs.replace(told, successors=successors, predecessor=predecessor)
            )
            self.net.run(10)
        self.net.lies.clear()
        self.ideal(60)

    def test_an_answer_in_another_s_name(self) -> None:
        """Who answers for another position is left out until it does not."""
        order = self.in_order()
        other = self.place(order[6]).member.ref
        self.net.lies[order[2], "get-neighbours"] = lambda told: msgspec.structs.replace(told, position=other)
        self.assertTrue(self.net.until(lambda: self.place(order[1]).successors[0] == self.place(order[3]).member, 30))
        self.net.lies.clear()
        self.ideal(60)

    def test_watchers_that_fail_do_not_end_it(self) -> None:
        """Whoever watches the ring is not part of it."""
        broken = iter(range(3))

        def watcher() -> None:
            if next(broken, None) is not None:
                raise ZeroDivisionError("a watcher")

        self.host("m0").watch_changes(watcher)
        self.net.machines[self.in_order()[-1]].crash()
        self.ideal(60)


class OneAtATimeTests(UpkeepTestCase):
    """A position asks one maintenance question at a time."""

    def test_rounds_and_merges_wait_for_each_other(self) -> None:
        """Whoever begins one while another is under way."""
        name = self.in_order()[0]
        place, pool = self.place(name), self.host(name).pool
        call, waiting, most = pool.call, [0], [0]

        def counted(address: str, method: str, *rest: Any) -> Any:
            answer = call(address, method, *rest)
            if method == "get-neighbours":
                waiting[0] += 1
                most[0] = max(most[0], waiting[0])
                answer.addBoth(self.over, waiting)
            return answer

        self.patch(pool, "call", counted)
        others = [self.place(other).member for other in self.in_order()[1:]]
        for _ in range(20):
            self.host(name).hurry()
            ending = [place.round(), place.adopt(others[0]), place.round(), place.adopt(others[-1])]
            self.net.run(0.001)
            for done in ending:
                self.net.result(done)
        self.assertEqual((most[0], waiting[0]), (1, 0))

    @staticmethod
    def over(result: Any, waiting: list[int]) -> Any:
        """One question less is waited for."""
        waiting[0] -= 1
        return result


class PeriodTests(UpkeepTestCase):
    """How often: each quiet round 1.5 times longer, any change begins anew."""

    def rounds(self, seconds: float) -> int:
        """How often m0 looks in so many seconds: one question to its
        successor and one to its predecessor each time."""
        before = self.asked("m0", "get-neighbours")
        self.net.run(seconds)
        return (self.asked("m0", "get-neighbours") - before) // 2

    def test_it_backs_off_to_half_a_minute(self) -> None:
        """At rest, three or four rounds in 100 seconds."""
        self.net.run(200)
        self.assertTrue(self.host("m0").settled)
        self.assertIn(self.rounds(100), range(2, 6))

    def test_any_change_begins_anew(self) -> None:
        """A loss next to it: many rounds within seconds, and then fewer."""
        self.net.run(200)
        self.net.machines[self.in_order()[self.in_order().index("m0") - 1]].crash()
        self.assertGreaterEqual(self.rounds(5), 4)
        self.net.run(200)
        self.assertIn(self.rounds(100), range(2, 6))

    def test_change_without_end_does_not_become_a_storm(self) -> None:
        """Somebody changes all the time: after the first eager rounds there is
        one in each period."""
        host = self.host("m0")

        def again() -> None:
            host.changed()
            self.net.clock.callLater(0.01, again)

        again()
        self.assertGreater(self.rounds(3), EAGER_ROUNDS // 2)
        self.net.run(30)
        self.assertLess(self.rounds(20), 20 / FIRST_PERIOD + 5)

    def test_no_round_begins_after_stopping(self) -> None:
        """Nothing of ours is left on the clock."""
        host = self.host("m0")
        self.net.result(host.stop())
        self.net.run(1)
        self.assertEqual(self.rounds(60), 0)
        self.assertEqual(host.status, "STOPPED")

    def test_stopping_leaves_no_call_behind(self) -> None:
        """Not even when it was in a hurry."""
        for machine in self.net.running():
            machine.ring.hurry()
        stopping: list[Deferred[None]] = [machine.ring.stop() for machine in self.net.running()]
        for deferred in stopping:
            self.net.result(deferred)
        self.net.run(10)
        self.assertEqual(self.net.clock.getDelayedCalls(), [])


class TableTests(SynchronousTestCase):
    """Whom the table shows between us and our first successor."""

    def setUp(self) -> None:
        self.net = RingNet()
        self.names = self.net.frozen(6)
        order = sorted(self.names, key=lambda name: self.net.machines[name].ring.positions[0].id)
        self.me, self.near, self.first = (self.net.machines[name].ring.positions[0] for name in order[1:4])
        self.me.state = self.me.state._replace(successors=self.me.state.successors[1:])
        self.first.state = self.first.state._replace(predecessor=self.me.member)
        self.me.host.hosts.alive(self.near.member.fp)

    def test_it_is_asked_at_once(self) -> None:
        """Nobody else has to notice it first."""
        self.net.result(self.me.round())
        self.assertEqual(self.me.successors[0], self.near.member)

    def test_not_if_it_does_not_answer(self) -> None:
        """It is a hint like any other."""
        self.net.mute.add(next(name for name in self.names if self.net.machines[name].fp == self.near.member.fp))
        self.net.result(self.me.round())
        self.assertEqual(self.me.successors[0], self.first.member)

    def test_not_without_the_table(self) -> None:
        """Rings can be run by Zave's steps alone."""
        self.me.host.knows_all = False
        self.net.result(self.me.round())
        self.assertEqual(self.me.successors[0], self.first.member)


class NewsTests(UpkeepTestCase):
    """News of a list travels backwards at once."""

    def test_a_newcomer_is_known_all_round_within_seconds(self) -> None:
        """Though all were at rest, looking twice a minute."""
        self.net.run(200)
        self.net.start("late", "m0")
        self.ideal(5)

    def test_without_the_table_as_well(self) -> None:
        """By Zave's steps alone."""
        self.net = RingNet(knows_all=False)
        self.names = self.net.ring(12)
        self.net.run(200)
        self.net.start("late", "m0")
        self.ideal(10)
        self.net.machines["m4"].crash()
        self.ideal(20)
