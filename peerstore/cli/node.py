"""``peerstore node``: what concerns one storage node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from peerstore.cli.asking import ask_node
from peerstore.cli.context import Options, Verb, given
from peerstore.cli.output import counted, human, out, print_json, say, say_note
from peerstore.storage.listing import list_keys, list_lost
from peerstore.storage.quarantine import list_quarantine

__all__ = ["Retiring", "node"]


class Retiring:
    """What is worth a line of what a node says each second while it goes."""

    def __init__(self) -> None:
        self._left = -1
        self._trouble = ""
        self._is_waiting = False

    def told(self, answer: dict[str, Any]) -> tuple[str, str]:
        """(how far it is, what stands in the way), each empty if that is not new."""
        if "left" not in answer:
            return "", ""
        before, left, trouble = self._left, int(answer["left"]), str(answer.get("trouble", ""))
        line = ""
        if left and left != before:
            line = f"{counted(left, 'item is', 'items are')} still to be taken over by others"
        elif not left and not before and not trouble and not self._is_waiting:
            self._is_waiting = True
            line = "Others have all that it held; it waits until they answer for it."
        news = f"It cannot go yet: {trouble}" if trouble and trouble != self._trouble else ""
        self._left, self._trouble = left, trouble
        return line, news


@click.group()
def node() -> None:
    """Look at one storage node, or take it out of its ring."""


@node.command(cls=Verb)
@click.argument("data", metavar="DATA", type=given)
@click.option(
    "--lost", metavar="FP", help="Retire another node, which is gone for good: its fingerprint, or the start of it."
)
@click.pass_obj
def retire(options: Options, data: str, lost: str | None) -> None:
    """Take the node with data folder DATA out of its ring for good.

    It has to be running. It hands over all that it holds, waits until others
    have read it, and ends. With --lost it stays, and another node, one that
    died and will not be back, is counted no more.
    """
    asked = {"do": "retire-lost", "host": lost} if lost else {"do": "retire"}
    progress = Retiring()
    for answer in ask_node(Path(data).expanduser(), asked):
        if options.as_json:
            out.print(Text(json.dumps(answer)))
            continue
        line, trouble = progress.told(answer)
        if line:
            say(line)
        if trouble:
            say_note(trouble)
        if answer.get("done"):
            say("The lost node is retired." if lost else "The node is retired: others have all that it held.")


@node.command(cls=Verb)
@click.argument("data", metavar="DATA", type=given)
@click.pass_obj
def keys(options: Options, data: str) -> None:
    """List what the node with data folder DATA holds; it may be running."""
    folder = Path(data).expanduser()
    listed = list(list_keys(folder))
    if options.as_json:
        print_json(
            [
                {
                    "ring_id": key.ring_id.hex(),
                    "owner": key.owner.hex(),
                    "kind": key.kind.name.lower(),
                    "element": key.element.hex(),
                    "bytes": key.size,
                }
                for key in listed
            ]
        )
        return
    for key in listed:
        out.print(
            Text(f"{key.ring_id.hex()}  {key.kind.name.lower():6}  {human(key.size):>10}  owner {key.owner.hex()[:8]}")
        )
    out.print(Text(f"{counted(len(listed), 'item')}, {human(sum(key.size for key in listed))}"))
    for gone, why in list_lost(folder):
        place = f"{gone.ring_id.hex()}  {gone.kind.name.lower():6}  {'lost':>10}  owner {gone.owner.hex()[:8]}"
        out.print(Text(f"{place}  {why}"))
    aside = list_quarantine(folder)
    if aside:
        size = human(sum(one.size for one in aside))
        out.print(Text(f"{len(aside)} rotten files, {size}, are kept in {folder / 'quarantine'}"))
