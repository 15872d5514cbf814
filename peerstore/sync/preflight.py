"""What can be judged of a sync client's options before it becomes a daemon.

Once twistd has forked, a failure is seen in a log only, and the shell was
told that all is well.  So folder, home and key are tried out beforehand, and
let go of at once: nothing stays open over the fork.
"""

from __future__ import annotations

import os
from pathlib import Path

from peerstore.client.assemble import state_file
from peerstore.client.lock import HomeLock
from peerstore.client.state import ClientState
from peerstore.crypto.keys import KeyPair
from peerstore.errors import ReadOnly, UsageError
from peerstore.files.safepath import RESERVED
from peerstore.sync.looking import believe
from peerstore.sync.mark import mark_name, read_mark

__all__ = ["check_folder_and_home"]


def check_folder_and_home(folder: str, home: Path, key: Path, name: str) -> None:
    """Look at everything that is on this computer: that the folder is there,
    can be written, and is the one that was synced before; that nobody else
    has the home, and its state can be read; that the key is one.

    A home or key that is missing is made later.

    :param name: what the folder is called in the ring.
    :raises peerstore.errors.PeerStoreError: saying which of these fails.
    """
    if not os.path.isdir(folder):
        what = "is no folder" if os.path.lexists(folder) else "is not there"
        raise UsageError(f"--folder {folder} {what}.", "Make it first, or mount the disk it is on.")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise ReadOnly(f"--folder {folder} cannot be read and written.", "Check its owner and mode.")
    if Path(folder).is_relative_to(home):
        raise UsageError(f"--folder {folder} is where this client keeps its own state.", "Name another folder.")
    pair = KeyPair.load(key) if key.exists() else None
    if pair is None and key.parent.exists() and not os.access(key.parent, os.W_OK | os.X_OK):
        raise ReadOnly(f"--key {key} is not there, and cannot be made.", "Name the file that holds your key.")
    lock = HomeLock(home)
    lock.take()
    try:
        if pair is not None and state_file(home, pair).exists():
            _check_state(os.fsencode(folder), state_file(home, pair), name)
    finally:
        lock.release()


def _check_state(root: bytes, place: Path, name: str) -> None:
    state = ClientState(place)
    state.open()
    try:
        number, agreed = state.meta(mark_name(name)), len(state.agreed(name))
    finally:
        state.close()
    if agreed:
        read_mark(root, number or b"")
        is_empty = all(entry.startswith(RESERVED) for entry in os.listdir(root))
        believe(root, is_empty, agreed)
