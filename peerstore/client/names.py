"""What people type: NAME/path, or the local path that was backed up."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import NamedTuple

from peerstore.client.source import show
from peerstore.errors import BadMessage, NotFound, UsageError
from peerstore.files.names import check_folder
from peerstore.files.safepath import check_path
from peerstore.transactions.view import FolderView

__all__ = ["Place", "find_place", "name_of", "parse_place"]


class Place(NamedTuple):
    """A folder's NAME, and a path in it (raw bytes, empty for the folder)."""

    folder: str
    path: bytes


def name_of(local: str) -> str:
    """The NAME of a folder that is given none: its last component."""
    return os.path.basename(os.path.abspath(os.path.expanduser(local))) or "root"


def parse_place(text: str) -> Place:
    """NAME/path as it is written, whether anything is there or not.

    :raises peerstore.errors.UsageError: when it is no such thing.
    """
    folder, _, below = text.rstrip("/").partition("/")
    path = os.fsencode(below)
    try:
        check_folder(folder)
        check_path(path)
    except (UsageError, BadMessage) as error:
        raise UsageError(
            f"{show(os.fsencode(text))!r} is no NAME/path: {error.what}",
            "Write it like this: notes/today.txt",
        ) from error
    return Place(folder, path)


def find_place(text: str, view: FolderView, sources: Mapping[str, bytes]) -> Place:
    """What *text* means: NAME/path, or a local path.

    What is written as a local path (absolute, ``~``, ``./``) is one; anything
    else may be both, and NAME/path comes first.  A path may also be typed as
    it was shown, with \\xNN for bytes that are no text.

    :param sources: {NAME: local folder} of this device's backups.
    :raises peerstore.errors.NotFound: with a suggestion where there is one.
    :raises peerstore.errors.UsageError: when a local path is in more than one
        folder, and they differ.
    """
    local = _local(text, view, sources)
    if text.startswith(("/", "~", "./", "../")) or text in (".", ".."):
        named = None
    else:
        name, _, below = os.fsencode(text).partition(b"/")
        named = Place(name.decode("utf-8", "surrogateescape"), below.strip(b"/"))
        place = _standing(named, view)
        if place is not None:
            return place
    if not local:
        raise NotFound(f"There is no {show(os.fsencode(text))!r} in the ring.", _suggestion(named, view))
    if len({_content(place, view) for place in local}) > 1:
        choices = ", ".join(f"{place.folder}/{show(place.path)}".removesuffix("/.") for place in local)
        raise UsageError(f"{show(os.fsencode(text))!r} was backed up under several names.", f"Say which: {choices}")
    return local[0]


def _local(text: str, view: FolderView, sources: Mapping[str, bytes]) -> list[Place]:
    """Where a local path is kept, the nearest backup of it first."""
    absolute = os.path.abspath(os.fsencode(os.path.expanduser(text)))
    found = []
    for folder, source in sources.items():
        if absolute == source or absolute.startswith(source.rstrip(b"/") + b"/"):
            place = _standing(Place(folder, absolute[len(source) :].strip(b"/")), view)
            if place is not None:
                found.append((-len(source), place))
    return [place for _, place in sorted(found)]


def _content(place: Place, view: FolderView) -> object:
    """What tells two places apart: a file's content, or the place itself."""
    version = view.current(place.folder, place.path)
    return version.name.sha256 if version is not None and version.name.sha256 else place


def _standing(place: Place, view: FolderView) -> Place | None:
    """The place if something is there, or below it."""
    if not place.path:
        return place if place.folder in view.folders() else None
    if view.current(place.folder, place.path) is not None:
        return place
    below = place.path + b"/"
    for path in view.tree(place.folder):
        if path.startswith(below):
            return place
        if show(path).encode() == place.path:
            return Place(place.folder, path)
    return None


def _suggestion(place: Place | None, view: FolderView) -> str:
    folders = view.folders()
    if place is None:
        return "Nothing that was backed up from this computer is there. Try: peerstore ls"
    if place.folder in folders:
        known = [show(path) for path in view.tree(place.folder)]
        near = difflib.get_close_matches(show(place.path), known, 1)
        return f"Did you mean {place.folder}/{near[0]}?" if near else f"Try: peerstore ls {place.folder}"
    near = difflib.get_close_matches(place.folder, folders, 1)
    return f"Did you mean {near[0]}?" if near else "Try: peerstore ls"
