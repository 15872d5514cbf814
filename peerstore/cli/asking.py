"""Requests to the node that runs on a data folder of ours."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peerstore.errors import PeerStoreError, PeerUnreachable, UsageError
from peerstore.node.control import short_path

__all__ = ["ask_node"]


def ask_node(folder: Path, asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What a node answers, line by line, until it is done.

    :raises peerstore.errors.UsageError: where there is no data folder, or
        when the node will not do it.
    :raises peerstore.errors.PeerUnreachable: when no node runs there, or it
        ended meanwhile.
    """
    with _connection(folder) as talking:
        talking.sendall(json.dumps(asked).encode() + b"\n")
        for line in talking.makefile("rb"):
            answer: dict[str, Any] = json.loads(line)
            if "error" in answer:
                raise UsageError(answer["error"], answer.get("next", ""))
            yield answer
            if answer.get("done"):
                return
    raise PeerUnreachable("The node ended before it was done.", "Start it, look into its log, and ask again.")


def _connection(folder: Path) -> socket.socket:
    talking = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path, handle = short_path(folder)
        try:
            talking.connect(path)
        finally:
            os.close(handle)
    except OSError as error:
        talking.close()
        raise _why(folder, error) from error
    return talking


def _why(folder: Path, error: OSError) -> PeerStoreError:
    if not folder.is_dir():
        return UsageError(f"There is no folder {folder}.", "Name the data folder of a node of yours.")
    if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
        return PeerUnreachable(f"No node runs on {folder}.", "Start it first: twistd peerstore-node --data ...")
    return UsageError(f"The node on {folder} cannot be asked ({error.strerror}).", "Run this as the user that runs it.")
