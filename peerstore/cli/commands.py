"""All commands together, and how any of them ends."""

from __future__ import annotations

import json
import sys

import click

import peerstore
from peerstore.cli import backup, demo, files, node, restore, ring, trace
from peerstore.cli.context import Options, Runner, common_options

__all__ = ["cli", "run"]

#: Printed by --help, and explained in docs/operations.md.
STATUSES = """\b
Exit status:
    0  done
    1  done in part: what was left out is said on standard error
    2  wrong usage: an option, an address, a path
    3  no node answers
    4  not found
    5  too few copies: nothing is lost, run it again when more nodes answer
    6  another computer or folder writes there, or it is another ring
    7  disk trouble: full, read-only, damaged, or a file that is in the way
   70  a fault in peerstore itself
  130  interrupted"""


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    params=common_options(top=True),
    epilog=STATUSES,
)
@click.version_option(peerstore.__version__, prog_name="peerstore")
def cli() -> None:
    """Your files on several machines, with no central server.

    \b
      peerstore backup ~/papers --peer HOST:PORT    store what changed
      peerstore ls papers                           see what is stored
      peerstore get papers/note.txt --to -          one file back
      peerstore restore papers --to ~/again         everything back
    """


for command in (
    backup.backup,
    restore.restore,
    restore.get,
    files.ls,
    files.rm,
    files.put,
    node.node,
    ring.ring,
    trace.trace,
    demo.demo,
):
    cli.add_command(command)


def run(runner: Runner) -> int:
    """Do what the command line says; the exit status.

    :param runner: runs a coroutine in a reactor.
    """
    try:
        cli.main(prog_name="peerstore", standalone_mode=False, obj=Options.default(runner))
    except click.ClickException as error:
        _show(error)
        return 2
    except click.Abort:
        return 130
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def _show(error: click.ClickException) -> None:
    """A mistake in the words themselves: nobody has read ``--json`` by then."""
    if "--json" not in sys.argv[1:]:
        error.show()
        return
    context = error.ctx if isinstance(error, click.UsageError) else None
    step = f"{context.command_path if context else 'peerstore'} --help"
    told = {"error": error.format_message(), "next_step": f"Try: {step}", "exit_status": 2}
    sys.stderr.write(json.dumps(told) + "\n")
