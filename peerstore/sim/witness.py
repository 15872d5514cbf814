"""What one host asked and was told: a pool that remembers.

It stands where the shipped pool stands (``IPeerPool``) and passes everything
on.  What it remembers is the evidence for I11 (``sim.refinement``), and the
lists that are on their way, which count as lists (``sim.invariants``).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from peerstore import ids
from peerstore.errors import NotReady, PeerError
from peerstore.interfaces import IPeerPool, IRemotePeer
from peerstore.sim.refinement import Answer, Step
from peerstore.wire.bodies import Found, Neighbours, PositionRef

__all__ = ["Board", "Question", "Witness", "WitnessPool"]

#: A notice waits for the next round, and that is at most so far away (s).
NOTICE_KEPT = 90.0
#: News of a leave arrives within so long (s), whatever is lost.
LEAVING_KEPT = 30.0


class Question(NamedTuple):
    """One question that may bring a list; *lists* are those that the answer
    may hold, each with the member that holds it in front.  *asker* is a host,
    *machine* where it runs."""

    asker: bytes
    machine: str
    method: str
    fp: bytes | None
    place: int
    lists: list[tuple[int, ...]]


class Board:
    """What all hosts of a world share: who is who, and who told whom.

    :param seconds: virtual time.
    :param event: the number of the event that happens now.
    """

    def __init__(self, seconds: Callable[[], float], event: Callable[[], int]) -> None:
        self.seconds = seconds
        self.event = event
        #: Ring ids of each host's positions.
        self.positions: dict[bytes, tuple[int, ...]] = {}
        #: The machine of each host.
        self.names: dict[bytes, str] = {}
        #: By address, whoever was started there last.
        self.at: dict[str, bytes] = {}
        self.questions: dict[int, Question] = {}
        self._count = 0
        self._watch: Callable[[Question], None] | None = None
        self._leaving: dict[tuple[bytes, int], float] = {}
        self._notices: dict[int, dict[int, float]] = {}

    def member(self, ref: PositionRef | None) -> int | None:
        """The ring id that a reference means."""
        places = self.positions.get(ref.fp) if ref is not None else None
        return places[ref.index] if places is not None and ref is not None and ref.index < len(places) else None

    def watch_questions(self, callback: Callable[[Question], None]) -> None:
        """*callback(question)* for each that is asked from now on."""
        self._watch = callback

    def asked(self, question: Question) -> int:
        """A question is on its way; its number."""
        self._count += 1
        self.questions[self._count] = question
        if self._watch is not None:
            self._watch(question)
        return self._count

    def asked_members(self, question: Question) -> tuple[int, ...]:
        """The positions that may answer it."""
        members = self.positions.get(question.fp or b"", ())
        return members if question.place == -1 else members[question.place : question.place + 1]

    def leaves(self, fp: bytes, incarnation: int) -> None:
        """A host has begun to say that it goes, in this one of its lives."""
        self._leaving[fp, incarnation] = self.seconds()

    def leavers(self, last_life: Callable[[bytes], int]) -> list[tuple[int, ...]]:
        """The positions of each host that said so lately.

        :param last_life: the last incarnation of a host that whoever acts upon
            it has heard of: the goodbye of an earlier one is no reason for
            anything.
        """
        now = self.seconds()
        return [
            self.positions[fp]
            for (fp, incarnation), at in self._leaving.items()
            if now - at < LEAVING_KEPT and incarnation >= last_life(fp)
        ]

    def notified(self, member: int, by: int) -> None:
        """Somebody tells a member that he may be its predecessor."""
        self._notices.setdefault(member, {})[by] = self.seconds()

    def notifiers(self, member: int) -> list[int]:
        """Who told it so lately."""
        now = self.seconds()
        return [by for by, at in self._notices.get(member, {}).items() if now - at < NOTICE_KEPT]


class Witness:
    """One host's questions, from one start of it to the next.

    :param fp: the host's.
    :param machine: where it runs.
    """

    def __init__(self, board: Board, fp: bytes, machine: str) -> None:
        self.board = board
        self.fp = fp
        self.machine = machine
        #: How often each key was asked for, in steps of lookups.
        self.steps_to: Counter[bytes] = Counter()
        #: And how often whom: an address, and which position there (-1: any).
        self.asked: defaultdict[bytes, Counter[tuple[str, int]]] = defaultdict(Counter)
        self._answers: list[tuple[int, Neighbours]] = []
        self._steps: list[tuple[int, Found]] = []
        self._silent: list[tuple[int, bytes]] = []
        self._not_serving: list[tuple[int, int]] = []
        self._arrived: list[int] = []
        self._resolving = 0

    # -- as it happens ---------------------------------------------------------------

    def began(self, address: str, method: str, body: Any, fp: bytes | None) -> int | None:
        """A question is asked; its number on the board, if it may bring a list."""
        if method == "find-successor":
            self.steps_to[body.key] += 1
            self.asked[body.key][address, body.index] += 1
        if method == "get-node-records":
            self._resolving += 1
        if method == "leaving":
            self.board.leaves(self.fp, body.incarnation)
        if fp is None:
            fp = self.board.at.get(address)
        if method == "notify" and not body.list_changed and fp in self.board.positions:
            candidate = self.board.member(body.candidate)
            if candidate is not None and body.index < len(self.board.positions[fp]):
                self.board.notified(self.board.positions[fp][body.index], candidate)
        if method in ("get-neighbours", "find-successor"):
            return self.board.asked(Question(self.fp, self.machine, method, fp, body.index, []))
        return None

    def answered(self, number: int | None, method: str, body: Any, answer: Any) -> None:
        """An answer was given."""
        if number is not None:
            # What it says is on its way until the host has acted upon it.
            self._arrived.append(number)
        if method == "get-node-records":
            self._resolving -= 1
        member = self.board.member
        if isinstance(answer, Neighbours) and (told := member(answer.position)) is not None:
            self._answers.append((told, answer))
            question = self.board.questions.get(number or 0)
            if question is not None and (answer.position.fp, answer.position.index) != (question.fp, body.index):
                self._note_not_serving(question.fp, body.index)
        if isinstance(answer, Found) and (told := member(answer.position)) is not None:
            self._steps.append((told, answer))

    def failed(self, number: int | None, method: str, body: Any, fp: bytes | None, failure: Failure) -> None:
        """None was."""
        if number is not None:
            self.board.questions.pop(number, None)
        if method == "get-node-records":
            self._resolving -= 1
        if fp is None:
            return
        if failure.check(PeerError):
            self._silent.append((self.board.event(), fp))
        elif failure.check(NotReady) and method == "get-neighbours":
            self._note_not_serving(fp, body.index)

    def unreachable(self, fp: bytes | None, failure: Failure) -> None:
        """No connection came about."""
        if fp is not None and failure.check(PeerError):
            self._silent.append((self.board.event(), fp))

    def _note_not_serving(self, fp: bytes | None, index: int) -> None:
        positions = self.board.positions.get(fp or b"", ())
        if index < len(positions):
            self._not_serving.append((self.board.event(), positions[index]))

    def event_over(self) -> None:
        """The event in which answers arrived has ended: unless keys of hosts
        that they name are still asked for, they have been acted upon, and are
        no reason for anything any more."""
        if not self._resolving:
            for number in self._arrived:
                self.board.questions.pop(number, None)
            self._arrived.clear()
            self._answers.clear()
            self._steps.clear()

    def end(self) -> None:
        """The host is gone, and with it what it asked."""
        for number in [n for n, question in self.board.questions.items() if question.machine == self.machine]:
            del self.board.questions[number]

    def most_asked(self, key: int) -> int:
        """How often this key was asked for at whoever was asked most often."""
        return max(self.asked[ids.to_bytes(key)].values(), default=0)

    # -- what it amounts to ------------------------------------------------------------

    def answers(self, known: Callable[[bytes], bool]) -> list[Answer]:
        """What was told of neighbours just now, newest first: in this event,
        or in an earlier one, and keys of hosts that it names came since.

        :param known: whether the host has the key of another, and so can make
            anything of a reference to it.
        """
        return [
            Answer(told, self._resolved(answer.predecessor, known), self._list(answer.successors, known))
            for told, answer in reversed(self._answers)
        ]

    def steps(self, known: Callable[[bytes], bool]) -> list[Step]:
        """What was told just now on the way to keys, newest first."""
        return [
            Step(
                told,
                self._resolved(answer.predecessor, known),
                answer.owns,
                answer.final,
                self._list(answer.successors, known),
            )
            for told, answer in reversed(self._steps)
        ]

    def silent(self) -> list[tuple[int, ...]]:
        """The positions of each host that failed to answer in this event."""
        now = self.board.event()
        self._silent = [(event, fp) for event, fp in self._silent if event == now]
        return [self.board.positions[fp] for _, fp in self._silent if fp in self.board.positions]

    def not_serving(self) -> list[int]:
        """Positions that were said in this event not to serve."""
        now = self.board.event()
        self._not_serving = [(event, member) for event, member in self._not_serving if event == now]
        return [member for _, member in self._not_serving]

    def _resolved(self, ref: PositionRef | None, known: Callable[[bytes], bool]) -> int | None:
        return self.board.member(ref) if ref is not None and known(ref.fp) else None

    def _list(self, refs: Iterable[PositionRef], known: Callable[[bytes], bool]) -> tuple[int, ...]:
        found = (self._resolved(ref, known) for ref in refs)
        return tuple(member for member in found if member is not None)


@implementer(IRemotePeer)
class _WitnessPeer:
    """A connected peer whose answers are remembered."""

    def __init__(self, peer: Any, address: str, witness: Witness) -> None:
        self._peer = peer
        self._dialled = address
        self._witness = witness
        self.fp = peer.fp
        self.greeting = peer.greeting
        self.address = peer.address

    def call(self, method: str, body: Any, timeout: float | None = None) -> Deferred[Any]:
        """Ask, and remember."""
        return _asked(self._witness, self._dialled, method, body, self.fp, self._peer.call, method, body, timeout)


@implementer(IPeerPool)
class WitnessPool:
    """A pool whose answers are remembered.

    :param pool: the shipped one.
    """

    def __init__(self, pool: Any, witness: Witness) -> None:
        self._pool = pool
        self._witness = witness

    def call(
        self, address: str, method: str, body: Any, timeout: float | None = None, fp: bytes | None = None
    ) -> Deferred[Any]:
        """Ask, and remember."""
        return _asked(self._witness, address, method, body, fp, self._pool.call, address, method, body, timeout, fp)

    def peer(self, address: str, fp: bytes | None = None) -> Deferred[Any]:
        """The connected peer; its answers are remembered, too."""

        def missed(failure: Failure) -> Failure:
            self._witness.unreachable(fp, failure)
            return failure

        connecting: Deferred[Any] = self._pool.peer(address, fp)
        return connecting.addCallbacks(lambda peer: _WitnessPeer(peer, address, self._witness), missed)

    def drop(self, address: str) -> None:
        """Passed on."""
        self._pool.drop(address)

    def forget_backoff(self, address: str) -> None:
        """Passed on."""
        self._pool.forget_backoff(address)

    def watch_losses(self, callback: Any) -> None:
        """Passed on."""
        self._pool.watch_losses(callback)

    def stop(self) -> Any:
        """Passed on."""
        return self._pool.stop()


def _asked(
    witness: Witness, address: str, method: str, body: Any, fp: bytes | None, ask: Callable[..., Any], *args: Any
) -> Deferred[Any]:
    number = witness.began(address, method, body, fp)

    def told(answer: Any) -> Any:
        witness.answered(number, method, body, answer)
        return answer

    def untold(failure: Failure) -> Failure:
        witness.failed(number, method, body, fp, failure)
        return failure

    asking: Deferred[Any] = ask(*args)
    return asking.addCallbacks(told, untold)
