"""What people type: NAME/path, or the local path that was backed up."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import NamedTuple

from peerstore.client.source import show
from peerstore.errors import NotFound
from peerstore.transactions.view import FolderView

__all__ = ["Place", "find_place", "name_of"]


class Place(NamedTuple):
    """A folder's NAME, and a path in it (raw bytes, empty for the folder)."""

    folder: str
    path: bytes


def name_of(local: str) -> str:
    """The NAME of a folder that is given none: its last component."""
    return os.path.basename(os.path.abspath(local)) or "root"


def find_place(text: str, view: FolderView, sources: Mapping[str, bytes], tombstones: bool = False) -> Place:
    """What *text* means.

    A local path below something that was backed up comes first if it is
    written as one (absolute, ``~``, ``./``); otherwise NAME/path does.

    :param sources: {NAME: local folder} of this device's backups.
    :raises peerstore.errors.NotFound: with a suggestion where there is one.
    """
    raw = os.fsencode(os.path.expanduser(text))
    absolute = os.path.abspath(raw)
    candidates = []
    for folder, source in sorted(sources.items()):
        if absolute == source or absolute.startswith(source.rstrip(b"/") + b"/"):
            candidates.append(Place(folder, absolute[len(source) :].strip(b"/")))
    name, _, below = os.fsencode(text).strip(b"/").partition(b"/")
    named = Place(name.decode("utf-8", "surrogateescape"), below.strip(b"/"))
    order = [*candidates, named] if text.startswith(("/", "~", ".")) else [named, *candidates]
    for place in order:
        if _stands(place, view):
            return place
    raise NotFound(f"There is no {text!r} in the ring.", _suggestion(named, view))


def _stands(place: Place, view: FolderView) -> bool:
    if not place.path:
        return place.folder in view.folders()
    return view.current(place.folder, place.path) is not None


def _suggestion(place: Place, view: FolderView) -> str:
    folders = view.folders()
    if place.folder in folders:
        known = [show(path) for path in view.tree(place.folder)]
        near = difflib.get_close_matches(show(place.path), known, 1)
        return f"Did you mean {place.folder}/{near[0]}?" if near else f"Try: peerstore ls {place.folder}"
    near = difflib.get_close_matches(place.folder, folders, 1)
    return f"Did you mean {near[0]}?" if near else "Try: peerstore ls"
