"""What was promised to users, and whether it was kept: pure bookkeeping.

It stands outside of all machines.  Of each item it knows what it is, whether
anybody ever said that it is certain, and whether anybody ever took it.  The
promises, each by the name under which a breach is reported:

- *certain*: what was certain before a read began is in the read, once that
  says that it is complete, or something that replaces it is;
- *bytes*: whatever is read was written, to the last byte;
- *refused*: what one node took no other refuses;
- *copies*: at rest everything that any host has is on its k hosts;
- *left over*: and on no other;
- *dropped*: a copy is removed only where k others have it, or all there are;
- *retired*: and so it is before a node goes for good;
- *answer*: every call ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from peerstore.files.head import Version, decode_head, replaces
from peerstore.gateway.results import Outcome
from peerstore.items import Item, ItemKey, Kind
from peerstore.transactions.entry import Entry, entry_of
from peerstore.wire.messages import Status

__all__ = ["Known", "Oracle"]


@dataclass
class Known:
    """One thing that a user wrote.

    *certain* is the mark at which somebody was first told that it is, *taken*
    whether any node ever said that it has it.  Chunks may be posted with
    several *statements*, whose clocks differ.
    """

    key: ItemKey
    data: bytes
    statements: set[bytes]
    name: str
    version: Version | None = None
    entry: Entry | None = None
    certain: int | None = None
    taken: bool = False

    def is_certain(self, mark: int) -> bool:
        """Whether it was before *mark*."""
        return self.certain is not None and self.certain <= mark


@dataclass
class Oracle:
    """All that users wrote, and were told.

    :param violated: told the promise, and what was seen.
    """

    violated: Callable[[str, str], None]
    #: Told what it is when somebody is told that something new is certain.
    promised: Callable[[ItemKey], None] = lambda key: None
    checks: Counter[str] = field(default_factory=Counter)
    known: dict[ItemKey, Known] = field(default_factory=dict)
    #: {(ring id, owner, kind): its elements}
    _sets: dict[tuple[bytes, bytes, Kind], list[Known]] = field(default_factory=dict)
    _marks: int = 0

    # -- writes ------------------------------------------------------------------

    def writing(self, item: Item, name: str) -> None:
        """A user is about to post this; *name* is for people."""
        known = self.known.get(item.key)
        if known is not None:
            known.statements.add(item.statement)
            return
        known = Known(item.key, item.data, {item.statement}, name)
        if item.key.kind is Kind.HEAD:
            known.version = decode_head(item)
        elif item.key.kind is Kind.LOG:
            known.entry = entry_of(item)
        self.known[item.key] = known
        self._sets.setdefault((item.key.ring_id, item.key.owner, item.key.kind), []).append(known)

    def outcome(self, item: Item, outcome: Outcome, whole: bool = False) -> None:
        """What a user was told of one item.

        :param whole: all entries before it in its chain were posted with it.
            Without them, a voter that missed one of them says so.
        """
        known = self.known[item.key]
        self.checks["refused"] += 1
        if outcome.status in (Status.REJECTED, Status.QUOTA) or (
            outcome.status is Status.GAP and (whole or self._is_first(known))
        ):
            before = "certain" if known.certain else "taken" if known.taken else "sound"
            self.violated("refused", f"{known.name}, which was {before}, was refused: {outcome.status.name}")
        if outcome.status is Status.OK:
            known.taken = True
        if outcome.certain:
            self.certain(item.key)

    def certain(self, key: ItemKey) -> None:
        """A user was told that this is certain."""
        known = self.known[key]
        known.taken = True
        if known.certain is None:
            known.certain = self.mark()
            self.promised(key)

    @staticmethod
    def _is_first(known: Known) -> bool:
        """Whether there can be nothing before it."""
        return known.entry is not None and known.entry.number == 1

    # -- reads -------------------------------------------------------------------

    def mark(self) -> int:
        """A moment; a later one is higher."""
        self._marks += 1
        return self._marks

    def sound(self, items: Iterable[Item]) -> None:
        """These were read: they were written, too, to the last byte."""
        for item in items:
            self.checks["bytes"] += 1
            known = self.known.get(item.key)
            if known is None:
                self.violated("bytes", f"{item.key.kind.name} {item.key.element.hex()[:8]} was never written")
            elif item.data != known.data or item.statement not in known.statements:
                self.violated("bytes", f"{known.name} was read with other bytes than were written")

    def heads_read(
        self, mark: int, ring_id: bytes, owner: bytes, elements: Iterable[bytes], items: Iterable[Item], complete: bool
    ) -> None:
        """The newest heads of a resource were read, or those named; the read
        began at *mark*."""
        found = list(items)
        self.sound(found)
        if not complete:
            return
        wanted = set(elements)
        versions = [known.version for item in found if (known := self.known.get(item.key)) and known.version]
        for known in self._sets.get((ring_id, owner, Kind.HEAD), ()):
            version = known.version
            if version is None or not known.is_certain(mark) or (wanted and version.id not in wanted):
                continue
            self.checks["certain"] += 1
            if any(one.id == version.id or (not wanted and replaces(one, version)) for one in versions):
                continue
            what = "is not found" if not versions else "and nothing that replaces it is found"
            self.violated("certain", f"{known.name} was certain {what} by a complete read")

    def log_read(self, mark: int, ring_id: bytes, owner: bytes, items: Iterable[Item], complete: bool) -> None:
        """All of a log was read; the read began at *mark*."""
        found = list(items)
        self.sound(found)
        if not complete:
            return
        elements = {item.key.element for item in found}
        for known in self._sets.get((ring_id, owner, Kind.LOG), ()):
            if known.is_certain(mark):
                self.checks["certain"] += 1
                if known.key.element not in elements:
                    self.violated("certain", f"{known.name} was certain, and a complete read lacks it")

    def chunks_read(self, mark: int, owner: bytes, hashes: Iterable[bytes], items: Iterable[Item], rest: bool) -> None:
        """Chunks were read.  What is not found may be out of reach, but not
        at *rest*."""
        found = {item.key.element: item for item in items}
        self.sound(found.values())
        if not rest:
            return
        for known in self.of(owner, Kind.CHUNK):
            if known.is_certain(mark) and known.key.element in set(hashes):
                self.checks["certain"] += 1
                if known.key.element not in found:
                    self.violated("certain", f"{known.name} was certain, and nobody has it")

    # -- what there is --------------------------------------------------------------

    def of(self, owner: bytes, kind: Kind) -> list[Known]:
        """Everything of one kind that one person wrote."""
        return [known for known in self.known.values() if known.key.owner == owner and known.key.kind is kind]

    def counts(self) -> Counter[str]:
        """How much there is: certain, kept (taken, and not certain), unknown."""
        return Counter(
            "certain" if known.certain else "kept" if known.taken else "unknown" for known in self.known.values()
        )
