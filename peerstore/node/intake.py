"""What other hosts said of arcs, and what of theirs was taken in here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from peerstore.node.arcs import Arc, ArcMap
from peerstore.node.votes import ArcVotes, Covered, Name, Sealed

__all__ = ["Intake", "Taken", "full_voters"]


class Taken(NamedTuple):
    """One answer of another host about one arc, from after it had taken our
    view over."""

    after: int
    through: int
    sealed: Sealed
    capable: bool
    covered: Covered


class Intake:
    """Whose things are all here, arc by arc.  It does not outlive the life
    in which they were taken in."""

    def __init__(self) -> None:
        self._answers: ArcMap[tuple[Sealed, ...]] = ArcMap(())

    def clear(self) -> None:
        """Begin anew."""
        self._answers = ArcMap(())

    def add(self, taken: Taken) -> None:
        """All that a host has in an arc is here now."""
        sealed = taken.sealed

        def with_it(known: tuple[Sealed, ...]) -> tuple[Sealed, ...]:
            return tuple(sorted([*(one for one in known if one.fp != sealed.fp), sealed]))

        self._answers.change(taken.after, taken.through, with_it)

    def of(self, arc: Arc[ArcVotes]) -> list[Arc[tuple[Sealed, ...]]]:
        """The answers for the parts of an arc.

        Only of its very list: the same voters may have been called before,
        and others in between, of whom an answer from then knows nothing."""
        named = arc.value.named
        return [
            part._replace(value=tuple(one for one in part.value if one.name[0] == named))
            for part in self._answers.between(arc.after, arc.through)
        ]

    def keep_only(self, answers: Iterable[Arc[tuple[Sealed, ...]]]) -> None:
        """All others are of no use any more."""
        self.clear()
        self._answers.replace(answers)


def full_voters(answers: Iterable[Taken]) -> ArcMap[tuple[tuple[bytes, Name], ...]]:
    """Which hosts vote, and have taken everything in, and in which name."""
    found: ArcMap[tuple[tuple[bytes, Name], ...]] = ArcMap(())
    for one in answers:
        if one.capable and one.sealed.full:
            entry = (one.sealed.fp, one.sealed.name)
            found.change(one.after, one.through, lambda known, entry=entry: (*known, entry))  # type: ignore[misc]
    return found
